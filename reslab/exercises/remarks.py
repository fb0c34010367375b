"""Remarks on what a student handed in, in the language of whoever reads them."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from reslab.errors import Language


@dataclass(frozen=True)
class Remark:
    """A text of remarks.toml by its name, with the values that are filled in, and the file that it is about."""

    name: str
    values: tuple[tuple[str, object], ...] = ()
    file: str = ""

    def text(self, language: Language) -> str:
        """Return the remark in a language."""
        said = _texts()[self.name][language].format(**dict(self.values))
        return f"{self.file}: {said}" if self.file else said


def remark(name: str, file: str = "", **values: object) -> Remark:
    """Return a remark."""
    return Remark(name, tuple(values.items()), file)


@cache
def _texts() -> Mapping[str, Mapping[Language, str]]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
