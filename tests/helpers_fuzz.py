"""What every fuzzing test demands of the command line, and how many inputs it tries."""

import contextlib
import os
import signal
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from helpers import reslab_here
from hypothesis import HealthCheck, settings

from reslab.errors import UserError

SECONDS = 20
"""What an input may take on a busy machine before it counts as a hang; nearly all take milliseconds."""


class Hang(BaseException):
    """Not an Exception, so that nothing takes it for an error of its own."""


def sizes(fast: int, slow: int) -> pytest.MarkDecorator:
    """Run a test with a few inputs, the same every time, and with many, others every time."""
    return pytest.mark.parametrize("inputs", [fuzz(fast, True), pytest.param(fuzz(slow, False), marks=pytest.mark.slow)], ids=[str(fast), str(slow)])


def fuzz(examples: int, same: bool) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]  # a busy machine; large inputs are meant
    return settings(max_examples=examples, derandomize=same, database=None, suppress_health_check=checks)


@contextlib.contextmanager
def watchdog(seconds: float = SECONDS) -> Iterator[None]:
    """Raise `Hang` in what takes longer, where the platform can interrupt it."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def bark(number: int, frame: FrameType | None) -> None:
        raise Hang(f"still busy after {seconds} s")

    before = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def elsewhere() -> Iterator[Path]:
    """Work in a new directory, several levels deep so that `..` stays in what is removed afterwards."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        deep = Path(place, "a", "b", "c", "d")
        deep.mkdir(parents=True)
        os.chdir(deep)
        try:
            yield deep
        finally:
            os.chdir(home)


def told(*words: str | Path) -> int:
    """Run the command line, and see that it answers, or says what was wrong in one line; return the exit code."""
    with watchdog(), warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "400")  # so that a progress bar is seen to be one
        warnings.simplefilter("ignore")  # a user sees them; here they would be errors
        done: Any = reslab_here(*words)
    assert done.returncode in (0, 1, 2), done
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if "━" not in line]  # progress bars, which a terminal redraws in place
    if done.returncode == 2:
        assert len(lines) == 1 and lines[0].startswith("reslab: ") and len(lines[0]) > len("reslab: "), done.stderr
    return int(done.returncode)


def enough(*_: object, **__: object) -> Any:
    """Stand in for what would be work."""
    raise UserError("that would be work")
