"""The output of grading: tables, feedback for each student, the answers in words with their rubric, and exports for
other systems.
"""

import csv
import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal, get_args

from reslab.errors import DamagedError, Language, worded
from reslab.exercises import sheets, telling
from reslab.exercises.classroom import Student
from reslab.exercises.model_answers import model
from reslab.exercises.submissions import read_table
from reslab.files import file_name, write_atomically, write_json
from reslab.progress import Progress, silent

Export = Literal["gradescope", "otter", "nbgrader"]
EXPORTS: tuple[Export, ...] = get_args(Export)
ANSWER = ("student", "task", "answer")
"""The columns of the table of marks that say which answer a row is of."""
GIVEN = ("number", *ANSWER, "of")
"""Those that are not the teacher's."""
EARLIER = " (earlier)"
"""Behind the task of a row whose answer has changed since it was marked."""
LONGEST = 120
"""Bytes of a student's name in that of a file, of which systems allow 255."""
_OF_A_TASK = re.compile(r"\d+\.\d+(?: |$)")


def write(
    students: Sequence[Student],
    table: Path,
    exports: Sequence[Export] = (),
    language: Language = "en",
    progress: Progress = silent,
) -> None:
    """Write the table, a row per student, and beside it a row per function (`….parts.csv`), feedback
    (`feedback/STUDENT.md`), the answers in words (`words.md` to read, `words.csv` to mark, where marks of the same
    answers stay), and the exports; what is the teacher's to read is in `language`.

    Raises:
        UserError: if there is a `words.csv` that cannot be read, before anything is written.
    """
    place, names = table.parent, file_names([student.name for student in students])
    written = _marked(place / "words.csv")
    _write_csv(table, [student.row(language) for student in students])
    _write_csv(table.with_suffix(".parts.csv"), [row for student in students for row in _parts(student)])
    (place / "feedback").mkdir(exist_ok=True)
    for done, (student, name) in enumerate(zip(students, names, strict=True), 1):
        write_atomically(place / "feedback" / f"{name}.md", feedback(student))
        progress(telling.WORDS[language]["feedback"], done, len(students))
    write_atomically(place / "words.md", marking_sheet(students, language))
    rows = list(_marks(students, written))
    rows += _of_others(written, rows)
    _write_csv(place / "words.csv", rows, {key for row in rows for key in row} - {*GIVEN})
    if "gradescope" in exports:
        (place / "gradescope").mkdir(exist_ok=True)
        for student, name in zip(students, names, strict=True):
            write_json(place / "gradescope" / f"{name}.json", gradescope(student))
    if "otter" in exports:
        _write_plain(
            place / "otter.csv", [*_points_possible(students), *(_otter(student, language) for student in students)]
        )
    if "nbgrader" in exports:
        _write_plain(place / "nbgrader.csv", list(map(_nbgrader, students)))


def file_names(students: Sequence[str]) -> list[str]:
    """Return the students' names as names of files on any system, each another, and none too long."""
    found: list[str] = []
    taken = set[str]()
    for student in students:
        short = student.encode()[:LONGEST].decode(errors="ignore")
        name = file_name(short, "_").strip(". ") or "_"
        free = next(each for each in chain([name], (f"{name}-{n}" for n in count(2))) if each.casefold() not in taken)
        taken.add(free.casefold())
        found.append(free)
    return found


def _parts(student: Student) -> Iterable[dict[str, Any]]:
    for task, result in student.results.items():
        for part in result["parts"]:
            shown = {key: part[key] for key in ("points", "of", "status", "seconds")}
            cell, line = part["cell"] or "", part["line"] or ""
            yield {
                "student": student.name,
                "task": f"#{task}",  # which a spreadsheet would read as a number, and 1.10 as 1.1
                "function": part["name"],
                **shown,
                "mistakes": " ".join(part["mistakes"]),
                "cell": cell,
                "line": line,
                "seed": result["seed"],
            }


def feedback(student: Student) -> str:
    """Return a student's feedback, in the student's language (Markdown)."""
    korean = student.language == "ko"
    of = sum(student.of.values())
    lines = [f"# {student.name}", "", f"{student.points}/{of}{'점' if korean else ' points'}", ""]
    results = [student.results[task] for task in sorted(student.results, key=natural)]
    lines += [*telling.stopped(results, student.language), ""]
    for result in results:
        title = sheets.task(result["task"], student.language).title
        lines += ["```text", *telling.lines(result, title, student.language), "```", ""]
    if not results:
        lines += ["채점할 답이 없다." if korean else "There were no answers to grade.", ""]
    lines += [f"- {problem.text(student.language)}" for problem in student.problems]
    return "\n".join(lines).rstrip("\n") + "\n"


def natural(task: str) -> tuple[int, ...]:
    """Return a task's id as numbers, so that 2.10 follows 2.9."""
    return tuple(map(int, task.split(".")))


def marking_sheet(students: Sequence[Student], language: Language) -> str:
    """Return the answers in words, by task, each question with its model answer and rubric (Markdown)."""
    lines: list[str] = []
    asked = sorted({task for student in students for task in student.of}, key=natural)
    for task in asked:
        text, answer = sheets.task(task, language), model(task, language)
        lines += [f"## {task} {text.title}", "", f"> {' '.join(text.words.split())}", "", answer.text, ""]
        lines += [*(f"- [ ] {point}" for point in answer.rubric), ""]
        for student in students:
            if written := student.results.get(task, {}).get("words", "").strip():
                lines += [f"### {student.name}", "", *(f"    {line}" for line in written.splitlines()), ""]
    return "\n".join(lines)


def _marks(
    students: Sequence[Student], marked: Mapping[tuple[str, ...], Mapping[str, str]]
) -> Iterable[dict[str, Any]]:
    """Yield a row for each answer in words, with what the teacher has written beside it."""
    for student in students:
        for task in student.of:
            answer = student.results.get(task, {}).get("words", "").strip()
            # with a sign before it, as a spreadsheet takes 1.10 for 1.1
            row = {"student": student.name, "task": f"#{task}", "answer": answer, "mark": ""}
            kept = marked.get(_answered(row), {})
            yield {**row, "of": len(model(task, "en").rubric), **{key: kept[key] for key in kept if key not in GIVEN}}


def _of_others(
    marked: Mapping[tuple[str, ...], Mapping[str, str]], rows: Sequence[Mapping[str, Any]]
) -> Iterable[dict[str, Any]]:
    """Yield the rows of students and tasks that are not graded now, as they were, and those of marked answers that are
    others now.
    """
    now = {_answered(row): row for row in rows}
    graded = {answered[:2] for answered in now}
    for answered, row in marked.items():
        kept = {key: value for key, value in row.items() if key != "number"}
        if answered[:2] not in graded:
            yield kept
        elif answered not in now and any(value.strip() for key, value in row.items() if key not in GIVEN):
            yield {**kept, "task": f"{row['task']}{EARLIER}"}


def _marked(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """Return what a teacher has written into the table of marks, by student, task and answer."""
    if not path.exists():
        return {}
    try:
        rows = read_table(path, *ANSWER)
        return {_answered(row): row for row in rows}
    except (OSError, ValueError) as error:
        raise DamagedError(*worded("marks-damaged", path=path)) from error


def _answered(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which answer a row is of, however a spreadsheet has broken its lines, and without zeros that it drops."""
    student, task, answer = (" ".join(str(_readable(_harmless(row[name]))).split()) for name in ANSWER)
    return student.lstrip("0"), task, answer


def gradescope(student: Student) -> dict[str, Any]:
    """Return a student's `results.json` as Gradescope reads it: a test per function."""
    tests = [
        {
            "number": task,
            "name": f"{task} {part['name']}",
            "score": part["points"],
            "max_score": part["of"],
            "status": "passed" if part["status"] == "right" else "failed",
            "output": (part["feedback"] or {}).get(student.language, ""),
            "visibility": "visible",
        }
        for task, result in student.results.items()
        for part in result["parts"]
    ]
    output = feedback(student)
    return {"score": student.points, "output": output, "visibility": "visible", "tests": tests}


def _points_possible(students: Sequence[Student]) -> Iterable[dict[str, Any]]:
    """Yield the first row of otter-grader's table, which says what each question is worth."""
    for student in students[:1]:
        of = sum(student.of.values())
        yield _otter_row("points-per-question", student.of, of, 1.0, "--")


def _otter(student: Student, language: Language) -> dict[str, Any]:
    """Return a student's row of otter-grader's `final_grades.csv` (otter-grader 7.0)."""
    row = student.row(language)
    points = {task: student.results.get(task, {"points": 0})["points"] for task in student.of}
    status = "Completed" if student.results else row["remarks"] or "nothing to grade"
    file, share = row["files"] or student.name, row["percent"] / 100
    return _otter_row(_harmless(file), points, student.points, share, _harmless(status))


def _otter_row(file: str, points: Mapping[str, int], total: int, share: float, status: str) -> dict[str, Any]:
    questions = {task: points[task] for task in sorted(points)}
    return {"file": file, **questions, "total_points_earned": total, "percent_correct": share, "grading_status": status}


def _nbgrader(student: Student) -> dict[str, Any]:
    """Return a student's row of the table that `nbgrader export` writes (nbgrader 0.9)."""
    return {
        "assignment": "reslab",
        "duedate": "",
        "timestamp": "",
        "student_id": _harmless(student.name),
        **dict.fromkeys(("last_name", "first_name", "email"), ""),
        "raw_score": student.points,
        "late_submission_penalty": 0,
        "score": student.points,
        "max_score": sum(student.of.values()),
    }


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]], trusted: Collection[str] = ()) -> None:
    """Write a CSV file that spreadsheets open as UTF-8, without evaluating formulas but in columns that are trusted.

    Its rows are numbered in the first column: a program that does not know the mark before it takes that for a part of
    the first name, and still finds all others.
    """
    rows = [{"number": number, **row} for number, row in enumerate(rows, 1)]
    first = dict.fromkeys(key for row in rows for key in row)
    columns = sorted(first, key=lambda key: (natural(key.split()[0]), key) if _OF_A_TASK.match(key) else ((0,), ""))
    harmless = [{key: value if key in trusted else _harmless(value) for key, value in row.items()} for row in rows]
    write_atomically(path, _table(columns, harmless).encode("utf-8-sig"))


def _write_plain(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table that another grader reads: its own columns in its own order, and no mark before them."""
    write_atomically(path, _table(list(rows[0]) if rows else [], rows))


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _readable(value) for column, value in row.items()} for row in rows)
    return text.getvalue()


def _readable(value: Any) -> Any:
    """Return a cell that is read as it was written: returns alone break rows, and with a NUL a table is no text."""
    return re.sub(r"[\x00-\x08\x0b-\x1f]", "\ufffd", re.sub(r"\r\n?", "\n", value)) if isinstance(value, str) else value


def _harmless(value: Any) -> Any:
    """Return a cell that a spreadsheet does not evaluate as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
