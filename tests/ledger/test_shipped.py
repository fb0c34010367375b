"""The ledger that comes with the lab is the one of its results."""

from helpers_shipped import RESULTS, ledger_of

from reslab.ledger.shipped import FILE, shipped


def test_the_ledger_in_the_package_is_that_of_the_results() -> None:
    made = ledger_of(RESULTS)
    assert FILE.read_text(encoding="utf-8") == made.text(), "run `python tests/helpers_shipped.py`"
    kept = shipped()
    assert list(kept.claims) == list(made.claims) and kept.studies == made.studies
    assert [(one.origin, one.standing, one.why) for one in kept.sets] == [
        (one.origin, one.standing, one.why) for one in made.sets
    ]
    assert [one.verdict for one in kept.sets] == [one.verdict for one in made.sets]
    assert kept.evidence() == made.evidence()


def test_it_weighs_little() -> None:
    assert FILE.stat().st_size < 600_000
