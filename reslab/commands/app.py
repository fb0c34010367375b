"""The app that the commands belong to."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from reslab import __version__


class Lab(App):
    """An app whose help for a command can depend on the argument that was typed."""

    def help_print(self, tokens: Any = None, *, console: Any = None) -> None:
        """Print the help of a command, and of its argument where `MORE` has any."""
        super().help_print(tokens, console=console)
        match tokens:
            case [command, argument, *_] if command in MORE:
                (console or self.console).print(MORE[command](argument), markup=False, highlight=False, soft_wrap=True)


MORE: dict[str, Callable[[str], str]] = {}
"""By a command's name, what its help adds for an argument."""

app = Lab(
    name="reslab",
    version=__version__,
    help="A laboratory for residual networks: build them, train them, look inside them, and test what is said about "
    "them.\n\n"
    "Start with `reslab study degradation`: it trains plain and residual networks on real digits in two to three "
    "minutes.\n\n"
    "`--debug` after any command shows the traceback of an error.",
    help_format="markdown",
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main says what was kept
)

Flag = Annotated[bool, Parameter(negative=())]
Log = Literal["csv", "tensorboard", "wandb", "trackio"]
"""Tools that metrics can be written for."""
Seed = Annotated[int, Parameter(validator=Number(gte=0, lt=2**63))]
"""What torch's generators take."""
Threads = Annotated[int, Parameter(validator=Number(gte=1, lte=1024))]
"""Threads or processes. Capped, because exceeding the system's limit kills the process without a message."""
