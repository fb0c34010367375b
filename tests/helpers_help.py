"""The help of every command as one text, which tests/help.txt keeps: `python tests/helpers_help.py` writes it anew."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from cyclopts import App
from rich.console import Console

from reslab.cli import app

SNAPSHOT = Path(__file__).parent / "help.txt"


def help_of_all() -> str:
    """Return the help of the program, its commands and theirs, a hundred columns wide and without colours."""
    return "\n".join(f"$ {' '.join(['reslab', *typed, '--help'])}\n{_help(typed)}" for typed in _commands(app))


def words(text: str) -> list[str]:
    """Return the words of a help: where its lines break and what its boxes look like are of the libraries' versions."""
    return [word for word in text.split() if any(letter.isalnum() or letter in "<>" for letter in word)]


def _commands(parent: App, *typed: str) -> Iterator[tuple[str, ...]]:
    yield typed
    for name in sorted(name for name in parent if not name.startswith("-")):
        yield from _commands(parent[name], *typed, name)


def _help(typed: tuple[str, ...]) -> str:
    out = io.StringIO()
    with patch.dict(os.environ, LC_ALL="C.UTF-8"):  # the snapshot is in English, whatever the system speaks
        app.help_print(list(typed), console=Console(file=out, width=100, color_system=None))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


if __name__ == "__main__":
    SNAPSHOT.write_text(help_of_all(), encoding="utf-8", newline="\n")
