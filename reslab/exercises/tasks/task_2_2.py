"""Task 2.2: the shortcut options A, B and C, and what they cost."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, normal, whole


# the solution
def zero_pad(x: Tensor, out_channels: int, stride: int) -> Tensor:
    """Return option A of x `[B, C, H, W]`: every stride-th pixel, and channels of zeros at the end."""
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, out_channels - x.shape[1]))


def projection(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Return W_s x of x `[B, C, H, W]`: the matrix `[out, C]` at every stride-th pixel."""
    return torch.einsum("oc,bchw->bohw", weight, x[:, :, ::stride, ::stride])


def extra_parameters(option: str, depth: int) -> int:
    """Return how many parameters the shortcuts add to a CIFAR network of 6n+2 layers."""
    extra, width = 0, 16
    for channels in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            if option == "C" or (option == "B" and channels != width):
                extra += width * channels + 2 * channels
            width = channels
    return extra


# how it is judged


def _maps(generator: Generator) -> Cases:
    for channels, out, stride in ((2, 4, 2), (3, 8, 2), (2, 5, 1)):
        yield normal(generator, 2, channels, 4, 6), out, stride


def _padded(
    x: Tensor,
    out_channels: int,
    stride: int,
    *,
    front: float = 0,
    offset: int = 0,
    pool: Callable[..., Tensor] | None = None,
    subsampled: bool = True,
) -> Tensor:
    """Option A with a way to go wrong for every option."""
    extra = out_channels - x.shape[1]
    before, first = int(front * extra), min(offset, stride - 1)
    kept = x[:, :, first::stride, first::stride] if subsampled else x
    return F.pad(pool(x, stride) if pool else kept, (0, 0, 0, 0, before, extra - before))


def _repeated(x: Tensor, out_channels: int, stride: int) -> Tensor:
    return x[:, torch.arange(out_channels) % x.shape[1], ::stride, ::stride]


def _projections(generator: Generator) -> Cases:
    for channels, out, stride in ((2, 4, 2), (3, 3, 2), (3, 5, 1)):
        yield normal(generator, 2, channels, 4, 6), normal(generator, out, channels), stride


def _options(generator: Generator) -> Cases:
    for option in "ABCBC":
        yield option, 6 * whole(generator, 2, 18) + 2


def _extra(
    option: str,
    depth: int,
    *,
    bn: int = 2,
    bias: int = 0,
    kernel: int = 1,
    layers: int = 6,
    always: str = "C",
    first: bool = False,
    a: bool = False,
    twice: bool = False,
) -> int:
    """The count with a way to go wrong for every option."""
    extra, width = 0, 16
    for channels in (16, 32, 64):
        for block in range((depth - 2) // layers):
            changes = channels != width or (first and block == 0)
            if option == always or (option in "BC" and changes) or (a and option == "A" and changes):
                again = 2 if twice and option == "C" and changes else 1
                extra += again * (width * channels * kernel + (bn + bias) * channels)
            width = channels
    return extra


TASK = Task(
    "2.2",
    [
        Part(
            zero_pad,
            points=4,
            cases=_maps,
            mistakes={
                "zeros-in-front": partial(_padded, front=1),
                "zeros-on-both-sides": partial(_padded, front=0.5),
                "averaged": partial(_padded, pool=F.avg_pool2d),
                "maximum-taken": partial(_padded, pool=F.max_pool2d),
                "not-subsampled": partial(_padded, subsampled=False),
                "other-pixels": partial(_padded, offset=1),
                "channels-repeated": _repeated,
            },
        ),
        Part(
            projection,
            points=3,
            cases=_projections,
            mistakes={
                "no-stride": lambda x, weight, stride: projection(x, weight, 1),
                "transposed": lambda x, weight, stride: projection(x, weight.T, stride),
                "averaged": lambda x, weight, stride: projection(F.avg_pool2d(x, stride), weight, 1),
                "relu-after": lambda x, weight, stride: projection(x, weight, stride).relu(),
            },
        ),
        Part(
            extra_parameters,
            points=5,
            cases=_options,
            mistakes={
                "batchnorm-forgotten": partial(_extra, bn=0),
                "bias-counted": partial(_extra, bias=1),
                "running-statistics-counted": partial(_extra, bn=4),
                "c-only-at-transitions": partial(_extra, always=""),
                "b-in-every-block": lambda option, depth: extra_parameters("C" if option == "B" else option, depth),
                "first-stage-projected": partial(_extra, first=True),
                "a-counted": partial(_extra, a=True),
                "three-by-three": partial(_extra, kernel=9),
                "c-on-top-of-b": partial(_extra, twice=True),
                "layers-not-blocks": partial(_extra, layers=3),
            },
        ),
    ],
)
