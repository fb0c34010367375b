"""Task 1.6: a direction that a block shrinks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, Function, normal
from reslab.exercises.likeness import OfAnotherKind, as_tensor


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


def _quality(answer: Callable[..., Tensor], branch: Function, x: Tensor) -> dict[str, Any] | OfAnotherKind:
    v = as_tensor(answer(branch, x))
    if not isinstance(v, Tensor):
        return OfAnotherKind("torch.Tensor", v)
    unit = abs(float(v.norm()) - 1) < 1e-5
    return {"shape": tuple(v.shape), "of length 1": unit, "stretch": stretch(branch, x, v.to(x).reshape(x.shape))}


def _singular(
    branch: Function,
    x: Tensor,
    *,
    identity: bool = True,
    left: bool = False,
    largest: bool = False,
    column: bool = False,
    length: float = 1,
    flat: bool = False,
) -> Tensor:
    """The direction with a way to go wrong for every option."""
    jacobian = torch.autograd.functional.jacobian(branch, x).reshape(x.numel(), x.numel())
    u, _, right = torch.linalg.svd(jacobian + torch.eye(x.numel(), dtype=x.dtype) if identity else jacobian)
    rows = u.T if left else right.T if column else right
    v = length * rows[0 if largest else -1]
    return v if flat else v.reshape(x.shape)


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
                "most-stretched": partial(_singular, largest=True),
                "left-not-right": partial(_singular, left=True),
                "identity-forgotten": partial(_singular, identity=False),
                "a-column-of-v-transposed": partial(_singular, column=True),
                "not-of-length-1": partial(_singular, length=2),
                "flat": partial(_singular, flat=True),
            },
            observe=_quality,
        ),
    ],
    loads=("torch.fx.experimental.symbolic_shapes",),  # which autograd.functional imports
)
