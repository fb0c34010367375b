"""The anatomy of a network: its stages, as in its paper's table, and the differences between two networks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from reslab.counting import FlopCounter
from reslab.errors import MismatchError, UserError, worded
from reslab.gates.view import View
from reslab.networks.counting import count_params
from reslab.state import draws_apart, in_mode


@dataclass(frozen=True)
class Stage:
    """One stage: its blocks, output shape `(C, H, W)`, parameters, multiply-adds for one image, and receptive field in
    pixels; None from a stage on whose layers are not one after another, or that pools the whole image.
    """

    name: str
    blocks: str
    output: tuple[int, ...]
    params: int
    macs: int
    receptive_field: int | None


def stages(network: nn.Module, input_shape: tuple[int, int, int]) -> list[Stage]:
    """Return the stages of a network that runs its direct children in order, without children that do nothing; what
    runs or is held outside them is a last stage, "…".

    A container of stages ("features", or a list) is replaced by its children. The network may be on the meta device.
    The receptive field is that of the longest path: shortcuts see less.
    """
    rows: list[Stage] = []
    field: int | None = 1
    jump = 1

    def left(name: str, module: nn.Module, image: Any, output: Any, macs: int) -> None:
        nonlocal field, jump
        windows = _windows(module)
        if field is not None and windows is not None and _fits(windows, module, image, output):
            for kernel, stride in windows:
                field += (kernel - 1) * jump
                jump *= stride
        else:
            field = None
        if not isinstance(module, nn.Identity | nn.ReLU | nn.Dropout):
            rows.append(Stage(name, describe(module), _shape(output), count_params(module), macs, field))

    output, total = _run(network, input_shape, opened(network), left)
    params = count_params(network) - sum(row.params for row in rows)
    macs = total - sum(row.macs for row in rows)
    if params > 0 or macs > 0:
        rows.append(
            Stage("…", type(network).__name__, _shape(output), max(params, 0), max(macs, 0), field if rows else None)
        )
    return rows


def _run(
    network: nn.Module,
    input_shape: tuple[int, int, int],
    modules: Iterable[tuple[str, nn.Module]],
    left: Callable[[str, nn.Module, Any, Any, int], None],
) -> tuple[Any, int]:
    """Run a network on an image in evaluation mode, and return its output and multiply-adds. After each call of one of
    the modules, `left` is told its name, itself, its first input, its output and the multiply-adds of the call.
    """
    before: list[int] = []  # multiply-adds when a module was entered
    handles: list[Any] = []

    def watch(name: str, module: nn.Module) -> None:
        def leave(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            left(name, module, next(iter((*inputs, *named.values())), None), output, counter.macs - before.pop())

        handles.append(module.register_forward_pre_hook(lambda *_: before.append(counter.macs)))
        handles.append(module.register_forward_hook(leave, with_kwargs=True))

    try:
        with in_mode(network, training=False), draws_apart(), FlopCounter() as counter, torch.no_grad():
            for name, module in modules:
                watch(name, module)
            return network(_image(network, input_shape)), counter.macs
    finally:
        for handle in handles:
            handle.remove()


def _image(network: nn.Module, input_shape: tuple[int, int, int]) -> torch.Tensor:
    """Return an image for a network, of its kind of numbers and on its device."""
    weight = next(network.parameters(), None)
    return torch.empty(1, *input_shape) if weight is None else weight.new_empty(1, *input_shape)


def _shape(output: Any) -> tuple[int, ...]:
    """Return the shape of an output, or of the first of several, without the batch."""
    tensors = [each for each in tree_leaves(output) if isinstance(each, torch.Tensor)]
    return tuple(tensors[0].shape[1:]) if tensors else ()


class Table(NamedTuple):
    """A network's stages, the image size `(C, H, W)`, and the total parameters and multiply-adds."""

    stages: list[Stage]
    input: tuple[int, int, int]
    params: int
    macs: int


def table(name: str, network: nn.Module, input_shape: tuple[int, int, int]) -> Table:
    """Return a network as in its paper's table.

    Raises:
        UserError: if its options reduce the image to nothing, or need one that is too large.
    """
    try:
        rows = stages(network, input_shape)
    except UserError:
        raise
    except Exception as error:  # of whatever kind a forward raises
        kind = "" if type(error) is RuntimeError else f"{type(error).__name__}: "
        why = " ".join(f"{kind}{error}".split())
        raise MismatchError(*worded("cannot-run-at-size", name=name, shape=input_shape, why=why)) from error
    return Table(rows, input_shape, count_params(network), sum(row.macs for row in rows))


@dataclass(frozen=True)
class Layer:
    """A convolution or classifier: input and output shape of its first call, without the batch, and the multiply-adds
    of all its calls for one image.
    """

    module: nn.Conv2d | nn.Linear
    input: tuple[int, ...]
    output: tuple[int, ...]
    macs: int


def layers(network: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, Layer]:
    """Return the network's convolutions and classifiers by name, in the order in which they first run. It may be on the
    meta device.
    """
    found: dict[str, Layer] = {}

    def left(name: str, module: nn.Module, image: torch.Tensor, output: torch.Tensor, macs: int) -> None:
        assert isinstance(module, nn.Conv2d | nn.Linear)
        first = found.get(name) or Layer(module, tuple(image.shape[1:]), tuple(output.shape[1:]), 0)
        found[name] = replace(first, macs=first.macs + macs)

    watched = [each for each in network.named_modules() if isinstance(each[1], nn.Conv2d | nn.Linear)]
    _run(network, input_shape, watched, left)
    return found


_aten = torch.ops.aten
_WORDS = {_aten.native_batch_norm: "BN", _aten.relu: "ReLU", _aten.relu_: "ReLU", _aten.add: "+", _aten.add_: "+"}


class Operations(FlopCounter):
    """Records the convolutions, BatchNorms, ReLUs and additions that run inside it, in order: `["3×3", "BN", "ReLU",
    "3×3", "BN", "+"]`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket is _aten.convolution:
            self.words.append("×".join(map(str, args[1].shape[2:])))
        elif word := _WORDS.get(func._overloadpacket):
            self.words.append(word)
        return super().__torch_dispatch__(func, types, args, kwargs)


CONTAINERS = ("features", "trunk_output", "classifier")
"""torchvision's names of children that hold a sequence of stages."""
SIDE_PATHS = ("downsample", "mix", "proj", "fc1", "fc2")
"""torchvision's names of shortcuts (and this lab's of one that is a convolution), and of the two layers of a
squeeze-and-excitation, which see the whole image anyway.
"""


def opened(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children with their names, and in place of a container its children."""
    for name, child in network.named_children():
        if isinstance(child, View):  # of a network whose blocks are drawn in training
            yield from opened(child.network)
        elif isinstance(child, nn.ModuleList) or (name in CONTAINERS and isinstance(child, nn.Sequential)):
            yield from ((f"{name}.{inner}", grandchild) for inner, grandchild in child.named_children())
        else:
            yield name, child


_SEEING_MORE = (nn.Conv2d, nn.ConvTranspose2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
"""Layers that are no windows here, or of the whole image, but whose outputs see more than one pixel."""


def _windows(module: nn.Module) -> list[tuple[int, int]] | None:
    """Return (kernel, stride) of the convolutions and pools on a stage's main path, in order; None if some stand beside
    one another: one takes neither what the one before it gives, nor that and all before it, as in a dense block.
    """
    found: list[tuple[int, int]] = []
    given = taken = 0
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) and _on_main_path(name):
            if isinstance(layer, nn.Conv2d):
                if given and layer.in_channels not in (given, taken + given):
                    return None
                if layer.in_channels != given:
                    taken = layer.in_channels
                given = layer.out_channels
            spread = (_first(layer.kernel_size) - 1) * _first(getattr(layer, "dilation", 1))
            found.append((spread + 1, _first(layer.stride)))
    return found


def _fits(windows: Sequence[tuple[int, int]], module: nn.Module, image: Any, output: Any) -> bool:
    """Return whether a stage's windows, one after another, make an output of this height from such an input, whatever
    pads it; without windows, whether each pixel of its output is of one pixel of its input.
    """
    sides = [value.shape[2] for value in (image, output) if isinstance(value, torch.Tensor) and value.dim() == 4]
    if len(sides) < 2:
        return False
    if not windows:
        return sides[0] == sides[1] and not any(isinstance(layer, _SEEING_MORE) for layer in module.modules())
    least, most = sides[0], sides[0]
    for kernel, stride in windows:
        least, most = max((least - kernel) // stride + 1, 0), -(-most // stride)
    return least <= sides[1] <= most


def _on_main_path(name: str) -> bool:
    return not any(part in SIDE_PATHS for part in name.split("."))


def _first(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]


def describe(module: nn.Module) -> str:
    """Return a stage in the paper's words: `3 × [1×1, 64 · 3×3, 64 · 1×1, 256]`, `7×7, 64, /2`; unlike blocks are
    joined by a plus.
    """
    if isinstance(module, nn.Conv2d):
        return _convolution(module)
    if isinstance(module, nn.MaxPool2d):
        return f"{module.kernel_size}×{module.kernel_size} max pool, /{module.stride}"
    if isinstance(module, nn.Linear):
        return f"{module.out_features}-way classifier"
    if isinstance(module, nn.Sequential):
        convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        in_a_row = all(layer in list(module) for layer in convolutions)
        words = " · ".join(map(_convolution, convolutions)) if in_a_row else " + ".join(_runs(module))
        return words or type(module).__name__
    return type(module).__name__


def _runs(blocks: Iterable[nn.Module]) -> Iterator[str]:
    """Return the runs of equal blocks; a stride begins one."""
    runs: list[tuple[str, int, int]] = []  # a block, the stride of the first one, and how many
    for block in blocks:
        main = [each for name, each in block.named_modules() if isinstance(each, nn.Conv2d) and _on_main_path(name)]
        if main:
            words = " · ".join(_convolution(layer, bare=True) for layer in main)
            stride = max(_first(layer.stride) for layer in main)
            if stride == 1 and runs and runs[-1][0] == words:
                runs[-1] = (words, runs[-1][1], runs[-1][2] + 1)
            else:
                runs.append((words, stride, 1))
    return (f"{count} × [{words}]" + (f", /{stride}" if stride > 1 else "") for words, stride, count in runs)


def _convolution(layer: nn.Conv2d, bare: bool = False) -> str:
    kernel, stride = _first(layer.kernel_size), _first(layer.stride)
    groups = (
        ""
        if layer.groups == 1
        else " (depthwise)"
        if layer.groups == layer.in_channels
        else f" ({layer.groups} groups)"
    )
    return f"{kernel}×{kernel}, {layer.out_channels}{groups}" + (f", /{stride}" if stride > 1 and not bare else "")


_POINTWISE = (
    nn.Identity,
    nn.Flatten,
    nn.ReLU,
    nn.ReLU6,
    nn.SiLU,
    nn.GELU,
    nn.Sigmoid,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.AdaptiveAvgPool2d,
)
"""Layers that differ by name alone where networks are written otherwise, and global pools, which may be functions;
dropout of nothing is none.
"""


@dataclass(frozen=True)
class Difference:
    """A layer that differs between two networks; None if one of them does not have it."""

    layer: str
    first: str | None
    second: str | None


def differences(first: nn.Module, second: nn.Module) -> list[Difference]:
    """Return the layers by name whose settings differ between two networks: those with parameters, and those without
    that do not work on each number alone, as pools do.
    """
    ours, theirs = _layers(first), _layers(second)
    return [
        Difference(name, ours.get(name), theirs.get(name))
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]


def _layers(network: nn.Module) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, module in network.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if own:
            bare = type(module) is nn.Module  # which says nothing of itself
            found[name] = ", ".join(f"{each} {list(own[each].shape)}" for each in own) if bare else repr(module)
        elif any(module.children()):
            if said := module.extra_repr():
                found[name] = f"{type(module).__name__}({said})"
        elif not (isinstance(module, _POINTWISE) or getattr(module, "p", None) == 0):
            found[name] = repr(module)
    return found
