"""Task 2.3: what a basic block and a bottleneck cost at the same outer width."""

from collections.abc import Callable
from functools import partial

from torch import Generator

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, whole


# the solution
def conv_macs(in_channels: int, out_channels: int, kernel: int, height: int, width: int, stride: int) -> int:
    """Return the multiply-adds of a convolution of one image `[in, height, width]`, padded by kernel // 2."""
    outputs = out_channels * ((height - 1) // stride + 1) * ((width - 1) // stride + 1)
    return outputs * in_channels * kernel**2


def block_macs(kind: str, channels: int, size: int) -> int:
    """Return the multiply-adds of a block from `channels` to `channels` on maps of size × size."""
    inner = channels // 4
    basic, bottleneck = [(channels, channels, 3)] * 2, [(channels, inner, 1), (inner, inner, 3), (inner, channels, 1)]
    return sum(conv_macs(*convolution, size, size, 1) for convolution in (basic if kind == "basic" else bottleneck))


def share_of_3x3(channels: int, inner: int) -> float:
    """Return the 3×3 convolution's share of the multiply-adds of a bottleneck of this outer and inner width."""
    return 9 * inner / (9 * inner + 2 * channels)


# how it is judged


def _convolutions(generator: Generator) -> Cases:
    for kernel, stride in ((3, 1), (1, 2), (3, 2), (7, 2)):
        yield (
            whole(generator, 2, 40),
            whole(generator, 41, 80),
            kernel,
            2 * whole(generator, 3, 20) + 1,
            whole(generator, 50, 60),
            stride,
        )


def _conv(
    i: int,
    o: int,
    k: int,
    h: int,
    w: int,
    stride: int,
    *,
    operations: int = 1,
    strided: bool = True,
    up: int = 1,
    power: int = 2,
    outputs: bool = True,
    inputs: bool = True,
    places: bool = True,
) -> int:
    """The count with a way to go wrong for every option."""
    step = stride if strided else 1
    positions = ((h - up) // step + up) * ((w - up) // step + up) if places else 1
    return operations * positions * (o if outputs else 1) * (i if inputs else 1) * k**power


def _blocks(generator: Generator) -> Cases:
    for kind in ("basic", "bottleneck", "basic", "bottleneck"):
        yield kind, 4 * whole(generator, 2, 64), whole(generator, 5, 20)


def _block(basic: Callable[[int], int], bottleneck: Callable[[int], int]) -> Callable[[str, int, int], int]:
    """A count for each kind of block, of weights at each position."""
    return lambda kind, channels, size: size**2 * (basic if kind == "basic" else bottleneck)(channels)


def _two(c: int) -> int:
    return 18 * c**2


def _three(c: int) -> int:
    return 17 * c**2 // 16


def _widths(generator: Generator) -> Cases:
    for _ in range(3):
        inner = whole(generator, 8, 64)
        yield inner * whole(generator, 2, 6) + 4, inner


TASK = Task(
    "2.3",
    [
        Part(
            conv_macs,
            points=4,
            cases=_convolutions,
            mistakes={
                "doubled": partial(_conv, operations=2),
                "input-size": partial(_conv, strided=False),
                "kernel-not-squared": partial(_conv, power=1),
                "output-channels-forgotten": partial(_conv, outputs=False),
                "input-channels-forgotten": partial(_conv, inputs=False),
                "parameters": partial(_conv, places=False),
                "rounded-down": partial(_conv, up=0),
            },
        ),
        Part(
            block_macs,
            points=4,
            cases=_blocks,
            mistakes={
                "inner-width-as-outer": _block(_two, lambda c: 11 * c**2),
                "one-convolution": _block(lambda c: 9 * c**2, _three),
                "three-3x3": _block(_two, lambda c: 9 * c**2 // 2 + 9 * c**2 // 16),
                "half-the-width": _block(_two, lambda c: c**2 + 9 * c**2 // 4),
                "widened": _block(_two, lambda c: 17 * c**2),
                "only-the-3x3": _block(_two, lambda c: 9 * c**2 // 16),
                "parameters": lambda kind, channels, size: block_macs(kind, channels, 1),
                "doubled": lambda *block: 2 * block_macs(*block),
            },
        ),
        Part(
            share_of_3x3,
            points=4,
            cases=_widths,
            mistakes={
                "one-1x1-forgotten": lambda channels, inner: 9 * inner / (9 * inner + channels),
                "kernel-not-squared": lambda channels, inner: 3 * inner / (3 * inner + 2 * channels),
                "share-of-the-1x1s": lambda channels, inner: 1 - share_of_3x3(channels, inner),
                "ratio-not-share": lambda channels, inner: 9 * inner / (2 * channels),
                "widths-exchanged": lambda channels, inner: share_of_3x3(inner, channels),
                "always-a-quarter": lambda channels, inner: 9 / 17,
                "percent": lambda channels, inner: 100 * share_of_3x3(channels, inner),
            },
        ),
    ],
)
