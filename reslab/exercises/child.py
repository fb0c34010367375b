"""The process in which learners' files are judged: `python -m reslab.exercises.child`, started by `confinement`.

It reads jobs (JSON lines) and forks itself for each, so that Python and PyTorch are loaded once for a whole class;
where the system cannot fork it does one job and ends. A job limits itself, as far as the platform allows, before it
runs the file. It appends each step and its outcome to a log (JSON lines), so that the parent knows what stopped it.
"""

import __future__

import importlib.util
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.machinery import SourceFileLoader
from itertools import count
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn

import psutil

from reslab.digests import INSTALLED
from reslab.exercises.confinement import GIB, LOADING, MEMORY, WAITING, Job, limit_this_process
from reslab.exercises.grading import FAILED_CELLS, judge_part
from reslab.exercises.judgement import Judgement
from reslab.exercises.noticing import CELL, asked_in, cells_of
from reslab.exercises.settings import Settings, held
from reslab.exercises.sheets import SHEETS, read, sheet_of
from reslab.exercises.tasks import find

FUTURES = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
"""The flags of code that imports from `__future__`, which hold for a notebook's later cells too."""
HIDDEN = 600.0
"""Seconds of CPU time for all of a teacher's hidden tests with the reference solutions."""
HIDDEN_TESTS = "hidden_tests_of_a_teacher"
MOST_CELLS = 15
"""Cells of a notebook that may take as long as a file each."""


class _Source(SourceFileLoader):
    """Runs a file of whatever suffix, without bytecode: `kim.py` and `kim.txt` would share it."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


class _Shell:
    """Stands in for IPython's shell, and does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def load(path: Path, name: str = "answers_of_a_learner") -> ModuleType:
    """Run a Python file and return it as a module, under a name of our own: as `random`, a `random.py` would import
    itself.
    """
    loader = _Source(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    vars(module).update(display=print, get_ipython=_Shell)  # which notebooks have
    content = path.read_bytes()
    cells = cells_of(content)
    if len(cells) > 1:
        _run_cells([cell.decode() for cell in cells], path, module)
    else:
        loader.exec_module(module)
    return module


def _run_cells(cells: Sequence[str], path: Path, module: ModuleType) -> None:
    """Run a notebook's cells as Jupyter does, where one that fails, or takes too long, stops no other; what failed is
    told where a function is missing.

    Raises:
        Exception: what failed first, if no function that a sheet asks for is there.
    """
    above, futures, failed = 0, 0, dict[int, Exception]()
    for number, cell in enumerate(cells, start=1):
        try:
            code = compile("\n" * above + cell, str(path), "exec", futures, dont_inherit=True)
            futures |= code.co_flags & FUTURES
            with _within(LOADING):
                exec(code, vars(module))
        except Exception as error:
            failed[number] = error
        above += cell.count("\n") + CELL.count("\n")
    if failed and not any(callable(vars(module).get(name)) for sheet in SHEETS for name in asked_in(sheet)):
        raise next(iter(failed.values()))
    said = (f"cell {number}: {type(error).__name__}: {error}" for number, error in failed.items())
    vars(module)[FAILED_CELLS] = "; ".join(said)


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what takes more CPU time, or waits for long, where the system tells of it."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def over(*_: object) -> NoReturn:
        raise TimeoutError(f"{seconds:g} s")

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, seconds), signal.ITIMER_REAL: (signal.SIGALRM, WAITING * seconds)}
    for timer, (kind, limit) in timers.items():
        signal.signal(kind, over)
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)


def seconds_of(file: Path) -> float:
    """Return how long a file may take by itself: a notebook's cells as long as a file each, if there are few."""
    with suppress(OSError):
        return LOADING * min(len(cells_of(file.read_bytes())), MOST_CELLS)
    return LOADING


@dataclass(frozen=True)
class Hidden:
    """A teacher's test, and what it is worth: its `.points`, or 1; never a number of NumPy or torch."""

    name: str
    test: Callable[..., Any]
    points: Any

    def judge(self, answers: ModuleType, seed: int) -> Judgement:
        """Return the judgement of this test."""
        try:
            with held(replace(Settings.now(), gradients=True)):
                self.test(answers, seed)
        except MemoryError:
            raise
        except Exception as error:
            came = f"{type(error).__name__}: {error}"[:300]
            return Judgement(self.name, "wrong", 0, self.points, came=came, mistakes=("hidden",))
        return Judgement(self.name, "right", self.points, self.points)


def hidden_tests(file: Path, tasks: Iterable[str]) -> dict[str, list[Hidden]]:
    """Return the hidden tests of each task: functions `test_1_3…(answers, seed)` in the teacher's file, which nothing
    that runs later can import.
    """
    before, beside = {*sys.modules}, str(file.parent)
    sys.path.append(beside)
    tests = load(file, HIDDEN_TESTS)
    sys.path.remove(beside)
    for name in sys.modules.keys() - before:
        place = str(getattr(sys.modules[name], "__file__", None))
        if place.startswith(beside) and not place.startswith(INSTALLED):  # an environment may be there, too
            del sys.modules[name]
    found: dict[str, list[Hidden]] = {}
    for task in tasks:
        prefix = f"test_{task.replace('.', '_')}"
        for name, test in vars(tests).items():
            if callable(test) and (name == prefix or name.startswith(f"{prefix}_")):
                points = getattr(test, "points", 1)
                points = points.item() if hasattr(points, "item") else points
                found.setdefault(task, []).append(Hidden(name, test, points))
    return found


@dataclass(frozen=True)
class Unit:
    """The unit of judging: a part of a task, or one of its hidden tests."""

    task: str
    name: str
    of: int
    seconds: float
    work: Callable[[], Judgement]


def units(
    answers: ModuleType, tasks: Mapping[str, int], hidden: Mapping[str, Sequence[Hidden]], parts: bool = True
) -> list[Unit]:
    """Return the units to judge, in order, given the seed of each task; without `parts`, only the hidden tests."""
    found = []
    for name, seed in tasks.items():
        if not parts and name not in hidden:
            continue
        task = find(name)
        for part in task.parts if parts else ():
            work = partial(judge_part, task, part, answers, seed)
            found.append(Unit(name, part.name, part.points, task.seconds, work))
        for test in hidden.get(name, ()):
            found.append(Unit(name, test.name, test.points, task.seconds, partial(test.judge, answers, seed)))
    return found


def attempt(work: Callable[[], Any], file: Path | None = None) -> dict[str, Any]:
    """Return the work's result, or what stopped it, as a record, with the line if it is in `file`."""
    try:
        return {"result": work()}
    except MemoryError:
        return {"failed": "memory", "detail": f"{MEMORY / GIB:g} GiB", "line": None}
    except SystemExit:
        return {"failed": "exit", "detail": "SystemExit", "line": None}
    except SyntaxError as error:
        escape = "unicodeescape" in error.msg  # of a backslash in a text, which is readable
        undecodable = error.lineno is None or "codec can't decode" in error.msg or "encoding" in error.msg
        undecodable = undecodable and not escape
        failed = "encoding" if undecodable else "syntax"
        return {"failed": failed, "detail": error.msg, "line": error.lineno}
    except Exception as error:
        if isinstance(error, ValueError) and "null bytes" in str(error):  # as in UTF-16
            return {"failed": "encoding", "detail": str(error), "line": None}
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if file is not None and Path(frame.filename) == file]
        detail = f"{type(error).__name__}: {error}".rstrip(": ")[:300]
        return {"failed": "load", "detail": detail, "line": lines[-1] if lines else None}


def follow(parent: int) -> None:
    """End this process and its children when its parent is gone, as the parent may have been killed."""
    with suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    if os.name == "posix":
        with suppress(OSError):  # it leads no group
            os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def do(job: Job) -> NoReturn:
    """Run a file, judge its tasks one part after another, and end this process."""
    log, told = (job.place / "log.jsonl").open("a", encoding="utf-8"), count()

    def tell(**record: Any) -> None:
        log.write(job.signed(json.dumps(record), next(told)))
        log.flush()

    if os.name == "posix":
        os.setsid()
    os.chdir(job.place / "room")
    printed = os.open(job.place / "printed", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(printed, stream.fileno())
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # they are files
    threading.Thread(target=follow, args=(job.parent,), daemon=True).start()
    judging = sum(len(task.parts) * task.seconds for task in map(find, job.tasks)) if job.parts else HIDDEN
    loading = seconds_of(job.file)
    limit_this_process(LOADING + loading + judging)
    tell(pid=os.getpid(), seconds=loading)
    sys.dont_write_bytecode = True  # beside what the file imports
    hidden = job.hidden
    tests = attempt(lambda: hidden_tests(hidden, job.tasks) if hidden is not None else {}, hidden)
    if job.beside is not None:
        sys.path.append(str(job.beside))  # at the end: a student's `queue.py` is not Python's
    outcome = attempt(lambda: load(job.file), job.file) if "result" in tests else tests | {"hidden": True}
    if "failed" in outcome:
        tell(**outcome)
    else:
        for unit in units(outcome["result"], job.tasks, tests["result"], job.parts)[job.skip :]:
            tell(task=unit.task, begins=unit.name, of=unit.of, seconds=unit.seconds)
            ended = attempt(unit.work)
            if "failed" in ended:
                tell(task=unit.task, stopped=ended["failed"], detail=ended["detail"])
            else:
                tell(task=unit.task, result=ended["result"].to_json())
        tell(end=True)
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(0)  # even if the file has left threads behind


def import_once(tasks: Iterable[str]) -> None:
    """Import what judging the tasks needs and what their sheets' files begin with."""
    for sheet in {sheet_of(name) for name in tasks}:
        exec(read(sheet, "en").preamble, {})
    for module in {module for name in tasks for module in find(name).loads}:
        import_module(module)


def compute_once(tasks: Mapping[str, int]) -> None:
    """Call the solutions that keep their results, so that all later jobs with the same inputs have them."""
    import torch

    for name, seed in tasks.items():
        for part in find(name).parts:
            if hasattr(part.right, "cache_info"):
                for arguments in part.cases(torch.Generator().manual_seed(seed)):
                    part.right(*arguments)


def main() -> None:
    """Do incoming jobs, each in a separate process."""
    import torch

    torch.set_num_threads(1)
    for number, line in enumerate(sys.stdin):
        job = Job.from_json(line)
        if job.parts:
            import_once(job.tasks)
        if job.parts and number:  # the first may be the only one, with nothing answered yet
            compute_once(job.tasks)
        if not hasattr(os, "fork"):
            do(job)
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # later jobs must not be readable by the file
            do(job)
        _, status = os.waitpid(pid, 0)
        ended = job.place / "ended.new"
        with suppress(OSError):  # nobody waits for it any more
            job.place.chmod(0o700)  # whatever the file has made of it
            ended.write_text(str(os.waitstatus_to_exitcode(status)), encoding="ascii")
            ended.rename(job.place / "ended")


if __name__ == "__main__":
    main()
