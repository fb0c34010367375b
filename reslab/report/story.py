"""The page's first picture: four networks, plain and residual, shallow and deep, as they train.

`python -m reslab.report.story TRIALS DATE` writes `story.json` from finished trials' directories and their date, and
the page embeds it. The page of a study that trained the four networks shows that study's curves.
"""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape

from reslab.files import Json, read_json, write_atomically
from reslab.naming import without_path
from reslab.report.colours import colours
from reslab.report.records import StudyRecord, Trial, read_trial

FILE = Path(__file__).parent / "story.json"

NETWORKS = {
    "plain-20": ("cifar_plain", 20),
    "plain-56": ("cifar_plain", 56),
    "resnet-20": ("cifar_resnet", 20),
    "resnet-56": ("cifar_resnet", 56),
}
"""The four networks, with their models and depths."""

DASHES = {"plain-20": "7 4", "resnet-20": "7 4"}
"""The line style of the shallow ones, so that colour is not the only difference."""


class Size(NamedTuple):
    """A drawing's width and height, in CSS pixels."""

    width: int
    height: int


SIZES = {"wide": Size(700, 330), "narrow": Size(345, 300)}
LEFT, RIGHT, TOP, BOTTOM = 46, 150, 12, 40
"""Room around the curves: for the error's numbers, the names in a wide font, and the epochs."""
APART = 19
"""The smallest distance between names, so that none covers another."""


def story(studies: Sequence[StudyRecord]) -> Json:
    """Return the curves of the four networks: from the first study that trained all four, else the bundled ones."""
    for study in studies:
        found = curves(study.trials)
        if found is not None:
            return found
    shipped: Json = read_json(FILE)
    return shipped


def curves(trials: Iterable[Trial]) -> Json | None:
    """Return the mean and standard deviation over seeds, in %, of each network's training error by epoch, and the data
    and date; None unless all four were trained to the end, in the same way, with metrics.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        name = _name(trial.config.get("config", {}))
        if name and trial.result is not None and trial.metrics:
            groups.setdefault(name, []).append(trial)
    if groups.keys() != NETWORKS.keys():
        return None
    configs = [trial.config["config"] for members in groups.values() for trial in members]
    lengths = {tuple(line["epoch"] for line in trial.metrics) for members in groups.values() for trial in members}
    recipes = {json.dumps(config.get("recipe"), sort_keys=True) for config in configs}
    data = {str(config.get("data")) for config in configs}
    seeds = {seed for config in configs if isinstance(seed := config.get("seed"), int)}
    networks = {name: _summary(groups[name]) for name in NETWORKS} if len(lengths) == 1 else {}
    measured = [value for one in networks.values() for value in (*one["mean"], *one["spread"])]
    if len(recipes) > 1 or len(data) > 1 or not (seeds and measured and all(map(math.isfinite, measured))):
        return None
    return {
        "data": without_path(data.pop()),
        "seeds": sorted(seeds),
        "date": "",
        "epochs": list(lengths.pop()),
        "networks": networks,
    }


def _name(config: Json) -> str | None:
    """Return the name of a trial's network among the four; None for any other, even if it differs in a single
    option.
    """
    options = {"block": "basic", **(config.get("options") or {})}
    known = {name: (model, {"block": "basic", "depth": depth}) for name, (model, depth) in NETWORKS.items()}
    return next((name for name, each in known.items() if each == (config.get("model"), options)), None)


def _summary(trials: Sequence[Trial]) -> Json:
    errors = 100 * np.array([[line["train_error"] for line in trial.metrics] for trial in trials], dtype=float)
    spread = errors.std(0, ddof=1) if len(trials) > 1 else np.zeros(errors.shape[1])
    return {"mean": errors.mean(0).round(3).tolist(), "spread": spread.round(3).tolist()}


# --- The drawing ------------------------------------------------------------------------------------------------------


def drawing(told: Json, size: Size) -> Markup:
    """Return a story as SVG, with names beside the curves' ends; it contains both languages, and the page shows one."""
    epochs = told["epochs"]
    first, last = min(epochs), max(epochs)

    def x(epoch: float) -> float:
        return round(LEFT + (size.width - LEFT - RIGHT) * (epoch - first) / ((last - first) or 1), 1)

    def y(error: float) -> float:
        return round(TOP + (size.height - TOP - BOTTOM) * (1 - max(0.0, min(100.0, error)) / 100), 1)

    def path(errors: Sequence[float]) -> str:
        return " ".join(f"{x(epoch)},{y(error)}" for epoch, error in zip(epochs, errors, strict=True))

    parts = [_grid(size, x, y, epochs)]
    palette = dict(zip(NETWORKS, colours(list(NETWORKS)), strict=True))
    for name, one in told["networks"].items():
        colour = f"var(--series-{palette[name]})"
        band = [path([sign * s + m for m, s in zip(one["mean"], one["spread"], strict=True)]) for sign in (1, -1)]
        there, back = band[0], " ".join(reversed(band[1].split()))
        dash = f' stroke-dasharray="{DASHES[name]}"' if name in DASHES else ""
        parts.append(f'<polygon points="{there} {back}" fill="{colour}" opacity=".15"/>')
        parts.append(f'<polyline points="{path(one["mean"])}" fill="none" stroke="{colour}" stroke-width="3"{dash}/>')
    ends = {name: y(one["mean"][-1]) for name, one in told["networks"].items()}
    for name, place in dodged(ends, size.height - BOTTOM + 4).items():
        end, colour = x(last), f"var(--series-{palette[name]})"
        error = f"{told['networks'][name]['mean'][-1]:.1f} %"
        parts.append(f'<path d="M{end + 2},{ends[name]}L{end + 12},{place}" stroke="{colour}" fill="none"/>')
        parts.append(
            f'<text x="{end + 16}" y="{place + 4}"><tspan class="name">{escape(name)}</tspan> {escape(error)}</text>'
        )
    return Markup("".join(parts))


def _grid(size: Size, x: Any, y: Any, epochs: Sequence[float]) -> str:
    """Return the axes with their numbers and names."""
    right, bottom = size.width - RIGHT, size.height - BOTTOM
    lines = [
        f'<line class="grid" x1="{LEFT}" y1="{y(error)}" x2="{right}" y2="{y(error)}"/>'
        f'<text class="tick" x="{LEFT - 7}" y="{y(error) + 4}" text-anchor="end">{error}</text>'
        for error in range(0, 101, 25)
    ]
    step = max(1, -(-len(epochs) // 8))  # so many have room
    lines += [
        f'<text class="tick" x="{x(epoch)}" y="{bottom + 18}" text-anchor="middle">{epoch:g}</text>'
        for epoch in epochs[::step]
    ]
    middle = (LEFT + right) / 2
    for language, text in (("ko", "에포크"), ("en", "epoch")):
        lines.append(f'<text class="{language}" x="{middle}" y="{bottom + 36}" text-anchor="middle">{text}</text>')
    return "".join(lines)


def dodged(places: dict[str, float], lowest: float) -> dict[str, float]:
    """Return heights for names near these, at least `APART` from each other, and none below the lowest."""
    found: dict[str, float] = {}
    floor = lowest
    for name, place in sorted(places.items(), key=lambda each: -each[1]):
        found[name] = round(min(place, floor), 1)
        floor = found[name] - APART
    return found


if __name__ == "__main__":
    found = curves(read_trial(path.parent) for path in sorted(Path(sys.argv[1]).glob("*/trial.json")))
    if found is None:
        sys.exit("not all four networks are there, all trained alike")
    write_atomically(FILE, json.dumps({**found, "date": sys.argv[2]}, separators=(",", ":")) + "\n")
    print(FILE, found["seeds"], file=sys.stderr)
