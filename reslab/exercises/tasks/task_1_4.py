"""Task 1.4: a residual block from tensors."""

from functools import partial

import torch.nn.functional as F
from torch import Generator, Tensor

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, Function, after_the_first, normal, normalise, with_gradient


# the solution
def basic_block(
    x: Tensor, w1: Tensor, bn1: Function, w2: Tensor, bn2: Function, stride: int, projection: Tensor | None
) -> Tensor:
    """Return the v1 basic block of x `[B, C, H, W]`."""
    out = F.relu(bn1(F.conv2d(x, w1, stride=stride, padding=1)))
    out = bn2(F.conv2d(out, w2, padding=1))
    shortcut = x if projection is None else F.conv2d(x, projection, stride=stride)
    return F.relu(shortcut + out)


# how it is judged


def _blocks(generator: Generator) -> Cases:
    for channels, out, stride, projects in ((3, 3, 1, False), (2, 4, 2, True), (3, 5, 1, True), (3, 3, 1, True)):
        w1, w2 = normal(generator, out, channels, 3, 3) / 3, normal(generator, out, out, 3, 3) / 3
        projection = normal(generator, out, channels, 1, 1) if projects else None
        yield normal(generator, 2, channels, 4, 4), w1, normalise, w2, lambda x: normalise(x) + 0.3, stride, projection


def _block(
    x: Tensor,
    w1: Tensor,
    bn1: Function,
    w2: Tensor,
    bn2: Function,
    stride: int,
    projection: Tensor | None,
    *,
    early_relu: bool = False,
    last_relu: bool = True,
    detached: bool = False,
    shortcut_stride: bool = True,
    second_bn: bool = True,
    in_place: bool = False,
    skip: bool = True,
    first_relu: bool = True,
    strided_twice: bool = False,
    padding: int = 1,
    by_shape: bool = False,
) -> Tensor:
    """The basic block with a way to go wrong for every option."""
    out = bn1(F.conv2d(x, w1, stride=stride, padding=padding))
    out = F.relu(out) if first_relu else out
    out = F.conv2d(out, w2, stride=stride if strided_twice else 1, padding=padding)
    out = bn2(out) if second_bn else out
    keeps = by_shape and x.shape == out.shape
    shortcut = x if keeps or projection is None else F.conv2d(x, projection, stride=stride if shortcut_stride else 1)
    shortcut = shortcut.detach() if detached else shortcut
    if early_relu:
        return shortcut + F.relu(out)
    total = shortcut.add_(out) if in_place else shortcut + out if skip else out
    return F.relu(total) if last_relu else total


TASK = Task(
    "1.4",
    [
        Part(
            basic_block,
            points=12,
            cases=_blocks,
            mistakes={
                "relu-before-addition": partial(_block, early_relu=True),
                "skip-detached": partial(_block, detached=True),
                "shortcut-without-stride": partial(_block, shortcut_stride=False),
                "no-last-relu": partial(_block, last_relu=False),
                "no-second-batchnorm": partial(_block, second_bn=False),
                "no-skip": partial(_block, skip=False),
                "in-place": partial(_block, in_place=True),
                "no-first-relu": partial(_block, first_relu=False),
                "strided-twice": partial(_block, strided_twice=True),
                "no-padding": partial(_block, padding=0),
                "projection-by-shape": partial(_block, by_shape=True),
            },
            observe=with_gradient,
            shares=(6, 4, 2),  # the output, the gradient, the input kept
            items=after_the_first,
        )
    ],
)
