"""The tasks, one per file: the reference solution, how inputs are drawn, and the classic mistakes as code; `TASK` says
what it is worth.
"""

import inspect
import pkgutil
from importlib import import_module
from typing import Any

import torch

from reslab.exercises.grading import Task


def names() -> list[str]:
    """Return the ids of all tasks, in order."""
    found = [info.name.removeprefix("task_").split("_") for info in pkgutil.iter_modules(__path__)]
    return [".".join(numbers) for numbers in sorted(found, key=lambda numbers: [int(number) for number in numbers])]


def find(name: str) -> Task:
    """Return the task of this id, such as 1.3."""
    task: Task = import_module(f"{__name__}.task_{name.replace('.', '_')}").TASK
    return task


def drawn(name: str, function: str, *, seed: int, case: int) -> tuple[Any, ...]:
    """Return the arguments with which a task's function is tried: those of one case of a seed."""
    part = next(part for part in find(name).parts if part.name == function)
    arguments = list(part.cases(torch.Generator().manual_seed(seed)))[case]
    return arguments[: len(inspect.signature(part.right).parameters)]
