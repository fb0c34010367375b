"""Files of answers, made from the reference solutions."""

import inspect
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from reslab.errors import Language
from reslab.exercises import sheets, tasks
from reslab.exercises.grading import Part, Task, judge_part
from reslab.exercises.judgement import Judgement

RIGHT = "import torch\ndef branch_target(h):\n    return lambda x: h(x) - x\n"
"""Three of the ten points of task 1.1."""


def solved(number: str, language: Language = "en", changes: Mapping[str, str] | None = None) -> str:
    """Return a sheet's file, every stub filled with its reference solution, or with what `changes` has for the
    function.
    """
    text = sheets.starter(number, language)
    for name in sheets.read(number, language).tasks:
        for part in tasks.find(name).parts:
            source = (changes or {}).get(part.name, inspect.getsource(part.right))
            text, count = re.subn(
                rf"^def {part.name}\(.*?raise NotImplementedError\n",
                lambda _, source=source: source,
                text,
                flags=re.S | re.M,
            )
            assert count == 1, (name, part.name)
    return text


LONG = {  # these build, train or see through many networks
    "measured_rate",
    "run",
    "removal_errors",
    "removal_curve",
    "draw_flow",
    "my_network",
    "branch_shares",
    "shortcut_errors",
    "changed_answers",
}


def judged(part: Part, answer: Any, seed: int = 0) -> Judgement:
    """Judge one function as the answer to one part."""
    module = ModuleType("answers")
    code = getattr(answer, "__code__", None)
    module.__file__ = code.co_filename if code else __file__  # where lines of the answer are looked for
    setattr(module, part.name, answer)
    return judge_part(Task("0.0", [part]), part, module, seed)


def part(right: Any, *cases: tuple[Any, ...]) -> Part:
    return Part(right, 1, lambda generator: iter(cases), {})
