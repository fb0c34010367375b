"""Sets of seeds and data sets pooled: against decisions on all seeds at once, closed forms, and simulated truth."""

import math

import numpy as np
import pytest
from helpers_verdicts import holm as reckoned_holm
from scipy import stats

from reslab.ledger import pooling
from reslab.ledger.claim import Claim, Direction
from reslab.ledger.comparison import Comparison
from reslab.ledger.record import Failures, Reason, Verdict
from reslab.ledger.verdict import decide, holm

TEXT = {"ko": "가", "en": "a"}


def claim(id: str, direction: Direction = "higher", margin: float = 0.5, same_as: str | None = None) -> Claim:
    return Claim(f"s.{id}", "statistical", None, TEXT, "here", direction, margin, same_as=same_as)


def comparisons(generator: np.random.Generator, seeds: range) -> list[Comparison]:
    """Return what one set of seeds measures of claims of every kind."""

    def drawn(mean: float, spread: float = 1.0) -> dict[int, float]:
        return {seed: float(generator.normal(mean, spread)) for seed in seeds}

    skewed = {seed: float(generator.exponential()) for seed in seeds}
    shared = drawn(0)
    failed = {"a": Failures(failed=1, of=len(seeds), bound=0.5)}
    return [
        Comparison(claim("clear"), drawn(3), drawn(0), failed=failed),
        Comparison(claim("near", "lower"), drawn(-0.6), drawn(0)),
        Comparison(claim("same", same_as="s.clear"), drawn(3), drawn(0)),
        Comparison(claim("one number"), drawn(1), 0.0, resolution=0.1),
        Comparison(claim("skewed", "not higher"), skewed, 0.0, grain=0.01),
        Comparison(claim("paired"), {seed: value + 1 for seed, value in shared.items()}, shared, paired=True),
        Comparison(claim("roomless", "lower"), drawn(0, 0.01), drawn(0.5, 0.01), room=True),
    ]


def sets_of(*verdicts: list[Verdict]) -> dict[str, list[Verdict]]:
    return {members[0].id: list(members) for members in zip(*verdicts, strict=True)}


@pytest.mark.parametrize("seed", range(20))
def test_values_per_seed_are_decided_as_if_all_seeds_had_been_run_at_once(seed: int) -> None:
    parts = [range(5), range(100, 103), range(200, 210)]
    first, *others = (comparisons(np.random.default_rng((seed, part.start)), part) for part in parts)
    at_once = []
    for one, *rest in zip(first, *others, strict=True):
        whole = pooling.merged([one, *rest])
        assert len(whole.treatment) == 18
        at_once.append(whole)
    pooled = pooling.pool(sets_of(*(decide(part) for part in (first, *others))))
    for wanted in decide(at_once):
        assert pooled[wanted.id].verdict == wanted
    assert pooled["s.clear"].verdict.failed["a"].failed == 3 and pooled["s.clear"].verdict.failed["a"].of == 18


def summed_up(verdict: Verdict) -> Verdict:
    """Return a verdict as version 0.1 kept it."""
    return verdict.model_copy(update={"treatment": None, "control": None, "paired": False})


@pytest.mark.parametrize("seed", range(20))
def test_effects_and_intervals_are_all_that_an_interval_of_all_seeds_needs(seed: int) -> None:
    generator = np.random.default_rng(seed)
    parts = [range(5), range(100, 105), range(200, 210)]
    sides = [
        ({s: float(generator.normal(1)) for s in part}, {s: float(generator.normal()) for s in part}) for part in parts
    ]
    one = claim("one")
    others = [Comparison(claim("other"), {1: 0.0, 2: 1.0, 3: 2.0}, 0.0)]  # so that levels differ
    kept = [decide([Comparison(one, *pair, paired=True), *others[: n % 2]])[0] for n, pair in enumerate(sides)]
    for known in range(4):
        members = [verdict if n < known else summed_up(verdict) for n, verdict in enumerate(kept)]
        found = pooling.pool({one.id: members})[one.id]
        treatment, control = ({s: v for pair in sides for s, v in pair[i].items()} for i in (0, 1))
        wanted = decide([Comparison(one, treatment, control, paired=True)])[0]
        assert found.verdict.n == 20 and found.verdict.effect == pytest.approx(wanted.effect)
        assert found.verdict.interval == pytest.approx(wanted.interval)
        differences = [[a - b for a, b in zip(x.values(), y.values(), strict=True)] for x, y in sides]
        assert found.between == pytest.approx(stats.f_oneway(*differences).pvalue)
        if known == 0:  # nothing but Student's t
            student = stats.ttest_1samp(np.concatenate(differences), 0.5).pvalue
            assert found.verdict.p == pytest.approx(student) and found.verdict.signs is None


def test_sets_that_are_equal_up_to_rounding_have_no_p_value_for_one_mean() -> None:
    one = claim("one")

    def of(first: int, value: float) -> Verdict:
        values = {first: value, first + 1: value, first + 2: math.nextafter(value, 1.0)}
        return decide([Comparison(one, values, 0.0)])[0]

    assert pooling.pool({one.id: [of(100, 0.3), of(200, 0.3 * (1 + 1e-14))]})[one.id].between is None


def test_a_set_that_read_off_a_grid_has_its_step_taken_off_its_interval() -> None:
    summary = pooling.of_interval(1.0, (0.5, 1.5), 0.95, 5, off=0.2)
    assert summary.squares == pytest.approx((0.3 / stats.t.ppf(0.975, 4)) ** 2 * 20) and summary.off == 0.2
    assert pooling.of_interval(1.0, (0.9, 1.1), 0.95, 5, off=0.2).known == (1.0,) * 5


def test_sets_without_spread_need_the_sign_test() -> None:
    flat = {"verdict": "supported", "effect": 1.0, "interval": (1.0, 1.0), "level": 0.95, "n": 3, "method": "paired t"}
    one = Verdict(**{**vars(claim("flat")), **flat})
    found = pooling.pool({one.id: [one]})[one.id].verdict
    assert found.verdict == "inconclusive" and found.signs == pytest.approx(0.25)
    found = pooling.pool({one.id: [one.model_copy(update={"n": 5}), one]})[one.id].verdict
    assert found.verdict == "supported" and found.signs == pytest.approx(2**-7)


def test_what_a_set_could_not_test_is_untested_and_what_nobody_measured_is_left_out() -> None:
    one = claim("one")
    fine = decide([Comparison(one, {1: 1.0, 2: 1.1, 3: 0.9}, 0.0)])[0]
    reason = Reason(code="one-epoch")
    broken = decide([Comparison(one, {4: 1.0, 5: 1.1, 6: 0.9}, 0.0, untested=reason)])[0]
    pooled = pooling.pool({one.id: [fine, broken], "s.nothing": []})
    assert pooled.keys() == {one.id} and pooled[one.id].verdict.untested == reason
    few = decide([Comparison(one, {1: 1.0}, 0.0)])[0]
    found = pooling.pool({one.id: [few]})[one.id].verdict
    assert (found.verdict, found.reason) == ("inconclusive", few.reason)


def test_no_seed_counts_twice() -> None:
    one = decide([Comparison(claim("one"), {1: 1.0, 2: 1.1, 3: 0.9}, 0.0)])[0]
    with pytest.raises(ValueError, match=r"\[1, 2, 3\]"):
        pooling.pool({one.id: [one, one]})


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_holms(seed: int) -> None:
    p = (np.random.default_rng(seed).uniform(size=8) ** 4).tolist()
    found = holm(p, len(p), 0.05)
    assert [adjusted <= 0.05 for _, adjusted in found] == reckoned_holm(p, 0.05)


# --- Data sets --------------------------------------------------------------------------------------------------------


def test_of_equal_errors_the_closed_form_is_known() -> None:
    effects, error = [1.0, 2.0, 4.0, 7.0], 0.5
    k, mean, s2 = 4, 3.5, float(np.var(effects, ddof=1))
    found = pooling.random_effects(effects, [error] * k)
    assert found.effect == pytest.approx(mean) and found.spread**2 == pytest.approx(s2 - error**2)
    half = stats.t.ppf(0.975, k - 1) * np.sqrt(s2 / k)
    assert found.interval == pytest.approx((mean - half, mean + half))
    half = stats.t.ppf(0.975, k - 2) * np.sqrt(s2 - error**2 + s2 / k)
    assert found.prediction == pytest.approx((mean - half, mean + half))
    assert found.share == pytest.approx(1 - error**2 / s2)


def test_effects_that_do_not_differ_have_the_interval_of_one_effect() -> None:
    errors = [0.1, 0.2, 0.4]
    found = pooling.random_effects([1.0, 1.0, 1.0], errors)
    half = stats.t.ppf(0.975, 2) / np.sqrt(sum(error**-2 for error in errors))
    assert (found.effect, found.spread, found.share) == (1.0, 0.0, 0.0)
    assert found.interval == pytest.approx((1 - half, 1 + half))


def test_effects_without_error_have_their_own_spread() -> None:
    found = pooling.random_effects([1.0, 2.0, 3.0], [0.0] * 3)
    assert found.spread == pytest.approx(1.0) and found.share == 1.0
    assert pooling.random_effects([2.0] * 3, [0.0, 0.1, 0.0]).interval == (2.0, 2.0)
    assert pooling.random_effects([1.0, 2.0, 3.0], [0.0, 0.0, 9.0]).spread == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(("effects", "errors"), [([1.0] * 2, [1.0] * 2), ([1.0] * 3, [1.0, 1.0, float("nan")])])
def test_two_data_sets_and_unknown_errors_are_too_little(effects: list[float], errors: list[float]) -> None:
    with pytest.raises(ValueError):
        pooling.random_effects(effects, errors)


@pytest.mark.parametrize("k", [3, 8])
@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0])
def test_intervals_over_data_sets_hold_the_truth_as_often_as_they_say(k: int, spread: float) -> None:
    """To three standard errors of the simulation; the data sets' own errors differ threefold. Prediction intervals are
    too narrow where data sets differ by less than these.
    """
    generator = np.random.default_rng((k, int(2 * spread)))
    repeats, held, held_next = 400, 0, 0
    errors = np.linspace(0.5, 1.5, k)
    for _ in range(repeats):
        true = generator.normal(1.0, spread, k + 1)
        found = pooling.random_effects((true[:k] + errors * generator.normal(size=k)).tolist(), errors.tolist())
        held += found.interval[0] <= 1.0 <= found.interval[1]
        held_next += found.prediction[0] <= true[k] <= found.prediction[1]
    least = 0.95 - 3 * np.sqrt(0.95 * 0.05 / repeats)
    assert held / repeats >= least and (held_next / repeats >= least or spread == 0.5)


def test_a_set_with_one_seed_on_a_side_is_pooled_with_the_others() -> None:
    one = Comparison(claim("lone"), {100: 0.0}, {100: 0.0, 101: 1.0})
    (alone,) = decide([one])
    assert pooling.pool({alone.id: [alone]})[alone.id].verdict.verdict == "inconclusive"
    (other,) = decide([Comparison(claim("lone"), {200: 1.0, 201: 2.0, 202: 3.0}, {200: 0.0, 201: 0.5, 202: 1.0})])
    whole = Comparison(
        claim("lone"), {100: 0.0, 200: 1.0, 201: 2.0, 202: 3.0}, {100: 0.0, 101: 1.0, 200: 0.0, 201: 0.5, 202: 1.0}
    )
    assert pooling.pool({alone.id: [alone, other]})[alone.id].verdict == decide([whole])[0]
