"""The sheets of exercises as text: one Markdown file per sheet and language, parsed into tasks."""

import ast
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

from reslab.errors import Language, UnknownNameError, suggest, worded

LANGUAGES: tuple[Language, ...] = get_args(Language)
SHEETS = {"01": "01_gradient_analysis", "02": "02_ablation_study"}
"""Sheets by number; a learner's file has the same name."""

HEADINGS: Mapping[Language, Mapping[str, str]] = {
    "ko": {
        "aim": "목표",
        "task": "할 일",
        "right": "정답의 조건",
        "words": "말로 답하기",
        "hints": "힌트",
        "reading": "더 읽기",
    },
    "en": {
        "aim": "Aim",
        "task": "Task",
        "right": "A right answer",
        "words": "In words",
        "hints": "Hints",
        "reading": "Read on",
    },
}
DIFFICULTIES: Mapping[Language, tuple[str, ...]] = {"ko": ("쉬움", "보통", "어려움"), "en": ("easy", "medium", "hard")}

_FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HINT = re.compile(r"<details><summary>[^<]*</summary>\n(.*?)</details>", re.DOTALL)
_TWIN = re.compile(r"^\[[^\]]+\]\(\S+\)$", re.MULTILINE)  # the link to the other language
_FACTS = re.compile(r"^\*(\d+)\D+(\d+)\D+ · (\S+)\*$", re.MULTILINE)


@dataclass(frozen=True)
class TaskText:
    """A task as a learner reads it."""

    id: str
    title: str
    points: int
    minutes: int
    difficulty: int  # 0 easy, 1 medium, 2 hard
    aim: str
    task: str  # without the stub
    stub: str  # Python to fill in
    right: str
    words: str
    hints: tuple[str, ...]
    reading: str

    @property
    def functions(self) -> tuple[str, ...]:
        """Return the names of the functions that are asked for."""
        return tuple(node.name for node in ast.parse(self.stub).body if isinstance(node, ast.FunctionDef))


@dataclass(frozen=True)
class Sheet:
    """A sheet of exercises: its introduction, what its Python begins with, and its tasks by id."""

    number: str
    title: str
    introduction: str
    preamble: str
    tasks: Mapping[str, TaskText]


def path(number: str, language: Language) -> Path:
    """Return the path of a sheet's Markdown."""
    return Path(__file__).with_name(f"{SHEETS[number]}{'' if language == 'ko' else f'.{language}'}.md")


@cache
def read(number: str, language: Language) -> Sheet:
    """Return a sheet in a language.

    Raises:
        UserError: if there is no such sheet.
    """
    if number not in SHEETS:
        raise UnknownNameError(*worded("no-sheet", sheet=number, near=suggest(number, SHEETS), known=", ".join(SHEETS)))
    head, *sections = re.split(r"^## ", path(number, language).read_text(encoding="utf-8"), flags=re.MULTILINE)
    title, introduction = head.removeprefix("# ").split("\n", 1)
    preamble, introduction = _take_fence(_TWIN.sub("", introduction))
    tasks = [_task(section, language) for section in sections]
    return Sheet(number, title.strip(), introduction, preamble, {task.id: task for task in tasks})


def task(name: str, language: Language) -> TaskText:
    """Return the text of a task, such as 1.3.

    Raises:
        UserError: if there is no such task.
    """
    known = {each: text for number in SHEETS for each, text in read(number, language).tasks.items()}
    if name not in known:
        raise UnknownNameError(*worded("no-task", task=name, near=suggest(name, known), known=", ".join(known)))
    return known[name]


def sheet_of(name: str) -> str:
    """Return the number of the sheet that a task is in."""
    return f"0{name.split('.')[0]}"


def _task(section: str, language: Language) -> TaskText:
    title, body = section.split("\n", 1)
    name, title = title.split(" ", 1)
    facts = _FACTS.search(body)
    if facts is None:
        raise ValueError(f"task {name}: no line of points, minutes and difficulty")
    pieces = re.split(r"^### (.+)\n", body, flags=re.MULTILINE)
    texts = {heading.strip(): text.strip() for heading, text in zip(pieces[1::2], pieces[2::2], strict=True)}
    part = {key: texts[heading] for key, heading in HEADINGS[language].items()}
    stub, part["task"] = _take_fence(part["task"])
    return TaskText(
        id=name,
        title=title.strip(),
        points=int(facts[1]),
        minutes=int(facts[2]),
        difficulty=DIFFICULTIES[language].index(facts[3]),
        stub=stub,
        hints=tuple(hint.strip() for hint in _HINT.findall(part.pop("hints"))),
        **part,
    )


def _take_fence(text: str) -> tuple[str, str]:
    """Return the first Python fence of a text, and the text without it."""
    fence = _FENCE.search(text)
    if fence is None:
        raise ValueError(f"no Python fence in: {text[:60]!r}")
    return fence[1], (text[: fence.start()] + text[fence.end() :]).strip()


def starter(number: str, language: Language) -> str:
    """Return the Python file that a learner fills in: the sheet's text as comments, its stubs, and a place for answers
    in words.
    """
    sheet = read(number, language)
    lines = [f'"""{sheet.title}\n\n{sheet.introduction}\n"""', sheet.preamble.strip()]
    for each in sheet.tasks.values():
        lines += [f"# %% {head(each, language)}\n{_comment(body(each, language))}", each.stub.strip(), in_words(each)]
    return "\n\n\n".join(lines) + "\n"


def head(text: TaskText, language: Language) -> str:
    """Return a task's title, with its points, minutes and difficulty."""
    return f"{text.id} {text.title}  ({_facts(text, language)})"


def body(text: TaskText, language: Language) -> str:
    """Return what a task asks for."""
    return "\n\n".join(f"{HEADINGS[language][key]}: {getattr(text, key)}" for key in ("aim", "task", "right", "words"))


def in_words(text: TaskText) -> str:
    """Return the Python into which the answer in words is written."""
    return f'IN_WORDS_{text.id.replace(".", "_")} = """\n"""'


def _facts(text: TaskText, language: Language) -> str:
    points, minutes = {"ko": ("점", "분"), "en": (" points", " minutes")}[language]
    return f"{text.points}{points}, {text.minutes}{minutes}, {DIFFICULTIES[language][text.difficulty]}"


def _comment(text: str) -> str:
    wrapped = [
        textwrap.wrap(line, 100, break_long_words=False, break_on_hyphens=False) or [""] for line in text.splitlines()
    ]
    return "\n".join(f"# {line}".rstrip() for lines in wrapped for line in lines)
