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
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.machinery import SourceFileLoader
from itertools import count
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn

import psutil

from reslab.exercises.confinement import GIB, LOADING, MEMORY, Job, limit_this_process
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


class _Source(SourceFileLoader):
    """Runs a file of whatever suffix, without bytecode: `kim.py` and `kim.txt` would share it."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


class _Shell:
    """Stands in for IPython's shell, and does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def load(path: Path) -> ModuleType:
    """Run a Python file and return it as a module."""
    loader = _Source(path.stem, str(path))
    spec = importlib.util.spec_from_loader(path.stem, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    vars(module).update(display=print, get_ipython=_Shell)  # which notebooks have
    content = path.read_bytes()
    cells = cells_of(content)
    if len(cells) > 1:
        _run_cells([cell.decode() for cell in cells], path, module)
    else:
        loader.exec_module(module)
    return module


def _run_cells(cells: Sequence[str], path: Path, module: ModuleType) -> None:
    """Run a notebook's cells as Jupyter does, where one that fails stops no other; what failed is told where a function
    is missing.

    Raises:
        Exception: what failed first, if no function that a sheet asks for is there.
    """
    above, futures, failed = 0, 0, dict[int, Exception]()
    for number, cell in enumerate(cells, start=1):
        try:
            code = compile("\n" * above + cell, str(path), "exec", futures, dont_inherit=True)
            futures |= code.co_flags & FUTURES
            exec(code, vars(module))
        except Exception as error:
            failed[number] = error
        above += cell.count("\n") + CELL.count("\n")
    if failed and not any(callable(vars(module).get(name)) for sheet in SHEETS for name in asked_in(sheet)):
        raise next(iter(failed.values()))
    said = (f"cell {number}: {type(error).__name__}: {error}" for number, error in failed.items())
    vars(module)[FAILED_CELLS] = "; ".join(said)


def hidden_tests(tests: ModuleType, task: str) -> dict[str, Callable[..., Any]]:
    """Return the hidden tests of a task: functions `test_1_3…(answers, seed)` in the teacher's file."""
    prefix = f"test_{task.replace('.', '_')}"
    return {
        name: test
        for name, test in vars(tests).items()
        if callable(test) and (name == prefix or name.startswith(f"{prefix}_"))
    }


def points_of(test: Callable[..., Any]) -> Any:
    """Return what a hidden test is worth: its `.points`, or 1; never a number of NumPy or torch."""
    points = getattr(test, "points", 1)
    return points.item() if hasattr(points, "item") else points


def judge_hidden(name: str, test: Callable[..., Any], answers: ModuleType, seed: int) -> Judgement:
    """Return the judgement of a hidden test."""
    points = points_of(test)
    try:
        with held(replace(Settings.now(), gradients=True)):
            test(answers, seed)
    except MemoryError:
        raise
    except Exception as error:
        came = f"{type(error).__name__}: {error}"[:300]
        return Judgement(name, "wrong", 0, points, came=came, mistakes=("hidden",))
    return Judgement(name, "right", points, points)


@dataclass(frozen=True)
class Unit:
    """The unit of judging: a part of a task, or one of its hidden tests."""

    task: str
    name: str
    of: int
    seconds: float
    work: Callable[[], Judgement]


def units(answers: ModuleType, tasks: Mapping[str, int], tests: ModuleType | None, parts: bool = True) -> list[Unit]:
    """Return the units to judge, in order, given the seed of each task; without `parts`, only the hidden tests."""
    found = []
    for name, seed in tasks.items():
        hidden = hidden_tests(tests, name) if tests is not None else {}
        if not parts and not hidden:
            continue
        task = find(name)
        for part in task.parts if parts else ():
            work = partial(judge_part, task, part, answers, seed)
            found.append(Unit(name, part.name, part.points, task.seconds, work))
        for test_name, test in hidden.items():
            points = points_of(test)
            found.append(
                Unit(name, test_name, points, task.seconds, partial(judge_hidden, test_name, test, answers, seed))
            )
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
    limit_this_process(2 * LOADING + judging)
    tell(pid=os.getpid(), seconds=LOADING)
    hidden = job.hidden
    tests = attempt(lambda: load(hidden) if hidden is not None else None, hidden)
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
            ended.write_text(str(os.waitstatus_to_exitcode(status)), encoding="ascii")
            ended.rename(job.place / "ended")


if __name__ == "__main__":
    main()
