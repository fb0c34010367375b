"""`reslab runs`: the runs below directories as tables for other tools."""

from pathlib import Path

from reslab.commands import printing, tables, typed
from reslab.commands.app import Flag, app


@app.command
def runs(
    *directories: Path,
    csv: Path | None = None,
    parquet: Path | None = None,
    epochs: Flag = False,
    json: Flag = False,
) -> None:
    """List the runs below directories, a row per trial, with the config flattened: `reslab runs runs/train --csv
    runs.csv`.

    Parameters
    ----------
    directories
        Directories that runs are in at any depth, such as the --out of `reslab train` or `reslab study`.
    csv
        A CSV file to write, UTF-8 as spreadsheets know it.
    parquet
        A Parquet file to write; it needs pyarrow.
    epochs
        A row per epoch of each trial, in place of a row per trial.
    json
        Print JSON.
    """
    from reslab.api.runs import of_directories

    places = tables.places(csv, parquet)
    frame = of_directories(directories, epochs)
    written = tables.write(frame, places, typed.language())
    if json:
        printing.print_json(tables.rows(frame))
    elif written:
        print("\n".join(written))
    else:
        columns = [name for name in SHOWN if name in frame.columns]
        rows = [tuple(map(_cell, row)) for row in frame[columns].itertuples(index=False)]
        printing.print_table(tuple(columns), rows, words=("run", "model", "data", "status"))


def _cell(value: object) -> str:
    """Return a value as the table shows it: a dash where a run has none yet."""
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}"
    return str(value)


SHOWN = ("run", "model", "data", "seed", "status", "epoch", "loss", "train_error", "heldout_error", "test_error")
"""The columns that are printed; a file has them all."""
