"""The pictures of a study, as charts: the page draws them with plotly, `--figures` with matplotlib, and both show the
same numbers in a table.
"""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from reslab.files import Json, finite
from reslab.ledger.claim import Text, Words
from reslab.ledger.record import GRIDS, Chart, Part, Series, Table, Verdict
from reslab.report.colours import colours
from reslab.report.confusion import Confusion
from reslab.report.records import StudyRecord, Trial
from reslab.report.units import chart_in_percent

MOST = 12
"""The largest number of curves in one picture, as more cannot be distinguished."""
CLASSES = 20
"""The largest number of classes shown: with more, neither picture nor table is legible, and both are large."""


def pictures(study: StudyRecord) -> list[Chart]:
    """Return a study's pictures: those in its record, then training curves, final errors and confusions if it
    trained.
    """
    found = list(study.record.charts)
    curves, rows = _curves(study.trials), study.rows()
    if curves:
        found.append(_training(curves))
    if rows:
        found.append(_final(rows))
    confusions = study.confusions()
    if confusions and len(next(iter(confusions.values())).classes) <= CLASSES:
        found.append(_mistakes(confusions))
    return [Chart(**finite(chart_in_percent(chart).model_dump())) for chart in found]


def _curves(trials: Sequence[Trial]) -> dict[str, list[list[Json]]]:
    """Return the metrics of each group's trials; unfinished trials only if none of the group finished."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.metrics:
            groups.setdefault(trial.group, []).append(trial)
    return {
        group: [trial.metrics for trial in members if trial.result is not None] or [trial.metrics for trial in members]
        for group, members in groups.items()
    }


def _training(curves: dict[str, list[list[Json]]]) -> Chart:
    series = []
    for group, seeds in list(curves.items())[:MOST]:
        length = min(map(len, seeds))  # a diverged run is shorter
        errors = 100 * np.array([[line["train_error"] for line in seed[:length]] for seed in seeds], dtype=float)
        epochs = [line["epoch"] for line in seeds[0][:length]]
        spread = errors.std(0, ddof=1).tolist() if len(seeds) > 1 else None
        series.append(Series(name=group, x=epochs, y=errors.mean(0).tolist(), spread=spread))
    return Chart(
        title={"ko": "학습하는 동안의 훈련 오류", "en": "Training error through training"},
        caption=_shortened(
            {
                "ko": (
                    "선은 시드 평균, 띠는 표준편차 한 배. 학습 중인 배치에서 잰 값이다. 어느 선이 더 낮은 곳에서 "
                    "멈추는지 볼 것."
                ),
                "en": "The line is the mean over seeds, the band one standard deviation, "
                "measured on the batches during training. "
                "See which line ends lower.",
            },
            len(curves),
        ),
        x={"ko": "에포크", "en": "epoch"},
        y={"ko": "훈련 오류 (%)", "en": "training error (%)"},
        series=series,
    )


def _final(rows: Sequence[dict[str, Any]]) -> Chart:
    shown = rows[:MOST]
    names: dict[str, Text] = {
        "train_error": {"ko": "훈련", "en": "training"},
        "test_error": {"ko": "테스트", "en": "test"},
    }
    series = []
    for split, name in names.items():
        deviations = [row[f"{split}_std"] for row in shown]  # None for one seed
        spread = [None if each is None else finite(100 * each) for each in deviations]
        series.append(
            Series(name=name, x=[row["group"] for row in shown], y=[100 * row[split] for row in shown], spread=spread)
        )
    return Chart(
        title={"ko": "학습이 끝난 뒤의 오류", "en": "Errors after training"},
        caption=_shortened(
            {
                "ko": (
                    "평가 모드에서 잰 오류. 막대는 시드 평균, 수염은 표준편차 한 배. 두 오류가 함께 높은지, 시험 "
                    "오류만 높은지 볼 것."
                ),
                "en": "Measured in evaluation mode: bars are means over seeds, whiskers one standard deviation. "
                "Check whether both errors are high, or only the test error.",
            },
            len(rows),
        ),
        x={"ko": "신경망", "en": "network"},
        y={"ko": "오류 (%)", "en": "error (%)"},
        series=series,
        kind="bars",
    )


def _mistakes(confusions: dict[str, Confusion]) -> Chart:
    series = []
    for group, found in list(confusions.items())[:MOST]:
        columns = [*found.classes, *(["–"] if found.counts[:, -1].any() else [])]
        shares = 100 * found.mistakes()[:, : len(columns)]
        series.append(Series(name=group, x=columns, y=list(found.classes), z=np.round(shares, 2).tolist()))
    return Chart(
        title={"ko": "어느 클래스를 어느 클래스로 착각하나", "en": "Which class is taken for which"},
        caption=_shortened(
            {
                "ko": (
                    "혼동 행렬. 행은 테스트 이미지의 클래스, 열은 신경망의 답이고, 값은 그 클래스의 이미지 가운데 "
                    "그렇게 잘못 답한 비율이다. 맞힌 칸은 비워 두었고, 모든 시드를 합쳤다. 서로 헷갈리는 짝을 "
                    "찾아볼 것."
                ),
                "en": "The confusion matrix: a row per class of the test images, a column per answer, and the share of "
                "the class's images that get this wrong answer, over all seeds. Right answers are left out. See which "
                "two are taken for each other.",
            },
            len(confusions),
        ),
        x={"ko": "신경망의 답", "en": "taken for"},
        y={"ko": "클래스", "en": "class"},
        z={"ko": "이미지 (%)", "en": "images (%)"},
        series=series,
        kind="heatmap",
        arrangement="slider",
    )


def by_class(study: StudyRecord) -> Table | None:
    """Return a table of each group's test error on each class, of many classes on the worst, in percent; None where
    that was not kept.
    """
    confusions = dict(list(study.confusions().items())[:MOST])
    if not confusions:
        return None
    first = next(iter(confusions.values()))
    errors = 100 * np.array([found.errors() for found in confusions.values()]).T
    order = np.argsort(-np.nan_to_num(errors).mean(1), kind="stable")[:CLASSES]
    shown = sorted(order) if len(errors) <= CLASSES else order
    rows = [[first.classes[place], *np.round(errors[place], 2).tolist()] for place in shown]
    left = len(errors) - len(rows)
    return Table(
        title={
            "ko": f"클래스별 테스트 오류 (%){f': 가장 큰 {len(rows)}개' if left else ''}",
            "en": f"Test error by class (%){f': the {len(rows)} largest' if left else ''}",
        },
        columns=[{"ko": "클래스", "en": "class"}, *confusions],
        rows=finite(rows),
    )


def _shortened(caption: Text, count: int) -> Text:
    """Return a caption that states if not every group is drawn."""
    if count <= MOST:
        return caption
    return {
        "ko": f"{caption['ko']} {count}개 가운데 앞의 {MOST}개만 그렸고, 나머지는 표에 있다.",
        "en": f"{caption['en']} The first {MOST} of {count} are drawn; the table has them all.",
    }


def coloured(picture: Chart) -> Json:
    """Return a picture as the page draws it: with each series' colour, by its place in the palette."""
    return {**picture.model_dump(mode="json"), "colours": colours(english(picture))}


def english(picture: Chart) -> list[str]:
    """Return the series' English names."""
    return [series.name if isinstance(series.name, str) else series.name["en"] for series in picture.series]


def data_head(picture: Chart) -> list[Words]:
    """Return the columns' names of the table behind a picture: the x and the series, or, of a grid, the y
    and every x.
    """
    if picture.kind not in GRIDS:
        return [picture.x, *(series.name for series in picture.series)]
    corner: Text = {"ko": f"{picture.y['ko']} ↓ {picture.x['ko']} →", "en": f"{picture.y['en']} ↓ {picture.x['en']} →"}
    return [corner, *(figure(x) for x in places(picture))]


def places(picture: Chart) -> list[Any]:
    """Return every x of a picture, in order."""
    return list(dict.fromkeys(x for series in picture.series for x in series.x))


def data_rows(picture: Chart) -> Iterator[tuple[Words, str, list[str]]]:
    """Yield the rows of the table behind a picture: an x and every series' value there; for a grid, the series' name, a
    y and the value at every x.
    """
    if picture.kind in GRIDS:
        for series in picture.series:
            for y, values in zip(series.y, series.z or [], strict=False):
                at = dict(zip(series.x, values, strict=False))
                yield series.name, figure(y), [figure(at.get(x)) for x in places(picture)]
        return
    table: dict[tuple[Any, int], list[str]] = {}
    for column, series in enumerate(picture.series):
        seen: dict[Any, int] = {}
        for index, x in enumerate(series.x):
            seen[x] = seen.get(x, 0) + 1
            row = table.setdefault((x, seen[x]), [""] * len(picture.series))
            spread = series.spread[index] if series.spread else None
            text = f" {series.text[index]}" if series.text else ""
            row[column] = f"{figure(series.y[index])}{f' ± {figure(spread)}' if spread is not None else ''}{text}"
    for (x, _), row in table.items():
        yield "", figure(x), row


def number_columns(table: Table) -> list[bool]:
    """Return which columns of a table hold numbers, possibly with empty cells; they are aligned on the right."""
    return [any(isinstance(row[column], int | float) for row in table.rows) for column in range(len(table.columns))]


def figure(value: Any) -> str:
    """Return a table's cell for display: fractions with four digits, whole numbers with commas, true minus signs,
    nothing for None.
    """
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)):
        whole = isinstance(value, int) or (value.is_integer() and abs(value) < 1e15)
        return (f"{value + 0:,.0f}" if whole else f"{value:.4g}").replace("-", "−")
    return "" if value is None else str(value)


def embedded(value: Any) -> Markup:
    """Return a value, or a part of a record, as JSON that is safe inside a script element."""
    value = value.model_dump(mode="json") if isinstance(value, Part) else value
    text = json.dumps(finite(value), ensure_ascii=False, separators=(",", ":"))
    return Markup(
        text.replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


def marks(claim: Verdict) -> dict[str, float] | None:
    """Return the positions of a statistical claim's interval, effect, margin and zero on an axis from 0 to 300; None if
    it has no interval.
    """
    if claim.interval is None or claim.margin is None or claim.effect is None:
        return None
    low, high = claim.interval
    threshold = -claim.margin if claim.direction == "lower" else claim.margin
    values = [low, high, claim.effect, threshold, 0.0]
    if not all(map(math.isfinite, values)):
        return None
    first, last = min(values), max(values)
    width = (last - first) or 1.0
    place = [round(15 + 270 * (value - first) / width, 1) for value in values]
    return dict(zip(("low", "high", "effect", "margin", "zero"), place, strict=True))
