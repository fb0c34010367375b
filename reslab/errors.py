"""User errors, which are reported in one line; how other exceptions become such; and suggestions of names for their
messages.
"""

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

Language = Literal["ko", "en"]
"""In which a user is spoken to."""


class Wording(NamedTuple):
    """What is said in both languages."""

    english: str
    korean: str

    def said_in(self, language: Language) -> str:
        """Return the Korean for `ko`, and the English otherwise."""
        return self.korean if language == "ko" else self.english


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


def check_one_of(what: str, value: object, allowed: Sequence[object]) -> None:
    """Check that a value is one of those that are allowed.

    Raises:
        WrongValueError: if not, with the nearest of them.
    """
    if value not in allowed:
        words = ", ".join(repr(each) for each in allowed if each is not None)
        known = [each for each in allowed if isinstance(each, str)]
        near = suggested(value, known) if isinstance(value, str) and get_close_matches(value, known, 1) else ""
        raise WrongValueError(*worded("not-one-of", what=what, value=repr(value), words=words, near=near))


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
        raise kind(f"{what}: {in_one_line(error)}") from error


def in_one_line(error: Exception) -> str:
    """Return the class and the message of an exception that is not reslab's."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def worded(name: str, /, **values: Any) -> Wording:
    """Return a message of errors.toml with these values filled in, of which `Wording` are said in each language."""
    words = _messages()[name]
    english, korean = (
        words[language].format(
            **{key: value.said_in(language) if isinstance(value, Wording) else value for key, value in values.items()}
        )
        for language in ("en", "ko")
    )
    return Wording(english, korean)


@cache
def _messages() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


UTF8 = "set PYTHONUTF8=1"


def explained(error: Exception, language: Language = "en") -> str | None:
    """Return in one line what the user can do about an error, in Korean if asked for and translated; None for an error
    of the program itself.
    """
    if isinstance(error, UserError):
        return " ".join(((error.korean if language == "ko" else None) or str(error)).split())
    words = _explained(error)
    return words.said_in(language) if words is not None else None


def _explained(error: Exception) -> Wording | None:
    match error:
        case FileNotFoundError(filename=None):
            return worded("directory-gone", reason=error.strerror)
        case FileNotFoundError():
            return worded("file-gone", reason=error.strerror, file=error.filename)
        case OSError():  # a full disk, a read-only directory
            reason = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
            return worded("system-refuses", reason=reason)
        case UnicodeEncodeError():
            name = "unwritable-letters" if sys.getfilesystemencoding() == "utf-8" else "letters-of-another-locale"
            letters = error.object[error.start : error.end]
            return worded(name, letters=letters, encoding=error.encoding, advice=UTF8)
        case RuntimeError() if "home directory" in str(error):  # pathlib and others raise it without a subclass
            return worded("no-home")
    return None


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known name nearest to `name`, or the list of known names if none is near."""
    return suggested(name, known).english


def suggested(name: str, known: Iterable[str]) -> Wording:
    """Return what `suggest` does in both languages, to follow what was wrong."""
    known = list(known)
    near = get_close_matches(name, known, n=max(1, len(known)), cutoff=0.6)
    if near:  # of those as near, the one that begins alike: for resnet2O resnet20, and not resnet32
        return meant(repr(max(near, key=lambda each: (SequenceMatcher(None, each, name).ratio(), _begins(each, name)))))
    names = ", ".join(known)
    return Wording(f"; known: {names}", f". 있는 것: {names}")


def _begins(one: str, other: str) -> int:
    """Return with how many same letters two names begin."""
    return max(count for count in range(len(one) + 1) if other.startswith(one[:count]))


def at_least(least: int) -> Wording:
    """Return that a number may not be smaller."""
    return Wording(f"at least {least}", f"{least} 이상")


def meant(name: str) -> Wording:
    """Return the question whether this was meant, to follow what was wrong."""
    return Wording(f"; did you mean {name}?", f". 비슷한 것: {name}")


def first_few(names: Sequence[str]) -> str:
    """Return the first five names, and how many more there are."""
    return few(names).english


def few(names: Sequence[str]) -> Wording:
    """Return what `first_few` does in both languages."""
    shown, more = ", ".join(names[:5]), len(names) - 5
    return Wording(f"{shown} and {more} more", f"{shown} 외 {more}개") if more > 0 else Wording(shown, shown)
