"""One axis for effects in any unit: effects divided by margins, with the claimed direction to the right and the margin
at 1; of a claim that something is not higher, to the left of the margin.

Effects range from hundredths of a margin to hundreds, so the axis is linear near 0 and logarithmic far from it (asinh).
Values beyond its ends are drawn at the ends.
"""

import math
from typing import NamedTuple

from reslab.ledger.claim import Claim
from reslab.ledger.record import Verdict

REACH = 100.0
"""The length of each half of the axis, in margins."""

TICKS = (-10, -1, 0, 1, 10)


class Bar(NamedTuple):
    """The positions of a verdict's effect, its interval's ends, the margin and the paper's value on the axis, from -1
    to 1; the interval's lower end is on the left.
    """

    effect: float
    low: float
    high: float
    margin: float
    published: float | None


def place(ratio: float) -> float:
    """Return the position, from -1 to 1, of an effect in margins."""
    return max(-1.0, min(1.0, math.asinh(ratio) / math.asinh(REACH)))


def bar(claim: Claim, verdict: Verdict) -> Bar | None:
    """Return a statistical claim's bar; None if there is no interval of finite numbers.

    A claim of any effect at all has a margin of 0; its bar is scaled by its own largest number.
    """
    if claim.margin is None or verdict.effect is None or verdict.interval is None:
        return None
    numbers = [verdict.effect, *verdict.interval]
    if not all(map(math.isfinite, numbers)):
        return None
    unit = claim.margin or max(map(abs, (*numbers, claim.published or 0.0))) or 1.0
    way = -1 if claim.direction == "lower" else 1
    effect, low, high = (place(way * number / unit) for number in numbers)
    published = None if claim.published is None else place(way * claim.published / unit)
    return Bar(effect, min(low, high), max(low, high), place(claim.margin / unit), published)
