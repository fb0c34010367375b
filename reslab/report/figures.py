"""The report's figures: training curves with a band over seeds, and the final errors."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from reslab.runs import Json

Curves = Mapping[str, Sequence[Sequence[Json]]]
"""For each group, for each seed, the lines of `metrics.jsonl`."""

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Colours that stay apart for colour-blind eyes (Okabe & Ito 2008); dashes tell the curves apart besides."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def training_curves(curves: Curves) -> go.Figure:
    """Return the mean training error by epoch, in %, with a band of one standard deviation over seeds."""
    figure = go.Figure()
    for index, (group, seeds) in enumerate(curves.items()):
        length = min((len(seed) for seed in seeds), default=0)  # a diverged run is shorter
        if not length:
            continue
        epochs = [line["epoch"] for line in seeds[0][:length]]
        errors = 100 * np.array([[line["train_error"] for line in seed[:length]] for seed in seeds])
        mean, std = errors.mean(0), errors.std(0, ddof=1) if len(seeds) > 1 else np.zeros(length)
        colour = OKABE_ITO[index % len(OKABE_ITO)]
        band_x, band_y = [*epochs, *reversed(epochs)], [*(mean + std), *(mean - std)[::-1]]
        figure.add_scatter(
            x=band_x, y=band_y, fill="toself", fillcolor=colour, opacity=0.15, line_width=0, hoverinfo="skip", showlegend=False, legendgroup=group
        )
        line = {"color": colour, "dash": DASHES[index % len(DASHES)]}
        figure.add_scatter(x=epochs, y=mean, name=group, line=line, mode="lines+markers", legendgroup=group)
    return _finish(figure, "에폭 · epoch", "훈련 오류 · training error (%)")


def final_errors(errors: Mapping[str, Mapping[str, Sequence[float]]]) -> go.Figure:
    """Return the final training and test errors of every group, in %: a bar for the mean, a whisker for one std, a dot a seed."""
    figure = go.Figure()
    for (split, name), colour in zip((("train_error", "훈련 · training"), ("test_error", "시험 · test")), OKABE_ITO, strict=False):
        values = [100 * np.array(group[split]) for group in errors.values()]
        spread = [v.std(ddof=1) if len(v) > 1 else 0.0 for v in values]
        figure.add_bar(x=list(errors), y=[v.mean() for v in values], error_y={"array": spread}, name=name, marker_color=colour)
    return _finish(figure, "", "오류 · error (%)").update_layout(barmode="group")


def chart(record: Json) -> go.Figure:
    """Return a study's own figure, from its record in `study.json`."""
    figure = go.Figure()
    for index, series in enumerate(record["series"]):
        colour = OKABE_ITO[index % len(OKABE_ITO)]
        spread = {"error_y": {"array": series["spread"]}} if series["spread"] is not None else {}
        text = {"hovertext": series["text"]} if series["text"] is not None else {}
        points = {"x": series["x"], "y": series["y"], "name": series["name"], **spread, **text}
        if record["kind"] == "bars":
            figure.add_bar(**points, marker_color=colour)
        else:
            mode = "lines+markers" if record["kind"] == "lines" else "markers"
            figure.add_scatter(**points, mode=mode, line={"color": colour, "dash": DASHES[index % len(DASHES)]}, marker_symbol=index)
    _finish(figure, *(f"{record[axis]['ko']} · {record[axis]['en']}" for axis in "xy"))
    for axis, logarithmic in (("xaxis", record["log_x"]), ("yaxis", record["log_y"])):
        if logarithmic:
            figure.update_layout({axis: {"type": "log", "rangemode": "normal"}})
    return figure


def _finish(figure: go.Figure, x: str, y: str) -> go.Figure:
    axis = {"gridcolor": "rgba(128,128,128,0.25)", "zerolinecolor": "rgba(128,128,128,0.5)"}
    return figure.update_layout(
        xaxis={**axis, "title": x},
        yaxis={**axis, "title": y, "rangemode": "tozero"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, 'Apple SD Gothic Neo', 'Malgun Gothic', 'Noto Sans KR', sans-serif", "color": "#777"},
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        height=420,
    )
