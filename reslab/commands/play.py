"""`reslab play`: trained networks to play with, in the browser."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reslab.commands import printing, typed
from reslab.commands.app import Flag, app
from reslab.errors import worded

if TYPE_CHECKING:
    from torch import nn

    from reslab.report.playground import Images

NETWORKS = ("resnet20", "plain20", "resnet56", "plain56")
SMALL = NETWORKS[:2]
"""Networks that fit in a report."""


@app.command
def play(*, out: Path = Path("play.html"), open: Flag = False) -> None:
    """Write one self-contained HTML page, Korean and English, in which trained networks run: draw a digit, put gates on
    blocks, and see what each block does and how the error changes.

    Parameters
    ----------
    out
        The page to write.
    open
        Open the page in the browser.
    """
    import webbrowser

    from reslab.report.playground import write_playground

    typed.check_page(out, "play.html")
    page = write_playground(*shipped(), out)
    print(page)
    if open and not webbrowser.open(page.resolve().as_uri()):
        printing.note(worded("no-browser", page=page))


def shipped(names: Sequence[str] = NETWORKS) -> "tuple[dict[str, nn.Module], Images]":
    """Return bundled networks trained on digits, and the digits' test images."""
    from torch import Tensor

    from reslab.data import load_data
    from reslab.networks import zoo
    from reslab.report.playground import Images

    digits = load_data("digits")
    test = digits.part("test")
    assert isinstance(test.images, Tensor)
    (mean,), (deviation,) = digits.statistics.mean, digits.statistics.std
    networks = {name: zoo.build(name, weights="digits").eval() for name in names}
    return networks, Images(test.images, test.labels, int(digits.unit), mean, deviation)
