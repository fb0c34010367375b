"""Task 1.8: the path spectrum."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Generator, Tensor

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, normal


# the solution
def paths_by_length(n: int) -> list[int]:
    """Return how many paths of each length, 0 to n, lead through n blocks."""
    return [math.comb(n, length) for length in range(n + 1)]


def path_spectrum(jacobians: Sequence[Tensor], g: Tensor) -> Tensor:
    """Return the gradient at the first block's input by path length `[n + 1, d]`, from the branches' Jacobians and the
    gradient g at the end.
    """
    by_length = [g]
    for jacobian in reversed(jacobians):
        longer = [jacobian.T @ gradient for gradient in by_length]
        by_length = [
            by_length[0],
            *(kept + taken for kept, taken in zip(by_length[1:], longer, strict=False)),
            longer[-1],
        ]
    return torch.stack(by_length)


# how it is judged


def _counts(generator: Generator) -> Cases:
    for n in (1, 3, int(torch.randint(5, 30, (), generator=generator))):
        yield (n,)


def _chains(generator: Generator) -> Cases:
    for n, size in ((2, 2), (3, 4), (5, 3)):
        yield [normal(generator, size, size) for _ in range(n)], normal(generator, size)


def _spectrum(
    jacobians: Sequence[Tensor],
    g: Tensor,
    *,
    forwards: bool = False,
    transpose: bool = True,
    stale: bool = True,
    reverse: bool = False,
) -> Tensor:
    by_length = [g] + [torch.zeros_like(g) for _ in jacobians]
    for jacobian in jacobians if forwards else reversed(jacobians):
        matrix = jacobian.T if transpose else jacobian
        old = list(by_length) if stale else by_length
        for length in range(1, len(by_length)):
            by_length[length] = by_length[length] + matrix @ old[length - 1]
    return torch.stack(by_length[::-1] if reverse else by_length)


def _one_tensor(jacobians: Sequence[Tensor], g: Tensor) -> Tensor:
    """What comes of `[zeros] * n`: every length adds into the same tensor."""
    by_length = [g.clone()] + [torch.zeros_like(g)] * len(jacobians)
    for jacobian in reversed(jacobians):
        for length in range(len(jacobians), 0, -1):
            by_length[length] += jacobian.T @ by_length[length - 1]
    return torch.stack(by_length)


TASK = Task(
    "1.8",
    [
        Part(
            paths_by_length,
            points=3,
            cases=_counts,
            mistakes={
                "no-path-of-length-zero": lambda n: paths_by_length(n)[1:],
                "longest-missing": lambda n: paths_by_length(n)[:-1],
                "all-alike": lambda n: [2**n // (n + 1)] * (n + 1),
                "powers-of-two": lambda n: [2**length for length in range(n + 1)],
            },
        ),
        Part(
            path_spectrum,
            points=10,
            cases=_chains,
            mistakes={
                "forwards": partial(_spectrum, forwards=True),
                "not-transposed": partial(_spectrum, transpose=False),
                "updated-too-early": partial(_spectrum, stale=False),
                "longest-first": partial(_spectrum, reverse=True),
                "one-tensor": _one_tensor,
            },
        ),
    ],
)
