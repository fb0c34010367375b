"""Grading a directory of submissions into a table: resumable, with a seed of its own for every student."""

import ast
import csv
import hashlib
import io
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reslab.errors import UserError
from reslab.exercises import sheets
from reslab.exercises.checking import UNREADABLE, check, words
from reslab.runs import parse_json, write_atomically


@dataclass(frozen=True)
class Submission:
    """A student's file, and the tasks of it that are graded."""

    student: str
    file: Path
    tasks: tuple[str, ...]


def submissions(directory: Path, only: Sequence[str] = ()) -> list[Submission]:
    """Return what is in a directory: `STUDENT.py`, or `STUDENT/…py`. A file's sheet is the one whose functions it has.

    Raises:
        UserError: if there is nothing to grade.
    """
    if not directory.is_dir():
        raise UserError(f"no directory {directory}; expected one with a file STUDENT.py, or a directory STUDENT, for each student")
    files = [(path.stem, path) for path in sorted(directory.glob("*.py"))]
    files += [(path.parent.name, path) for path in sorted(directory.glob("*/*.py"))]
    found = [Submission(student, file, tasks) for student, file in files if (tasks := _tasks(file, only))]
    if not found:
        raise UserError(f"{directory} has no answers to grade; expected STUDENT.py or STUDENT/01_gradient_analysis.py with the exercises' functions")
    return found


def _tasks(file: Path, only: Sequence[str]) -> tuple[str, ...]:
    """Return the tasks of the sheet to which most of a file's functions belong; of a file that Python cannot read, what its name says."""
    stubs = {number: sheets.read(number, "en").tasks for number in sheets.SHEETS}
    try:
        defined = _functions(file.read_text(encoding="utf-8"))
        counts = {number: len(defined & set().union(*(_functions(task.stub) for task in tasks.values()))) for number, tasks in stubs.items()}
    except UNREADABLE:
        counts = {number: int(file.stem == name) for number, name in sheets.SHEETS.items()}
    number = max(counts, key=lambda each: counts[each])
    return tuple(task for task in stubs[number] if not only or task in only) if counts[number] else ()


def _functions(source: str) -> set[str]:
    return {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def seed_of(student: str, task: str, seed: int) -> int:
    """Return the seed of a student's inputs: another for every student and task, the same whenever it is graded again."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{student}/{task}".encode()).digest()[:4], "big")


def grade(
    found: Sequence[Submission],
    out: Path,
    *,
    seed: int = 0,
    jobs: int = 2,
    hidden: Path | None = None,
    watch: Callable[[str, int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Grade what is not graded yet, and write `out` (CSV, a row a student's file) with every result; details go beside it (JSON lines).

    A result counts again only if file, task, seed and hidden tests are the same.
    """
    details = out.with_suffix(".jsonl")
    tests = _digest(hidden) if hidden is not None else ""
    done = {record["key"]: record for record in _lines(details)}

    keys: dict[Submission, dict[str, str]] = {}  # what a result is known by, for every task of every submission
    for each in found:
        content = _digest(each.file)
        keys[each] = {task: f"{each.student}/{each.file.name}/{task}/{content}/{seed_of(each.student, task, seed)}/{tests}" for task in each.tasks}
    missing = {each: [task for task in each.tasks if keys[each][task] not in done] for each in found}
    missing = {each: tasks for each, tasks in missing.items() if tasks}
    stop = threading.Event()
    with ThreadPoolExecutor(jobs) as pool, details.open("a", encoding="utf-8", newline="\n") as log:
        try:
            futures = {
                pool.submit(check, each.file, {task: seed_of(each.student, task, seed) for task in tasks}, hidden=hidden, stop=stop): each
                for each, tasks in missing.items()
            }
            for count, future in enumerate(as_completed(futures), 1):
                submission = futures[future]
                for result in future.result():
                    name = keys[submission][result.task]
                    answer = words(submission.file, result.task)
                    done[name] = {"key": name, "student": submission.student, "words": answer, **result.to_json()}
                    log.write(json.dumps(done[name], ensure_ascii=False) + "\n")
                log.flush()
                if watch is not None:
                    watch("grading", count, len(futures))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    rows = [_row(each, [done[key] for key in keys[each].values()]) for each in found]
    write_atomically(out, _csv(rows))
    return rows


def _row(submission: Submission, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    stopped = [f"{result['task']}: {result['failure']}" for result in results if result["failure"] is not None]
    return {
        "student": submission.student,
        "file": submission.file.name,
        **{result["task"]: result["points"] for result in results},
        "points": sum(result["points"] for result in results),
        "of": sum(result["of"] for result in results),
        "in words": sum(result["in_words"] for result in results),
        "stopped": "; ".join(stopped),
    }


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    last = ("points", "of", "in words", "stopped")
    tasks = sorted({key for row in rows for key in row} - {"student", "file", *last})
    text = io.StringIO()
    writer = csv.DictWriter(text, ["student", "file", *tasks, *last], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _harmless(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _harmless(value: Any) -> Any:
    """Return a cell that a spreadsheet does not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file of JSON lines; a line that a kill tore is closed and left out.

    Raises:
        UserError: if the file is damaged otherwise.
    """
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8")
        lines: list[dict[str, Any]] = [parse_json(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        if not all(isinstance(line, dict) and isinstance(line.get("key"), str) for line in lines):
            raise ValueError("not what this program wrote")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); move it away to grade everything again") from error
    if text and not text.endswith("\n"):
        write_atomically(path, text[: text.rfind("\n") + 1])
    return lines
