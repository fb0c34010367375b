"""Records and pages to report on, some of them hostile."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers import sum_up

EVIL = "<script>alert(1)</script>"


TEXT = {"ko": "물음", "en": "question"}


def a_chart(kind: str = "lines", **changes: Any) -> dict[str, Any]:
    series = [{"name": "residual", "x": [1, 2, 3], "y": [3.0, 2.0, 1.0], "spread": [0.1, 0.2, 0.1], "text": None}]
    return {
        "title": TEXT,
        "caption": TEXT,
        "x": TEXT,
        "y": TEXT,
        "series": series,
        "kind": kind,
        "log_x": False,
        "log_y": False,
        **changes,
    }


OVER = {"code": "interval-over", "values": {"n": 3, "threshold": 0.1}}


def a_claim(**changes: Any) -> dict[str, Any]:
    claim = {
        "id": "study.claim",
        "kind": "statistical",
        "section": "overview",
        "statement": TEXT,
        "source": "here",
        "unit": "points",
        "corrects": None,
    }
    verdict = {
        "verdict": "supported",
        "effect": 0.5,
        "interval": [0.25, 0.75],
        "level": 0.95,
        "n": 3,
        "method": "paired t",
        "reason": OVER,
    }
    return {**claim, "direction": "higher", "margin": 0.1, **verdict, **changes}


def a_trial(directory: Path, number: int, group: str, *, done: bool = True, error: float = 0.5) -> dict[str, Any]:
    """Write a run directory and return its entry in `study.json`."""
    path = directory / "trials" / f"{number:016x}"
    path.mkdir(parents=True)
    result = {"status": "finished", "params": 1000, "train_error": error, "test_error": error}
    config = {"model": "cifar_resnet", "options": {"depth": 8}, "recipe": {"epochs": 3}, "seed": number}
    (path / "trial.json").write_text(
        json.dumps({"config": config, "environment": {"python": "3"}, "code": "0" * 16}), encoding="utf-8"
    )
    lines = [json.dumps({"epoch": epoch, "train_error": error / epoch}) + "\n" for epoch in (1, 2, 3)]
    (path / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    if done:
        (path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    sum_up(path)
    return {"group": group, "directory": f"trials/{path.name}", "seed": number, "config": config, "result": result}


def a_study(directory: Path, **changes: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    record = {"version": 3, "study": "study", "title": TEXT, "question": TEXT, "config": {"seeds": 3}, **changes}
    (directory / "study.json").write_text(json.dumps(record), encoding="utf-8")
    return directory


def without_scripts(page: str) -> str:
    return re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)


def evil_charts() -> list[dict[str, Any]]:
    """Return charts of every newer kind with markup for texts, and with grids that are not whole."""
    evil = {"ko": EVIL, "en": EVIL}
    grid = a_grid("contours", [EVIL, evil], x=evil, y=evil, z=evil)
    grid["series"][0]["z"][1][1] = float("nan")
    lost = a_grid("heatmap", [EVIL, EVIL], arrangement=EVIL)
    lost["series"][0]["z"], lost["series"][1]["z"] = None, [[]]
    bands = [{"name": evil, "first": EVIL, "last": "nowhere"}]
    return [grid, a_grid("heatmap", [EVIL, evil], y=evil), lost, a_lesion(bands=bands, marks=[EVIL, 7])]


def hostile_study(study: Path, count: int) -> Path:
    """Write a study with markup in every text, numbers that are none, missing and broken files, and so many groups."""
    trials = [a_trial(study, number, f"{EVIL}{number}") for number in range(count)]
    trials += [
        a_trial(study, count, EVIL, error=float("nan")),
        {**trials[0], "directory": "trials/none", "group": "gone"},
    ]
    (study / trials[1]["directory"] / "metrics.jsonl").write_text("{broken\n", encoding="utf-8")
    evil = {"ko": EVIL, "en": EVIL}
    series = [
        {
            "name": "</script>" + EVIL,
            "x": ["</script>", "b"],
            "y": [float("nan"), 2.0],
            "spread": None,
            "text": [EVIL, EVIL],
        }
    ]
    said = [
        {"code": EVIL, "values": {EVIL: EVIL}},
        {"code": "finding", "values": {"text": evil}},
        {"code": "said", "values": {"text": EVIL}},
    ]
    ids = [f'"><img src=x onerror=alert({number})>' for number in range(len(said))]
    claims = [
        a_claim(id=id, statement=evil, source=EVIL, reason=one, effect=float("nan"))
        for id, one in zip(ids, said, strict=True)
    ]
    return a_study(
        study,
        study=EVIL,
        title=evil,
        question=evil,
        claims=claims,
        tables=[{"title": evil, "columns": [EVIL], "rows": [[EVIL], [float("nan")], [None]]}],
        charts=[
            a_chart(title=evil, caption=evil, x=evil, series=series * 2),
            a_chart(kind=EVIL, series=[]),
            *evil_charts(),
        ],
        trials=trials,
        failures=[{"config": {"model": EVIL, "options": {}, "seed": 0}, "reason": EVIL}],
    )


def a_grid(kind: str, names: Sequence[str | dict[str, str]] = ("plain", "residual"), **changes: Any) -> dict[str, Any]:
    """A heat map behind a slider or two contour plots side by side, of 4 rows and 3 columns."""
    z = [[row + column / 10 for column in range(3)] for row in range(4)]
    series = [{"name": name, "x": [0, 5, 10], "y": [0.5, 1.5, 2.5, 3.5], "z": z} for name in names]
    arrangement = {"heatmap": "slider", "contours": "panels"}[kind]
    return a_chart(
        kind, **{"series": series, "z": {"ko": "높이", "en": "height"}, "arrangement": arrangement, **changes}
    )


def a_lesion(**changes: Any) -> dict[str, Any]:
    """Bars in panels, over bands, with a mark."""
    blocks = ["layer1.0", "layer1.1", "layer2.0", "layer2.1"]
    bands = [
        {"name": {"ko": f"{n}단계", "en": f"stage {n}"}, "first": f"layer{n}.0", "last": f"layer{n}.1"} for n in (1, 2)
    ]
    series = [
        {"name": name, "x": blocks, "y": [1.0, 2.0, 30.0, 4.0], "spread": [0.5, 0.5, 0.5, 0.5], "text": None}
        for name in ("v1", "v2", "plain")
    ]
    return a_chart(
        "bars", **{"series": series, "arrangement": "panels", "bands": bands, "marks": ["layer2.0"], **changes}
    )


def a_spectrum() -> dict[str, Any]:
    """Bars and a line over numbers."""
    bars = {
        "name": "gradient",
        "x": [0.0, 1.0, 2.0],
        "y": [60.0, 30.0, 10.0],
        "spread": None,
        "text": None,
        "kind": "bars",
    }
    return a_chart(series=[bars, {**bars, "name": "paths", "y": [25.0, 50.0, 25.0], "kind": None}])
