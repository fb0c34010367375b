"""The loss around a trial's trained weights, in a plane (Li et al. 2018)."""

from typing import NamedTuple

from reslab.analysis.landscape import landscape
from reslab.experiment.trials import Trial

SURFACE_IMAGES = 64

LEAST, MOST = 1e-6, 1e12
"""Losses are clipped to this range for drawing: far out they overflow, and for a network that has memorised its images
they underflow.
"""


class Surface(NamedTuple):
    """The log10 of the loss, row by row, at each pair of coordinates."""

    coordinates: list[float]
    heights: list[list[float]]


def surface(trial: Trial, points: int) -> Surface:
    """Return the loss around a trial's trained weights."""
    images, labels = trial.data().sample("train", SURFACE_IMAGES)
    found = landscape(trial.network(), images, labels, points=points, seed=trial.seed)
    return Surface(found.coordinates.tolist(), found.losses.nan_to_num(nan=MOST).clamp(LEAST, MOST).log10().T.tolist())
