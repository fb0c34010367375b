"""The bundled ledger: the current claims and the evidence of records, without pictures and trials.

`ledger.json` is made from the records in `results/` by `python tests/helpers_shipped.py`, and a test compares the two.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from reslab.ledger.claim import Claim, Text
from reslab.ledger.evidence import Evidence, evidence
from reslab.ledger.record import Part, Reason, Verdict
from reslab.ledger.registration import Ran, named
from reslab.ledger.sets import Origin, SeedSet
from reslab.ledger.verdict import undecided

FILE = Path(__file__).with_name("ledger.json")


class Titles(Part):
    """A study's title and question."""

    title: Text
    question: Text | None = None


@dataclass(frozen=True)
class Ledger:
    """Claims, the studies that decide them, and the evidence of sets of seeds."""

    studies: Mapping[str, Titles]
    claims: Sequence[Claim]
    sets: Sequence[SeedSet]

    def evidence(self) -> list[Evidence]:
        """Return the evidence for each claim."""
        return evidence(self.claims, self.sets)

    def ran(self) -> list[Ran]:
        """Return what its records have shown."""
        groups = groupby(self.sets, key=lambda one: one.origin)
        return [
            Ran(
                frozenset(named(verdicts) if origin.registered is None else {one.id for one in verdicts}),
                origin.config.get("data"),
                frozenset(origin.seeds),
                origin.registered,
                origin.date,
            )
            for origin, sets in groups
            for verdicts in [[one.verdict for one in sets]]
        ]

    def text(self) -> str:
        """Return the content of the ledger's file, in which verdicts do not repeat their claims."""
        bare = {claim.id: undecided(claim).model_dump(mode="json") for claim in self.claims}
        records = [
            {**origin.model_dump(mode="json", exclude_defaults=True), "verdicts": [_stored(one, bare) for one in sets]}
            for origin, sets in groupby(self.sets, key=lambda one: one.origin)
        ]
        parts = {
            "studies": {name: titles.model_dump(mode="json") for name, titles in self.studies.items()},
            "claims": [_told(claim) for claim in self.claims],
            "records": records,
        }
        return json.dumps(parts, ensure_ascii=False, separators=(",", ":")).replace('{"id":', '\n{"id":') + "\n"


def _told(claim: Claim) -> dict[str, Any]:
    """Return a claim without fields at their defaults."""
    usual = {field.name: field.default for field in fields(claim) if field.default is not MISSING}
    return {name: value for name, value in asdict(claim).items() if name not in usual or value != usual[name]}


def _stored(one: SeedSet, bare: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    usual = bare[one.verdict.id]
    verdict = {name: value for name, value in one.verdict.model_dump(mode="json").items() if value != usual[name]}
    why = {"why": one.why.model_dump(mode="json")} if one.why else {}
    return {"id": one.verdict.id, "standing": one.standing, **why, **verdict}


@cache
def shipped() -> Ledger:
    """Return the bundled ledger."""
    held = json.loads(FILE.read_text(encoding="utf-8"))
    claims = [Claim(**claim) for claim in held["claims"]]
    bare = {claim.id: asdict(claim) for claim in claims}
    sets = []
    for record in held["records"]:
        origin = Origin.model_validate(record)
        for one in record["verdicts"]:
            why = Reason(**one["why"]) if "why" in one else None
            sets.append(SeedSet(origin, Verdict.model_validate({**bare[one["id"]], **one}), one["standing"], why))
    studies = {name: Titles.model_validate(titles) for name, titles in held["studies"].items()}
    return Ledger(studies, claims, sets)
