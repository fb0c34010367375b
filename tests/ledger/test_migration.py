"""Records of version 0.1: each is read, and says in both languages what that version said.

`version_0_1.json` is what version 0.1 made of the reasons, units and names in its own records, and of some made up: a
reason as it stood in `study.json`, and its words in Korean and English (or it alone, where that version had no words
for it).
"""

import hashlib
import json
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from reslab.files import Json, read_json
from reslab.ledger.claim import Words
from reslab.ledger.migration import LONGEST, migrated
from reslab.ledger.record import Record, Verdict
from reslab.ledger.wording import phrases, reason
from reslab.report.records import read_study
from reslab.report.units import claim_in_percent

ROOT = Path(__file__).parents[2]
RECORDS = [path for path in sorted((ROOT / "results").glob("**/study.json")) if "version" not in read_json(path)]
IDS = [path.parent.relative_to(ROOT / "results").as_posix() for path in RECORDS]
TEXT = {"ko": "가", "en": "a"}
CLAIM = {
    "id": "study.claim",
    "kind": "statistical",
    "section": None,
    "statement": TEXT,
    "source": "here",
    "direction": "higher",
    "margin": 1,
    "corrects": None,
    "verdict": "inconclusive",
    "effect": None,
    "interval": None,
    "level": None,
    "n": 1,
    "method": "none",
}


LATER = {
    "different-machines",  # which is a race's
    "median-nearer",
    "not-a-number",
    "not-finite",
    "nothing-measured",
    "past-by-p",
    "signs-too-few",
    "too-deep",
}
"""Reasons that version 0.1 did not have."""


@cache
def golden() -> Any:
    return json.loads(Path(__file__).with_name("version_0_1.json").read_text(encoding="utf-8"))


def said(words: Words) -> list[str]:
    """Return a text as the golden file has it."""
    return [words] if isinstance(words, str) else [words["ko"], words["en"]]


def named(text: str) -> Words:
    """Return a name as version 0.1 showed it."""
    korean = golden()["korean"]
    return {"ko": korean[text], "en": text} if text in korean else text


def of(text: Any, unit: str = "x", **changes: Any) -> Verdict:
    """Return a claim that version 0.1 decided for this reason."""
    record = migrated({"study": "study", "claims": [{**CLAIM, "unit": unit, "reason": text, **changes}]})
    (claim,) = Record.model_validate(record, strict=True).claims
    return claim


def pairs(path: Path) -> Iterator[tuple[Json, Verdict]]:
    """Yield each claim as it is on the disk and as it is read."""
    yield from zip(read_json(path)["claims"], read_study(path.parent).claims, strict=True)


def test_there_are_records_of_version_0_1() -> None:
    assert len(RECORDS) == 42 and not any("version" in read_json(path) for path in RECORDS)


@pytest.mark.parametrize("path", RECORDS, ids=IDS)
def test_what_is_data_already_is_read_as_it_stands(path: Path) -> None:
    before, after = read_json(path), read_study(path.parent).to_json()
    assert after["version"] == 3
    for key in ("study", "title", "question", "config", "failures"):
        assert after[key] == before[key]
    assert [trial["result"] for trial in after["trials"]] == [trial["result"] for trial in before["trials"]]
    assert [table["rows"] for table in after["tables"]] == [table["rows"] for table in before["tables"]]
    for old, new in zip(before["claims"], after["claims"], strict=True):
        assert {key: new[key] for key in old.keys() - {"reason", "unit", "verdict"}} == {
            key: old[key] for key in old.keys() - {"reason", "unit", "verdict"}
        }
        untested = old["method"] == "none" and new["reason"]["code"] != "few-seeds"
        assert new["verdict"] == ("untested" if untested else old["verdict"])
        assert new["treatment"] is new["control"] is None
    for old, new in zip(before["charts"], after["charts"], strict=True):
        for one, other in zip(old.pop("series"), new.pop("series"), strict=True):
            assert {key: other[key] for key in one.keys() - {"name"}} == {
                key: one[key] for key in one.keys() - {"name"}
            }
        assert {key: new[key] for key in old} == old


@pytest.mark.parametrize("path", RECORDS, ids=IDS)
def test_every_reason_is_a_code_or_a_finding_in_both_languages(path: Path) -> None:
    for _, claim in pairs(path):
        assert claim.reason is not None and claim.reason.code in {*phrases()["reasons"], "finding"}
        words = reason(claim)
        assert isinstance(words, dict) and words["ko"] and words["en"]
        assert (claim.kind == "exact") == (claim.reason.code in ("as-claimed", "not-as-claimed"))
        if claim.kind == "exact":
            assert (claim.measured == claim.expected) == (claim.verdict == "supported")


@pytest.mark.parametrize("path", RECORDS, ids=IDS)
def test_reasons_units_and_names_are_worded_as_before(path: Path) -> None:
    reasons = golden()["reasons"]
    for old, claim in pairs(path):
        assert said(reason(claim)) == reasons["as it is"][old["reason"]]
        kind = "in percent" if claim.rate else "as it is"
        assert said(reason(claim, percent=True)) == reasons[kind][old["reason"]]
        assert claim.unit == named(old["unit"])
        shown = claim_in_percent(claim)
        factor = 100 if claim.rate else 1
        assert [shown.effect, *(shown.interval or ())] == [
            value and factor * value for value in (old["effect"], *(old["interval"] or ()))
        ]
    before, after = read_json(path), read_study(path.parent)
    assert [table.columns for table in after.tables] == [
        [named(column) for column in table["columns"]] for table in before["tables"]
    ]
    found = [[series.name for series in chart.series] for chart in after.charts]
    assert found == [[named(series["name"]) for series in chart["series"]] for chart in before["charts"]]


@pytest.mark.parametrize("kind", ["as it is", "in percent"])
def test_a_reason_of_every_kind_is_worded_as_before(kind: str) -> None:
    unit = {"as it is": "x", "in percent": "test error"}[kind]
    for text, words in golden()["reasons"][kind].items():
        assert said(reason(of(text, unit), percent=True)) == words, text
    codes = {claim.reason.code for claim in (of(text) for text in golden()["reasons"]["as it is"]) if claim.reason}
    assert codes == {*phrases()["reasons"], "finding", "said"} - LATER


@pytest.mark.parametrize(
    ("unit", "rate"),
    [
        ("error", True),
        ("test error", True),
        ("rise of the test error", True),
        ("test error − training error", True),
        ("test error, ReLU before addition − original", True),
        ("errors", False),
        ("log10 of the training error", False),
        ("", False),
    ],
)
def test_an_error_rate_is_known_by_its_unit(unit: str, rate: bool) -> None:
    assert of("", unit).rate is rate


@pytest.mark.parametrize(
    "text",
    [
        "because",
        "",
        "measured 1",
        "the interval contains",
        "the whole interval is beside 0.5",
        "not trained, so nothing is concluded: everything (limit 20 %)",
        "a" * 10**6,
        "measured " + "[" * 10**6 + ", as claimed",
    ],
)
def test_what_that_version_never_wrote_is_shown_as_it_is(text: str) -> None:
    claim = of(text)
    assert (
        claim.reason is not None
        and claim.reason.code == "said"
        and reason(claim) == reason(claim, percent=True) == text
    )


NO_LITERALS = [
    "[" * 9000,
    "{[]: 1}",
    "1if 1 else '\\d'",
    "0x" + "f" * 9000,
    "9" * 9000,
    "'" * 8999,
    "\0",
    "-" * 9000 + "1",
    "1e999",
    "[(1e999,)]",
]


@pytest.mark.parametrize("inside", [*NO_LITERALS, "(" * 200 + ")" * 200], ids=lambda inside: inside[:8])
def test_a_value_that_is_no_literal_is_shown_as_it_is_written(inside: str) -> None:
    claim = of(f"measured {inside}, as claimed")
    assert claim.reason is not None and claim.reason.code == "as-claimed"
    assert json.loads(claim.model_dump_json())["measured"] == claim.measured  # it can be written
    if inside in NO_LITERALS:
        assert reason(claim) == {"ko": f"잰 값: {inside} (주장 그대로)", "en": f"measured: {inside} (as claimed)"}


@pytest.mark.parametrize(
    "inside", ["a" * 10**6, " (limit " * 10**5, " has up to " * 10**5, "x has up to x, " * 10**5, ", not " * 10**5]
)
def test_no_reason_takes_long_to_be_read(inside: str) -> None:
    begun = time.process_time()
    for text in (inside, f"not trained, so nothing is concluded: {inside} (limit 20 %)", f"measured {inside}"):
        reason(of(text))
        reason(of(text[: LONGEST - 100] + " (limit 20 %)"))
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    "text", [None, 3, ["the interval contains 1"], {"code": "interval-around", "values": {"threshold": 1}}]
)
def test_a_reason_that_is_no_text_is_left_to_the_schema(text: Any) -> None:
    record = migrated({"study": "study", "claims": [{**CLAIM, "unit": "x", "reason": text}]})
    assert record["claims"][0]["reason"] == text


@pytest.mark.parametrize("part", [3, None, "x", [3], [None], [[]], {}, [{}]])
@pytest.mark.parametrize("key", ["claims", "tables", "charts"])
def test_parts_that_are_none_are_left_to_the_schema(key: str, part: Any) -> None:
    assert isinstance(migrated({"study": "study", key: part}), dict)


def test_a_record_of_version_2_lacks_nothing_that_has_no_default() -> None:
    now = migrated({"study": "study", "claims": [{**CLAIM, "reason": "measured 1, as claimed"}]})
    of_version_2 = {
        **now,
        "version": 2,
        "claims": [
            {key: value for key, value in claim.items() if key not in ("revision", "margin_why", "published")}
            for claim in now["claims"]
        ],
    }
    record = Record.model_validate(migrated(of_version_2), strict=True)
    assert record == Record.model_validate(now, strict=True)
    (claim,) = record.claims
    assert (claim.revision, claim.margin_why, claim.published, claim.same_as) == (1, None, None, None)


@pytest.mark.parametrize("version", [1, 4, "2", None])
def test_a_version_that_there_never_was_is_left_to_the_schema(version: Any) -> None:
    assert migrated({"study": "study", "version": version})["version"] == version


def test_reading_changes_no_record() -> None:
    record = read_json(RECORDS[0])
    before = hashlib.sha256(json.dumps(record).encode()).digest()
    migrated(record)
    assert hashlib.sha256(json.dumps(record).encode()).digest() == before
