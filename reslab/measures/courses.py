"""How many steps one block needs to learn the identity, or a function near it or near zero."""

from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reslab.experiment.text import StudyText
from reslab.ledger.record import Chart, Series, Table
from reslab.networks import zoo
from reslab.state import draws_apart

BLOCKS = {"plain": "cifar_plain", "residual": "cifar_resnet"}

FUNCTIONS = ("identity", "near-identity", "near-zero")

BATCH, SIDE, MOMENTUM = 32, 4, 0.9


def wanted(function: str, x: Tensor, change: Tensor) -> Tensor:
    """Return the target of a block for x, with a change of size ε."""
    return {"identity": x, "near-identity": (x + change).relu(), "near-zero": change.relu()}[function]


def unlearned(function: str, x: Tensor) -> Tensor:
    """Return what a block gives that has learned nothing of a function: zeros, or x where the change to x is asked."""
    return x if function == "near-identity" else torch.zeros_like(x)


class Course(NamedTuple):
    """The error in each step, as a fraction of that of having learned nothing, until it reached the level."""

    losses: list[float]
    reached: bool


def course(block: str, function: str, rate: float, perturbation: float, level: float, most: int, seed: int) -> Course:
    """Return the course of the loss when a block learns a function, with a new random batch in each step of SGD."""
    generator = torch.Generator().manual_seed(seed)
    with draws_apart():
        torch.manual_seed(seed)
        learner: nn.Module = zoo.build(BLOCKS[block], depth=14).get_submodule("layer1.1").train()
    channels = 16
    g = torch.randn(channels, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    optimizer = torch.optim.SGD(learner.parameters(), lr=rate, momentum=MOMENTUM)
    losses: list[float] = []
    for _ in range(most):
        x = torch.randn(BATCH, channels, SIDE, SIDE, generator=generator).relu()
        target = wanted(function, x, perturbation * F.conv2d(x, g, padding=1))
        error = F.mse_loss(learner(x), target)
        losses.append((error / F.mse_loss(unlearned(function, x), target)).item())
        if losses[-1] <= level or not error.isfinite():
            break
        optimizer.zero_grad()
        (error / x.var()).backward()
        optimizer.step()
    return Course(losses, losses[-1] <= level)


def steps(found: Course, most: int) -> int:
    """Return the steps to the level, at least 1; `most` for a course that never reached it."""
    return max(len(found.losses) - 1, 1) if found.reached else most


Best = dict[tuple[str, str], dict[int, Course]]
"""The course of each block and function at its best rate, by seed."""


def course_table(text: StudyText, best: Best, most: int) -> Table:
    """Return how many steps each block took for each function."""
    return text.table("steps", [_row(text, key, found, most) for key, found in best.items()])


def _row(text: StudyText, key: tuple[str, str], found: Mapping[int, Course], most: int) -> list[Any]:
    taken = sorted(steps(one, most) for one in found.values())
    learned = f"{sum(one.reached for one in found.values())}/{len(found)}"
    return [text.name(key[1]), text.name(key[0]), median(taken), taken[0], taken[-1], learned]


def course_chart(text: StudyText, best: Best) -> Chart:
    """Return the losses of the first seed."""
    series = []
    for (block, function), found in best.items():
        losses = next(iter(found.values())).losses
        name = text.name("course", {"block": block, "function": function})
        series.append(Series(name=name, x=[float(i) for i in range(len(losses))], y=list(losses)))
    return text.chart("losses", series, log_y=True)
