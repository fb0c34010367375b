"""Checking a file of answers, and the feedback on the result."""

import ast
import re
import threading
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from reslab.errors import Language
from reslab.exercises import confinement, sheets
from reslab.exercises.noticing import parsed, place_in
from reslab.exercises.sheets import LANGUAGES
from reslab.exercises.submissions import decoded
from reslab.files import encodable

_QUOTED = r"""[rRfF]?(?P<quotes>\"\"\"|'''|["'])(?P<text>.*?)(?P=quotes)"""


@dataclass(frozen=True)
class Checked:
    """The result of one task of a file."""

    task: str
    points: int
    of: int
    parts: Sequence[dict[str, Any]]
    failure: str | None  # what stopped the whole file
    detail: str
    cell: int | None  # of a notebook
    line: int | None
    printed: str
    in_words: bool  # whether the question in words has an answer, which is not graded here
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON record, with feedback on each part in both languages."""
        parts = [{**part, "feedback": said(self.task, part["name"], *part["mistakes"])} for part in self.parts]
        return asdict(self) | {
            "parts": parts,
            "feedback": said(self.task, "", self.failure) if self.failure is not None else None,
        }


def check(
    file: Path,
    tasks: Mapping[str, int],
    *,
    hidden: Path | None = None,
    beside: Path | None = None,
    stop: threading.Event | None = None,
    host: confinement.Host | None = None,
) -> list[Checked]:
    """Return the result of each task of a file, given the seeds of their inputs; it can import what is in the directory
    `beside`. Whatever stops a part costs only that part.
    """
    ended = confinement.run(file, tasks, hidden=hidden, beside=beside, stop=stop, host=host)
    return [_checked(file, task, seed, ended) for task, seed in tasks.items()]


def _checked(file: Path, task: str, seed: int, ended: confinement.Ended) -> Checked:
    source = decoded(_read(file))
    parts = [
        part | dict(zip(("cell", "line"), place_in(source, part["line"]), strict=True)) for part in ended.parts[task]
    ]
    points = sum(part["points"] for part in parts)
    of = sheets.task(task, "en").points if ended.failure is not None else sum(part["of"] for part in parts)
    answered = bool(words(file, task).strip())
    cell, line = place_in(source, ended.line)
    return Checked(task, points, of, parts, ended.failure, ended.detail, cell, line, ended.printed, answered, seed)


def words(file: Path, task: str) -> str:
    """Return the answer in words to a task's question, the last if there are several; empty if there is none. Of a file
    that is no Python it is the text in quotes behind its name.
    """
    content = _read(file)
    tree = parsed(content)  # in whatever encoding Python reads it
    name, found = f"IN_WORDS_{task.replace('.', '_')}", dict[str, str]()
    if tree is None and (written := re.search(rf"^{name} = {_QUOTED}", decoded(content), re.MULTILINE | re.DOTALL)):
        found[name] = written["text"]  # what is wrong elsewhere in a file costs no words
    for statement in tree.body if tree is not None else ():
        if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in (each.id for each in targets if isinstance(each, ast.Name)):
                before = found.get(target, "") if isinstance(statement, ast.AugAssign) else ""
                found[target] = before + _text(statement.value, found)
    return str(encodable(found.get(name, "")))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # its own code may have removed it
        return b""


def _text(value: ast.expr | None, known: Mapping[str, str]) -> str:
    """Return the text in an expression, given those that have names, as far as it can be read: of what is computed, the
    code.
    """
    pieces, left = list[str](), [value]
    while left:
        each = left.pop()
        if isinstance(each, ast.BinOp) and isinstance(each.op, ast.Add):
            left += [each.right, each.left]
        elif isinstance(each, ast.BinOp) and isinstance(each.op, ast.Mod):
            left.append(each.left)
        elif isinstance(each, ast.JoinedStr):
            left += reversed(each.values)
        elif isinstance(each, ast.FormattedValue):
            pieces.append(f"{{{_code(each.value)}}}")
        elif isinstance(each, ast.Call):  # "…".format(…), dedent("…")
            left += [*reversed(each.args), each.func]
        elif isinstance(each, ast.Attribute):
            left.append(each.value)
        elif isinstance(each, ast.List | ast.Tuple):
            left += reversed(each.elts)
        elif isinstance(each, ast.Name):
            pieces.append(known.get(each.id, ""))
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            pieces.append(each.value)
    return "".join(pieces)


def _code(value: ast.expr) -> str:
    try:
        return ast.unparse(value)
    except RecursionError:  # of a sum of hundreds of terms
        return "…"


def said(task: str, part: str, *mistakes: str) -> dict[Language, str] | None:
    """Return the feedback on mistakes in both languages: the task's own text if there is one, else the generic one; for
    two mistakes, both in turn.
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
