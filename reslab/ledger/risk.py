"""What the ledger as a whole risks: how many of its verdicts would be expected without any effect."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from reslab.ledger.evidence import Evidence
from reslab.ledger.record import Verdict
from reslab.ledger.verdict import roots_of


class Risk(NamedTuple):
    """The number of independent tests; and, if every true effect were exactly on its margin, the expected number of
    decided ones and the probability of at least one.
    """

    tests: int
    expected: float
    chance: float


def risk(known: Sequence[Evidence]) -> Risk:
    """Return the overall error of the ledger; claims that say that they have the same numbers, and have, are one test.

    Where every effect is on its margin, Holm's procedure decides first at the level of the simultaneous intervals, and
    rarely goes on.
    """
    headlines = {each.claim.id: each.headline for each in known if each.headline is not None}
    roots = roots_of({id: one.same_as if one.same_as in headlines else None for id, one in headlines.items()})
    tests = [one for id, one in headlines.items() if roots[id] == id or not _alike(one, headlines[roots[id]])]
    own = [share for one in tests if (share := _share(one)) is not None]
    return Risk(len(own), math.fsum(own), 1 - math.prod(1 - share for share in own))


def _alike(one: Verdict, other: Verdict) -> bool:
    """Return whether two verdicts are on the same test, of the same numbers."""
    return all(getattr(one, name) == getattr(other, name) for name in ("effect", "n", "margin", "direction"))


def _share(verdict: Verdict) -> float | None:
    """Return a verdict's part of the error rate: that of its interval."""
    return None if verdict.interval is None or verdict.level is None else 1 - verdict.level
