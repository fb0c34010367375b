"""The decision rule: hand-computed verdicts, Holm by hand, no spread, few seeds, and simulated false verdicts."""

import itertools
import math
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from scipy import stats

from reslab.commands.ledger import print_claims, print_ledger
from reslab.errors import Language
from reslab.ledger.again import agreement, claim_of, decide_again
from reslab.ledger.claim import SECTIONS, Claim, Direction, Section
from reslab.ledger.comparison import Check, Comparison, failures, untrained, upper_bound
from reslab.ledger.estimate import MOST_SEEDS, SKEWED, estimate, rank_power, rank_tail, seeds_for_exact_tests, skewness
from reslab.ledger.evidence import alone, evidence
from reslab.ledger.record import Reason, Verdict
from reslab.ledger.risk import risk
from reslab.ledger.sets import Origin, SeedSet
from reslab.ledger.verdict import check, cite, decide, undecided
from reslab.ledger.wording import failed, needed, reason

DIVERGED, UNTRAINED = Reason(code="diverged"), Reason(code="untrained")


def claim(direction: Direction, margin: float = 1.0) -> Claim:
    return Claim("c", "statistical", "overview", {"ko": "", "en": ""}, "", direction, margin)


def compare(direction: Direction, differences: list[float], margin: float = 1.0) -> Comparison:
    return Comparison(
        claim(direction, margin), dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0)
    )


def compare_to(direction: Direction, values: list[float], control: list[float], margin: float = 1.0) -> Comparison:
    return Comparison(claim(direction, margin), dict(enumerate(values)), dict(enumerate(control)), room=True)


def test_a_verdict_computed_by_hand() -> None:
    # differences 4, 5, 6: mean 5, std 1, error 1/sqrt(3); t(0.975; 2) = 4.302652730, so 5 ± 2.484138
    (verdict,) = decide([compare("higher", [4.0, 5.0, 6.0], margin=2.5)])
    assert verdict.effect == pytest.approx(5.0)
    assert verdict.interval == pytest.approx((5 - 4.302652730 / math.sqrt(3), 5 + 4.302652730 / math.sqrt(3)), abs=1e-8)
    assert (verdict.verdict, verdict.level, verdict.n, verdict.method) == ("supported", 0.95, 3, "Welch t")
    assert (verdict.signs, verdict.needed, verdict.way) == (None, None, None)
    assert verdict.p == pytest.approx(2 * stats.t.sf(2.5 * math.sqrt(3), 2)) and verdict.share == 0.05
    (open_one,) = decide([compare("higher", [1.0, 2.0, 3.0], margin=0.0)])  # -0.484 … 4.484
    assert (open_one.verdict, open_one.reason) == (
        "inconclusive",
        Reason(code="interval-around", values={"n": 3, "threshold": 0.0}),
    )


@pytest.mark.parametrize(
    ("direction", "center", "expected"),
    [
        ("higher", 5.0, "supported"),
        ("higher", -5.0, "refuted"),
        ("higher", 0.0, "refuted"),  # wholly under the margin: too small to matter
        ("lower", -5.0, "supported"),
        ("lower", 5.0, "refuted"),
        ("lower", 0.0, "refuted"),
        ("not higher", 0.0, "supported"),
        ("not higher", -5.0, "supported"),
        ("not higher", 5.0, "refuted"),
        ("higher", 1.0, "inconclusive"),
        ("lower", -1.0, "inconclusive"),
        ("not higher", 1.0, "inconclusive"),
    ],
)
def test_each_direction(direction: Direction, center: float, expected: str) -> None:
    assert decide([compare(direction, [center - 0.1, center, center + 0.1])])[0].verdict == expected


def test_welch_by_hand_where_seeds_do_not_pair() -> None:
    # a = 1, 2, 3 and b = 10, 14, 18, 22: error² = 1/3 + 80/3/4 = 7; df = 49 / ((1/9)/2 + (20/3)²/3) = 3.2945…
    comparison = Comparison(claim("lower"), {0: 1.0, 1: 2.0, 2: 3.0}, {1: 10.0, 2: 14.0, 3: 18.0, 4: 22.0})
    (verdict,) = decide([comparison])
    df = 49 / ((1 / 9) / 2 + (20 / 3) ** 2 / 3)
    from scipy.stats import t

    half = t.ppf(0.975, df) * math.sqrt(7)
    assert verdict.method == "Welch t" and verdict.effect == -14
    assert verdict.interval == pytest.approx((-14 - half, -14 + half))


def test_holm_by_hand() -> None:
    # Three claims: the strongest at 5/3 %, the next at 5/2 %, the last at 5 %; the middle one fails at 2.5 %, so the
    # last has no chance.
    strong = compare("higher", [10.0, 10.1, 10.2], margin=0.0)
    middle = compare("higher", [2.0, 3.0, 4.0], margin=0.8)  # p = 2 (1 - T(2.2 sqrt 3)) = 0.0626
    weak = compare("higher", [1.0, 2.0, 3.0], margin=0.5)
    verdicts = decide([weak, strong, middle])
    assert [v.verdict for v in verdicts] == ["inconclusive", "supported", "inconclusive"]
    assert [v.share for v in verdicts] == pytest.approx([0.05 / 2, 0.05 / 3, 0.05 / 2])
    assert [v.level for v in verdicts] == pytest.approx([1 - 0.05 / 3] * 3)  # the intervals are simultaneous
    p = [2 * stats.t.sf(shift * math.sqrt(3), 2) for shift in (1.5, 101, 2.2)]
    assert [v.p for v in verdicts] == pytest.approx([2 * p[2], 3 * p[1], 2 * p[2]])


def test_holm_may_decide_what_the_simultaneous_interval_leaves_open() -> None:
    near = [9.0, 10.0, 11.0, 10.5, 9.5]  # error 0.354, 4 degrees of freedom: p = 0.0334 at 3.2 errors
    strong, one = compare("higher", [100.0, 101.0, 102.0, 101.5, 100.5]), compare("higher", near, 10 - 3.2 * 0.3536)
    first, second = decide([strong, one])
    assert (first.verdict, second.verdict) == ("supported", "supported")
    assert second.interval is not None and second.interval[0] < second.margin
    assert second.reason is not None and second.reason.code == "past-by-p"


def test_an_alias_takes_no_share_and_is_judged_at_its_twins() -> None:
    twin = replace(claim("higher"), id="twin", same_as="c")
    values = [9.0, 9.1, 9.2]
    both = [compare("higher", values), Comparison(twin, dict(enumerate(values)), 0.0)]
    one, two = decide(both)
    assert one.level == two.level == 0.95 and one.share == two.share == 0.05
    assert one.verdict == two.verdict == "supported" and one.p == pytest.approx(two.p)
    (alone,) = decide([both[1]])  # its twin is in another study
    assert alone.share == 0.05 and alone.verdict == "supported"


def test_fewer_than_three_seeds_conclude_nothing_and_cost_the_others_nothing() -> None:
    two, five = decide([compare("higher", [9.0, 9.1]), compare("higher", [9.0, 9.1, 9.2, 9.0, 9.1])])
    assert two.needed is None
    assert (two.verdict, two.interval, two.n) == ("inconclusive", None, 2)
    assert two.reason == Reason(code="few-seeds", values={"n": 2, "least": 3})
    assert (five.verdict, five.level) == ("supported", 0.95)


def test_what_is_untested_concludes_nothing_and_takes_its_share() -> None:
    tested = compare("higher", [9.0, 9.1, 9.2])
    empty = Comparison(claim("higher"), {}, {}, untested=DIVERGED)
    untested = Comparison(claim("higher"), tested.treatment, tested.control, untested=UNTRAINED)
    left_out, without, decided = decide([empty, untested, tested])
    assert (left_out.verdict, left_out.reason, left_out.effect, left_out.n) == ("untested", DIVERGED, None, 0)
    assert (without.verdict, without.reason, without.interval, without.n) == ("untested", UNTRAINED, None, 3)
    assert without.effect == pytest.approx(9.1)
    assert decided.verdict == "supported" and decided.share == pytest.approx(0.05 / 3)


def test_a_network_that_was_not_trained_or_a_control_at_the_floor_tests_nothing() -> None:
    assert untrained({"plain": {0: 0.1, 1: 0.2}, "resnet": {0: 0.0}}) is None  # 20 % is the limit
    found = untrained({"plain": {0: 0.0, 1: 0.25}, "resnet": {0: 0.0}, "other": {0: math.nan}})
    assert found is not None and found.code == "untrained"
    assert found.values["errors"] == {"plain": 0.25, "other": None} and found.values["limit"] == 0.2
    roomy, bare = (
        compare_to("lower", [0.0] * 3, control, 0.01) for control in ([0.011, 0.012, 0.013], [0.0, 0.004, 0.002])
    )
    one, two = decide([roomy, bare])
    assert one.reason is not None and one.reason.code != "no-room"
    assert two.reason == Reason(code="no-room", values={"margin": 0.01, "mean": 0.002}) and two.verdict == "untested"
    assert untrained({"empty": {}}) == Reason(code="untrained", values={"errors": {"empty": None}, "limit": 0.2})


def test_failed_runs_are_counted_with_the_exact_bound_of_their_rate() -> None:
    found = failures({"plain": {0: 0.1, 1: 0.9, 2: math.nan}, "resnet": dict.fromkeys(range(5), 0.0), "none": {}})
    assert {name: (one.failed, one.of) for name, one in found.items()} == {"plain": (2, 3), "resnet": (0, 5)}
    assert found["resnet"].bound == pytest.approx(1 - 0.05 ** (1 / 5))  # none of five: 45 %
    for k, n in ((1, 10), (3, 7)):
        assert stats.binom.cdf(k, n, upper_bound(k, n)) == pytest.approx(0.05)
    assert upper_bound(4, 4) == 1
    comparison = replace(compare("higher", [9.0, 9.1, 9.2]), failed=found)
    (verdict,) = decide([comparison])
    assert verdict.failed == found and decide_again([verdict], {}) == [verdict]
    assert failed(verdict) != "" and "2" in failed(verdict)["en"] and "resnet" not in failed(verdict)["en"]
    none = failed(verdict.model_copy(update={"failed": {"resnet": found["resnet"]}}))
    assert "0 of 5" in none["en"] and "45 %" in none["en"] and failed(verdict.model_copy(update={"failed": {}})) == ""


def test_what_was_read_off_a_grid_may_be_off_by_a_step_in_all_seeds_alike() -> None:
    def on_a_grid(treatment: list[float], n: int) -> Comparison:
        return Comparison(
            claim("higher", 0.3), dict(enumerate(treatment)), dict.fromkeys(range(n), 0.0), resolution=0.5
        )

    (same,) = decide([on_a_grid([0.0] * 100, 100)])  # whatever the number of seeds, the truth may be 0.5
    assert (
        same.verdict == "inconclusive"
        and same.interval == (-0.5, 0.5)
        and same.reason == Reason(code="interval-around", values={"n": 100, "threshold": 0.3})
    )
    far, near = decide([on_a_grid([1.0] * 7, 7), on_a_grid([0.75] * 7, 7)])
    assert (far.verdict, far.interval, near.verdict) == ("supported", (0.5, 1.5), "inconclusive")
    (spread,), (plain,) = decide([on_a_grid([1.0, 1.5, 2.0], 3)]), decide([compare("higher", [1.0, 1.5, 2.0], 0.3)])
    assert spread.interval and plain.interval
    assert spread.interval == pytest.approx((plain.interval[0] - 0.5, plain.interval[1] + 0.5))
    (welch,) = decide(
        [
            Comparison(
                claim("higher", 0.3), dict.fromkeys(range(4), 9.0), dict.fromkeys(range(4, 8), 0.0), resolution=0.5
            )
        ]
    )
    assert welch.method == "Welch t" and welch.interval == (8.5, 9.5)


def test_no_spread_is_said() -> None:
    none, over, at = decide(
        [compare("not higher", [0.0] * 8), compare("not higher", [0.1 + 0.2] * 8, 0.01), compare("higher", [1.0] * 3)]
    )
    assert (none.verdict, none.interval) == ("supported", (0.0, 0.0))
    assert none.reason == Reason(code="point-under", values={"n": 8, "threshold": 1.0})
    assert (over.verdict, over.way) == ("refuted", "opposite")
    assert (at.verdict, at.needed) == ("inconclusive", "none")


@pytest.mark.parametrize(("n", "verdict"), [(3, "inconclusive"), (5, "inconclusive"), (6, "supported")])
def test_no_spread_beside_one_number_needs_the_sign_test(n: int, verdict: str) -> None:
    """Of five of five one has a chance of 2 / 32 under the null, both ways: over 5 %."""
    (one,) = decide([Comparison(claim("not higher", 1.0), dict.fromkeys(range(n), 0.0), 0.0)])
    assert one.verdict == verdict and one.signs == pytest.approx(2 / 2**n)
    if verdict == "inconclusive":
        assert one.reason is not None and one.reason.code == "signs-too-few" and one.needed == 6


def test_the_exact_test_is_not_blamed_where_it_agrees() -> None:
    """All of twenty are past the margin, which the exact test says, but the median is too near to it."""
    values = [*np.linspace(0.002, 0.004, 16), *[0.1] * 4]
    (one,) = decide([Comparison(claim("higher", 0.0), dict(enumerate(values)), 0.0)])
    assert one.verdict == "inconclusive" and one.signs == pytest.approx(2 / 2**20) and one.interval[0] > 0  # type: ignore[index]  # it has one
    assert one.reason is not None and one.reason.code == "median-nearer"


@pytest.mark.parametrize(("n", "verdict"), [(3, "inconclusive"), (4, "supported"), (5, "supported")])
def test_no_spread_between_two_sides_needs_the_test_of_ranks(n: int, verdict: str) -> None:
    """That all of three are past all of three others has a chance of 2 / 20 under the null, both ways."""
    (one,) = decide([compare("not higher", [0.0] * n)])
    assert one.verdict == verdict and one.signs == pytest.approx(2 / math.comb(2 * n, n))
    if verdict == "inconclusive":
        assert one.reason is not None and one.reason.code == "signs-too-few" and one.needed == 4


def test_skewed_differences_and_those_of_one_image_need_the_exact_test() -> None:
    skewed = [0.0, 0.0, 0.1, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 0.9]
    (one,) = decide([compare("not higher", skewed, 0.95)])
    assert one.signs == pytest.approx(2 / math.comb(20, 10)) and one.verdict == "supported"
    image = 1 / 1307
    errors = [0, image, 0]
    grained = replace(compare("not higher", [float(error) for error in errors], 0.01), grain=image)
    (by_image,), (fine,) = decide([grained]), decide([replace(grained, grain=0.0)])
    assert by_image.signs == pytest.approx(2 / math.comb(6, 3))
    assert (by_image.verdict, fine.verdict) == ("inconclusive", "supported")
    assert by_image.interval is not None and fine.interval is not None  # and the grain is the least resolution
    assert by_image.interval == pytest.approx((fine.interval[0] - image, fine.interval[1] + image))


def test_which_seed_has_which_value_says_nothing_between_two_sides() -> None:
    """Nor that a seed of one of them is missing."""
    ours, theirs = [1.12, 0.71, 1.55, 1.2, 1.83, 1.82], [0.55, 0.3, 0.02, 0.09, 1.49, 0.47]
    first, *others = (
        decide([Comparison(claim("higher", 0.0), dict(enumerate(ours)), dict(enumerate(order, start=at)))])[0]
        for at in (0, 3)
        for order in (theirs, theirs[1:] + theirs[:1], theirs[::-1], sorted(theirs))
    )
    assert all(
        (one.verdict, one.p, one.interval, one.signs) == (first.verdict, first.p, first.interval, first.signs)
        for one in others
    )


def test_ranks_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 5, 12, 30, 40):
        a, b = rng.normal(0.5, 1, n), rng.normal(0, 1, n)
        past = int((np.subtract.outer(a, b) > 0).sum())
        expected = stats.mannwhitneyu(a, b, alternative="greater", method="exact").pvalue
        assert rank_tail(n, past) == pytest.approx(expected, rel=1e-9 if n <= 30 else 0, abs=0 if n <= 30 else 3e-4)


@pytest.mark.parametrize(("m", "n"), [(5, 10), (5, 20), (10, 5)])
def test_sides_of_other_sizes_and_shapes_keep_the_rate(m: int, n: int) -> None:
    rng = np.random.default_rng(m * n)
    threshold = float(np.median(rng.lognormal(0, 1.2, 400_001) - rng.normal(size=400_001)))
    wrong = {1: 0, -1: 0}
    for _ in range(1500):
        sides = (dict(enumerate(side.tolist())) for side in (rng.lognormal(0, 1.2, m), rng.normal(size=n)))
        found = estimate(Comparison(claim("higher", threshold), *sides))
        if found.p_value(threshold) <= 0.05:
            wrong[1 if found.effect > threshold else -1] += 1
    assert max(wrong.values()) / 1500 < 0.035 + 3 * math.sqrt(0.035 * 0.965 / 1500)


@pytest.mark.parametrize(
    ("direction", "center", "way"),
    [
        ("higher", -5.0, "opposite"),
        ("higher", 0.5, "under-margin"),
        ("higher", 0.0, "no-effect"),
        ("higher", -0.9, "opposite"),
        ("lower", 5.0, "opposite"),
        ("lower", -0.5, "under-margin"),
        ("lower", 0.0, "no-effect"),
        ("not higher", 5.0, "opposite"),
    ],
)
def test_which_way_a_claim_is_refuted(direction: Direction, center: float, way: str) -> None:
    (verdict,) = decide([compare(direction, [center - 0.1, center, center + 0.1])])
    assert (verdict.verdict, verdict.way) == ("refuted", way)


def test_a_wide_interval_refutes_without_saying_which_of_two_ways() -> None:
    (verdict,) = decide([compare("higher", [-2.5, -1.5, -0.5, -1.0, -2.0, 0.6], 1.0)])
    assert verdict.interval is not None and verdict.interval[0] < -1 and 0 < verdict.interval[1] < 1
    assert (verdict.verdict, verdict.way) == ("refuted", "not-as-large")


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("share", [0.05, 0.005])
def test_as_many_seeds_as_are_said_would_decide(paired: bool, share: float) -> None:
    values = np.array([0.2, -1.4, 1.3, 0.4, 0.9, 1.5, -0.6])
    comparison = Comparison(claim("higher", 0.2), dict(enumerate(values)), dict.fromkeys(range(7), 0.0), paired=paired)
    found = estimate(comparison)
    n = found.seeds_needed(0.2, share)
    assert isinstance(n, int)
    # an independent reckoning: noncentral t of scipy.stats
    shift = (values.mean() - 0.2) / values.std(ddof=1) * np.array([math.sqrt(n - 1), math.sqrt(n)])
    below, enough = (
        stats.nct.sf(stats.t.isf(share / 2, m - 1), m - 1, s) for m, s in zip((n - 1, n), shift, strict=True)
    )
    assert below < 0.8 <= enough
    (verdict,) = decide([comparison], share)
    assert verdict.needed == n


def test_where_signs_disagree_as_many_seeds_as_the_sign_test_needs_too() -> None:
    """Of ten differences without outliers but one, nine are past the margin; the tenth asks for the sign test."""
    values = [1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 1.0, 1.03, -0.4]
    share = 0.00625
    found = estimate(Comparison(claim("higher", 0.2), dict(enumerate(values)), 0.0))
    n = found.seeds_needed(0.2, share)
    assert found.doubtful and isinstance(n, int) and n > 11

    def power(m: int) -> float:
        critical = next(k for k in range(m + 1) if stats.binomtest(k, m).pvalue <= share and k > m / 2)
        return float(stats.binom.sf(critical - 1, m, 0.9))

    assert power(n) >= 0.8 > power(n - 1)


@pytest.mark.parametrize(("n", "share"), [(8, 0.05), (15, 0.05), (30, 0.01)])
def test_the_power_of_ranks_is_that_of_simulation(n: int, share: float) -> None:
    rng, past = np.random.default_rng(n), 0.75
    shift = stats.norm.ppf(past) * math.sqrt(2)  # one of two normals is past the other as often
    a, b = rng.normal(shift, 1, (2000, n)), rng.normal(0, 1, (2000, n))
    p = [2 * rank_tail(n, int((np.subtract.outer(one, other) > 0).sum())) for one, other in zip(a, b, strict=True)]
    assert rank_power(n, past, share) == pytest.approx(np.mean(np.array(p) <= share), abs=0.08)
    assert rank_power(3, 1.0, 0.05) == 0 and rank_power(4, 1.0, 0.05) == 1


@pytest.mark.parametrize("share", [0.05, 0.025, 0.01, 0.004])
def test_exact_tests_decide_from_so_many_seeds_up_and_not_before(share: float) -> None:
    signs, ranks = seeds_for_exact_tests(share)
    assert 2 * 0.5**signs <= share < 2 * 0.5 ** (signs - 1)
    assert 2 / math.comb(2 * ranks, ranks) <= share < 2 / math.comb(2 * ranks - 2, ranks - 1)


def test_three_values_are_never_skewed_and_four_may_be() -> None:
    assert skewness(np.array([0.0, 0.0, 1.0])) == pytest.approx(0.5**0.5) and SKEWED > 0.5**0.5
    assert skewness(np.array([0.0, 0.0, 0.0, 1.0])) > SKEWED


def test_the_nearer_of_mean_and_median_decides_how_many_seeds_are_needed() -> None:
    far = [5.0, 5.2, 4.9, 5.1, 0.31, 0.32, 0.3, 0.29, 0.31, 0.33]
    near = estimate(Comparison(claim("higher", 0.3), dict(enumerate(far)), dict.fromkeys(range(10), 0.0)))
    seeds = near.seeds_needed(0.3, 0.05)
    assert near.median < near.effect and (seeds == "many" or (isinstance(seeds, int) and seeds > 100))


def test_no_number_of_seeds_decides_where_the_effect_lies_on_the_margin() -> None:
    (verdict,) = decide([compare("higher", [0.5, 1.0, 1.5, 0.9, 1.1])])
    assert verdict.needed == "none" and "margin" in needed(verdict)["en"]


def test_more_seeds_than_anybody_runs_are_not_called_none() -> None:
    values = [0.0103 + way * 0.03 for way in (-1, 1, -1, 1, -1, 1, -1, 1, -1, 1)]
    (verdict,) = decide([Comparison(claim("higher", 0.01), dict(enumerate(values)), 0.0)])
    assert verdict.needed == "many" and f"{MOST_SEEDS:,}" in needed(verdict)["en"] and needed(verdict)["ko"]


def test_at_a_margin_of_nothing_what_is_refuted_is_the_opposite() -> None:
    """Holm decides the second at 5 %, while its interval at 97.5 % reaches above 0."""
    clear = Comparison(replace(claim("higher", 0.0), id="clear"), dict(enumerate([5.0, 5.1, 4.9, 5.0, 5.05])), 0.0)
    second = Comparison(claim("higher", 0.0), {seed: seed - 2 - 2.1213 for seed in range(5)}, 0.0)
    verdict = decide([clear, second])[1]
    assert verdict.interval is not None and verdict.interval[1] > 0
    assert (verdict.verdict, verdict.way) == ("refuted", "opposite")


@pytest.mark.parametrize("unit", [1.0, 0.1, 1e-6, 1e-14, 1e-100, 1e-250, 1e100, 1e250])
def test_a_verdict_does_not_depend_on_the_unit(unit: float) -> None:
    """Spread, no spread, at the margin, and on the edge of a grid's step; the same seeds on both sides, or others."""
    cases = {
        "inconclusive": ([1, -3, 5], [0, 0, 0], 0, 0),
        "supported": ([9, 9.5, 10], [1, 1.5, 1], 2, 0),
        "refuted": ([1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], 3, 0),
        "at the margin": ([3, 3, 3], [2, 2, 2], 1, 0),
        "within a step of the margin": ([4, 4, 4], [0, 0, 0], 3, 1),
    }

    def decided(name: str, first: int, unit: float) -> Verdict:
        treatment, control, margin, step = cases[name]
        ours, theirs = (
            {seed: value * unit for seed, value in enumerate(side, start)}
            for side, start in ((treatment, 0), (control, first))
        )
        return decide([Comparison(claim("higher", margin * unit), ours, theirs, resolution=step * unit)])[0]

    for name, first in itertools.product(cases, (0, 7)):  # paired, and Welch
        verdict, plain = decided(name, first, unit), decided(name, first, 1.0)
        assert verdict.verdict == plain.verdict == (name if name in ("supported", "refuted") else "inconclusive"), name
        assert verdict.interval and plain.interval
        assert [end / unit for end in verdict.interval] == pytest.approx(plain.interval)


def test_spread_that_is_rounding_beside_the_values_is_none() -> None:
    sums = [0.1 + 0.2, 0.3, 0.1 + 0.2]  # differ in their last bit
    (verdict,) = decide([Comparison(claim("higher", 0.0), dict(enumerate(sums)), dict.fromkeys(range(3), 0.3))])
    assert verdict.effect is not None and abs(verdict.effect) < 1e-16
    assert verdict.verdict == "inconclusive" and verdict.reason == Reason(
        code="point-at", values={"n": 3, "threshold": 0.0}
    )
    (small,) = decide([compare("higher", [1e-15, 1.1e-15, 1.2e-15], 0.0)])  # a small unit is no rounding
    assert small.verdict == "supported" and small.reason and small.reason.code == "interval-over"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["treatment", "control", "one number"])
def test_what_is_no_number_leaves_one_claim_untested_and_says_of_which_seeds(bad: float, where: str) -> None:
    sides: dict[str, tuple[Any, Any]] = {
        "treatment": ({3: 1.0, 4: bad, 5: 2.0}, {3: 0.0, 4: 0.0, 5: 0.0}),
        "control": ({3: 1.0, 4: 1.0, 5: 2.0}, {3: 0.0, 4: bad, 5: 0.0}),
        "one number": ({4: 1.0}, bad),
    }
    broken = Comparison(replace(claim("lower"), id="b"), *sides[where], room=where == "control")
    verdict, other = decide([broken, compare("higher", [9.0, 9.1, 9.2])])
    assert (verdict.verdict, verdict.reason) == ("untested", Reason(code="not-finite", values={"seeds": [4]}))
    assert "4" in reason(verdict)["en"] and other.verdict == "supported" and other.share == 0.05 / 2
    kept = [Verdict.model_validate_json(each.model_dump_json()) for each in (verdict, other)]
    assert kept == [verdict, other] == decide_again(kept, {})


def test_where_nothing_was_measured_nothing_is_concluded() -> None:
    for treatment, control in (({}, {0: 1.0}), ({0: 1.0}, {}), ({}, 1.0)):
        (verdict,) = decide([Comparison(claim("lower"), treatment, control, room=True)])
        assert (verdict.verdict, verdict.effect, verdict.n) == ("untested", None, 0)
        assert verdict.reason == Reason(code="nothing-measured") and decide_again([verdict], {}) == [verdict]


@pytest.mark.parametrize(
    "wrong", [{"resolution": -1.0}, {"resolution": math.nan}, {"grain": -0.1}, {"grain": math.inf}, {"room": True}]
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'c'"):
        replace(compare("higher", [1.0, 2.0, 3.0]), **wrong)
    with pytest.raises(ValueError, match=r"-0\.5"):
        compare("higher", [1.0, 2.0, 3.0], margin=-0.5)
    for rate in (0, 1, -0.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            decide([], rate)


@pytest.mark.parametrize("seed", [-1, "a", 0.5, 10**20])
def test_what_is_no_seed_is_refused_in_one_line(seed: Any) -> None:
    values = {0: 1.0, 1: 2.0, seed: 3.0}
    for sides in ((values, 0.0), ({0: 1.0}, values)):
        with pytest.raises(ValueError, match=f"^claim 'c': a seed must be .*, got {seed!r}$"):
            Comparison(claim("higher"), *sides)
    assert decide([Comparison(claim("higher"), {np.int64(seed): 1.0 for seed in range(3)}, 0.0)])


def test_seeds_of_numpy_are_told_as_others() -> None:
    values = {np.int64(1): math.nan, np.int64(2): 1.0}
    (verdict,) = decide([Comparison(claim("higher"), values, 0.0)])  # type: ignore[arg-type]  # as NumPy's are
    assert verdict.reason == Reason(code="not-finite", values={"seeds": [1]})


def test_lost_seeds_leave_the_others_paired() -> None:
    treatment, control = {0: 2.0, 1: 13.0, 2: 22.0, 4: 99.0}, {0: 1.0, 1: 11.0, 2: 21.0, 3: -99.0}
    (verdict,), (alone,) = (
        decide([Comparison(claim("higher"), treatment, control, paired=True)]),
        decide([compare("higher", [1.0, 2.0, 1.0])]),
    )
    (few,) = decide([Comparison(claim("higher"), {0: 1.0, 1: 2.0, 2: 3.0}, {3: 1.0, 4: 2.0, 5: 3.0}, paired=True)])
    assert few.reason is not None and few.reason.code == "few-seeds"
    assert (verdict.method, verdict.n, verdict.effect, verdict.interval) == (
        "paired t",
        3,
        alone.effect,
        alone.interval,
    )


differences = st.lists(st.floats(-100, 100), min_size=3, max_size=8)


@given(differences, st.floats(0, 10))
def test_lower_mirrors_higher(values: list[float], margin: float) -> None:
    higher = decide([compare("higher", values, margin)])[0]
    lower = decide([compare("lower", [-value for value in values], margin)])[0]
    assert higher.verdict == lower.verdict


@given(st.lists(differences, min_size=1, max_size=5), st.randoms())
def test_verdicts_do_not_depend_on_the_order_of_claims(many: list[list[float]], random: "np.random.Generator") -> None:
    comparisons = [compare("higher", values) for values in many]
    verdicts = {id(c): v.verdict for c, v in zip(comparisons, decide(comparisons), strict=True)}
    shuffled = list(comparisons)
    random.shuffle(shuffled)  # type: ignore[arg-type]  # hypothesis gives a random.Random
    assert {id(c): v.verdict for c, v in zip(shuffled, decide(shuffled), strict=True)} == verdicts


@given(differences)
def test_the_interval_shown_agrees_with_the_verdict(values: list[float]) -> None:
    for verdict in decide([compare("higher", values), compare("not higher", values)]):
        assert verdict.interval is not None
        low, high = verdict.interval
        if not low <= 1.0 <= high and verdict.signs is None:
            assert verdict.verdict != "inconclusive" or verdict.reason == Reason(
                code="median-nearer", values={"n": len(values), "threshold": 1.0}
            )
        if verdict.verdict != "inconclusive" and verdict.reason and verdict.reason.code != "past-by-p":
            assert not low <= 1.0 <= high


def test_an_exact_claim_is_checked_and_a_cited_one_carries_its_sources_decision() -> None:
    exact = Claim("c", "exact", "variants", {"ko": "", "en": ""}, "")
    assert check(Check(exact, 25_557_032, 25_557_032)).verdict == "supported"
    with pytest.raises(ValueError, match="statistical"):
        check(Check(claim("higher", 1.0), True, True))
    wrong = check(Check(exact, 256, 128))
    assert (wrong.verdict, wrong.measured, wrong.expected, wrong.interval) == ("refuted", 256, 128, None)
    text = {"ko": "", "en": ""}
    verdict = cite(Claim("c", "cited", "overview", text, "", decision="refuted", finding="Highway networks came first"))
    assert (verdict.verdict, verdict.n, verdict.method, reason(verdict)) == (
        "refuted",
        0,
        "cited",
        "Highway networks came first",
    )
    with pytest.raises(ValueError, match="has no margin"):
        Comparison(exact, {0: 1.0}, {0: 0.0})


@pytest.mark.parametrize(
    ("measured", "expected", "same"),
    [
        (True, 1, False),
        (1, True, False),
        ([True], [1], False),
        ({"a": 0}, {"a": False}, False),
        (1, 1.0, True),
        ((1, 2), [1, 2], False),
        ((1, (2, True)), (1, (2, True)), True),
        ({"a": (1,)}, {"a": (1,), "b": 2}, False),
        ("1", 1, False),
        (np.bool_(True), True, True),
        (np.bool_(True), 1, False),
        ({"a": (np.int64(3), torch.tensor(0.5))}, {"a": (3, 0.5)}, True),
        (np.array([1, 2]), [1, 2], True),
        ({"a": torch.tensor([1, 2])}, {"a": [1, 3]}, False),
    ],
)
def test_exact_values_are_compared_with_their_kinds(measured: Any, expected: Any, same: bool) -> None:
    exact = Claim("c", "exact", "variants", {"ko": "", "en": ""}, "")
    assert check(Check(exact, measured, expected)).verdict == ("supported" if same else "refuted")


def test_nan_is_said() -> None:
    exact = Claim("c", "exact", "variants", {"ko": "", "en": ""}, "")
    verdict = check(Check(exact, {"a": math.nan}, {"a": math.nan}))
    assert (verdict.verdict, verdict.reason) == ("refuted", Reason(code="not-a-number"))
    assert "NaN" in reason(verdict)["en"] and Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_only_a_statistical_claim_has_a_margin() -> None:
    with pytest.raises(ValueError, match="'c'"):
        Claim("c", "exact", "variants", {"ko": "", "en": ""}, "", "higher", 1.0)
    with pytest.raises(ValueError, match="'c'"):
        Claim("c", "statistical", "variants", {"ko": "", "en": ""}, "")
    with pytest.raises(ValueError, match="'c'"):
        Claim("c", "exact", "variants", {"ko": "", "en": ""}, "", margin=1.0)
    for wrong in ({"margin": math.nan}, {"published": math.inf}, {"revision": 0}, {"same_as": "c"}):
        with pytest.raises(ValueError, match=r"'c'"):
            replace(claim("higher"), **wrong)
    with pytest.raises(ValueError, match="'c'"):
        Claim("c", "cited", "variants", {"ko": "", "en": ""}, "", decision="supported")


def test_a_claim_has_the_same_record_decided_or_not() -> None:
    (verdict,), before = decide([compare("higher", [1.0, 2.0, 3.0])]), undecided(claim("higher"))
    assert verdict.model_dump().keys() == before.model_dump().keys()
    assert before.verdict is None and before.interval is None and before.unit == ""


def test_every_section_has_a_title() -> None:
    assert tuple(SECTIONS) == get_args(Section) and all(title.keys() == {"ko", "en"} for title in SECTIONS.values())


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("lang", ["en", "ko"])
def test_claims_are_printed_by_section_within_the_terminal(
    width: int, lang: Language, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    statement = {"ko": "지름길은 기울기를 [지킨다]. " * 9, "en": "A shortcut keeps [the] gradient. " * 9}
    later = Claim(
        "a.later",
        "statistical",
        "successors",
        statement,
        "someone",
        "lower",
        0.5,
        "points",
        corrects={"ko": "옛말", "en": "an older one"},
    )
    first = Claim("a.first", "exact", "overview", statement, "someone else")
    (verdict,) = decide([Comparison(later, dict(enumerate([-1.0, -1.1, -1.2])), dict.fromkeys(range(3), 0.0))])
    monkeypatch.setenv("COLUMNS", str(width))
    print_claims([alone(verdict), alone(undecided(first))], lang)
    printed = capsys.readouterr().out
    assert max(cell_len(line) for line in printed.splitlines()) <= width
    words = " ".join(printed.split())
    order = [SECTIONS["overview"][lang], "a.first", SECTIONS["successors"][lang], "a.later"]
    assert sorted(order, key=words.index) == order
    told = {
        "en": ("The chapter says: an older one", "Supported if the effect is under -0.5."),
        "ko": ("이 장의 말: 옛말", "효과가 -0.5보다 작으면"),
    }
    for text in ("Effect -1.1 (points), 95 %" if lang == "en" else "효과 -1.1 (points), 95 %", "n = 3.", *told[lang]):
        assert text in words


def test_verdicts_of_several_studies_agree_or_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    decisions = {"alike": "SSS", "in_part": "RI", "both_ways": "SIR", "once": "S", "never": ""}
    words = {"S": "supported", "R": "refuted", "I": "inconclusive"}
    never = undecided(claim("higher")).model_copy(update={"id": "never"})
    records = [
        never.model_copy(update={"id": id, "verdict": words[word]})
        for id, letters in decisions.items()
        for word in letters
    ]
    records.append(never)
    assert agreement(records)._asdict() == {name: [name] for name in ("alike", "in_part", "both_ways")}
    records = [record for record in records if record.verdict is not None]
    origin = Origin(study="s", config={}, seeds=[0])
    known = evidence([claim_of(record) for record in records], [SeedSet(origin, one, "exploratory") for one in records])
    print_ledger(known, risk(known))
    assert " ".join(capsys.readouterr().out.split()).endswith("1 supported here and refuted there. both_ways")


def test_one_number_to_compare_with_is_as_the_same_number_for_every_seed() -> None:
    values = dict(enumerate([1.0, 2.5, 3.0]))
    one, many = (
        decide([Comparison(claim("higher"), values, 0.5)]),
        decide([Comparison(claim("higher"), values, dict.fromkeys(values, 0.5))]),
    )
    assert (one[0].control, one[0].method) == (0.5, "t")
    assert one[0].model_copy(update={"control": many[0].control, "method": "Welch t"}) == many[0]


def test_a_record_alone_decides_again_and_with_another_margin() -> None:
    strong, weak = (
        Claim(f"a.{name}", "statistical", "overview", {"ko": "", "en": ""}, "", "higher", 1.0)
        for name in ("strong", "weak")
    )
    shared, untested = (
        Claim("a.floor", "statistical", None, {"ko": "", "en": ""}, "", "lower", 0.01),
        replace(weak, id="a.untested"),
    )
    comparisons = [
        Comparison(strong, {3: 5.0, 4: 5.1, 5: 5.2}, 0.0),
        Comparison(weak, {3: 1.1, 4: 1.5, 5: 2.0}, {3: 0.0, 4: 0.1, 6: 0.2}, resolution=0.1),
        Comparison(shared, {0: 0.0, 1: 0.0, 2: 0.0}, {0: 0.0, 1: 0.0, 2: 0.02}, room=True),
        Comparison(untested, {0: 9.0, 1: 9.0, 2: 9.0}, 0.0, UNTRAINED),
    ]
    kept = [Verdict.model_validate_json(verdict.model_dump_json()) for verdict in decide(comparisons)]
    assert kept == decide(comparisons) == decide_again(kept, {})
    again = decide_again(kept, {"a.strong": 5.5, "a.floor": 0.001})
    assert [verdict.verdict for verdict in again] == ["inconclusive", "inconclusive", "inconclusive", "untested"]
    assert again[0].margin == 5.5 and again[2].reason is not None and again[2].reason.code != "no-room"
    assert decide_again(kept, {"a.strong": 9.0})[0].verdict == "refuted"
    with pytest.raises(ValueError, match=r"a\.strong"):
        decide_again([kept[0].model_copy(update={"treatment": None})], {})


@pytest.mark.parametrize(
    "given",
    [{"code": "whatever", "values": {"x": [1]}}, {"code": "no-room", "values": {"margin": "x"}}, {"code": "untrained"}],
)
def test_a_reason_that_nobody_foresaw_is_shown_as_it_is(given: dict[str, object]) -> None:
    worded = reason(undecided(claim("higher")).model_copy(update={"reason": Reason.model_validate(given)}))
    assert isinstance(worded, str) and worded.startswith(str(given["code"]))
    said = Reason(code="said", values={"text": "<b>a sentence</b>"})
    assert reason(undecided(claim("higher")).model_copy(update={"reason": said})) == "<b>a sentence</b>"
