"""Task 2.6: seeds, interval, verdict."""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, sqrt
from statistics import mean, pstdev, stdev, variance

from scipy import stats
from torch import Generator

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, normal


# the solution
def half_width(std: float, n: int, level: float) -> float:
    """Return half the width of Student's interval for the mean of n values of this standard deviation."""
    return float(stats.t.ppf((1 + level) / 2, n - 1)) * std / sqrt(n)


def interval(treatment: Sequence[float], control: Sequence[float], level: float) -> tuple[float, float]:
    """Return the interval of the mean of treatment − control, paired by seed."""
    differences = [a - b for a, b in zip(treatment, control, strict=True)]
    half = half_width(stdev(differences), len(differences), level)
    return mean(differences) - half, mean(differences) + half


def verdict(low: float, high: float, margin: float, direction: str) -> str:
    """Return whether the interval supports or refutes "higher", "lower" or "not higher", or is inconclusive."""
    threshold = -margin if direction == "lower" else margin
    if low <= threshold <= high:
        return "inconclusive"
    return "supported" if (low > threshold) == (direction == "higher") else "refuted"


def seeds_needed(std: float, half: float, level: float) -> int:
    """Return the fewest seeds, three or more, whose interval is expected to reach no further than `half`
    from the mean.
    """
    n = 3
    while half_width(std, n, level) > half:
        n += 1
    return n


# how it is judged


def _measurements(generator: Generator) -> Cases:
    for n, level in ((3, 0.95), (5, 0.9), (8, 0.99)):
        seeds = normal(generator, n)  # what a seed does to both sides
        control = 0.3 + 0.02 * (seeds + normal(generator, n) / 2)
        treatment = 0.25 + 0.02 * (seeds + normal(generator, n) / 2)
        yield treatment.tolist(), control.tolist(), level


def _paired(
    treatment: Sequence[float],
    control: Sequence[float],
    level: float,
    *,
    quantile: Callable[[float, int], float] = lambda level, n: float(stats.t.ppf((1 + level) / 2, n - 1)),
    deviation: Callable[[Sequence[float]], float] = stdev,
    root: bool = True,
    sign: int = 1,
) -> tuple[float, float]:
    """The interval with a way to go wrong for every option."""
    differences = [sign * (a - b) for a, b in zip(treatment, control, strict=True)]
    n = len(differences)
    half = quantile(level, n) * deviation(differences) / (sqrt(n) if root else 1)
    return mean(differences) - half, mean(differences) + half


def _normal_quantile(level: float, n: int) -> float:
    return float(stats.norm.ppf((1 + level) / 2))


def _one_sided_quantile(level: float, n: int) -> float:
    return float(stats.t.ppf(level, n - 1))


def _quantile_of_n(level: float, n: int) -> float:
    return float(stats.t.ppf((1 + level) / 2, n))


def _unpaired(welch: bool) -> Callable[..., tuple[float, float]]:
    def wrong(treatment: Sequence[float], control: Sequence[float], level: float) -> tuple[float, float]:
        n, a, b = len(treatment), variance(treatment), variance(control)
        df = (n - 1) * (a + b) ** 2 / (a**2 + b**2) if welch else 2 * (n - 1)
        half = float(stats.t.ppf((1 + level) / 2, df)) * sqrt((a + b) / n)
        return mean(treatment) - mean(control) - half, mean(treatment) - mean(control) + half

    return wrong


def _intervals(generator: Generator) -> Cases:
    for direction in ("higher", "lower", "not higher"):
        for low, high in (
            (1.2, 1.9),
            (0.3, 0.8),
            (0.4, 1.6),
            (-0.4, 0.5),
            (-0.2, 1.5),
            (-1.5, 0.2),
            (-1.6, -0.4),
            (-0.8, -0.3),
            (-1.9, -1.2),
            (-3, 3),
        ):
            margin = 0.01 + 0.02 * float(normal(generator, 1).sigmoid())
            yield low * margin, high * margin, margin, direction


def _on_the_mean(low: float, high: float, margin: float, direction: str) -> str:
    return verdict((low + high) / 2, (low + high) / 2, margin, direction)


_REFUTED_AND_OPEN = {"supported": "supported", "refuted": "inconclusive", "inconclusive": "refuted"}


def _by_zero(low: float, high: float, margin: float, direction: str) -> str:
    return "inconclusive" if low <= 0 <= high else _on_the_mean(low, high, margin, direction)


def _never_open(low: float, high: float, margin: float, direction: str) -> str:
    return "supported" if verdict(low, high, margin, direction) == "supported" else "refuted"


def _not_higher_as_lower(low: float, high: float, margin: float, direction: str) -> str:
    return verdict(low, high, margin, "lower" if direction == "not higher" else direction)


def _spreads(generator: Generator) -> Cases:
    for n, level in ((3, 0.95), (5, 0.9), (12, 0.99)):
        yield 0.5 + float(normal(generator, 1).sigmoid()), n, level


def _half(
    std: float,
    n: int,
    level: float,
    *,
    quantile: Callable[[float, int], float] = lambda level, n: float(stats.t.ppf((1 + level) / 2, n - 1)),
    power: float = 0.5,
    ends: int = 1,
) -> float:
    """Half the width with a way to go wrong for every option."""
    return ends * quantile(level, n) * std / n**power


def _plans(generator: Generator) -> Cases:
    for ratio, level in ((0.05, 0.95), (0.4, 0.95), (0.8, 0.95), (1.2, 0.9), (1.7, 0.95), (2.2, 0.99), (3, 0.9)):
        half = 0.01 + 0.01 * float(normal(generator, 1).sigmoid())
        yield ratio * (1 + 0.1 * float(normal(generator, 1).sigmoid())) * half, half, level


def _by_formula(std: float, half: float, level: float) -> int:
    return max(3, ceil((float(stats.norm.ppf((1 + level) / 2)) * std / half) ** 2))


TASK = Task(
    "2.6",
    [
        Part(
            half_width,
            points=3,
            cases=_spreads,
            mistakes={
                "normal-quantile": partial(_half, quantile=_normal_quantile),
                "one-sided-quantile": partial(_half, quantile=_one_sided_quantile),
                "degrees-of-freedom": partial(_half, quantile=_quantile_of_n),
                "of-single-values": partial(_half, power=0),
                "divided-by-n": partial(_half, power=1),
                "whole-width": partial(_half, ends=2),
            },
        ),
        Part(
            interval,
            points=3,
            cases=_measurements,
            mistakes={
                "normal-quantile": partial(_paired, quantile=_normal_quantile),
                "one-sided-quantile": partial(_paired, quantile=_one_sided_quantile),
                "degrees-of-freedom": partial(_paired, quantile=_quantile_of_n),
                "divided-by-n": partial(_paired, deviation=pstdev),
                "of-single-values": partial(_paired, root=False),
                "turned-round": partial(_paired, sign=-1),
                "unpaired": _unpaired(welch=False),
                "unpaired-welch": _unpaired(welch=True),
            },
        ),
        Part(
            verdict,
            points=3,
            cases=_intervals,
            mistakes={
                "on-the-mean": _on_the_mean,
                "one-end-only": lambda low, high, margin, direction: verdict(low, low, margin, direction),
                "the-other-end-only": lambda low, high, margin, direction: verdict(high, high, margin, direction),
                "refuted-and-inconclusive-exchanged": lambda *case: _REFUTED_AND_OPEN[verdict(*case)],
                "never-inconclusive": _never_open,
                "margin-forgotten": lambda low, high, margin, direction: verdict(low, high, 0, direction),
                "sign-of-the-margin": lambda low, high, margin, direction: verdict(
                    low, high, -margin if direction == "lower" else margin, direction
                ),
                "zero-not-margin": _by_zero,
                "not-higher-as-lower": _not_higher_as_lower,
            },
        ),
        Part(
            seeds_needed,
            points=3,
            cases=_plans,
            mistakes={
                "normal-quantile": _by_formula,
                "whole-width": lambda std, half, level: seeds_needed(std, half / 2, level),
                "one-sided-quantile": lambda std, half, level: seeds_needed(std, half, 2 * level - 1),
                "one-too-many": lambda std, half, level: seeds_needed(std, half, level) + 1,
                "one-too-few": lambda std, half, level: seeds_needed(std, half, level) - 1,
            },
        ),
    ],
)
