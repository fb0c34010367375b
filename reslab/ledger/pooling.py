"""Pooling sets of seeds, and combining data sets.

Seeds of one setting are draws from one population, whatever set they ran in, so sets are pooled as if they had been run
at once (a fixed effect). If all have values per seed, these are joined and decided as usual. If one has only an effect
with its interval, as in records of version 0.1, all are summarised by the number of differences, their mean and the sum
of squares about it.

Student's t needs no more, and only the exact test is limited to the known differences. Data sets are a few draws from
another population: their effects are random, and so is that of the next one (`random_effects`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import special

from reslab.ledger.again import claim_of, comparison_of
from reslab.ledger.comparison import ROUNDING, Comparison, upper_bound
from reslab.ledger.estimate import SKEWED, Array, Estimate, estimate, skewness
from reslab.ledger.record import Failures, Verdict
from reslab.ledger.verdict import ERROR_RATE, MINIMUM_SEEDS, Tested, aliases_among, decide, judge

SUMMARIES = "t of sums"
"""The method of deciding if some values per seed are unknown."""


@dataclass(frozen=True)
class Summary:
    """A summary of differences: their number, mean, sum of squares about it, and common possible error; and the
    individual differences that are known.
    """

    n: int
    mean: float
    squares: float
    off: float = 0.0
    known: tuple[float, ...] = ()


def of_differences(differences: Sequence[float] | Array, off: float = 0.0) -> Summary:
    """Return the summary of these differences."""
    values = np.asarray(differences, dtype=float)
    mean = float(values.mean())
    return Summary(len(values), mean, float(((values - mean) ** 2).sum()), off, tuple(values.tolist()))


def of_interval(effect: float, interval: tuple[float, float], level: float, n: int, off: float = 0.0) -> Summary:
    """Return the summary of n differences with this effect and Student interval, which is wider by `off` on each side.
    Without spread, each difference is known to equal the effect.
    """
    half = (interval[1] - interval[0]) / 2 - off
    if half <= ROUNDING * abs(effect):
        return Summary(n, effect, 0.0, off, (effect,) * n)
    error = half / float(special.stdtrit(n - 1, 0.5 + level / 2))
    return Summary(n, effect, error**2 * n * (n - 1), off)


def together(parts: Sequence[Summary]) -> Summary:
    """Return the summary of all differences of several summaries."""
    n = sum(part.n for part in parts)
    mean = math.fsum(part.n * part.mean for part in parts) / n
    squares = math.fsum(part.squares + part.n * (part.mean - mean) ** 2 for part in parts)
    known = tuple(value for part in parts for value in part.known)
    return Summary(n, mean, squares, max(part.off for part in parts), known)


def between(parts: Sequence[Summary]) -> float | None:
    """Return the p-value for equal means of these sets of seeds, by analysis of variance; None for a single set, or
    without any spread.
    """
    whole, within = together(parts), math.fsum(part.squares for part in parts)
    df = len(parts) - 1, whole.n - len(parts)
    if df[0] < 1 or not within > 0:
        return None
    ratio = max(0.0, whole.squares - within) / df[0] / (within / df[1])
    return float(special.fdtrc(*df, ratio))


# --- Sets of seeds ----------------------------------------------------------------------------------------------------


class Pooled(NamedTuple):
    """The pooled verdict on one claim, the effect's standard error, and the p-value for equal means of the sets; None
    if unknown.
    """

    verdict: Verdict
    error: float | None = None
    between: float | None = None


def pool(
    sets: Mapping[str, Sequence[Verdict]], error_rate: float = ERROR_RATE, *, besides: int = 0
) -> dict[str, Pooled]:
    """Return the verdict on each claim of one study, given by its id with its verdicts on several sets of seeds; the
    claims share one error rate, as in `reslab.ledger.verdict.decide`, with so many `besides` these.

    A claim that a set could not test is untested. Sets with neither values per seed nor an interval are ignored, and
    claims without any other set are left out.

    Raises:
        ValueError: if sets of a claim share a seed.
    """
    pools = {id: found for id, members in sets.items() if (found := _pool(members)) is not None}
    tested = {id: Tested.of(one.comparison, one.estimate) for id, one in pools.items() if one.estimate is not None}
    aliases = aliases_among({id: one.comparison for id, one in pools.items()})
    members = besides + sum(one.counts and id not in aliases for id, one in pools.items())
    judged = judge(tested, aliases, members, error_rate)
    pooled = {}
    for id, found in pools.items():
        if found.estimate is None:
            pooled[id] = Pooled(decide([found.comparison])[0])  # which has the reason
        else:
            pooled[id] = Pooled(judged[id], found.estimate.error, found.between)
    return pooled


@dataclass(frozen=True)
class _Pool:
    """The pooled sets of one claim: a comparison of all known values, its estimate if it can be decided, and whether it
    takes a share of the error rate.
    """

    comparison: Comparison
    estimate: Estimate | None
    counts: bool
    between: float | None


def _pool(members: Sequence[Verdict]) -> _Pool | None:
    known = [comparison_of(member) for member in members if None not in (member.treatment, member.control)]
    known = [one for one in known if one.untested or _has_differences(one)]
    summed = [member for member in members if member.treatment is None and member.interval and (member.n or 0) > 1]
    if not known and not summed:
        return None
    comparison = merged(known) if known else Comparison(claim_of(summed[0]), {}, {})
    if known and comparison.obstacle() is not None:
        return _Pool(comparison, None, True, None)
    parts = [_of_values(one) for one in known] + [_of_record(one, comparison.resolution) for one in summed]
    if sum(part.n for part in parts) < MINIMUM_SEEDS:
        return _Pool(comparison, None, False, None)
    by_value = estimate(comparison) if known else None
    found = estimated(together(parts), comparison.grain, by_value) if summed or by_value is None else by_value
    return _Pool(comparison, found, True, between(parts))


def _has_differences(comparison: Comparison) -> bool:
    ours, theirs = comparison.treatment, comparison.controls
    return bool(ours.keys() & theirs.keys() if comparison.paired else ours and theirs)


def estimated(whole: Summary, grain: float = 0.0, by_value: Estimate | None = None) -> Estimate:
    """Return the estimate of a summary of differences. The median, the need for an exact test, and that test are those
    of the sets with values (`by_value`), or use only the known differences.
    """
    if by_value is not None and by_value.n >= MINIMUM_SEEDS:
        error = math.sqrt(whole.squares / (whole.n * (whole.n - 1)))
        return replace(
            by_value,
            effect=whole.mean,
            error=error,
            df=whole.n - 1.0,
            n=whole.n,
            method=SUMMARIES,
            off=max(whole.off, grain),
            doubtful=not error or by_value.doubtful,
            df_per_seed=1.0,
        )
    known, rounding = np.array(whole.known), ROUNDING * max(map(abs, (whole.mean, *whole.known)))
    told = len(known) >= MINIMUM_SEEDS
    error = math.sqrt(whole.squares / (whole.n * (whole.n - 1)))
    return Estimate(
        effect=whole.mean,
        error=error,
        df=whole.n - 1.0,
        n=whole.n,
        method=SUMMARIES,
        median=float(np.median(known)) if told else whole.mean,
        off=max(whole.off, grain),
        rounding=rounding,
        doubtful=not error or (told and (np.ptp(known) <= grain + rounding or abs(skewness(known)) > SKEWED)),
        differences=known,
        df_per_seed=1.0,
    )


def merged(comparisons: Sequence[Comparison]) -> Comparison:
    """Return the comparison of the joined values of several comparisons; it is untested if one of them is.

    Raises:
        ValueError: if two share a seed.
    """
    first = comparisons[0]
    treatment: dict[int, float] = {}
    control: dict[int, float] = {}
    groups: dict[str, list[Failures]] = {}
    for one in comparisons:
        if shared := (treatment.keys() & one.treatment.keys()) | (control.keys() & one.controls.keys()):
            raise ValueError(f"claim {first.claim.id!r}: sets have seeds in common: {sorted(shared)}")
        treatment |= one.treatment
        control |= one.controls
        for name, failures in one.failed.items():
            groups.setdefault(name, []).append(failures)
    single = {one.control for one in comparisons if not isinstance(one.control, Mapping)}
    alone = len(single) == 1 and not any(isinstance(one.control, Mapping) for one in comparisons)
    return Comparison(
        first.claim,
        treatment,
        single.pop() if alone else control,
        next((one.untested for one in comparisons if one.untested), None),
        max(one.resolution for one in comparisons),
        any(one.room for one in comparisons),
        max(one.grain for one in comparisons),
        all(one.paired for one in comparisons),
        {name: _failures(found) for name, found in groups.items()},
    )


def _failures(found: Sequence[Failures]) -> Failures:
    failed, of = sum(one.failed for one in found), sum(one.of for one in found)
    return Failures(failed=failed, of=of, bound=upper_bound(failed, of))


def _of_values(comparison: Comparison) -> Summary:
    found = estimate(comparison)
    if found.sizes is None:
        summary = of_differences(found.differences, found.off)
        return summary if found.error else replace(summary, squares=0.0)  # what differs by rounding has no spread
    # as n differences of which only mean and spread are known: which value belongs to which says nothing
    return Summary(found.n, found.effect, found.error**2 * found.n * (found.n - 1), found.off)


def _of_record(verdict: Verdict, resolution: float) -> Summary:
    """Return the summary of a record without values per seed, which were read off the same grid as those of others."""
    assert verdict.effect is not None and verdict.interval is not None
    assert verdict.level is not None and verdict.n is not None
    return of_interval(verdict.effect, verdict.interval, verdict.level, verdict.n, resolution)


# --- Data sets --------------------------------------------------------------------------------------------------------

LEAST_DATA_SETS = 3
"""With fewer data sets, their spread cannot be estimated."""


class RandomEffects(NamedTuple):
    """The mean effect over data sets, and the effect on the next one, each with its interval. `spread` is the standard
    deviation of true effects between data sets, `share` its part of the variance (I², Higgins and Thompson 2002).
    """

    effect: float
    interval: tuple[float, float]
    prediction: tuple[float, float]
    level: float
    spread: float
    share: float
    data_sets: int


def random_effects(effects: Sequence[float], errors: Sequence[float], level: float = 0.95) -> RandomEffects:
    """Return the random-effects estimate from effects on several data sets and their standard errors.

    The variance between them is Paule and Mandel's (1982). The interval is Hartung and Knapp's (Statistics in Medicine
    20, 2001), and never narrower than without variance between data sets. The prediction interval, of the next data
    set's effect, is that of Higgins, Thompson and Spiegelhalter (2009), with the same error; it is too narrow if data
    sets differ by less than the errors of their effects (Partlett and Riley 2017).

    Raises:
        ValueError: if there are fewer than three, or an error is negative or not finite.
    """
    k, y, variances = len(effects), np.array(effects, dtype=float), np.array(errors, dtype=float) ** 2
    if k < LEAST_DATA_SETS:
        raise ValueError(f"{k} data sets: at least {LEAST_DATA_SETS} are needed")
    if len(variances) != k or not np.isfinite(y).all() or not np.isfinite(variances).all() or min(errors) < 0:
        raise ValueError("every effect needs a standard error, a finite number of at least 0")
    size = float(np.ptp(y)) ** 2
    variance = _between(y, variances, size)
    if not (variance + variances).min() > 0:  # all effects are equal, and some are exact
        exact = float(y[0])
        return RandomEffects(exact, (exact, exact), (exact, exact), level, 0.0, 0.0, k)
    weights = 1 / (variance + variances)
    mean = float((weights * y).sum() / weights.sum())
    squares = float((weights * (y - mean) ** 2).sum()) / (k - 1)
    error = math.sqrt(max(1.0, squares) / float(weights.sum()))
    half = float(special.stdtrit(k - 1, 0.5 + level / 2)) * error
    next_half = float(special.stdtrit(k - 2, 0.5 + level / 2)) * math.sqrt(variance + error**2)
    return RandomEffects(
        mean,
        (mean - half, mean + half),
        (mean - next_half, mean + next_half),
        level,
        math.sqrt(variance),
        variance / (variance + _typical(variances)) if variance else 0.0,
        k,
    )


def _between(y: Array, variances: Array, size: float) -> float:
    """Return the variance between effects at which their weighted squares are as large as expected, or 0 if they are
    smaller at that.
    """

    def excess(variance: float) -> float:
        weights = 1 / (variance + variances)
        return float((weights * (y - (weights * y).sum() / weights.sum()) ** 2).sum()) - (len(y) - 1)

    if size == 0 or (variances.min() > 0 and excess(0.0) <= 0):
        return 0.0
    low, high = 0.0, size
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def _typical(variances: Array) -> float:
    """Return the variance within a typical data set (Higgins and Thompson 2002)."""
    if not variances.min() > 0:
        return 0.0
    weights = 1 / variances
    return (len(weights) - 1) * float(weights.sum()) / float(weights.sum() ** 2 - (weights**2).sum())
