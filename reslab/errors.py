"""The exceptions that are told in one line, how others become such, and what their messages say of names: the nearest,
and the first of many.
"""

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any


class UserError(ValueError):
    """A mistake in what was asked for: one line that says what was wrong, what was expected, what to do.

    Its `code` is one of its kind's, and stays when the wording changes. `korean` says the same in Korean; None where
    that is not worded yet.
    """

    code = "user-error"

    def __init__(self, message: str, korean: str | None = None) -> None:
        super().__init__(message)
        self.korean = korean


class UnknownNameError(UserError):
    """A name that the lab does not know."""

    code = "unknown-name"


class WrongValueError(UserError):
    """A value that is out of range, or of another kind than was expected."""

    code = "wrong-value"


class MismatchError(UserError):
    """Weights, networks, data, shapes or options that do not go together."""

    code = "does-not-fit"


class MissingError(UserError):
    """Something needed that is not there: a file, a package, enough images, an argument."""

    code = "missing"


class ExistsError(UserError):
    """A file that exists and is not overwritten."""

    code = "exists"


class DamagedError(UserError):
    """A file that is not as it was written: truncated, altered, or another's."""

    code = "damaged"


class UnusableError(UserError):
    """A place, a device or data that cannot be used as asked: unwritable, full, unable to compute so."""

    code = "unusable"


class UnseenError(UserError):
    """A network that cannot be seen through, or in which there is nothing sound to measure."""

    code = "cannot-see"


class FailedError(UserError):
    """What failed outside the lab's own code: a network's forward, a process, a download."""

    code = "failed"


@contextmanager
def told(what: str, kind: type[UserError] = FailedError) -> Iterator[None]:
    """Tell in one line, after what it means, whatever goes wrong in here: in code that is not the lab's, such as a
    network's.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise kind(f"{what}: {' '.join(f'{type(error).__name__}: {error}'.split())}") from error


def worded(name: str, /, **values: Any) -> tuple[str, str]:
    """Return a message of errors.toml in English and in Korean, with these values in it."""
    words = _messages()[name]
    return words["en"].format(**values), words["ko"].format(**values)


@cache
def _messages() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


UTF8 = "set PYTHONUTF8=1"


def explained(error: Exception, language: str = "en") -> str | None:
    """Return in one line what is for the user or the system to mend, and how, in Korean if that is the language and it
    is worded; None of an error that is the program's own.
    """
    if isinstance(error, UserError):
        return " ".join(((error.korean if language == "ko" else None) or str(error)).split())
    if isinstance(error, FileNotFoundError):
        return (
            f"{error.strerror}: {error.filename or 'the current directory'}; if it was removed during this run, run "
            "the same command again"
        )
    if isinstance(error, OSError):  # a full disk, a directory that may not be written
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}; what was finished is kept"
    if isinstance(error, UnicodeEncodeError):
        advice = (
            "rename the file or directory that has it in its name"
            if sys.getfilesystemencoding() == "utf-8"
            else f"this locale allows only ASCII in file names: {UTF8}"
        )
        return f"{error.object[error.start : error.end]!r} cannot be written as {error.encoding}; {advice}"
    # pathlib's and others', who have no kind of their own for it
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return "this user, or the one after a ~, has no home directory; give the full path, or set HOME"
    return None


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known name nearest to `name`, or the list of known names if none is near."""
    known = list(known)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def first_few(names: Sequence[str]) -> str:
    """Return the first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
