"""How an answer is judged: on random inputs, against the reference solution, and against the classic mistakes.

A mistake is kept as code, too. An answer that gives what a mistake gives, wherever that differs from what is right, was
made that way:
this is how feedback names the cause, and how a test shows that it does.
"""

import copy
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from numbers import Integral, Real
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import Generator, Tensor

Status = Literal["right", "wrong", "missing", "unfinished", "error"]


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the function returns: what is compared unless a part observes something else."""
    return function(*arguments)


@dataclass(frozen=True)
class Part:
    """One function that a task asks for, with its share of the points.

    `right` is the reference solution, whose name the answer has to have; `cases` draws arguments at random; `mistakes`
    are wrong solutions by name. What is compared is `observe(function, *arguments)`: by default what the function
    returns; for a block also its gradient, for a direction how much it is stretched.
    """

    right: Callable[..., Any]
    points: int
    cases: Callable[[Generator], Iterator[tuple[Any, ...]]]
    mistakes: Mapping[str, Callable[..., Any]]
    observe: Callable[..., Any] = call
    tolerance: float = 1e-6

    @property
    def name(self) -> str:
        """Return the name of the function that is asked for."""
        return self.right.__name__


@dataclass(frozen=True)
class Task:
    """A task's parts, and the seconds that checking it may take."""

    id: str
    parts: Sequence[Part]
    seconds: float = 20

    @property
    def points(self) -> int:
        """Return what a full answer is worth."""
        return sum(part.points for part in self.parts)


@dataclass(frozen=True)
class Judgement:
    """What one part of an answer was worth, and why; `mistake` is the name under which feedback.toml explains it."""

    name: str
    status: Status
    points: int
    of: int
    expected: str = ""
    came: str = ""
    mistake: str | None = None
    line: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the judgement as a JSON record."""
        return asdict(self)


@dataclass(frozen=True)
class Raised:
    """An exception in the place of a result."""

    kind: str
    message: str
    line: int | None = None


def judge(task: Task, answers: ModuleType, seed: int) -> list[Judgement]:
    """Return a judgement for every part of a task, on inputs drawn from the seed."""
    return [_judge(part, getattr(answers, part.name, None), answers.__file__ or "", seed) for part in task.parts]


def _judge(part: Part, answer: Any, file: str, seed: int) -> Judgement:
    if not callable(answer):
        return Judgement(part.name, "missing", 0, part.points, mistake="missing")
    cases = list(part.cases(torch.Generator().manual_seed(seed)))
    outcomes = []
    failed: tuple[Any, Any, bool] | None = None
    for arguments in cases:
        expected = part.observe(part.right, *copy.deepcopy(arguments))
        given = copy.deepcopy(arguments)
        came = outcome(part, answer, given, file)
        if isinstance(came, Raised) and came.kind == "NotImplementedError":
            return Judgement(part.name, "unfinished", 0, part.points, mistake="unfinished")
        outcomes.append(came)
        changed = not same(list(_tensors(given)), list(_tensors(arguments)), 0.0)
        if failed is None and (changed or not same(came, expected, part.tolerance)):
            failed = expected, came, changed
    if failed is None:
        return Judgement(part.name, "right", part.points, part.points)
    expected, came, changed = failed
    known = (name for name, wrong in part.mistakes.items() if _made(part, wrong, cases, outcomes))
    name = next(known, None)
    raised = isinstance(came, Raised)
    status: Status = "error" if raised and name is None else "wrong"
    line = came.line if raised else None
    return Judgement(
        part.name,
        status,
        0,
        part.points,
        describe(expected),
        describe(came),
        name or _cause(expected, came, changed),
        line,
    )


def _made(part: Part, wrong: Callable[..., Any], cases: Sequence[tuple[Any, ...]], outcomes: Sequence[Any]) -> bool:
    """Say whether a mistake gives what the answer gave, in every case."""
    return all(
        same(came, outcome(part, wrong, copy.deepcopy(arguments)), part.tolerance)
        for arguments, came in zip(cases, outcomes, strict=True)
    )


def outcome(part: Part, function: Callable[..., Any], arguments: tuple[Any, ...], file: str = "") -> Any:
    """Return what a function is observed to give, or what it raises, with the line if that is in `file`."""
    try:
        return part.observe(function, *arguments)
    except MemoryError:
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        return Raised(type(error).__name__, " ".join(str(error).split())[:200], lines[-1] if lines else None)


def _cause(expected: Any, came: Any, changed: bool) -> str:
    """Return the name of a cause that any task may have."""
    try:
        return _general(expected, came, changed)
    except Exception:  # of what cannot be looked into
        return "unknown"


def _general(expected: Any, came: Any, changed: bool) -> str:
    if isinstance(came, Raised):
        return "raised"
    if changed:
        return "changes-its-input"
    if came is None:
        return "returns-nothing"
    if isinstance(expected, Tensor) and isinstance(came, Tensor) and expected.shape != came.shape:
        return "shape"
    if callable(came) or (isinstance(expected, Tensor | tuple | list | dict) and not isinstance(came, type(expected))):
        return "kind"
    if any(not torch.isfinite(tensor).all() for tensor in _tensors(came)):
        return "not-finite"
    return "unknown"


def same(a: Any, b: Any, tolerance: float) -> bool:
    """Say whether an outcome `a` is what `b` is: of its kind first, then by value.

    Real numbers of any type are one kind, a tensor of no dimensions and a NumPy scalar among them; what has to be whole
    is compared exactly, other numbers and tensors within `tolerance` of their size. Exceptions are alike by their kind.
    What is of a class of its own, or cannot be compared, is like nothing.
    """
    try:
        return _same(a, b, tolerance)
    except Exception:  # whatever an answer gave, it does not end the judging
        return False


def _same(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and _near(a.detach(), b.detach(), tolerance)
    a, b = _plain(a), _plain(b)
    if isinstance(a, Raised) and isinstance(b, Raised):
        return a.kind == b.kind
    if isinstance(a, bool | str | None) or isinstance(b, bool | str | None):
        return type(a) is type(b) and bool(a == b)
    if isinstance(a, Real) and isinstance(b, Real):
        return bool(
            a == b or (not isinstance(b, Integral) and abs(float(a) - float(b)) <= tolerance * max(1.0, abs(float(b))))
        )
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key], tolerance) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.nn.Module) and isinstance(b, torch.nn.Module):
        return same(dict(a.state_dict()), dict(b.state_dict()), tolerance)
    return type(a) is type(b) and not callable(a) and bool(a == b)


def _near(a: Tensor, b: Tensor, tolerance: float) -> bool:
    first, second = a.double(), b.double()
    scale = max(1.0, float(second.abs().max())) if second.numel() else 1.0
    return bool(((first - second).abs() <= tolerance * scale).all() or torch.equal(first, second))


def _plain(value: Any) -> Any:
    """Return a value as Python's own kinds have it, by what it holds and not by what its class says of it; anything
    else as it is.
    """
    if isinstance(value, np.generic) or (isinstance(value, Tensor) and value.ndim == 0):
        return value.item()
    if type(value) in (bool, int, float, Fraction):
        return value
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, dict):
        return dict(dict.items(value))
    if isinstance(value, list):
        return list(list.__iter__(value))
    return list(tuple.__iter__(value)) if isinstance(value, tuple) else value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))


def describe(value: Any) -> str:
    """Return an outcome as a short text; of what cannot be shown, its kind."""
    try:
        return _described(value)
    except Exception:  # such as a __repr__ of an answer's own
        return type(value).__name__


def _described(value: Any) -> str:
    if isinstance(value, Raised):
        return f"{value.kind}: {value.message}"
    if isinstance(value, Tensor):
        if value.ndim == 0:
            return f"{value.item():.6g}"
        first = ", ".join(f"{number:.4g}" for number in value.detach().flatten()[:4].tolist())
        return f"[{', '.join(map(str, value.shape))}] {first}{', …' if value.numel() > 4 else ''}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return _shortened("{" + ", ".join(f"{key}: {describe(item)}" for key, item in value.items()) + "}")
    if isinstance(value, tuple | list):
        return _shortened("(" + ", ".join(map(describe, value)) + ")")
    return _shortened(repr(value))


def _shortened(text: str) -> str:
    return text if len(text) <= 300 else text[:299] + "…"
