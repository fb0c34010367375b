"""Reasons for verdicts in words: a code and its values are turned into either language when shown."""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from reslab.ledger.claim import Text, Words
from reslab.ledger.record import Reason, Verdict
from reslab.ledger.sets import Origin
from reslab.naming import without_path

IN_THE_UNIT = ("threshold", "margin", "mean")
"""Values in the claim's unit, shown in percent if that is an error rate."""

SIGNS = {"supported": "✓", "refuted": "✗", "inconclusive": "?", "untested": "–"}

YES_NO_NONE = {"ko": ("예", "아니오", "없음"), "en": ("yes", "no", "none")}


@cache
def phrases() -> dict[str, Any]:
    """Return the words: `reasons` by code, `methods` and `kinds` by name, each in both languages."""
    found: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return found


def method(name: str | None) -> Words:
    """Return the name of a method of deciding."""
    known: Words = phrases()["methods"].get(name, name or "")
    return known


def reason(verdict: Verdict, *, percent: bool = False) -> Words:
    """Return the reason for a verdict in words; an unknown one unchanged.

    `percent` shows values in the claim's unit in percent, for error rates.
    """
    if verdict.reason is None:
        return ""
    if verdict.reason.code in ("as-claimed", "not-as-claimed", "not-a-number"):
        return _measured(verdict)
    return _worded(verdict.reason, "reasons", 100 if percent and verdict.rate else 1)


def _worded(given: Reason, where: str, scale: int = 1) -> Words:
    """Return a reason in the words that stand there for its code."""
    known = phrases()[where].get(given.code)
    try:
        if known is None:
            return _unforeseen(given)
        return _text(
            {language: form.format(**_shown(given.values, language, scale)) for language, form in known.items()}
        )
    except (KeyError, IndexError, ValueError, TypeError, AttributeError):  # values that do not match the code
        return _unforeseen(given)


def standing(name: str | None) -> Words:
    """Return the name of a standing of evidence."""
    known: Words = phrases()["standings"].get(name, name or "")
    return known


def data(name: str) -> Text:
    """Return the name of a data set in words; of a folder, its own name."""
    plain = without_path(name).removeprefix("folder:")
    known: Text = phrases()["data"].get(plain, {"ko": plain, "en": plain})
    return known


def scale(origin: Origin) -> Text:
    """Return a scale in words: the data set, and the steps of training, if any."""
    named = data(origin.data)
    if origin.steps is None:
        return named
    few, most = (f"{count:,}" for count in origin.steps)
    steps = few if few == most else f"{few}–{most}"
    forms = phrases()["scale"]
    return {
        "ko": forms["ko"].format(data=named["ko"], steps=steps),
        "en": forms["en"].format(data=named["en"], steps=steps),
    }


def spans(seeds: Sequence[int]) -> str:
    """Return seeds as spans: 0–4, 100–104."""
    found: list[list[int]] = []
    for seed in seeds:
        if found and seed == found[-1][-1] + 1:
            found[-1][1:] = [seed]
        else:
            found.append([seed])
    return ", ".join("–".join(map(str, span)) for span in found)


def why_exploratory(given: Reason) -> Words:
    """Return why a set of seeds is exploratory."""
    return _worded(given, "exploratory")


def too_few_data(given: Reason) -> Words:
    """Return why data sets are not combined."""
    return _worded(given, "over_data")


def way(verdict: Verdict) -> Words:
    """Return how a claim is refuted; empty for other verdicts."""
    known: Words = phrases()["ways"].get(verdict.way, "")
    return known


def needed(verdict: Verdict) -> Words:
    """Return how many seeds would decide an inconclusive claim, that those would be too many, or that no number would;
    empty for other verdicts.
    """
    if verdict.needed is None:
        return ""
    forms = phrases()["needed"][verdict.needed if isinstance(verdict.needed, str) else "seeds"]
    return _text({language: form.format(n=verdict.needed) for language, form in forms.items()})


def failed(verdict: Verdict) -> Words:
    """Return how many runs of the groups did not train, with a bound of the rate; empty if that was not counted."""
    if not verdict.failed:
        return ""
    some = {name: found for name, found in verdict.failed.items() if found.failed}
    if not some:
        least = min(verdict.failed.values(), key=lambda found: found.of)
        said = {"of": least.of, "bound": f"{100 * least.bound:.0f}"}
        return _text({language: form.format(**said) for language, form in phrases()["none_failed"].items()})
    one = phrases()["failed"]
    return _text(
        {
            language: "; ".join(
                form.format(name=name, failed=found.failed, of=found.of, bound=f"{100 * found.bound:.0f}")
                for name, found in some.items()
            )
            for language, form in one.items()
        }
    )


def _unforeseen(given: Reason) -> Words:
    """Return a reason without a wording: its text, or its code and values."""
    text = given.values.get("text")
    if isinstance(text, dict) and isinstance(text.get("ko"), str) and isinstance(text.get("en"), str):
        return _text(text)
    if isinstance(text, str):
        return text
    return f"{given.code}: {_said(given.values, 'en')}" if given.values else given.code


def _measured(verdict: Verdict) -> Text:
    forms = phrases()["reasons"][verdict.reason.code if verdict.reason else ""]
    return _text(
        {
            language: form.format(
                measured=_said(verdict.measured, language), expected=_said(verdict.expected, language)
            )
            for language, form in forms.items()
        }
    )


def _shown(values: Mapping[str, Any], language: str, scale: int) -> dict[str, str]:
    """Return a reason's values for display."""
    found = {}
    for key, value in values.items():
        if key in IN_THE_UNIT:
            found[key] = f"{scale * value:.4g}".replace("-", "−")
        elif key == "limit":
            found[key] = f"{100 * value:g}"
        elif key == "errors":
            one = phrases()["one_untrained"][language]
            found[key] = ", ".join(
                one.format(name=name, error="?" if error is None else _over(error, values["limit"]))
                for name, error in value.items()
            )
        elif key == "kinds":
            found[key] = ", ".join(phrases()["kinds"].get(kind, {}).get(language, kind) for kind in value)
        elif key == "seeds":
            found[key] = ", ".join(map(str, value))
        elif key == "networks":
            found[key] = ", ".join(value)
        else:
            found[key] = _said(value, language)
    if "n" in values:
        found["s"] = "" if values["n"] == 1 else "s"
    return found


def _over(share: float, limit: float) -> str:
    """Return a share in percent, with as many decimals as show that it is over a limit, if it is."""
    texts = [f"{100 * share:.{places}f}" for places in range(1, 9)]
    return next((text for text in texts if float(text) > 100 * limit), texts[0])


def _said(value: Any, language: str, inner: bool = False) -> str:
    """Return a measured value in words."""
    yes, no, none = YES_NO_NONE[language]
    if isinstance(value, bool):
        return yes if value else no
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_said(part, language)}" for key, part in value.items()) or none
    if isinstance(value, list | tuple):
        text = ", ".join(_said(part, language, inner=True) for part in value) or none
        return f"({text})" if inner else text
    return f"{value:,}" if isinstance(value, int) else str(value)


def _text(words: Mapping[str, Any]) -> Text:
    return {"ko": words["ko"], "en": words["en"]}
