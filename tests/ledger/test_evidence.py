"""What is known of a claim: which sets of seeds count, which are pooled, and what the ledger risks."""

from dataclasses import replace

import pytest
from helpers_ledger import CLAIMS, CLEAR, NEAR, TEXT, a_record
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from reslab.ledger import wording
from reslab.ledger.claim import Claim
from reslab.ledger.comparison import Check
from reslab.ledger.evidence import Evidence, current, evidence
from reslab.ledger.pooling import RandomEffects
from reslab.ledger.record import Outcome, Reason, Record, Verdict
from reslab.ledger.risk import risk
from reslab.ledger.sets import seed_sets
from reslab.ledger.verdict import check

WRITTEN = a_record(range(5), earlier=True)
REPEATED = a_record(range(100, 105), earlier=True)
REGISTERED = a_record(range(300, 310), date="2026-01-01")


def known(*records: Record, claims: tuple[Claim, ...] = CLAIMS) -> Evidence:
    """Return what is known of the first claim."""
    return evidence(claims, seed_sets(records))[0]


def test_the_headline_is_of_all_seeds_that_ran_after_the_claim_was_fixed() -> None:
    found = known(WRITTEN, REPEATED, REGISTERED)
    assert found.headline is not None and found.headline.n == 15 and found.standing == "repeated"
    (scale,) = found.scales
    assert [one.standing for one in scale.sets] == ["exploratory", "repeated", "registered"]
    assert scale.seeds == [*range(100, 105), *range(300, 310)] and scale.between is not None
    assert known(REGISTERED).standing == "registered"
    assert known(REGISTERED).headline == REGISTERED.claims[0]


def test_seeds_that_claims_were_written_on_are_never_pooled() -> None:
    found = known(WRITTEN)
    assert (found.standing, found.headline) == ("exploratory", WRITTEN.claims[0]) and found.scales[0].pooled == ()
    newer = a_record(range(5))
    assert known(newer, WRITTEN).headline == newer.claims[0]


def test_a_record_without_registration_is_exploratory_and_says_why() -> None:
    found = known(a_record(range(500, 505)))
    why = found.scales[0].sets[0].why
    assert found.standing == "exploratory" and why is not None and why.code == "unregistered"


@pytest.mark.parametrize("change", [{"revision": 2}, {"margin": 0.9}, {"direction": "not higher"}])
def test_what_ran_before_the_claim_changed_says_nothing_of_it(change: dict[str, object]) -> None:
    found = known(REPEATED, claims=(replace(CLEAR, **change), NEAR))
    assert found.headline is None and len(found.scales[0].sets) == 1 and found.standing is None
    assert known(claims=CLAIMS).scales == ()


def test_what_is_known_of_a_claim_is_told_in_its_current_words() -> None:
    current = replace(CLEAR, statement={"ko": "나", "en": "b"}, source="there", published=None)
    found = known(REGISTERED, claims=(current, NEAR)).headline
    assert found is not None and found.effect == REGISTERED.claims[0].effect
    assert (found.statement["en"], found.source, found.published) == ("b", "there", None)
    revised = known(REPEATED, claims=(replace(current, revision=2), NEAR)).scales[0].sets
    assert [one.verdict.source for one in revised] == ["here"]


def test_seeds_that_were_seen_without_registration_are_not_registered_later() -> None:
    looked = a_record(range(300, 310))
    for records in ((looked, REGISTERED), (REGISTERED, looked)):
        assert known(*records).standing == "exploratory"


def test_no_seed_counts_twice() -> None:
    again = a_record(range(303, 306), date="2026-01-02")
    found = known(again, REGISTERED)
    assert found.headline is not None and found.headline.n == 10
    assert [one.why and one.why.code for one in found.scales[0].sets] == ["seen-seeds", None]
    twice = known(REPEATED, a_record(range(104, 107), earlier=True))
    assert twice.headline is not None and twice.headline.n == 5


NUMBERS = st.floats() | st.sampled_from([0.0, 1.0, -1.0, 1e-300, 1e300, 0.95])
VALUES = st.none() | st.dictionaries(st.sampled_from(["100", "101", "102", "300", "7"]), NUMBERS, max_size=4)


@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "effect": NUMBERS | st.none(),
            "interval": st.tuples(NUMBERS, NUMBERS) | st.none(),
            "level": NUMBERS | st.none(),
            "n": st.integers(-1, 20_000) | st.none(),
            "treatment": VALUES,
            "control": VALUES | NUMBERS,
            "paired": st.booleans(),
            "grain": NUMBERS,
            "same_as": st.sampled_from(["study.clear", "study.near", "nothing"]),
            "untested": st.just({"code": "one-epoch"}) | st.none(),
        },
    ),
    margin=st.sampled_from([-1.0, 0.0, 1.0]),
)
@example(
    changes={"treatment": {"100": 0.0}, "control": 1e-300, "paired": False, "grain": 2.0**28}
    | dict.fromkeys(["effect", "interval", "level"]),
    margin=1.0,
)
def test_what_no_study_wrote_says_what_it_can(changes: dict[str, object], margin: float) -> None:
    """Whatever numbers a record holds, as far as it is one."""
    fields = {**REPEATED.claims[0].model_dump(), **changes, "margin": margin}
    try:
        strange = Verdict.model_validate(fields)
    except ValidationError:
        return
    record = REPEATED.model_copy(update={"claims": [strange, REPEATED.claims[1]]})
    sets = seed_sets([WRITTEN, REGISTERED, record])  # the last says what the claim is now
    found = evidence(current(sets, ()), sets)
    assert len(found) == 2 and all(one.headline is not None for one in found)
    assert risk(found).tests <= 2


def test_other_settings_are_another_scale_and_another_machine_is_not() -> None:
    here, there = (
        a_record(range(300, 303), date="1", depth=20),
        a_record(range(310, 313), date="2", depth=20, threads=2),
    )
    deeper = a_record(range(320, 330), date="3", depth=56)
    found = known(here, there, deeper, WRITTEN)  # which has no depth, and so is of the first
    assert [scale.seeds for scale in found.scales] == [[300, 301, 302, 310, 311, 312], list(range(320, 330))]
    assert found.headline is not None and found.headline.n == 6 and len(found.scales[0].sets) == 3
    assert found.scales[0].origin.steps == (140, 140)


def test_a_record_that_lacks_a_setting_is_of_the_scale_with_the_best_seeds() -> None:
    small, large = a_record(range(600, 605), images=100), a_record(range(300, 310), date="1", images=1000)
    for records in ((REPEATED, small, large), (large, small, REPEATED)):
        found = known(*records)
        assert found.scales[0].seeds == [*range(100, 105), *range(300, 310)] and len(found.scales) == 2


def test_claims_that_name_each_other_are_one_test() -> None:
    twins = (replace(CLEAR, same_as="study.twin"), replace(CLEAR, id="study.twin", same_as=CLEAR.id))
    assert risk(evidence(twins, seed_sets([a_record(range(300, 310), twins, date="1")]))).tests == 1


@pytest.mark.parametrize(("kind", "scales"), [("cifar10", 1), ("folder", 2)])
def test_only_folders_are_told_apart_by_where_they_are(kind: str, scales: int) -> None:
    places = [a_record(range(first, first + 3), data=f"{kind}:/{first}/c", date="1") for first in (300, 310)]
    assert len(known(*places).scales) == scales


def test_the_scale_with_the_best_seeds_comes_first_and_else_the_one_that_is_given_first() -> None:
    many, few = (REPEATED, a_record(range(300, 310), date="1")), a_record(range(400, 403), data="svhn", date="2")
    assert [scale.origin.data for scale in known(*many, few).scales] == ["digits", "svhn"]
    assert [scale.origin.data for scale in known(few, *many).scales] == ["svhn", "digits"]
    assert [scale.origin.data for scale in known(REPEATED, few).scales] == ["svhn", "digits"]


def test_a_claim_that_was_left_out_has_no_verdict_there_and_keeps_its_share_of_the_error_rate() -> None:
    kept, left_out = a_record(range(3), data="svhn", date="1").claims
    left_out = left_out.model_copy(
        update={"verdict": "untested", "reason": Reason(code="nothing-measured"), "treatment": {}, "control": {}}
    )
    record = a_record(range(3), data="svhn", date="1").model_copy(update={"claims": [kept, left_out]})
    first, second = evidence(CLAIMS, seed_sets([REGISTERED, record]))
    assert [scale.origin.data for scale in first.scales] == ["digits", "svhn"]
    assert [scale.origin.data for scale in second.scales] == ["digits"]
    assert first.scales[1].verdict is not None and kept.level == 0.975
    assert (first.scales[1].verdict.level, first.scales[1].verdict.share) == (kept.level, 0.025)
    alone = record.model_copy(update={"claims": [left_out]})
    assert evidence(CLAIMS, seed_sets([alone]))[1].headline is None
    unregistered = record.model_copy(update={"registered": None, "registration": None})
    only = a_record(range(10, 13), (CLEAR,), data="svhn", date="2")
    (first, _) = evidence(CLAIMS, seed_sets([only, unregistered]))
    assert first.scales[0].verdict is not None and first.scales[0].verdict.level == only.claims[0].level == 0.95


def test_a_claim_that_lost_a_seed_or_was_revised_leaves_its_share_of_the_error_rate_to_nobody() -> None:
    whole = known(REGISTERED)
    clear, near = REGISTERED.claims
    assert near.treatment is not None
    fewer = near.model_copy(update={"treatment": {seed: near.treatment[seed] for seed in [*near.treatment][1:]}})
    lost = known(REGISTERED.model_copy(update={"claims": [clear, fewer]}))
    revised = known(REGISTERED, claims=(CLEAR, replace(NEAR, revision=2)))
    elsewhere = known(REGISTERED, claims=(CLEAR, replace(NEAR, revision=2, same_as="another.claim")))
    for found in (lost, revised, elsewhere):
        assert found.headline is not None and whole.headline is not None
        assert (found.headline.level, found.headline.share) == (whole.headline.level, 0.025)


def test_seeds_for_which_a_claim_was_left_out_are_not_among_those_of_its_verdict() -> None:
    record = a_record(range(400, 403), date="2")
    left_out = record.claims[0].model_copy(
        update={"verdict": "untested", "reason": Reason(code="nothing-measured"), "treatment": {}, "control": {}}
    )
    (scale,) = known(REPEATED, record.model_copy(update={"claims": [left_out, record.claims[1]]})).scales
    assert (scale.seeds, scale.standing) == (list(range(100, 105)), "repeated")
    assert [one.standing for one in scale.pooled] == ["repeated"]


def test_scales_that_disagree_are_told() -> None:
    here, elsewhere = a_record(range(300, 310), date="1"), {"data": "folder:/data/photos", "date": "2"}
    alike, otherwise, unclear = (a_record(range(10), effect=effect, **elsewhere) for effect in (3.0, -3.0, 1.0))
    for record, apart in ((alike, False), (otherwise, True), (unclear, False)):
        assert len(known(here, record).apart) == 2 * apart
    assert not known(here, a_record(range(10), data="svhn", effect=-3.0)).apart  # which is exploratory


def test_a_scale_is_named_after_its_data_and_a_folder_has_no_path() -> None:
    for data, name in (
        ("digits", "digits"),
        ("folder:/data/some place", "some place"),
        ("folder:a?broken=skip", "a"),
        ("folder:/x?y", "x?y"),
    ):
        (scale,) = known(a_record(range(3), data=data)).scales
        assert wording.scale(scale.origin)["en"] == f"{name}, 140 steps"


def test_seeds_are_seen_wherever_the_folder_of_the_images_is() -> None:
    here, there = (a_record(range(3), data=f"folder:/{place}/x", date=place) for place in ("a", "b"))
    assert [known(one).standing for one in (here, there)] == ["registered"] * 2
    assert known(here, there).standing == "registered"  # the first; the second has seen its seeds
    assert [one.standing for scale in known(here, there).scales for one in scale.sets] == ["registered", "exploratory"]


def test_three_data_sets_say_something_of_the_next() -> None:
    names = ("digits", "cifar10", "svhn")
    records = [
        a_record(range(300 + 10 * n, 310 + 10 * n), data=data, date=str(n), effect=3 + n)
        for n, data in enumerate(names)
    ]
    found = known(*records).over_data
    assert isinstance(found, RandomEffects) and found.data_sets == 3
    assert found.prediction[0] < found.interval[0] < 4 < found.interval[1] < found.prediction[1]
    two = known(*records[:2], a_record(range(5), data="svhn")).over_data
    assert isinstance(two, Reason) and two.values == {"n": 2, "least": 3}


def test_counted_claims_stand_as_counted_last_and_cited_ones_as_cited() -> None:
    exact = Claim("study.exact", "exact", "overview", TEXT, "here")
    cited = Claim("study.cited", "cited", "overview", TEXT, "here", decision="refuted", finding="no")
    records = [
        Record(study="study", title=TEXT, claims=[check(Check(exact, measured, 1))], config={"data": "digits"})
        for measured in (1, 2)
    ]
    counted, looked_up = evidence([exact, cited], seed_sets(records))
    assert counted.headline == records[1].claims[0] and counted.standing is None
    assert looked_up.headline is not None and looked_up.headline.verdict == "refuted" and looked_up.scales == ()


def test_the_ledgers_risk_counts_each_test_once() -> None:
    same = replace(CLEAR, id="other.same", same_as="study.clear")
    again = a_record(range(300, 310), (same,), date="2026-01-01")
    found = evidence([*CLAIMS, same], seed_sets([REGISTERED, again.model_copy(update={"study": "other"})]))
    assert [one.headline is not None for one in found] == [True] * 3
    # of the two claims' common 5 %, each has half, though Holm's procedure left all of it for the first
    assert [one.share for one in REGISTERED.claims] == [0.05, 0.025]
    assert risk(found) == (2, pytest.approx(0.05), pytest.approx(1 - 0.975**2))
    other = a_record(range(310, 320), (same,), date="2026-01-01")  # which says that it is the same, and is not
    apart = evidence([*CLAIMS, same], seed_sets([REGISTERED, other.model_copy(update={"study": "other"})]))
    assert risk(apart).tests == 3
    of_0_1 = evidence(CLAIMS, seed_sets([WRITTEN]))
    assert risk(of_0_1).expected == pytest.approx(sum(1 - (one.level or 0) for one in WRITTEN.claims))
    assert risk([]) == (0, 0, 0)


def test_a_set_of_version_0_1_whose_network_was_not_trained_is_exploratory() -> None:
    claim = replace(CLEAR, id="successors.compound-scaling-beats-width")
    for error, standing in ((0.19, "repeated"), (0.21, "exploratory"), (None, "exploratory")):
        record = a_record(range(100, 105), (claim,), earlier=True)
        outcome = Outcome(train_error=error)
        trials = [one.model_copy(update={"group": "efficientnet-wider", "result": outcome}) for one in record.trials]
        assert known(record.model_copy(update={"trials": trials}), claims=(claim,)).standing == standing
