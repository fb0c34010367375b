"""Generic causes of a wrong answer: if no known mistake matches, they are inferred from how the outcome differs."""

import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from reslab.exercises.likeness import OfAnotherKind, Raised, as_tensor, near, number_kind, plain, same

NEARLY = 1e-4
"""A relative difference below which an answer was most likely computed with too few digits."""
_SAID = {
    r"in-?place operation": "in-place",
    r"invalid combination of arguments": "raised",  # which lists signatures with a dtype
    r"can't call numpy\(\) on tensor that requires": "numpy-of-a-graph",
    r"does not require grad": "detached",
    r"same dtype|expected scalar type|should be the same|must be the same|dtype": "dtypes",
    r"must match the size|inconsistent tensor size|cannot be multiplied|size mismatch|to have \d+ channels": "sizes",
    r"shape '|expected input|not match": "sizes",
}
"""The cause of an exception, by a phrase of PyTorch's message."""


def cause(expected: Any, came: Any, changed: bool, tolerance: float) -> str:
    """Return the name of a generic cause, under which feedback.toml explains it."""
    try:
        return _cause(expected, came, changed, tolerance)
    except Exception:  # of what cannot be looked into
        return "unknown"


def _cause(expected: Any, came: Any, changed: bool, tolerance: float) -> str:
    if isinstance(came, Raised):
        return next((name for said, name in _SAID.items() if re.search(said, came.message, re.IGNORECASE)), "raised")
    if changed:
        return "changes-its-input"
    if isinstance(came, OfAnotherKind):
        return _difference(None, came.came, tolerance)
    return _difference(expected, came, tolerance)


def _difference(expected: Any, came: Any, tolerance: float) -> str:
    """Return the first difference between the outcome and what was expected."""
    if came is None:
        return "returns-nothing"
    if callable(came) and not isinstance(came, torch.nn.Module):
        return "callable"
    expected, came = as_tensor(expected), as_tensor(came)
    if isinstance(expected, Tensor) and isinstance(came, Tensor) and expected.ndim:
        return _of_tensors(expected, came, tolerance)
    expected, came = plain(expected), plain(came)
    if isinstance(expected, Mapping) and isinstance(came, Mapping):
        if expected.keys() != came.keys():
            return "keys"
        return _first([(expected[key], came[key]) for key in expected], tolerance)
    if isinstance(expected, list) and isinstance(came, list):
        if len(expected) != len(came):
            return "length"
        if sorted(map(str, expected)) == sorted(map(str, came)):
            return "order"
        return _first(list(zip(expected, came, strict=True)), tolerance)
    if isinstance(expected, str) and isinstance(came, str):
        return "spelling" if expected.casefold() == came.strip().casefold() else "unknown"
    truths = isinstance(expected, bool), isinstance(came, bool)
    if isinstance(expected, Real) and isinstance(came, Real) and truths[0] == truths[1]:
        return _of_numbers(expected, came)
    return "kind" if type(expected) is not type(came) else "unknown"


def _first(pairs: list[tuple[Any, Any]], tolerance: float) -> str:
    return next(_difference(*pair, tolerance) for pair in pairs if not same(pair[1], pair[0], tolerance))


def _of_tensors(expected: Tensor, came: Tensor, tolerance: float) -> str:
    if expected.shape != came.shape:
        return "shape"
    if number_kind(expected) != number_kind(came):
        return "kind"
    if not torch.isfinite(came).all():
        return "not-finite"
    return "nearly" if near(came.detach(), expected.detach(), max(NEARLY, tolerance)) else "unknown"


def _of_numbers(expected: Real, came: Real) -> str:
    if not torch.isfinite(torch.tensor(float(came), dtype=torch.float64)):
        return "not-finite"
    if abs(float(came) - float(expected)) <= NEARLY * max(1.0, abs(float(expected))):
        return "not-exact" if isinstance(expected, Integral) else "nearly"
    return "unknown"
