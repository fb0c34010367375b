"""The ledger on the page: a forest plot per section, from any records or from those that come with the lab."""

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers_ledger import CLEAR, NEAR, a_record

from reslab.files import write_json
from reslab.ledger.axis import place
from reslab.ledger.claim import SECTIONS
from reslab.ledger.evidence import evidence
from reslab.ledger.record import Record
from reslab.ledger.sets import seed_sets
from reslab.ledger.shipped import shipped
from reslab.report import ledger
from reslab.report.page import write_report


def page_of(directory: Path, *records: Record) -> str:
    paths = [directory / str(number) for number in range(len(records))]
    for path, record in zip(paths, records, strict=True):
        path.mkdir()
        write_json(path / "study.json", record.to_json())
    return write_report(paths, directory / "page.html").read_text(encoding="utf-8")


def rows(page: str) -> list[str]:
    """Return the ledger's rows."""
    return re.findall(r'<tr class="row".*?</tr>', page, flags=re.DOTALL)


def test_without_directories_the_page_is_of_the_labs_own_ledger(tmp_path: Path) -> None:
    page = write_report([], tmp_path / "page.html").read_text(encoding="utf-8")
    known = shipped().evidence()
    found = rows(page)
    assert len(found) == len(known)
    in_order = [each for section in SECTIONS for each in known if each.claim.section == section]
    for each, row in zip(in_order, found, strict=False):
        assert each.claim.statement["en"] in html.unescape(row)
    assert sum("<svg" in row for row in found) == sum(ledger.forest(each) is not None for each in known) > 50
    links, ids = re.findall(r'href="#([^"]*)"', page), re.findall(r' id="([^"]*)"', page)
    assert set(links) <= set(ids) and len(ids) == len(set(ids))
    assert len(re.findall(r'<section id="[^"]+" class="view study"', page)) == len(shipped().studies)


def test_a_row_has_every_set_of_seeds_and_the_papers_effect(tmp_path: Path) -> None:
    records = [
        a_record(range(5), earlier=True),
        a_record(range(100, 105), (CLEAR, replace(NEAR, margin=0.4)), earlier=True),
        a_record(range(300, 310), date="2026-01-01"),
        a_record(range(5), data="svhn"),
        a_record(range(10, 13), data="cifar10", date="2026-01-02"),
    ]
    page = page_of(tmp_path, *records)
    clear, near = rows(page)
    assert re.findall(r'<g class="(set \w+|published|headline \w+)">', clear) == [
        *(f"set {standing}" for standing in ("exploratory", "repeated", "registered")),
        "published",
        "headline supported",
    ]
    assert re.findall(r'<g class="(set \w+|published|headline \w+)">', near) == [
        *(f"set {standing}" for standing in ("exploratory", "registered")),  # the other was of another margin
        "headline refuted",
    ]
    assert "n = 15, " in clear and "digits, 140 steps" in clear
    assert "svhn, 140 steps" not in clear  # exploratory
    assert "300–309 (사전 등록 · registered): " in clear and "100–104 (새 시드 · fresh seeds): " in clear
    assert page.count('class="view study"') == 5 and page.count('<span class="badge">') == 2 + 2 * 5
    assert len(re.findall(r'<th scope="col" class="number"><span[^>]*>CIFAR-10</span>', page)) == 1
    data = re.findall(r'<h2>.*class="small"><span class="ko"[^>]*>([^<]+)</span>', page)
    assert data == ["손글씨 숫자"] * 3 + ["svhn", "CIFAR-10"]
    last = clear.rpartition('<td class="number">')[2]
    assert re.match(r'<span class="verdict .*CIFAR-10, 140 steps</span>, n = 3', last)
    assert "not pre-registered" in page and "2 independent tests" in page


def test_where_scales_disagree_is_told_before_the_rows(tmp_path: Path) -> None:
    here, there = a_record(range(300, 310), date="1"), a_record(range(10), data="folder:/x/y", date="2", effect=-3.0)
    page = page_of(tmp_path, here, there)
    told = page[page.index("Supported at one scale") : page.index('<table class="ledger')]
    assert (
        told.index("digits, 140 steps") < told.index(">supported") < told.index("y, 140 steps") < told.index(">refuted")
    )


def test_a_forest_is_to_scale() -> None:
    (known, _) = evidence([CLEAR, NEAR], seed_sets([a_record(range(300, 310), date="2026-01-01")]))
    plot, verdict = ledger.forest(known), known.headline
    assert plot is not None and verdict is not None and verdict.interval is not None and verdict.effect is not None
    low, effect, high = (
        ledger.across(place(value)) for value in (verdict.interval[0], verdict.effect, verdict.interval[1])
    )
    assert plot["diamond"] == [pytest.approx(low), effect, pytest.approx(high)] and low < effect - 3
    assert plot["margin"] == ledger.across(place(1)) and plot["published"] == ledger.across(place(2.5))
    assert plot["sets"][0]["places"] == [low, effect, high] and plot["zero"] == ledger.WIDTH / 2
    assert [text for _, text in ledger.ticks()] == ["−10", "−1", "0", "1", "10"]
