"""How a reader sees a record's numbers: error rates in %, though records hold fractions, and effects with as many digits as mean something."""

import math
import re
from collections.abc import Sequence
from typing import Any

from reslab.files import Json
from reslab.report.shape import GRIDS
from reslab.report.wording import translated

_ERROR_RATE = re.compile(r"(rise of the )?((test|training) )?error(( −|,) .*)?")
"""A unit that is an error rate, or a difference of such, perhaps with what differs after it."""

_IN_REASONS = re.compile(
    r"(the interval contains|(?:interval is|a point,) (?:over|under|at)|to be lower by|compared with is) (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
)
"""The values in a claim's unit that the reason for its verdict names."""


def claim_in_percent(claim: Json) -> Json:
    """Return a claim about error rates with its effect, interval and margin in percentage points; any other as it is."""
    if claim["kind"] != "statistical" or not _ERROR_RATE.fullmatch(claim["unit"]):
        return claim
    unit = translated(claim["unit"])
    words = {"ko": unit, "en": unit} if isinstance(unit, str) else unit
    return {
        **claim,
        **{key: _hundredfold(claim[key]) for key in ("effect", "interval", "margin")},
        "unit": {"ko": f"{words['ko']}, %p", "en": f"{words['en']}, %\u00a0points"},
        "reason": _IN_REASONS.sub(lambda found: f"{found[1]} {100 * float(found[2]):.4g}", claim["reason"]),
    }


def chart_in_percent(chart: Json) -> Json:
    """Return a chart whose heights are error rates with them in %; any other as it is."""
    if chart["kind"] in GRIDS or not _ERROR_RATE.fullmatch(chart["y"]["en"]):
        return chart
    series = [{**each, "y": _hundredfold(each["y"]), "spread": _hundredfold(each.get("spread"))} for each in chart["series"]]
    return {**chart, "y": {language: f"{word} (%)" for language, word in chart["y"].items()}, "series": series}


def _hundredfold(value: Any) -> Any:
    if isinstance(value, list):
        return [_hundredfold(part) for part in value]
    return 100 * value if isinstance(value, int | float) else value


def effect_and_interval(effect: float, interval: Sequence[float] | None) -> list[str]:
    """Return an effect and the ends of its interval with decimals down to a hundredth of the interval's width; alone, to a hundredth of itself."""
    values = [effect, *(interval or ())]
    size = max(values) - min(values) or abs(effect)
    places = max(0, 2 - math.floor(math.log10(size))) if 0 < size < math.inf else 0
    return [f"{value:+.10g}" if value else "0" for value in (round(value, places) if math.isfinite(size) else value for value in values)]
