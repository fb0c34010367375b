"""The app that the commands belong to."""

import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from reslab import __version__
from reslab.commands.typed import asked_in


class Lab(App):
    """An app whose help for a command can depend on its argument and on the language."""

    def help_print(self, tokens: Any = None, *, console: Any = None) -> None:
        """Print the help of a command, in Korean if asked for and in `KOREAN`, and of its argument if `MORE` has
        any.
        """
        match tokens:
            case [command, *_] if command in KOREAN and asked_in(tokens) == "ko":
                with _reworded(self[command], KOREAN[command]):
                    super().help_print(tokens, console=console)
            case _:
                super().help_print(tokens, console=console)
        match tokens:
            case [command, argument, *_] if command in MORE:
                (console or self.console).print(MORE[command](argument), markup=False, highlight=False, soft_wrap=True)


MORE: dict[str, Callable[[str], str]] = {}
"""Additional help for an argument, by the command's name."""

KOREAN: dict[str, Path] = {}
"""The file with Korean help, by the name of a group of commands."""


@contextmanager
def _reworded(group: App, file: Path) -> Iterator[None]:
    """Replace the docstrings of a group of commands, which cyclopts prints as help, by a file's texts inside this
    context.
    """
    words = tomllib.loads(file.read_text(encoding="utf-8"))
    functions = {name: group[name].default_command for name in group if not name.startswith("-")}
    before = group.help, {name: function.__doc__ for name, function in functions.items()}
    try:
        group.help = words[group.name[0]]
        for name, function in functions.items():
            function.__doc__ = words[name]
        yield
    finally:
        group.help, docstrings = before
        for name, function in functions.items():
            function.__doc__ = docstrings[name]


app = Lab(
    name="reslab",
    version=__version__,
    help="A laboratory for residual networks: build them, train them, look inside them, and test claims about "
    "them.\n\n"
    "Start with `reslab study degradation`: it trains plain and residual networks on real digits in two to three "
    "minutes.\n\n"
    "`--debug` after any command shows the traceback of an error.",
    help_format="markdown",
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main reports what was kept
)

Flag = Annotated[bool, Parameter(negative=())]
Log = Literal["csv", "tensorboard", "wandb", "trackio"]
"""Tools that metrics can be logged to."""
Seed = Annotated[int, Parameter(validator=Number(gte=0, lt=2**63))]
"""The range of torch's seeds."""
Threads = Annotated[int, Parameter(validator=Number(gte=1, lte=1024))]
"""Threads or processes. Capped, because exceeding the system's limit kills the process without a message."""
