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
from reslab.commands.misuse import misuse
from reslab.commands.typed import asked_in
from reslab.errors import UTF8, Language, MissingError, WrongValueError, explained, worded

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
    language = asked_in(words)
    # a Windows console may not be UTF-8; a character that it cannot show must not stop a run
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    told: list[int] = []
    try:
        _see_that_the_system_takes(words)
        with _stoppable(told), _noting():
            code = app(words, exit_on_error=False, print_error=False)
            sys.stdout.flush()  # here, where a reader that has gone is seen
            sys.exit(code)
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if debug or (line := _line(error, language)) is None:
            raise
        print(f"reslab: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\n{worded('stopped').said_in(language)}", file=sys.stderr)
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
        raise MissingError(*worded("no-current-directory")) from error
    for word in words:
        try:
            taken = b"\0" not in os.fsencode(word)
        except UnicodeEncodeError:
            taken = False
        if not taken:
            raise WrongValueError(*worded("letters-not-allowed", word=word))
        if sys.getfilesystemencoding() != "utf-8" and not word.isascii():
            raise WrongValueError(*worded("not-ascii", word=word, advice=UTF8))


def _line(error: Exception, language: Language) -> str | None:
    """Return what to say of an error in one line; None for one of the program itself."""
    match error:
        case cyclopts.CycloptsError():
            said = explained(misuse(error), language)
        case ModuleNotFoundError(name=str(name)) if not name.startswith("reslab"):
            said = worded("missing-package", package=name).said_in(language)
        case _:
            said = explained(error, language)
    if said is None:
        return None
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(said.split()))
