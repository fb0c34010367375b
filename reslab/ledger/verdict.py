"""Verdicts: how repeated runs decide claims.

The effect is `treatment - control` of a typical run: the mean of a distribution that is symmetric, the median of one
that is not. Intervals are Student's t: Welch's, or of paired differences where the two sides of a seed truly share
something. A study's statistical claims share one family-wise error rate by Holm's procedure, which decides; the
intervals, which are read together, are simultaneous (Bonferroni). Where differences have no spread, differ by no more
than the metric's grain, or are skewed, an exact test of signs, or of ranks between two sides, has to agree:
`reslab.ledger.estimate`.

Exact claims (a count, a shape, an identity) are checked once; cited ones (history, other people's data) carry what
their source decides.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeVar

from reslab.ledger.claim import Claim, Decision
from reslab.ledger.comparison import Check, Comparison
from reslab.ledger.estimate import Estimate, estimate
from reslab.ledger.record import Reason, Verdict, Way

ERROR_RATE = 0.05
"""Family-wise rate of decided verdicts where the true effect is exactly on the margin."""

MINIMUM_SEEDS = 3

Name = TypeVar("Name", int, str)


def undecided(claim: Claim) -> Verdict:
    """Return the record of a claim that nothing was measured for yet."""
    return Verdict(**asdict(claim))


def check(evidence: Check) -> Verdict:
    """Return the verdict on an exact claim: supported if the measured value is the expected one, and of its type.

    Raises:
        ValueError: if the claim is of another kind.
    """
    if evidence.claim.kind != "exact":
        raise ValueError(f"claim {evidence.claim.id!r} is {evidence.claim.kind}: an expected value does not decide it")
    measured, expected = _of_python(evidence.measured), _of_python(evidence.expected)
    same = alike(measured, expected)
    code = "as-claimed" if same else "not-a-number" if _has_nan(measured) else "not-as-claimed"
    return Verdict(
        **asdict(evidence.claim),
        verdict="supported" if same else "refuted",
        n=1,
        method="exact",
        reason=Reason(code=code),
        measured=_plain(measured),
        expected=_plain(expected),
    )


def alike(measured: Any, expected: Any) -> bool:
    """Return whether two values are equal and of one kind, part by part: `True` is not 1, a list is no tuple, and NaN
    is like nothing.
    """
    if isinstance(measured, Mapping) and isinstance(expected, Mapping):
        return measured.keys() == expected.keys() and all(alike(measured[key], expected[key]) for key in measured)
    for kind in (list, tuple):
        if isinstance(measured, kind) and isinstance(expected, kind):
            return len(measured) == len(expected) and all(map(alike, measured, expected))
    return bool(isinstance(measured, bool) == isinstance(expected, bool) and measured == expected)


def _of_python(value: Any) -> Any:
    """Return a value with the numbers and arrays of NumPy and torch in it as Python's."""
    if isinstance(value, Mapping):
        return {key: _of_python(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_of_python, value))
    return value.tolist() if hasattr(value, "ndim") and hasattr(value, "tolist") else value


def _has_nan(value: Any) -> bool:
    return any(part != part for part in _leaves(value))


def _leaves(value: Any) -> Iterator[Any]:
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else None
    if parts is None:
        yield value
    else:
        for part in parts:
            yield from _leaves(part)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
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


@dataclass(frozen=True)
class Tested:
    """A comparison that can be decided, its estimate and its p-value."""

    comparison: Comparison
    estimate: Estimate
    p: float

    @classmethod
    def of(cls, comparison: Comparison, found: Estimate) -> Self:
        """Return the comparison with its estimate, tested against its threshold."""
        return cls(comparison, found, found.p_value(comparison.threshold))


def decide(comparisons: Sequence[Comparison], error_rate: float = ERROR_RATE) -> list[Verdict]:
    """Return a verdict for each comparison, Holm-adjusted together (Scandinavian Journal of Statistics 6, 1979), in
    their order.

    What cannot be tested is *untested*, for its reason, and takes its share of the error rate all the same, as whether
    it is tested may depend on what was measured. What has fewer than three seeds on a side is inconclusive, and takes
    none. A claim that another of them has the same numbers as (`same_as`) takes none either: it is judged at the
    other's share.

    Raises:
        ValueError: if the error rate is not between 0 and 1.
    """
    if not 0 < error_rate < 1:
        raise ValueError(f"an error rate is between 0 and 1, got {error_rate}")
    verdicts: dict[int, Verdict] = {}
    tested: dict[int, Tested] = {}
    members = 0
    aliases = aliases_among(dict(enumerate(comparisons)))
    for index, comparison in enumerate(comparisons):
        obstacle = comparison.obstacle()
        n = _seeds(comparison)
        members += (obstacle is not None or n >= MINIMUM_SEEDS) and index not in aliases
        if obstacle is not None:
            verdicts[index] = _record(comparison, verdict="untested", n=n, method="none", reason=obstacle)
        elif n < MINIMUM_SEEDS:
            few = Reason(code="few-seeds", values={"n": n, "least": MINIMUM_SEEDS})
            verdicts[index] = _record(comparison, verdict="inconclusive", n=n, method="none", reason=few)
        else:
            tested[index] = Tested.of(comparison, estimate(comparison))

    found = judge(tested, aliases, members, error_rate)
    return [verdicts.get(index) or found[index] for index in range(len(comparisons))]


def aliases_among(comparisons: Mapping[Name, Comparison]) -> dict[Name, Name]:
    """Return, for each comparison that is said to have the same numbers as another (`same_as`) and has them, the other,
    through however many it is said: the first of those that name each other.
    """
    named = {comparison.claim.id: name for name, comparison in comparisons.items()}
    roots = roots_of({name: named.get(each.claim.same_as or "") for name, each in comparisons.items()})
    return {
        name: root
        for name, root in roots.items()
        if root != name and _numbers(comparisons[name]) == _numbers(comparisons[root])
    }


def roots_of(named: Mapping[Name, Name | None]) -> dict[Name, Name]:
    """Return what each name leads to, where some name others: the first of those that name each other."""
    found: dict[Name, Name] = {}
    for name in named:
        passed = [name]
        while (other := named[passed[-1]]) is not None and other not in passed:
            passed.append(other)
        around = passed if other is None else passed[passed.index(other) :]
        found[name] = passed[-1] if other is None else next(each for each in named if each in around)
    return found


def _numbers(comparison: Comparison) -> tuple[Any, ...]:
    """Return what a comparison is decided by."""
    one = comparison
    values = dict(one.treatment), dict(one.controls), one.margin, one.claim.direction
    return *values, one.paired, one.resolution, one.grain, one.obstacle()


def judge(
    tested: Mapping[Name, Tested], aliases: Mapping[Name, Name], members: int, error_rate: float
) -> dict[Name, Verdict]:
    """Return the verdict on each comparison, Holm-adjusted with so many members: those that cannot be tested have their
    shares too.

    What has the same numbers as another (`aliases`) takes no share, and is judged at the other's.
    """
    even = error_rate / max(members, 1)
    own = [name for name in tested if name not in aliases]
    shares = dict(zip(own, holm([tested[name].p for name in own], members, error_rate), strict=True))
    for name in tested:
        if name in aliases:
            share = shares.get(aliases[name], (even, 0.0))[0]
            shares[name] = share, min(1.0, tested[name].p * error_rate / share)
    return {name: _decided(one, *shares[name], 1 - even, error_rate) for name, one in tested.items()}


def holm(p: Sequence[float], members: int, error_rate: float) -> list[tuple[float, float]]:
    """Return each hypothesis' share of the error rate and its adjusted p-value by Holm's procedure, given their
    p-values and of how many they are: those that cannot be tested have their shares too.
    """
    found: dict[int, tuple[float, float]] = {}
    adjusted, share = 0.0, error_rate / max(members, 1)
    for rank, index in enumerate(sorted(range(len(p)), key=lambda index: (p[index], index))):
        # the k-th smallest p-value is tested at rate / (m - k); after the first that fails, none passes
        if adjusted <= error_rate:
            share = error_rate / (members - rank)
        adjusted = max(adjusted, min(1.0, p[index] * (members - rank)))
        found[index] = share, adjusted
    return [found[index] for index in range(len(p))]


def _seeds(comparison: Comparison) -> int:
    """Return how many seeds a comparison has on either side, or on both if its values are paired."""
    ours, theirs = (_by_seed(side).keys() for side in (comparison.treatment, comparison.controls))
    return len(ours & theirs) if comparison.paired else min(len(ours), len(theirs))


def _decided(tested: Tested, share: float, adjusted: float, level: float, error_rate: float) -> Verdict:
    comparison, found, threshold = tested.comparison, tested.estimate, tested.comparison.threshold
    low, high = found.interval(level, threshold)
    way: Way | None = None
    decision: Decision = "inconclusive"
    needed: int | str | None = None
    if adjusted <= error_rate:
        over = found.effect > threshold
        decision = "supported" if over == (comparison.claim.direction == "higher") else "refuted"
        where = ("over" if over else "under") if low > threshold or high < threshold else None
        code = f"point-{where}" if found.steady else f"interval-{where}" if where else "past-by-p"
        way = _way(comparison, low, high) if decision == "refuted" else None
    else:
        code = _doubt(found, threshold, low, high, share)
        needed = found.seeds_needed(threshold, share)
    return _record(
        comparison,
        verdict=decision,
        way=way,
        effect=found.effect,
        interval=(low, high),
        level=level,
        n=found.n,
        method=found.method,
        reason=Reason(code=code, values={"n": found.n, "threshold": threshold}),
        p=adjusted,
        share=share,
        signs=found.exact_p(threshold) if found.doubtful else None,
        needed=needed,
    )


def _doubt(found: Estimate, threshold: float, low: float, high: float, share: float) -> str:
    """Return the code of why a comparison is inconclusive at its share of the error rate."""
    if found.steady and abs(found.effect - threshold) <= found.rounding:
        return "point-at"
    if low <= threshold <= high:
        return "interval-around"
    return "signs-too-few" if found.doubtful and found.exact_p(threshold) > share else "median-nearer"


def _way(comparison: Comparison, low: float, high: float) -> Way:
    """Return which way a claim is refuted, by the simultaneous interval: the opposite holds, it holds but by less than
    the margin, there is no effect as large as the margin either way, or one of the first and the last.
    """
    sign = 1 if comparison.claim.direction == "higher" else -1
    if comparison.claim.direction == "not higher" or not comparison.margin or (high < 0 if sign > 0 else low > 0):
        return "opposite"
    if low > 0 if sign > 0 else high < 0:
        return "under-margin"
    return "no-effect" if -comparison.margin <= low and high <= comparison.margin else "not-as-large"


def _record(comparison: Comparison, *, effect: float | None = None, **decided: Any) -> Verdict:
    """Return a comparison's verdict with its evidence; without an estimate, the effect is the difference of what means
    there are.
    """
    ours, theirs = _by_seed(comparison.treatment), _by_seed(comparison.controls)
    if effect is None and ours and theirs:
        effect = sum(ours.values()) / len(ours) - sum(theirs.values()) / len(theirs)
    single = not isinstance(comparison.control, Mapping) and len(theirs) == len(comparison.treatment) > 0
    return Verdict(
        **asdict(comparison.claim),
        **decided,
        effect=effect,
        treatment=ours,
        control=comparison.control if single else theirs,
        untested=decided["reason"] if decided["verdict"] == "untested" else None,
        resolution=comparison.resolution,
        room=comparison.room,
        grain=comparison.grain,
        paired=comparison.paired,
        failed=dict(comparison.failed),
    )


def _by_seed(values: Mapping[int, float]) -> dict[str, float]:
    """Return the values that are numbers, as JSON has them."""
    return {str(seed): float(value) for seed, value in values.items() if abs(value) < float("inf")}
