"""`reslab exercise`: for those who learn with the exercises, and for those who teach with them."""

import ast
import inspect
import random
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from reslab.commands import printing, typed
from reslab.commands.app import Flag, Seed, app
from reslab.errors import ExistsError, Language, MismatchError, MissingError, WrongValueError, worded
from reslab.progress import display

exercise = App(
    name="exercise",
    help="Exercises that grade themselves: `reslab exercise start 01`, fill the file in, `reslab exercise check 01`.",
)
app.command(exercise)

HERE = Path("exercises")
Tasks = Annotated[tuple[str, ...], Parameter(negative=())]


@exercise.command(name="list")
def list_exercises(*, lang: Language | None = None, dir: Path = HERE, json: Flag = False) -> None:
    """List the sheets and their tasks: points, minutes, difficulty, and your points so far.

    Parameters
    ----------
    lang
        ko or en (default: the language you started in, or else the system's).
    dir
        Directory of your answers.
    json
        Print one JSON list.
    """
    from dataclasses import asdict

    from reslab.exercises import sheets
    from reslab.exercises.record import Record

    chosen = language_for(lang, dir)
    record = Record(dir).read()
    tasks = [task for number in sheets.SHEETS for task in sheets.read(number, chosen).tasks.values()]
    if json:
        shown = {
            task.id: {"hints": len(task.hints), "difficulty": sheets.DIFFICULTIES["en"][task.difficulty]}
            for task in tasks
        }
        printing.print_json([asdict(task) | shown[task.id] | {"done": record["tasks"].get(task.id)} for task in tasks])
        return
    for number in sheets.SHEETS:
        sheet = sheets.read(number, chosen)
        print(f"{number}  {sheet.title}")
        rows = [
            (
                task.id,
                task.title,
                f"{record['tasks'].get(task.id, {}).get('best', 0)}/{task.points}",
                str(task.minutes),
                sheets.DIFFICULTIES[chosen][task.difficulty],
            )
            for task in sheet.tasks.values()
        ]
        columns = {"ko": ("", "과제", "점수", "분", ""), "en": ("", "task", "points", "min", "")}[chosen]
        printing.print_table(columns, rows, columns[:2])


@exercise.command
def start(sheet: str, /, *, notebook: Flag = False, dir: Path = HERE, lang: Language | None = None) -> None:
    """Write the file to fill in: the sheet's text and a stub for every function. An existing file is never changed.

    Parameters
    ----------
    sheet
        01 or 02.
    notebook
        Write a notebook (.ipynb) instead of a Python file.
    dir
        Where to write it.
    lang
        Language of the text: ko or en.
    """
    from reslab.exercises import notebooks, sheets
    from reslab.exercises.record import Record
    from reslab.files import write_new

    sheet, chosen = sheet.zfill(2), language_for(lang, dir)
    text = (notebooks if notebook else sheets).starter(sheet, chosen)
    typed.make_writable(dir, "--dir")
    for begun in _files_of(sheet, dir):
        if begun.exists():  # of both, one would be checked and the other perhaps filled in
            raise ExistsError(*worded("answers-exist", file=begun))
    file = _files_of(sheet, dir)[notebook]
    try:
        write_new(file, text)
    except FileExistsError as error:
        raise ExistsError(*worded("answers-exist", file=file)) from error
    Record(dir).set_language(chosen)
    done = {"ko": "채우고 나서", "en": "Fill it in, then"}[chosen]
    print(f"{file}\n{done}: reslab exercise check {sheet}{_there(dir)}")


@exercise.command
def check(
    sheet: str,
    /,
    *,
    task: Tasks = (),
    dir: Path = HERE,
    seed: Seed | None = None,
    lang: Language | None = None,
    json: Flag = False,
) -> int:
    """Grade your answers: points for each task, and the likely mistake where an answer is wrong.

    Your code runs in a separate process, limited in time, memory and output; a task that is stopped costs only its own
    points. The limits stop accidents, not malice: check only files you trust.

    Parameters
    ----------
    sheet
        01 or 02.
    task
        Only this task (1.3); repeatable.
    dir
        Directory of your answers.
    seed
        Seed of the inputs on which answers are checked (default: a new one each time).
    lang
        ko or en.
    json
        Print one JSON object.
    """
    from tempfile import TemporaryDirectory

    from reslab.exercises import checking, confinement, notebooks, sheets, telling
    from reslab.exercises.record import Record

    sheet, chosen = sheet.zfill(2), language_for(lang, dir)
    known = sheets.read(sheet, chosen).tasks
    for each in task:
        sheets.task(each, chosen)  # an unknown name is told
        if each not in known:
            raise MismatchError(*worded("of-another-sheet", task=each, sheet=sheet, other=sheets.sheet_of(each)))
    file, notebook = _files_of(sheet, dir)
    if not (file.is_file() or notebook.is_file()):
        raise MissingError(*worded("no-answers", file=file, sheet=sheet, there=_there(dir)))
    drawn = random.randrange(2**31) if seed is None else seed
    doing = {"ko": "채점", "en": "checking"}[chosen]
    with TemporaryDirectory(prefix="reslab-") as work, display() as progress:
        progress(doing, 0, 1)
        if not file.is_file():
            file = notebooks.as_python(notebook, Path(work) / file.name)
        results = checking.check(file, dict.fromkeys(task or known, drawn), beside=dir)
        progress(doing, 1, 1)
    Record(dir).add(results)
    points, of = sum(result.points for result in results), sum(result.of for result in results)
    if json:
        known_so_far = Record(dir).read()
        opened = {"hints": known_so_far["hints"], "solutions": known_so_far["solutions"]}
        tasks = [result.to_json() for result in results]
        printing.print_json(
            {
                "sheet": sheet,
                "seed": drawn,
                "points": points,
                "of": of,
                "limits": confinement.limits(),
                **opened,
                "tasks": tasks,
            }
        )
    else:
        records = [result.to_json() for result in results]
        for line in telling.stopped(records, chosen):
            print(line)
        for record in records:
            for line in telling.lines(record, known[record["task"]].title, chosen):
                print(line)
        print(
            {
                "ko": f"합계 {points}/{of}점 (입력 시드 {drawn})",
                "en": f"{points} of {of} points (inputs of seed {drawn})",
            }[chosen]
        )
    return 0 if points == of else 1


@exercise.command
def hint(task: str, /, *, dir: Path = HERE, lang: Language | None = None) -> None:
    """Show the next hint of a task. Your record notes it.

    Parameters
    ----------
    task
        Such as 1.3.
    dir
        Directory of your answers.
    lang
        ko or en.
    """
    from reslab.exercises import sheets
    from reslab.exercises.record import Record

    chosen = language_for(lang, dir)
    hints = sheets.task(task, chosen).hints
    index = Record(dir).open_hint(task, len(hints))
    for number, text in enumerate(hints[: index + 1], 1):
        print(f"[{number}/{len(hints)}] {text}\n")


@exercise.command
def solution(task: str, /, *, dir: Path = HERE, lang: Language | None = None) -> None:
    """Show the reference solution of a task, and a model answer to its question in words. That it was opened is noted
    in your record.

    Parameters
    ----------
    task
        Such as 1.3.
    dir
        Directory of your answers.
    lang
        ko or en.
    """
    from reslab.exercises import sheets, tasks
    from reslab.exercises.model_answers import model
    from reslab.exercises.record import Record

    chosen = language_for(lang, dir)
    text = sheets.task(task, chosen)
    Record(dir).open_solution(task)
    print(f"# {text.id} {text.title}\n")
    sources = [inspect.getsource(part.right) for part in tasks.find(task).parts]
    print("\n\n".join(sources if chosen == "en" else map(_without_docstring, sources)))
    print(f"# {sheets.HEADINGS[chosen]['words']}: {model(task, chosen).text}\n")
    print(f"# {sheets.HEADINGS[chosen]['reading']}: {' '.join(text.reading.split())}")


def _without_docstring(source: str) -> str:
    """Return a function's code without its docstring, which is in English."""
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    docstring = function.body[0]
    assert docstring.end_lineno is not None
    lines = source.splitlines(keepends=True)
    return "".join(lines[: docstring.lineno - 1] + lines[docstring.end_lineno :])


@exercise.command
def grade(
    directory: Path,
    /,
    *,
    jobs: int | None = None,
    sheet: Literal["01", "02"] | None = None,
    task: Tasks = (),
    seed: Seed = 0,
    hidden: Path | None = None,
    roster: Path | None = None,
    out: Path | None = None,
    export: Annotated[tuple[Literal["gradescope", "otter", "nbgrader"], ...], Parameter(negative=())] = (),
    lang: Language | None = None,
    json: Flag = False,
) -> None:
    """Grade a class: one row per student. Run again, it grades only what is new or changed.

    Submissions are DIRECTORY/STUDENT.py, .ipynb or .zip, or DIRECTORY/STUDENT/01_gradient_analysis.py, or a download
    from Moodle, Canvas or Blackboard, also as one zip file. Each student's inputs have their own seed. Beside the table
    it writes a row per function (.parts.csv), every detail (.jsonl), feedback/STUDENT.md to hand back, and the answers
    in words to mark (words.md, words.csv). Submissions run with your rights: grade strangers' files in a container
    (reslab/exercises/Dockerfile), or as a user who owns nothing.

    Parameters
    ----------
    directory
        The submissions: a directory or a zip file.
    jobs
        Files to grade in parallel (default: as many as there are cores, and memory for).
    sheet
        Only this sheet (default: all sheets that somebody began, and they count for everybody).
    task
        Only this task; repeatable.
    seed
        Seed from which the students' seeds are drawn: choose another for each class.
    hidden
        A Python file with tests of your own: functions `test_1_3_anything(answers, seed)` that raise where an answer is
        wrong, worth `test_1_3_anything.points` (1 if not set). They have to pass with the reference solutions.
    roster
        The list of the class, one student per line (or CSV): those who handed in nothing get a row, too.
    out
        The table (default: grades.csv beside the submissions, or in a directory NAME-grades beside a zip file).
    export
        gradescope (a results.json per student), otter or nbgrader (a CSV file); repeatable.
    lang
        ko or en: your language, and that of students whose files show none (default: the system's).
    json
        Print the rows as JSON.
    """
    from tempfile import TemporaryDirectory

    from reslab.executors.memory import PROCESS, cores, free_memory
    from reslab.exercises import classroom, handing_back, sheets
    from reslab.exercises import submissions as handing_in
    from reslab.exercises.confinement import MEMORY
    from reslab.exercises.tasks import names

    for each in task:
        sheets.task(each, "en")
    only = task
    if sheet is not None:
        only = tuple(name for name in task or names() if sheets.sheet_of(name) == sheet)
        if not only:
            raise MismatchError(*worded("task-of-another-sheet", tasks=", ".join(task), sheet=sheet))
    if jobs is not None and jobs < 1:
        raise WrongValueError(*worded("jobs", jobs=jobs))
    if hidden is not None and not hidden.is_file():
        raise MissingError(*worded("no-hidden-tests", file=hidden))
    listed = handing_in.roster(roster) if roster is not None else []
    chosen = typed.language(lang)
    # beside a zip file there may be another class's
    table = out or (directory if directory.is_dir() else directory.with_name(f"{directory.stem}-grades")) / "grades.csv"
    details = table.with_suffix(".jsonl")
    if table.suffix == details.suffix or table.name in handing_in.WRITTEN - {"grades.csv"}:
        raise WrongValueError(*worded("no-name-of-grades", table=table))
    if table.exists() and not details.exists() and not handing_in.is_grades(table):
        raise ExistsError(*worded("exists", path=table))
    written = [table, table.with_suffix(".parts.csv"), details]
    if table.parent.is_dir() and all(each in written or handing_in.is_written(each) for each in table.parent.iterdir()):
        written.append(table.parent)
    with TemporaryDirectory(prefix="reslab-") as work, display() as progress:
        handed = handing_in.submissions(directory, Path(work), only, [*filter(None, [roster, hidden]), *written])
        typed.make_writable(table.parent)
        students = classroom.grade(
            handed,
            details,
            only=only,
            seed=seed,
            jobs=jobs or max(1, min(cores(), int((free_memory() or sys.maxsize) / (MEMORY + PROCESS)))),
            hidden=hidden,
            roster=listed,
            language=chosen,
            progress=progress,
        )
        handing_back.write(students, table, export, chosen)
    earned = classroom.who_earned(students)
    most = max(earned, key=earned.__getitem__, default="")
    for number in (each for each, count in earned.items() if 2 * count < earned[most]):
        printing.note(worded("few-began-a-sheet", sheet=number, count=earned[number], other=most), chosen)
    rows = [student.row(chosen) for student in students]
    if json:
        printing.print_json(rows)
        return
    columns = ("student", "points", "of", "in words", "remarks")
    printing.print_table(columns, [tuple(str(row[column]) for column in columns) for row in rows])
    print(table)


def _files_of(sheet: str, directory: Path) -> tuple[Path, Path]:
    """Return the Python file and the notebook that a learner may fill in."""
    from reslab.exercises.sheets import SHEETS

    return directory / f"{SHEETS[sheet]}.py", directory / f"{SHEETS[sheet]}.ipynb"


def _there(directory: Path) -> str:
    """Return what a command needs to find this directory."""
    return "" if directory == HERE else f" --dir {shlex.quote(str(directory))}"


def language_for(given: Language | None, directory: Path) -> Language:
    """Return the language to speak: the one given, else the one begun in, else the system's if it is Korean, else
    English.
    """
    from reslab.exercises.record import Record

    begun = Record(directory).read()["language"]
    return typed.language(given or begun)
