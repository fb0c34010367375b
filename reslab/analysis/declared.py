"""The list of analyses. `reslab analyze` finds them by their decorator, `@analysis("paths", "the gradient by path
length, exactly", needs=("chain",), images=32, trained=True)`. It is parsed here and not executed, so that listing
analyses does not import torch.
"""

import ast
import tomllib
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Analysis", "analyses"]

NEEDS = {
    "blocks": "blocks of any kind",
    "no dense layers": "blocks that are not dense layers",
    "sums": "residual blocks that are plain sums",
    "chain": "a chain of residual blocks",
    "convolutions": "convolutions",
    "two images": "two floating-point images",
    "logits": "logits [B, classes]",
}
"""What an analysis can require of a network and its input, in words."""
BESIDE = {"loss": "labels and logits [B, classes], or another loss and its targets", "labels": "labels"}
"""What follows from the parameters of an analysis, likewise."""

OUTPUT = """
        output: which of the network's outputs is meant, by its name or place, where it gives several."""


def needs_of(needs: Collection[str], parameters: Collection[str]) -> str:
    """Return in one line what an analysis with these parameters requires."""
    if "network" not in parameters:
        return "Needs nothing."
    words = NEEDS | BESIDE
    return f"Needs {'; '.join(words[need] for need in _all_of(needs, parameters))}."


def _all_of(needs: Collection[str], parameters: Collection[str]) -> list[str]:
    """Return the keys of what is declared to be needed, and of what follows from the parameters."""
    if "loss" in parameters and "logits" not in needs:
        return [*needs, "loss"]
    return [*needs, "labels"] if "labels" in parameters else [*needs]


def with_needs(doc: str, needs: Collection[str], parameters: Collection[str]) -> str:
    """Return a function's docstring with what it needs after its first paragraph, and `output` among its arguments."""
    first, rest = (*doc.rstrip().split("\n\n", 1), "")[:2]
    if "network" in parameters:
        rest = rest.replace("\n\n    Examples:", f"{OUTPUT}\n\n    Examples:", 1)
    return f"{first}\n\n    {needs_of(needs, parameters)}\n\n{rest}".rstrip() + "\n    "


class Analysis(NamedTuple):
    """An analysis of `reslab analyze`: its module and function, and the facts in its decorator."""

    module: str
    function: str
    name: str
    says: str
    parameters: tuple[str, ...]  # the function's
    needs: tuple[str, ...] = ()  # keys of `NEEDS`; whether it needs labels follows from its parameters
    images: int | None = None  # the default number; None means the whole part
    trained: bool = False  # whether it is about trained networks; the others are about initialisation or early training
    summary: tuple[str, ...] = ()  # figures of the result that are shown beside its table
    alias: str | None = None

    @property
    def needed(self) -> str:
        """Return in one line what it needs."""
        return needs_of(self.needs, self.parameters)

    def in_korean(self) -> tuple[str, str]:
        """Return in Korean what it shows, and what it needs."""
        words = _korean()
        needed = [words["needs"][need] for need in _all_of(self.needs, self.parameters)]
        return words["shows"].get(self.name, self.says), ", ".join(needed) or "없음"

    def load(self) -> Any:
        """Return the function."""
        return getattr(import_module(self.module), self.function)


@cache
def analyses() -> dict[str, Analysis]:
    """Return the analyses of this package by the names that they can be called by."""
    found = [each for path in sorted(Path(__file__).parent.glob("*.py")) for each in _declared(path)]
    return {name: each for each in found for name in (each.name, each.alias) if name is not None}


@cache
def _korean() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def _declared(path: Path) -> Iterator[Analysis]:
    """Yield the analyses that a file declares, in order."""
    functions = (statement for statement in ast.parse(path.read_bytes()).body if isinstance(statement, ast.FunctionDef))
    for function in functions:
        for decorator in function.decorator_list:
            if (
                isinstance(decorator, ast.Call)
                and isinstance(decorator.func, ast.Name)
                and decorator.func.id == "analysis"
            ):
                said = {keyword.arg: ast.literal_eval(keyword.value) for keyword in decorator.keywords if keyword.arg}
                name, says = map(ast.literal_eval, decorator.args)
                parameters = tuple(each.arg for each in (*function.args.args, *function.args.kwonlyargs))
                yield Analysis(f"{__package__}.{path.stem}", function.name, name, says, parameters, **said)
