"""What a verdict does not depend on: units, the order of records and claims, copies, what a claim says of itself."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from helpers_ledger import CLAIMS, a_record

from reslab.ledger.claim import Claim
from reslab.ledger.comparison import Check, Comparison
from reslab.ledger.evidence import current, evidence
from reslab.ledger.record import Reason, Record
from reslab.ledger.sets import seed_sets
from reslab.ledger.verdict import check, decide

TEXT = {"en": "e", "ko": "k"}


def claim(id: str = "a.c", margin: float = 0.0, same_as: str | None = None) -> Claim:
    return Claim(id, "statistical", None, TEXT, "", direction="higher", margin=margin, same_as=same_as)


def test_a_copy_of_a_record_says_nothing_more() -> None:
    record = a_record(range(300, 310), date="2026-01-01")
    once, twice = (evidence(CLAIMS, seed_sets([record] * count))[0] for count in (1, 2))
    assert once.headline == twice.headline and len(twice.scales[0].sets) == 1


def test_scales_are_the_same_in_whatever_order_records_are_given() -> None:
    def record(config: dict[str, int], first: int, value: float) -> Record:
        values = {first + place: value + place / 10 for place in range(3)}
        settings = {**config, "seeds": 3, "first_seed": first, "data": "digits"}
        return Record(study="a", title=TEXT, config=settings, claims=decide([Comparison(claim(), values, 0.0)]))

    records = record({}, 100, 1.0), record({"depth": 20}, 200, 1.0), record({"depth": 56}, 300, -9.0)
    found = {
        frozenset((scale.verdict and scale.verdict.verdict, tuple(scale.seeds)) for scale in known.scales)
        for order in permutations(records)
        for known in evidence([claim()], seed_sets(order))
    }
    assert len(found) == 1


def test_of_two_margins_under_one_revision_the_registered_one_is_the_claims() -> None:
    def record(margin: float, first: int, date: str | None) -> Record:
        return a_record(range(first, first + 5), claims=(claim("study.own", margin),), date=date)

    records = record(0.5, 300, "2026-01-01"), record(0.0, 400, None), record(0.7, 500, "2026-02-01")
    for order in permutations(records):
        assert [one.margin for one in current(seed_sets(order), [])] == [0.5]


def test_whether_there_is_room_does_not_depend_on_the_unit() -> None:
    for unit in (1.0, 0.1, 0.01, 1e-3):
        lower = Claim("a.c", "statistical", None, TEXT, "", direction="lower", margin=3 * unit)
        control = {0: 1 * unit, 1: 1 * unit, 2: 7 * unit}
        (found,) = decide([Comparison(lower, {0: 0.0, 1: 0.1 * unit, 2: 0.2 * unit}, control, room=True)])
        assert found.verdict == "untested", unit


ONE, OTHER = {0: 1.0, 1: 1.1, 2: 1.2}, {0: 0.35, 1: 0.5, 2: 0.85}


@pytest.mark.parametrize(
    ("said", "members"),
    [
        ([claim("a.x"), claim("a.y", same_as="a.x")], 1),
        ([claim("a.x"), claim("a.y", 0.3, same_as="a.x")], 2),
        ([claim("a.x"), claim("a.y", same_as="a.x"), claim("a.z", same_as="a.y")], 1),
        ([claim("a.x", same_as="a.y"), claim("a.y", same_as="a.x")], 1),
        ([claim("a.x"), claim("a.y", same_as="b.elsewhere")], 2),
    ],
)
def test_a_claim_shares_anothers_part_of_the_error_rate_only_where_its_numbers_are_the_same(
    said: list[Claim], members: int
) -> None:
    for order in permutations(said):
        found = decide([Comparison(each, ONE, OTHER) for each in order])
        assert {round(1 - (each.level or 0), 12) for each in found} == {round(0.05 / members, 12)}


@pytest.mark.parametrize(
    "change",
    [
        {"treatment": OTHER, "control": ONE},
        {"grain": 0.1},
        {"resolution": 0.1},
        {"paired": True},
        {"untested": Reason(code="one-epoch")},
    ],
)
def test_an_alias_that_is_decided_by_anything_else_is_a_claim_of_its_own(change: dict[str, Any]) -> None:
    first = Comparison(claim("a.x"), ONE, OTHER)
    found = decide([first, replace(first, claim=claim("a.y", same_as="a.x"), **change)])
    assert all(one.level in (None, pytest.approx(0.975)) for one in found)


@pytest.mark.parametrize(
    ("value", "kept"), [(float("inf"), "Infinity"), (-float("inf"), "-Infinity"), (float("nan"), "NaN")]
)
def test_exact_values_that_are_no_numbers_can_be_recorded(value: float, kept: str) -> None:
    exact = Claim("a.e", "exact", None, TEXT, "")
    assert check(Check(exact, value, 3)).measured == kept


def test_margins_are_not_negative() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        claim(margin=-0.01)
