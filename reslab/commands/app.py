"""The app that the commands belong to."""

from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from reslab import __version__

app = App(
    name="reslab",
    version=__version__,
    help="A laboratory for residual networks: build them, train them, and measure what is said about them.\n\n"
    "Start with `reslab study degradation`: it trains plain and residual networks on real digits in two to three "
    "minutes.\n\n"
    "`--debug` after any command shows the traceback of an error.",
    help_format="markdown",
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main says what was kept
)

Flag = Annotated[bool, Parameter(negative=())]
Seed = Annotated[int, Parameter(validator=Number(gte=0, lt=2**63))]
"""What torch's generators take."""
Threads = Annotated[int, Parameter(validator=Number(gte=1, lte=1024))]
"""Of threads or processes: more than a system starts end the process with no word of why."""
