"""The page and the figures: what they show, what they say of what is missing, and that nothing in a study can harm a
reader.
"""

import ast
import json
import re
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from helpers import refused, reslab_here, sum_up
from helpers_report import (
    EVIL,
    TEXT,
    a_chart,
    a_claim,
    a_grid,
    a_lesion,
    a_spectrum,
    a_study,
    a_trial,
    hostile_study,
    without_scripts,
)

from reslab.analysis.torchvision_tour import Stop, Tour
from reslab.commands.ledger import print_claims
from reslab.errors import MissingError, UserError
from reslab.experiment.study import rounded
from reslab.files import write_json
from reslab.ledger.claim import Claim
from reslab.ledger.comparison import Check, Comparison, untrained
from reslab.ledger.evidence import alone
from reslab.ledger.record import Chart, Record, Series, Table, Verdict
from reslab.ledger.verdict import check, decide
from reslab.ledger.wording import phrases, reason
from reslab.networks import zoo
from reslab.report import explorer, hangul, pictures, records, units
from reslab.report.chapter import chapter, rendered
from reslab.report.figures import draw, write_figures
from reslab.report.page import dedent, write_report


def chart(found: dict[str, Any]) -> Chart:
    """Return a chart as it is read from a record."""
    return Chart.model_validate(found, strict=True)


def a_verdict(**changes: Any) -> Verdict:
    """Return a claim as it is read from a record."""
    return Verdict.model_validate(a_claim(**changes), strict=True)


def test_a_hostile_study_gives_a_safe_and_readable_page(tmp_path: Path) -> None:
    study = hostile_study(tmp_path / "나쁜 실험", 300)
    page = write_report([study], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "</script><script>" not in page and "<img" not in without_scripts(page)
    shown = without_scripts(page)
    assert "2 of 302 trials" in shown and "The first 12 of 302 are drawn" in shown and "1 trials failed" in shown
    assert shown.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 300
    for embedded in re.findall(r'<script type="application/json">(.*?)</script>', page, flags=re.DOTALL):
        json.loads(embedded, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert len(page) < 8_000_000


def confused(directory: Path, entry: dict[str, Any], counts: list[list[int]]) -> None:
    """Have a trial's directory say what its network takes the test images for."""
    path = directory / entry["directory"]
    (path / "confusion.json").write_text(json.dumps({"test": counts}), encoding="utf-8")
    sum_up(path)


def test_mistakes_are_counted_over_seeds_by_class(tmp_path: Path) -> None:
    entries = [a_trial(tmp_path, number, "plain") for number in range(2)]
    confused(tmp_path, entries[0], [[3, 1, 0, 0], [0, 2, 2, 0], [0, 0, 0, 0]])
    confused(tmp_path, entries[1], [[4, 0, 0, 0], [0, 3, 0, 1], [0, 0, 0, 0]])
    study = records.read_directory(a_study(tmp_path, trials=entries))
    table = pictures.by_class(study)
    assert table and table.rows == [["0", 12.5], ["1", 37.5], ["2", None]]
    (series,) = pictures.pictures(study)[-1].series
    assert series.x == ["0", "1", "2", "–"] and series.y == ["0", "1", "2"]
    assert series.z == [[None, 12.5, 0, 0], [0, None, 25, 12.5], [None] * 4]
    page = without_scripts(write_report([tmp_path], tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "Which class is taken for which" in page and "Test error by class (%)" in page
    (tmp_path / entries[1]["directory"] / "confusion.json").write_text("{}", encoding="utf-8")  # not as it was
    table = pictures.by_class(records.read_directory(tmp_path))
    assert table and table.rows == [["0", 25], ["1", 50], ["2", None]]


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    trials = [a_trial(tmp_path, 0, "once"), *(a_trial(tmp_path, number, "twice") for number in (1, 2))]
    _, final = pictures.pictures(records.read_directory(a_study(tmp_path, trials=trials)))
    assert [row for _, *row in pictures.data_rows(final)] == [
        ["once", ["50", "50"]],
        ["twice", ["50 ± 0", "50 ± 0"]],
    ]
    assert len(write_figures([tmp_path], tmp_path / "figures")) > 0


@pytest.mark.parametrize("counts", [[[1, 2, 3]], [[1, 2, 0], [1, 2]], [[1, -1, 0], [0, 1, 0]], [], "all"])
def test_counts_that_are_of_no_classes_are_left_out(tmp_path: Path, counts: Any) -> None:
    entry = a_trial(tmp_path, 0, "plain")
    confused(tmp_path, entry, counts)
    study = records.read_directory(a_study(tmp_path, trials=[entry]))
    assert study.confusions() == {} and pictures.by_class(study) is None


def test_of_many_classes_the_worst_are_listed_and_nothing_is_drawn(tmp_path: Path) -> None:
    entry = a_trial(tmp_path, 0, "plain")
    counts = [[*row, 100 - sum(row)] for row in np.diag(100 - np.arange(100)).tolist()]
    confused(tmp_path, entry, counts)
    study = records.read_directory(a_study(tmp_path, trials=[entry]))
    table = pictures.by_class(study)
    assert table and table.rows == [[str(place), float(place)] for place in range(99, 79, -1)]
    assert not any(chart.kind == "heatmap" for chart in pictures.pictures(study))


def test_an_interrupted_study_says_what_is_missing_and_shows_the_rest(tmp_path: Path) -> None:
    study = tmp_path / "degradation"
    for number, done in enumerate((True, True, False)):
        a_trial(study, number, "", done=done)
    page = without_scripts(write_report([study], tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "degradation (interrupted)" in page and "degradation (중단됨)" in page
    assert "2 trials had finished and 1 had begun" in page and "cifar_resnet depth=8" in page and "50.00 ± 0.00" in page
    assert "Training error through training" in page and "Claims and verdicts" not in page
    shutil.rmtree(study)
    study.mkdir()
    with refused(UserError, "study.json", "--out"):
        write_report([study], tmp_path / "page.html")


@pytest.mark.parametrize("text", ["[]", "{", '{"study": 3}'])
def test_a_broken_record_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.json").write_text(text, encoding="utf-8")
    with refused(UserError, tmp_path):
        write_report([tmp_path], tmp_path / "page.html")
    with refused(MissingError, tmp_path / "study.json"):  # a file in place of a directory
        write_report([tmp_path / "study.json"], tmp_path / "page.html")


def test_the_ledger_links_every_claim_to_its_evidence(tmp_path: Path) -> None:
    studies = [a_study(tmp_path / name, study=name, claims=[a_claim(id=f"{name}.claim")]) for name in ("one", "two")]
    page = without_scripts(write_report(studies, tmp_path / "page.html").read_text(encoding="utf-8"))
    links, ids = re.findall(r'href="#([^"]*)"', page), re.findall(r' id="([^"]*)"', page)
    assert set(links) <= set(ids) and len(ids) == len(set(ids))
    assert {"one", "one.claim", "two", "two.claim"} <= set(links)
    assert (
        "reslab study --from one.py --seeds 3" in page
        and "+0.5 [+0.25, +0.75]" in page
        and "an effect over 0.1" in page
    )


def test_the_ledger_tells_what_was_measured_from_what_was_counted_and_cited(tmp_path: Path) -> None:
    decided = [("statistical", "supported"), ("exact", "supported"), ("exact", "refuted"), ("cited", "supported")]
    claims = [
        a_claim(id=f"study.{number}", kind=kind, verdict=verdict) for number, (kind, verdict) in enumerate(decided)
    ]
    claims.append(
        a_claim(verdict="inconclusive", interval=None, reason={"code": "few-seeds", "values": {"n": 2, "least": 3}})
    )
    page = without_scripts(
        write_report([a_study(tmp_path / "study", claims=claims)], tmp_path / "page.html").read_text(encoding="utf-8")
    )
    ledger = page[page.index('<table class="ledger') : page.index("</table>", page.index('<table class="ledger'))]
    assert re.findall(r'<span class="verdict (\w+)">', ledger) == [
        "supported",
        "exact",
        "refuted",
        "cited",
        "inconclusive",
    ]
    assert ledger.count("at least 3 are needed") == 1
    tally = re.findall(r'<p class="tally"[^>]*>(.*?)</p>', page, flags=re.DOTALL)
    counted = [[int(number) for number in re.findall(r"<strong>(\d+)</strong>", line)] for line in tally]
    assert counted == [[2, 1, 1], [2, 1, 1], [1, 1]] and "지지됨" in tally[0] and "지지됨" not in tally[1] + tally[2]


def test_the_printed_ledger_tells_them_apart_too(capsys: pytest.CaptureFixture[str]) -> None:
    decided = [("statistical", "supported"), ("exact", "supported"), ("exact", "refuted"), ("cited", "supported")]
    decided.append(("statistical", None))
    print_claims(
        [
            alone(a_verdict(id=f"study.{number}", kind=kind, verdict=verdict, interval=None))
            for number, (kind, verdict) in enumerate(decided)
        ]
    )
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "Overview (overview): 1 supported, 1 counted, 1 refuted, 1 cited, 1 unmeasured"
    assert [line.split()[0] for line in printed if "study." in line] == [
        "supported",
        "counted",
        "refuted",
        "cited",
        "unmeasured",
    ]


def test_studies_stand_in_the_chapters_order(tmp_path: Path) -> None:
    sections = {
        "last": [],
        "new": ["batchnorm"],
        "mixed": ["overview", "gradient", "gradient"],
        "first": ["degradation"],
    }
    studies = [
        a_study(
            tmp_path / name,
            study=name,
            claims=[a_claim(id=f"{name}.{number}", section=section) for number, section in enumerate(found)],
        )
        for name, found in sections.items()
    ]
    page = without_scripts(write_report(studies, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert re.findall(r'<section id="([^"]+)" class="view study"', page) == ["first", "mixed", "new", "last"]


def test_a_study_without_its_trials_files_says_so_in_one_sentence(tmp_path: Path) -> None:
    trials = [a_trial(tmp_path / "study", number, "plain-20") for number in range(2)]
    shutil.rmtree(tmp_path / "study" / "trials")
    page = without_scripts(
        write_report([a_study(tmp_path / "study", trials=trials)], tmp_path / "page.html").read_text(encoding="utf-8")
    )
    assert (
        page.count('role="note"') == 1 and "there are no training curves" in page and trials[0]["directory"] not in page
    )
    twice = [tmp_path / "study", a_study(tmp_path / "other", study="other", trials=trials)]
    page = write_report(twice, tmp_path / "page.html").read_text(encoding="utf-8")
    assert (
        page.count("there are no training curves") == 1
        and "study, other: " in page
        and "<title>reslab: 2 studies</title>" in page
    )


WORDED = [
    (
        {"code": "as-claimed"},
        {"measured": {"v2": True, "v1": False}, "expected": {"v2": True, "v1": False}},
        "잰 값: v2: 예; v1: 아니오 (주장 그대로)",
        "measured: v2: yes; v1: no (as claimed)",
    ),
    (
        {"code": "not-as-claimed"},
        {"measured": [[2, 3], [1179648]], "expected": []},
        "잰 값: (2, 3), (1,179,648) (주장은 없음)",
        "measured: (2, 3), (1,179,648) (claimed: none)",
    ),
    (
        {"code": "as-claimed"},
        {"measured": "3×3 BN", "expected": "3×3 BN"},
        "잰 값: 3×3 BN (주장 그대로)",
        "measured: 3×3 BN (as claimed)",
    ),
    (
        {"code": "interval-over", "values": {"threshold": -0.01}},
        {},
        "구간 전체가 기준(−0.01)보다 크다",
        "the whole interval is over −0.01",
    ),
    (
        {"code": "interval-under", "values": {"threshold": 1e-05}},
        {},
        "구간 전체가 기준(1e−05)보다 작다",
        "the whole interval is under 1e−05",
    ),
    (
        {"code": "interval-around", "values": {"threshold": 0.5}},
        {},
        "구간이 기준(0.5)을 포함한다",
        "the interval contains 0.5",
    ),
    (
        {"code": "point-over", "values": {"n": 5, "threshold": 0.5}},
        {},
        "흩어짐이 없다: 차이 5개가 모두 같아 구간이 한 점이고, 기준(0.5)보다 크다",
        "no spread: all 5 differences are equal, so the interval is a point, over 0.5",
    ),
    (
        {"code": "point-under", "values": {"n": 5, "threshold": 0.5}},
        {},
        "흩어짐이 없다: 차이 5개가 모두 같아 구간이 한 점이고, 기준(0.5)보다 작다",
        "no spread: all 5 differences are equal, so the interval is a point, under 0.5",
    ),
    (
        {"code": "point-at", "values": {"n": 5, "threshold": 0.0}},
        {},
        "흩어짐이 없다: 차이 5개가 모두 같아 구간이 한 점이고, 기준(0)과 같다",
        "no spread: all 5 differences are equal, so the interval is a point, at 0",
    ),
    (
        {"code": "few-seeds", "values": {"n": 1, "least": 3}},
        {},
        "시드 1개: 결론을 내리려면 적어도 3개가 필요하다",
        "1 seed: at least 3 are needed to conclude anything",
    ),
    (
        {"code": "untrained", "values": {"errors": {"plain-56": 0.2004, "short": None}, "limit": 0.2}},
        {},
        "학습되지 않았으므로 결론을 내리지 않는다: plain-56의 훈련 오류가 최대 20.04 %, short의 훈련 오류가 최대 ? "
        "%(한계는 20 %)",
        "not trained, so nothing is concluded: plain-56 has up to 20.04 % training error, short has up to ? % "
        "training error (limit 20 %)",
    ),
    (
        {"code": "no-room", "values": {"margin": 0.01, "mean": 0.002}},
        {},
        "0.01만큼 작아질 여지가 없다: 비교 대상의 평균이 0.002이다",
        "no room to be lower by 0.01: the mean of what is compared with is 0.002",
    ),
    (
        {"code": "diverged", "values": {"gone": 2, "n": 5, "kind": "plain, BN"}},
        {},
        "신경망 5개 가운데 2개가 발산했다: plain, BN",
        "2 of 5 networks diverged: plain, BN",
    ),
    (
        {"code": "unequal-costs", "values": {"limit": 0.07, "networks": ["basic-8", "b-11"]}},
        {},
        "비용이 7% 넘게 다르다: basic-8, b-11",
        "the costs differ by more than 7%: basic-8, b-11",
    ),
    (
        {"code": "outside-grid", "values": {"kinds": ["with", "without", "nobody's"]}},
        {},
        "쓸 수 있는 가장 큰 학습률이 격자 밖에 있을 수 있다: 배치 정규화 있음, 배치 정규화 없음, nobody's",
        "the largest usable rate may be outside the grid: with BatchNorm, without BatchNorm, nobody's",
    ),
    (
        {"code": "too-little-learned"},
        {},
        "들여다볼 만큼 학습하지 못한 신경망이 있다",
        "not every network learned enough to be looked into",
    ),
    ({"code": "one-epoch"}, {}, "둘째 에포크가 없다", "there is no second epoch"),
    (
        {"code": "past-by-p", "values": {"n": 5, "threshold": 0.5}},
        {},
        "홀름 보정을 거친 p-값이 오류율보다 작다. 함께 읽는 구간은 더 넓어서 기준(0.5)에 닿는다",
        "decided by Holm's adjusted p-value; the simultaneous interval, which is wider, reaches 0.5",
    ),
    (
        {"code": "signs-too-few", "values": {"n": 5, "threshold": 0.5}},
        {},
        "구간은 기준(0.5)을 벗어났지만, 차이가 치우쳤거나 흩어짐이 없어 필요한 정확 검정이 동의하지 않는다",
        "the interval is past 0.5, but the exact test, which skewed differences or those without spread call for, does "
        "not agree",
    ),
    (
        {"code": "median-nearer", "values": {"n": 5, "threshold": 0.5}},
        {},
        "평균은 기준(0.5)을 벗어났지만 차이들의 중앙값은 그만큼 벗어나지 않았다",
        "the mean is past 0.5, but the median of the differences is not as far past it",
    ),
    ({"code": "nothing-measured"}, {}, "견줄 값이 없다", "there are no values to compare"),
    (
        {"code": "not-finite", "values": {"seeds": [3, 12]}},
        {},
        "유한한 수가 아닌 값이 있다: 시드 3, 12",
        "values that are not finite numbers: seeds 3, 12",
    ),
    (
        {"code": "not-a-number"},
        {"measured": "NaN", "expected": 1},
        "잰 값: NaN (수가 아닌 NaN이 있다. 주장은 1)",
        "measured: NaN (NaN is not a number; claimed: 1)",
    ),
    (
        {"code": "too-deep", "values": {"depth": 1202}},
        {},
        "이 주장은 천 층이 안 되는 신경망의 것이다(1,202층)",
        "the claim is about networks with fewer than a thousand layers (1,202 layers)",
    ),
    (
        {"code": "different-machines"},
        {},
        "한 시드의 두 실행이 서로 다른 기계에서 나왔다",
        "the two runs of a seed come from different machines",
    ),
]


@pytest.mark.parametrize(("why", "values", "ko", "en"), WORDED, ids=[why["code"] for why, *_ in WORDED])
def test_a_reason_is_worded_for_readers(why: dict[str, Any], values: dict[str, Any], ko: str, en: str) -> None:
    assert reason(a_verdict(reason=why, **values)) == {"ko": ko, "en": en}


def codes(path: Path) -> set[str]:
    """Return the codes of the reasons that a source file gives."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    given = [
        word.value
        for call in calls
        if ast.unparse(call.func) == "Reason"
        for word in call.keywords
        if word.arg == "code"
    ]
    return {
        node.value
        for value in given
        for node in ast.walk(value)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_code_that_is_given_has_words_and_is_tested_here() -> None:
    given = set().union(*(codes(path) for path in Path(records.__file__).parents[1].rglob("*.py")))
    assert {"untrained", "diverged", "unequal-costs"} < given
    assert given - {"finding"} <= {*phrases()["reasons"], *phrases()["exploratory"], *phrases()["over_data"]}
    assert phrases()["reasons"].keys() == {why["code"] for why, *_ in WORDED}


@pytest.mark.parametrize(
    ("why", "shown"),
    [
        ({"code": "nobody's"}, "nobody's"),
        ({"code": "nobody's", "values": {"n": 1000, "all": [True, None]}}, "nobody's: n: 1,000; all: yes, None"),
        ({"code": "nobody's", "values": {"text": "because"}}, "because"),
        ({"code": "said", "values": {"text": EVIL}}, EVIL),
        ({"code": "finding", "values": {"text": TEXT}}, TEXT),
        ({"code": "finding", "values": {"text": {"ko": "물음"}}}, "finding: text: ko: 물음"),
        ({"code": "interval-over"}, "interval-over"),  # without the values of the code
        ({"code": "interval-over", "values": {"threshold": "0.5"}}, "interval-over: threshold: 0.5"),
        ({"code": "interval-over", "values": {"threshold": None}}, "interval-over: threshold: None"),
        ({"code": "untrained", "values": {"errors": [0.5], "limit": 0.2}}, "untrained: errors: 0.5; limit: 0.2"),
        ({"code": "untrained", "values": {"errors": {"a": "b"}, "limit": 0.2}}, "untrained: errors: a: b; limit: 0.2"),
        (
            {"code": "unequal-costs", "values": {"limit": {}, "networks": ["a"]}},
            "unequal-costs: limit: none; networks: a",
        ),
        ({"code": "outside-grid", "values": {"kinds": [["with"]]}}, "outside-grid: kinds: (with)"),
        ({"code": "outside-grid", "values": {"kinds": 3}}, "outside-grid: kinds: 3"),
    ],
)
def test_a_reason_that_nobody_foresaw_is_shown_as_it_is(why: dict[str, Any], shown: Any) -> None:
    assert reason(a_verdict(reason=why)) == reason(a_verdict(reason=why, rate=True), percent=True) == shown


def test_a_claim_without_a_reason_has_none_shown() -> None:
    assert reason(a_verdict(reason=None)) == ""


HOSTILE = {
    "a half of a surrogate pair": ("title", {"ko": "\ud800", "en": ""}),
    "a number of thousands of digits": ("config", {"seeds": 10**4000}),
    "nested": ("config", {"x": json.loads("[" * 60 + "]" * 60)}),
    "another version": ("version", 4),
    "a version that is no number": ("version", "2"),
    "a claim twice": ("claims", [a_claim(), a_claim()]),
    "a reason in a sentence": ("claims", [a_claim(reason="the whole interval is over 0.1")]),
    "a reason without a code": ("claims", [a_claim(reason={"values": {}})]),
    "no verdict": ("claims", [a_claim(verdict=None)]),
    "no section of the chapter": ("claims", [a_claim(section="prologue")]),
    "an interval of nothing": ("claims", [a_claim(effect=None)]),
    "an interval of three ends": ("claims", [a_claim(interval=[0.25, 0.5, 0.75])]),
    "a statistical claim without a margin": ("claims", [a_claim(margin=None)]),
    "a value that is not finite": ("claims", [a_claim(treatment={"0": float("nan")}, control=0.0)]),
    "a value that is a text": ("claims", [a_claim(treatment={"0": "0.5"}, control=0.0)]),
    "a ragged table": ("tables", [{"title": TEXT, "columns": ["a", "b"], "rows": [["a"]]}]),
    "a verdict that is none": ("claims", [a_claim(verdict="yes")]),
    "a negative spread": ("charts", [a_chart(series=[{"name": "s", "x": [1], "y": [1.0], "spread": [-0.1]}])]),
    "an infinite height": ("charts", [a_chart(series=[{"name": "s", "x": [1], "y": [float("inf")]}])]),
    "a text for a height": ("charts", [a_chart(series=[{"name": "s", "x": [1], "y": ["a"]}])]),
    "a ragged grid": (
        "charts",
        [a_chart("heatmap", series=[{"name": "s", "x": [1, 2], "y": [1, 2], "z": [[1.0, 2.0], [3.0]]}])],
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_study_writes_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    key, value = HOSTILE[what]
    a_study(tmp_path, **{key: value})
    done = reslab_here("claims", tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and len(done.stderr) < 1000
    assert "study.json" in done.stderr and "run the study again" in done.stderr


def test_markup_in_a_claim_is_shown_as_it_is(tmp_path: Path) -> None:
    evil = "[/x][red]"
    claims = (
        {"id": evil, "unit": evil, "source": evil, "reason": {"code": evil}, "interval": None, "verdict": verdict}
        for verdict in ("supported", "refuted")
    )
    studies = [a_study(tmp_path / claim["verdict"], study=evil, claims=[a_claim(**claim)]) for claim in claims]
    done = reslab_here("claims", *studies)
    assert done.returncode == 0 and done.stdout.count(evil) > 3 and done.stdout.splitlines()[-1].strip() == evil


def test_a_command_has_its_values_quoted() -> None:
    record = Record(
        study="degradation", title={"ko": "", "en": ""}, config={"data": "folder:/a place;ls", "depths": [8, 14]}
    )
    assert records.command(record) == "reslab study degradation --data 'folder:/a place;ls' --depths 8,14"


def test_the_command_of_a_study_of_ones_own_names_its_file() -> None:
    record = Record(study="mine", title={"ko": "", "en": ""}, config={"data": "digits"})
    assert records.command(record) == "reslab study --from mine.py --data digits"


def test_bands_and_marks_of_names_that_a_picture_does_not_have_are_left_out() -> None:
    bands = [{"name": TEXT, "first": "nowhere", "last": "layer1.1"}]
    (with_them, *_), (without, *_) = (
        draw(chart(a_lesion(bands=found, marks=marks)), "en").axes for found, marks in ((bands, ["nowhere"]), ([], []))
    )
    assert len(with_them.patches) == len(without.patches) and len(with_them.lines) == len(without.lines)


def test_every_reason_that_claims_give_is_worded() -> None:
    claim = Claim("a.b", "statistical", "overview", TEXT, "here", "higher", 0.125, "error")
    exact = Claim("a.b", "exact", "overview", TEXT, "here")
    differences = {
        "few": [0.5],
        "over": [0.5, 0.51, 0.52],
        "under": [0.0, 0.01, 0.02],
        "across": [0.0, 0.1, 0.2],
        "flat": [0.5] * 3,
        "at": [0.125] * 3,
    }
    given = [
        decide([Comparison(claim, dict(enumerate(found)), dict.fromkeys(range(len(found)), 0.0))])[0]
        for found in differences.values()
    ]
    lower, control = replace(claim, direction="lower"), {0: 0.1, 1: 0.15}
    untested = Comparison(
        lower, control, control, untested=untrained({"plain-56": {0: 0.5, 1: 0.6}, "short": {0: 0.9}})
    )
    given += decide([untested, Comparison(lower, control, control, room=True)])
    given += [check(Check(exact, 3, expected)) for expected in (3, 4)]
    worded = [reason(verdict, percent=percent) for verdict in given for percent in (False, True)]
    assert all(isinstance(words, dict) and not re.search("[{}]", words["ko"] + words["en"]) for words in worded)
    assert len({verdict.reason.code for verdict in given if verdict.reason}) == len(given)


def test_an_intervals_marks_are_in_order_on_its_axis() -> None:
    marks = pictures.marks(a_verdict())
    assert marks is not None and marks == {"zero": 15, "margin": 51, "low": 105, "effect": 195, "high": 285}
    lower = pictures.marks(a_verdict(direction="lower"))
    assert lower is not None and lower["margin"] < lower["zero"] < lower["low"]
    assert pictures.marks(a_verdict(interval=None)) is None and pictures.marks(a_verdict(effect=float("inf"))) is None
    flat = pictures.marks(a_verdict(margin=0.0, interval=[0.0, 0.0], effect=0.0))
    assert flat is not None and set(flat.values()) == {15}


@pytest.mark.parametrize(
    ("effect", "interval", "shown"),
    [
        (-3.4694469519536144e-19, [-0.014454033307959522, 0.014454033307959522], ["0", "-0.0145", "+0.0145"]),
        (0.0153, [-0.05072, 0.08133], ["+0.015", "-0.051", "+0.081"]),
        (-0.20742706930140575, None, ["-0.207"]),
        (0.0, None, ["0"]),
        (0.05, [0.05, 0.05], ["+0.05", "+0.05", "+0.05"]),
        (1e-300, [0.0, 2e-300], ["+1e-300", "0", "+2e-300"]),
        (1.797e308, None, ["+1.797e+308"]),
        (float("nan"), None, ["+nan"]),
        (float("inf"), [0.0, float("inf")], ["+inf", "0", "+inf"]),
    ],
)
def test_an_effect_has_the_digits_that_its_interval_leaves(
    effect: float, interval: list[float] | None, shown: list[str]
) -> None:
    assert units.effect_and_interval(effect, interval) == shown


def test_error_rates_are_in_percent(tmp_path: Path) -> None:
    rates = [{"name": "plain", "x": [1, 2], "y": [0.5, None], "spread": [0.25, None], "text": None}]
    charts = [
        a_chart(series=rates, y={"ko": "시험 오류", "en": "test error"}, rate=True),
        a_chart(series=rates, y={"ko": "비율 (%)", "en": "error (%)"}),
    ]
    around = {"code": "interval-around", "values": {"n": 3, "threshold": -0.05}}
    said = {
        "unit": {"ko": "시험 오류", "en": "test error"},
        "reason": around,
        "verdict": "inconclusive",
        "margin": 0.05,
        "direction": "lower",
    }
    claims = [
        a_claim(**said, rate=True, effect=-0.125, interval=[-0.25, 0.0]),
        a_claim(id="study.norm", effect=-0.125, interval=[-0.25, 0.0], **{**said, "unit": "log10 of the loss"}),
    ]
    page = write_report([a_study(tmp_path / "study", charts=charts, claims=claims)], tmp_path / "page.html").read_text(
        encoding="utf-8"
    )
    shown = [json.loads(picture) for picture in re.findall(r'<figure.*?json">(.*?)</script>', page, flags=re.DOTALL)]
    assert [(chart["y"]["en"], chart["series"][0]["y"], chart["series"][0]["spread"]) for chart in shown] == [
        ("test error (%)", [50.0, None], [25.0, None]),
        ("error (%)", [0.5, None], [0.25, None]),
    ]
    for text in (
        "−12.5 [−25, 0]",
        "test error, %\u00a0points",
        "시험 오류, %p",
        "an effect under −5<",
        "contains −5<",
        "contains −0.05<",
    ):
        assert text in page
    room = {"code": "no-room", "values": {"margin": 0.01, "mean": 1e-05}}
    words = reason(a_verdict(reason=room, rate=True), percent=True)
    assert (
        isinstance(words, dict)
        and words["en"] == "no room to be lower by 1: the mean of what is compared with is 0.001"
    )
    assert reason(a_verdict(reason=room), percent=True) == reason(a_verdict(reason=room, rate=True))


def test_the_table_behind_a_picture_has_every_number() -> None:
    series = [
        {"name": "one", "x": [1, 2], "y": [0.123456, 2000.0], "spread": [0.1, None], "text": None},
        {"name": "two", "x": [2, 2, 3], "y": [1.0, 2.0, None], "spread": None, "text": ["a", "b", "c"]},
    ]
    picture = chart(a_chart(series=series))
    rows = list(pictures.data_rows(picture))
    assert rows == [
        ("", "1", ["0.1235 ± 0.1", ""]),
        ("", "2", ["2,000", "1 a"]),
        ("", "2", ["", "2 b"]),
        ("", "3", ["", " c"]),
    ]
    assert pictures.data_head(picture) == [TEXT, "one", "two"]


def test_a_column_of_numbers_may_begin_with_an_empty_cell() -> None:
    rows = [["x", None, None, 1], ["y", 2.5, "+1 %", None]]
    assert pictures.number_columns(Table(title=TEXT, columns=["a", "b", "c", "d"], rows=rows)) == [
        False,
        True,
        False,
        True,
    ]
    assert pictures.number_columns(Table(title=TEXT, columns=["a"], rows=[])) == [False]


def test_a_cell_is_short_and_has_a_true_minus() -> None:
    values = (-6.4021, -3.0, -0.0, 25557032, 6.78e-17, None, "a-b", True)
    assert [pictures.figure(value) for value in values] == [
        "−6.402",
        "−3",
        "0",
        "25,557,032",
        "6.78e−17",
        "",
        "a-b",
        "True",
    ]


def test_the_table_behind_a_grid_has_every_number() -> None:
    picture = chart(a_grid("heatmap"))
    assert pictures.data_head(picture) == [{"ko": "물음 ↓ 물음 →", "en": "question ↓ question →"}, "0", "5", "10"]
    rows = list(pictures.data_rows(picture))
    assert (
        len(rows) == 8
        and rows[1] == ("plain", "1.5", ["1", "1.1", "1.2"])
        and rows[-1] == ("residual", "3.5", ["3", "3.1", "3.2"])
    )


def test_lines_of_code_keep_their_indentation_to_each_other() -> None:
    assert dedent([(3, "    if x:"), (4, "        y")]) == [(3, "if x:"), (4, "    y")] and dedent([]) == []


# --- Hangul -----------------------------------------------------------------------------------------------------------


def test_a_page_carries_the_hangul_it_shows_and_no_more() -> None:
    face = hangul.font_face("기울기 <p>gradient</p>")
    assert "font/woff" in face and len(face) < 10_000
    assert hangul.font_face("gradient") == ""


def test_the_font_has_every_syllable_and_no_reserved_name() -> None:
    font = TTFont(hangul.FILE)
    assert set(range(0xAC00, 0xD7A4)) <= font.getBestCmap().keys()
    assert not any("nanum" in record.toUnicode().lower() for record in font["name"].names)
    assert "SIL OPEN FONT LICENSE" in (hangul.FILE.parent / "OFL.txt").read_text(encoding="utf-8")


def test_the_command_writes_the_page_with_the_tour_and_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A glyph that the figures' fonts lack is a warning of matplotlib's, and warnings are errors."""
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    stop = Stop(
        {"ko": "덧셈", "en": "the sum"},
        "Block.forward",
        [(7, "    if x < y:"), (8, "        out += <x>")],
        {"blocks": 8.0},
    )
    module = import_module("reslab.analysis.torchvision_tour")
    monkeypatch.setattr(module, "torchvision_tour", lambda: Tour("0.1", [stop]))
    words = {"ko": "오류율 (%) 뷁 $x$", "en": "error (%)"}
    bars = [
        {"name": words, "x": ["plain-20 <b>", "resnet-20"], "y": [1.0, None], "spread": [0.1, 0.0], "text": None}
    ] * 2
    study = a_study(tmp_path / "한 실험", charts=[a_chart("bars", series=bars, y=words)])
    figures = tmp_path / "슬라이드"
    done = reslab_here("report", study, "--out", tmp_path / "쪽.html", "--figures", figures, "--open", "--json")
    assert done.returncode == 0, done.stderr
    assert opened == [(tmp_path / "쪽.html").resolve().as_uri()]
    page = (tmp_path / "쪽.html").read_text(encoding="utf-8")
    assert "    out += &lt;x&gt;" in page and "the sum" in page and "BSD 3-Clause" in page and "<dd>8</dd>" in page
    written = json.loads(done.stdout)
    assert written["report"] == str(tmp_path / "쪽.html")
    names = {f"study-question.{language}.{kind}" for language in ("ko", "en") for kind in ("png", "svg")}
    assert {Path(path).name for path in written["figures"]} == names
    assert all(
        Path(path).read_bytes().startswith(b"\x89PNG" if path.endswith("png") else b"<?xml")
        for path in written["figures"]
    )
    assert "<text" not in (figures / "study-question.ko.svg").read_text(encoding="utf-8")


def test_figures_of_two_records_of_a_study_are_apart(tmp_path: Path) -> None:
    bars = [{"name": TEXT, "x": ["a"], "y": [1.0], "spread": None, "text": None}]
    directories = [a_study(tmp_path / name, charts=[a_chart("bars", series=bars)]) for name in ("one", "ten")]
    written = write_figures(directories, tmp_path / "figures")
    assert len(set(written)) == len(written) == 8
    assert {path.name.split(".")[0] for path in written} == {"study-1-question", "study-2-question"}


def test_lines_and_points_are_drawn_too() -> None:
    band, whiskers = (
        draw(chart(picture), "ko").axes[0] for picture in (a_chart(), a_chart("points", log_x=True, log_y=True))
    )
    assert band.get_ylim()[0] == 0 and len(band.collections) == 1
    assert whiskers.get_xscale() == whiskers.get_yscale() == "log"


def test_grids_panels_bands_and_marks_are_drawn() -> None:
    for kind in ("heatmap", "contours"):
        one, two, colours = draw(chart(a_grid(kind)), "en").axes
        assert (one.get_title("left"), two.get_title("left"), colours.get_ylabel()) == ("plain", "residual", "height")
        assert one.collections[0].get_clim() == two.collections[0].get_clim() == (0.0, 3.2)
    panels = draw(chart(a_lesion()), "ko").axes
    texts = [[text.get_text() for text in panel.texts] for panel in panels]
    assert texts == [["1단계", "2단계", "▼"], ["▼"], ["▼"]] and all(len(panel.patches) == 4 + 2 for panel in panels)
    assert [text.get_position()[0] for text in panels[0].texts] == [0.5, 2.5, 2.0]
    assert len({panel.get_ylim() for panel in panels}) == 1
    (mixed,) = draw(chart(a_spectrum()), "en").axes
    assert (
        len(mixed.patches) == 3
        and len(mixed.lines) == 1
        and mixed.patches[1].get_x() + mixed.patches[1].get_width() / 2 == pytest.approx(1)
    )


def test_grids_with_nothing_in_them_are_drawn_as_nothing() -> None:
    nothing = [{"name": EVIL, "x": [1.0, 2.0], "y": [1.0, 2.0], "z": z} for z in (None, [[None, None], [None, None]])]
    assert all(not axes.collections for axes in draw(chart(a_grid("contours", series=nothing)), "en").axes)


def test_a_records_numbers_are_finite_and_short(tmp_path: Path) -> None:
    z = [[1 / 3, 123456.789]]
    heat = Chart(
        title=TEXT,
        caption=TEXT,
        x=TEXT,
        y=TEXT,
        series=[Series(name="a", x=[0.0, 1.0], y=[0.0], z=z)],
        kind="heatmap",
        z=TEXT,
    )
    record = rounded(heat.model_dump())
    assert record["series"][0]["z"] == [[0.33333, 123460.0]] and rounded({"n": 25557032}) == {"n": 25557032}
    write_json(tmp_path / "study.json", record)
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "study.json", rounded({"z": [[float("nan")]]}))


@pytest.mark.slow
def test_the_real_tour_is_a_section(tmp_path: Path) -> None:
    assert reslab_here("report", a_study(tmp_path / "study"), "--out", tmp_path / "page.html").returncode == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "out += identity" in page and "The residual addition" in page and page.count("<li>\n<div><h3>") == 7


# --- The explorer's data ----------------------------------------------------------------------------------------------


def resolved(catalogue: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a network's entry with its designs in full."""
    rows = [
        [title, words, [[catalogue["blocks"][block], *counts] for block, *counts in runs]]
        for title, words, runs in catalogue["rows"]
    ]
    network = catalogue["networks"][name]
    return {
        **network,
        "designs": {
            chosen: [rows[row] for row in catalogue["designs"][number]] for chosen, number in network["designs"].items()
        },
    }


def test_the_explorer_offers_the_whole_zoo() -> None:
    catalogue = explorer.catalogue()
    assert list(catalogue["networks"]) == explorer.offered(), "run python -m reslab.report.explorer"
    assert explorer.FILE.stat().st_size < 300_000


@pytest.mark.parametrize("name", ["plain18", "cifar_plain", "wrn28_10"])
def test_the_explorers_file_is_what_the_zoo_builds(name: str) -> None:
    assert resolved(explorer.catalogue(), name) == json.loads(
        json.dumps(resolved(explorer.measure_catalogue([name]), name))
    )


@pytest.mark.slow
def test_the_explorers_whole_file_is_what_the_zoo_builds() -> None:
    measured = json.loads(json.dumps(explorer.measure_catalogue(explorer.offered())))
    assert measured == explorer.catalogue(), "run python -m reslab.report.explorer"
    assert {name for name in zoo.names() if not name.startswith("lowlevel/")} < measured["networks"].keys()


def test_the_chapter_is_in_the_page_with_links_to_its_evidence() -> None:
    for made in chapter({"degradation.not-overfitting": "somewhere"}).values():
        text = made.html
        assert '<a href="#somewhere"><code>degradation.not-overfitting</code></a>' in text
        assert "<h1" not in text and "<h4>" in text and "<table>" in text
        assert not text.startswith(("<p>English", "<p>한국어"))  # the ways to other files, which are not here
        assert all(link.startswith(("#somewhere", "https://")) for link in re.findall(r'href="([^"]*)"', text))
        assert re.findall(r'<h3 id="([^"]+)">([^<]+)</h3>', text) == made.contents and len(made.contents) > 5


def test_the_chapter_brings_its_drawings_and_folds_its_evidence_away() -> None:
    for made in chapter({}).values():
        text = made.html
        folds = re.findall(r"<details><summary>[^<]+</summary>\n(.*?)</details>", text, re.DOTALL)
        assert len(folds) == text.count("<details>") == text.count("</details>") > 10
        assert all("<table>" in fold for fold in folds) and "&lt;details" not in text
        assert re.findall(r'<img alt="[^"]+" data-packed="([^"]+)">', text) == list(made.pictures)
        assert any("<title id" in drawing for drawing in made.pictures.values())


def test_a_picture_that_is_not_there_is_described() -> None:
    made = rendered("# t\n\n![a <b>](report/drawings/no.svg)\n", "en", {})
    assert not made.pictures and made.html == '<p><span class="small">[a &lt;b&gt;]</span></p>\n'


def test_markdown_cannot_inject() -> None:
    expected = "<p>&lt;script&gt;x&lt;/script&gt; <code>&lt;b&gt;</code> [a](javascript:alert(1))</p>\n"
    made = rendered("# t\n\n<script>x</script> `<b>` [a](javascript:alert(1))\n", "en", {})
    assert made.html == expected
