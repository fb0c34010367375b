"""What every analysis returns, and what every analysis takes."""

import io
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reslab.errors import UserError
from reslab.residual import View, preserve, view

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits `[B, classes]` and labels `[B]` to a number; the mean cross-entropy where nothing else is said."""

Progress = Callable[[int, int], None]
"""Called with what is done and how much there is."""


class Result:
    """A measurement that shows itself: as a table, as a figure, and in a notebook as both."""

    @abstractmethod
    def to_frame(self) -> "pd.DataFrame":
        """Return the measurement as a table, a row for each thing measured."""

    @abstractmethod
    def figure(self) -> "Figure":
        """Return the measurement as a figure."""

    def _repr_html_(self) -> str:
        picture = drawn(self.figure(), "svg").decode()
        return f"{self.to_frame().to_html()}{picture[picture.index('<svg') :]}"


def new_figure(width: float = 7.0, height: float = 3.5) -> "Figure":
    """Return an empty figure that no global list of figures knows of; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def drawn(figure: "Figure", kind: str, **settings: Any) -> bytes:
    """Return a figure as a file of this kind; settings as for matplotlib's `savefig`."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, **settings)
    return file.getvalue()


def as_view(network: nn.Module, images: Tensor) -> View:
    """Return the network's view, or the view itself if it is one.

    Raises:
        UserError: if the network has NaN weights, has no blocks, or does not take the images.
    """
    if isinstance(network, View):
        as_network(network, images)
        return network
    check_weights(network)
    return view(network, images[:2])


def as_network(network: nn.Module, images: Tensor) -> nn.Module:
    """Return the network, out of its view if it is one, for an analysis that needs no blocks.

    Raises:
        UserError: if the network has NaN weights, or does not take the images.
    """
    check_weights(network)
    network = network.network if isinstance(network, View) else network
    with evaluating(network), torch.no_grad():
        try:
            network(images[:2])
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"the network does not take images {list(images.shape)}: {' '.join(str(error).split())}") from error
    return network


def check_weights(network: nn.Module) -> None:
    """Refuse a network with NaN weights.

    Raises:
        UserError: if a parameter is not finite.
    """
    for name, value in network.named_parameters():
        if not value.isfinite().all():
            raise UserError(f"parameter {name} holds NaN or infinity; an analysis of it would mean nothing")


@contextmanager
def evaluating(network: nn.Module, statistics_of: Tensor | None = None) -> Iterator[None]:
    """Put the network in evaluation mode for a while.

    With `statistics_of`, BatchNorms normalise with the mean and the biased variance over these images, as in training, but as constants.
    """
    with preserve(network):
        network.eval()
        if statistics_of is not None:
            handles = [module.register_forward_pre_hook(_take_statistics) for module in batchnorms(network)]
            try:
                with torch.no_grad():
                    network(statistics_of)
            finally:
                for handle in handles:
                    handle.remove()
        yield


def batchnorms(network: nn.Module) -> list[_BatchNorm]:
    """Return the network's BatchNorms, of any number of dimensions."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def _take_statistics(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert isinstance(module, _BatchNorm)
    if module.running_mean is not None and module.running_var is not None:
        x = inputs[0].transpose(0, 1).flatten(1)  # [C, B·H·W]
        module.running_mean.copy_(x.mean(1))
        module.running_var.copy_(x.var(1, correction=0))


def loss_value(loss: Loss, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss.

    Raises:
        UserError: if the network gives no tensor; or if it is the cross-entropy, and the labels are none of the network's classes.
    """
    if not isinstance(logits, Tensor):
        raise UserError(f"the network gives a {type(logits).__name__}; an analysis of a loss needs one that gives logits [B, classes]")
    if loss is F.cross_entropy and (logits.dim() != 2 or labels.min() < 0 or labels.max() >= logits.shape[1]):
        lowest, highest = int(labels.min()), int(labels.max())
        raise UserError(f"labels from {lowest} to {highest} need outputs [B, {highest + 1} or more], the network gives {list(logits.shape)}")
    return loss(logits, labels)


def check_batch(images: Tensor, labels: Tensor) -> None:
    """Refuse labels that do not belong to the images.

    Raises:
        UserError: if the labels are not whole numbers `[B]` for images `[B, …]`.
    """
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1] or not len(images):
        raise UserError(f"labels must be int64 of shape [{len(images)}], one an image, got {labels.dtype} {list(labels.shape)}")
