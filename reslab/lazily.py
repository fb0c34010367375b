"""Packages that import their public names on first use. The stub `__init__.pyi`, which type checkers read, says where
from.
"""

import ast
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


class Lazy(ModuleType):
    """A package that imports its public names lazily; a submodule of the same name does not hide one."""

    homes: dict[str, str]
    __all__: list[str]

    def __getattr__(self, name: str) -> Any:
        if name in self.homes:
            return getattr(import_module(self.homes[name]), name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted(self.__all__)

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in self.homes and isinstance(value, ModuleType)):  # as Python does on import
            super().__setattr__(name, value)


def public(package: str) -> None:
    """Make a package lazy: its public names are those that its stub imports."""
    module = sys.modules[package]
    stub = Path(module.__file__ or "").with_suffix(".pyi")
    imports = [each for each in ast.parse(stub.read_bytes()).body if isinstance(each, ast.ImportFrom)]
    homes = {alias.name: each.module or "" for each in imports for alias in each.names}
    vars(module).update(homes=homes, __all__=[*vars(module).get("__all__", ()), *sorted(homes)])
    module.__class__ = Lazy
