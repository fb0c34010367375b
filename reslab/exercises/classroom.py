"""Grading a directory of submissions into a table: resumable, with a seed of its own for every student."""

import ast
import codecs
import csv
import hashlib
import io
import json
import os
import re
import threading
import tokenize
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reslab.errors import DamagedError, MissingError, first_few
from reslab.exercises import sheets
from reslab.exercises.checking import check, words
from reslab.files import TEXT_BYTES, opened, parse_json, write_atomically
from reslab.progress import Progress, silent

ANSWERS, NOTEBOOK = ".py", ".ipynb"
OF_NOBODY = ("__pycache__", "__MACOSX")
"""Directories that a computer puts beside what people hand in."""
OURS = ("grades.csv", "grades.jsonl")
"""What grading writes beside them."""
_DEFINED = re.compile(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)|^(\w+)[ \t]*(?::[^=\n]*)?=", re.MULTILINE)
"""A function's name, in a file that Python itself may not be able to read."""


@dataclass(frozen=True)
class Submission:
    """What a student handed in: a file, its name, the tasks of it that are graded, or why there are none."""

    student: str
    file: Path
    name: str
    tasks: tuple[str, ...]
    problem: str = ""


def submissions(directory: Path, only: Sequence[str] = ()) -> list[Submission]:
    """Return what is in a directory: `STUDENT.py`, or `STUDENT/…py`, one or more for every student who handed something
    in.

    A file's sheets are those whose functions it has. What cannot be graded is there with its reason; what is no
    submission is warned of.

    Raises:
        UserError: if nobody handed anything in.
    """
    if not directory.is_dir():
        raise MissingError(
            f"no directory {directory}; expected one with a file STUDENT.py, or a directory STUDENT, for each student"
        )
    found: list[Submission] = []
    others: list[str] = []
    for entry in sorted(directory.iterdir(), key=lambda entry: (entry.is_dir(), entry)):
        if entry.name.startswith(".") or entry.name in OF_NOBODY:
            continue
        if entry.is_dir():
            files = [file for file in _below(entry) if file.suffix.lower() in (ANSWERS, NOTEBOOK)]
            found += [_submission(entry.name, file, file.relative_to(entry), only) for file in files]
            found += [] if files else [Submission(_text(entry.name), entry, "", (), f"no {ANSWERS} file")]
        elif entry.suffix.lower() in (ANSWERS, NOTEBOOK):
            found.append(_submission(entry.stem, entry, Path(entry.name), only))
        else:
            others.append(_text(entry.name))
    if not found:
        raise MissingError(
            f"{directory} has no answers to grade; expected STUDENT.py or STUDENT/01_gradient_analysis.py with the "
            "exercises' functions"
        )
    if others := [name for name in others if name not in OURS]:
        warnings.warn(f"not graded, as they are no {ANSWERS} files: {first_few(others)}", stacklevel=2)
    return found


def _below(directory: Path) -> list[Path]:
    """Return the files below a directory at any depth, hidden ones aside; links to directories are not followed."""
    found: list[Path] = []
    for place, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if not name.startswith(".") and name not in OF_NOBODY]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return sorted(found)


def _submission(student: str, file: Path, name: Path, only: Sequence[str]) -> Submission:
    tasks: tuple[str, ...] = ()
    if file.suffix.lower() == NOTEBOOK:
        problem = f"a notebook is not graded: hand in the {ANSWERS} file"
    elif not file.is_file():
        problem = "no regular file"
    else:
        try:
            tasks = _tasks(file, only)
            problem = "" if tasks else "no function of the exercises"
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
    return Submission(_text(student), file, _text(name.as_posix()), tasks, problem)


def _text(name: str) -> str:
    """Return a file's name as text that can be written, whatever its bytes are."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def _tasks(file: Path, only: Sequence[str]) -> tuple[str, ...]:
    """Return the tasks of every sheet of whose own functions a file has one."""
    defined = {name for pair in _DEFINED.findall(_decoded(file.read_bytes())) for name in pair}
    asked = {
        number: {name: _functions(task.stub) for name, task in sheets.read(number, "en").tasks.items()}
        for number in sheets.SHEETS
    }
    functions = {number: set().union(*tasks.values()) for number, tasks in asked.items()}
    own = {
        number: names.difference(*(functions[other] for other in functions if other != number))
        for number, names in functions.items()
    }
    return tuple(
        name for number, tasks in asked.items() if defined & own[number] for name in tasks if not only or name in only
    )


def _decoded(content: bytes) -> str:
    """Return Python source as text: as Python reads it, or, where it does not, as whoever wrote it most likely meant
    it.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    except SyntaxError:  # it names an encoding that there is not, or is in none that it names
        encoding = "latin-1"
    return content.decode(encoding, errors="replace")


def _functions(source: str) -> set[str]:
    return {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def seed_of(student: str, task: str, seed: int) -> int:
    """Return the seed of a student's inputs: another for every student and task, the same whenever it is
    graded again.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{student}/{task}".encode()).digest()[:4], "big")


def grade(
    found: Sequence[Submission],
    out: Path,
    *,
    seed: int = 0,
    jobs: int = 2,
    hidden: Path | None = None,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Grade what is not graded yet, and write `out` (CSV, a row a student's file) with every result; details go beside
    it (JSON lines).

    A result counts again only if file, task, seed and hidden tests are the same.
    """
    details = out.with_suffix(".jsonl")
    tests = _digest(hidden) if hidden is not None else ""
    done = {record["key"]: record for record in _lines(details)}

    keys: dict[Submission, dict[str, str]] = {}  # what a result is known by, for every task of every submission
    for each in found:
        content = _digest(each.file) if each.tasks else ""
        keys[each] = {
            task: f"{each.student}/{each.name}/{task}/{content}/{seed_of(each.student, task, seed)}/{tests}"
            for task in each.tasks
        }
    missing = {each: [task for task in each.tasks if keys[each][task] not in done] for each in found}
    missing = {each: tasks for each, tasks in missing.items() if tasks}
    stop = threading.Event()
    with ThreadPoolExecutor(jobs) as pool, details.open("a", encoding="utf-8", newline="\n") as log:
        try:
            futures = {
                pool.submit(
                    check,
                    each.file,
                    {task: seed_of(each.student, task, seed) for task in tasks},
                    hidden=hidden,
                    stop=stop,
                ): each
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
                progress("grading", count, len(futures))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    rows = [_row(each, [done[key] for key in keys[each].values()]) for each in found]
    write_atomically(out, _csv(rows))
    return rows


def _row(submission: Submission, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    stopped = [f"{result['task']}: {result['failure']}" for result in results if result["failure"] is not None]
    stopped += [
        f"{result['task']} {part['name']}: {part['mistakes'][0]}"
        for result in results
        for part in result["parts"]
        if part["status"] == "stopped"
    ]
    stopped += [submission.problem] if submission.problem else []
    return {
        "student": submission.student,
        "file": submission.name,
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
        with opened(path, TEXT_BYTES) as file:
            text = file.read().decode()
        lines: list[dict[str, Any]] = [
            parse_json(line) for line in text.splitlines(keepends=True) if line.endswith("\n")
        ]
        if not all(isinstance(line, dict) and isinstance(line.get("key"), str) for line in lines):
            raise ValueError("not what this program wrote")
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path} is damaged ({error}); move it away to grade everything again") from error
    if text and not text.endswith("\n"):
        write_atomically(path, text[: text.rfind("\n") + 1])
    return lines
