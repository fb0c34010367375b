"""Every picture of a study as PNG and SVG, in both languages, for slides and papers."""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reslab.analysis.result import drawn
from reslab.files import Json, write_atomically
from reslab.ledger.claim import Words
from reslab.ledger.record import GRIDS, Chart, Series
from reslab.progress import Progress, each, silent
from reslab.report.colours import COLOURS, colours
from reslab.report.hangul import matplotlib_draws_hangul
from reslab.report.pictures import english, pictures, places
from reslab.report.records import read_directory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (9, 3)), (0, (9, 2, 2, 2)))
MARKERS = "osD^xP*p"


def write_figures(directories: Sequence[Path], out: Path, progress: Progress = silent) -> list[Path]:
    """Write every picture of these studies to `out` as `STUDY-TITLE.LANGUAGE.png` and `.svg`, and return their paths;
    an older one is replaced.

    Raises:
        UserError: if a directory holds neither a readable `study.json` nor trials.
    """
    found = []
    studies = list(map(read_directory, directories))
    stems = [re.sub(r"[^\w-]+", "-", study.record.study) for study in studies]
    for position, (study, stem) in enumerate(zip(studies, stems, strict=True), start=1):
        stem = f"{stem}-{position}" if stems.count(stem) > 1 else stem
        drawn_here = pictures(study)
        names = [_slug(picture.title["en"]) for picture in drawn_here]
        for number, (name, picture) in enumerate(zip(names, drawn_here, strict=True), start=1):
            found.append((f"{stem}-{name if name and names.count(name) == 1 else number}", picture))
    out.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib_draws_hangul():
        for stem, picture in each(found, "drawing figures", progress):
            for language in ("ko", "en"):
                figure = draw(picture, language)
                for suffix in ("png", "svg"):
                    path = out / f"{stem}.{language}.{suffix}"
                    write_atomically(
                        path, drawn(figure, suffix, dpi=200, metadata={"Date": None} if suffix == "svg" else None)
                    )
                    written.append(path)
    return written


def _slug(title: str) -> str:
    """Return a title as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60].strip("-")


def draw(picture: Chart, language: str) -> "Figure":
    """Return a picture as a matplotlib figure, in "ko" or "en"; what a slider chooses from is all there, each in a
    panel.
    """
    from matplotlib.figure import Figure

    series, apart = picture.series, picture.arrangement in ("panels", "slider")
    grids = picture.kind in GRIDS
    columns = min(2, len(series)) if apart and grids else 1
    rows = math.ceil(len(series) / columns) if apart else 1
    height = 4.2 if rows == 1 else 0.8 + rows * (2.6 if grids else 1.5)
    figure = Figure(figsize=(7.0, height), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for empty in panels[len(series) if apart else 1 :]:
        empty.set_visible(False)
    for index, one in enumerate(series):
        axes = panels[index if apart else 0]
        name = _words(one.name, language)
        if grids:
            _grid(axes, picture, one)
        else:
            _series(axes, picture, index, one, name)
        if apart:
            axes.set_title(name, loc="left", fontsize=9)
            axes.tick_params(labelbottom=index + columns >= len(series))
    if grids and panels[0].collections:
        figure.colorbar(panels[0].collections[0], ax=panels, label=_words(picture.z or "", language), shrink=0.8)
    if apart:
        figure.suptitle(_words(picture.title, language), x=0.02, ha="left", fontsize=11)
        figure.supxlabel(_words(picture.x, language), fontsize=10)
        figure.supylabel(_words(picture.y, language), fontsize=10)
    else:
        panels[0].set_title(_words(picture.title, language), loc="left", fontsize=11)
        panels[0].set(xlabel=_words(picture.x, language), ylabel=_words(picture.y, language))
    for axes in panels[: len(series)] if apart else panels:
        _finish(axes, picture, language, first=axes is panels[0])
    if len(series) > 1 and not apart:
        panels[0].legend(frameon=False, fontsize=8)
    return figure


def _finish(axes: "Axes", picture: Chart, language: str, *, first: bool) -> None:
    """Draw a panel's scales, bands and marks."""
    if picture.log_x:
        axes.set_xscale("log")
    if picture.kind in GRIDS:
        return
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    if picture.log_y:
        axes.set_yscale("log")
    elif axes.dataLim.ymin >= 0:
        axes.set_ylim(bottom=0)
    names = places(picture)

    def at(x: Any, reach: float = 0.0) -> float:
        return names.index(x) + reach if isinstance(x, str) else x

    def placed(*ends: Any) -> bool:  # names that are not in the picture are skipped
        return all(x in names for x in ends if isinstance(x, str))

    above: Json = {"transform": axes.get_xaxis_transform(), "ha": "center", "fontsize": 8}
    for band in picture.bands:
        if not placed(band.first, band.last):
            continue
        low, high = at(band.first, -0.46), at(band.last, 0.46)
        axes.axvspan(low, high, color="0.5", alpha=0.15, linewidth=0, zorder=0)
        if first:
            axes.text((low + high) / 2, 1.01, _words(band.name, language), va="bottom", **above)
    for x in filter(placed, picture.marks):
        axes.axvline(at(x), color="black", linestyle=":", linewidth=1, zorder=0)
        axes.text(at(x), 1.0, "▼", va="top", **above)
    if any(isinstance(x, str) for x in names) and sum(len(str(x)) for x in names) > 60:
        axes.tick_params(axis="x", rotation=60 if len(names) < 20 else 90, labelsize=8 if len(names) < 20 else 6)


def _words(text: Words, language: str) -> str:
    return _plain(text if isinstance(text, str) else text["ko"] if language == "ko" else text["en"])


def _grid(axes: "Axes", picture: Chart, series: Series) -> None:
    """Draw a heat map or contours; all panels have the colours of all values."""
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    values = [z for each in picture.series for row in each.z or () for z in row if z is not None]
    heights = np.ma.masked_invalid(np.array(series.z or [[]], dtype=float))
    if heights.size == 0 or not values:
        return
    low, high = min(values), max(values)
    style: Json = {"cmap": "cividis"}
    if picture.kind == "heatmap":
        axes.pcolormesh(
            np.array(series.x), np.array(series.y), heights, vmin=low, vmax=high, shading="nearest", **style
        )
    else:
        levels = MaxNLocator(20).tick_values(low, high)
        axes.contourf(series.x, series.y, heights, levels=levels, **style)
        axes.contour(
            series.x, series.y, heights, levels=levels, colors="black", linewidths=0.3, alpha=0.5, linestyles="solid"
        )


def _series(axes: "Axes", picture: Chart, index: int, series: Series, name: str) -> None:
    colour = COLOURS[colours(english(picture))[index]]
    x = [_plain(value) if isinstance(value, str) else value for value in series.x]
    y = [value if isinstance(value, float | int) else float("nan") for value in series.y]
    spread = [float("nan") if value is None else value for value in series.spread] if series.spread else None
    kind = series.kind or picture.kind
    if kind == "bars":
        _bars(
            axes,
            picture,
            series,
            y,
            {"yerr": spread, "color": colour, "label": name, "capsize": 2, "error_kw": {"elinewidth": 0.8}},
        )
        return
    style: Json = {
        "color": colour,
        "marker": MARKERS[(index + index // len(COLOURS)) % len(MARKERS)],
        "markersize": 3,
        "label": name,
    }
    if kind == "points":
        axes.errorbar(x, y, spread, linestyle="none", **style)
    elif spread and not any(isinstance(value, str) for value in x):
        axes.plot(x, y, linestyle=DASHES[index % len(DASHES)], **style)
        low, high = ([value + sign * wide for value, wide in zip(y, spread, strict=True)] for sign in (-1, 1))
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    else:
        axes.errorbar(x, y, spread, linestyle=DASHES[index % len(DASHES)], **style)


def _bars(axes: "Axes", picture: Chart, series: Series, y: list[float], style: Json) -> None:
    """Draw a series of bars beside those of the other series that share its panel; among numbers where they are, else
    at 0, 1, …
    """
    alone = picture.arrangement in ("panels", "slider")
    beside = [series] if alone else [each for each in picture.series if (each.kind or picture.kind) == "bars"]
    xs = places(picture)
    numbers = all(isinstance(x, int | float) for x in xs)
    apart = min((b - a for a, b in pairwise(sorted(xs))), default=1.0) if numbers else 1.0
    width = (0.9 if alone else 0.8) * apart / len(beside)
    shift = (next(i for i, each in enumerate(beside) if each is series) - (len(beside) - 1) / 2) * width
    axes.bar([(xs.index(x) if isinstance(x, str) or not numbers else x) + shift for x in series.x], y, width, **style)
    if not numbers:
        axes.set_xticks(range(len(xs)), [_plain(str(value)) for value in xs])


def _plain(text: str) -> str:
    """Return a text with escaped dollars, as matplotlib reads mathematics between two of them."""
    return text.replace("$", r"\$")
