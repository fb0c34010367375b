"""Units for display: error rates in %, while records store fractions, and effects with their significant digits."""

import math
from collections.abc import Sequence

from reslab.ledger.claim import Words
from reslab.ledger.record import Chart, Series, Table, Value, Verdict


def claim_in_percent(claim: Verdict) -> Verdict:
    """Return a claim about error rates with its effect, interval and margin in percentage points; any other
    unchanged.
    """
    if not claim.rate:
        return claim
    words = {"ko": claim.unit, "en": claim.unit} if isinstance(claim.unit, str) else claim.unit
    return claim.model_copy(
        update={
            "effect": _hundredfold(claim.effect),
            "interval": (100 * claim.interval[0], 100 * claim.interval[1]) if claim.interval else None,
            "margin": _hundredfold(claim.margin),
            "published": _hundredfold(claim.published),
            "unit": {"ko": f"{words['ko']}, %p", "en": f"{words['en']}, %\u00a0points"},
        }
    )


def chart_in_percent(chart: Chart) -> Chart:
    """Return a chart of error rates in %; any other unchanged."""
    if not chart.rate:
        return chart
    y = {"ko": f"{chart.y['ko']} (%)", "en": f"{chart.y['en']} (%)"}
    return chart.model_copy(update={"y": y, "series": [_series_in_percent(series) for series in chart.series]})


RATES = {"training error": "%", "test error": "%", "test − training error": "points"}
"""Columns of tables that hold error rates as fractions, with their unit for display; columns in percent have it in
their name.
"""


def table_in_percent(table: Table) -> Table:
    """Return a table with its columns of error rates in percent; other columns unchanged."""
    units = [RATES.get(column if isinstance(column, str) else column["en"]) for column in table.columns]
    if not any(units):
        return table
    columns = [_named(column, unit) for column, unit in zip(table.columns, units, strict=True)]
    rows = [[_cell(value, unit) for value, unit in zip(row, units, strict=True)] for row in table.rows]
    return table.model_copy(update={"columns": columns, "rows": rows})


def _named(column: Words, unit: str | None) -> Words:
    if unit is None:
        return column
    both = {"ko": column, "en": column} if isinstance(column, str) else column
    return {"ko": f"{both['ko']} ({'%' if unit == '%' else '%p'})", "en": f"{both['en']} ({unit})"}


def _cell(value: Value, unit: str | None) -> Value:
    return 100 * value if unit and isinstance(value, int | float) else value


def _series_in_percent(series: Series) -> Series:
    spread = None if series.spread is None else [_hundredfold(value) for value in series.spread]
    heights = [None if value is None or isinstance(value, str) else 100 * value for value in series.y]
    return series.model_copy(update={"y": heights, "spread": spread})


def _hundredfold(value: float | None) -> float | None:
    return None if value is None else 100 * value


def effect_and_interval(effect: float, interval: Sequence[float] | None) -> list[str]:
    """Return an effect and its interval with decimals down to a hundredth of the interval's width; an effect alone, to
    a hundredth of itself.
    """
    values = [effect, *(interval or ())]
    size = max(values) - min(values) or abs(effect)
    places = max(0, 2 - math.floor(math.log10(size))) if 0 < size < math.inf else 0
    return [
        f"{value:+.10g}" if value else "0"
        for value in (round(value, places) if math.isfinite(size) else value for value in values)
    ]
