"""Progress: how it is reported, and how it is shown."""

import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")


class Progress(Protocol):
    """Called with a key for the task, how much of it is done, how much there is, and a text to show (by default the
    key).
    """

    def __call__(self, what: str, done: int, total: int, said: str = "", /) -> object:
        """Take note."""


def silent(what: str, done: int, total: int, said: str = "", /) -> None:
    """Show nothing."""


def each(items: Collection[T], what: str, progress: Progress) -> Iterator[T]:
    """Yield the items, and report before each, and at the end, how many are done."""
    for done, item in enumerate(items):
        progress(what, done, len(items))
        yield item
    progress(what, len(items), len(items))


@contextmanager
def display(quiet: bool = False) -> Iterator[Progress]:
    """Give a progress display on standard error: a bar per task on a terminal, occasional lines elsewhere, nothing if
    `quiet`.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield silent
    elif in_notebook():
        with _cell() as show:
            yield show
    elif console.is_terminal:
        with _bars(console) as show:
            yield show
    else:
        yield _lines()


@contextmanager
def shown(progress: Progress | None) -> Iterator[Progress]:
    """Give the progress display of a function: the caller's, or else bars in a notebook or a terminal and nothing
    elsewhere.
    """
    if progress is not None:
        yield progress
        return
    with display(quiet=not (in_notebook() or sys.stderr.isatty())) as show:
        yield show


def in_notebook() -> bool:
    """Return whether this is a notebook's kernel, which displays HTML."""
    python = sys.modules.get("IPython")
    shell = type(python.get_ipython()) if python is not None else object
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in shell.__mro__)  # Colab's is a subclass


CELL_SECONDS = 0.2
"""Seconds between two updates of the bars in a notebook."""


@contextmanager
def _cell() -> Iterator[Progress]:
    """Give a notebook's display: a bar per task, in one output that is updated in place and stays at the end."""
    from IPython.display import HTML, display

    bars: dict[str, str] = {}
    handles: list[Any] = []
    last = 0.0

    def draw() -> None:
        page = HTML("<br>".join(bars.values()))
        if handles:
            handles[0].update(page)
        else:
            handles.append(display(page, display_id=True))

    def show(what: str, done: int, total: int, said: str = "", /) -> None:
        nonlocal last
        bars[what] = f"<progress value={done} max={max(total, 1)}></progress> {done:,}/{total:,} {escape(said or what)}"
        if not handles or time.monotonic() - last >= CELL_SECONDS:
            last = time.monotonic()
            draw()

    try:
        yield show
    finally:
        if handles:
            draw()


@contextmanager
def _bars(console: "Console") -> Iterator[Progress]:
    """Give rich's progress display: what is said, a bar, how many of how many, and the time. It starts with the first
    bar.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    tasks: dict[str, Any] = {}

    def show(what: str, done: int, total: int, said: str = "", /) -> None:
        if what not in tasks:
            bars.start()
            tasks[what] = bars.add_task(what)
        bars.update(tasks[what], completed=done, total=total, description=said or what)

    try:
        yield show
    finally:
        if bars.live.is_started:  # to stop one that did not start would print an empty line
            bars.stop()


LINE_SECONDS = 10.0
"""Seconds between two lines of progress without a terminal; in long runs, a hundredth of the time so far."""


def _lines() -> Progress:
    """Return a display that prints occasional lines, and none for short tasks."""
    start = last = time.monotonic()

    def show(what: str, done: int, total: int, said: str = "", /) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= max(LINE_SECONDS, (now - start) / 100):
            print(
                f"{(said or what).replace(chr(10), ', ')} {done:,}/{total:,} {clock(now - start)}",
                file=sys.stderr,
                flush=True,
            )
            last = now

    return show


def clock(seconds: float) -> str:
    """Return a time as `0:09`, `12:05`, `27:00:00`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def short(value: Any) -> str:
    """Return a value as a table shows it: numbers with four digits, and with two where they need an exponent."""
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.4g}"
    return f"{value:.1e}" if "e" in text else text
