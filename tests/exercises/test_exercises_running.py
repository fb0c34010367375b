"""Running a learner's code: what is confined, what the commands say, and grading a class."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from helpers import assert_refused, refused, reslab, reslab_here, slow_unless
from helpers_exercises import RIGHT, solved

from reslab.errors import DamagedError, Language
from reslab.exercises import checking, child, confinement, noticing, sheets, telling
from reslab.exercises.checklist import CHECKLIST
from reslab.exercises.confinement import OUTPUT, Host, run
from reslab.exercises.grading import FAILED_CELLS
from reslab.exercises.record import Record
from reslab.ledger.claim import SECTIONS

EXIT = "def branch_target(h):\n    import os\n    os._exit(0)\n"
FOREVER = "def numerical_jacobian(function, x, step):\n    while True:\n        pass\n"
GREEDY = "def batch_norm(*arguments):\n    kept = []\n    while True:\n        kept.append(bytearray(2**27))\n"
LOUD = "def basic_block(*arguments):\n    while True:\n        print('loud ' * 1000)\n"
POLITE_EXIT = "def rate(blocks, ratios):\n    raise SystemExit\n"
SPAWNS = """def stretch(branch, x, v):
    import subprocess, sys
    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])
    raise SystemExit
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_an_exit_costs_its_task_and_nothing_else(host: Host, tmp_path: Path) -> None:
    file = write(tmp_path / "답안 모음" / "학생 1.py", solved("01", "ko", {"branch_target": EXIT}))
    first, second = checking.check(file, {"1.1": 1, "1.2": 2}, host=host)
    assert [(part["status"], part["mistakes"], part["points"]) for part in first.parts] == [
        ("stopped", ["exit"], 0),
        ("right", [], 7),
    ]
    assert (first.points, first.of, second.points, second.failure) == (7, 10, 10, None)


FORGES = """def branch_target(h):
    import json, os
    log = open("../log.jsonl").read()
    part = {"name": "branch_target", "status": "right", "points": 3, "of": 3, "mistakes": [], "seconds": 0}
    forged = [{"task": "1.1", "result": part}, {"end": True}]
    with open("../log.jsonl", "a") as file:
        file.write(log)
        for line in forged:
            file.write(json.dumps(line) + "\\n" + log.split()[0] + " " + json.dumps(line) + "\\n")
    open("../ended", "w").write("none")
    os._exit(0)
"""


def test_a_file_cannot_write_its_own_points(host: Host, tmp_path: Path) -> None:
    file = write(tmp_path / "answers.py", "import torch\n" + FORGES)
    (result,) = checking.check(file, {"1.1": 1}, host=host)
    assert [(part["mistakes"], part["points"]) for part in result.parts] == [(["exit"], 0), (["missing"], 0)]


LINGERS = """
import atexit, os, sys, threading, time, subprocess
threading.Thread(target=lambda: time.sleep(100)).start()
atexit.register(time.sleep, 100)
"""
FORKS = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(311)"])
    os._exit(0)
"""


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_what_lingers_costs_nothing_and_is_ended(host: Host, tmp_path: Path) -> None:
    file = write(tmp_path / "answers.py", solved("01") + LINGERS + FORKS)
    started = time.monotonic()
    (result,) = checking.check(file, {"1.2": 2}, host=host)
    assert (result.points, result.of) == (10, 10) and time.monotonic() - started < 60
    assert not [p for p in psutil.process_iter(["cmdline"]) if "time.sleep(311)" in str(p.info["cmdline"])]


@pytest.mark.slow
def test_loops_greed_noise_and_exits_cost_their_tasks_and_nothing_else(host: Host, tmp_path: Path) -> None:
    abuses = {
        "branch_target": EXIT,
        "numerical_jacobian": FOREVER,
        "batch_norm": GREEDY,
        "basic_block": LOUD,
        "rate": POLITE_EXIT,
        "stretch": SPAWNS,
    }
    file = write(tmp_path / "answers.py", solved("01", changes=abuses))
    before = {process.pid for process in psutil.process_iter()}
    found = checking.check(file, dict.fromkeys(sheets.read("01", "en").tasks, 3), host=host)
    failures = {part["name"]: part["mistakes"] for result in found for part in result.parts if part["mistakes"]}
    assert failures == {
        "branch_target": ["exit"],
        "numerical_jacobian": ["time"],
        "batch_norm": ["memory"],
        "basic_block": ["output"],
        "rate": ["exit"],
        "measured_rate": ["exit"],  # it calls the learner's rate
        "stretch": ["exit"],
    }
    assert [result.points for result in found] == [7, 0, 0, 0, 5, 8, 13, 13, 14, 10]
    left = [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.pid not in before and "time.sleep(300)" in str(process.info["cmdline"])
    ]
    assert not left


UNLOADABLE = [
    ("x = 2\n1 / 0", "load", "ZeroDivisionError: division by zero", 2),
    ("assert False", "load", "AssertionError", 1),
    ("\ndef (", "syntax", "invalid syntax", 2),
    ("exit()", "exit", "SystemExit", None),
]


@pytest.mark.parametrize(("text", "failure", "detail", "line"), UNLOADABLE)
def test_a_file_that_cannot_be_loaded_says_why(
    tmp_path: Path, text: str, failure: str, detail: str, line: int | None
) -> None:
    file = write(tmp_path / "unloadable.py", text)
    assert child.attempt(lambda: child.load(file), file) == {"failed": failure, "detail": detail, "line": line}


@pytest.mark.parametrize("name", ["HONG.PY", "answers.py.txt", "answers"])
def test_a_file_is_loaded_whatever_its_suffix(tmp_path: Path, name: str) -> None:
    assert child.load(write(tmp_path / name, "x = 2")).x == 2
    assert child.load(write((tmp_path / name).with_suffix(".other"), "x = 3")).x == 3
    assert len([*tmp_path.iterdir()]) == 2  # there is no bytecode


@pytest.mark.parametrize("content", ["x = '가'".encode("cp949"), "x = 1".encode("utf-16"), b"# coding: nonsense\n"])
def test_a_file_in_another_encoding_says_so(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "answers.py"
    file.write_bytes(content)
    assert child.attempt(lambda: child.load(file), file)["failed"] == "encoding"


def test_what_keeps_a_file_from_being_loaded_is_told_once(host: Host, tmp_path: Path) -> None:
    results = checking.check(write(tmp_path / "answers.py", "\ndef ("), {"1.1": 1, "1.2": 1}, host=host)
    assert {(each.failure, each.detail, each.line) for each in results} == {("syntax", "invalid syntax", 2)}
    assert [each.of for each in results] == [10, 10]
    told = list(telling.stopped([each.to_json() for each in results], "en"))
    assert len([line for line in told if "invalid syntax" in line]) == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    write(
        tmp_path / "exercises" / "01_gradient_analysis.py",
        solved("01", changes={"branch_target": FOREVER.replace("numerical_jacobian", "branch_target")}),
    )
    command = [sys.executable, "-m", "reslab", "exercise", "check", "01"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    parent = psutil.Process(process.pid)
    deadline = time.monotonic() + 60
    while not (children := parent.children(recursive=True)) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(2)
    assert process.wait(10) == 130
    assert children and not any(child.is_running() for child in children)


def test_starting_never_overwrites_and_speaks_one_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = reslab_here("exercise", "start", "01", "--lang", "ko")
    file = tmp_path / "exercises" / "01_gradient_analysis.py"
    assert (
        first.returncode == 0
        and "reslab exercise check 01" in first.stdout
        and "목표:" in file.read_text(encoding="utf-8")
    )
    file.write_text("mine", encoding="utf-8")
    again = reslab_here("exercise", "start", "01", "--dir", str(file.parent))
    assert_refused(again, file, "--dir")
    assert file.read_text(encoding="utf-8") == "mine"
    assert "연습 1" in reslab_here("exercise", "list", "--dir", str(file.parent)).stdout


@pytest.mark.parametrize("language", sheets.LANGUAGES)
def test_a_notebook_may_be_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: Language) -> None:
    begun = reslab_here("exercise", "start", "01", "--notebook", "--lang", language, "--dir", tmp_path)
    file = tmp_path / "01_gradient_analysis.ipynb"
    assert begun.returncode == 0 and begun.stdout.startswith(str(file))
    assert_refused(reslab_here("exercise", "start", "01", "--dir", tmp_path), file)
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    for task in sheets.read("01", language).tasks.values():
        assert any(task.title in text and task.task in text and task.words in text for text in texts)
    seen: list[str] = []

    def checked(python: Path, tasks: object, beside: Path) -> list[object]:
        seen.append(python.read_text(encoding="utf-8"))
        return []

    monkeypatch.setattr(checking, "check", checked)
    assert reslab_here("exercise", "check", "01", "--dir", tmp_path).returncode == 0
    names: dict[str, object] = {}
    exec(seen[0], names)
    assert noticing.asked_in("01") <= names.keys() and noticing.language_of(seen[0]) == language
    write(file, "{")
    assert_refused(reslab_here("exercise", "check", "01", "--dir", tmp_path), file)


@pytest.mark.parametrize("language", sheets.LANGUAGES)
def test_the_checklist_has_the_titles_of_the_chapters_sections(tmp_path: Path, language: Language) -> None:
    lines = reslab_here("checklist", "--dir", str(tmp_path), "--lang", language).stdout.splitlines()
    heads = [line for line in lines if line.startswith("[ ] ")]
    assert len(heads) == len(CHECKLIST)
    for line, item in zip(heads, CHECKLIST, strict=True):
        assert item.text[language] in line and line.endswith(f": {SECTIONS[item.section][language]})")


def test_hints_open_one_after_another_and_are_recorded(tmp_path: Path) -> None:
    texts = [reslab_here("exercise", "hint", "1.3", "--dir", str(tmp_path), "--lang", "en").stdout for _ in range(4)]
    assert [text.count("/3]") for text in texts] == [1, 2, 3, 3]
    shown = reslab_here("exercise", "solution", "1.3", "--dir", str(tmp_path)).stdout
    assert "def batch_norm(" in shown
    record = Record(tmp_path).read()
    assert (record["hints"], record["solutions"]) == ({"1.3": 3}, ["1.3"])
    korean = reslab_here("exercise", "solution", "1.3", "--lang", "ko", "--dir", str(tmp_path)).stdout
    assert '"""' in shown and '"""' not in korean  # the docstring is in English
    for text, language in zip((korean, shown), sheets.LANGUAGES, strict=True):
        reading = sheets.task("1.3", language).reading
        assert text.splitlines()[-1] == f"# {sheets.HEADINGS[language]['reading']}: {' '.join(reading.split())}"
    assert "mean, var = running_mean, running_var" in korean


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["exercise", "start", "03"], ["'03'"]),
        (["exercise", "check", "01", "--dir", "nowhere"], ["reslab exercise start 01 --dir nowhere"]),
        (["exercise", "check", "01", "--task", "2.1"], ["2.1", "01", "02"]),
        (["exercise", "hint", "9.9"], ["'9.9'"]),
        (["exercise", "solution", "1"], ["'1'"]),
        (["exercise", "grade", "nowhere"], ["nowhere", "STUDENT.py"]),
        (["exercise", "grade", ".", "--jobs", "0"], ["--jobs", 1, 0]),
        (["exercise", "chek", "01"], ["chek"]),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], values: list[object]) -> None:
    assert_refused(reslab_here(*arguments), *values)


@pytest.mark.slow
@pytest.mark.parametrize("language", sheets.LANGUAGES)
@pytest.mark.parametrize("number", sheets.SHEETS)
def test_from_start_to_full_points(tmp_path: Path, number: str, language: Language) -> None:
    assert reslab("exercise", "start", number, "--lang", language, cwd=tmp_path).returncode == 0
    untouched = reslab("exercise", "check", number, "--json", cwd=tmp_path)
    report = json.loads(untouched.stdout)
    assert untouched.returncode == 1 and report["points"] == 0
    assert {part["status"] for task in report["tasks"] for part in task["parts"]} == {"unfinished"}
    write(tmp_path / "exercises" / f"{sheets.SHEETS[number]}.py", solved(number, language))
    full = reslab("exercise", "check", number, "--json", cwd=tmp_path)
    report = json.loads(full.stdout)
    assert full.returncode == 0 and report["points"] == report["of"] > 0
    assert report["limits"].keys() == {"time", "memory", "output", "files"}
    items = json.loads(reslab("checklist", "--json", cwd=tmp_path).stdout)
    mine = [task for item in items for task in item["tasks"] if task["task"].startswith(number[1])]
    assert mine and all(task["points"] == task["of"] for task in mine) and all(item["claims"] for item in items)


@pytest.mark.slow  # 15 s each
@pytest.mark.parametrize("number", sheets.SHEETS)
def test_what_is_slow_to_import_is_imported_once_for_a_class(host: Host, tmp_path: Path, number: str) -> None:
    names = list(sheets.read(number, "en").tasks)
    seen = "{name.partition('.')[0] for name in set(sys.modules) - BEFORE}"
    test = f"def test_{names[-1].replace('.', '_')}(answers, seed):\n    assert False, sorted({seen})\n"
    hidden = write(tmp_path / "hidden.py", f"import sys\n\nBEFORE = set(sys.modules)\n\n\n{test}")
    file = write(tmp_path / "answers.py", solved(number))
    (*_, last) = checking.check(file, dict.fromkeys(names, 0), hidden=hidden, host=host)
    imported = last.parts[-1]["came"]
    slow = {"matplotlib", "numpy", "pydantic", "scipy", "torch", "torchvision"}
    assert "answers" in imported and not {name for name in slow if f"'{name}'" in imported}


def test_answers_in_words_are_read_in_whatever_encoding_python_reads(tmp_path: Path) -> None:
    for name, content in (
        ("bom", "IN_WORDS_1_1 = '답'".encode("utf-8-sig")),
        ("cp949", "# coding: cp949\nIN_WORDS_1_1 = '답'".encode("cp949")),
    ):
        (tmp_path / f"{name}.py").write_bytes(content)
        assert checking.words(tmp_path / f"{name}.py", "1.1") == "답"


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    write(tmp_path / "progress.json", "{")
    with refused(DamagedError, tmp_path / "progress.json"):
        Record(tmp_path).read()


IN_PLACE_OF = {
    "a directory for the exit code": "os.mkdir('../ended')",
    "a pipe for the exit code": "os.mkfifo('../ended')",
    "a pipe for the log": "os.remove('../log.jsonl'); os.mkfifo('../log.jsonl')",
    "a directory for the output": "os.remove('../printed'); os.mkdir('../printed')",
    "no permission": "os.chmod('..', 0)",
}


@pytest.mark.skipif(os.name != "posix", reason="makes pipes")
@pytest.mark.parametrize("what", slow_unless(["a pipe for the exit code", "a pipe for the log"], IN_PLACE_OF))
def test_what_a_file_puts_in_the_place_of_the_graders_costs_it_alone(host: Host, tmp_path: Path, what: str) -> None:
    file = write(tmp_path / "answers.py", f"import os\n{IN_PLACE_OF[what]}\n{solved('01')}")
    (result,) = checking.check(file, {"1.2": 2}, host=host)
    assert result.failure in (None, "exit") and result.points in (0, 10)
    (result,) = checking.check(write(tmp_path / "other.py", solved("01")), {"1.2": 2}, host=host)
    assert result.points == 10


@pytest.mark.skipif(os.name != "posix", reason="of the system's limits")
def test_directories_however_deep_are_removed(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    deep = "import os\nfor _ in range(1500):\n    os.mkdir('a')\n    os.chdir('a')\nos.chmod('.', 0)\n"
    (result,) = checking.check(write(tmp_path / "answers.py", deep + solved("01")), {"1.2": 2}, host=host)
    assert result.points == 10 and [path.name for path in tmp_path.iterdir()] == ["answers.py"]


def test_a_file_that_is_named_as_a_module_imports_that(tmp_path: Path) -> None:
    file = write(tmp_path / "random.py", "import random\nx = random.Random(0).random()\n")
    assert 0 < child.load(file).x < 1


def test_a_file_imports_what_lies_beside_it_and_nothing_from_elsewhere(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write(tmp_path / "elsewhere" / "queue.py", "1 / 0\n").parent)  # it would be Python's own
    file = write(tmp_path / "own" / "answers.py", "import queue\nfrom parts.signs import branch_target\n")
    write(tmp_path / "own" / "queue.py", "1 / 0\n")
    signs = write(tmp_path / "own" / "parts" / "signs.py", RIGHT)
    for place, points in ((file.parent, 3), (None, 0)):
        (result,) = checking.check(file, {"1.1": 0}, beside=place, host=host)
        assert (result.points, result.failure) == (points, None if points else "load")
    assert [*signs.parent.iterdir()] == [signs]  # no bytecode


def test_what_hidden_tests_import_is_not_the_files(host: Host, tmp_path: Path) -> None:
    write(tmp_path / "teacher" / "helpers.py", "answer = 1\n")
    test = "from helpers import answer\n\ndef test_1_1_x(answers, seed):\n    assert answer == 1 != answers.answer\n"
    hidden = write(tmp_path / "teacher" / "hidden.py", test)
    write(tmp_path / "own" / "helpers.py", "answer = 2\n")
    file = write(tmp_path / "own" / "answers.py", "from helpers import answer\n" + RIGHT)
    (result,) = checking.check(file, {"1.1": 0}, hidden=hidden, beside=file.parent, host=host)
    assert [(part["name"], part["points"]) for part in result.parts][-1] == ("test_1_1_x", 1) and result.points == 4


def test_a_measurement_beside_the_functions_is_told_by_its_time() -> None:
    ended = confinement.Ended({"1.1": []})
    assert not confinement._gather(ended, [{"pid": 1, "seconds": 20.0}], "time", -9, "")
    assert (ended.failure, ended.detail) == ("loading", "20 s")
    said = checking.said("1.1", "", "loading")
    assert said is not None and all('if __name__ == "__main__":' in text for text in said.values())


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
def test_a_cell_that_takes_too_long_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "LOADING", 0.2)
    cells = ["import time", "while True:\n    pass", "time.sleep(100)", "def branch_target(h):\n    return h"]
    module = child.load(write(tmp_path / "answers.py", noticing.CELL.join(cells)))
    assert callable(module.branch_target) and all(
        f"cell {n}: TimeoutError: 0.2 s" in vars(module)[FAILED_CELLS] for n in (2, 3)
    )


PRINTS = f"""
import functools, time

def once(function):
    said = []
    @functools.wraps(function)
    def call(*given):
        if not said:
            said.append(print("x" * {OUTPUT * 3 // 4}, flush=True))
            time.sleep(0.3)
        return function(*given)
    return call

branch_target, input_gradient = map(once, (branch_target, input_gradient))
"""


def test_a_file_may_print_so_much_for_each_part(host: Host, tmp_path: Path) -> None:
    (result,) = checking.check(write(tmp_path / "answers.py", solved("01") + PRINTS), {"1.1": 2}, host=host)
    assert result.points == 10


REPLACES = """import sys
for module in list(sys.modules.values()):
    if hasattr(module, "test_1_1_x"):
        module.test_1_1_x = lambda *_: None
        module.test_1_1_x.points = 999
try:
    import my_tests
except ImportError:
    pass
"""


def test_a_file_cannot_replace_the_tests_that_it_is_judged_by(host: Host, tmp_path: Path) -> None:
    hidden = write(tmp_path / "my_tests.py", "def test_1_1_x(answers, seed):\n    raise ValueError\n")
    ended = run(write(tmp_path / "answers.py", REPLACES), {"1.1": 0}, hidden=hidden, parts=False, host=host)
    (part,) = ended.parts["1.1"]
    assert (part["status"], part["points"], part["of"]) == ("wrong", 0, 1)
