"""What a record says in English, or as Python writes it, as both languages' readers read it."""

import ast
import re
import tomllib
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

Words = str | dict[str, str]

FILE = Path(__file__).parent / "korean.toml"


@cache
def glossary() -> dict[str, str]:
    """Return what `study.json` says in English alone -> the same in Korean."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def translated(text: Words) -> Words:
    """Return a text in both languages if its Korean is known; a name, or what nobody foresaw, as it is."""
    return {"ko": glossary()[text], "en": text} if isinstance(text, str) and text in glossary() else text


LONGEST = 10_000
"""Characters of any reason that is worded: a longer one is none of the lab's."""


def reason(text: str) -> Words:
    """Return the reason for a verdict, which `reslab.claims` or a study's source gave; what nobody foresaw, as it is."""
    for pattern, say in _REASONS.items() if len(text) <= LONGEST else ():
        if found := re.fullmatch(pattern, text, flags=re.DOTALL):
            return say(*found.groups())
    return translated(text)


def _measured(value: str, expected: str | None) -> Words:
    ko, en = _value(value)
    if expected is None:
        return {"ko": f"잰 값: {ko} (주장 그대로)", "en": f"measured: {en} (as claimed)"}
    other_ko, other_en = _value(expected)
    return {"ko": f"잰 값: {ko} (주장은 {other_ko})", "en": f"measured: {en} (claimed: {other_en})"}


def _value(written: str) -> tuple[str, str]:
    """Return a value that Python wrote, in words: Korean, English."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which some texts give where they are taken for Python
            value = ast.literal_eval(written)
        return _worded(value, ("예", "아니오", "없음")), _worded(value, ("yes", "no", "none"))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # a text that is no literal, or a number of thousands of digits
        return written, written


def _worded(value: Any, words: tuple[str, str, str], inner: bool = False) -> str:
    yes, no, none = words
    if isinstance(value, bool):
        return yes if value else no
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_worded(part, words)}" for key, part in value.items()) or none
    if isinstance(value, list | tuple):
        text = ", ".join(_worded(part, words, inner=True) for part in value) or none
        return f"({text})" if inner else text
    return f"{value:,}" if isinstance(value, int) else str(value)


def _interval(where: str, threshold: str) -> Words:
    return {"ko": f"구간 전체가 기준({_minus(threshold)})보다 {_SIDE[where]}", "en": f"the whole interval is {where} {_minus(threshold)}"}


def _point(count: str, where: str, threshold: str) -> Words:
    ko = f"기준({_minus(threshold)})" + ("과 같다" if where == "at" else f"보다 {_SIDE[where]}")
    return {
        "ko": f"흩어짐이 없다: 차이 {count}개가 모두 같아 구간이 한 점이고, {ko}",
        "en": f"no spread: all {count} differences are equal, so the interval is a point, {where} {_minus(threshold)}",
    }


def _minus(number: str) -> str:
    return number.replace("-", "−")


_SIDE = {"over": "크다", "under": "작다"}


def _not_trained(which: str, limit: str) -> Words:
    en = f"not trained, so nothing is concluded: {which} (limit {limit} %)"
    parts = [part.partition(" has up to ") for part in which.split(", ")]
    if not all(between for _, between, _ in parts):
        return en
    ko = ", ".join(f"{name}의 훈련 오류가 최대 {error.removesuffix(' training error')}" for name, _, error in parts)
    return {"ko": f"학습되지 않았으므로 결론을 내리지 않는다: {ko}(한계는 {limit} %)", "en": en}


_REASONS: dict[str, Callable[..., Words]] = {
    r"measured (.+), as claimed": lambda value: _measured(value, None),
    r"measured (.+), not (.+)": _measured,
    r"the whole interval is (over|under) (\S+)": _interval,
    r"the interval contains (\S+)": lambda threshold: {
        "ko": f"구간이 기준({_minus(threshold)})을 품고 있다",
        "en": f"the interval contains {_minus(threshold)}",
    },
    r"no spread: all (\d+) differences are equal, so the interval is a point, (over|under|at) (\S+)": _point,
    r"(\d+) seeds?: at least (\d+) are needed to conclude anything": lambda n, least: {
        "ko": f"시드 {n}개: 결론을 내리려면 적어도 {least}개가 필요하다",
        "en": f"{n} seed{'' if n == '1' else 's'}: at least {least} are needed to conclude anything",
    },
    r"not trained, so nothing is concluded: (.+) \(limit (\S+) %\)": _not_trained,
    r"(\d+) of (\d+) networks diverged: (.+)": lambda gone, n, kind: {
        "ko": f"신경망 {n}개 가운데 {gone}개가 발산했다: {kind}",
        "en": f"{gone} of {n} networks diverged: {kind}",
    },
    r"the costs differ by more than (\S+): (.+), (.+)": lambda limit, one, other: {
        "ko": f"비용이 {limit} 넘게 다르다: {one}, {other}",
        "en": f"the costs differ by more than {limit}: {one}, {other}",
    },
    r"the largest usable rate may be outside the grid: (.+)": lambda kinds: {
        "ko": f"쓸 수 있는 가장 큰 학습률이 격자 밖에 있을 수 있다: {', '.join(glossary().get(kind, kind) for kind in kinds.split(', '))}",
        "en": f"the largest usable rate may be outside the grid: {kinds}",
    },
    r"no room to be lower by (\S+): the mean of what is compared with is (\S+)": lambda margin, mean: {
        "ko": f"{margin}만큼 작아질 자리가 없다: 견줄 대상의 평균이 {mean}이다",
        "en": f"no room to be lower by {margin}: the mean of what is compared with is {mean}",
    },
}
