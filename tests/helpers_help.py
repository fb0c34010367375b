"""The help of every command as one text per language, which tests/help.txt and tests/help.ko.txt keep: `python
tests/helpers_help.py` writes them anew.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from cyclopts import App
from rich.console import Console

from reslab.cli import app
from reslab.errors import Language

SNAPSHOTS: dict[Language, Path] = {
    "en": Path(__file__).with_name("help.txt"),
    "ko": Path(__file__).with_name("help.ko.txt"),
}


def help_of_all(language: Language) -> str:
    """Return the help of the program, its commands and theirs, a hundred columns wide and without colours."""
    helps = ((typed, _help(typed, language)) for typed in commands(app))
    return "\n".join(f"$ {' '.join(['reslab', *typed, '--help'])}\n{text}" for typed, text in helps)


def words(text: str) -> list[str]:
    """Return the words of a help: where its lines break and what its boxes look like are of the libraries' versions."""
    return [word for word in text.split() if any(letter.isalnum() or letter in "<>" for letter in word)]


def commands(parent: App, *typed: str) -> Iterator[tuple[str, ...]]:
    """Yield what is typed for a command, for those in it, and so on."""
    yield typed
    for name in sorted(name for name in parent if not name.startswith("-")):
        yield from commands(parent[name], *typed, name)


def _help(typed: tuple[str, ...], language: Language) -> str:
    out = io.StringIO()
    with patch.dict(os.environ, LC_ALL={"en": "C.UTF-8", "ko": "ko_KR.UTF-8"}[language]):
        app.help_print(list(typed), console=Console(file=out, width=100, color_system=None))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


if __name__ == "__main__":
    for language, snapshot in SNAPSHOTS.items():
        snapshot.write_text(help_of_all(language), encoding="utf-8", newline="\n")
