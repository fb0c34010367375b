"""The `reslab` command: parses the command line, runs the command, and prints errors in one line."""

import os
import pkgutil
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import cyclopts

from reslab import commands
from reslab.commands.app import app
from reslab.commands.typed import asked_in
from reslab.errors import UTF8, MissingError, WrongValueError, explained

__all__ = ["app", "main"]

for _info in pkgutil.iter_modules(commands.__path__):
    import_module(f"reslab.commands.{_info.name}")  # which registers the command


def main(typed: Sequence[str] | None = None) -> None:
    """Run the command line (`sys.argv` by default).

    Exit code 0 on success, 2 for a user's mistake, 1 if trials failed, 130 for Ctrl-C, 143 for SIGTERM.
    """
    words = list(sys.argv[1:] if typed is None else typed)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    # a Windows console may not be UTF-8; a character that it cannot show must not stop a run
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    told: list[int] = []
    try:
        _see_that_the_system_takes(words)
        with _stoppable(told), _noting():
            sys.exit(app(words, exit_on_error=False, print_error=False))
    except cyclopts.CycloptsError as error:
        _complain(str(error), debug, error)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("reslab"):
            raise
        _complain(
            f"this command needs {error.name}; install it with: pip install 'reslab[lab]', in reslab's environment",
            debug,
            error,
        )
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if (line := explained(error, asked_in(words))) is None:
            raise
        _complain(line, debug, error)
    except KeyboardInterrupt:
        print("\nstopped; finished work is kept, and the same command resumes from there", file=sys.stderr)
        sys.exit(128 + (signal.SIGTERM if told else signal.SIGINT))


@contextmanager
def _noting() -> Iterator[None]:
    """Print reslab's own warnings in one line, as errors are; leave those of other packages to Python."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], filename: str, *where: Any, **more: Any) -> None:
        if issubclass(category, UserWarning) and Path(__file__).parent in Path(filename).parents:
            print(f"reslab: note: {' '.join(str(message).split())}", file=sys.stderr)
        else:
            shown(message, category, filename, *where, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


@contextmanager
def _stoppable(told: list[int]) -> Iterator[None]:
    """Make SIGTERM stop the work as Ctrl-C does, and record it; a second SIGTERM interrupts the cleanup."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield
        return

    def stop(number: int, _: object) -> None:
        told.append(number)  # not a subclass, as Ray would raise a plain KeyboardInterrupt instead
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except Exception as error:
        if told:  # such as a DataLoader's, whose workers were stopped too
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _see_that_the_system_takes(words: Sequence[str]) -> None:
    """Check that the current directory exists, and that every argument can be part of a file name.

    Raises:
        UserError: if not.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise MissingError("the current directory no longer exists; change to another") from error
    for word in words:
        try:
            taken = b"\0" not in os.fsencode(word)
        except UnicodeEncodeError:
            taken = False
        if not taken:
            raise WrongValueError(f"{word!r} contains characters that are not allowed in a file or network name")
        if sys.getfilesystemencoding() != "utf-8" and not word.isascii():
            raise WrongValueError(f"{word!r} is not ASCII, which this locale requires of file names; {UTF8}")


def _complain(message: str, debug: bool, error: Exception) -> None:
    if debug:
        raise error
    line = " ".join(message.split())
    print(
        "reslab: " + "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line),
        file=sys.stderr,
    )
    sys.exit(2)
