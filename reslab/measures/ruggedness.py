"""The loss from the trained weights outwards, along random directions (Li et al. 2018, section 4)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite, log10
from statistics import fmean
from typing import NamedTuple

from reslab.analysis.landscape import landscape
from reslab.experiment.text import StudyText
from reslab.experiment.trials import Key, Trial, label
from reslab.ledger.record import Chart

MOST = 1e12
"""The value of a loss that overflows far out."""


class Surface(NamedTuple):
    """The loss from the trained weights outwards, `[ways][steps + 1]`."""

    losses: list[list[float]]

    @property
    def ruggedness(self) -> float:
        """Return the share of steps in which the loss falls."""
        falls = [after < before for way in self.losses for before, after in pairwise(way)]
        return fmean(falls)

    @property
    def sharpness(self) -> float:
        """Return log10 of 1 + the loss's largest rise within the radius, its mean over the ways."""
        return fmean(log10(1 + max(way) - way[0]) for way in self.losses)


def surface(trial: Trial, images: int, directions: int, steps: int, radius: float) -> Surface:
    """Return the loss around a trial's trained weights."""
    network, (x, y) = trial.network(), trial.data().sample("train", images)
    ways = []
    for direction in range(directions):
        seed = directions * trial.seed + direction
        found = landscape(network, x, y, dimensions=1, points=2 * steps + 1, radius=radius, seed=seed)
        losses = [min(loss, MOST) if isfinite(loss) else MOST for loss in found.losses.tolist()]
        ways += [losses[steps::-1], losses[steps:]]
    return Surface(ways)


def outwards_chart(text: StudyText, distances: Sequence[float], found: Mapping[Key, Mapping[int, Surface]]) -> Chart:
    """Return the mean loss on the way outwards, by network."""
    means = {
        label(key): {
            seed: [fmean(map(_log10, at)) for at in zip(*one.losses, strict=True)] for seed, one in some.items()
        }
        for key, some in found.items()
        if some
    }
    return text.chart("outwards", [text.over_seeds(name, distances, by_seed) for name, by_seed in means.items()])


def _log10(loss: float) -> float:
    return log10(max(loss, 1e-6))  # for a network that has memorised its images it underflows
