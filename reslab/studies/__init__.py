"""Studies: one question a file, with its claims, its grid of trials and its measurement."""

import pkgutil
from importlib import import_module

from reslab.errors import UserError, suggest
from reslab.studies.study import Study

__all__ = ["find", "names"]

_MACHINERY = {"costs", "descent", "laws", "reuse", "speedrun", "study", "variants"}


def names() -> list[str]:
    """Return the names of the studies."""
    return [info.name for info in pkgutil.iter_modules(__path__) if info.name not in _MACHINERY]


def find(name: str) -> Study:
    """Return the study of this name.

    Raises:
        UserError: if there is none; the message suggests the nearest.
    """
    if name not in names():
        raise UserError(f"no study {name!r}{suggest(name, names())}")
    study: Study = import_module(f"reslab.studies.{name}").STUDY
    return study
