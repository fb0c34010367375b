"""Task 1.1: the residual, and the gradient of y = F(x) + x."""

from collections.abc import Callable
from typing import Any

from torch import Generator, Tensor

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, Function, curved, normal
from reslab.exercises.likeness import OfAnotherKind


# the solution
def branch_target(h: Function) -> Function:
    """Return the branch F for which F(x) + x is h(x)."""
    return lambda x: h(x) - x


def input_gradient(jacobian: Tensor, g: Tensor) -> Tensor:
    """Return the gradient at x `[n]` of y = F(x) + x, given J_F `[n, n]` and the gradient g at y `[n]`."""
    return g + jacobian.T @ g


# how it is judged


def _at(answer: Callable[..., Any], h: Function, x: Tensor) -> Any:
    branch = answer(h)
    return branch(x) if callable(branch) else OfAnotherKind("function", branch)


def _targets(generator: Generator) -> Cases:
    for size in (2, 3, 5):
        yield curved(generator, size, size), normal(generator, size)


def _residuals(generator: Generator) -> Cases:
    for size in (2, 3, 6):
        yield normal(generator, size, size), normal(generator, size)


TASK = Task(
    "1.1",
    [
        Part(
            branch_target,
            points=3,
            cases=_targets,
            mistakes={
                "sign": lambda h: lambda x: x - h(x),
                "the-target-itself": lambda h: h,
                "the-sum": lambda h: lambda x: h(x) + x,
            },
            observe=_at,
        ),
        Part(
            input_gradient,
            points=7,
            cases=_residuals,
            mistakes={
                "no-skip": lambda jacobian, g: jacobian.T @ g,
                "ones-not-identity": lambda jacobian, g: (jacobian + 1).T @ g,
                "not-transposed": lambda jacobian, g: g + jacobian @ g,
            },
        ),
    ],
)
