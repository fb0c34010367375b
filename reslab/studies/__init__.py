"""Studies: one question per file, with its claims, its grid of trials and its measurement."""

import pkgutil
from functools import cache
from importlib import import_module

from reslab.errors import UnknownNameError, suggested, worded
from reslab.experiment.study import Study

__all__ = ["find", "names"]


@cache
def _studies() -> dict[str, Study]:
    """Return every study of this package by its name: a module with `STUDY`."""
    modules = {info.name: import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)}
    return {name: module.STUDY for name, module in modules.items() if hasattr(module, "STUDY")}


def names() -> list[str]:
    """Return the names of the studies, as `reslab study` takes them."""
    return list(_studies())


def find(name: str) -> Study:
    """Return the study of this name.

    Raises:
        UserError: if there is none; the message suggests the nearest.
    """
    if name not in _studies():
        raise UnknownNameError(*worded("no-study", name=name, near=suggested(name, _studies())))
    return _studies()[name]
