"""Benchmarks: one per file, measured by its function `bench`."""

import pkgutil
from functools import cache
from importlib import import_module
from types import ModuleType

from reslab.errors import UnknownNameError, suggested, worded

__all__ = ["find"]


@cache
def _benchmarks() -> dict[str, ModuleType]:
    """Return the benchmarks, the modules of this package with `bench`, by name."""
    modules = {info.name: import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)}
    return {name: module for name, module in modules.items() if hasattr(module, "bench")}


def find(name: str) -> ModuleType:
    """Return the benchmark of this name.

    Raises:
        UserError: if there is none; the message suggests the nearest.
    """
    if name not in _benchmarks():
        raise UnknownNameError(*worded("no-benchmark", name=name, near=suggested(name, _benchmarks())))
    return _benchmarks()[name]
