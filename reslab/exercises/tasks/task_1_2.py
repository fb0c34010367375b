"""Task 1.2: the Jacobian by central differences."""

from functools import partial

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


def _differences(
    function: Function,
    x: Tensor,
    step: float,
    *,
    behind: bool = True,
    halved: bool = True,
    transposed: bool = False,
    autograd: bool = False,
) -> Tensor:
    """The Jacobian with a way to go wrong for every option."""
    if autograd:
        jacobian: Tensor = torch.autograd.functional.jacobian(function, x)
        return jacobian.T.contiguous() if transposed else jacobian
    moves = step * torch.eye(len(x), dtype=x.dtype)
    width = 2 * step if behind and halved else step
    columns = [(function(x + move) - function(x - behind * move)) / width for move in moves]
    return torch.stack(columns, dim=0 if transposed else 1)


TASK = Task(
    "1.2",
    [
        Part(
            numerical_jacobian,
            points=10,
            cases=_functions,
            mistakes={
                "one-sided": partial(_differences, behind=False),
                "transposed": partial(_differences, transposed=True),
                "not-halved": partial(_differences, halved=False),
                "autograd": partial(_differences, autograd=True),
            },
        )
    ],
)
