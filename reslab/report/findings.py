"""A picture's heading: its finding if the ledger supports it, and otherwise its title."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from reslab.ledger.claim import Text
from reslab.ledger.record import Chart, Verdict

FILE = Path(__file__).parent / "findings.toml"


@cache
def findings() -> list[dict[str, Any]]:
    """Return every finding: study, beginning of the chart's title, required verdicts, and text."""
    known: list[dict[str, Any]] = tomllib.loads(FILE.read_text(encoding="utf-8"))["findings"]
    return known


def finding(study: str, chart: Chart, verdicts: Mapping[str, Verdict]) -> Text | None:
    """Return the finding of a study's chart, given the claims' verdicts by id; None if they came out otherwise."""
    return finding_of(study, chart.title["en"], verdicts)


def finding_of(study: str, title: str, verdicts: Mapping[str, Verdict]) -> Text | None:
    """Return the same of a chart of this English title."""
    for each in findings():
        if each["study"] == study and title.startswith(each["chart"]):
            ways = {id: {verdict.verdict, verdict.way} for id, verdict in verdicts.items()}
            holds = all(ways.get(id, set()) & {*wanted.split()} for id, wanted in each["claims"].items())
            return {"ko": each["ko"], "en": each["en"]} if holds else None
    return None
