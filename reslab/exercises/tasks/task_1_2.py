"""Task 1.2: the Jacobian by central differences."""

import torch
from torch import Generator, Tensor

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, Function, curved, normal


# the solution
def numerical_jacobian(function: Function, x: Tensor, step: float) -> Tensor:
    """Return J `[outputs, inputs]` of a function of `[inputs]` at x, by central differences."""
    columns = []
    for index in range(len(x)):
        moved = torch.zeros_like(x)
        moved[index] = step
        columns.append((function(x + moved) - function(x - moved)) / (2 * step))
    return torch.stack(columns, dim=1)


# how it is judged


def _functions(generator: Generator) -> Cases:
    for inputs, outputs in ((3, 2), (2, 4), (4, 4)):
        yield curved(generator, inputs, outputs), normal(generator, inputs), 0.05


def _differences(function: Function, x: Tensor, step: float, ahead: float, behind: float, width: float) -> Tensor:
    moves = step * torch.eye(len(x), dtype=x.dtype)
    return torch.stack([(function(x + ahead * move) - function(x - behind * move)) / width for move in moves], dim=1)


TASK = Task(
    "1.2",
    [
        Part(
            numerical_jacobian,
            points=10,
            cases=_functions,
            mistakes={
                "one-sided": lambda f, x, step: _differences(f, x, step, 1, 0, step),
                "transposed": lambda f, x, step: _differences(f, x, step, 1, 1, 2 * step).T.contiguous(),
                "not-halved": lambda f, x, step: _differences(f, x, step, 1, 1, step),
            },
            tolerance=1e-8,
        )
    ],
)
