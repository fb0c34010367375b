"""How many steps one block needs to learn the identity, or a function near it or near zero."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reslab.networks import zoo

BLOCKS = {"plain": "cifar_plain", "residual": "cifar_resnet"}

FUNCTIONS = ("identity", "near-identity", "near-zero")

BATCH, SIDE, MOMENTUM = 32, 4, 0.9


def wanted(function: str, x: Tensor, change: Tensor) -> Tensor:
    """Return what a block is to give for x, with the change of size ε."""
    return {"identity": x, "near-identity": (x + change).relu(), "near-zero": change.relu()}[function]


class Course(NamedTuple):
    """The loss in each step, as a part of x's variance, until it reached the level."""

    losses: list[float]
    reached: bool


def course(block: str, function: str, rate: float, perturbation: float, level: float, most: int, seed: int) -> Course:
    """Return how the loss falls when a block learns a function: a new random batch in each step of SGD."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        learner: nn.Module = zoo.build(BLOCKS[block], depth=14).get_submodule("layer1.1").train()
    channels = 16
    g = torch.randn(channels, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    optimizer = torch.optim.SGD(learner.parameters(), lr=rate, momentum=MOMENTUM)
    losses: list[float] = []
    for _ in range(most):
        x = torch.randn(BATCH, channels, SIDE, SIDE, generator=generator).relu()
        target = wanted(function, x, perturbation * F.conv2d(x, g, padding=1))
        loss = F.mse_loss(learner(x), target) / x.var()
        losses.append(loss.item())
        if losses[-1] <= level or not loss.isfinite():
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Course(losses, losses[-1] <= level)


def steps(found: Course, most: int) -> int:
    """Return the steps to the level, at least 1; `most` for a course that never reached it."""
    return max(len(found.losses) - 1, 1) if found.reached else most
