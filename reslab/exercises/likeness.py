"""When two outcomes are equal: first by kind, then by value.

The content of a value is compared, never through methods of its class, so that an answer cannot define its own
equality.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

_ADDRESS = re.compile(r"0x[0-9a-f]+")
_NUMBER = re.compile(r"\d+")
_NUMBERS = (int, float, Fraction)


@dataclass(frozen=True)
class Raised:
    """An exception in place of a result: its line in the answer's file, and the shapes of the calls, until then, of
    functions that the answer received.
    """

    kind: str
    message: str
    line: int | None = None
    calls: tuple[Any, ...] = ()
    own: bool = False  # raised by the answer itself, not by what it calls


@dataclass(frozen=True)
class OfAnotherKind:
    """A result in which there is nothing to observe, as it is of another kind than `wanted`."""

    wanted: str
    came: Any


def same(a: Any, b: Any, tolerance: float) -> bool:
    """Return whether an outcome `a` equals `b`: first by kind, then by value.

    Real numbers of any type are one kind, including tensors without dimensions and NumPy scalars. Integers are compared
    exactly, other numbers and tensors within a relative `tolerance`. Floating-point, integer, complex and boolean
    tensors are four kinds; a NumPy array counts as a tensor. Exceptions are equal if they have the same message, up to
    the order of numbers in it, after the same calls. Values of custom classes, or without comparison, equal nothing.
    """
    try:
        return _same(a, b, tolerance)
    except Exception:  # no answer can stop the judging
        return False


def _same(a: Any, b: Any, tolerance: float) -> bool:
    a, b = as_tensor(a), as_tensor(b)
    if isinstance(a, Tensor) and isinstance(b, Tensor) and (a.ndim or b.ndim):
        return number_kind(a) == number_kind(b) and a.shape == b.shape and near(a.detach(), b.detach(), tolerance)
    a, b = plain(a), plain(b)
    if isinstance(a, Raised) and isinstance(b, Raised):
        return (a.kind, a.calls, *_said(a.message)) == (b.kind, b.calls, *_said(b.message))
    if isinstance(a, bool | str | None) or isinstance(b, bool | str | None):
        return type(a) is type(b) and bool(a == b)
    if type(a) in _NUMBERS and type(b) in _NUMBERS:
        return bool(a == b or (type(b) is not int and abs(float(a) - float(b)) <= tolerance * max(1.0, abs(float(b)))))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key], tolerance) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.nn.Module) and isinstance(b, torch.nn.Module):
        return same(dict(a.state_dict()), dict(b.state_dict()), tolerance)
    return type(a) is type(b) and not callable(a) and bool(a == b)


def _said(message: str) -> tuple[str, list[str]]:
    """Return a message without its numbers, and the sorted numbers, as `a + b` and `b + a` fail alike."""
    message = _ADDRESS.sub("", message)
    return _NUMBER.sub("#", message), sorted(_NUMBER.findall(message))


def number_kind(tensor: Tensor) -> str:
    """Return the kind of a tensor's values."""
    if tensor.dtype == torch.bool:
        return "truth"
    return "complex" if tensor.is_complex() else "float" if tensor.is_floating_point() else "whole"


def near(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Return whether tensors of the same shape and kind are equal within `tolerance`, relative to the second; integers
    exactly.
    """
    if number_kind(b) != "float":
        return torch.equal(a, b)
    first, second = a.double(), b.double()
    scale = max(1.0, float(second.abs().max())) if second.numel() else 1.0
    return bool(((first - second).abs() <= tolerance * scale).all() or torch.equal(first, second))


def as_tensor(value: Any) -> Any:
    """Return a NumPy array of numbers as a tensor, and a tensor of a class of its own as one of torch's, whose methods
    are known; anything else unchanged.

    Raises:
        TypeError: if it is a tensor whose operations are its class's.
    """
    if isinstance(value, Tensor) and type(value) not in (Tensor, Parameter):
        if type(value).__torch_dispatch__ is not Tensor.__torch_dispatch__:
            raise TypeError(f"{type(value).__name__} computes in its own way")
        with torch._C.DisableTorchFunctionSubclass():
            return Tensor.as_subclass(value, Tensor)
    if type(value) is not np.ndarray or value.dtype.kind not in "biufc":
        return value
    return torch.tensor(value.copy())  # a copy, as torch does not accept a reversed array


def plain(value: Any) -> Any:
    """Return a value in Python's own types, by its content and without methods of its class; anything else
    unchanged.
    """
    if isinstance(value, np.generic):
        return np.generic.item(value)
    if isinstance(value, Tensor) and value.ndim == 0:
        return as_tensor(value).item()
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


def kept(given: Any, original: Any) -> bool:
    """Return whether an answer's input is unchanged; functions and networks are not inspected."""
    if isinstance(original, Tensor | bool | int | float | str | None):
        return same(given, original, 0.0)
    if isinstance(original, Mapping):
        return given.keys() == original.keys() and all(kept(given[key], original[key]) for key in original)
    if isinstance(original, list | tuple):
        return len(given) == len(original) and all(kept(x, y) for x, y in zip(given, original, strict=True))
    return True


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, Mapping):
        yield from tensors(list(value.values()))
