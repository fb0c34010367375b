"""Exact claims as decorators of the functions that count, so that a claim and its check are side by side."""

from collections.abc import Callable
from typing import Any, TypeVar

from reslab.experiment.text import Spec, exact
from reslab.experiment.trials import Exactly, Trials
from reslab.ledger.claim import Section
from reslab.progress import each

Function = TypeVar("Function", bound=Callable[[], Any])


class Counted:
    """A study's exact claims, in the order in which their functions are defined."""

    def __init__(self) -> None:
        self.specs: dict[str, Spec] = {}
        self._functions: dict[str, tuple[Callable[[], Any], Any]] = {}

    def claim(self, expected: Any, section: Section | None = None, **where: Any) -> Callable[[Function], Function]:
        """Decorate a function as an exact claim: it must return the expected value, or the value of another function.

        The claim's key is the function's name with hyphens: `_basic_block` counts for "basic-block". The value is
        cached (`reslab.experiment.kept`), so it must be plain data with a type annotation. `where` is as for `exact`.
        """

        def add(function: Function) -> Function:
            key = function.__name__.strip("_").replace("_", "-")
            self.specs[key] = exact(section=section, **where)
            self._functions[key] = function, expected
            return function

        return add

    def measured(self, trials: Trials) -> dict[str, Exactly]:
        """Return the count and the expected value of each function."""
        return {
            key: Exactly(trials.measured(function), trials.measured(expected) if callable(expected) else expected)
            for key, (function, expected) in each(self._functions.items(), "counting", trials.progress)
        }
