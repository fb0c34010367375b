"""Grading a class: resumable, with a seed per student, and a row per student."""

import hashlib
import json
import math
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from reslab.digests import code_digest
from reslab.errors import DamagedError, FailedError, Language, MissingError, WrongValueError, worded
from reslab.exercises import confinement, sheets, tasks
from reslab.exercises.checking import check, words
from reslab.exercises.noticing import alike, begun_in, language_of, remarks_on
from reslab.exercises.remarks import Remark, remark
from reslab.exercises.submissions import Handed, Submission, decoded, key
from reslab.exercises.telling import WORDS
from reslab.files import TEXT_BYTES, opened, parse_json, write_atomically
from reslab.progress import Progress, silent

SOLUTIONS = Path(__file__).with_name("solutions.py")
Result = dict[str, Any]
"""A graded task of a file: `Checked.to_json()`, its student, and the answer in words."""


@dataclass(eq=False)
class Student:
    """One student's results: the best of each task, problems with what was handed in, and notes for the teacher."""

    name: str
    files: list[str] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)
    of: dict[str, int] = field(default_factory=dict)  # the maximum over all graded tasks, handed in or not
    problems: list[Remark] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    language: Language = "en"
    hints: int | None = None  # None: no record was handed in
    solutions: tuple[str, ...] = ()

    @property
    def points(self) -> int:
        """Return what was earned."""
        return sum(result["points"] for result in self.results.values())

    def remarked(self, language: Language) -> str:
        """Return all problems and notes in the teacher's language."""
        return "; ".join(each.text(language) for each in [*self.problems, *self.remarks])

    def row(self, language: Language = "en") -> dict[str, Any]:
        """Return the student's line of the table, its remarks in the teacher's language."""
        total = sum(self.of.values())
        parts = {
            f"{task} {part['name']}": part["points"]
            for task, result in self.results.items()
            for part in result["parts"]
        }
        return {
            "student": self.name,
            "files": "; ".join(self.files),
            "points": self.points,
            "of": total,
            "percent": round(100 * self.points / total, 1) if total else 0.0,
            "in words": sum(result["in_words"] for result in self.results.values()),
            "hints": "" if self.hints is None else self.hints,
            "solutions": " ".join(self.solutions),
            "seconds": round(sum(part["seconds"] for each in self.results.values() for part in each["parts"]), 1),
            "remarks": self.remarked(language),
            **{task: self.results.get(task, {"points": 0})["points"] for task in self.of},
            **parts,
        }


def who_earned(students: Sequence[Student]) -> dict[str, int]:
    """Return for each sheet that counts how many students have a point in it."""
    counted = {sheets.sheet_of(task) for student in students for task in student.of}
    return {
        number: sum(
            any(result["points"] for task, result in student.results.items() if sheets.sheet_of(task) == number)
            for student in students
        )
        for number in sorted(counted)
    }


def seed_of(student: str, task: str, seed: int) -> int:
    """Return the seed of a student's inputs: different for every student and task, and the same when graded again."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{student}/{task}".encode()).digest()[:4], "big")


def grade(
    handed: Handed,
    details: Path,
    *,
    only: Sequence[str] = (),
    seed: int = 0,
    jobs: int = 2,
    hidden: Path | None = None,
    roster: Sequence[tuple[str, ...]] = (),
    language: Language = "en",
    progress: Progress = silent,
) -> list[Student]:
    """Grade what is not graded yet, and return every student, including those of the roster who handed in nothing.

    Results are appended to `details` (JSON lines), and reused if file, task, seed, hidden tests and the exercises' own
    code are unchanged, unless the system ended the file. If a student handed in a task several times, the best result
    counts. A student whose files show no language is told in `language`.

    Raises:
        UserError: if the hidden tests do not pass with the reference solutions, before anything is graded.
    """
    with ExitStack() as stack:
        hosts = [stack.enter_context(confinement.Host()) for _ in range(jobs)]
        extra = hidden_points(hidden, seed, hosts[0]) if hidden is not None else {}
        graded = _grade(handed.files, details, seed, hosts, hidden, partial(progress, WORDS[language]["grading"]))
    asked = [task for task in tasks.names() if not only or task in only]
    worth = {task: sheets.task(task, "en").points + sum(extra.get(task, {}).values()) for task in asked}
    # if a class does only one sheet, the other does not count
    texts_of = {each.file: decoded(each.file.read_bytes()) for each in handed.files if each.problem is None}
    begun = {number for text in texts_of.values() for number in begun_in(text)}
    begun |= {sheets.sheet_of(one["task"]) for results in graded.values() for one in results if one["points"]}
    worth = {task: points for task, points in worth.items() if sheets.sheet_of(task) in begun} or worth
    students: dict[str, Student] = {}
    texts: dict[str, str] = {}
    for each in handed.files:
        student = students.setdefault(each.student, Student(each.student, of=worth, language=language))
        student.files += [each.name] if each.name else []
        student.problems += [each.problem] if each.problem is not None else []
        _add(student, graded[each])
        if each.problem is None:
            text = texts_of[each.file]
            texts[each.student] = texts.get(each.student, "") + "\n" + text
            student.language = language_of(text) or student.language
            student.remarks += remarks_on(text, each.name)
    for name, others in alike(texts).items():
        students[name].remarks.append(remark("alike", others=", ".join(others)))
    for name, record in handed.records.items():
        if name in students:
            _recorded(students[name], record)
    if roster:
        return _on_roster(students, handed.files, roster, worth, language)
    return list(students.values())


def _add(student: Student, results: Sequence[Result]) -> None:
    """Keep the better result of each task, and record what stopped a file or a part."""
    failures = sorted({result["failure"] for result in results if result["failure"] is not None})
    student.remarks += [remark("failed", failure=failure, detail=results[0]["detail"]) for failure in failures]
    for result in results:
        kept = student.results.get(result["task"], result)
        better, other = (kept, result) if kept["points"] >= result["points"] else (result, kept)
        if not better["in_words"]:  # one file may have the functions, and the other the words
            better = {**better, "words": other["words"], "in_words": other["in_words"]}
        student.results[result["task"]] = better
        student.remarks += [
            remark("part-stopped", task=result["task"], part=part["name"], reason=part["mistakes"][0])
            for part in result["parts"]
            if part["status"] == "stopped"
        ]


def _recorded(student: Student, record: Mapping[str, Any]) -> None:
    hints, solutions, language = record.get("hints"), record.get("solutions"), record.get("language")
    if isinstance(hints, dict):
        student.hints = sum(opened for opened in hints.values() if isinstance(opened, int))
    if isinstance(solutions, list):
        student.solutions = tuple(map(str, solutions))
    if language in sheets.LANGUAGES:
        student.language = language


def _on_roster(
    students: dict[str, Student],
    files: Sequence[Submission],
    roster: Sequence[tuple[str, ...]],
    worth: dict[str, int],
    language: Language,
) -> list[Student]:
    """Return the students in the roster's order, then those that it does not have."""
    known = {name: set[str]() for name in students}
    for each in files:
        known[each.student] |= {key(alias) for alias in (each.student, *each.aliases)}
    numbered = len(roster) > 1 and all(names[0] == str(place) for place, names in enumerate(roster, 1))
    rows = [_keys(names) for names in roster]

    def shared(name: str, place: int) -> set[str]:
        """Return what a student and a row have in common; a number that a platform gave is none in the class."""
        running = {key(roster[place][0])} - {key(name)} if numbered else set[str]()
        return (known[name] & rows[place]) - running

    # the student and the row that have most names in common come first, as several may have one name
    pairs = sorted(
        ((name, place) for name in known for place in range(len(rows)) if shared(name, place)),
        key=lambda pair: -len(shared(*pair)),
    )
    of_row: dict[int, str] = {}
    for name, place in pairs:
        if place not in of_row and name not in of_row.values():
            of_row[place] = name
    listed: list[Student] = []
    for place, names in enumerate(roster):
        if place in of_row:
            listed.append(students[of_row[place]])
        elif len(names) == 1 or not any(rows[place] <= rows[other] for other in of_row if other < place):
            problems = [remark("nothing-handed-in")]
            name = " ".join(names[numbered:] or names)  # which of them is the name, nobody says
            listed.append(Student(name, of=worth, language=language, problems=problems))
    strangers = [student for student in students.values() if student not in listed]
    for student in strangers:
        student.remarks.append(remark("not-on-the-roster"))
    return [*listed, *strangers]


def _keys(names: Sequence[str]) -> set[str]:
    """Return the names of a row for comparison: each cell, and first and last names in two of them, or on two sides of
    a comma, in either order.
    """
    pairs = (*pairwise(names), *(name.split(",") for name in names if name.count(",") == 1))
    return {key(name) for name in names} | {key(name) for one, other in pairs for name in (one + other, other + one)}


def hidden_points(hidden: Path, seed: int, host: confinement.Host | None = None) -> dict[str, dict[str, int]]:
    """Return the points of a teacher's hidden tests, by task and name.

    Raises:
        UserError: if their file cannot be run, or one of them does not pass with the reference solutions.
    """
    seeds = {task: seed_of("", task, seed) for task in tasks.names()}
    ended = confinement.run(SOLUTIONS, seeds, hidden=hidden, parts=False, host=host)
    if ended.failure is not None:
        raise DamagedError(
            *worded(
                "hidden-tests-fail", file=hidden, failure=ended.failure, detail=ended.detail, line=ended.line or "?"
            )
        )
    for parts in ended.parts.values():
        for part in parts:
            if part["status"] != "right":
                raise FailedError(
                    *worded("hidden-test-fails", name=part["name"], why=part["came"] or part["mistakes"][0])
                )
    found = {task: {part["name"]: part["of"] for part in parts} for task, parts in ended.parts.items() if parts}
    if not found:
        raise MissingError(*worded("no-hidden-test", file=hidden))
    for name, points in (pair for tests in found.values() for pair in tests.items()):
        if isinstance(points, bool) or not isinstance(points, int | float) or not 0 <= points < math.inf:
            raise WrongValueError(*worded("hidden-points", name=name, points=repr(points)))
    return found


def _grade(
    files: Sequence[Submission],
    details: Path,
    seed: int,
    hosts: Sequence[confinement.Host],
    hidden: Path | None,
    progress: Callable[[int, int], object],
) -> dict[Submission, list[Result]]:
    """Return the results of every file, graded now or before."""
    tests = f"{code_digest(('exercises',))}/{_digest(hidden) if hidden is not None else ''}"
    done = {record["key"]: record for record in _lines(details) if not _was_killed(record)}
    keys: dict[Submission, dict[str, str]] = {}  # the key of a result, for every task of every submission
    for each in files:
        own = [other.file for other in files if other.student == each.student and each.beside in other.file.parents]
        content = _digest(each.file, *own) if each.tasks else ""  # as it may import them
        keys[each] = {
            task: f"{each.student}/{each.name}/{task}/{content}/{seed_of(each.student, task, seed)}/{tests}"
            for task in each.tasks
        }
    missing = {each: [task for task in each.tasks if keys[each][task] not in done] for each in files}
    missing = {each: names for each, names in missing.items() if names}
    stop, free = threading.Event(), queue.SimpleQueue[confinement.Host]()
    for host in hosts:
        free.put(host)

    def graded(each: Submission) -> list[Result]:
        host = free.get()
        try:
            seeds = {task: seed_of(each.student, task, seed) for task in missing[each]}
            results = check(each.file, seeds, hidden=hidden, beside=each.beside, stop=stop, host=host)
            return [
                {"key": keys[each][result.task], "student": each.student, "words": words(each.file, result.task)}
                | result.to_json()
                for result in results
            ]
        finally:
            free.put(host)

    with details.open("a", encoding="utf-8", newline="\n") as log, ThreadPoolExecutor(len(hosts)) as pool:
        try:
            futures = [pool.submit(graded, each) for each in missing]
            for count, future in enumerate(as_completed(futures), 1):
                for record in future.result():
                    done[record["key"]] = record
                    log.write(json.dumps(record, ensure_ascii=False) + "\n")
                log.flush()
                progress(count, len(futures))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return {each: [done[name] for name in keys[each].values()] for each in files}


def _was_killed(result: Result) -> bool:
    """Return whether the system ended a file or a part of it, as one does that has no more memory."""
    killed = (result.get("failure"), result.get("detail")) == ("exit", confinement.KILLED)
    return killed or any(part.get("came") == confinement.KILLED for part in result.get("parts", ()))


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()[:16]


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file of JSON lines; an unfinished last line is dropped.

    Raises:
        UserError: if the file is damaged elsewhere.
    """
    if not path.exists():
        return []
    try:
        with opened(path, TEXT_BYTES) as file:
            text = file.read().decode()
        lines: list[dict[str, Any]] = [parse_json(line) for line in text.split("\n")[:-1]]
        if not all(isinstance(line, dict) and isinstance(line.get("key"), str) for line in lines):
            raise ValueError("it was not written by this program")
    except (OSError, ValueError) as error:
        raise DamagedError(*worded("grades-damaged", file=path, error=error)) from error
    if text and not text.endswith("\n"):
        write_atomically(path, text[: text.rfind("\n") + 1])
    return lines
