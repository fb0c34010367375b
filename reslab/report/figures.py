"""Every picture of a study as PNG and SVG, in both languages, for slides and papers."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reslab.report.hangul import matplotlib_draws_hangul
from reslab.report.page import section
from reslab.report.pictures import OKABE_ITO
from reslab.report.records import read_directory
from reslab.runs import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (9, 3)), (0, (9, 2, 2, 2)))
MARKERS = "osD^xP*p"

Progress = Callable[[str, int, int], None]


def write_figures(directories: Sequence[Path], out: Path, watch: Progress = lambda *_: None) -> list[Path]:
    """Write every picture of these studies to `out` as `STUDY-NUMBER.LANGUAGE.png` and `.svg`, and return their paths; an older one is replaced.

    Raises:
        UserError: if a directory holds neither a readable `study.json` nor trials.
    """
    found = []
    for position, directory in enumerate(directories, start=1):
        study = section(position, read_directory(directory))
        stem = re.sub(r"[^\w-]+", "-", study["record"]["study"])
        twice = sum(directory.resolve().name == other.resolve().name for other in directories) > 1
        stem = f"{stem}-{position}" if twice else stem
        found += [(f"{stem}-{number}", picture) for number, picture in enumerate(study["pictures"], start=1)]
    out.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib_draws_hangul():
        for done, (stem, picture) in enumerate(found, start=1):
            for language in ("ko", "en"):
                figure = draw(picture, language)
                for suffix in ("png", "svg"):
                    path = out / f"{stem}.{language}.{suffix}"
                    figure.savefig(path, dpi=200, metadata={"Date": None} if suffix == "svg" else None)
                    written.append(path)
            watch("drawing figures", done, len(found))
    return written


def draw(picture: Json, language: str) -> "Figure":
    """Return a picture as a matplotlib figure, in "ko" or "en"."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    for index, series in enumerate(picture["series"]):
        _series(axes, picture, index, series, _plain(series["name"] if isinstance(series["name"], str) else series["name"][language]))
    axes.set_title(_plain(picture["title"][language]), loc="left", fontsize=11)
    axes.set(xlabel=_plain(picture["x"][language]), ylabel=_plain(picture["y"][language]))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    if picture["log_x"]:
        axes.set_xscale("log")
    if picture["log_y"]:
        axes.set_yscale("log")
    elif axes.dataLim.ymin >= 0:
        axes.set_ylim(bottom=0)
    if len(picture["series"]) > 1:
        axes.legend(frameon=False, fontsize=8)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    if any(isinstance(x, str) for series in picture["series"] for x in series["x"]) and sum(map(len, labels)) > 60:
        axes.tick_params(axis="x", rotation=60, labelsize=8)
    return figure


def _series(axes: "Axes", picture: Json, index: int, series: Json, name: str) -> None:
    colour = OKABE_ITO[index % len(OKABE_ITO)]
    x = [_plain(value) if isinstance(value, str) else value for value in series["x"]]
    y = [float("nan") if value is None else value for value in series["y"]]
    spread = [value or 0.0 for value in series["spread"]] if series.get("spread") else None
    if picture["kind"] == "bars":
        count = len(picture["series"])
        places = list(dict.fromkeys(value for each in picture["series"] for value in each["x"]))
        width = 0.8 / count
        at = [places.index(value) + (index - (count - 1) / 2) * width for value in series["x"]]
        axes.bar(at, y, width, yerr=spread, color=colour, label=name, capsize=2)
        axes.set_xticks(range(len(places)), [_plain(str(value)) for value in places])
        return
    style: Json = {"color": colour, "marker": MARKERS[index % len(MARKERS)], "markersize": 3, "label": name}
    if picture["kind"] == "points":
        axes.errorbar(x, y, spread, linestyle="none", **style)
    elif spread and not any(isinstance(value, str) for value in x):
        axes.plot(x, y, linestyle=DASHES[index % len(DASHES)], **style)
        low, high = ([value + sign * wide for value, wide in zip(y, spread, strict=True)] for sign in (-1, 1))
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    else:
        axes.errorbar(x, y, spread, linestyle=DASHES[index % len(DASHES)], **style)


def _plain(text: str) -> str:
    """Return a text whose dollars are dollars: matplotlib reads mathematics between two of them."""
    return text.replace("$", r"\$")
