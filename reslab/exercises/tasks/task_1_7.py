"""Task 1.7: pre- against post-activation."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

import reslab
from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, Function, after_the_first, normal, normalise, with_gradient


# the solution
def pre_activation_block(x: Tensor, bn1: Function, w1: Tensor, bn2: Function, w2: Tensor) -> Tensor:
    """Return the v2 block of x `[B, C, H, W]`, with an identity shortcut."""
    out = F.conv2d(F.relu(bn1(x)), w1, padding=1)
    out = F.conv2d(F.relu(bn2(out)), w2, padding=1)
    return x + out


def changed_share(shortcut: Tensor, branch: Tensor) -> float:
    """Return the share of the sum's values that a ReLU after it would change."""
    return float((shortcut + branch < 0).double().mean())


def measured_share(blocks: Sequence[Any], x: Tensor) -> float:
    """Return the mean of that share over the blocks of a v1 network, from the first block's input x on."""
    shares = []
    with torch.no_grad():
        for block in blocks:
            shares.append(changed_share(block.downsample(x), block.branch(x)))
            x = block(x)
    return sum(shares) / len(shares)


# how it is judged


def _pre_blocks(generator: Generator) -> Cases:
    for channels in (2, 3):
        weights = [normal(generator, channels, channels, 3, 3) / 3 for _ in range(2)]
        yield normal(generator, 2, channels, 4, 4), normalise, weights[0], lambda x: normalise(x) + 0.3, weights[1]


def _pre(
    x: Tensor,
    bn1: Function,
    w1: Tensor,
    bn2: Function,
    w2: Tensor,
    *,
    v1: bool = False,
    last_relu: bool = False,
    from_the_activated: bool = False,
    relu_first: bool = False,
    in_place: bool = False,
    skip: bool = True,
    padding: int = 1,
    branch_detached: bool = False,
) -> Tensor:
    """The v2 block with a way to go wrong for every option."""

    def activated(x: Tensor, bn: Function) -> Tensor:
        return bn(F.relu(x)) if relu_first else F.relu(bn(x))

    def convolved(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding=padding)

    if v1:
        out = bn2(convolved(activated(convolved(x, w1), bn1), w2))
    else:
        out = convolved(activated(convolved(activated(x, bn1), w1), bn2), w2)
    out = out.detach() if branch_detached else out
    shortcut = activated(x, bn1) if from_the_activated else x
    total = shortcut.add_(out) if in_place else shortcut + out if skip else out
    return F.relu(total) if v1 or last_relu else total


def _sides(generator: Generator) -> Cases:
    for shape in ((2, 3, 4, 4), (50,)):
        shortcut, branch = normal(generator, *shape).relu(), normal(generator, *shape)
        yield shortcut, torch.where(shortcut > 0, branch, branch.relu())


def _trained_like(generator: Generator) -> Cases:
    for name in ("resnet8", "resnet14"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(1000, (), generator=generator)))
            network = reslab.build("cifar_resnet", depth=int(name.removeprefix("resnet")), in_channels=1).double()
        blocks = [block for stage in (network.layer1, network.layer2, network.layer3) for block in stage]  # type: ignore[union-attr]  # stages are Sequentials
        yield blocks, normal(generator, 4, 16, 8, 8).relu()


def _all_from_the_start(blocks: Sequence[Any], x: Tensor) -> float:
    """What comes of forgetting `x = block(x)`: an exception where the channels are first others than x has."""
    shares = [changed_share(block.downsample(x), block.branch(x)) for block in blocks]
    return sum(shares) / len(shares)


def _share_of(what: Callable[[Any, Tensor], Tensor]) -> Callable[[Sequence[Any], Tensor], float]:
    def share(blocks: Sequence[Any], x: Tensor) -> float:
        shares = []
        with torch.no_grad():
            for block in blocks:
                shares.append(float((what(block, x)).double().mean()))
                x = block(x)
        return sum(shares) / len(shares)

    return share


def _pooled(blocks: Sequence[Any], x: Tensor) -> float:
    changed = total = 0
    with torch.no_grad():
        for block in blocks:
            y = block.downsample(x) + block.branch(x)
            changed, total = changed + int((y < 0).sum()), total + y.numel()
            x = block(x)
    return changed / total


TASK = Task(
    "1.7",
    [
        Part(
            pre_activation_block,
            points=6,
            cases=_pre_blocks,
            mistakes={
                "post-activation": partial(_pre, v1=True),
                "relu-after-addition": partial(_pre, last_relu=True),
                "shortcut-from-the-activated": partial(_pre, from_the_activated=True),
                "relu-before-bn": partial(_pre, relu_first=True),
                "in-place": partial(_pre, in_place=True),
                "no-skip": partial(_pre, skip=False),
                "no-padding": partial(_pre, padding=0),
                "branch-without-gradient": partial(_pre, branch_detached=True),
            },
            observe=with_gradient,
            shares=(3, 2, 1),  # the output, the gradient, the input kept
            items=after_the_first,
        ),
        Part(
            changed_share,
            points=3,
            cases=_sides,
            mistakes={
                "zeros-counted": lambda shortcut, branch: float((shortcut + branch <= 0).double().mean()),
                "branch-only": lambda shortcut, branch: float((branch < 0).double().mean()),
                "the-rest": lambda shortcut, branch: float((shortcut + branch > 0).double().mean()),
                "not-a-share": lambda shortcut, branch: int((shortcut + branch < 0).sum()),
            },
        ),
        Part(
            measured_share,
            points=4,
            cases=_trained_like,
            mistakes={
                "input-not-passed-on": _all_from_the_start,
                "branch-only": _share_of(lambda block, x: block.branch(x) < 0),
                "pooled": _pooled,
                "summed-not-averaged": lambda blocks, x: len(blocks) * measured_share(blocks, x),
            },
        ),
    ],
)
