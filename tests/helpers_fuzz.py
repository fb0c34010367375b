"""What every fuzzing test demands of the command line, how many inputs it tries, and what is made of files."""

import contextlib
import json
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
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from reslab.errors import UserError

SECONDS = 20
"""What an input may take on a busy machine before it counts as a hang; nearly all take milliseconds."""


class Hang(BaseException):
    """Not an Exception, so that nothing takes it for an error of its own."""


def sizes(fast: int, slow: int) -> pytest.MarkDecorator:
    """Run a test with a few inputs, the same every time, and with many, others every time."""
    return pytest.mark.parametrize(
        "inputs",
        [fuzz(fast, True), pytest.param(fuzz(slow, False), marks=pytest.mark.slow)],
        ids=[str(fast), str(slow)],
    )


def fuzz(examples: int, same: bool) -> settings:
    # a busy machine; large inputs are meant
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
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
    # progress bars, which a terminal redraws in place
    lines = [line for line in done.stderr.splitlines() if "━" not in line]
    if done.returncode == 2:
        assert len(lines) == 1 and lines[0].startswith("reslab: ") and len(lines[0]) > len("reslab: "), done.stderr
    return int(done.returncode)


def enough(*_: object, **__: object) -> Any:
    """Stand in for what would be work."""
    raise UserError("that would be work")


class Content(bytes):
    """A file's bytes, which Hypothesis need not print."""

    def __repr__(self) -> str:
        return f"{len(self):,} bytes {self[:40]!r}"


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(("digits", "../..", "\0", "<b>", "Infinity"))
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where in a JSON value there is something: keys and indices from the outside in."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    return [path, *(place for key, part in inner for place in places(part, (*path, key)))]


@st.composite
def wrong_shape(draw: DrawFn, value: Any) -> bytes:
    """Draw a JSON text of the value with one of its parts, at any depth, exchanged for another, or taken out."""
    value = json.loads(json.dumps(value))
    *outer, last = draw(st.sampled_from([place for place in places(value) if place]))
    holder = value
    for key in outer:
        holder = holder[key]
    if draw(st.booleans()) and isinstance(holder, dict):
        del holder[last]
    else:
        holder[last] = draw(JSON)
    return json.dumps(value).encode()


@st.composite
def damaged(draw: DrawFn, content: bytes) -> bytes:
    """Draw what a disk or a transfer makes of a file."""
    kind = draw(st.sampled_from(("cut", "flipped", "doubled", "zeros", "other")))
    if kind == "flipped":
        changed = bytearray(content)
        for _ in range(draw(st.integers(1, 4))):
            changed[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))
        return bytes(changed)
    at = draw(st.integers(0, len(content)))
    return {
        "cut": content[:at],
        "doubled": content[:at] + content,
        "zeros": content[:at] + bytes(len(content) - at),
        "other": b"",
    }[kind] or draw(
        st.binary(max_size=64)
        | st.just(b"\xff\xfe{\0}\0")
        | st.text(max_size=16).map(lambda text: text.encode("utf-16"))
    )
