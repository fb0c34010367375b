"""The app that the commands belong to."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from reslab import __version__
from reslab.commands.korean import in_korean
from reslab.commands.typed import asked_in
from reslab.errors import Language


class Lab(App):
    """An app whose help speaks the user's language, and can depend on a command's argument."""

    def help_print(self, tokens: Any = None, *, console: Any = None) -> None:
        """Print the help of a command, and of its argument if `MORE` has any."""
        language = asked_in(tokens or ())
        with in_korean(self) if language == "ko" else nullcontext():
            super().help_print(tokens, console=console)
        match tokens:
            case [command, argument, *_] if command in MORE and not argument.startswith("-"):
                more = MORE[command](argument, language)
                (console or self.console).print(more, markup=False, highlight=False, soft_wrap=True)


MORE: dict[str, Callable[[str, Language], str]] = {}
"""Additional help for an argument, by the command's name."""

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
