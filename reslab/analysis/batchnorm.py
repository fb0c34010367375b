"""What does BatchNorm change? How smooth the loss is along a step, and how far a step shifts the layers' inputs
(Santurkar et al. 2018).

Both functions measure one network on one batch, with the BatchNorms in training mode; `without_batchnorm` makes the
twin to compare with.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from reslab.analysis.loss import loss_of
from reslab.analysis.result import Result, new_figure
from reslab.analysis.subject import Images, Labels, Loss, analysis, as_network, evaluating, in_single, path_in
from reslab.analysis.twin import without_batchnorm as without_batchnorm
from reslab.errors import UnknownNameError, UnseenError, WrongValueError, worded
from reslab.sending import widened

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MULTIPLES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
"""Steps in learning rates: from a half to four, as in the paper's section 3.1."""


@dataclass(frozen=True, eq=False)
class Smoothness(Result):
    """Loss and gradient g after steps of `step` · g down the gradient, each `[steps]`; `loss` and `gradient_norm` are
    those at the start.
    """

    loss: float
    gradient_norm: float
    step: Float[Tensor, "steps"]
    losses: Float[Tensor, "steps"]
    gradient_change: Float[Tensor, "steps"]  # ‖g(after) − g‖

    @property
    def loss_range(self) -> tuple[float, float]:
        """Return the smallest and largest loss over the steps (Fig. 4a)."""
        return self.losses.min().item(), self.losses.max().item()

    @property
    def predictiveness(self) -> float:
        """Return the largest change of the gradient, in its L2 norm (Fig. 4b: the less, the more a gradient predicts
        the next).
        """
        return self.gradient_change.max().item()

    @property
    def beta(self) -> float:
        """Return the "effective" β-smoothness: the largest change of the gradient over the distance moved (Fig. 4c)."""
        return (self.gradient_change / (self.step * self.gradient_norm)).max().item()

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per step."""
        import pandas as pd

        ratio = self.gradient_change / (self.step * self.gradient_norm)
        return pd.DataFrame(
            {
                "step": self.step,
                "loss": self.losses,
                "gradient_change": self.gradient_change,
                "change_over_distance": ratio,
            }
        )

    def figure(self) -> "Figure":
        """Plot the loss, the change of the gradient, and the change per distance, over the step."""
        figure = new_figure(width=10)
        frame = self.to_frame()
        columns = ("loss", "gradient_change", "change_over_distance")
        labels = ("loss", "change of the gradient (L2)", "change of the gradient / distance (L2 / L2)")
        for axes, column, label in zip(figure.subplots(1, 3), columns, labels, strict=True):
            axes.plot(frame["step"], frame[column], ".-")
            axes.set(xlabel="step (multiples of the gradient)", ylabel=label)
        return figure


@dataclass(frozen=True)
class LayerShift:
    """How the gradient G of one layer becomes G' through an update of the layers before it."""

    layer: str
    gradient_norm: float  # ‖G‖
    change: float  # ‖G − G'‖
    cosine: float  # cos(G, G'); NaN where one of them is zero


@dataclass(frozen=True)
class CovariateShift(Result):
    """The internal covariate shift of the layers, in the order in which they run."""

    layers: tuple[LayerShift, ...]
    learning_rate: float

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per layer."""
        import pandas as pd

        return pd.DataFrame([vars(layer) for layer in self.layers])

    def figure(self) -> "Figure":
        """Plot the change and the cosine of each layer."""
        figure = new_figure(height=5)
        frame = self.to_frame()
        for axes, column, label in zip(
            figure.subplots(2, 1), ("change", "cosine"), ("‖G − G'‖ (gradient units)", "cos(G, G')"), strict=True
        ):
            axes.plot(range(1, len(frame) + 1), frame[column], ".-")
            axes.set(xlabel="layer (order of the network)", ylabel=label)
        return figure


@analysis("smoothness", "how the loss and its gradient vary along the gradient", images=128)
def loss_smoothness(
    network: nn.Module,
    images: Images,
    labels: Labels,
    *,
    learning_rate: float = 0.1,
    multiples: Sequence[float] = MULTIPLES,
    loss: Loss = F.cross_entropy,
) -> Smoothness:
    """Return how the loss and its gradient vary along the gradient (section 3.1, Fig. 4), on one batch, for the
    trainable parameters.

    Args:
        network: a network, or its view; BatchNorms use batch statistics, and everything else is in evaluation mode.
        images: `[B, …]`.
        labels: int64 `[B]`, or whatever the loss takes.
        learning_rate: the step's unit.
        multiples: steps, in learning rates.
        loss: of (outputs, labels); the mean cross-entropy.

    Examples:
        >>> import reslab
        >>> network = reslab.build("cifar_resnet", depth=8, in_channels=1)
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.loss_smoothness(network, images, labels, multiples=[1, 2])
        >>> found.to_frame().columns.tolist()
        ['step', 'loss', 'gradient_change', 'change_over_distance']

    Raises:
        UserError: if the network has NaN weights, nothing to train or no gradient, or the images, labels or steps do
            not fit.
    """
    if not len(multiples) or not all(learning_rate * multiple > 0 for multiple in multiples):
        raise WrongValueError(*worded("multiples-out-of-range", multiples=list(multiples), rate=learning_rate))
    network, images = in_single(as_network(network, images), images)
    start = _trained(network)
    with loss_of(network, images, labels, loss, batch_statistics=True) as at, torch.enable_grad():

        def measure(parameters: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
            value = at(leaves)
            gradients = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
            return value.detach(), dict(zip(leaves, gradients, strict=True))

        value, gradient = measure(start)
        norm = _norm(gradient.values())
        if norm == 0:
            raise UnseenError(*worded("gradient-is-zero"))
        steps = torch.tensor([learning_rate * multiple for multiple in multiples], dtype=torch.float64, device="cpu")
        losses, changes = [], []
        for step in steps.tolist():
            after, moved = measure({name: start[name] - step * gradient[name] for name in start})
            losses.append(after.item())
            changes.append(_norm(moved[name] - gradient[name] for name in start))
    return Smoothness(
        value.item(),
        norm,
        steps,
        torch.tensor(losses, dtype=torch.float64, device="cpu"),
        torch.tensor(changes, dtype=torch.float64, device="cpu"),
    )


@analysis("covariate-shift", "how far other layers' steps shift each layer's gradient", images=128)
def covariate_shift(
    network: nn.Module,
    images: Images,
    labels: Labels,
    *,
    learning_rate: float = 0.1,
    layers: Sequence[str] | None = None,
    loss: Loss = F.cross_entropy,
) -> CovariateShift:
    """Return how far one step of gradient descent by all the layers before shifts each layer's own gradient (section
    2.2, definition 2.1).

    A layer is a module with a trainable weight of two or more dimensions. The layers before it are all trainable
    parameters used earlier in the forward, including BatchNorm's. It costs one forward and backward per layer.

    Args:
        network: a network, or its view; BatchNorms use batch statistics, and everything else is in evaluation mode.
        images: `[B, …]`.
        labels: int64 `[B]`, or whatever the loss takes.
        learning_rate: of the update.
        layers: names; none means all.
        loss: of (outputs, labels); the mean cross-entropy.

    Examples:
        >>> import reslab
        >>> network = reslab.build("cifar_resnet", depth=8, in_channels=1)
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.covariate_shift(network, images, labels, layers=["conv1", "fc"])
        >>> found.layers[0].change  # nothing comes before it
        0.0
        >>> found.layers[1].change > 0
        True

    Raises:
        UserError: if the network has NaN weights or nothing to train, the images or labels do not fit, or a layer does
            not exist.
    """
    if not learning_rate > 0:
        raise WrongValueError(*worded("rate-out-of-range", rate=learning_rate))
    network, images = in_single(as_network(network, images), images)
    start = _trained(network)
    leaves = {name: value.clone().requires_grad_() for name, value in start.items()}
    found: list[LayerShift] = []
    with loss_of(network, images, labels, loss, batch_statistics=True) as at, torch.enable_grad():
        gradients = torch.autograd.grad(at(leaves), list(leaves.values()), allow_unused=True, materialize_grads=True)
        before = dict(zip(leaves, gradients, strict=True))
        order = _execution_order(network, images, before)
        said = {module: path_in(network, module) or type(network).__name__ for module in order}
        known = [said[module] for module, names in order.items() if any(start[name].dim() > 1 for name in names)]
        if unknown := set(layers or ()) - set(known):
            raise UnknownNameError(*worded("no-layer", name=sorted(unknown)[0], names=", ".join(known)))
        current = dict(leaves)
        for module, names in order.items():
            if said[module] in (known if layers is None else layers):
                own = [leaves[name] for name in names]
                changed = torch.autograd.grad(at(current), own, allow_unused=True, materialize_grads=True)
                found.append(_shift(said[module], [before[name] for name in names], changed))
            current |= {name: start[name] - learning_rate * before[name] for name in names}
    return CovariateShift(tuple(found), learning_rate)


def _trained(network: nn.Module) -> dict[str, Tensor]:
    trained = {name: parameter.detach() for name, parameter in network.named_parameters() if parameter.requires_grad}
    if not trained:
        raise UnseenError(*worded("nothing-trainable"))
    return trained


def _execution_order(network: nn.Module, images: Tensor, parameters: Iterable[str]) -> dict[str, list[str]]:
    """Return the modules that hold these parameters and those parameters' names, in the order in which one is first
    used; those of which none is used are left out.
    """
    held: dict[str, list[str]] = {}
    for name in parameters:
        held.setdefault(name.rpartition(".")[0], []).append(name)
    owners = {network.get_parameter(name): path for path, names in held.items() for name in names}
    with evaluating(network), torch.no_grad(), _Uses(owners) as uses:
        network(images[:2])
    return {path: held[path] for path in uses.found}


class _Uses(TorchFunctionMode):
    """Records the owners of the parameters that operations compute with, in the order of their first use."""

    def __init__(self, owners: Mapping[nn.Parameter, str]) -> None:
        super().__init__()
        self.owners = owners
        self.found: dict[str, None] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(isinstance(each, Tensor) for each in tree_leaves(out)):  # and not a shape
            for value in tree_leaves((args, kwargs)):
                if isinstance(value, nn.Parameter) and value in self.owners:
                    self.found.setdefault(self.owners[value])
        return out


def _shift(layer: str, before: Sequence[Tensor], after: Sequence[Tensor]) -> LayerShift:
    first, second = (widened(torch.cat([value.flatten() for value in values])) for values in (before, after))
    cosine = torch.dot(first, second) / (first.norm() * second.norm())
    return LayerShift(layer, first.norm().item(), (first - second).norm().item(), cosine.item())


def _norm(values: Iterable[Tensor]) -> float:
    return torch.stack([widened(value).square().sum() for value in values]).sum().sqrt().item()
