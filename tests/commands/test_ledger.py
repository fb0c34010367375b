"""`reslab claims`: the ledger that comes with the lab, records in its place, bars, and what JSON says of all that."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import helpers_chapter
import pandas as pd
import pytest
from helpers import assert_refused, reslab_here
from helpers_ledger import CLAIMS, CLEAR, NEAR, a_record
from rich.cells import cell_len

from reslab.api.claims import claims
from reslab.commands import ledger
from reslab.errors import Language
from reslab.files import write_json
from reslab.ledger import axis
from reslab.ledger.axis import Bar
from reslab.ledger.evidence import evidence
from reslab.ledger.record import Record
from reslab.ledger.sets import seed_sets
from reslab.ledger.shipped import shipped
from reslab.ledger.wording import phrases, spans
from reslab.report.records import read_study
from reslab.report.units import effect_and_interval


def written(directory: Path, *records: Record) -> list[Path]:
    """Write records as studies do, and return their directories."""
    paths = [directory / str(number) for number in range(len(records))]
    for path, record in zip(paths, records, strict=True):
        path.mkdir()
        write_json(path / "study.json", record.to_json())
    return paths


@pytest.fixture
def directories(tmp_path: Path) -> list[Path]:
    """Return those of four sets of seeds, one of them on other data, and one before a claim changed."""
    return written(
        tmp_path,
        a_record(range(5), earlier=True),
        a_record(range(100, 105), (CLEAR, replace(NEAR, margin=0.4)), earlier=True),
        a_record(range(300, 310), date="2026-01-01"),
        a_record(range(5), data="svhn"),
    )


def test_the_ledger_of_the_lab_is_shown_without_directories_and_without_torch() -> None:
    code = """
import sys
from reslab.cli import main
try:
    main(["claims", "--section", "degradation"])
except SystemExit as stop:
    print(stop.code or 0, "torch" in sys.modules, file=sys.stderr)
"""
    flags = {"capture_output": True, "text": True, "encoding": "utf-8", "check": True}
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", code], **flags)
    assert done.stderr.split() == ["0", "False"] and "degradation.plain-deeper-trains-worse" in done.stdout


def test_every_claim_of_the_lab_is_an_entry_with_all_its_keys() -> None:
    found = json.loads(reslab_here("claims", "--json").stdout)
    assert [claim["id"] for claim in found["claims"]] == [claim.id for claim in shipped().claims]
    assert len({tuple(claim) for claim in found["claims"]}) == 1
    assert 0 < found["risk"]["expected"] < found["risk"]["tests"] and 0 < found["risk"]["chance"] < 1


def test_the_claims_of_a_section_are_a_table_of_its_own_for_other_tools(tmp_path: Path) -> None:
    files = {kind: tmp_path / f"claims.{kind}" for kind in ("csv", "parquet")}
    done = reslab_here("claims", "--section", "degradation", "--csv", files["csv"], "--parquet", files["parquet"])
    assert done.returncode == 0 and str(files["csv"]) in done.stdout, done.stderr
    expected = claims(section="degradation").reset_index()
    pd.testing.assert_frame_equal(pd.read_parquet(files["parquet"]), expected, check_dtype=False, check_exact=True)
    read = pd.read_csv(files["csv"])
    texts = ["unit", "elsewhere"]  # which may be empty
    read[texts] = read[texts].astype(object).fillna("")
    pd.testing.assert_frame_equal(read, expected, check_dtype=False, rtol=1e-13, atol=0)


def test_json_says_what_a_verdict_rests_on(directories: list[Path]) -> None:
    found = json.loads(reslab_here("claims", *directories, "--json").stdout)
    clear, near = found["claims"]
    assert (clear["verdict"], clear["n"], clear["standing"]) == ("supported", 15, "repeated")
    here, there = clear["scales"]
    assert (here["data"], here["steps"], here["pooled"]["sets"]) == ("digits", [140, 140], 2)
    assert here["pooled"]["between"] > 0 and here["error"] > 0 and here["settings"] == {"data": "digits"}
    assert [one["standing"] for one in here["sets"]] == ["exploratory", "repeated", "registered"]
    assert here["sets"][2]["registered"] and here["sets"][2]["why"] is None
    assert (there["data"], there["standing"], there["pooled"]) == ("svhn", "exploratory", None)
    assert clear["over_data"]["values"] == {"n": 1, "least": 3}
    assert [one["of_the_claim"] for one in near["scales"][0]["sets"]] == [True, False, True] and near["n"] == 10


def test_verdicts_at_other_scales_are_told_with_their_effects(tmp_path: Path) -> None:
    places = written(tmp_path, a_record(range(300, 310), date="1"), a_record(range(10), data="folder:/x/y", date="2"))
    there = a_record(range(10), data="folder:/x/y").claims[0]
    assert there.interval is not None
    effect, low, high = effect_and_interval(there.effect or 0.0, there.interval)
    said = " ".join(reslab_here("claims", *places).stdout.split())
    assert f"y, 140 steps: {effect} [{low}, {high}]; registered 0–9 ✓" in said
    found = claims(*places)
    assert found.loc["study.clear", "elsewhere"] == "y, 140 steps: supported"
    known = evidence(CLAIMS, [one for place in places for one in seed_sets([read_study(place)])])
    minus = [text.replace("-", "−") for text in (effect, low, high)]
    assert helpers_chapter._alone(known[0], "en")[0] == (
        f"digits, 140 steps: supported; y, 140 steps: supported {minus[0]} [{minus[1]}, {minus[2]}]"
    )
    assert helpers_chapter._together([known[0]], "ko").endswith("; y: **지지됨**")


def test_where_scales_disagree_is_told_first(tmp_path: Path) -> None:
    here, there = a_record(range(300, 310), date="1"), a_record(range(10), data="folder:/x/y", date="2", effect=-3.0)
    said = reslab_here("claims", *written(tmp_path, here, there)).stdout.splitlines()
    assert said[0] == ledger.WORDS["en"]["apart"]
    assert said[1].strip() == "study.clear: digits, 140 steps: supported; y, 140 steps: refuted"


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_an_entry_fits_its_terminal_and_says_what_is_known(
    lang: Language, directories: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = reslab_here("claims", *directories, "--pool", "--lang", lang)
    assert done.returncode == 0 and max(map(cell_len, done.stdout.splitlines())) <= 80
    said = " ".join(done.stdout.split())
    told = {
        "en": ["digits, 140 steps: registered 300–309 ✓; fresh seeds 100–104 ?; exploratory 0–4", "pooled, 15 seeds"],
        "ko": ["숫자, 140 스텝: 사전 등록 300–309 ✓; 새 시드 100–104 ?; 탐색 0–4", "시드 15개, 묶음 2개"],
    }
    for text in (*told[lang], "svhn, 140", "+2.5", phrases()["standings"]["changed"][lang]):
        assert text in said


def test_data_sets_are_pooled_from_three_on(tmp_path: Path) -> None:
    records = [
        a_record(range(300 + 10 * n, 310 + 10 * n), data=data, date="2026") for n, data in enumerate(("a", "b", "c"))
    ]
    printed = " ".join(reslab_here("claims", *written(tmp_path, *records), "--pool").stdout.split())
    assert "3 data sets: +" in printed and "at least 3 are needed" not in printed


def test_a_record_without_claims_has_nothing_to_list(tmp_path: Path) -> None:
    (path,) = written(tmp_path, a_record(range(5)).model_copy(update={"claims": []}))
    done = reslab_here("claims", path, "--pool")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_another_margin_is_of_another_claim_than_the_registered(tmp_path: Path) -> None:
    (path,) = written(tmp_path, a_record(range(300, 310), date="2026-01-01"))
    same, other = (
        json.loads(reslab_here("claims", path, "--decide-again", *margin, "--json").stdout)["claims"][0]
        for margin in ((), ("--margin", "study.clear=9"))
    )
    assert (same["standing"], same["verdict"]) == ("registered", "supported")
    assert (other["standing"], other["verdict"], other["margin"]) == ("exploratory", "refuted", 9)
    assert other["scales"][0]["sets"][0]["why"]["code"] == "other-claim"


# --- Bars -------------------------------------------------------------------------------------------------------------


def test_the_claimed_way_is_to_the_right_and_the_margin_is_at_one() -> None:
    record = a_record(range(300, 310), date="2026-01-01", effect=-3)
    clear, near = evidence(CLAIMS, seed_sets([record]))
    assert clear.headline is not None and near.headline is not None
    higher, lower = axis.bar(CLEAR, clear.headline), axis.bar(NEAR, near.headline)
    assert higher is not None and lower is not None
    assert higher.effect < 0 < higher.margin == lower.margin < lower.low < lower.effect < lower.high < 1
    assert higher.margin == pytest.approx(math.asinh(1) / math.asinh(axis.REACH))
    assert higher.published == pytest.approx(axis.place(2.5)) and lower.published is None
    assert axis.bar(CLEAR, clear.headline.model_copy(update={"interval": None})) is None
    assert axis.bar(CLEAR, clear.headline.model_copy(update={"effect": math.nan})) is None


def test_a_margin_of_nothing_has_a_bar_in_its_own_unit() -> None:
    claim = replace(CLEAR, margin=0.0, published=None)
    (known, *_) = evidence([claim], seed_sets([a_record(range(300, 310), (claim,), date="2026-01-01")]))
    assert known.headline is not None
    found = axis.bar(claim, known.headline)
    assert found is not None and found.margin == 0 < found.low and found.high == pytest.approx(axis.place(1))


def test_a_bar_is_drawn_to_scale_and_cut_off_at_the_ends() -> None:
    width = 65
    assert ledger.drawn(Bar(0.5, 0.25, 0.75, 0.2, -0.5), width) == (
        " " * 16 + "◆" + " " * 15 + "┊" + " " * 5 + "│" + " " + "━" * 8 + "●" + "━" * 8
    )
    assert ledger.drawn(Bar(-1, -1, -1, 0.2, None), width).startswith("◀")
    assert ledger.drawn(Bar(1, 0, 1, 0.25, None), width) == " " * 32 + "━" * 8 + "┿" + "━" * 23 + "▶"
    numbers = ledger.axis(width)
    assert numbers.split() == [str(tick) for tick in axis.TICKS]
    assert numbers.index("1", numbers.index(" 0 ")) == ledger.column(axis.place(1), width)


@pytest.mark.parametrize(
    ("seeds", "said"), [([], ""), ([3], "3"), ([0, 1, 2, 3, 4], "0–4"), ([0, 1, 5, 7, 8, 9], "0–1, 5, 7–9")]
)
def test_seeds_are_told_as_spans(seeds: list[int], said: str) -> None:
    assert spans(seeds) == said


def test_a_file_in_the_way_of_a_registration_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("", encoding="utf-8")
    out = tmp_path / "f" / "x.json"
    done = reslab_here("register", "degradation", "--seeds", "900:910", "--out", out)
    assert_refused(done, out)
    assert "overwritten" not in done.stderr
