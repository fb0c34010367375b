"""A study's record: its published schema, and claims decided again from it alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import reslab_here

from reslab.files import read_json
from reslab.ledger import record
from reslab.ledger.claim import Claim, Direction
from reslab.ledger.comparison import Check, Comparison
from reslab.ledger.record import Reason, Record
from reslab.ledger.verdict import check, cite, decide

TEXT = {"ko": "가", "en": "a"}
SCHEMA = Path(record.__file__).with_name("study.schema.json")
OF_VERSION_0_1 = Path(__file__).parents[2] / "results" / "studies" / "degradation"


def test_the_schema_that_is_published_is_the_records() -> None:
    printed = reslab_here("claims", "--schema")
    assert printed.returncode == 0 and json.loads(printed.stdout) == Record.model_json_schema()
    assert read_json(SCHEMA) == Record.model_json_schema(), (
        f"run `reslab claims --schema > {SCHEMA.name}` in {SCHEMA.parent.name}/"
    )


# --- Decided again ----------------------------------------------------------------------------------------------------

CLEAR = dict(enumerate((0.9, 1.1, 1.0, 1.1, 0.9)))
UNCLEAR = dict(enumerate((0.75, 0.45, 0.7, 0.5, 0.6)))
NOTHING = dict.fromkeys(CLEAR, 0.0)


def claim(name: str, direction: Direction = "higher", margin: float = 0.5) -> Claim:
    return Claim(f"study.{name}", "statistical", "overview", TEXT, "here", direction, margin, TEXT, rate=True)


def a_record(name: str = "study") -> Record:
    """Return a record with claims of every kind, two of which share the error rate."""
    comparisons = [
        Comparison(claim("clear"), CLEAR, NOTHING),
        Comparison(claim("unclear"), UNCLEAR, 0.0, resolution=0.01),
        Comparison(claim("roomless", "lower", 0.1), NOTHING, dict.fromkeys(CLEAR, 0.05), room=True),
        Comparison(claim("untested"), CLEAR, NOTHING, untested=Reason(code="one-epoch")),
    ]
    counted = check(Check(Claim("study.counted", "exact", "overview", TEXT, "here"), (1, 2), (1, 2)))
    cited = cite(Claim("study.cited", "cited", "overview", TEXT, "here", decision="refuted", finding=TEXT))
    return Record(study=name, title=TEXT, claims=[*decide(comparisons), counted, cited])


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "study.json").write_text(json.dumps(a_record().to_json()), encoding="utf-8")
    return tmp_path


def claims(*words: str | Path) -> dict[str, Any]:
    done = reslab_here("claims", *words, "--json")
    assert done.returncode == 0 and not done.stderr, done.stderr
    return {found["id"].partition(".")[2]: found for found in json.loads(done.stdout)["claims"]}


def test_decided_again_from_its_record_alone_a_claim_has_the_same_verdict(study: Path) -> None:
    found = claims(study)
    assert found == claims(study, "--decide-again")
    assert [found[name]["verdict"] for name in ("clear", "unclear", "roomless", "untested")] == [
        "supported",
        "inconclusive",
        *["untested"] * 2,
    ]
    assert reslab_here("claims", study).stdout == reslab_here("claims", study, "--decide-again").stdout


def test_another_margin_changes_its_verdict_and_what_the_others_share(study: Path) -> None:
    """Holm's: the smallest p-value of four is tested at a quarter of the error rate, the next at a third; two of the
    four are untested.
    """
    content = (study / "study.json").read_bytes()
    before, after = claims(study, "--decide-again"), claims(study, "--decide-again", "--margin", "study.unclear=0.1")
    assert (study / "study.json").read_bytes() == content
    quarter, third = pytest.approx(0.05 / 4), pytest.approx(0.05 / 3)
    assert [before[name]["share"] for name in ("clear", "unclear")] == [quarter, third]
    assert {found[name]["level"] for found in (before, after) for name in ("clear", "unclear")} == {1 - 0.05 / 4}
    assert (after["unclear"]["verdict"], after["unclear"]["margin"], after["unclear"]["reason"]["code"]) == (
        "supported",
        0.1,
        "interval-over",
    )
    assert after["unclear"]["effect"] == before["unclear"]["effect"] and after["clear"]["verdict"] == "supported"
    assert {name: after[name] for name in ("roomless", "untested", "counted", "cited")} == {
        name: before[name] for name in ("roomless", "untested", "counted", "cited")
    }


def test_a_smaller_margin_finds_room(study: Path) -> None:
    found = claims(study, "--decide-again", "--margin", "study.roomless=0.01", "--margin", "study.clear=2")
    assert (found["roomless"]["verdict"], found["clear"]["verdict"]) == ("supported", "refuted")
    assert found["roomless"]["signs"] == pytest.approx(2 / 252)  # all of five past all of five


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--margin", "study.clear=1"), "--decide-again"),
        (("--decide-again", "--margin", "study.clera=1"), "did you mean 'study.clear'"),
        (("--decide-again", "--margin", "study.counted=1"), "no statistical claim 'study.counted'"),
        (("--decide-again", "--margin", "study.clear"), "ID=VALUE"),
        (("--decide-again", "--margin", "study.clear="), "ID=VALUE"),
        (("--decide-again", "--margin", "study.clear=a"), "ID=VALUE"),
        (("--decide-again", "--margin", "study.clear=nan"), "ID=VALUE"),
        (("--decide-again", "--margin", "study.clear=inf"), "ID=VALUE"),
        (("--decide-again", "--margin", "study.clear=-1"), "ID=VALUE"),
        (("--decide-again", "--margin", "=1"), "no statistical claim ''"),
    ],
)
def test_misuse_is_one_line(words: tuple[str, ...], said: str, study: Path) -> None:
    done = reslab_here("claims", study, *words)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1 and not done.stdout


def test_without_directories_there_is_nothing_to_decide_again() -> None:
    done = reslab_here("claims", "--decide-again")
    assert (
        done.returncode == 2
        and "--decide-again needs study directories" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )


def test_a_record_of_version_0_1_has_no_values_to_decide_from() -> None:
    done = reslab_here("claims", OF_VERSION_0_1, "--decide-again")
    assert done.returncode == 2 and "has no values per seed" in done.stderr and len(done.stderr.splitlines()) == 1
