"""Printing for commands: JSON, tables, numbers, and a warning about old results."""

import json
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from reslab.commands import typed
from reslab.errors import Language, Wording

if TYPE_CHECKING:
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    from reslab.data import Dataset
    from reslab.files import Json


def print_json(value: Any) -> None:
    """Print a value as readable JSON, in ASCII where another encoding than UTF-8 could not say all of it."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, ensure_ascii=not utf8, indent=2))


def console_of(**settings: Any) -> "Console":
    """Return a console that colours nothing by itself, and where its reader has gone, says so as `print` does."""
    from rich.console import Console

    class Own(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Own(highlight=False, **settings)


def print_table(
    columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], words: Collection[str] | None = None
) -> None:
    """Print a table; the columns named in `words` (by default the first) are text, the others numbers.

    Numbers and words are never broken; text wraps at spaces. If a terminal is too narrow even then, the columns are
    split into several tables, each with the first column. If not even two columns fit, each row is a block of lines,
    `column: value`. A file or a pipe gets the full width.
    """
    from rich.measure import Measurement

    words = columns[:1] if words is None else words
    console = console_of(markup=False)  # names are not Rich markup
    endless = console.options.update(max_width=ENDLESS)

    def table_of(places: Sequence[int]) -> "Table":
        chosen = [tuple(row[place] for place in places) for row in rows]
        return _table([columns[place] for place in places], chosen, words)

    def needed(places: Sequence[int]) -> "Measurement":
        return Measurement.get(console, endless, table_of(places))

    if not console.is_terminal:
        every = range(len(columns))
        console.width = needed(every).maximum
        console.print(table_of(every))
        return
    parts = [[0]]
    for place in range(1, len(columns)):
        if needed([*parts[-1], place]).minimum <= console.width:
            parts[-1].append(place)
        else:
            parts.append([0, place])
    if all(needed(places).minimum <= console.width for places in parts):
        for places in parts:
            console.print(table_of(places))
        return
    for row in rows:
        print("\n".join(f"{column}: {cell}" for column, cell in zip(columns, row, strict=True)), end="\n\n")


def _table(columns: Sequence[str], rows: Sequence[tuple[str, ...]], words: Collection[str]) -> "Table":
    from rich.box import SIMPLE
    from rich.cells import cell_len
    from rich.table import Table

    table = Table(box=SIMPLE)
    for column, *cells in zip(columns, *rows, strict=True):
        whole = max(map(cell_len, (column, *cells)))
        longest = max(map(cell_len, " ".join((column, *cells)).split()), default=1)
        wraps = column in words and longest < whole
        table.add_column(
            column,
            justify="left" if column in words else "right",
            no_wrap=not wraps,
            min_width=longest if wraps else whole,
        )
    for row in rows:
        table.add_row(*row)
    return table


ENDLESS = 100_000
"""A width at which nothing has to be broken."""


def figure(value: Any) -> str:
    """Return a number with two digits, a count as it is, or a ratio as its median and its spread."""
    if isinstance(value, tuple):
        return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"
    if isinstance(value, int):
        return str(value)
    return "not known here" if value is None else f"{value:.2f}"


def note(words: Wording, language: Language | None = None) -> None:
    """Tell on standard error what is worth knowing, by default in the system's language."""
    language = typed.language(language)
    print(f"reslab: {NOTE.said_in(language)}: {words.said_in(language)}", file=sys.stderr)


def warn(words: Wording) -> None:
    """Tell on standard error what may make a result worth less, in the system's language."""
    language = typed.language()
    print(f"{WARNING.said_in(language)}: {words.said_in(language)}", file=sys.stderr)


NOTE, WARNING = Wording("note", "알림"), Wording("warning", "경고")


def warn_of_old(results: "Sequence[Json]", code_digest: str, data: "Dataset") -> None:
    """Warn on standard error of results that were made with different code, or from other images than there are now."""
    from reslab.runs import out_of_date

    for said in out_of_date(results, code_digest, data.name, data.identity):
        warn(said)
