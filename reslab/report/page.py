"""One self-contained HTML page from study directories; it reads only `study.json` and run directories."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from reslab.errors import UserError
from reslab.report.figures import chart, final_errors, training_curves
from reslab.runs import Json, read_json, read_metrics, write_atomically


def write_report(directories: Sequence[Path], out: Path) -> Path:
    """Write the page for these study directories to `out` and return its path.

    Raises:
        UserError: if a directory holds no readable `study.json`.
    """
    environment = Environment(loader=PackageLoader("reslab.report"), autoescape=True, undefined=StrictUndefined)
    environment.filters["figure"] = figure
    template = environment.get_template("page.html.j2")
    studies = [_section(directory) for directory in directories]
    write_atomically(out, template.render(studies=studies, plotlyjs=get_plotlyjs()))
    return out


def read_study(directory: Path) -> Json:
    """Return a study's record.

    Raises:
        UserError: if there is none, or it cannot be read.
    """
    try:
        record: Json = read_json(directory / "study.json")
    except FileNotFoundError as error:
        raise UserError(f"{directory} holds no study.json; give the --out directory of a `reslab study`") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{directory / 'study.json'} cannot be read ({error}); run the study again") from error
    return record


def summary_rows(record: Json) -> list[dict[str, Any]]:
    """Return one row a group: the number of seeds, and mean and std of the final errors, as fractions."""
    rows = []
    for group, results in _by_group(record).items():
        row: dict[str, Any] = {
            "group": group,
            "n": len(results),
            "params": results[0].get("params"),
            "diverged": sum(r["status"] == "diverged" for r in results),
        }
        for split in ("train_error", "test_error"):
            values = np.array([result[split] for result in results])
            row[split] = float(values.mean())
            row[f"{split}_std"] = float(values.std(ddof=1)) if len(values) > 1 else None
        rows.append(row)
    return rows


def command(record: Json) -> str:
    """Return the command line that measures a study again, every setting spelled out."""
    words = ["reslab", "study", record["study"]]
    for key, value in record["config"].items():
        if value is not None:
            words += [f"--{key.replace('_', '-')}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return " ".join(words)


def figure(value: Any) -> str:
    """Return a table's cell as it is read: fractions with four digits, whole numbers with commas, nothing for None."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _by_group(record: Json) -> dict[str, list[Json]]:
    groups: dict[str, list[Json]] = {}
    for trial in record["trials"]:
        groups.setdefault(trial["group"], []).append(trial["result"])
    return groups


def _section(directory: Path) -> dict[str, Any]:
    record = read_study(directory)
    trained = [_html(figure) for figure in _training_figures(directory, record)] if record["trials"] else []
    first = read_json(directory / record["trials"][0]["directory"] / "trial.json") if record["trials"] else None
    details = [record["config"]]
    if first is not None:
        details += [first["config"]["recipe"], {**first["environment"], "code": first["code"]}]
    return {
        "record": record,
        "rows": summary_rows(record),
        "trained": trained,
        "charts": [(_html(chart(drawn)), drawn) for drawn in record["charts"]],
        "command": command(record),
        "details": [json.dumps(part, ensure_ascii=False, indent=2) for part in details],
    }


def _training_figures(directory: Path, record: Json) -> list[go.Figure]:
    curves: dict[str, list[list[Json]]] = {}
    for trial in record["trials"]:
        curves.setdefault(trial["group"], []).append(list(read_metrics(directory / trial["directory"])))
    errors = {
        group: {part: [result[part] for result in results] for part in ("train_error", "test_error")} for group, results in _by_group(record).items()
    }
    return [training_curves(curves), final_errors(errors)]


def _html(figure: go.Figure) -> str:
    return to_html(figure, include_plotlyjs=False, full_html=False, config={"displaylogo": False, "responsive": True})
