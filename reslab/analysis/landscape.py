"""What does the loss look like around the weights? Filter-normalised loss surfaces in one and two dimensions (Li et al.
2018).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import is_parametrized

from reslab.analysis.loss import loss_of
from reslab.analysis.result import Result, new_figure
from reslab.analysis.subject import Images, Labels, Loss, analysis, as_network
from reslab.errors import UnseenError, WrongValueError, worded
from reslab.progress import Progress, each, silent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Landscape(Result):
    """The loss, `[points]` or `[points, points]`, at weights + a·first (+ b·second), a and b from `coordinates`,
    `[points]`.

    Far out it may be infinite or NaN.
    """

    coordinates: Float[Tensor, "points"]
    losses: Float[Tensor, "points"] | Float[Tensor, "points points"]
    seed: int

    @property
    def centre(self) -> float:
        """Return the loss at the weights themselves."""
        middle = len(self.coordinates) // 2
        return float(self.losses[(middle,) * self.losses.dim()])

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per point."""
        import pandas as pd

        names = ["a", "b"][: self.losses.dim()]
        grid = torch.meshgrid(*[self.coordinates] * len(names), indexing="ij")
        return pd.DataFrame(
            {**{name: axis.flatten() for name, axis in zip(names, grid, strict=True)}, "loss": self.losses.flatten()}
        )

    def figure(self) -> "Figure":
        """Return the curve of the loss, or its contours, at steps of its logarithm where it spans more than two
        decades.
        """
        figure = new_figure()
        axes = figure.add_subplot()
        places = self.coordinates.numpy()
        axes.set_xlabel("a (step along the first direction, filter norms)")
        if self.losses.dim() == 1:
            axes.plot(places, self.losses.numpy(), ".-")
            axes.set_ylabel("loss (cross-entropy: nats)")
        else:
            import numpy as np

            losses = np.ma.masked_invalid(self.losses.numpy().T)
            # with linear steps, all but the corners would have one colour
            decades = losses.min() > 0 and losses.max() > 100 * losses.min()
            contours = axes.contourf(places, places, np.ma.log10(losses) if decades else losses, levels=20)
            axes.plot(0, 0, "r+")
            axes.set_ylabel("b (second direction, filter norms)")
            figure.colorbar(
                contours, label="log10 of the loss (cross-entropy: nats)" if decades else "loss (cross-entropy: nats)"
            )
        return figure


@analysis("landscape", "the loss around the weights", images=128, trained=True)
def landscape(
    network: nn.Module,
    images: Images,
    labels: Labels,
    *,
    dimensions: Literal[1, 2] = 2,
    points: int = 25,
    radius: float = 1.0,
    seed: int = 0,
    batch_statistics: bool = False,
    loss: Loss = F.cross_entropy,
    progress: Progress = silent,
) -> Landscape:
    """Return the loss on a batch, on a line or a plane of weights along random filter-normalised directions.

    Args:
        network: a network, or its view; measured in evaluation mode, as in the paper.
        images: `[B, C, H, W]`, one forward per point.
        labels: int64 `[B]`, or whatever the loss takes.
        dimensions: of the surface.
        points: along each axis; odd, so that one lies at the weights themselves.
        radius: the axes go from minus to plus this, in filter norms.
        seed: of the directions.
        batch_statistics: normalise with the batch at each point instead of the stored statistics, which belong to the
            centre only.
        loss: of outputs and labels; the mean cross-entropy.
        progress: notified of the points done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.landscape(network, images, labels, points=3, radius=0.5)
        >>> found.losses.shape
        torch.Size([3, 3])
        >>> found.centre == found.losses.min()  # the weights are in a valley
        tensor(True)

    Raises:
        UserError: if the network has NaN weights or draws random numbers, or the images, labels or settings do not fit.
    """
    if points < 3 or points % 2 == 0:
        raise WrongValueError(*worded("points-without-centre", points=points))
    if dimensions not in (1, 2):
        raise WrongValueError(*worded("landscape-dimensions", dimensions=dimensions))
    if not radius > 0:
        raise WrongValueError(*worded("landscape-radius", radius=radius))
    network = as_network(network, images)
    generator = torch.Generator().manual_seed(seed)
    directions = [filter_normalised(network, generator) for _ in range(dimensions)]
    weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
    half = torch.linspace(0, radius, points // 2 + 1, dtype=torch.float64, device="cpu")
    coordinates = torch.cat([-half.flip(0)[:-1], half])  # symmetric, and exactly 0 in the middle
    places = torch.cartesian_prod(*[coordinates] * dimensions).reshape(-1, dimensions).tolist()
    losses: list[float] = []
    with loss_of(network, images, labels, loss, batch_statistics=batch_statistics) as loss_at, torch.no_grad():
        for place in each(places, "landscape", progress):
            moved = {
                name: sum(
                    (step * direction[name] for step, direction in zip(place, directions, strict=True)), start=weight
                )
                for name, weight in weights.items()
            }
            losses.append(loss_at(moved).item())
    return Landscape(
        coordinates, torch.tensor(losses, dtype=torch.float64, device="cpu").reshape([points] * dimensions), seed
    )


def filter_normalised(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Return a random direction in which each filter has the norm of the network's own (Li et al. 2018, section 4).

    A filter is the weights behind one output channel of a convolution, or one output of a linear layer, if there are
    several. Nothing else moves: no bias, normalisation, scale per channel, embedding or token; but what is a parameter
    of two dimensions of a layer that is none of torch's, as a table of positions may be, counts as filters.

    Raises:
        UserError: if the network has no filters.
    """
    owners = {parameter: module for module in network.modules() for parameter in module._parameters.values()}
    for module in filter(is_parametrized, network.modules()):  # what a weight is made of is in a module of its own
        owners |= dict.fromkeys(module.parametrizations.parameters(), module)  # type: ignore[union-attr]  # a module
    direction = {}
    for name, parameter in network.named_parameters():
        weight = parameter.detach()
        if "bias" in name.rpartition(".")[2] or not _holds_filters(owners[parameter], weight):
            direction[name] = torch.zeros_like(weight)
            continue
        random = torch.randn(weight.shape, generator=generator, dtype=torch.float64, device="cpu").to(weight)
        direction[name] = random * (_filter_norms(owners[parameter], weight) / _filter_norms(owners[parameter], random))
    if not any(step.any() for step in direction.values()):
        raise UnseenError(*worded("no-filters"))
    return direction


_TABLES_AND_SCALES = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm, nn.PReLU)
"""Torch's layers whose multi-dimensional parameters look up or scale, and are not filters."""


def _holds_filters(owner: nn.Module, weight: Tensor) -> bool:
    """Return whether a parameter is made of filters: two outputs or more, or a layer's one output, each of several
    numbers.
    """
    if weight.dim() < 2 or isinstance(owner, _TABLES_AND_SCALES):
        return False
    layer = isinstance(owner, nn.Linear | nn.Bilinear | _ConvNd)
    return weight[0].numel() > 1 and (layer or len(weight) > 1)


def _filter_norms(owner: nn.Module, weight: Tensor) -> Tensor:
    """Return for each weight the norm of its filter, in the weight's shape."""
    if isinstance(owner, _ConvTransposeNd):  # [in, out / groups, …]: each group of inputs makes outputs of its own
        grouped = weight.unflatten(0, (owner.groups, -1))
        kernel = tuple(range(3, grouped.dim()))
        return torch.linalg.vector_norm(grouped, dim=(1, *kernel), keepdim=True).expand_as(grouped).flatten(0, 1)
    if type(owner).__name__ == "Conv1D" and weight.dim() == 2:  # transformers' linear layer, [in, out]
        return torch.linalg.vector_norm(weight, dim=0, keepdim=True).expand_as(weight)
    return torch.linalg.vector_norm(weight.flatten(1), dim=1).reshape(-1, *[1] * (weight.dim() - 1)).expand_as(weight)
