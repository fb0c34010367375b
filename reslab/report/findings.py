"""A picture's heading: what it shows, where the ledger bears it out, and else what it is a picture of."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from reslab.ledger.claim import Text
from reslab.ledger.record import Chart

FILE = Path(__file__).parent / "findings.toml"


@cache
def findings() -> list[dict[str, Any]]:
    """Return every finding: its study, its chart's beginning, the verdicts that it rests on, and its words."""
    known: list[dict[str, Any]] = tomllib.loads(FILE.read_text(encoding="utf-8"))["findings"]
    return known


def finding(study: str, chart: Chart, verdicts: Mapping[str, str | None]) -> Text | None:
    """Return what a study's chart shows, given the claims' verdicts by their ids; None where they are others."""
    return finding_of(study, chart.title["en"], verdicts)


def finding_of(study: str, title: str, verdicts: Mapping[str, str | None]) -> Text | None:
    """Return the same of a chart of this English title."""
    for each in findings():
        if each["study"] == study and title.startswith(each["chart"]):
            holds = all(verdicts.get(id) == verdict for id, verdict in each["claims"].items())
            return {"ko": each["ko"], "en": each["en"]} if holds else None
    return None
