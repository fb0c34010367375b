"""Analyses of residual networks: one question a file, each a function that returns a dataclass and leaves the network
as it found it.

`reslab analyze` finds them by their decorator, `@analysis("paths", "the gradient by path length, exactly", images=32,
trained=True)`, which is read here and not run, so that to list them loads no torch.
"""

import ast
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Analysis", "analyses"]


class Analysis(NamedTuple):
    """An analysis of `reslab analyze`: where it is, and what its decorator says of it."""

    module: str
    function: str
    name: str
    says: str
    images: int | None = None  # how many it takes unless told otherwise; None: the whole part
    trained: bool = False  # whether it asks what training made; the others ask how a network starts, or starts to learn
    summary: tuple[str, ...] = ()  # what its result says beside its table
    alias: str | None = None

    def load(self) -> Any:
        """Return the function."""
        return getattr(import_module(self.module), self.function)


@cache
def analyses() -> dict[str, Analysis]:
    """Return the analyses of this package by the names that they can be called by."""
    found = [each for path in sorted(Path(__file__).parent.glob("*.py")) for each in _declared(path)]
    return {name: each for each in found for name in (each.name, each.alias) if name is not None}


def _declared(path: Path) -> Iterator[Analysis]:
    """Yield what the decorators in a file say, in its order."""
    functions = (statement for statement in ast.parse(path.read_bytes()).body if isinstance(statement, ast.FunctionDef))
    for function in functions:
        for decorator in function.decorator_list:
            if (
                isinstance(decorator, ast.Call)
                and isinstance(decorator.func, ast.Name)
                and decorator.func.id == "analysis"
            ):
                said = {keyword.arg: ast.literal_eval(keyword.value) for keyword in decorator.keywords if keyword.arg}
                yield Analysis(f"{__name__}.{path.stem}", function.name, *map(ast.literal_eval, decorator.args), **said)
