"""How often verdicts are wrong: an independent reckoning agrees with the lab's on random studies, and in simulation of
ten distributions it keeps the nominal rate.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from helpers_verdicts import Array, holm, reckon

from reslab.ledger.claim import Claim, Direction
from reslab.ledger.comparison import Comparison
from reslab.ledger.verdict import decide

Random = np.random.Generator
Shape = tuple[int, int]


def claim(name: str, direction: Direction, margin: float) -> Claim:
    return Claim(name, "statistical", None, {"ko": "", "en": ""}, "", direction, margin)


# --- An independent reckoning -----------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[Random, int], Array]] = {
    "normal": lambda rng, n: rng.normal(0, 1, n),
    "heavy": lambda rng, n: rng.standard_t(2, n),
    "skewed": lambda rng, n: rng.exponential(1, n),
    "integers": lambda rng, n: rng.integers(-2, 3, n).astype(float),
    "constant": lambda rng, n: np.full(n, rng.integers(-2, 3) / 2),
    "images": lambda rng, n: rng.binomial(327, 0.02, n) / 327,
}


def a_study(rng: Random) -> list[Comparison]:
    found = []
    for index in range(rng.integers(1, 9)):
        n = int(rng.integers(3, 13))
        ours, theirs = (KINDS[rng.choice(list(KINDS))](rng, n) + rng.choice([0, 0.5, 3]) for _ in range(2))
        seeds = range(100, 100 + n)
        single = bool(rng.random() < 0.3)
        found.append(
            Comparison(
                claim(str(index), rng.choice(["higher", "lower", "not higher"]), rng.choice([0.0, 0.1, 0.5, 1.0])),
                dict(zip(seeds, ours.tolist(), strict=True)),
                float(theirs[0]) if single else dict(zip(seeds, theirs.tolist(), strict=True)),
                resolution=float(rng.choice([0.0, 0.0, 0.25])),
                grain=float(rng.choice([0.0, 1 / 327])),
                paired=not single and bool(rng.random() < 0.4),
            )
        )
    return found


def studies(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        study = a_study(rng)
        found = []
        for each in study:
            sides = (np.array([list(side.values())]) for side in (each.treatment, each.controls))
            settings: dict[str, Any] = {"paired": each.paired, "off": each.resolution, "grain": each.grain}
            settings["single"] = not isinstance(each.control, Mapping)
            found.append(reckon(*sides, each.threshold, **settings))
        p = [float(one.p[0]) for one in found]
        verdicts = decide(study)
        for each, one, decided, verdict in zip(study, found, holm(p, 0.05), verdicts, strict=True):
            over = one.effect[0] > each.threshold
            expected = "supported" if over == (each.claim.direction == "higher") else "refuted"
            assert verdict.verdict == (expected if decided else "inconclusive"), (each, p)
            assert verdict.effect == pytest.approx(one.effect[0], abs=1e-12)
            assert verdict.level == pytest.approx(1 - 0.05 / len(study))


def test_an_independent_reckoning_agrees() -> None:
    studies(0, 150)


@pytest.mark.slow  # more of the same
def test_an_independent_reckoning_agrees_on_thousands_of_studies() -> None:
    studies(1, 5000)


# --- Simulation -------------------------------------------------------------------------------------------------------

COUNTS = 1307


def failing(rate: float, size: float) -> Callable[[Random, Shape], Array]:
    """Return training errors of some images in thousands, and of `size` in runs that fail."""
    return lambda rng, shape: np.where(rng.random(shape) < rate, size, rng.poisson(0.26, shape) / COUNTS)


DISTRIBUTIONS: dict[str, Callable[[Random, Shape], Array]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "t3": lambda rng, shape: rng.standard_t(3, shape),
    "binomial": lambda rng, shape: (rng.binomial(327, 0.035, shape) - rng.binomial(327, 0.025, shape)) / 327,
    "gamma": lambda rng, shape: rng.gamma(4, size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape),
    "skewed gamma": lambda rng, shape: rng.gamma(0.5, size=shape),
    "lognormal": lambda rng, shape: rng.lognormal(0, 1.1, shape),
    "zero-inflated": lambda rng, shape: np.where(rng.random(shape) < 0.7, 0, rng.exponential(size=shape)),
    "often failing": failing(0.2, 0.05),
    "sometimes failing": failing(0.05, 0.2),
    "seldom failing": failing(1 / 90, 0.9),
}


def false_verdicts(name: str, n: int, share: float, repeats: int) -> dict[str, float]:
    """Return how often a claim of a higher effect, and one of a lower, is supported where the median effect is exactly
    on the margin, as a part of what one side of the error rate allows: against one number, and against other runs.
    """
    draw = DISTRIBUTIONS[name]
    rng = np.random.default_rng(n)
    found = {}
    for design in ("one number", "other runs"):
        # other runs that vary less, so that the difference has the shape of the one side
        others = (lambda shape: np.zeros(shape)) if design == "one number" else lambda shape: 0.3 * draw(rng, shape)
        many = (1, 400_001)
        threshold = float(np.median(draw(rng, many) - others(many)))
        a, b = draw(rng, (repeats, n)), others((repeats, n))
        grain = 1 / COUNTS if "failing" in name else 0.0
        effect, p, *_ = reckon(a, b, threshold, grain=grain, single=design == "one number")
        wrong = p <= share
        found[f"{design}, higher"] = float((wrong & (effect > threshold)).mean()) / (share / 2)
        found[f"{design}, lower"] = float((wrong & (effect < threshold)).mean()) / (share / 2)
    return found


@pytest.mark.parametrize("n", [5, 6, 10])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_false_support_is_under_3_5_percent_at_nominal_2_5(name: str, n: int) -> None:
    repeats = 8_000  # 3 standard errors of a rate of 3.5 % are 0.6 points
    for case, rate in false_verdicts(name, n, 0.05, repeats).items():
        assert 2.5 * rate <= 3.5 + 0.6, case


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 6, 10])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_false_support_is_under_3_5_percent_in_long_simulations(name: str, n: int) -> None:
    for case, rate in false_verdicts(name, n, 0.05, 200_000).items():
        assert 2.5 * rate <= 3.5 + 0.13, case  # and 3 standard errors


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_study_keeps_its_error_rate(n: int, paired: bool) -> None:
    """Four claims share 5 %; every effect is exactly on its margin, so that any decided verdict is false. The sides
    have other spreads.
    """
    rng, repeats, p = np.random.default_rng(n), 20_000, []
    for _ in range(4):
        p.append(reckon(rng.normal(1, 1, (repeats, n)), rng.normal(0, 3, (repeats, n)), 1.0, paired=paired).p)
    false = (np.min(p, axis=0) <= 0.05 / 4).mean()  # by Holm, some claim is decided
    assert false < 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)


@pytest.mark.parametrize("name", ["normal", "t3", "lognormal", "often failing"])
def test_looks_that_split_the_error_rate_keep_it(name: str) -> None:
    """Decided with five seeds if the claim can be, and otherwise with ten and then twenty, each at a third."""
    rng, repeats, looks = np.random.default_rng(7), 20_000, (5, 10, 20)
    draw = DISTRIBUTIONS[name]
    values, threshold = draw(rng, (repeats, looks[-1])), float(np.median(draw(rng, (1, 400_001))))
    split, whole = np.zeros(repeats, bool), np.zeros(repeats, bool)
    for look in looks:
        p = reckon(values[:, :look], np.zeros((repeats, look)), threshold, single=True).p
        split, whole = split | (p <= 0.05 / len(looks)), whole | (p <= 0.05)
    assert split.mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)
    assert whole.mean() > split.mean()  # looking as often at the whole rate errs more
