"""What a trained network loses with some of its blocks (Veit et al. 2016, sections 4.1 to 4.3)."""

from typing import NamedTuple

import torch

from reslab.analysis.removal import Damage, remove_each, remove_random, reorder
from reslab.experiment.trials import Trial
from reslab.networks.variants import whole


class Curve(NamedTuple):
    """The error of a whole network, and its mean over draws at each amount of damage."""

    error: float
    amounts: list[int]
    means: list[float]

    @property
    def rises(self) -> list[float]:
        """Return by how much the error is higher than the whole network's."""
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
    """Say whether a block of a CIFAR network changes the shape: the first of every stage but the first."""
    return block.endswith(".0") and not block.endswith("layer1.0")


def largest_step(curve: Curve) -> float:
    """Return the largest rise of the mean error from one amount to the next, over the curve's range; 0
    for a flat one.
    """
    errors = torch.tensor(curve.errors)
    span = float(errors.max() - errors.min())
    return float(errors.diff().max()) / span if span else 0.0


def lesions(trial: Trial, images: int, draws: int) -> Lesions:
    """Return what a trained network loses with its blocks, on this many test images."""
    network, (x, y) = whole(trial.network()), trial.data().sample("test", images)
    each = remove_each(network, x, y)
    without = dict(zip([block.name for block in each.blocks], each.without.tolist(), strict=True))
    return Lesions(each.error, without, _curve(remove_random(network, x, y, draws=draws, seed=trial.seed)))


def exchanges(trial: Trial, images: int, draws: int) -> Curve:
    """Return what a trained network loses with pairs of its blocks exchanged, on this many test images."""
    return _curve(reorder(whole(trial.network()), *trial.data().sample("test", images), draws=draws, seed=trial.seed))


def _curve(damage: Damage) -> Curve:
    return Curve(damage.error, list(damage.amounts), damage.errors.mean(1).tolist())
