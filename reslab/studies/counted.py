"""Exact claims that each stand above the function that counts, so that a claim and its check are in one view."""

from collections.abc import Callable
from typing import Any, TypeVar

from reslab.progress import each
from reslab.studies.text import Spec, exact
from reslab.studies.trials import Exactly, Trials

Found = TypeVar("Found")


class Counted:
    """A study's exact claims, in the order in which their functions are defined."""

    def __init__(self) -> None:
        self.specs: dict[str, Spec] = {}
        self._functions: dict[str, tuple[Callable[[], Any], Any]] = {}

    def claim(self, expected: Found, **where: Any) -> Callable[[Callable[[], Found]], Callable[[], Found]]:
        """Make the function below an exact claim that it returns what is expected; `where` is as for `exact`.

        The claim's key is the function's name, with hyphens: `basic_block` counts for "basic-block". What the function
        returns is kept (`reslab.studies.kept`), so it is plain, and annotated.
        """

        def add(function: Callable[[], Found]) -> Callable[[], Found]:
            key = function.__name__.replace("_", "-")
            self.specs[key] = exact(**where)
            self._functions[key] = function, expected
            return function

        return add

    def measured(self, trials: Trials) -> dict[str, Exactly]:
        """Return what each function counts, beside what it has to be."""
        return {
            key: Exactly(trials.measured(function), expected)
            for key, (function, expected) in each(self._functions.items(), "counting", trials.progress)
        }
