"""The process in which one task of a learner's file is judged: `python -m reslab.exercises.child`, started by `confinement`.

It limits itself as far as the platform lets it before it loads the file, and leaves the judgements as JSON in a file of its own.
"""

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from reslab.exercises.confinement import GIB, MEMORY, READY, limit_this_process
from reslab.exercises.grading import Judgement, judge
from reslab.exercises.tasks import find
from reslab.runs import write_json


def load(path: Path) -> ModuleType:
    """Run a Python file and return it as a module."""
    spec = importlib.util.spec_from_file_location("answers", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["answers"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def hidden(tests: Path, task: str, answers: ModuleType, seed: int) -> list[Judgement]:
    """Return a judgement for each hidden test of a task: functions `test_1_3…(answers, seed)` in the teacher's file, worth `.points` or 1."""
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
                judgements.append(Judgement(name, "wrong", 0, points, came=f"{type(error).__name__}: {error}"[:300]))
    return judgements


def main() -> None:
    """Judge one task and write `{"parts": [...]}` or `{"failed": …, "line": …}`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("task")
    parser.add_argument("seed", type=int)
    parser.add_argument("result", type=Path)
    parser.add_argument("--hidden", type=Path)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    task = find(given.task)
    limit_this_process(task.seconds)
    given.result.with_name(READY).touch()
    try:
        answers = load(given.file)
        parts = judge(task, answers, given.seed)
        if given.hidden is not None:
            parts += hidden(given.hidden, task.id, answers, given.seed)
    except MemoryError:
        write_json(given.result, {"failed": "memory", "detail": f"{MEMORY / GIB:g} GiB"})
    except SystemExit:
        write_json(given.result, {"failed": "exit", "detail": ""})
    except SyntaxError as error:
        write_json(given.result, {"failed": "syntax", "detail": f"{error.msg}, {error.lineno}"})
    except Exception as error:
        write_json(given.result, {"failed": "load", "detail": f"{type(error).__name__}: {error}"[:300]})
    else:
        write_json(given.result, {"parts": [part.to_json() for part in parts]})


if __name__ == "__main__":
    main()
