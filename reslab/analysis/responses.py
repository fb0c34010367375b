"""How strong are the layers' responses? Their standard deviations, layer by layer (He et al. 2015, section 4.2 and Fig. 7)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from reslab.analysis.result import Result, as_network, batchnorms, evaluating, new_figure
from reslab.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Response:
    """The response of one convolution: `std` over batch, channels and pixels, of what `layer` gave."""

    convolution: str
    layer: str  # the BatchNorm that takes the convolution's output, or the convolution itself where none does
    std: float


@dataclass(frozen=True)
class Responses(Result):
    """The responses of the convolutions, in the order in which they run."""

    layers: tuple[Response, ...]

    def to_frame(self) -> "pd.DataFrame":
        """Return a row a convolution."""
        import pandas as pd

        return pd.DataFrame([vars(layer) for layer in self.layers])

    def figure(self) -> "Figure":
        """Return both halves of Fig. 7: the standard deviations in the network's order, and sorted."""
        figure = new_figure(height=5)
        stds = [layer.std for layer in self.layers]
        for axes, values, order in zip(figure.subplots(2, 1), (stds, sorted(stds, reverse=True)), ("order of the network", "sorted"), strict=True):
            axes.plot(range(1, len(values) + 1), values, ".-")
            axes.set(xlabel=f"layer ({order})", ylabel="std of the response\n(activation units)")
        return figure


def responses(network: nn.Module, images: Tensor, *, kernel: int | None = 3, batch_statistics: bool = False) -> Responses:
    """Return the standard deviation of each convolution's response: after its BatchNorm and before what follows, a ReLU or an addition.

    In a v1 block that is the output of both BatchNorms. In a v2 block the BatchNorm after the first convolution counts, and the second convolution
    has none between itself and the addition, so its own output does; the BatchNorm at a block's start normalises a sum and no response.

    Args:
        network: a network, or its view; measured in evaluation mode.
        images: `[B, C, H, W]`.
        kernel: only convolutions of this size, 3×3 as in the paper; None for all.
        batch_statistics: normalise with the statistics of these images and not with the stored ones, which mean nothing before training.

    Raises:
        UserError: if the network has NaN weights, does not take the images, or has no such convolution.
    """
    network = as_network(network, images)
    found: list[Response] = []
    with evaluating(network, images if batch_statistics else None), torch.no_grad(), _recording(network, kernel, found):
        network(images)
    if not found:
        size = "" if kernel is None else f" of size {kernel}×{kernel}; kernel=None measures all sizes"
        raise UserError(f"the network has no convolution{size}")
    return Responses(tuple(found))


@contextmanager
def _recording(network: nn.Module, kernel: int | None, found: list[Response]) -> Iterator[None]:
    """Append the responses of every forward in this context to `found`; the hooks are removed after it."""
    names = {module: name for name, module in network.named_modules()}
    newest: Tensor | None = None  # the output of the last measured convolution

    def measure_convolution(module: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal newest
        newest = None
        if kernel is None or set(module.kernel_size) == {kernel}:  # type: ignore[arg-type]  # a tuple of ints, which nn.Module does not know
            newest = out
            found.append(Response(names[module], names[module], _std(out)))

    def measure_batchnorm(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        if newest is not None and inputs[0] is newest:
            found[-1] = Response(found[-1].convolution, names[module], _std(out))

    convolutions = [module for module in network.modules() if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))]
    handles = [module.register_forward_hook(measure_convolution) for module in convolutions]
    handles += [module.register_forward_hook(measure_batchnorm) for module in batchnorms(network)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _std(values: Tensor) -> float:
    return values.double().std(correction=0).item()
