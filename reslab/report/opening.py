"""The page's first view: one picture, a few results, and how many claims were measured, counted and looked up."""

from collections.abc import Mapping, Sequence
from typing import Any

from reslab.ledger.claim import Decision, Text
from reslab.ledger.evidence import Evidence
from reslab.ledger.sets import RANK
from reslab.ledger.verdict import undecided
from reslab.ledger.wording import data, spans
from reslab.report import ledger
from reslab.report.findings import finding_of
from reslab.report.records import StudyRecord
from reslab.report.story import SIZES, drawing, story

RESULTS = (
    "degradation.plain-deeper-trains-worse",
    "degradation.residual-trains-better",
    "gradient_flow.skips-alone-keep-gradients",
)
"""The claims of the story: deeper is worse, shortcuts help, but not alone."""

KINDS: dict[str, Text] = {
    "statistical": {"ko": "잰 주장", "en": "measured"},
    "exact": {"ko": "센 주장", "en": "counted"},
    "cited": {"ko": "찾아본 주장", "en": "cited"},
}

ORDER: tuple[Decision | None, ...] = ("supported", "refuted", "inconclusive", "untested", None)


def start(studies: Sequence[StudyRecord], known: Sequence[Evidence], anchors: Mapping[str, str]) -> dict[str, Any]:
    """Return what the first view shows."""
    told = story(studies)
    verdicts = {each.claim.id: found for each in known if (found := each.on(told["data"]))}
    return {
        "story": told,
        "data": data(told["data"]),
        "seeds": spans(told["seeds"]),
        "title": finding_of("degradation", "Training error through training", verdicts),
        "drawings": [(name, size, drawing(told, size)) for name, size in SIZES.items()],
        "results": [ledger.row(each, anchors) for each in results(known)],
        "counts": counts(known),
    }


def results(known: Sequence[Evidence]) -> list[Evidence]:
    """Return three decided statistical claims: those of the story, then those with the best evidence."""
    decided = [
        each
        for each in known
        if each.claim.kind == "statistical" and each.headline and each.headline.verdict in ("supported", "refuted")
    ]
    order = {id: place for place, id in enumerate(RESULTS)}
    found = sorted(decided, key=lambda each: (order.get(each.claim.id, len(order)), -RANK.get(each.standing or "", 0)))
    return found[: len(RESULTS)]


def counts(known: Sequence[Evidence]) -> list[dict[str, Any]]:
    """Return the number of claims with a verdict of each kind, and of each verdict; those without a verdict last."""
    found = []
    for kind, word in KINDS.items():
        members = [each.headline or undecided(each.claim) for each in known if each.claim.kind == kind]
        groups = [[one for one in members if one.verdict == verdict] for verdict in ORDER]
        parts = [(f"{kind}-{group[0].verdict or 'unmeasured'}", group[0], len(group)) for group in groups if group]
        if members:
            found.append({"word": word, "number": sum(one.verdict is not None for one in members), "parts": parts})
    return found
