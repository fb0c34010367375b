"""Tables as files for other programs: CSV that spreadsheets take for UTF-8, and Parquet."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reslab.commands import typed
from reslab.errors import ExistsError, Language, MismatchError, MissingError, Wording, worded

if TYPE_CHECKING:
    import pandas as pd

    from reslab.files import Json

Places = Mapping[Literal["csv", "parquet"], Path]
"""Where a table goes, by the kind of file."""
WROTE = Wording("wrote {}: {:,} rows, {} columns", "저장: {} (행 {:,}개, 열 {}개)")


def places(csv: Path | None, parquet: Path | None) -> Places:
    """Return where a table goes, seen before the work that it is made by.

    Raises:
        UserError: if one of the files exists or cannot be written, or what Parquet needs is not installed.
    """
    if csv is not None and csv == parquet:
        raise MismatchError(*worded("one-file-for-two", file=csv))
    if parquet is not None and find_spec("pyarrow") is None:
        raise MissingError(*worded("no-pyarrow"))
    asked: dict[Literal["csv", "parquet"], Path | None] = {"csv": csv, "parquet": parquet}
    found: Places = {kind: path for kind, path in asked.items() if path is not None}
    for kind, path in found.items():
        if path.exists():
            raise ExistsError(*worded("file-exists", path=path))
        typed.make_writable(path.parent, f"--{kind}")
    return found


def rows(frame: "pd.DataFrame") -> "list[Json]":
    """Return the rows of a table as JSON has them: in full, and null for what is not a number."""
    from reslab.files import finite

    found: list[Json] = finite(frame.to_dict("records"))
    return found


def write(frame: "pd.DataFrame", places: Places, language: Language) -> list[str]:
    """Write a table there and return what to say of it."""
    from reslab.files import write_atomically

    for kind, path in places.items():
        write_atomically(path, _csv(frame) if kind == "csv" else _parquet(frame))
    return [WROTE.said_in(language).format(path, len(frame), len(frame.columns)) for path in places.values()]


def _csv(frame: "pd.DataFrame") -> bytes:
    """Return a table as CSV behind the mark by which spreadsheets know UTF-8."""
    return frame.to_csv(index=False, lineterminator="\n").encode("utf-8-sig")


def _parquet(frame: "pd.DataFrame") -> bytes:
    """Return a table as Parquet, whose columns are each of one kind: one of several, such as a setting that is a number
    here and a word there, as text; and whole numbers that are too large, such as counts of paths, as floats.
    """
    from pandas.api.types import infer_dtype

    mixed = [name for name in frame if infer_dtype(frame[name]) in ("mixed", "mixed-integer")]
    texts = {name: frame[name].map(str, na_action="ignore") for name in mixed}
    large = [name for name in frame if frame[name].dtype == object and infer_dtype(frame[name]) == "integer"]
    floats = {name: frame[name].astype(float) for name in large}
    return frame.assign(**texts, **floats).to_parquet(index=False)
