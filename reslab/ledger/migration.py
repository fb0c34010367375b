"""Reading records of earlier versions as current ones.

Version 0.1 stored as sentences what is data now: the reason for a verdict, the values of an exact claim, the names of
series, columns and units. Sentences are parsed only here, and no longer written. Version 0.1 stored no values per seed,
so its claims cannot be decided again.
"""

import ast
import math
import re
import tomllib
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from reslab.ledger.record import GRIDS
from reslab.ledger.wording import phrases

_ERROR_RATE = re.compile(r"(rise of the )?((test|training) )?error(( −|,) .*)?")
"""A unit that is an error rate, or a difference of such, perhaps with what differs after it."""
_MEASURED = re.compile(r"measured (?P<measured>.+?)(, as claimed|, not (?P<expected>.+))", re.DOTALL)
_UNTRAINED = re.compile(r"not trained, so nothing is concluded: (?P<which>.+) \(limit (?P<limit>\S+) %\)")
_OF_ONE = re.compile(r"(?P<name>.+) has up to (?P<error>\S+) % training error")
LONGEST = 10_000
"""The largest length of a reason in version 0.1."""


@cache
def _known() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).with_suffix(".toml")).read_text(encoding="utf-8"))


def translated(text: Any) -> Any:
    """Return a name in both languages if its Korean is known; otherwise unchanged."""
    korean = _known()["korean"]
    return {"ko": korean[text], "en": text} if isinstance(text, str) and text in korean else text


def migrated(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return an earlier version's record in the current format, as far as it is valid; the schema reports other errors.
    A current record, or one of an unknown version, is returned unchanged.
    """
    if record.get("version") == 2:
        claims = record.get("claims", [])
        now = [_of_version_2(claim) for claim in claims] if isinstance(claims, list) else claims
        return {**record, "version": 3, "claims": now}
    if "version" in record:
        return dict(record)
    study = record.get("study")
    found = {"title": {"ko": study, "en": study}, **record, "version": 3}
    for key, part in (("claims", _claim), ("tables", _table), ("charts", _chart)):
        if isinstance(found.get(key), list):
            found[key] = [part(each) if isinstance(each, dict) else each for each in found[key]]
    return found


def _claim(claim: dict[str, Any]) -> dict[str, Any]:
    unit, reason = claim.get("unit", ""), claim.get("reason")
    found = {**claim, "unit": translated(unit), "rate": isinstance(unit, str) and bool(_ERROR_RATE.fullmatch(unit))}
    return _untested({**found, **_reason(reason)}) if isinstance(reason, str) else found


def _of_version_2(claim: Any) -> Any:
    """Return a claim of version 2, which paired seeds whenever they ran on both sides, and had reasons in the current
    form.
    """
    if not isinstance(claim, dict):
        return claim
    paired = claim.get("method") == "paired t" and isinstance(claim.get("control"), dict)
    reason = claim.get("reason")
    coded = isinstance(reason, dict) and isinstance(reason.get("code"), str)
    return {"paired": paired, **(_untested(claim) if coded else claim)}


def _untested(claim: dict[str, Any]) -> dict[str, Any]:
    """Return a claim with the verdict "untested" if measurements could not test it, which version 2 called
    "inconclusive".
    """
    unable = claim.get("method") == "none" and claim["reason"]["code"] in {
        *("diverged", "no-room", "one-epoch", "outside-grid", "too-little-learned", "unequal-costs", "untrained"),
        "different-machines",
    }
    return {**claim, "verdict": "untested"} if unable and claim.get("verdict") == "inconclusive" else claim


def _reason(text: str) -> dict[str, Any]:
    """Return the fields of a verdict for its reason: code and values, and the measured value of an exact claim."""
    if len(text) > LONGEST:
        return {"reason": {"code": "said", "values": {"text": text}}}
    if found := _MEASURED.fullmatch(text):
        measured = _value(found["measured"])
        same = found["expected"] is None
        return {
            "reason": {"code": "as-claimed" if same else "not-as-claimed"},
            "measured": measured,
            "expected": measured if same else _value(found["expected"]),
        }
    if (found := _UNTRAINED.fullmatch(text)) and all(
        parts := [_OF_ONE.fullmatch(part) for part in found["which"].split(", ")]
    ):
        errors = {part["name"]: _number(part["error"]) / 100 for part in parts if part}
        return {"reason": {"code": "untrained", "values": {"errors": errors, "limit": _number(found["limit"]) / 100}}}
    for known in _known()["reasons"]:
        if found := re.fullmatch(known["pattern"], text, flags=re.DOTALL):
            values = {key: _named(key, value) for key, value in found.groupdict().items()}
            where = values.pop("where", None)
            return {"reason": {"code": f"{known['code']}-{where}" if where else known["code"], "values": values}}
    said = translated(text)
    return {
        "reason": {"code": "finding", "values": {"text": said}}
        if isinstance(said, dict)
        else {"code": "said", "values": {"text": text}}
    }


def _named(key: str, text: str) -> Any:
    """Return a reason's value from its text."""
    if key in ("kind", "where"):
        return text
    if key == "networks":
        return text.split(", ")
    if key == "kinds":
        kinds = {words["en"]: kind for kind, words in phrases()["kinds"].items()}
        return [kinds.get(words, words) for words in text.split(", ")]
    return _number(text) / 100 if key == "limit" else _number(text)


def _number(text: str) -> float:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        return float("nan")


def _value(written: str) -> Any:
    """Return a value that version 0.1 wrote as a Python literal; the text itself if it is not one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings that some texts cause when parsed as Python
            return _plain(ast.literal_eval(written))
    # not a literal, or a number with thousands of digits
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return written


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if (isinstance(value, int) and value.bit_length() > 64) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("JSON has no such number")
    return value if isinstance(value, str | int | float | None) else str(value)


def _table(table: dict[str, Any]) -> dict[str, Any]:
    columns = table.get("columns")
    return {**table, "columns": [translated(column) for column in columns]} if isinstance(columns, list) else table


def _chart(chart: dict[str, Any]) -> dict[str, Any]:
    y, series = chart.get("y"), chart.get("series")
    rate = (
        isinstance(y, dict)
        and isinstance(y.get("en"), str)
        and bool(_ERROR_RATE.fullmatch(y["en"]))
        and chart.get("kind") not in GRIDS
    )
    found = {**chart, "rate": rate}
    if isinstance(series, list):
        found["series"] = [
            {**each, "name": translated(each.get("name"))} if isinstance(each, dict) else each for each in series
        ]
    return found
