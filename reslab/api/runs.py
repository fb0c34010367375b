"""Runs as tables: a row per trial or per epoch, with the config flattened."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reslab.errors import MissingError, worded
from reslab.files import Json, read_record
from reslab.runs import RESULT, TRIAL, read_metrics
from reslab.shapes import Outcome, TrialFile
from reslab.training.logs import flat

if TYPE_CHECKING:
    import pandas as pd


def of_directories(directories: Sequence[Path], epochs: bool = False) -> "pd.DataFrame":
    """Return a row per trial below these directories, finished or not, or a row per epoch of each.

    Raises:
        UserError: if there is no run, none of them has ended an epoch that is asked for, or a file is damaged.
    """
    import pandas as pd

    if not directories:
        raise MissingError(*worded("runs-of-nothing"))
    if absent := [str(directory) for directory in directories if not directory.is_dir()]:
        raise MissingError(*worded("no-directories", names=", ".join(absent)))
    found = sorted({path.parent for directory in directories for path in directory.rglob(TRIAL)})
    if not found:
        raise MissingError(*worded("no-runs", where=", ".join(map(str, directories))))
    rows: list[Json] = []
    for path in found:
        about = _about(path)
        rows += [{**about, **line} for line in read_metrics(path)] if epochs else [{**about, **_result(path)}]
    if not rows:
        raise MissingError(*worded("no-epoch-yet", where=", ".join(map(str, directories))))
    return pd.DataFrame(rows)


def _about(path: Path) -> dict[str, Any]:
    """Return a run's name and its config; fields of the recipe are named `recipe.epochs` and so on."""
    values = flat(read_record(path / TRIAL, TrialFile)["config"])
    config = {key: str(value) if isinstance(value, list) else value for key, value in values.items()}
    return {"run": path.name, "directory": str(path), **config}


def _result(path: Path) -> dict[str, Any]:
    if not (path / RESULT).exists():
        return {"status": "unfinished"}
    values = flat(read_record(path / RESULT, Outcome))
    return {f"result.{key}" if key in ("device", "precision") else key: value for key, value in values.items()}
