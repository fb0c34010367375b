"""Task 1.6: a direction that a block shrinks."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, Function, normal


# the solution
def stretch(branch: Function, x: Tensor, v: Tensor) -> float:
    """Return by how much the block x + F(x) stretches the direction v at x."""
    _, through_branch = torch.autograd.functional.jvp(branch, x, v)
    return float((v + through_branch).norm() / v.norm())


def most_shrunk(branch: Function, x: Tensor) -> Tensor:
    """Return the unit direction, shaped as x, that the block x + F(x) shrinks most at x."""
    jacobian = torch.autograd.functional.jacobian(branch, x).reshape(x.numel(), x.numel())
    _, _, right = torch.linalg.svd(torch.eye(x.numel(), dtype=x.dtype) + jacobian)
    return right[-1].reshape(x.shape)


# how it is judged


def _branches(generator: Generator) -> Cases:
    for size in (3, 4):
        first, second = normal(generator, 2, 2, 3, 3) / 2, normal(generator, 2, 2, 3, 3) / 2
        yield _branch(first, second), normal(generator, 1, 2, size, size)


def _branch(first: Tensor, second: Tensor) -> Function:
    return lambda x: F.conv2d(F.relu(F.conv2d(F.relu(x), first, padding=1)), second, padding=1)


def _directions(generator: Generator) -> Cases:
    for branch, x in _branches(generator):
        yield branch, x, 3 * normal(generator, *x.shape)


def _quality(answer: Callable[..., Tensor], branch: Function, x: Tensor) -> dict[str, float]:
    v = answer(branch, x)
    return {"length": float(v.norm()), "stretch": stretch(branch, x, v.reshape(x.shape))}


def _singular(branch: Function, x: Tensor, *, identity: bool = True, side: int = 2, index: int = -1) -> Tensor:
    jacobian = torch.autograd.functional.jacobian(branch, x).reshape(x.numel(), x.numel())
    parts = torch.linalg.svd(jacobian + torch.eye(x.numel(), dtype=x.dtype) if identity else jacobian)
    return (parts[2][index] if side == 2 else parts[0][:, index]).reshape(x.shape)


def _column(branch: Function, x: Tensor) -> Tensor:
    jacobian = torch.autograd.functional.jacobian(branch, x).reshape(x.numel(), x.numel())
    return torch.linalg.svd(jacobian + torch.eye(x.numel(), dtype=x.dtype))[2][:, -1].reshape(x.shape)


def _pulled(branch: Function, x: Tensor, v: Tensor) -> float:
    _, back = torch.autograd.functional.vjp(branch, x, v)
    return float((v + back).norm() / v.norm())


TASK = Task(
    "1.6",
    [
        Part(
            stretch,
            points=4,
            cases=_directions,
            mistakes={
                "branch-only": lambda branch, x, v: float(
                    torch.autograd.functional.jvp(branch, x, v)[1].norm() / v.norm()
                ),
                "backwards": _pulled,
                "not-divided": lambda branch, x, v: stretch(branch, x, v) * float(v.norm()),
                "a-finite-step": lambda branch, x, v: float((v + branch(x + v) - branch(x)).norm() / v.norm()),
            },
        ),
        Part(
            most_shrunk,
            points=8,
            cases=_branches,
            mistakes={
                "most-stretched": lambda branch, x: _singular(branch, x, index=0),
                "left-not-right": lambda branch, x: _singular(branch, x, side=0),
                "identity-forgotten": lambda branch, x: _singular(branch, x, identity=False),
                "a-column-of-v-transposed": _column,
            },
            observe=_quality,
        ),
    ],
)
