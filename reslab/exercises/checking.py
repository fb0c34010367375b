"""Checking a file of answers, and what to say about the result."""

import ast
import threading
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from reslab.exercises import confinement, sheets
from reslab.exercises.sheets import LANGUAGES, Language

UNREADABLE = (OSError, ValueError, SyntaxError, RecursionError, MemoryError)
"""What reading and parsing a learner's file may raise; the last two are Python's words for nesting that is too deep."""


@dataclass(frozen=True)
class Checked:
    """What a task of a file was worth."""

    task: str
    points: int
    of: int
    parts: Sequence[dict[str, Any]]
    failure: str | None  # what stopped it, if it was stopped
    detail: str
    printed: str
    in_words: bool  # whether the question in words has an answer; nobody grades it here
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON record, with what is said of each part in both languages."""
        parts = [{**part, "feedback": said(self.task, part["name"], *part["mistakes"])} for part in self.parts]
        return asdict(self) | {"parts": parts, "feedback": said(self.task, "", self.failure) if self.failure else None}


def check(
    file: Path, tasks: Mapping[str, int], *, hidden: Path | None = None, stop: threading.Event | None = None
) -> list[Checked]:
    """Return what each task of a file is worth, given the seeds of their inputs. Whatever stops a task costs it and
    nothing else.
    """
    ended = confinement.run(file, tasks, hidden=hidden, stop=stop)
    return [_checked(file, task, seed, ended[task]) for task, seed in tasks.items()]


def _checked(file: Path, task: str, seed: int, ended: confinement.Ended) -> Checked:
    points = sum(part["points"] for part in ended.parts)
    of = sum(part["of"] for part in ended.parts) or sheets.task(task, "en").points
    answered = bool(words(file, task).strip())
    return Checked(task, points, of, ended.parts, ended.failure, ended.detail, ended.printed, answered, seed)


def words(file: Path, task: str) -> str:
    """Return the answer in words to a task's question; nothing if there is none, or the file cannot be parsed."""
    try:
        statements = ast.parse(file.read_bytes()).body  # in whatever encoding Python reads it
    except UNREADABLE:
        return ""
    name = f"IN_WORDS_{task.replace('.', '_')}"
    for statement in statements:
        if isinstance(statement, ast.Assign) and [
            target.id for target in statement.targets if isinstance(target, ast.Name)
        ] == [name]:
            value = statement.value
            return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
    return ""


def said(task: str, part: str, *mistakes: str) -> dict[Language, str] | None:
    """Return what is said of mistakes, in both languages: the task's own words if it has some, else the general ones;
    of two, one after the other.
    """
    if not mistakes:
        return None
    texts = _texts()
    own = texts.get(task, {}).get(part, {})
    found = [own.get(mistake) or texts["any"][mistake] for mistake in mistakes]
    return {language: " ".join(each[language] for each in found) for language in LANGUAGES}


@cache
def _texts() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("feedback.toml").read_text(encoding="utf-8"))
