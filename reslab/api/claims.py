"""The state of all claims, as `reslab claims` prints it and `reslab.claims` returns it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from reslab.errors import MismatchError, UnknownNameError, suggested, worded
from reslab.ledger import wording
from reslab.ledger.again import decide_again
from reslab.ledger.claim import SECTIONS, Words
from reslab.ledger.evidence import Evidence, current, evidence
from reslab.ledger.record import Record
from reslab.ledger.sets import seed_sets
from reslab.ledger.shipped import shipped
from reslab.report.records import read_study

if TYPE_CHECKING:
    import pandas as pd


def claims(*directories: str | PathLike[str], section: str | None = None) -> "pd.DataFrame":
    """Return the claims of the lab, a row per claim, indexed by id: verdict, status, effect and interval beside the
    margin, seeds and data, the verdicts on other data, statement and source.

    Args:
        directories: study directories; without any, the bundled ledger.
        section: only claims of this section of the chapter, such as "degradation".

    Examples:
        >>> import reslab
        >>> known = reslab.claims(section="degradation")
        >>> known.loc["degradation.deeper-contains-shallower", "verdict"]
        'supported'

    Raises:
        UserError: if there is no such section, or a directory has no readable study.
    """
    if section is not None and section not in SECTIONS:
        raise UnknownNameError(*worded("no-section", name=section, near=suggested(section, SECTIONS)))
    known = of_directories(list(map(Path, directories))) if directories else shipped().evidence()
    return table(known, section).set_index("id")


def table(known: Sequence[Evidence], section: str | None) -> "pd.DataFrame":
    """Return claims and their evidence, a row each, or those of a section."""
    import pandas as pd

    rows = [_row(each) for each in known if section in (None, each.claim.section)]
    return pd.DataFrame(rows, columns=list(_row(known[0])) if known else ["id"])


def _row(known: Evidence) -> dict[str, object]:
    """Return a claim and its evidence as one row."""
    claim, verdict = known.claim, known.headline
    scale = known.scales[0] if known.scales else None
    low, high = (verdict.interval if verdict else None) or (None, None)
    return {
        "id": claim.id,
        "section": claim.section,
        "kind": claim.kind,
        "verdict": verdict and verdict.verdict,
        "standing": known.standing,
        "effect": verdict and verdict.effect,
        "low": low,
        "high": high,
        "level": verdict and verdict.level,
        "direction": claim.direction,
        "margin": claim.margin,
        "unit": english(claim.unit),
        "seeds": verdict and verdict.n,
        "data": scale.origin.data if scale and scale.sets else None,
        "elsewhere": "; ".join(
            f"{wording.scale(other.origin)['en']}: {other.verdict.verdict}"
            for other in known.scales[1:]
            if other.pooled and other.verdict
        ),
        "statement": english(claim.statement),
        "source": claim.source,
    }


def english(words: Words) -> str:
    """Return words in English."""
    return words if isinstance(words, str) else words["en"]


def of_directories(
    directories: Sequence[Path], decide: bool = False, margins: Mapping[str, float] | None = None
) -> list[Evidence]:
    """Return the claims in the records of these directories, with their current statements from the ledger. With
    `decide` they are decided again, with other margins if given.

    Raises:
        UserError: if a record cannot be read, or decided again.
    """
    records = [read_study(directory) for directory in directories]
    sets = seed_sets([_again(record, margins or {}) for record in records] if decide else records, shipped().ran())
    given = margins or {}
    known = [
        # what is said of a margin is not true of another
        replace(claim, margin=given[claim.id], margin_why=None) if claim.id in given else claim
        for claim in current(sets, shipped().claims)
    ]
    return evidence(known, sets)


def _again(record: Record, margins: Mapping[str, float]) -> Record:
    try:
        decided = decide_again(record.claims, margins, record.error_rate)
    except ValueError as error:
        raise MismatchError(*worded("not-decided-again", reason=error)) from error
    return record.model_copy(update={"claims": decided})
