"""How gradients flow: the size of signals and gradients at every block, at initialisation and through training.

The removal of blocks is in `removal`, the reading of torchvision's code in `torchvision_tour`; both can also be
imported from here. `python -m reslab.analysis.gradient_flow` tells the story: plain and residual, with and without
BatchNorm, over depth.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reslab.analysis.removal import importance, remove_each, remove_random, reorder
from reslab.analysis.result import Result, new_figure, per_block
from reslab.analysis.subject import Images, Labels, Loss, analysis, as_view, check_batch, loss_value, out_of_view
from reslab.analysis.twin import without_batchnorm
from reslab.errors import WrongValueError, worded
from reslab.gates.gating import Block
from reslab.gates.planning import Live
from reslab.progress import Progress, silent
from reslab.sending import widened
from reslab.state import copied

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from reslab.analysis.torchvision_tour import torchvision_tour

__all__ = [
    "GradientFlow",
    "TrainingFlow",
    "gradient_flow",
    "importance",
    "remove_each",
    "remove_random",
    "reorder",
    "through_training",
    "torchvision_tour",
    "without_batchnorm",
]


TINY = torch.finfo(torch.float32).tiny
"""The smallest norm, and ratio of norms, that is counted: it stands for a gradient that vanished altogether."""


@dataclass(frozen=True)
class GradientFlow(Result):
    """Signals and gradients before the first block and after each, and the gradients of each block's parameters.

    `forward` is the root mean square of the values there; `backward` the L2 norm, over the batch, of the gradient of
    the mean cross-entropy with respect to them; `parameters` the L2 norm of the gradient of all parameters of a block.
    """

    blocks: Sequence[Block]
    forward: Float[Tensor, "places"]
    backward: Float[Tensor, "places"]
    parameters: Float[Tensor, "places-1"]
    loss: float

    @property
    def first_over_last(self) -> float:
        """Return the gradient's norm before the first block over that after the last: above 1 it grows on its way back,
        below 1 it shrinks.
        """
        return float(self.backward[0] / self.backward[-1])

    @property
    def decades(self) -> float:
        """Return log10 of the same, at least that of `TINY`."""
        return math.log10(max(self.first_over_last, TINY))

    @property
    def parameter_decades(self) -> float:
        """Return log10 of the norm of the first block's parameters' gradient over that of the last's."""
        first, last = (float(self.parameters[index].clamp(min=TINY)) for index in (0, -1))
        return math.log10(first / last)

    @property
    def growth(self) -> float:
        """Return the factor per block by which the gradient's norm changes on its way back, from the slope of a line
        through the logarithms.
        """
        return float(torch.exp(-_slope(widened(self.backward).clamp(min=TINY).log())))

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per block: its output, and the gradients of that and of its parameters."""
        columns = {
            "forward rms": self.forward[1:].tolist(),
            "gradient norm": self.backward[1:].tolist(),
            "parameter gradient norm": self.parameters.tolist(),
        }
        return per_block(self.blocks, columns)

    def figure(self) -> "Figure":
        """Return signals and gradients over the blocks, on logarithmic axes."""
        figure = new_figure()
        left, right = figure.subplots(1, 2)
        left.semilogy(self.forward.tolist(), ".-")
        left.set(xlabel="blocks passed", ylabel="root mean square of the signal")
        right.semilogy(self.backward.tolist(), ".-", label="at the sums")
        right.semilogy(range(1, len(self.blocks) + 1), self.parameters.tolist(), ".--", label="of the parameters")
        right.set(xlabel="blocks passed", ylabel="gradient norm")
        right.legend()
        return figure


@dataclass(frozen=True)
class TrainingFlow(Result):
    """The gradient flow at steps of a training run."""

    steps: Sequence[int]
    flows: Sequence[GradientFlow]

    def to_frame(self) -> "pd.DataFrame":
        """Return the gradient norm after each block (columns) at each step (rows)."""
        import pandas as pd

        names = [block.name for block in self.flows[0].blocks]
        return pd.DataFrame(
            [flow.backward[1:].tolist() for flow in self.flows],
            index=pd.Index(list(self.steps), name="step"),
            columns=names,
        )

    def figure(self) -> "Figure":
        """Return a heat map: block × step, the logarithm of the gradient norm."""
        figure = new_figure()
        axes = figure.subplots()
        picture = axes.imshow(
            torch.stack([flow.backward.log10() for flow in self.flows]).T.cpu().numpy(), aspect="auto", origin="lower"
        )
        axes.set(xlabel="step", ylabel="blocks passed")
        axes.set_xticks(range(len(self.steps)), [str(step) for step in self.steps])
        figure.colorbar(picture, label="log10 of the gradient norm")
        return figure


@analysis(
    "gradient-flow",
    "signals and gradients at every block",
    needs=("blocks",),
    images=128,
    summary=("loss", "first_over_last", "growth"),
)
def gradient_flow(network: nn.Module, images: Images, labels: Labels, *, loss: Loss = F.cross_entropy) -> GradientFlow:
    """Return the size of signals and gradients at every block, on one batch, in the network's current mode.

    Args:
        network: any network with blocks or repeated units, or its view.
        images: `[B, …]`.
        labels: int64 `[B]`, or whatever the loss takes.
        loss: of outputs and labels.

    Examples:
        >>> import reslab
        >>> network = reslab.build("cifar_resnet", depth=8, in_channels=1)
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.gradient_flow(network, images, labels)
        >>> len(found.blocks), len(found.backward)  # before the first block and after each
        (3, 4)
        >>> found.to_frame().columns.tolist()
        ['forward rms', 'gradient norm', 'parameter gradient norm']

    Raises:
        UserError: if the network has no blocks, or labels and images do not fit.
    """
    view = as_view(network, images)
    check_batch(images, labels, loss)
    blocks = [view.parameters_of(index) for index in range(len(view))]
    weights = list(dict.fromkeys(parameter for block in blocks for parameter in block))
    with torch.enable_grad():
        for parameter in weights:
            parameter.requires_grad_()
        live = view.stem(images)
        signals = [live.stream if live.stream.requires_grad else live.stream.requires_grad_()]
        for index in range(len(view)):
            live = view.block(index, _copied(live))
            if not live.stream.requires_grad:  # under the network's own torch.no_grad(): nothing comes back past it
                live = live._replace(stream=live.stream.detach().requires_grad_())
            signals.append(live.stream)
        value = loss_value(loss, view.head(_copied(live)), labels)
        found = torch.autograd.grad(value, [*signals, *weights], allow_unused=True)
    at_signals, at_weights = found[: len(signals)], dict(zip(weights, found[len(signals) :], strict=True))
    norms = [_norm([at_weights[parameter] for parameter in block]) for block in blocks]
    kind = torch.promote_types(signals[0].dtype, torch.float32)
    return GradientFlow(
        blocks=view.blocks,
        forward=torch.stack([_root_mean_square(signal.detach()) for signal in signals]).to(kind),
        backward=torch.stack([_norm([gradient]).to(value.device, kind) for gradient in at_signals]),
        parameters=torch.stack([norm.to(value.device, kind) for norm in norms]),
        loss=value.item(),
    )


def _root_mean_square(values: Tensor) -> Tensor:
    """Return it in float64: in float16, squares end at 256, and in float32 they begin at 1e-38."""
    return widened(values).square().mean().sqrt()


@analysis("training-flow", "the same during training", needs=("blocks",))
def through_training(
    network: nn.Module,
    images: Images,
    labels: Labels,
    *,
    steps: int = 100,
    every: int = 10,
    batch_size: int = 64,
    learning_rate: float = 0.05,
    momentum: float = 0.9,
    seed: int = 0,
    loss: Loss = F.cross_entropy,
    progress: Progress = silent,
) -> TrainingFlow:
    """Return the size of signals and gradients at every block before every `every`-th of `steps` steps of SGD, and
    after the last. A copy is trained; the network is not changed.

    Args:
        network: any network with blocks or repeated units.
        images: `[B, …]`, which the batches are drawn from.
        labels: int64 `[B]`, or whatever the loss takes.
        steps: of SGD, with the mean gradient of a batch.
        every: steps from one flow to the next.
        batch_size: images per step.
        learning_rate: of SGD.
        momentum: of SGD.
        seed: of the batches.
        loss: of outputs and labels; the mean cross-entropy.
        progress: notified of the steps done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("cifar_resnet", depth=8, in_channels=1)
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.through_training(network, images, labels, steps=2, every=1, batch_size=16)
        >>> found.to_frame().index.tolist()
        [0, 1, 2]
        >>> [flow.loss > 0 for flow in found.flows]
        [True, True, True]

    Raises:
        UserError: if the network has no blocks, labels and images do not fit, or there is no step to take.
    """
    if min(steps, every, batch_size) < 1:
        raise WrongValueError(*worded("flow-out-of-range", steps=steps, every=every, batch_size=batch_size))
    check_batch(images, labels, loss)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # for layers that draw
    trained = copied(out_of_view(network)).train()
    if not any(parameter.requires_grad for parameter in trained.parameters()):
        trained.requires_grad_()  # a network for evaluation; in another, what is frozen stays so
    with torch.enable_grad():
        view = as_view(trained, images, like=network)
        learning = [parameter for parameter in trained.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(learning, lr=learning_rate, momentum=momentum)
        at, flows = list[int](), list[GradientFlow]()
        for step in range(steps + 1):
            batch = torch.randperm(len(labels), generator=generator, device="cpu")[:batch_size]
            if step % every == 0 or step == steps:
                if at and not all(parameter.isfinite().all() for parameter in trained.parameters()):
                    warnings.warn(
                        f"training diverged after step {at[-1]}, where the flows end; a learning_rate under "
                        f"{learning_rate:g} may not",
                        stacklevel=3,
                    )
                    break
                at.append(step)
                flows.append(gradient_flow(view, images[batch], labels[batch], loss=loss))
            progress("training-flow", step, steps)
            if step == steps:
                break
            optimizer.zero_grad()
            loss_value(loss, trained(images[batch]), labels[batch]).backward(inputs=learning)
            optimizer.step()
    return TrainingFlow(at, flows)


def _copied(live: Live) -> Live:
    """Return the same values with a copy of the stream, as in-place activations may change it."""
    return live._replace(stream=live.stream.clone())


def _norm(tensors: Sequence[Tensor | None]) -> Tensor:
    """Return their norm in float64, as squares of vanishing gradients are 0 in float32."""
    parts = [widened(tensor.detach()).norm() for tensor in tensors if tensor is not None]
    return torch.stack(parts).norm() if parts else torch.zeros((), dtype=torch.float64)


def _slope(values: Tensor) -> Tensor:
    """Return the slope of the least-squares line through values at 0, 1, 2, …"""
    x = torch.arange(len(values), dtype=values.dtype, device="cpu") - (len(values) - 1) / 2
    return (x * values.cpu()).sum() / x.square().sum()


def __getattr__(name: str) -> Any:
    """Import `torchvision_tour` on first use: torchvision takes as long to import as torch itself."""
    if name != "torchvision_tour":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from reslab.analysis.torchvision_tour import torchvision_tour

    return torchvision_tour


if __name__ == "__main__":
    from reslab.stories.gradient_flow import main
    from reslab.stories.speaking import tell

    tell(main)
