"""The process in which a learner's file is judged: `python -m reslab.exercises.child`, started by `confinement`.

It limits itself as far as the platform lets it before it runs the file. What it is about to do, and what came of it, it
appends to a log (JSON lines), so that whoever started it knows what stopped it.
"""

import argparse
import importlib.util
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from reslab.exercises.confinement import GIB, LOADING, MEMORY, limit_this_process
from reslab.exercises.grading import Judgement, judge
from reslab.exercises.tasks import find


def load(path: Path) -> ModuleType:
    """Run a Python file and return it as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def hidden(tests: Path, task: str, answers: ModuleType, seed: int) -> list[Judgement]:
    """Return a judgement for each hidden test of a task: functions `test_1_3…(answers, seed)` in the teacher's file,
    worth `.points` or 1.
    """
    prefix = f"test_{task.replace('.', '_')}"
    judgements = []
    for name, test in vars(load(tests)).items():
        if callable(test) and (name == prefix or name.startswith(f"{prefix}_")):
            points = getattr(test, "points", 1)
            try:
                test(answers, seed)
                judgements.append(Judgement(name, "right", points, points))
            except MemoryError:
                raise
            except Exception as error:
                judgements.append(
                    Judgement(
                        name, "wrong", 0, points, came=f"{type(error).__name__}: {error}"[:300], mistakes=("hidden",)
                    )
                )
    return judgements


def attempt(work: Callable[[], Any]) -> dict[str, Any]:
    """Return what the work gives, or what stopped it, as a record."""
    try:
        return {"result": work()}
    except MemoryError:
        return {"failed": "memory", "detail": f"{MEMORY / GIB:g} GiB"}
    except SystemExit:
        return {"failed": "exit", "detail": "SystemExit"}
    except SyntaxError as error:
        return {"failed": "syntax", "detail": f"{error.msg}, {error.lineno}"}
    except Exception as error:
        return {"failed": "load", "detail": f"{type(error).__name__}: {error}"[:300]}


def follow(parent: int) -> None:
    """End this process, and what it started, when there is no such parent any more; that may have been killed and could
    not do it.
    """
    with suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    if os.name == "posix":
        with suppress(OSError):  # it leads no group
            os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Run a file, and judge its tasks one after another."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("parent", type=int, help="the process whose end is this one's")
    parser.add_argument("tasks", nargs="+", help="such as 1.3:42, with the seed of its inputs")
    parser.add_argument("--hidden", type=Path)
    given = parser.parse_args()
    threading.Thread(target=follow, args=(given.parent,), daemon=True).start()
    import torch

    torch.set_num_threads(1)
    tasks = [(find(name), int(seed)) for name, seed in (word.split(":") for word in given.tasks)]
    log = given.log.open("a", encoding="utf-8")

    def tell(**record: Any) -> None:
        log.write(json.dumps(record) + "\n")
        log.flush()

    limit_this_process(LOADING + sum(task.seconds for task, _ in tasks))
    tell(begins="", seconds=LOADING)
    loaded: list[ModuleType] = []
    outcome = attempt(lambda: loaded.append(load(given.file)))
    tell(task="", **outcome)
    if "failed" in outcome:
        return
    for task, seed in tasks:
        tell(begins=task.id, seconds=task.seconds)

        def work(task: Any = task, seed: int = seed) -> list[dict[str, Any]]:
            parts = judge(task, loaded[0], seed)
            parts += hidden(given.hidden, task.id, loaded[0], seed) if given.hidden is not None else []
            return [part.to_json() for part in parts]

        tell(task=task.id, **attempt(work))


if __name__ == "__main__":
    main()
