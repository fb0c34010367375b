"""The exceptions that are told in one line, how others become such, and what their messages say of names: the nearest, and the first of many."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake in what was asked for: one line that says what was wrong, what was expected, what to do."""


class DamagedError(UserError):
    """A file that is not as it was written: truncated, altered, or another's."""


@contextmanager
def told(what: str) -> Iterator[None]:
    """Tell in one line, after what it means, whatever goes wrong in here: in code that is not the lab's, such as a network's."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what}: {' '.join(f'{type(error).__name__}: {error}'.split())}") from error


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known name nearest to `name`, or the list of known names if none is near."""
    known = list(known)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def first_few(names: Sequence[str]) -> str:
    """Return the first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
