"""User errors, which are reported in one line; how other exceptions become such; and suggestions of names for their
messages.
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
    """A user's mistake, in one line: what was wrong, what was expected, what to do.

    Its `code` belongs to its kind and stays when the wording changes. `korean` is the message in Korean, None if there
    is no translation.
    """

    code = "user-error"

    def __init__(self, message: str, korean: str | None = None) -> None:
        super().__init__(message)
        self.korean = korean


class UnknownNameError(UserError):
    """An unknown name."""

    code = "unknown-name"


class WrongValueError(UserError):
    """A value that is out of range, or of another kind than was expected."""

    code = "wrong-value"


class MismatchError(UserError):
    """Weights, networks, data, shapes or options that do not fit together."""

    code = "does-not-fit"


class MissingError(UserError):
    """Something required is missing: a file, a package, enough images, an argument."""

    code = "missing"


class ExistsError(UserError):
    """A file that exists and is not overwritten."""

    code = "exists"


class DamagedError(UserError):
    """A file that is truncated, altered, or belongs to something else."""

    code = "damaged"


class UnusableError(UserError):
    """A path, a device or data that cannot be used as asked, for example because it is read-only or full."""

    code = "unusable"


class UnseenError(UserError):
    """A network whose blocks cannot be found, or for which a measurement would be meaningless."""

    code = "cannot-see"


class FailedError(UserError):
    """A failure outside reslab's own code: in a network's forward, a process, a download."""

    code = "failed"


@contextmanager
def told(what: str, kind: type[UserError] = FailedError) -> Iterator[None]:
    """Turn any exception raised here into a one-line error that begins with `what`; for code that is not reslab's, such
    as a network's forward.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise kind(f"{what}: {' '.join(f'{type(error).__name__}: {error}'.split())}") from error


def worded(name: str, /, **values: Any) -> tuple[str, str]:
    """Return a message of errors.toml in English and in Korean, with these values filled in."""
    words = _messages()[name]
    return words["en"].format(**values), words["ko"].format(**values)


@cache
def _messages() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


UTF8 = "set PYTHONUTF8=1"


def explained(error: Exception, language: str = "en") -> str | None:
    """Return in one line what the user can do about an error, in Korean if asked for and translated; None for an error
    of the program itself.
    """
    if isinstance(error, UserError):
        return " ".join(((error.korean if language == "ko" else None) or str(error)).split())
    if isinstance(error, FileNotFoundError):
        return (
            f"{error.strerror}: {error.filename or 'the current directory'}; if it was removed during this run, run "
            "the same command again"
        )
    if isinstance(error, OSError):  # a full disk, a read-only directory
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}; what was finished is kept"
    if isinstance(error, UnicodeEncodeError):
        advice = (
            "rename the file or directory that has it in its name"
            if sys.getfilesystemencoding() == "utf-8"
            else f"this locale allows only ASCII in file names: {UTF8}"
        )
        return f"{error.object[error.start : error.end]!r} cannot be written as {error.encoding}; {advice}"
    # pathlib and others raise it without a subclass
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
