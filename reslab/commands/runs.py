"""`reslab runs`: the runs below directories as tables for other tools."""

from pathlib import Path

from reslab.commands import printing
from reslab.commands.app import Flag, app
from reslab.errors import ExistsError, MismatchError


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
        A CSV file to write, UTF-8.
    parquet
        A Parquet file to write; it needs pyarrow.
    epochs
        A row per epoch of each trial, in place of a row per trial.
    json
        Print JSON.
    """
    from reslab.api.runs import of_directories, write

    if csv is not None and parquet is not None:
        raise MismatchError("give either --csv or --parquet")
    out = csv or parquet
    if out is not None and out.exists():
        raise ExistsError(f"{out} exists and is not overwritten; give another file")
    frame = of_directories(directories, epochs)
    if out is not None:
        write(frame, out, parquet=parquet is not None)
        print(f"wrote {out}: {len(frame):,} rows, {len(frame.columns)} columns")
    elif json:
        print(frame.to_json(orient="records", indent=2, force_ascii=False))
    else:
        columns = [name for name in SHOWN if name in frame.columns]
        rows = [tuple(map(str, row)) for row in frame[columns].itertuples(index=False)]
        printing.print_table(tuple(columns), rows, words=("run", "model", "data", "status"))


SHOWN = ("run", "model", "data", "seed", "status", "epoch", "loss", "train_error", "heldout_error", "test_error")
"""The columns that are printed; a file has them all."""
