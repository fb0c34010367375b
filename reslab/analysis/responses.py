"""How strong are the layers' responses? Their standard deviations, layer by layer (He et al. 2015, section 4.2 and Fig.
7).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from reslab.analysis.result import Result, new_figure
from reslab.analysis.subject import Images, analysis, as_network, evaluating, path_in
from reslab.errors import UnseenError, worded
from reslab.sending import widened

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Response:
    """The response of one convolution: `std` of the output of `layer` over batch, channels and pixels."""

    convolution: str
    layer: str  # the BatchNorm after the convolution, or else the convolution itself
    std: float


@dataclass(frozen=True)
class Responses(Result):
    """The responses of the convolutions, in the order in which they run."""

    layers: tuple[Response, ...]

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per convolution."""
        import pandas as pd

        return pd.DataFrame([vars(layer) for layer in self.layers])

    def figure(self) -> "Figure":
        """Plot both halves of Fig. 7: the standard deviations in the network's order, and sorted."""
        figure = new_figure(height=5)
        stds = [layer.std for layer in self.layers]
        for axes, values, order in zip(
            figure.subplots(2, 1), (stds, sorted(stds, reverse=True)), ("order of the network", "sorted"), strict=True
        ):
            axes.plot(range(1, len(values) + 1), values, ".-")
            axes.set(xlabel=f"layer ({order})", ylabel="std of the response\n(activation units)")
        return figure


@analysis("responses", "the strength of each layer's response", needs=("convolutions",), images=128, trained=True)
def responses(
    network: nn.Module, images: Images, *, kernel: int | None = 3, batch_statistics: bool = False
) -> Responses:
    """Return the standard deviation of each convolution's response: after its BatchNorm, and before the following ReLU
    or addition.

    In a v1 block that is the output of both BatchNorms. In a v2 block it is the BatchNorm after the first convolution,
    and the output of the second convolution, which is added without one. The BatchNorm at the start of a v2 block
    normalises a sum, which is not a response.

    Args:
        network: a network, or its view; measured in evaluation mode.
        images: `[B, C, H, W]`.
        kernel: only convolutions of this size, 3×3 as in the paper; None for all.
        batch_statistics: normalise with the statistics of these images instead of the stored ones, which are
            meaningless before training.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, _ = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.responses(network, images)
        >>> [(each.convolution, each.layer) for each in found.layers[:2]]
        [('conv1', 'bn1'), ('layer1.0.conv1', 'layer1.0.bn1')]

    Raises:
        UserError: if the network has NaN weights, does not take the images, or has no such convolution.
    """
    network = as_network(network, images)
    with (
        evaluating(network, images if batch_statistics else None),
        torch.no_grad(),
        _Recorder(network, kernel) as recorder,
    ):
        network(images)
    if not recorder.found:
        missing = worded("no-convolution") if kernel is None else worded("no-convolution-of-size", kernel=kernel)
        raise UnseenError(*missing)
    return Responses(tuple(recorder.found))


class _Recorder(TorchFunctionMode):
    """Records the response of every convolution that runs under it, and of the BatchNorm after it.

    It sees operations and not modules, so an activation inside a custom layer is not part of the response.
    """

    def __init__(self, network: nn.Module, kernel: int | None) -> None:
        super().__init__()
        self.kernel = kernel
        self.found: list[Response] = []
        # what a measured convolution put out: its place among those found, and how often it had been written into
        self._made: Any = WeakTensorKeyDictionary()
        self._inside = ""  # the layer that runs
        self._names: dict[nn.Module, str] = {
            module: path_in(network, name)
            for name, module in network.named_modules()
            if isinstance(module, _LAYERS) or not any(module.children())
        }
        self._owners = {  # for weights that a convolution uses outside its layer
            parameter: path_in(network, name.rpartition(".")[0]) for name, parameter in network.named_parameters()
        }

    def __enter__(self) -> Self:
        self._handles = [module.register_forward_pre_hook(self._enter_layer) for module in self._names]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()

    def _enter_layer(self, module: nn.Module, _: Any) -> None:
        self._inside = self._names[module]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _CONVOLUTIONS:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            if self.kernel is None or set(weight.shape[2:]) == {self.kernel}:
                self._made[out] = len(self.found), _writes(out)
                name = self._owners.get(weight, self._inside)
                self.found.append(Response(name, name, _std(out)))
        elif func in _BATCH_NORMS and args[0] in self._made:
            place, writes = self._made[args[0]]
            if writes == _writes(args[0]):  # else a ReLU or an addition in place has come between
                self.found[place] = Response(self.found[place].convolution, self._inside, _std(out))
        return out


_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
_BATCH_NORMS = (F.batch_norm, torch.batch_norm)
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, _BatchNorm)


def _writes(values: Tensor) -> int:
    """Return how often a tensor was written into, as far as torch counts it."""
    return 0 if values.is_inference() else values._version


def _std(values: Tensor) -> float:
    return widened(values).std(correction=0).item()
