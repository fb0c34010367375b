"""What a verdict is made from: a claim with its measurements, and what keeps these from testing it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

from scipy import special

from reslab.ledger.claim import Claim
from reslab.ledger.record import SEED_DIGITS, Failures, Reason

TRAINED = 0.2
"""A network with a larger training error has not learned its task, and says nothing of networks that have."""

ROUNDING = 1e-12
"""Of the largest measurement: what differs by no more does not differ. Relative, as a verdict does not depend on the
unit.
"""

CONFIDENCE = 0.95
"""Of the upper bound of the rate of failed runs."""


@dataclass(frozen=True)
class Comparison:
    """A claim with its measurements: one value per seed, and one per seed of what it is compared with, or one number
    for all.

    `untested` says why they cannot decide, where they cannot. `room`: the values cannot be under 0, so that nothing can
    be lower by a margin that the control itself does not reach. `resolution` is the step of the grid that values were
    read off, if they were: the difference of two such values may be wrong by as much, in all seeds alike, and the
    interval is wider by that. Its least is the `grain` of the metric: one image of N, of an error rate. `paired` says
    that the values of one seed share more than the seed: the same trained network before and after damage, say.
    `failed` counts the runs of each group that did not train.

    Raises:
        ValueError: if the claim has no margin, the margin is negative, the resolution is negative or not finite, or
            something is no seed.
    """

    claim: Claim
    treatment: Mapping[int, float]
    control: Mapping[int, float] | float
    untested: Reason | None = None
    resolution: float = 0.0
    room: bool = False
    grain: float = 0.0
    paired: bool = False
    failed: Mapping[str, Failures] = field(default_factory=dict)

    def __post_init__(self) -> None:
        claim = self.claim
        if claim.direction is None or claim.margin is None:
            raise ValueError(f"claim {claim.id!r} is {claim.kind}: it has no margin to compare with")
        if claim.margin < 0:
            raise ValueError(f"claim {claim.id!r}: the margin must be at least 0, got {claim.margin}")
        for name in ("resolution", "grain"):
            step = getattr(self, name)
            if not 0 <= step < math.inf:
                raise ValueError(f"claim {claim.id!r}: the {name} must be a finite number of at least 0, got {step}")
        if self.room and claim.direction != "lower":
            raise ValueError(f"claim {claim.id!r}: only what is to be lower needs room for it")
        seeds: tuple[Any, ...] = (*self.treatment, *self.controls)
        for seed in seeds:
            if not (isinstance(seed, Integral) and 0 <= int(seed) < 10**SEED_DIGITS):
                wanted = f"a whole number from 0, of up to {SEED_DIGITS} digits"
                raise ValueError(f"claim {claim.id!r}: a seed must be {wanted}, got {seed!r}")

    @property
    def controls(self) -> Mapping[int, float]:
        """Return what each seed's value is compared with."""
        return self.control if isinstance(self.control, Mapping) else dict.fromkeys(self.treatment, self.control)

    @property
    def margin(self) -> float:
        """Return the claim's margin."""
        assert self.claim.margin is not None
        return self.claim.margin

    @property
    def threshold(self) -> float:
        """Return what the effect is compared with: the margin, or minus the margin where it has to be lower."""
        return 0.0 - self.margin if self.claim.direction == "lower" else self.margin  # and not -0

    def obstacle(self) -> Reason | None:
        """Return why these measurements test nothing; None where they do."""
        sides = self.treatment, self.controls
        if self.untested is not None:
            return self.untested
        if not all(sides):
            return Reason(code="nothing-measured")
        lost = sorted({int(seed) for side in sides for seed, value in side.items() if not math.isfinite(value)})
        if lost:
            return Reason(code="not-finite", values={"seeds": lost})
        return self._no_room()

    def _no_room(self) -> Reason | None:
        if not self.room:
            return None
        mean = math.fsum(self.controls.values()) / len(self.controls)
        reach = self.margin + ROUNDING * max(self.margin, *map(abs, self.controls.values()))
        return Reason(code="no-room", values={"margin": self.margin, "mean": mean}) if mean <= reach else None


@dataclass(frozen=True)
class Check:
    """An exact claim with what was measured and what it has to be."""

    claim: Claim
    measured: Any
    expected: Any


def untrained(train_errors: Mapping[str, Mapping[int, float]]) -> Reason | None:
    """Return why a comparison of trained networks tests nothing, given each one's training errors by seed; None if
    every one has been trained.
    """
    worst = {name: max(map(_or_infinite, errors.values()), default=math.inf) for name, errors in train_errors.items()}
    found = {name: error if math.isfinite(error) else None for name, error in worst.items() if not error <= TRAINED}
    return Reason(code="untrained", values={"errors": found, "limit": TRAINED}) if found else None


def failures(train_errors: Mapping[str, Mapping[int, float]]) -> dict[str, Failures]:
    """Return how many of each group's runs did not train, with the exact upper bound of their rate (Clopper and
    Pearson, Biometrika 26, 1934), given each one's training errors by seed.
    """
    counts = {
        name: (sum(not error <= TRAINED for error in errors.values()), len(errors))
        for name, errors in train_errors.items()
    }
    return {name: Failures(failed=k, of=n, bound=upper_bound(k, n)) for name, (k, n) in counts.items() if n}


def upper_bound(failed: int, of: int, confidence: float = CONFIDENCE) -> float:
    """Return the largest rate at which so few failures, or fewer, have a chance of 1 − confidence."""
    return 1.0 if failed == of else float(special.betaincinv(failed + 1, of - failed, confidence))


def _or_infinite(error: float) -> float:
    return math.inf if math.isnan(error) else error
