"""Grading a class: whatever is handed in has its row, and what a teacher takes away."""

import csv
import io
import json
import os
import re
import shlex
import sys
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers import assert_refused, refused, reslab_here
from helpers_exercises import RIGHT, solved

from reslab.errors import DamagedError, FailedError, MissingError, UserError, WrongValueError
from reslab.exercises import (
    checking,
    classroom,
    confinement,
    handing_back,
    notebooks,
    noticing,
    sheets,
    submissions,
    tasks,
    unpacking,
)
from reslab.exercises.classroom import Student
from reslab.exercises.confinement import Host
from reslab.exercises.model_answers import model
from reslab.exercises.submissions import Handed
from reslab.exercises.unpacking import Unpacking

WRONG = {"numerical_jacobian": "def numerical_jacobian(f, x, step):\n    return x\n"}
NBGRADER = ["assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email"]
NBGRADER += ["raw_score", "late_submission_penalty", "score", "max_score"]
OTTER = ["total_points_earned", "percent_correct", "grading_status"]
"""The columns that nbgrader 0.9.6 and otter-grader 7.0.0 write themselves; otter's come after its questions."""


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def notebook(*cells: str) -> str:
    code = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    return json.dumps({"cells": [{"cell_type": "markdown", "source": "# 1"}, *code], "nbformat": 4})


def zipped(**files: str | bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def table(path: Path) -> list[dict[str, str]]:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(
        "\ufeffnumber,"
    )  # so that Excel opens it as UTF-8, and whoever does not know this loses nothing
    return list(csv.DictReader(text.splitlines()))


def handed_in(folder: Path, only: tuple[str, ...] = ()) -> Handed:
    return submissions.submissions(folder, folder.parent / "work", only)


def test_a_class_is_graded_and_only_what_changed_again(tmp_path: Path) -> None:
    folder = tmp_path / "class"
    write(folder / "김하나.py", solved("01", "ko") + "\nIN_WORDS_1_2 = '아니다'\n")
    write(folder / "=cmd" / "01_gradient_analysis.py", solved("01", changes=WRONG))
    write(folder / "=cmd" / "progress.json", '{"hints": {"1.2": 2}, "solutions": ["1.2"], "language": "ko"}')
    write(folder / "notes.py", "print('not an answer')")
    hidden = write(tmp_path / "hidden.py", "def test_1_2_x(answers, seed):\n    pass\n\ntest_1_2_x.points = 5\n")
    roster = write(tmp_path / "roster.csv", "이름,학번\n이두리,2\n김하나,1\n".encode("cp949"))
    told: list[tuple[str, int, int]] = []
    out = tmp_path / "grades" / "grades.csv"

    def graded() -> list[Student]:
        students = classroom.grade(
            handed_in(folder, ("1.2",)),
            out.with_suffix(".jsonl"),
            only=["1.2"],
            jobs=1,
            hidden=hidden,
            roster=submissions.roster(roster),
            language="ko",
            progress=lambda *step: told.append(step),
        )
        handing_back.write(students, out, handing_back.EXPORTS, "ko", lambda *step: told.append(step))
        return students

    out.parent.mkdir()
    rows = [student.row() for student in graded()]
    assert [(row["student"], row["points"], row["of"]) for row in rows] == [
        ("이두리 2", 0, 15),
        ("김하나", 15, 15),
        ("notes", 0, 15),
        ("=cmd", 5, 15),
    ]
    assert rows[0]["remarks"] == "nothing handed in"
    assert ("채점", 2, 2) in told and told[-1] == ("피드백", 4, 4)
    assert (rows[3]["hints"], rows[3]["solutions"], rows[1]["hints"]) == (2, "1.2", "")
    (first, second) = (table(out)[1], table(out)[3])
    assert (first["1.2"], first["1.2 numerical_jacobian"], first["1.2 test_1_2_x"]) == ("15", "10", "5")
    assert second["student"] == "'=cmd" and first["percent"] == "100.0"
    parts = table(out.with_suffix(".parts.csv"))
    assert {(row["student"], row["function"]): row["status"] for row in parts}["김하나", "test_1_2_x"] == "right"
    assert "과제" not in (out.parent / "feedback" / "김하나.md").read_text(encoding="utf-8")
    assert "기대한 값" in (out.parent / "feedback" / "=cmd.md").read_text(encoding="utf-8")
    sheet = (out.parent / "words.md").read_text(encoding="utf-8")
    assert "    아니다" in sheet and model("1.2", "ko").rubric[0] in sheet
    assert [row["answer"] for row in table(out.parent / "words.csv")] == ["", "아니다", "", ""]
    scope = json.loads((out.parent / "gradescope" / "김하나.json").read_text(encoding="utf-8"))
    assert scope["score"] == 15 and [test["max_score"] for test in scope["tests"]] == [10, 5]
    nbgrader, otter = (pd.read_csv(out.parent / f"{name}.csv") for name in ("nbgrader", "otter"))
    assert list(nbgrader) == NBGRADER and list(nbgrader["max_score"]) == [15] * 4
    assert list(otter) == ["file", "1.2", *OTTER] and next(iter(otter["file"])) == "points-per-question"
    assert list(otter["1.2"]) == [15, 0, 15, 0, 5] and list(otter["percent_correct"])[2] == 1.0
    assert list(otter["grading_status"])[:3] == ["--", "낸 것이 없다", "Completed"]
    details = out.with_suffix(".jsonl")
    details.write_text(details.read_text(encoding="utf-8") + '{"torn', encoding="utf-8")
    told.clear()
    assert [student.row() for student in graded()] == rows and {step[0] for step in told} == {"피드백"}
    assert classroom.seed_of("a", "1.2", 0) != classroom.seed_of("b", "1.2", 0) == classroom.seed_of("b", "1.2", 0)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("def (", DamagedError, "syntax"),
        ("def test_1_1(answers, seed):\n    assert False, 'mine'\n", FailedError, "mine"),
    ],
)
def test_a_broken_hidden_test_is_the_teachers(host: Host, tmp_path: Path, text: str, kind: Any, value: str) -> None:
    with refused(kind, value):
        classroom.hidden_points(write(tmp_path / "hidden.py", text), 0, host)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes among its files")
def test_everybody_who_handed_something_in_has_a_row(tmp_path: Path) -> None:
    text = sheets.starter("01", "ko")
    read = {
        "plain.py": text.encode(),
        "bom.py": text.encode("utf-8-sig"),
        "crlf.py": text.replace("\n", "\r\n").encode(),
        "declared.py": f"# -*- coding: cp949 -*-\n{text}".encode("cp949", errors="replace"),
        "undeclared.py": text.encode("cp949", errors="replace"),
        "utf16.py": text.encode("utf-16"),
        "torn.py": f"{text}\ndef broken(:\n".encode(),
        "async.py": text.replace("\ndef ", "\nasync def ").encode(),
        "CAPITALS.PY": text.encode(),
        "text.txt": text.encode(),
        "hidden.py.txt": text.encode(),
        "bare": text.encode(),
        "words/01_gradient_analysis.py.txt": text.encode(),
        "lambdas.py": b"numerical_jacobian = lambda f, x, step: x\n",
        "both/deep/answers.py": f"{text}\n{sheets.starter('02', 'ko')}".encode(),
        "both/second.py": text.encode(),
        "book.ipynb": notebook("%matplotlib inline\n!pip install reslab", text).encode(),
        "zip.zip": zipped(**{"../deep/answers.py": text, "__MACOSX/._answers.py": "x", "big.bin": "0"}),
        "inner/all.zip": zipped(**{"01.py": text}),
    }
    unread = {
        "empty.py": "no-function",
        "nothing/notes.txt": "not-answers",
        "torn.ipynb": "unreadable",
        "rotten.zip": "unreadable",
        "pipe.py": "not-regular",
        "packed.rar": "not-answers",
        "report.pdf": "not-answers",
    }
    folder = tmp_path / "class"
    for name in (*read, *unread, ".DS_Store", "__MACOSX/plain.py", "__pycache__/plain.py"):
        write(folder / name, read.get(name, b""))
    (folder / "pipe.py").unlink()
    os.mkfifo(folder / "pipe.py")
    (folder / "nothing" / "loop").symlink_to(folder)
    files = handed_in(folder, ("1.2", "2.1")).files
    found = {each.student: each.tasks for each in files if each.name != "second.py" and each.tasks}
    assert set(found) == {name.split("/")[0].partition(".")[0] for name in read}
    assert found["both"] == ("1.2", "2.1") and found["utf16"] == ("1.2",)
    problems = [(each.student, each.problem.name) for each in files if each.problem is not None]
    assert set(problems) == {(name.split("/")[0].partition(".")[0], problem) for name, problem in unread.items()}
    empty = Handed([each for each in files if not each.tasks], {})
    students = classroom.grade(empty, tmp_path / "grades.jsonl", only=["1.2"])
    assert [(student.points, sum(student.of.values())) for student in students] == [(0, 10)] * len(students)
    assert all(student.problems for student in students)


def students_of(directory: Path, *aside: Path) -> dict[str, list[str]]:
    """Return the files of each student that have tasks."""
    found: dict[str, list[str]] = {}
    for each in submissions.submissions(directory, directory.parent / "work", ("1.1",), aside).files:
        found.setdefault(each.student, []).extend([each.name] if each.tasks else [])
    return found


def test_only_what_grading_writes_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "class"
    for name in ("kim.py", "gradesmith.py", "words.md/a.py", "feedback/answers.py", "feedback/feedback/b.py"):
        write(folder / name, RIGHT)
    write(folder / "otter.csv", b"")
    roster = write(folder / "class.csv", "kim\n")
    found = students_of(folder, roster)
    assert found == {
        "kim": ["kim.py"],
        "gradesmith": ["gradesmith.py"],
        "words.md": ["a.py"],
        "feedback": ["answers.py", "feedback/b.py"],
    }
    for name in ("grades.csv", "grades.parts.csv", "grades.jsonl", "words.csv", "nbgrader.csv", "gradescope/kim.json"):
        write(folder / name, b"")
    write(folder / "feedback" / "kim.md", b"")
    assert students_of(folder, roster) == found
    (folder / "feedback" / "answers.py").unlink()
    (folder / "feedback" / "feedback" / "b.py").unlink()
    (folder / "feedback" / "feedback").rmdir()
    assert "feedback" not in students_of(folder, roster)


@pytest.mark.parametrize(
    ("names", "students"),
    [
        (("all/a.py", "all/b.py"), ["a", "b"]),
        (("all/kim/01_gradient_analysis.py",), ["kim"]),
        (("all/1/kim/a.py", "all/1/lee/a.py", "__MACOSX/x"), ["kim", "lee"]),
        (("kim/01_gradient_analysis.py", "kim/02_ablation_study.py"), ["kim"]),
        (("kim/a.py",), ["kim"]),
        (("kim_7_assignsubmission_file_/a.py", "kim_7_assignsubmission_file_/b.py"), ["kim_7"]),
        (("all/kim_7_assignsubmission_file_/a.py",), ["kim_7"]),
        (
            tuple(f"{n % 2}반/{n}_{n}2_assignsubmission_file_/a.py" for n in range(1, 5)),
            ["2_22", "4_42", "1_12", "3_32"],
        ),
    ],
)
def test_a_class_may_be_in_a_directory_of_its_own(tmp_path: Path, names: tuple[str, ...], students: list[str]) -> None:
    file = write(tmp_path / "class.zip", zipped(**dict.fromkeys(names, RIGHT)))
    assert list(students_of(file)) == students


def test_zip_files_within_zip_files_are_extracted_within_limits(tmp_path: Path) -> None:
    folder = tmp_path / "class"
    content = zipped(**{"answers.py": RIGHT})
    for depth in range(1, 5):
        write(folder / f"of{depth}.zip", content)
        write(folder / f"in{depth}" / "all.zip", content)
        content = zipped(**{"inner.zip": content})
    inner = "inner.zip/answers.py"
    assert {name: files for name, files in students_of(folder).items() if name.startswith("of")} == {
        "of1": ["answers.py"],
        "of2": [inner],
        "of3": [f"inner.zip/{inner}"],
        "of4": [],
    }
    assert [len(files) for name, files in students_of(folder).items() if name.startswith("in")] == [1, 1, 1, 0]
    handed = Unpacking(tmp_path / "few", files=1)
    assert [name for name, _ in handed.found(folder / "of2.zip", "")] == []
    assert [problem.name for problem in handed.problems] == ["zip-too-large"]
    small = Unpacking(tmp_path / "small", size=len(RIGHT) - 1)
    assert [*small.found(folder / "of1.zip", "")] == [] and small.problems[0].name == "zip-too-large"


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("%matplotlib inline\nx = 1", "pass\nx = 1"),
        ("%%bash\nls\nif [ 1 ]; then", "pass\n\n"),
        ("%%writefile lib.py\nx = 1", "pass\n"),
        ("\n%%time\nx = 1", "\npass\nx = 1"),
        ("torch.randn?\n?print\nx??", "pass\npass\npass"),
        ("files = !ls\nx = %timeit -o f()", "files = []\nx = []"),
        ("y = (7\n     % 3)", "y = (7\n     % 3)"),
        ("y = 7 \\\n    % 3", "y = 7 \\\n    % 3"),
        ('t = """\n!not a command\n%nor this\n"""', 't = """\n!not a command\n%nor this\n"""'),
        ("!pip install a \\\n    b\nx = 1", "pass\n\nx = 1"),
        ("def f():\n    !ls\n    return 1", "def f():\n    pass\n    return 1"),
        ('!echo "don\'t"\n%cd ..\nx %= 3\ny = x != 1', "pass\npass\nx %= 3\ny = x != 1"),
        ("pip install torch\ncd ..\nls\n  ls -l", "pass\npass\npass\n  pass"),
        ("cp = 1\ncat -= 1\nls.sort()\nrm[0] = cat", "cp = 1\ncat -= 1\nls.sort()\nrm[0] = cat"),
    ],
)
def test_of_a_notebook_only_what_ipython_alone_understands_is_dropped(cell: str, code: str) -> None:
    assert notebooks.python(cell) == code


def test_a_notebook_may_import_from_the_future_in_any_cell() -> None:
    text = notebooks.code(notebook("%matplotlib inline\nx = 1", "from __future__ import annotations\ny = 2").encode())
    compile(text, "book", "exec")
    assert text.splitlines() == ["from __future__ import annotations", "pass", "x = 1", noticing.CELL.strip(), "y = 2"]


@pytest.mark.parametrize(
    ("text", "defined"),
    [
        ("class branch_target:\n    pass", True),
        ("from branch_lib import branch_target", True),
        ("from lib import (a,\n    b as branch_target)", True),
        ("branch_target, other = 1, 2", True),
        ("if True:\n    branch_target = print", True),
        ("class branch_target:\n    def f(:", True),
        ("def other():\n    from lib import branch_target", False),
        ("branch_target(1)", False),
    ],
)
def test_a_function_may_be_defined_in_whatever_way(text: str, defined: bool) -> None:
    assert noticing.tasks_of(text, ["1.1"]) == (("1.1",) if defined else ())


def test_a_name_that_another_sheet_asks_for_too_begins_it_only_as_a_function() -> None:
    text = "def branch_target(h):\n    return h\n"
    for line in ("for depth in (20, 56): print(depth)", "run = 3", "class Mine:\n    def turn(self): pass"):
        assert set(noticing.tasks_of(text + line, ["1.1", "2.1"])) == {"1.1"}, line
    for line in ("def deeper(w, index): return w", "deeper = lambda w, index: w", "from mine import deeper"):
        assert set(noticing.tasks_of(text + line, ["1.1", "2.1"])) == {"1.1", "2.1"}, line


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import sys\nsys._getframe(1)", "sys._getframe"),
        ("import sys\ngetattr(sys, '_getframe')(1)", "_getframe"),
        ("from sys import modules", "sys.modules"),
        ("m = __import__('reslab.' + 'exercises')", "__import__, reslab."),
        ("import importlib.util", "importlib.util"),
        ("import os\nopen('../log.jsonl', 'a')\nos._exit(0)", "../log.jsonl, os._exit"),
        ("from torchvision import models\ndef stages(size):\n    return models", "torchvision.models"),
        ("def stages(size):\n    return reslab.build('resnet50')", "build in stages"),
        ("from torchvision import models\ndef my_network():\n    return models", ""),
        ("network.eval()\nnetwork.modules()\nmodule.gc = 1", ""),
    ],
)
def test_what_a_teacher_should_look_at_is_named(text: str, names: str) -> None:
    assert [dict(each.values)["names"] for each in noticing.remarks_on(text, "a.py") if each.name == "uses"] == (
        [names] if names else []
    )


@pytest.mark.parametrize("number", sheets.SHEETS)
def test_right_answers_give_a_teacher_nothing_to_look_at(number: str) -> None:
    assert not noticing.remarks_on(solved(number), "a.py")


@pytest.mark.parametrize(
    ("name", "student", "also"),
    [
        ("홍 길동_48211_assignsubmission_file_01_gradient_analysis.py", "홍 길동_48211", "홍 길동"),
        ("honggildong_LATE_4411_98765_01_gradient_analysis-1.py", "honggildong_4411", "honggildong"),
        ("honggildong_4411_98765_01_gradient_analysis.py", "honggildong_4411", "4411"),
        ("Lab 1_hgd23_attempt_2026-11-29-12-00-01_answers.py", "hgd23", "hgd23"),
        ("김하나_2023.py", "김하나_2023", "김하나_2023"),
        ("1_2_03_홍길동.py", "1_2_03_홍길동", "1_2_03_홍길동"),
        # and none
        ("HW_1_20231234_김하나.py", "HW_1_20231234_김하나", "HW_1_20231234_김하나"),
        ("task_1_3_kim.py", "task_1_3_kim", "task_1_3_kim"),
    ],
)
def test_names_that_platforms_give_are_understood(tmp_path: Path, name: str, student: str, also: str) -> None:
    write(tmp_path / "class" / name, RIGHT)
    (each,) = handed_in(tmp_path / "class", ("1.1",)).files
    assert (each.student, each.tasks) == (student, ("1.1",)) and also in each.aliases


def test_a_number_of_homework_and_one_of_a_student_are_no_students_of_canvas(tmp_path: Path) -> None:
    for name in ("20231234_김하나", "20231235_이두리"):
        write(tmp_path / "class" / f"HW_10_{name}.py", RIGHT)
    roster = write(tmp_path / "roster.csv", "이름,학번\n김하나,20231234\n이두리,20231235\n")
    handed = handed_in(tmp_path / "class", ("1.1",))
    given = {"only": ("1.1",), "roster": submissions.roster(roster)}
    graded = classroom.grade(handed, tmp_path / "g.jsonl", **given)  # type: ignore[arg-type]  # each of its own type
    assert [(each.name, each.points) for each in graded] == [("HW_10_20231234_김하나", 3), ("HW_10_20231235_이두리", 3)]
    write(tmp_path / "canvas" / "kim_45_901_a.py", RIGHT)
    write(tmp_path / "canvas" / "kim_45_902_b.py", RIGHT)
    write(tmp_path / "canvas" / "lee_46_903_a.py", RIGHT)
    for plot in range(7):
        write(tmp_path / "canvas" / f"lee_46_91{plot}_plot{plot}.png", b"")
    students = {each.student for each in handed_in(tmp_path / "canvas").files}
    assert students == {"kim_45", "lee_46"}


def test_plots_with_names_as_of_a_platform_make_no_class_of_a_students_directory(tmp_path: Path) -> None:
    for student in ("kim", "lee"):
        write(tmp_path / "class" / student / "01_gradient_analysis.py", RIGHT)
        for plot in ("resnet_20_10_loss.csv", "plain_20_10_loss.csv"):
            write(tmp_path / "class" / student / plot, b"")
    assert [each.student for each in handed_in(tmp_path / "class").files] == ["kim", "lee"]
    write(tmp_path / "groups" / "A" / "kim_1234_assignsubmission_file_" / "a.py", RIGHT)
    write(tmp_path / "groups" / "B" / "lee_1235_assignsubmission_file_" / "a.py", RIGHT)  # a group of one
    assert [each.student for each in handed_in(tmp_path / "groups").files] == ["kim_1234", "lee_1235"]


def test_others_code_beside_answers_is_not_graded(tmp_path: Path) -> None:
    for place in ("reslab/exercises/tasks/task_1_1.py", "env/lib/site-packages/answers.py", "other/bin/a.py"):
        write(tmp_path / "class" / "kim" / place, RIGHT)
    write(tmp_path / "class" / "kim" / "reslab" / "exercises" / "grading.py", "")
    write(tmp_path / "class" / "kim" / "other" / "pyvenv.cfg", "")
    for student in ("kim", "lee"):
        write(tmp_path / "class" / student / "mine.py", RIGHT)
    assert [each.name for each in handed_in(tmp_path / "class").files] == ["mine.py"] * 2


def test_a_helper_with_a_name_of_the_other_sheet_does_not_begin_it(tmp_path: Path) -> None:
    write(tmp_path / "class" / "kim.py", sheets.starter("01", "en") + "\ndef run():\n    pass\n")
    write(tmp_path / "class" / "lee.py", RIGHT)
    (kim, lee) = classroom.grade(
        handed_in(tmp_path / "class", ("1.1", "2.1")), tmp_path / "g.jsonl", only=("1.1", "2.1")
    )
    assert set(kim.of) == set(lee.of) == {"1.1"}
    assert noticing.begun_in(solved("01") + solved("02")) == {"01", "02"}


def test_the_sheet_that_is_not_graded_is_not_called_empty(tmp_path: Path) -> None:
    write(tmp_path / "class" / "kim" / "01.py", RIGHT)
    write(tmp_path / "class" / "kim" / "02.py", sheets.starter("02", "en"))
    write(tmp_path / "class" / "kim" / "notes.py", "print()")
    problems = {each.name: each.problem and each.problem.name for each in handed_in(tmp_path / "class", ("1.1",)).files}
    assert problems == {"01.py": None, "02.py": "not-asked", "notes.py": "no-function"}


def test_a_member_of_the_class_that_cannot_be_extracted_costs_its_student_alone(tmp_path: Path) -> None:
    names = ("class/kim_12_assignsubmission_file_/a.py", f"class/lee_13_assignsubmission_file_/{'가' * 100}.py")
    files = handed_in(write(tmp_path / "class.zip", zipped(**dict.fromkeys(names, RIGHT))), ("1.1",)).files
    assert {each.student: each.problem and each.problem.name for each in files if each.tasks or each.problem} == {
        "kim_12": None,
        "lee_13": "unreadable",
    }


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_words_in_a_file_that_does_not_run_are_kept(encoding: str, tmp_path: Path) -> None:
    text = f'{RIGHT}def torn(:\n\nIN_WORDS_1_1 = """\n뺄셈이 "쉽다".\n"""\nIN_WORDS_1_2 = """\n"""\n'
    file = write(tmp_path / "kim.py", text.encode(encoding))
    assert checking.words(file, "1.1").strip() == '뺄셈이 "쉽다".' and not checking.words(file, "1.2").strip()


def test_a_cell_that_fails_costs_no_other_one(tmp_path: Path) -> None:
    """As in Jupyter; and one that is no Python costs neither the others nor the words."""
    words = "IN_WORDS_1_1 = 'yes'"
    cells = ("from google.colab import drive", "def torn(:", "from __future__ import annotations", RIGHT, words)
    write(tmp_path / "class" / "kim.ipynb", notebook(*cells))
    (kim,) = classroom.grade(handed_in(tmp_path / "class", ("1.1",)), tmp_path / "g.jsonl", only=("1.1",))
    result = kim.results["1.1"]
    assert result["points"] == 3 and result["in_words"]
    printed = " ".join(part["printed"] for part in result["parts"])  # of the function that is missing
    assert "cell 1: ModuleNotFoundError" in printed and "cell 2: SyntaxError" in printed
    write(tmp_path / "class" / "kim.ipynb", notebook("1 / 0", "x = 1"))
    (kim,) = classroom.grade(handed_in(tmp_path / "class", ("1.1",)), tmp_path / "g.jsonl", only=("1.1",))
    assert kim.points == 0


def test_lines_of_a_notebook_are_those_of_its_cells(tmp_path: Path) -> None:
    wrong = "\ndef branch_target(h):\n    return h(\n        1 / 0)\n"
    write(tmp_path / "class" / "kim.ipynb", notebook("x = 1\n\n", wrong, "y = 2"))
    (kim,) = classroom.grade(handed_in(tmp_path / "class", ("1.1",)), tmp_path / "g.jsonl", only=("1.1",))
    handing_back.write([kim], tmp_path / "grades.csv")
    assert "cell 2, line 4" in (tmp_path / "feedback" / "kim.md").read_text(encoding="utf-8")
    first = table(tmp_path / "grades.parts.csv")[0]
    assert (first["cell"], first["line"]) == ("2", "4")


def test_a_notebook_with_pictures_is_read_and_one_with_so_much_code_is_not(tmp_path: Path) -> None:
    picture = {"cell_type": "markdown", "source": "", "attachments": {"a.png": {"image/png": "A" * unpacking.MOST}}}
    book = json.loads(notebook(RIGHT))
    pictured = json.dumps(book | {"cells": [picture, *book["cells"]]})
    write(tmp_path / "class" / "kim.ipynb", pictured)
    write(tmp_path / "class" / "lee.zip", zipped(**{"a.ipynb": pictured}))
    write(tmp_path / "class" / "park.ipynb", notebook(RIGHT, "#" * unpacking.MOST))
    assert {each.student: each.tasks for each in handed_in(tmp_path / "class", ("1.1",)).files} == {
        "kim": ("1.1",),
        "lee": ("1.1",),
        "park": (),
    }


def test_a_student_may_hand_in_modules_beside_the_answers(tmp_path: Path) -> None:
    folder = tmp_path / "class"
    answers = "from parts import signs\nbranch_target = signs.target\n"
    signs = RIGHT.replace("branch_target", "target")
    files = {"01_gradient_analysis.py": answers, "parts/__init__.py": "", "parts/signs.py": signs, "notes.py": ""}
    for name, content in files.items():
        write(folder / "kim" / name, content)
    write(folder / "lee.zip", zipped(**files))
    write(folder / "parts.py", "1 / 0\n")  # another's

    def graded() -> dict[str, tuple[int, str]]:
        students = classroom.grade(handed_in(folder, ("1.1",)), tmp_path / "g.jsonl", only=("1.1",))
        return {each.name: (each.points, each.remarked("en")) for each in students}

    assert graded() == {
        "kim": (3, "notes.py: no function of the exercises"),
        "lee": (3, "notes.py: no function of the exercises"),
        "parts": (0, "parts.py: no function of the exercises"),
    }
    write(folder / "kim" / "parts" / "signs.py", signs.replace("- x", "+ x") + "import reslab.exercises.solutions\n")
    assert graded()["kim"][0] == 0  # graded again
    assert "parts/signs.py: imports the solutions" in graded()["kim"][1]


@pytest.mark.parametrize(
    "form",
    [
        *("kim_12345_67{}_{}", "kim_LATE_12345_67{}_{}"),
        *("kim_12345_assignsubmission_file_{1}", "Lab 1_kim_attempt_2026-11-28-10-00-00_{1}"),
    ],
)
def test_modules_are_found_where_a_platform_gives_all_files_in_one_directory(form: str, tmp_path: Path) -> None:
    folder = tmp_path / "class"
    files = {"01_gradient_analysis-1.py": "from signs import target\nbranch_target = target\n"}
    files |= {"signs-2.py": RIGHT.replace("branch_target", "target"), "notes.py": ""}
    for number, (name, content) in enumerate(files.items()):
        write(folder / form.format(number, name), content)
    write(folder / form.format(5, "a.py").replace("kim", "lee").replace("12345", "54321"), RIGHT)
    students = classroom.grade(handed_in(folder, ("1.1",)), tmp_path / "g.jsonl", only=("1.1",))
    kim, lee = students
    assert kim.points == lee.points == 3
    assert kim.remarked("en") == f"{form.format(2, 'notes.py')}: no function of the exercises"


@pytest.mark.parametrize("name", ["20231234_김하나", "김하나_20231234", "김하나-20231234"])
def test_a_number_and_a_name_joined_are_found_on_the_roster(name: str, tmp_path: Path) -> None:
    write(tmp_path / "class" / f"{name}.py", RIGHT)
    roster = write(tmp_path / "roster.csv", "이름,학번\n김하나,20231234\n")
    graded = classroom.grade(
        handed_in(tmp_path / "class", ("1.1",)), tmp_path / "g.jsonl", only=("1.1",), roster=submissions.roster(roster)
    )
    assert len(graded) == 1 and not graded[0].problems


def test_a_file_in_a_coding_that_is_none_of_text_stops_nothing(tmp_path: Path) -> None:
    write(tmp_path / "class" / "odd.py", "# coding: hex\n" + RIGHT)
    (each,) = handed_in(tmp_path / "class", ("1.1",)).files
    assert each.tasks == ("1.1",) or each.problem is not None


@pytest.mark.parametrize("text", ["Größe", "créée", "’”—"])
def test_a_table_of_a_western_excel_has_no_syllables(text: str, tmp_path: Path) -> None:
    (row,) = submissions.read_table(write(tmp_path / "words.csv", f"student,answer\nx,{text}\n".encode("cp1252")))
    assert row["answer"] == text


def test_cells_that_excel_leaves_out_are_empty(tmp_path: Path) -> None:
    rows = submissions.read_table(write(tmp_path / "words.csv", "student,mark,note\nkim,2,gut\nlee,1\n"))
    assert [row["note"] for row in rows] == ["gut", ""]
    with pytest.raises(ValueError, match="not the table"):
        submissions.read_table(write(tmp_path / "words.csv", "student,mark\nkim,2,3\n"))


def test_a_platforms_zip_of_a_class_is_read_with_names_of_a_korean_windows(tmp_path: Path) -> None:
    name = "홍길동_7_assignsubmission_file_/답.py".encode("cp949").decode("cp437")
    file = write(tmp_path / "all.zip", zipped(**{name: RIGHT}))
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist()  # zipfile itself marks such a name as UTF-8
    member = zipfile.ZipInfo(name)
    member.flag_bits = 0
    assert unpacking.name_of(member) == "홍길동_7_assignsubmission_file_/답.py"
    (each,) = submissions.submissions(file, tmp_path / "work").files
    assert each.tasks[0] == "1.1"


def test_a_roster_is_a_list_or_a_table_and_is_told_when_it_is_neither(tmp_path: Path) -> None:
    assert submissions.roster(write(tmp_path / "a.txt", "Kim, Hana\n\nLee\n")) == [("Kim", "Hana"), ("Lee",)]
    assert submissions.roster(write(tmp_path / "b.csv", "\ufeffname,id\nKim,1\n")) == [("Kim", "1")]
    assert submissions.roster(write(tmp_path / "c.csv", "이름;학번\r김;1\r이;2\r")) == [("김", "1"), ("이", "2")]
    assert submissions.roster(write(tmp_path / "d.txt", "이름\t학번\n김\t1\n".encode("utf-16"))) == [("김", "1")]
    moodle = write(tmp_path / "e.csv", "First name,Last name,ID number,Email address\nHana,Kim,1,h@x\n")
    assert submissions.roster(moodle) == [("Hana", "Kim", "1", "h@x")]
    students = "Jane Doe,jane@student.kit.edu\nJim,jim@student.kit.edu\n"
    assert len(submissions.roster(write(tmp_path / "g.csv", students))) == 2
    assert submissions.roster(
        write(tmp_path / "h.csv", "Nachname;Vorname;Matrikelnummer\nMüller;Jörg;7\n".encode("cp1252"))
    ) == [("Müller", "Jörg", "7")]
    assert submissions.roster(write(tmp_path / "i.csv", "Name, Vorname;Nummer\nMüller, Jörg;7\n")) == [
        ("Müller, Jörg", "7")
    ]
    with refused(WrongValueError, "f.xlsx", "CSV"):
        submissions.roster(write(tmp_path / "f.xlsx", b"PK\x03\x04 a workbook"))
    with refused(MissingError, "nowhere.csv"):
        submissions.roster(tmp_path / "nowhere.csv")
    with refused(MissingError, "empty.csv"):
        submissions.roster(write(tmp_path / "empty.csv", "name\n"))


def test_first_and_last_names_in_two_columns_are_one_name(tmp_path: Path) -> None:
    folder = tmp_path / "class"
    for name in ("Hana Kim", "Doe Jane", "이 슬"):
        write(folder / f"{name}_123_assignsubmission_file_" / "a.py", RIGHT)
    handed = handed_in(folder, ("1.1",))
    listed = [("Hana", "Kim", "1", "h@x"), ("Jane", "Doe", "2", "j@x"), ("이", "슬", "3"), ("Lee, Sun", "4")]
    students = classroom.grade(handed, tmp_path / "grades.jsonl", only=("1.1",), roster=listed)
    assert [bool(student.points) for student in students] == [True, True, True, False]
    assert not any(remark.name == "not-on-the-roster" for student in students for remark in student.remarks)


def test_two_students_of_one_name_are_told_apart_by_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "class"
    for number in ("222", "111"):
        write(folder / f"김민준_{number}_assignsubmission_file_a.py", RIGHT)
    handed = handed_in(folder, ("1.1",))
    listed = [("김민준", "111"), ("김민준", "222"), ("김민준", "333"), ("김민준", "222")]
    students = classroom.grade(handed, tmp_path / "grades.jsonl", only=("1.1",), roster=listed)
    assert [student.name for student in students] == ["김민준_111", "김민준_222", "김민준 333"]
    assert [bool(student.files) for student in students] == [True, True, False]


def test_a_number_that_a_platform_gave_is_not_one_in_the_class(tmp_path: Path) -> None:
    folder = tmp_path / "class"
    for name, number in (("Aa Lee", 1), ("Bob Park", 7), ("Zoe Hill", 3)):
        write(folder / f"{name}_{number}_assignsubmission_file_a.py", RIGHT)
    listed = [("1", "Bob Park"), ("2", "Cy Kim"), ("3", "Di Roe"), ("4", "Aa Lee")]
    handed = handed_in(folder, ("1.1",))
    students = classroom.grade(handed, tmp_path / "grades.jsonl", only=("1.1",), roster=listed)
    assert [student.name for student in students] == ["Bob Park_7", "Cy Kim", "Di Roe", "Aa Lee_1", "Zoe Hill_3"]
    write(tmp_path / "numbers" / "2.py", RIGHT)  # of the class
    handed = handed_in(tmp_path / "numbers", ("1.1",))
    students = classroom.grade(handed, tmp_path / "grades.jsonl", only=("1.1",), roster=listed[:2])
    assert [(student.name, bool(student.files)) for student in students] == [("Bob Park", False), ("2", True)]


def test_a_namesake_who_handed_in_nothing_has_feedback_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "class" / "Minsu Kim.py", RIGHT)
    handed, listed = handed_in(tmp_path / "class", ("1.1",)), [("Minsu Kim", "1"), ("Minsu Kim", "2")]
    students = classroom.grade(handed, tmp_path / "grades.jsonl", only=("1.1",), roster=listed)
    handing_back.write(students, tmp_path / "grades.csv")
    assert [student.name for student in students] == ["Minsu Kim", "Minsu Kim 2"]
    assert "3/10" in (tmp_path / "feedback" / "Minsu Kim.md").read_text(encoding="utf-8")


def test_names_with_points_and_underscores_are_several_students(tmp_path: Path) -> None:
    folder = tmp_path / "class"
    for name in (
        "jane.doe",
        "jane.roe",
        *(f"Lab_1_{user}_attempt_2024-05-01-10-00-00_a.py" for user in ("kim_ms", "lee_ms")),
    ):
        write(folder / name, RIGHT)
    assert sorted(students_of(folder)) == ["jane.doe", "jane.roe", "kim_ms", "lee_ms"]


def test_a_record_that_a_platform_has_renamed_is_read(tmp_path: Path) -> None:
    folder, record = tmp_path / "class", '{"hints": {"1.1": 2}, "solutions": ["1.1"]}'
    write(folder / "kim_123_456_sheet.py", RIGHT)
    write(folder / "kim_123_457_progress-1.json", record)
    write(folder / "lee_5_assignsubmission_file_progress.json", record)
    students = classroom.grade(handed_in(folder, ("1.1",)), tmp_path / "grades.jsonl", only=("1.1",))
    assert [(student.name, student.hints, student.solutions) for student in students] == [
        ("kim_123", 2, ("1.1",)),
        ("lee_5", 2, ("1.1",)),
    ]
    assert [bool(student.problems) for student in students] == [False, True]


STRANGE = {
    "alone.py": RIGHT + "IN_WORDS_1_1 = '\\ud83d'\ndef input_gradient(j, g):\n    raise ValueError('\\ud83d')\n",
    "chain.py": RIGHT + "def other(x):\n    return x" + ".view(1)" * 300 + "\n",
    "sum.py": RIGHT + "def input_gradient(j, g):\n    return " + " + ".join(["g"] * 2000) + "\n",
    "words.py": RIGHT + "IN_WORDS_1_1 = " + " + ".join(["'a'"] * 2000) + "\n",
    "formatted.py": RIGHT + "IN_WORDS_1_1 = f'{" + " + ".join(["1"] * 400) + "}'\n",
    "lines.py": RIGHT + 'IN_WORDS_1_1 = """zero\u2028and one"""\n',
    "notebook.ipynb": notebook("%matplotlib inline\nget_ipython().magic('x')", RIGHT, "display(branch_target)"),
    "awaiting.ipynb": notebook("import asyncio\nawait asyncio.sleep(0)", RIGHT),
}
"""Hand-ins that Python or Jupyter runs, and what each of them has to be graded in spite of."""


def test_no_hand_in_stops_the_grading_of_a_class_now_or_again(tmp_path: Path) -> None:
    folder = tmp_path / "class"
    for name, content in {"good.py": RIGHT, **STRANGE}.items():
        write(folder / name, content)
    damaged = bytearray(zipped(**{"a.py": RIGHT * 40}))
    damaged[60:90] = b"\xff" * 30
    write(folder / "torn.zip", bytes(damaged))
    for _ in range(2):
        students = classroom.grade(handed_in(folder, ("1.1",)), tmp_path / "grades.jsonl", only=("1.1",))
        handing_back.write(students, tmp_path / "grades.csv")
    points = {student.name: student.points for student in students}
    assert points.pop("torn") == 0 and len(points) == 1 + len(STRANGE) and min(points.values()) >= 3
    assert next(student for student in students if student.name == "torn").problems


def test_the_table_of_marks_survives_whatever_is_in_an_answer_or_a_column(tmp_path: Path) -> None:
    folder, marks = tmp_path / "class", tmp_path / "class" / "words.csv"
    answers = {"tex": "'the \rho of both'", "nul": "'a\\0b'", "long": "'word ' * 1 + '" + "word " * 28_000 + "'"}
    for name, answer in answers.items():
        write(folder / f"{name}.py", f"{RIGHT}IN_WORDS_1_1 = {answer}\n")

    def graded() -> list[dict[str, str]]:
        students = classroom.grade(handed_in(folder, ("1.1",)), folder / "grades.jsonl", only=("1.1",))
        handing_back.write(students, folder / "grades.csv")
        return submissions.read_table(marks, "student")

    first = graded()
    assert all(row["student"] in answers for row in first) and "\r" not in marks.read_text(encoding="utf-8")
    lines = [{**row, "mark": "2", "": "x", " ": "y", "2nd reader": "z"} for row in first]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerows([[key.strip() for key in lines[0]], *(row.values() for row in lines)])  # two without a heading
    write(marks, text.getvalue().encode("utf-8-sig"))
    for _ in range(2):
        assert [(row["mark"], row[""], row[" "], row["2nd reader"]) for row in graded()] == [("2", "x", "y", "z")] * 3


def test_marks_stay_in_a_table_that_a_western_excel_has_saved(tmp_path: Path) -> None:
    write(tmp_path / "class" / "José.py", f"{RIGHT}IN_WORDS_1_1 = 'it is Hölder'\n")
    for _ in range(2):
        students = classroom.grade(handed_in(tmp_path / "class", ("1.1",)), tmp_path / "grades.jsonl", only=("1.1",))
        handing_back.write(students, tmp_path / "grades.csv")
        marks = tmp_path / "words.csv"
        ((row),) = submissions.read_table(marks)
        write(marks, marks.read_text(encoding="utf-8-sig").replace("Hölder,,", "Hölder,3,").encode("cp1252"))
    assert (row["student"], row["mark"]) == ("José", "3")


def test_what_the_teacher_wrote_beside_an_answer_stays_until_the_answer_changes(tmp_path: Path) -> None:
    folder = tmp_path / "class"
    for name, answer in (("kim", "it is\n=zero"), ("lee", "one")):
        write(folder / f"{name}.py", f'{RIGHT}IN_WORDS_1_1 = """{answer}"""\n')

    def graded() -> list[dict[str, str]]:
        assert reslab_here("exercise", "grade", folder, "--task", "1.1", "--jobs", "1").returncode == 0
        return list(csv.DictReader((folder / "words.csv").read_text(encoding="utf-8-sig").splitlines(keepends=True)))

    rows = graded()
    text = io.StringIO()
    writer = csv.DictWriter(text, [*rows[0], "note"], delimiter=";", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({**row, "mark": "2", "note": "좋다"} for row in rows)
    write(folder / "words.csv", text.getvalue().encode("cp949"))  # as a Korean Excel saves it
    write(folder / "lee.py", f'{RIGHT}IN_WORDS_1_1 = """two"""\n')
    write(folder / "choi.py", RIGHT)
    found = {(row["student"], row["task"]): (row["answer"], row["mark"], row["note"]) for row in graded()}
    assert found == {
        ("kim", "#1.1"): ("it is\n=zero", "2", "좋다"),
        ("lee", "#1.1"): ("two", "", ""),
        ("lee", "#1.1 (earlier)"): ("one", "2", "좋다"),
        ("choi", "#1.1"): ("", "", ""),
    }
    marked = write(folder / "words.csv", text.getvalue().replace("좋다", "-1: 다시").encode("cp949"))
    assert reslab_here("exercise", "grade", folder, "--task", "1.2", "--jobs", "1").returncode == 0  # another task
    kept = {(row["student"], row["task"]): row["note"] for row in submissions.read_table(marked)}
    assert kept["kim", "#1.1"] == kept["lee", "#1.1"] == "-1: 다시" and kept["kim", "#1.2"] == ""
    write(folder / "words.csv", "something else\n")
    assert_refused(reslab_here("exercise", "grade", folder, "--task", "1.1", "--jobs", "1"), folder / "words.csv")


def test_tables_of_grades_overwrite_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "class"
    write(folder / "kim.py", RIGHT)
    roster = write(folder / "list.csv", "kim\n")
    grade = ("exercise", "grade", folder, "--task", "1.1", "--jobs", "1")
    assert_refused(reslab_here(*grade, "--roster", roster, "--out", roster), roster)
    assert roster.read_text(encoding="utf-8") == "kim\n"
    for name in ("words.csv", "a.jsonl"):
        assert_refused(reslab_here(*grade, "--out", folder / name), name)
    for _ in range(2):
        done = reslab_here(*grade, "--roster", roster, "--out", folder / "out" / "grades.csv", "--json")
        assert [row["student"] for row in json.loads(done.stdout)] == ["kim"]
    for name in ("first.csv", "second.csv"):
        done = reslab_here(*grade, "--roster", roster, "--out", folder / name, "--json")
        assert [row["student"] for row in json.loads(done.stdout)] == ["kim"]
    for name in ("a", "b"):
        write(tmp_path / f"{name}.zip", zipped(**{f"{name}.py": RIGHT}))
        assert reslab_here("exercise", "grade", tmp_path / f"{name}.zip", "--task", "1.1").returncode == 0
    assert [table(tmp_path / f"{name}-grades" / "grades.csv")[0]["student"] for name in ("a", "b")] == ["a", "b"]


@pytest.mark.parametrize(
    ("tests", "told"),
    [
        ("def test_gradient(answers, seed):\n    assert False\n", "test_1_3"),
        ("def test_1_1(answers, seed):\n    pass\ntest_1_1.points = '2'\n", "'2'"),
        ("import numpy\ndef test_1_1(answers, seed):\n    pass\ntest_1_1.points = numpy.int64(-2)\n", "-2"),
    ],
)
def test_hidden_tests_that_test_nothing_or_are_worth_no_number_are_told(tests: str, told: str, tmp_path: Path) -> None:
    with Host() as host, refused(UserError, told):
        classroom.hidden_points(write(tmp_path / "hidden.py", tests), 0, host)


@pytest.mark.parametrize(
    "reach",
    [
        "import reslab\nfound = reslab.exercises.tasks.find('1.1')\n",
        "import reslab\nfound = getattr(reslab, 'exercises')\n",
        "from pathlib import Path\nimport reslab\nfound = (Path(reslab.__file__).parent / 'tasks' / 'task_1_1.py')\n",
    ],
)
def test_ways_to_the_solutions_are_remarked(reach: str) -> None:
    assert noticing.imports_solutions(reach + RIGHT)


@pytest.mark.parametrize(
    "said", ['"""My answer to task_1_3."""\n', 'FOLDER = "exercises"\n', 'NOTE = "see solutions.py"\n']
)
def test_words_about_the_exercises_are_no_way_to_the_solutions(said: str) -> None:
    assert not noticing.imports_solutions(said + RIGHT)


def test_of_a_task_that_was_handed_in_twice_the_better_counts(tmp_path: Path) -> None:
    result = {"task": "1.1", "failure": None, "detail": "", "in_words": False, "parts": []}
    student = Student("a", of={"1.1": 10})
    words = {"words": "because", "in_words": True}
    classroom._add(student, [{**result, **words, "points": 3}, {**result, "words": "", "points": 7}])
    assert student.results["1.1"]["words"] == "because"
    classroom._add(student, [{**result, "points": 0}])
    assert student.points == 7 and student.row()["percent"] == 70.0


@pytest.mark.parametrize(
    ("text", "reaches"),
    [
        ("from reslab.exercises.tasks import drawn", False),
        ("from reslab.exercises.tasks.task_1_1 import *", True),
        ("from reslab.exercises.tasks import find, drawn", True),
        ("import reslab.exercises.tasks as t", True),
        ("from reslab import exercises", True),
        ("import importlib\nm = importlib.import_module('reslab.exercises.tasks.task_1_1')", True),
        ("import reslab\nfrom reslab.analysis.gradient_flow import gradient_flow", False),
        ("def (", False),
    ],
)
def test_imports_of_the_solutions_are_seen(text: str, reaches: bool) -> None:
    assert noticing.imports_solutions(text) == reaches


def test_files_that_are_nearly_alike_are_seen_whatever_their_names_are() -> None:
    mine = solved("02")
    theirs = (
        mine.replace("differences", "d")
        .replace("optimiser", "opt")
        .replace("gated", "g")
        .replace("# ", "# other words ")
    )
    texts = {
        "a": mine,
        "b": theirs,
        "c": solved("01"),
        "d": sheets.starter("02", "en"),
        "e": sheets.starter("02", "ko"),
    }
    assert noticing.alike(texts) == {"a": ["b"], "b": ["a"]}


def test_a_student_is_told_in_the_language_begun_in() -> None:
    assert noticing.language_of(sheets.starter("01", "ko")) == "ko"
    assert noticing.language_of(sheets.starter("01", "en")) == "en"
    assert noticing.language_of(RIGHT) is None
    assert "점" in handing_back.feedback(Student("가", language="ko", of={"1.1": 10}))


def test_every_student_has_a_file_that_any_system_takes() -> None:
    names = ["a/b:c?", "..", "a_b_c_", "A_B_C_", "A_b_c_-2"]
    assert handing_back.file_names(names) == ["a_b_c_", "_", "a_b_c_-2", "A_B_C_-3", "A_b_c_-2-2"]


def test_a_student_whose_files_show_no_language_is_told_in_the_teachers(tmp_path: Path) -> None:
    write(tmp_path / "class" / "kim.rar", b"0")
    handed = handed_in(tmp_path / "class")
    told = {}
    for language in sheets.LANGUAGES:
        students = classroom.grade(handed, tmp_path / "grades.jsonl", roster=[("lee",)], language=language)
        told[language] = [handing_back.feedback(student) for student in students]
        assert handing_back.marking_sheet(students, language) and students[1].row(language)["student"] == "kim"
    assert all(re.search("[가-힣]", text) for text in told["ko"])
    assert not any(re.search("[가-힣]", text) for text in told["en"])
    assert "kim.rar" in told["ko"][1]


def test_every_question_in_words_has_a_model_answer_and_a_rubric() -> None:
    for task in tasks.names():
        korean, english = model(task, "ko"), model(task, "en")
        assert len(korean.rubric) == len(english.rubric) >= 2 and min(len(korean.text), len(english.text)) > 60


@pytest.mark.slow
def test_the_container_grades_with_a_command_that_there_is(tmp_path: Path) -> None:
    text = Path(sheets.__file__).with_name("Dockerfile").read_text(encoding="utf-8")
    lines = [line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    found = dict(lines)  # type: ignore[arg-type]  # each has two parts
    command = [*json.loads(found["ENTRYPOINT"]), *json.loads(found["CMD"])]
    write(tmp_path / "submissions" / "a.py", RIGHT)
    (tmp_path / "grades").mkdir()
    inside = [part.replace("/submissions", str(tmp_path / "submissions")) for part in command]
    inside = [part.replace("/grades/", f"{tmp_path}/grades/") for part in inside]
    assert inside[0] == "reslab" and found["USER"] != "root"
    result = reslab_here(*inside[1:], "--task", "1.1", "--jobs", "1")
    assert result.returncode == 0 and table(tmp_path / "grades" / "grades.csv")[0]["points"] == "3"
    root = Path(sheets.__file__).parents[2]
    copied = [part for word, rest in lines if word == "COPY" for part in shlex.split(rest)[:-1]]
    assert all((root / name).exists() for name in copied)
    assert "--network none" in text


def test_the_exports_are_those_that_the_command_takes() -> None:
    assert_refused(reslab_here("exercise", "grade", ".", "--export", "excel"), *handing_back.EXPORTS)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_sixty_submissions_of_all_kinds_have_a_row_each(tmp_path: Path) -> None:
    folder, right = tmp_path / "class", RIGHT
    kinds: dict[str, str | bytes] = {
        "right-{}.py": right,
        "bom-{}.py": right.encode("utf-8-sig"),
        "utf16-{}.py": right.encode("utf-16"),
        "cp949-{}.py": f"주석 = '주석'\n{right}".encode("cp949"),
        "syntax-{}.py": right + "def (:\n",
        "empty-{}.py": "",
        "nul-{}.py": right + "\0",
        "raises-{}.py": right + "1 / 0\n",
        "exits-{}.py": right + "exit()\n",
        "hangs-{}.py": right + "import threading, time\nthreading.Thread(target=lambda: time.sleep(99)).start()\n",
        "prints-{}.py": right.replace("return", "print('h is', h)\n    return"),
        "book-{}.ipynb": notebook(right),
        "packed-{}.zip": zipped(**{"deep/answers.py": right}),
        "folder-{}/01_gradient_analysis.py": right,
        "홍길동-{}_12_assignsubmission_file_/답안.py": right,
        "honggildong-{}_34_56_answers.py": right,
        "Lab_hgd-{}_attempt_2026-11-29-12-00-01_a.py": right,
        "callable-{}.py": "def branch_target(h):\n    return print\n",
        "os_exit-{}.py": "import os\ndef branch_target(h):\n    os._exit(3)\n",
        "forks-{}.py": right + "import os\nif os.fork() == 0:\n    os.setsid()\n    import time; time.sleep(99)\n",
    }
    for copy in "abc":
        for name, content in kinds.items():
            write(folder / name.format(copy), content)
    result = reslab_here("exercise", "grade", str(folder), "--task", "1.1", "--jobs", "2", "--json")
    rows = {row["student"]: row for row in json.loads(result.stdout)}
    assert len(rows) == 60 and {row["of"] for row in rows.values()} == {10}
    zero = ("utf16", "cp949", "syntax", "empty", "nul", "raises", "exits", "callable", "os_exit")
    for student, row in rows.items():
        assert row["points"] == (0 if student.partition("-")[0] in zero else 3), student
        assert row["remarks"] or student.partition("-")[0] not in zero or student.partition("-")[0] == "callable"


@pytest.mark.parametrize("record", ['{"solutions": ["\\ud800"]}', f'{{"hints": {{"a": {"9" * 5000}}}}}', "[" * 10_000])
def test_a_record_that_is_none_is_left_out(tmp_path: Path, record: str) -> None:
    write(tmp_path / "class" / "kim" / "01.py", RIGHT)
    write(tmp_path / "class" / "kim" / "progress.json", record)
    assert handed_in(tmp_path / "class").records == {"kim": {}}


def test_a_notebook_of_nothing_but_magics_is_not_read_for_hours(tmp_path: Path) -> None:
    write(tmp_path / "class" / "kim.ipynb", notebook("!x\n" * 20_000, RIGHT))
    write(tmp_path / "class" / "lee.ipynb", notebook(" " * 20_000 + "=", RIGHT))
    kim, lee = sorted(handed_in(tmp_path / "class").files, key=lambda each: each.student)
    assert kim.problem is not None and "magics" in kim.problem.text("en") and lee.tasks


@pytest.mark.skipif(os.name != "posix", reason="makes pipes")
def test_a_pipe_is_no_zip_file_and_nobody_waits_for_it(tmp_path: Path) -> None:
    write(tmp_path / "class" / "lee.py", RIGHT)
    os.mkfifo(tmp_path / "class" / "kim.zip")
    problems = {each.student: each.problem for each in handed_in(tmp_path / "class").files}
    assert problems["kim"] is not None and problems["kim"].name == "not-regular" and problems["lee"] is None


def test_of_directories_in_one_another_so_many_are_extracted(tmp_path: Path) -> None:
    inside = {"01.py": RIGHT, f"{'a/' * 400}01.py": RIGHT, f"{'a/' * 40}02.py": RIGHT}
    write(tmp_path / "class" / "kim.zip", zipped(**inside))
    unpacking_ = Unpacking(tmp_path / "work")
    names = [name for name, _ in unpacking_.found(tmp_path / "class" / "kim.zip", "kim.zip")]
    assert names == ["01.py", f"{'a/' * 40}02.py"] and [each.name for each in unpacking_.problems] == [
        "too-many-levels"
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="its paths may be long")
def test_directories_however_deep_are_looked_into() -> None:
    with confinement._temporary_directory() as top:
        place = top
        for _ in range(1200):
            place = place / "a"
            place.mkdir()
        assert [*unpacking.below(top)] == []


def test_names_of_files_are_not_too_long_and_each_is_another() -> None:
    names = handing_back.file_names(["가" * 100, "가" * 101, "kim"])
    assert len(set(names)) == 3 and names[2] == "kim" and all(len(name.encode()) < 130 for name in names)


def test_whoever_has_the_name_of_another_stays_on_a_roster_of_names() -> None:
    file = submissions.Submission("Kim Minsu", Path("kim.py"), "kim.py", (), None, ())
    students = {"Kim Minsu": Student("Kim Minsu")}
    names = [each.name for each in classroom._on_roster(students, [file], [("Kim Minsu",)] * 2, {}, "en")]
    assert names == ["Kim Minsu"] * 2


def test_blackboards_own_receipts_are_nobodys_answers(tmp_path: Path) -> None:
    stem = "Lab 1_hong_attempt_2026-11-01-10-00-00"
    write(tmp_path / "class" / f"{stem}.txt", "Name: Hong\nStatus: 제출")
    write(tmp_path / "class" / f"{stem}_answers.py", RIGHT)
    write(tmp_path / "class" / "Lab 1_kim_attempt_2026-11-01-10-00-00.txt", "Name: Kim")
    found = {each.student: each.problem for each in handed_in(tmp_path / "class").files}
    assert found.keys() == {"hong", "kim"} and found["hong"] is None and found["kim"] is not None


@pytest.mark.parametrize(
    ("result", "killed"),
    [
        ({"failure": "exit", "detail": "exit code -9", "parts": []}, True),
        ({"failure": "exit", "detail": "exit code 1", "parts": []}, False),
        ({"failure": None, "detail": "", "parts": [{"status": "stopped", "came": "exit code -9"}]}, True),
        ({"failure": None, "detail": "", "parts": [{"status": "right", "came": ""}]}, False),
    ],
)
def test_what_the_system_has_ended_is_graded_again(result: dict[str, Any], killed: bool) -> None:
    assert classroom._was_killed(result) is killed


def test_who_has_points_in_a_sheet_is_counted_and_one_sheet_may_be_asked_for(tmp_path: Path) -> None:
    one = {"1.1": {"points": 3}, "2.1": {"points": 0}}
    students = [Student("a", results=one, of={"1.1": 10, "2.1": 10}), Student("b", results={}, of={"1.1": 10})]
    assert classroom.who_earned(students) == {"01": 1, "02": 0}
    write(tmp_path / "class" / "kim.py", RIGHT)
    assert_refused(reslab_here("exercise", "grade", tmp_path / "class", "--sheet", "02", "--task", "1.1"), "02", "1.1")
    done = reslab_here(
        "exercise", "grade", tmp_path / "class", "--sheet", "01", "--task", "1.1", "--json", "--jobs", "1"
    )
    assert json.loads(done.stdout)[0]["points"] == 3


@pytest.mark.parametrize(
    "text", ["import reslab as r\nx = r.exercises.tasks", "import reslab\nfind = reslab.exercises.tasks.find"]
)
def test_the_exercises_own_code_is_told_by_whatever_name(text: str) -> None:
    assert noticing.imports_solutions(text) and not noticing.imports_solutions(
        "import reslab\nreslab.view\nself.exercises"
    )
