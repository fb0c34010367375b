"""What learners are told: the answers of `answers.txt`, each with its verdict or the names of its mistakes."""

import ast
import re
import textwrap
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers_exercises import judged

from reslab.exercises import checking, sheets, tasks

TABLE = Path(__file__).with_name("answers.txt")


class Answer(NamedTuple):
    """An answer of the table: the task, the function, what is told, what was done, and the function's body."""

    task: str
    function: str
    told: str
    done: str
    body: str


def table() -> list[Answer]:
    _, *entries = re.split(r"^## ", TABLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    heads = [entry.split("\n", 1) for entry in entries]
    return [
        Answer(*re.fullmatch(r"(\S+) (\S+) -> (\S+) \| (.+)", head).groups(), body)  # type: ignore[union-attr]  # or the table is malformed
        for head, body in heads
    ]


@cache
def names_of(sheet: str) -> dict[str, Any]:
    """Return what an answer finds in its file: the sheet's imports, and the solutions of the other functions."""
    names: dict[str, Any] = {}
    exec("import math\n" + sheets.read(sheet, "en").preamble, names)
    names |= {"MEAN": (0.485, 0.456, 0.406), "STD": (0.229, 0.224, 0.225)}
    for task in sheets.read(sheet, "en").tasks:
        names |= {part.name: part.right for part in tasks.find(task).parts}
    return names


def written(answer: Answer) -> Any:
    """Return the function with this body and the sheet's signature."""
    stubs = ast.parse(sheets.task(answer.task, "en").stub).body
    (stub,) = (each for each in stubs if isinstance(each, ast.FunctionDef) and each.name == answer.function)
    source = f"def {answer.function}({ast.unparse(stub.args)}):\n{textwrap.indent(answer.body, '    ')}"
    names = dict(names_of(sheets.sheet_of(answer.task)))
    names["solution"] = names[answer.function]
    exec(compile(source, "answers", "exec"), names)
    return names[answer.function]


ANSWERS = table()


COSTLY = {"measured_rate", "branch_shares"}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            each,
            marks=[pytest.mark.slow] if each.function in COSTLY else [],
            id=f"{each.task}-{each.function}-{each.done}",
        )
        for each in ANSWERS
    ],
)
def test_an_answer_is_told_what_it_is(answer: Answer) -> None:
    (part,) = (each for each in tasks.find(answer.task).parts if each.name == answer.function)
    found = judged(part, written(answer), seed=11)
    assert ("+".join(found.mistakes) or found.status) == answer.told
    right = answer.told == "right"
    assert found.points == part.points if right else found.points < part.points and (part.shares or not found.points)
    assert answer.told == "right" or (found.input and checking.said(answer.task, answer.function, *found.mistakes))


def test_the_table_is_long_and_even() -> None:
    assert len(ANSWERS) >= 150 and len({answer[:4] for answer in ANSWERS}) == len(ANSWERS)
    right = sum(answer.told == "right" for answer in ANSWERS)
    assert 1 / 4 < right / len(ANSWERS) < 3 / 4
