"""The ledger on the page: the evidence for each claim, as a forest plot per section of the chapter."""

from collections.abc import Mapping, Sequence
from typing import Any

from reslab.ledger import wording
from reslab.ledger.axis import TICKS, bar, place
from reslab.ledger.claim import BEYOND, SECTIONS, Claim, Text, Words
from reslab.ledger.evidence import Evidence
from reslab.ledger.record import Record, Verdict
from reslab.ledger.sets import SeedSet
from reslab.ledger.shipped import Ledger
from reslab.ledger.verdict import undecided
from reslab.report.addresses import Addresses
from reslab.report.records import StudyRecord
from reslab.report.units import claim_in_percent, effect_and_interval

WIDTH, TOP, STEP = 320, 14, 9
"""Measures of a claim's picture: its width, the height of the diamond, and the distance to each set of seeds below."""


def sections(known: Sequence[Evidence], anchors: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the ledger's sections in the chapter's order: a title, and a row per claim, given the address of each
    claim's evidence.
    """
    titles: list[tuple[str | None, Text]] = [*SECTIONS.items(), (None, BEYOND)]
    found = [
        {"title": title, "rows": [row(each, anchors) for each in known if each.claim.section == section]}
        for section, title in titles
    ]
    return [each for each in found if each["rows"]]


def row(known: Evidence, anchors: Mapping[str, str]) -> dict[str, Any]:
    """Return the ledger's row for a claim."""
    verdict = known.headline or undecided(known.claim)
    return {
        "claim": claim_in_percent(verdict),
        "shown": f"{verdict.kind}-{verdict.verdict or 'unmeasured'}",
        "anchor": anchors.get(known.claim.id),
        "reason": wording.reason(verdict, percent=True),
        "scale": wording.scale(known.scales[0].origin) if _measured(known) else None,
        "elsewhere": _elsewhere(known),
        "apart": [(wording.scale(scale.origin), scale.verdict) for scale in known.apart],
        "seeds": wording.spans(known.scales[0].seeds) if known.scales else "",
        "date": _date(known),
        "standings": [wording.standing(standing) for standing in known.standings],
        "forest": forest(known),
    }


def _date(known: Evidence) -> str:
    """Return the date of registration of the newest set behind a headline; empty if none is registered."""
    return max((one.origin.date[:10] for scale in known.scales[:1] for one in scale.pooled), default="")


def _measured(known: Evidence) -> bool:
    """Return whether a claim is one that is measured, and was."""
    return known.claim.kind == "statistical" and any(scale.sets for scale in known.scales)


def _elsewhere(known: Evidence) -> dict[str, list[tuple[Text, Verdict]]]:
    """Return the verdicts of seeds that count at other scales than the headline's, by data set."""
    found: dict[str, list[tuple[Text, Verdict]]] = {}
    for scale in known.scales[1:]:
        if scale.pooled and scale.verdict is not None:
            there = wording.scale(scale.origin), claim_in_percent(scale.verdict)
            found.setdefault(scale.origin.data, []).append(there)
    return found


def data_sets(shown: Sequence[Mapping[str, Any]]) -> list[tuple[str, Text]]:
    """Return the data sets of other scales than the headlines' in these sections: a column each, and its name."""
    found = dict.fromkeys(data for section in shown for row in section["rows"] for data in row["elsewhere"])
    return [(data, wording.data(data)) for data in found]


def forest(known: Evidence) -> dict[str, Any] | None:
    """Return the positions in a statistical claim's picture: the headline's diamond, its sets of seeds below, zero, the
    margin and the paper's effect; None if nothing has an interval.
    """
    found = bar(known.claim, known.headline) if known.headline and known.claim.kind == "statistical" else None
    if found is None or known.headline is None:
        return None
    sets = [one for one in known.scales[0].sets if one.of(known.claim)]
    drawn = [(one, where) for one in sets if (where := bar(known.claim, one.verdict))]
    low, effect, high = map(across, (found.low, found.effect, found.high))
    return {
        "height": TOP + STEP * len(drawn) + 9,
        "zero": across(0.0),
        "margin": across(found.margin),
        "published": None if found.published is None else across(found.published),
        "diamond": [min(low, effect - 3), effect, max(high, effect + 3)],
        "title": _numbers(known.headline),
        "sets": [
            {
                "y": TOP + STEP * (index + 1) + 3,
                "places": [across(where.low), across(where.effect), across(where.high)],
                "standing": one.standing,
                "title": _of_set(one),
            }
            for index, (one, where) in enumerate(drawn)
        ],
    }


def across(where: float) -> float:
    """Return a place between -1 and 1 in the picture's units."""
    return round(WIDTH / 2 + (WIDTH / 2 - 10) * where, 1)


def ticks() -> list[tuple[float, str]]:
    """Return the axis' ticks and their numbers: margins."""
    return [(across(place(tick)), f"{tick}".replace("-", "−")) for tick in TICKS]


def _of_set(one: SeedSet) -> str:
    name = wording.standing(one.standing)
    both = name if isinstance(name, str) else f"{name['ko']} · {name['en']}"
    return f"{wording.spans(one.origin.seeds)} ({both}): {_numbers(one.verdict)}"


def _numbers(verdict: Verdict) -> str:
    shown = claim_in_percent(verdict)
    effect, *interval = effect_and_interval(shown.effect or 0.0, shown.interval)
    level = f"{100 * (shown.level or 0):.4g} %"
    return f"{effect} [{', '.join(interval)}] ({level}), n = {shown.n}".replace("-", "−")


def of_record(
    record: Record, known: Sequence[Evidence], sets: Sequence[SeedSet], addresses: Addresses
) -> list[dict[str, Any]]:
    """Return a study's view of each of its claims: its address, the headline of all evidence, and the record's own
    verdict if it differs.
    """
    by_id = {each.claim.id: each for each in known}
    own = {one.verdict.id: one for one in sets if any(one.verdict is claim for claim in record.claims)}
    return [_of_claim(claim, by_id[claim.id], own.get(claim.id), addresses) for claim in record.claims]


def _of_claim(verdict: Verdict, known: Evidence, own: SeedSet | None, addresses: Addresses) -> dict[str, Any]:
    headline = known.headline or undecided(known.claim)
    badge = next((wording.scale(scale.origin) for scale in known.scales if scale.sets), None)
    alike = all(getattr(verdict, name) == getattr(headline, name) for name in ("verdict", "effect", "interval", "n"))
    return {
        "first": verdict.id if verdict.id in addresses else None,  # if another record of the study has it already
        "address": addresses.take(verdict.id),
        "claim": claim_in_percent(headline),
        "reason": wording.reason(headline, percent=True),
        "badge": badge,
        "said": _said(headline, [wording.standing(standing) for standing in known.standings]),
        "own": None if own is None or alike else claim_in_percent(verdict),
        "own_seeds": wording.spans(own.origin.seeds) if own else "",
        "own_badge": wording.scale(own.origin) if own else None,
        "own_said": _said(verdict, _stands(own, known.claim)) if own else [],
    }


def _said(verdict: Verdict, more: Sequence[Words]) -> list[Words]:
    """Return what is said of a verdict beside its numbers."""
    return [words for words in (wording.way(verdict), wording.needed(verdict), wording.failed(verdict), *more) if words]


def _stands(one: SeedSet, now: Claim) -> list[Words]:
    """Return the standing of a set's verdict for the current claim."""
    stands = [] if one.verdict.kind != "statistical" else [wording.standing(one.standing)]
    stands += [] if one.why is None else [wording.why_exploratory(one.why)]
    return stands if one.of(now) else [*stands, wording.standing("changed")]


def studies_of(ledger: Ledger, known: Sequence[Evidence]) -> list[StudyRecord]:
    """Return a ledger's studies with the headlines as their claims, as nothing else is known of them."""
    return [
        StudyRecord(
            Record(
                study=name,
                title=titles.title,
                question=titles.question,
                claims=[each.headline for each in known if each.study == name and each.headline],
            ),
            [],
        )
        for name, titles in ledger.studies.items()
    ]
