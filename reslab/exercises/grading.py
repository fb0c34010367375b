"""Judging answers on random inputs, against the reference solution and against known mistakes.

Mistakes are stored as code. If an answer agrees with a mistake in every observation on every input, the feedback names
that mistake.
"""

import copy
import io
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Generator, Tensor

from reslab.exercises.causes import cause
from reslab.exercises.judgement import Judgement
from reslab.exercises.likeness import OfAnotherKind, Raised, kept, same
from reslab.exercises.settings import Settings, held
from reslab.exercises.showing import IN_KOREAN, described_apart
from reslab.exercises.showing import call as call_as_text


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the function's value, which is compared unless a part observes something else."""
    return function(*arguments)


@dataclass(frozen=True)
class Part:
    """One function of a task, with its share of the points.

    `right` is the reference solution, whose name the answer must have. `cases` draws random arguments. `mistakes` are
    wrong solutions by name; those that are `functools.partial` of the same function are also tried in pairs. Compared
    is `observe(function, *arguments)`: by default the function's value; for a block also its gradient, for a direction
    how much it is stretched. If an observation has several `items`, each keeps its share of the points if it is right
    in every case.
    """

    right: Callable[..., Any]
    points: int
    cases: Callable[[Generator], Iterator[tuple[Any, ...]]]
    mistakes: Mapping[str, Callable[..., Any]]
    observe: Callable[..., Any] = call
    tolerance: float = 1e-6
    shares: Sequence[int] = ()
    items: Callable[[Any], Sequence[Any]] = tuple

    @property
    def name(self) -> str:
        """Return the name of the function that is asked for."""
        return self.right.__name__


@dataclass(frozen=True)
class Task:
    """A task's parts, the seconds for checking one of them, and the slow modules that it needs."""

    id: str
    parts: Sequence[Part]
    seconds: float = 20
    loads: Sequence[str] = ()

    @property
    def points(self) -> int:
        """Return the points of a full answer."""
        return sum(part.points for part in self.parts)


FAILED_CELLS = "__failed_cells__"
"""The attribute of a notebook's answers that has the errors of its cells."""


def judge_part(task: Task, part: Part, answers: ModuleType, seed: int) -> Judgement:
    """Return the judgement of one part of a task. What the answers have set for the whole process holds for this answer
    alone, but for gradients, which every answer may need; what this one sets ends with it.
    """
    with held(Settings()) as theirs:
        return _judge_part(task, part, answers, seed, replace(theirs, gradients=True))


def _judge_part(task: Task, part: Part, answers: ModuleType, seed: int, theirs: Settings) -> Judgement:
    started = time.process_time()
    answer, file = getattr(answers, part.name, None), answers.__file__ or ""
    if not callable(answer):
        cells = str(getattr(answers, FAILED_CELLS, ""))
        return Judgement(part.name, "missing", 0, part.points, mistakes=("missing",), printed=cells[:1000])
    cases = list(part.cases(torch.Generator().manual_seed(seed)))
    outcomes, wanted = [], []
    failed: tuple[int, Any, Any, bool, str] | None = None
    for index, arguments in enumerate(cases):
        try:
            expected = part.observe(part.right, *copy.deepcopy(arguments))
        except Exception as error:  # as the file has changed PyTorch itself, say
            came = f"{type(error).__name__}: {error}"[:300]
            return Judgement(part.name, "stopped", 0, part.points, came=came, mistakes=("solution-fails",))
        given = copy.deepcopy(arguments)
        with _heard() as printed, held(theirs):
            came = outcome(part, answer, given, file)
        if isinstance(came, Raised) and came.kind == "NotImplementedError" and came.own:
            return Judgement(part.name, "unfinished", 0, part.points, mistakes=("unfinished",))
        outcomes.append(came)
        wanted.append(expected)
        changed = not kept(given, arguments)
        if failed is None and (changed or not same(came, expected, part.tolerance)):
            failed = index, expected, came, changed, printed.getvalue()
    if failed is None:
        return Judgement(part.name, "right", part.points, part.points, seconds=round(time.process_time() - started, 3))
    index, expected, came, changed, heard = failed
    known = () if isinstance(came, OfAnotherKind) else mistakes_in(part, cases, outcomes)
    raised = isinstance(came, Raised)
    shown, korean = described_apart(expected, came), described_apart(expected, came, IN_KOREAN)
    drawn = f'drawn("{task.id}", "{part.name}", seed={seed}, case={index})'
    return Judgement(
        part.name,
        "error" if raised and not known else "wrong",
        0 if changed else _kept(part, outcomes, wanted),
        part.points,
        *shown,
        mistakes=known or (cause(expected, came, changed, part.tolerance),),
        line=came.line if raised else None,
        input=call_as_text(part.right, cases[index], drawn),
        printed=heard,
        in_korean=korean if korean != shown else (),
        seconds=round(time.process_time() - started, 3),
    )


def _kept(part: Part, outcomes: Sequence[Any], wanted: Sequence[Any]) -> int:
    """Return the points of the items that are right in every case, for an answer that is not entirely right."""
    try:
        pairs = [(part.items(came), part.items(right)) for came, right in zip(outcomes, wanted, strict=True)]
        return sum(
            share
            for place, share in enumerate(part.shares)
            if all(same(came[place], right[place], part.tolerance) for came, right in pairs)
        )
    except Exception:  # of what has no such items
        return 0


def mistakes_in(part: Part, cases: Sequence[tuple[Any, ...]], outcomes: Sequence[Any]) -> tuple[str, ...]:
    """Return the names of the mistake, or the two at once, that agree with every observation; none if there is no such
    mistake.
    """
    pairs = combinations(part.mistakes.items(), 2)
    candidates: list[tuple[tuple[str, ...], Callable[..., Any]]] = [
        ((name,), wrong) for name, wrong in part.mistakes.items()
    ]
    candidates += [((a, b), both) for (a, first), (b, second) in pairs if (both := _together(first, second))]
    return next((names for names, wrong in candidates if _made(part, wrong, cases, outcomes)), ())


def _together(first: Callable[..., Any], second: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return two mistakes combined, if both are options of the same function."""
    if not (isinstance(first, partial) and isinstance(second, partial) and first.func is second.func):
        return None
    apart = not first.args and not second.args and not first.keywords.keys() & second.keywords.keys()
    return partial(first.func, **first.keywords, **second.keywords) if apart else None


def _made(part: Part, wrong: Callable[..., Any], cases: Sequence[tuple[Any, ...]], outcomes: Sequence[Any]) -> bool:
    """Return whether a mistake agrees with the answer in every case."""
    return all(
        same(came, outcome(part, wrong, copy.deepcopy(arguments)), part.tolerance)
        for arguments, came in zip(cases, outcomes, strict=True)
    )


def outcome(part: Part, function: Callable[..., Any], arguments: tuple[Any, ...], file: str = "") -> Any:
    """Return the observation of a function, or its exception, with the line if that is in `file`."""
    calls: list[Any] = []
    watched = [_watched(each, calls) if isinstance(each, FunctionType) else each for each in arguments]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return part.observe(function, *watched)
    except MemoryError:
        raise
    except Exception as error:
        message = " ".join(str(error).split())
        if "can't allocate memory" in message or "not enough memory" in message:  # PyTorch's own words for it
            raise MemoryError from error
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        code = getattr(function, "__code__", None)
        first = code.co_firstlineno if code is not None and code.co_filename == file else None
        line = lines[-1] if lines else first
        own = bool(frames) and frames[-1].filename == file
        return Raised(type(error).__name__, message[:200], line, tuple(calls), own)


def _watched(function: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    """Return a function that an answer is given, noting the shapes with which it is called."""

    def noting(*arguments: Any) -> Any:
        calls.append([tuple(each.shape) for each in arguments if isinstance(each, Tensor)])
        return function(*arguments)

    return noting


class _Heard(io.StringIO):
    """Passes on output, and keeps the beginning."""

    KEPT = 1000

    def __init__(self, out: Any) -> None:
        super().__init__()
        self.out = out

    def write(self, text: str) -> int:
        if self.tell() < self.KEPT:
            super().write(text[: self.KEPT - self.tell()])
        return int(self.out.write(text))

    def flush(self) -> None:
        self.out.flush()


@contextmanager
def _heard() -> Iterator[_Heard]:
    heard = _Heard(sys.stdout)
    with redirect_stdout(heard):
        yield heard
