"""The reference solutions of all tasks under the names of a learner's file, each loaded when it is first asked for: a
teacher's hidden tests must pass with this module.
"""

from typing import Any

from reslab.exercises import sheets
from reslab.exercises.tasks import find

_TASKS = {
    function: task.id
    for number in sheets.SHEETS
    for task in sheets.read(number, "en").tasks.values()
    for function in task.functions
}


def __getattr__(name: str) -> Any:
    """Return the solution of this name."""
    if name not in _TASKS:
        raise AttributeError(f"no task asks for a function {name!r}")
    return next(part.right for part in find(_TASKS[name]).parts if part.name == name)
