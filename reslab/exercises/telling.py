"""Feedback on a checked task, in the learner's language, on the terminal and in `feedback/STUDENT.md`."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reslab.errors import Language

WORDS: Mapping[Language, Mapping[str, str]] = {
    "ko": {
        "grading": "채점",
        "feedback": "피드백",
        "input": "입력",
        "expected": "기대한 값",
        "came": "나온 값",
        "printed": "출력",
        "words": "말로 답하기에 아직 답이 없다.",
        "line": "{line}번째 줄",
        "cell": "{cell}번째 셀 {line}번째 줄",
        "drawn": "drawn은 여기에 있다: from reslab.exercises.tasks import drawn",
    },
    "en": {
        "grading": "grading",
        "feedback": "feedback",
        "input": "input",
        "expected": "expected",
        "came": "came",
        "printed": "printed",
        "words": "The question in words is not answered yet.",
        "line": "line {line}",
        "cell": "cell {cell}, line {line}",
        "drawn": "drawn is here: from reslab.exercises.tasks import drawn",
    },
}
SHOWN = 300
"""The number of characters of output that are shown."""


def lines(result: Mapping[str, Any], title: str, language: Language) -> Iterator[str]:
    """Yield the lines of feedback on a task: points and reasons; `result` is `Checked.to_json()`."""
    words = WORDS[language]
    mark = "✓" if result["points"] == result["of"] else "✗"
    yield f"{mark} {result['task']} {title}: {result['points']}/{result['of']}"
    for part in result["parts"]:
        if part["status"] == "right" or result["failure"] is not None:
            continue
        where = f", {_place(part, language)}" if part["line"] else ""
        yield from _wrapped(f"{part['name']} ({part['points']}/{part['of']}{where}): {part['feedback'][language]}", 4)
        yield from _seen(part, language)
    if not result["in_words"]:
        yield f"    {words['words']}"


def _seen(part: Mapping[str, Any], language: Language) -> Iterator[str]:
    words = WORDS[language]
    if part["input"]:
        yield f"      {words['input']}: {part['input']}"
    if "drawn(" in part["input"]:
        yield f"        ({words['drawn']})"
    outcomes = part.get("in_korean") if language == "ko" else ()
    for each, outcome in zip(("expected", "came"), outcomes or (part["expected"], part["came"]), strict=True):
        if outcome:
            yield f"      {words[each]}: {outcome}"
    if part["printed"].strip():
        yield f"      {words['printed']}: {' '.join(part['printed'].split())[:SHOWN]}"


def stopped(results: Sequence[Mapping[str, Any]], language: Language) -> Iterator[str]:
    """Yield the reason why a whole file could not be judged, once for all of its tasks, if there is one."""
    failed = [result for result in results if result["failure"] is not None]
    if not failed:
        return
    first = failed[0]
    where = f" ({_place(first, language)})" if first["line"] else ""
    yield from _wrapped(f"{first['feedback'][language]}{where}", 0)
    yield f"    {first['detail']}"
    if first["printed"].strip():
        yield f"    {WORDS[language]['printed']}: {' '.join(first['printed'].split())[-SHOWN:]}"


def _place(result: Mapping[str, Any], language: Language) -> str:
    return WORDS[language]["cell" if result["cell"] else "line"].format_map(result)


def _wrapped(text: str, indent: int) -> list[str]:
    """Return a text wrapped to 80 columns, in which a Korean letter counts as two."""
    wide = sum(ord(letter) > 0x1100 for letter in text) / max(1, len(text))
    return textwrap.wrap(
        text,
        round(80 / (1 + wide)),
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2 if indent else 0),
        break_long_words=False,
        break_on_hyphens=False,
    )
