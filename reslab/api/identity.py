"""Digests of what a user's own network, loss and data consist of, by which a trial of them is known again."""

import functools
import hashlib
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CONTENTS = ("_parameters", "_buffers", "_modules")
"""The attributes of a module that hold what it consists of."""


def digest(*values: Any) -> str:
    """Return the first 16 hex digits of a hash of values: tensors and arrays by their bytes, modules by their layers,
    weights, settings and code, functions and other callables by their code and the values that it refers to, containers
    by their members. Anything else counts by its text, and without one by its class alone.
    """
    found = hashlib.sha256()
    for part in _parts(values, {}):
        found.update(b"%d\0" % len(part) + part)
    return found.hexdigest()[:16]


def _parts(value: Any, seen: dict[int, tuple[int, Any]]) -> Iterator[bytes]:
    """Yield what is hashed of a value; `seen` are those within which it is, or that came before, which may be met again
    and are kept, so that none takes the place of another in memory.
    """
    if isinstance(value, Tensor):
        yield f"{value.dtype} {list(value.shape)} {value.requires_grad}".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype} {value.shape}".encode()
        yield value.tobytes()
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes):
        yield repr(value).encode()
    elif id(value) in seen:
        yield b"as value %d" % seen[id(value)][0]
    else:
        seen[id(value)] = len(seen), value
        for part in _members(value):
            yield from _parts(part, seen)
        yield b"end"


def _members(value: Any) -> Iterator[Any]:
    """Yield what a value consists of, the name of its class first."""
    kind = type(value)
    yield f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, nn.Module):
        yield from (value.extra_repr(), *_code_of(kind))
        yield from ((name, each) for name, each in vars(value).items() if name in CONTENTS or _is_setting(name))
    elif isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, set | frozenset):
        yield from sorted(map(repr, value))
    elif isinstance(value, list | tuple):
        yield from value
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, types.CodeType):
        yield from (value.co_code, value.co_names, value.co_consts)
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, type | types.BuiltinFunctionType | types.ModuleType):
        yield f"{getattr(value, '__module__', '')}.{value.__name__}"
    elif callable(value):
        yield from (*_code_of(kind), getattr(value, "__dict__", {}))
    elif " at 0x" not in (text := repr(value)):
        yield text


def _is_setting(attribute: str) -> bool:
    return not attribute.startswith("_") and attribute != "training"


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    """Yield a function's name, and unless it is torch's, its code and what that refers to."""
    yield f"{function.__module__}.{function.__qualname__}"
    if not _is_torchs(function.__module__):
        yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
        yield from (cell.cell_contents for cell in function.__closure__ or ())
        yield from (function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__)


def _code_of(kind: type) -> Iterable[Any]:
    """Return the functions of a class and its bases, unless they are torch's."""
    return [
        member
        for each in kind.__mro__
        if not _is_torchs(each.__module__)
        for member in vars(each).values()
        if isinstance(member, types.FunctionType)
    ]


def _is_torchs(module: str | None) -> bool:
    return str(module).partition(".")[0] in ("torch", "builtins")
