"""The tasks, one a file: the reference solution, how inputs are drawn, and the classic mistakes as code; `TASK` says
what it is worth.
"""

import pkgutil
from importlib import import_module

from reslab.exercises.grading import Task


def names() -> list[str]:
    """Return the ids of all tasks, in order."""
    return sorted(info.name.removeprefix("task_").replace("_", ".") for info in pkgutil.iter_modules(__path__))


def find(name: str) -> Task:
    """Return the task of this id, such as 1.3."""
    task: Task = import_module(f"{__name__}.task_{name.replace('.', '_')}").TASK
    return task
