"""Claims and verdicts: what is asserted, and how repeated runs decide it.

A claim fixes its direction and the smallest effect that matters (its margin) before anything runs. The effect is the
mean of `treatment - control`. Intervals are Student's t on paired differences where the same seeds ran on both sides,
Welch's where they did not; a study's statistical claims share one family-wise error rate by Holm's procedure, and the
interval that is shown is the one that decided.

Exact claims (a count, a shape, an identity) are checked once; cited ones (history, other people's data) carry what
their source decides.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import special  # its stdtr is Student's t, as scipy.stats.t, which takes many times as long to load

from reslab.ledger.claim import Claim, Decision
from reslab.ledger.record import Reason, Verdict

ERROR_RATE = 0.05
"""Family-wise rate of decided verdicts where the true effect is exactly on the margin."""

MINIMUM_SEEDS = 3


@dataclass(frozen=True)
class Comparison:
    """A claim with its measurements: one value per seed, and one per seed of what it is compared with, or one number
    for all.

    `untested` says why they cannot decide, where they cannot. `room`: the values cannot be under 0, so that nothing can
    be lower by a margin that the control itself does not reach. `resolution` is the step of the grid that values were
    read off, if they were: the difference of two such values may be wrong by as much, in all seeds alike, and the
    interval is wider by that.
    """

    claim: Claim
    treatment: Mapping[int, float]
    control: Mapping[int, float] | float
    untested: Reason | None = None
    resolution: float = 0.0
    room: bool = False

    @property
    def controls(self) -> Mapping[int, float]:
        """Return what each seed's value is compared with."""
        return self.control if isinstance(self.control, Mapping) else dict.fromkeys(self.treatment, self.control)


@dataclass(frozen=True)
class Check:
    """An exact claim with what was measured and what it has to be."""

    claim: Claim
    measured: Any
    expected: Any


TRAINED = 0.2
"""A network with a larger training error has not learned its task, and says nothing of networks that have."""


def untrained(train_errors: Mapping[str, Mapping[int, float]]) -> Reason | None:
    """Return why a comparison of trained networks tests nothing, given each one's training errors by seed; None if
    every one has been trained.
    """
    worst = {name: float(np.max(list(errors.values()))) for name, errors in train_errors.items()}
    found = {name: error if math.isfinite(error) else None for name, error in worst.items() if not error <= TRAINED}
    return Reason(code="untrained", values={"errors": found, "limit": TRAINED}) if found else None


def _no_room(comparison: Comparison) -> Reason | None:
    """Return why nothing can be lower than the control by the margin; None where it can."""
    if not comparison.room:
        return None
    claim, mean = comparison.claim, float(np.mean(list(comparison.controls.values())))
    assert claim.direction == "lower" and claim.margin is not None
    return Reason(code="no-room", values={"margin": claim.margin, "mean": mean}) if mean <= claim.margin else None


def undecided(claim: Claim) -> Verdict:
    """Return the record of a claim that nothing was measured for yet."""
    return Verdict(**asdict(claim))


class Agreement(NamedTuple):
    """The claims that were decided more than once: alike each time, inconclusive in some cases only, or supported here
    and refuted there.
    """

    alike: list[str]
    in_part: list[str]
    both_ways: list[str]


def agreement(claims: Sequence[Verdict]) -> Agreement:
    """Return how the verdicts of several studies agree, given all of them."""
    verdicts: dict[str, list[Decision]] = {}
    for claim in claims:
        if claim.verdict is not None:
            verdicts.setdefault(claim.id, []).append(claim.verdict)
    found = Agreement([], [], [])
    for id, decided in verdicts.items():
        kinds = set(decided)
        if len(decided) > 1:
            (
                found.both_ways
                if kinds >= {"supported", "refuted"}
                else found.in_part
                if len(kinds) > 1
                else found.alike
            ).append(id)
    return found


ROUNDING = 1e-12
"""Of the largest measurement: what differs by no more does not differ. Relative, as a verdict does not depend on the
unit.
"""


@dataclass(frozen=True)
class _Estimate:
    """A mean difference with its standard error, its degrees of freedom, how far all of it may be off, and what of it
    is only rounding.
    """

    effect: float
    error: float
    df: float
    n: int
    method: str
    off: float
    rounding: float

    def interval(self, level: float, threshold: float) -> tuple[float, float]:
        """Return the interval of the effect; an end that is at the threshold up to rounding is there exactly."""
        half = self.off + (float(special.stdtrit(self.df, 0.5 + level / 2)) * self.error if self.error else 0.0)
        low, high = (
            threshold if abs(end - threshold) <= self.rounding else end
            for end in (self.effect - half, self.effect + half)
        )
        return low, high

    def p_value(self, threshold: float) -> float:
        """Return the two-sided p-value of "the effect equals the threshold", whichever way it is off."""
        distance = abs(self.effect - threshold) - self.off
        if distance <= self.rounding:
            return 1.0
        return float(2 * special.stdtr(self.df, -distance / self.error)) if self.error else 0.0


def _estimate(treatment: Mapping[int, float], control: Mapping[int, float], off: float) -> _Estimate:
    """Return the paired estimate over the seeds that both sides ran, or Welch's where these are too few."""
    size, unit = math.frexp(max(map(abs, (*treatment.values(), *control.values()))))
    # In units of 2**unit, where the largest value is `size`: that rounds nothing, and no square vanishes or overflows.
    ours, theirs = ({seed: math.ldexp(value, -unit) for seed, value in side.items()} for side in (treatment, control))
    rounding = ROUNDING * size
    shared = sorted(ours.keys() & theirs.keys())
    if len(shared) >= MINIMUM_SEEDS:
        difference = np.array([ours[seed] - theirs[seed] for seed in shared])
        effect, error = float(difference.mean()), _standard_error(difference, rounding)
        df, n, method = float(len(difference) - 1), len(difference), "paired t"
    else:
        a, b = np.array(list(ours.values())), np.array(list(theirs.values()))
        error_a, error_b = _standard_error(a, rounding), _standard_error(b, rounding)
        effect, error = float(a.mean() - b.mean()), float(np.hypot(error_a, error_b))
        df = error**4 / (error_a**4 / (len(a) - 1) + error_b**4 / (len(b) - 1)) if error else math.inf
        n, method = min(len(a), len(b)), "Welch t"
    return _Estimate(math.ldexp(effect, unit), math.ldexp(error, unit), df, n, method, off, math.ldexp(rounding, unit))


def _standard_error(values: "np.ndarray[Any, np.dtype[np.float64]]", rounding: float) -> float:
    """Return the standard error of the mean; exactly 0 if all values are equal up to rounding."""
    return 0.0 if np.ptp(values) <= rounding else float(values.std(ddof=1) / np.sqrt(len(values)))


def check(evidence: Check) -> Verdict:
    """Return the verdict on an exact claim: supported if the measured value is the expected one."""
    same = evidence.measured == evidence.expected
    return Verdict(
        **asdict(evidence.claim),
        verdict="supported" if same else "refuted",
        n=1,
        method="exact",
        reason=Reason(code="as-claimed" if same else "not-as-claimed"),
        measured=_plain(evidence.measured),
        expected=_plain(evidence.expected),
    )


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def cite(claim: Claim) -> Verdict:
    """Return the verdict on a cited claim, which is its source's."""
    return Verdict(
        **asdict(claim),
        verdict=claim.decision,
        n=0,
        method="cited",
        reason=Reason(code="finding", values={"text": claim.finding}),
    )


def decide(comparisons: Sequence[Comparison], error_rate: float = ERROR_RATE) -> list[Verdict]:
    """Return a verdict for each comparison, Holm-adjusted together, in their order.

    What is untested, or has fewer than three seeds on a side, is inconclusive for that reason. The latter takes no
    share of the error rate; the former does, as whether it is tested may depend on what was measured.

    Raises:
        ValueError: if a measurement is not finite.
    """
    for comparison in comparisons:
        if comparison.claim.direction is None or comparison.claim.margin is None:
            raise ValueError(
                f"claim {comparison.claim.id!r} is {comparison.claim.kind}: it has no margin to compare with"
            )
        values = [*comparison.treatment.values(), *comparison.controls.values()]
        if not np.isfinite(values).all():
            raise ValueError(f"claim {comparison.claim.id!r}: every measurement must be a finite number, got {values}")

    verdicts: dict[int, Verdict] = {}
    testable: list[tuple[float, int, float, _Estimate]] = []
    untested = 0
    for index, comparison in enumerate(comparisons):
        claim, treatment, control = comparison.claim, comparison.treatment, comparison.controls
        n = min(len(treatment), len(control))
        reason = comparison.untested or _no_room(comparison)
        untested += reason is not None
        if reason is not None or n < MINIMUM_SEEDS:
            effect = float(np.mean(list(treatment.values())) - np.mean(list(control.values()))) if n else None
            few = Reason(code="few-seeds", values={"n": n, "least": MINIMUM_SEEDS})
            verdicts[index] = _record(
                comparison, verdict="inconclusive", effect=effect, n=n, method="none", reason=reason or few
            )
            continue
        assert claim.margin is not None
        threshold = 0.0 - claim.margin if claim.direction == "lower" else claim.margin  # and not -0
        estimate = _estimate(treatment, control, comparison.resolution)
        testable.append((estimate.p_value(threshold), index, threshold, estimate))

    level = 1 - error_rate
    stopped = False
    for rank, (p, index, threshold, estimate) in enumerate(sorted(testable, key=lambda item: item[:2])):
        # Holm: the k-th smallest p-value is tested at rate / (m - k); after the first that fails, none passes
        if not stopped:
            share = error_rate / (len(testable) + untested - rank)
            level, stopped = 1 - share, p > share
        verdicts[index] = _decided(comparisons[index], threshold, estimate, level)
    return [verdicts[index] for index in range(len(comparisons))]


def _decided(comparison: Comparison, threshold: float, estimate: _Estimate, level: float) -> Verdict:
    low, high = estimate.interval(level, threshold)
    above, below = low > threshold, high < threshold
    decision: Decision = "inconclusive"
    if above or below:
        decision = "supported" if above == (comparison.claim.direction == "higher") else "refuted"
    where = "over" if above else "under" if below else "around"
    code = f"interval-{where}"
    if estimate.error == estimate.off == 0:
        code = f"point-{where if above or below else 'at'}"
    return _record(
        comparison,
        verdict=decision,
        effect=estimate.effect,
        interval=(low, high),
        level=level,
        n=estimate.n,
        method=estimate.method,
        reason=Reason(code=code, values={"n": estimate.n, "threshold": threshold}),
    )


def _record(comparison: Comparison, **decided: Any) -> Verdict:
    """Return a comparison's verdict with its evidence."""
    control = comparison.control
    return Verdict(
        **asdict(comparison.claim),
        **decided,
        treatment=_by_seed(comparison.treatment),
        control=_by_seed(control) if isinstance(control, Mapping) else float(control),
        untested=comparison.untested,
        resolution=comparison.resolution,
        room=comparison.room,
    )


def _by_seed(values: Mapping[int, float]) -> dict[str, float]:
    return {str(seed): float(value) for seed, value in values.items()}


def decide_again(claims: Sequence[Verdict], margins: Mapping[str, float]) -> list[Verdict]:
    """Return one study's claims decided again from their records alone, those that `margins` names with another margin;
    the others as they are.

    Raises:
        ValueError: if a statistical claim's record has no values per seed, as those of version 0.1 have none.
    """
    again: dict[str, Comparison] = {}
    for claim in claims:
        if claim.kind != "statistical":
            continue
        if claim.treatment is None or claim.control is None:
            raise ValueError(f"the record of {claim.id} has no values per seed")
        fields = {key: getattr(claim, key) for key in Claim.__dataclass_fields__ if key in Verdict.model_fields}
        control = (
            claim.control
            if isinstance(claim.control, float)
            else {int(seed): value for seed, value in claim.control.items()}
        )
        again[claim.id] = Comparison(
            Claim(**{**fields, "margin": margins.get(claim.id, claim.margin)}),
            {int(seed): value for seed, value in claim.treatment.items()},
            control,
            claim.untested,
            claim.resolution,
            claim.room,
        )
    decided = {verdict.id: verdict for verdict in decide(list(again.values()))}
    return [decided.get(claim.id, claim) for claim in claims]
