"""Lesions of trained networks (Veit et al. 2016, sections 4.1 to 4.3)."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import torch

from reslab.analysis.removal import Damage, remove_each, remove_random, reorder
from reslab.experiment.text import StudyText
from reslab.experiment.trials import Key, Trial, label
from reslab.ledger.record import Chart, Series
from reslab.networks.variants import whole


class Curve(NamedTuple):
    """The error of a whole network, and its mean over draws at each amount of damage."""

    error: float
    amounts: list[int]
    means: list[float]

    @property
    def rises(self) -> list[float]:
        """Return the rise of the error over the whole network's."""
        return [mean - self.error for mean in self.means]

    @property
    def errors(self) -> list[float]:
        """Return the error at no damage and at each amount."""
        return [self.error, *self.means]


class Lesions(NamedTuple):
    """The error of one trained network, without each of its blocks, and with more and more of them removed."""

    error: float
    without: dict[str, float]
    removed: Curve

    def rise(self, *, transitions: bool = False) -> float:
        """Return the mean rise of the error with one block removed that keeps the shape, or that changes it."""
        rises = [error - self.error for block, error in self.without.items() if changes(block) == transitions]
        return sum(rises) / len(rises)

    def half(self) -> float:
        """Return the rise of the error with about half of the blocks removed."""
        nearest = min(
            range(len(self.removed.amounts)), key=lambda index: abs(self.removed.amounts[index] - len(self.without) / 2)
        )
        return self.removed.rises[nearest]


def changes(block: str) -> bool:
    """Return whether a block of a CIFAR network changes the shape: the first of every stage but the first."""
    return block.endswith(".0") and not block.endswith("layer1.0")


def largest_step(curve: Curve) -> float:
    """Return the largest rise of the mean error from one amount to the next, over the curve's range; 0
    for a flat one.
    """
    errors = torch.tensor(curve.errors)
    span = float(errors.max() - errors.min())
    return float(errors.diff().max()) / span if span else 0.0


def lesions(trial: Trial, images: int, draws: int) -> Lesions:
    """Return the errors of a trained network without blocks, on this many test images."""
    network, (x, y) = whole(trial.network()), trial.data().sample("test", images)
    each = remove_each(network, x, y)
    without = dict(zip([block.name for block in each.blocks], each.without.tolist(), strict=True))
    return Lesions(each.error, without, _curve(remove_random(network, x, y, draws=draws, seed=trial.seed)))


def exchanges(trial: Trial, images: int, draws: int) -> Curve:
    """Return the errors of a trained network with swapped pairs of blocks, on this many test images."""
    return _curve(reorder(whole(trial.network()), *trial.data().sample("test", images), draws=draws, seed=trial.seed))


def _curve(damage: Damage) -> Curve:
    return Curve(damage.error, list(damage.amounts), damage.errors.mean(1).tolist())


def lesion_charts(
    text: StudyText,
    control: int,
    found: Mapping[Key, Mapping[int, Lesions]],
    exchanged: Mapping[Key, Mapping[int, Curve]],
) -> list[Chart]:
    """Return the test errors without each block, without random ones, and with swapped ones."""
    shown = {key: list(lesions.values()) for key, lesions in found.items() if lesions}
    removed = {key: [lesion.removed for lesion in lesions] for key, lesions in shown.items()}
    swapped = {key: list(curves.values()) for key, curves in exchanged.items() if curves}
    return [
        _one_block(text, control, shown),
        _curves(text, "random-blocks", removed),
        _curves(text, "exchanged", swapped),
    ]


def _one_block(text: StudyText, control: int, found: Mapping[Key, Sequence[Lesions]]) -> Chart:
    blocks = max((list(lesions[0].without) for lesions in found.values()), key=len)  # the controls have fewer
    stages = [list(names) for _, names in groupby(blocks, key=lambda name: name.split(".")[0])]
    return text.chart(
        "one-block",
        [
            _series(text, key, ["–", *one.without], [[each.error, *each.without.values()] for each in (one, *rest)])
            for key, (one, *rest) in found.items()
        ],
        bands=[
            text.band("stage", names[0], names[-1], {"number": number}) for number, names in enumerate(stages, start=1)
        ],
        said={"control": control},
        kind="bars",
        arrangement="panels",
        marks=[name for name in blocks if changes(name)],
    )


def _curves(text: StudyText, chart: str, curves: Mapping[Key, Sequence[Curve]]) -> Chart:
    series = [
        _series(text, key, [0.0, *some[0].amounts], [curve.errors for curve in some]) for key, some in curves.items()
    ]
    return text.chart(chart, series)


def _series(text: StudyText, key: Key, x: Sequence[float] | Sequence[str], errors: Iterable[Sequence[float]]) -> Series:
    """Return the mean over seeds of error rates, in %."""
    return text.averaged(label(key), x, [[100 * error for error in column] for column in zip(*errors, strict=True)])
