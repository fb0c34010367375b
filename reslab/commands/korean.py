"""Help in Korean. The text of a command, and of its own commands, is in NAME.toml beside NAME.py, in the form of its
docstring, which is the English. The program's own is in app.toml, with the words that frame every help.
"""

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

if TYPE_CHECKING:
    from cyclopts.help import ColumnSpec, HelpEntry, HelpPanel, InlineText
    from rich.console import Console, ConsoleOptions

COMPLETED: dict[str, Callable[[str], str]] = {}
"""What a command does to its Korean text before it is shown, by the command's name."""


@contextmanager
def in_korean(program: App) -> Iterator[None]:
    """Make a program print its help in Korean inside this context; what has no Korean stays English."""
    with ExitStack() as stack:
        stack.enter_context(_replaced(program, "help_formatter", Frame()))
        for command, text in translated(program):
            function = command.default_command
            owner, name = (function, "__doc__") if isfunction(function) else (command, "help")
            stack.enter_context(_replaced(owner, name, text))
        yield


def translated(program: App) -> Iterator[tuple[App, str]]:
    """Yield a program, its commands and theirs, each with its Korean text."""
    own = texts("app")
    yield program, own["reslab"]
    for name in program:
        command, known = program[name], own if name in own else texts(name)
        complete = COMPLETED.get(name, str)
        yield from ((each, complete(known[word])) for word, each in _with_its_own(name, command) if word in known)


@cache
def texts(command: str) -> Mapping[str, Any]:
    """Return a command's file, which is empty if there is none."""
    file = Path(__file__).with_name(f"{command}.toml")
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _with_its_own(name: str, command: App) -> Iterator[tuple[str, App]]:
    yield name, command
    yield from ((each, command[each]) for each in command)


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class Frame:
    """A formatter whose own words are Korean, where those of cyclopts are English."""

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """Print a box of commands or parameters."""
        from cyclopts.help import DefaultFormatter

        columns = _columns if panel.format == "parameter" else None
        title = texts("app")["words"][panel.title]
        DefaultFormatter(column_specs=columns)(console, options, panel.copy(title=title))

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: object) -> None:
        """Print the line that says how a command is called."""
        console.print(f"{texts('app')['words']['Usage']}: {usage}", style="bold", markup=False, highlight=False)


def _columns(console: "Console", options: "ConsoleOptions", entries: "Iterable[HelpEntry]") -> "tuple[ColumnSpec, ...]":
    """Return the usual columns of parameters, but for what follows a description."""
    from cyclopts.help.specs import get_default_parameter_columns

    *others, description = get_default_parameter_columns(console, options, list(entries))
    return (*others, description.copy(renderer=_described))


def _described(entry: "HelpEntry") -> "InlineText":
    """Return a parameter's description, and whether it is required, its choices and its default."""
    from rich.text import Text

    words = texts("app")["words"]
    description: InlineText = entry.description
    if entry.choices:
        description.append(Text(f"[{words['choices']}: {', '.join(entry.choices)}]", "cyclopts.choices"))
    if entry.default is not None:
        description.append(Text(f"[{words['default']}: {entry.default}]", "cyclopts.default"))
    if entry.required:
        description.append(Text(f"[{words['required']}]", "cyclopts.required"))
    return description
