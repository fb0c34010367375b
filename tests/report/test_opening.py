"""The first view and what is the same in all: the story, the results, headings that the ledger bears out, colours,
addresses.
"""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pytest
from helpers_report import a_study, a_trial

from reslab import report, studies
from reslab.files import read_json
from reslab.ledger.claim import Decision
from reslab.ledger.record import Chart, Table, Verdict, Way
from reslab.ledger.shipped import shipped
from reslab.report import findings, opening, story
from reslab.report.addresses import PARTS, VIEWS, Addresses
from reslab.report.colours import COLOURS, colours, palette
from reslab.report.pictures import english, pictures
from reslab.report.records import read_directory
from reslab.report.units import table_in_percent

ROOT = Path(__file__).parents[2]
REPORT = Path(report.__file__).parent
RECORDS = sorted([*ROOT.glob("results/studies/*/study.json"), *(ROOT / "results" / "registered").rglob("study.json")])


# --- The story --------------------------------------------------------------------------------------------------------


def four_trained(directory: Path, **changes: Any) -> None:
    """Write trials of the four networks, two seeds each, whose errors are 0.4 and 0.6 over the epoch."""
    for number, (name, (model, depth)) in enumerate(story.NETWORKS.items()):
        for seed in (0, 1):
            entry = a_trial(directory, 2 * number + seed, name, error=0.4 + 0.2 * seed)
            path = directory / entry["directory"] / "trial.json"
            config = {"model": model, "options": {"depth": depth}, "data": "digits", "recipe": {"epochs": 3}}
            trial = {**read_json(path), "config": {**config, "seed": seed, **changes.get(name, {})}}
            path.write_text(json.dumps(trial), encoding="utf-8")


def test_a_study_that_trained_the_four_networks_tells_its_own_story(tmp_path: Path) -> None:
    four_trained(tmp_path)
    told = story.story([read_directory(tmp_path)])
    assert (told["data"], told["seeds"], told["epochs"]) == ("digits", [0, 1], [1, 2, 3])
    assert told["networks"].keys() == story.NETWORKS.keys()
    assert told["networks"]["plain-56"]["mean"] == [50.0, 25.0, pytest.approx(16.667)]
    assert told["networks"]["plain-56"]["spread"][0] == pytest.approx(20 / 2**0.5, abs=1e-3)


@pytest.mark.parametrize("change", [{"recipe": {"epochs": 4}}, {"data": ["cifar10"]}, {"options": {"depth": 8}}])
def test_networks_that_were_trained_otherwise_are_not_in_one_picture(tmp_path: Path, change: dict[str, Any]) -> None:
    four_trained(tmp_path, **{"plain-56": change})
    assert story.story([read_directory(tmp_path)]) == read_json(story.FILE)


def test_a_story_needs_every_error_and_seeds(tmp_path: Path) -> None:
    four_trained(tmp_path / "one")
    broken = next((tmp_path / "one").glob("trials/*/metrics.jsonl"))
    lines = re.sub(r'"train_error": [\d.]+', '"train_error": null', broken.read_text(encoding="utf-8"), count=1)
    broken.write_text(lines, encoding="utf-8")
    four_trained(tmp_path / "other", **{name: {"seed": None} for name in story.NETWORKS})
    assert all(story.curves(read_directory(tmp_path / name).trials) is None for name in ("one", "other"))


def test_the_labs_story_is_of_registered_seeds_and_what_its_heading_says() -> None:
    told = story.story([])
    assert told["seeds"] == [400, 401, 402] and told["date"] and told["data"] == "folder:cifar10-jpeg"
    ends = {name: one["mean"][-1] for name, one in told["networks"].items()}
    assert ends["plain-56"] > 50 > 25 > ends["plain-20"] > ends["resnet-20"] > ends["resnet-56"]
    for size in story.SIZES.values():
        drawn = story.drawing(told, size)
        names = [float(y) for y in re.findall(r'y="([\d.]+)"><tspan', drawn)]
        assert len(names) == 4 and min(b - a for a, b in zip(sorted(names), sorted(names)[1:], strict=False)) >= 18
        points = [float(each) for each in re.findall(r"[\d.]+", " ".join(re.findall(r'points="([^"]+)"', drawn)))]
        assert max(points) <= max(size) and min(points) >= 0


def test_the_results_are_decided_and_the_storys_come_first() -> None:
    known = shipped().evidence()
    assert [each.claim.id for each in opening.results(known)] == list(opening.RESULTS)
    others = [each for each in known if each.claim.id not in opening.RESULTS]
    found = opening.results(others)
    assert len(found) == 3 and all(each.headline and each.standing == "registered" for each in found)
    undecided = [each for each in known if each.headline is None or each.headline.verdict == "inconclusive"]
    assert opening.results(undecided) == []


def test_claims_are_counted_by_kind_and_only_those_that_have_a_verdict() -> None:
    known = shipped().evidence()
    found = opening.counts(known)
    assert [each["word"]["en"] for each in found] == ["measured", "counted", "cited"]
    for kind, each in zip(opening.KINDS, found, strict=True):
        members = [one for one in known if one.claim.kind == kind]
        decided = [one for one in members if one.headline and one.headline.verdict]
        assert each["number"] == len(decided)
        assert sum(number for *_, number in each["parts"]) == len(members)


# --- Headings, colours, addresses, units ------------------------------------------------------------------------------


def titles() -> set[tuple[str, str]]:
    """Return each study's pictures' English titles, those of training included."""
    generic = ("Training error through training", "Errors after training")
    found = [(name, title) for name in studies.names() for title in generic]
    for path in RECORDS:
        study = read_directory(path.parent)
        found += [(study.record.study, picture.title["en"]) for picture in pictures(study)]
    return set(found)


def test_every_finding_is_of_a_picture_and_of_claims_that_there_are() -> None:
    ids, known = {claim.id for claim in shipped().claims}, titles()
    for each in findings.findings():
        assert any(study == each["study"] and title.startswith(each["chart"]) for study, title in known), each["chart"]
        assert each["claims"] and set(each["claims"]) <= ids
        assert {way for ways in each["claims"].values() for way in ways.split()} <= {
            "supported",
            "refuted",
            *get_args(Way),
        }


def came_out(id: str, verdict: Decision | None, way: Way | None = None) -> Verdict:
    """Return the record of a claim that came out so."""
    (claim,) = (claim for claim in shipped().claims if claim.id == id)
    return Verdict(**asdict(claim)).model_copy(update={"verdict": verdict, "way": way})


def test_a_finding_is_shown_only_where_its_claims_came_out_so() -> None:
    title = "Training error over depth"
    claim = "degradation.plain-deeper-trains-worse"
    assert findings.finding_of("degradation", title, {claim: came_out(claim, "supported")})
    for verdicts in ({}, {claim: came_out(claim, "refuted")}, {claim: came_out(claim, None)}):
        assert findings.finding_of("degradation", title, verdicts) is None
    assert findings.finding_of("lesion", title, {claim: came_out(claim, "supported")}) is None


def test_what_is_smaller_but_by_less_than_the_margin_is_not_called_no_smaller() -> None:
    claim = "residual_learning.responses-are-smaller-than-plain"
    told = {
        way: findings.finding_of("residual_learning", "The layers' responses", {claim: came_out(claim, "refuted", way)})
        for way in get_args(Way)
    }
    assert [way for way, said in told.items() if said] == ["opposite", "no-effect"]


def test_a_network_has_its_own_colour_whatever_else_is_in_the_picture() -> None:
    for names in (["plain", "resnet"], ["resnet", "densenet", "plain"], ["other", "plain", "resnet", "before"]):
        found = dict(zip(names, colours(names), strict=True))
        assert (found["plain"], found["resnet"]) == (1, 0)
    assert colours(["plain-20", "plain-56", "resnet-20", "resnet-56"]) == [4, 1, 5, 0]
    assert colours(["plain, BN", "plain", "residual, BN", "residual"]) == [1, 4, 0, 5]
    assert len(set(colours(["before", "after", "v1", "v2"]))) == 4
    assert len(colours([str(number) for number in range(40)])) == 40


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours (WCAG 2.2, relative luminance)."""

    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_colour_is_seen_on_light_and_on_dark_ground() -> None:
    assert len(palette()) == len(COLOURS)
    for light, dark in palette():
        assert contrast(light, "#fdfdfb") >= 3 and contrast(dark, "#15181c") >= 3


def test_a_name_is_its_own_address_unless_that_is_taken() -> None:
    addresses = Addresses()
    assert [addresses.take(name) for name in ("lesion", "lesion", "Lesion", "lesion.plain-breaks")] == [
        "lesion",
        "lesion-2",
        "lesion-3",
        "lesion.plain-breaks",
    ]
    assert [addresses.take(view) for view in VIEWS] == [f"{view}-2" for view in VIEWS]
    assert addresses.take('"><img>') == "img" and addresses.take("…") == "study"


def test_no_study_has_the_address_of_a_part_of_the_page() -> None:
    templates = [*REPORT.glob("templates/*.j2"), *REPORT.glob("play/*.j2")]
    found = {name for file in templates for name in re.findall(r'\bid="([\w-]+)"', file.read_text(encoding="utf-8"))}
    assert found <= {*VIEWS, *PARTS} and not {*VIEWS, *PARTS} & {*studies.names()}


def test_columns_of_error_rates_are_in_percent_and_say_so() -> None:
    table = Table(
        title={"ko": "표", "en": "table"},
        columns=["network", {"ko": "시험 오류", "en": "test error"}, "test − training error", "test error (%)"],
        rows=[["plain", 0.25, -0.5, 3.0], ["other", None, 0.0, 4.0]],
    )
    found = table_in_percent(table)
    assert found.columns[1:3] == [
        {"ko": "시험 오류 (%)", "en": "test error (%)"},
        {"ko": "test − training error (%p)", "en": "test − training error (points)"},
    ]
    assert found.rows == [["plain", 25.0, -50.0, 3.0], ["other", None, 0.0, 4.0]]
    assert table_in_percent(found) == found


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_no_picture_or_table_of_the_records_has_error_rates_as_fractions(path: Path) -> None:
    study = read_directory(path.parent)
    for picture in pictures(study):
        assert not says_error(picture.y["en"]), picture.title["en"]
    for table in map(table_in_percent, study.record.tables):
        for column in table.columns:
            assert not says_error(column if isinstance(column, str) else column["en"]) or "%" in table.title["en"]


def says_error(text: str) -> bool:
    """Return whether an axis or a column is of an error rate and names no unit."""
    return bool(re.search(r"\berror\b", text)) and not re.search(r"%|points|squared", text)


def test_series_are_named_in_english_for_their_colours() -> None:
    both = {"ko": "잔차", "en": "residual"}
    chart = Chart(title=both, caption=both, x=both, y=both, series=[{"name": both, "x": [1], "y": [1.0]}])
    assert english(chart) == ["residual"]


def test_a_record_of_the_labs_shows_the_ledgers_headline_and_its_own_verdict(tmp_path: Path) -> None:
    from reslab.report.page import write_report

    page = write_report([ROOT / "results" / "studies" / "lesion"], tmp_path / "page.html").read_text(encoding="utf-8")
    known = {each.claim.id: each for each in shipped().evidence()}
    for id, each in known.items():
        if each.study == "lesion" and each.headline:
            item = re.search(rf'<li id="{re.escape(id)}">.*?</li>', page, re.DOTALL)
            assert item, id
            assert re.findall(r'class="verdict (\w+)"', item[0])[0] == each.headline.verdict
    assert page.count("This record alone") > 3
    assert 'class="verdict supported"' in page


def test_a_study_is_not_called_as_a_view_is(tmp_path: Path) -> None:
    from reslab.report.page import write_report

    study = a_study(tmp_path / "ledger", study="ledger")
    page = write_report([study], tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<section id="ledger-2" class="view study"' in page


@pytest.mark.parametrize("name", ["plotly", "explorer-program", "module-play", "picture-1", "chapter-en-3"])
def test_a_study_has_no_address_of_the_pages_own_parts(name: str) -> None:
    addresses = Addresses()
    assert [addresses.take(name), addresses.take(name)] == [f"study-{name}", f"study-{name}-2"]
