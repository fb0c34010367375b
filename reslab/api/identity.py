"""Digests of what a user's own network, loss and data consist of, by which a trial of them is known again.

The user's own code counts, with the values that it refers to; that of installed packages counts by name alone, as it is
not what a user changes, and refers to caches that change by themselves.
"""

import dis
import functools
import hashlib
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CONTENTS = ("_parameters", "_buffers", "_modules")
"""The attributes of a module that hold what it consists of."""
INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
"""Where code is that is not the user's."""
CHANGING = (list, set, Mapping, np.ndarray, Tensor)
"""Kinds of values that a forward may leave on its module."""


def digest(*values: Any) -> str:
    """Return the first 16 hex digits of a hash of values, the same in every process: tensors and arrays by their bytes,
    modules by their layers, weights, settings and code, functions and other objects by their code and values,
    containers by their members. Anything else counts by its text, and without one by its class alone.
    """
    found = hashlib.sha256()
    for part in _parts(values, {}):
        content = memoryview(part)
        found.update(b"%d\0" % content.nbytes)
        found.update(content)
    return found.hexdigest()[:16]


Seen = dict[int, tuple[int, Any]]
"""The values within which one is, or that came before, which may be met again: by their place in memory, in which they
are kept, so that none takes the place of another.
"""


def _parts(value: Any, seen: Seen) -> Iterator[bytes | memoryview]:
    """Yield what is hashed of a value."""
    if isinstance(value, Tensor):
        yield f"{value.dtype} {list(value.shape)} {value.layout} {value.requires_grad}".encode()
        if not value.is_meta:
            yield from map(_bytes, _strided(value.detach().cpu()))
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype} {value.shape}".encode()
        yield value.tobytes()
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes | Enum | range):
        yield repr(value).encode(errors="backslashreplace")
    elif id(value) in seen:
        yield b"as value %d" % seen[id(value)][0]
    else:
        seen[id(value)] = len(seen), value
        for part in _members(value):
            yield from _parts(part, seen)
        yield b"end"


def _strided(tensor: Tensor) -> list[Tensor]:
    """Return the tensors with the numbers of one of any layout."""
    if tensor.is_quantized:
        return [tensor.int_repr(), tensor.dequantize()]
    if tensor.layout == torch.strided:
        return [tensor.resolve_conj().resolve_neg()]
    coordinates = tensor.to_sparse_coo().coalesce()
    return [coordinates.indices(), coordinates.values()]


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.contiguous().flatten().view(torch.uint8).numpy())  # type: ignore[arg-type]  # a buffer


def _members(value: Any) -> Iterator[Any]:
    """Yield what a value consists of, the name of its class first."""
    kind = type(value)
    yield f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, nn.Module):
        yield from _of_module(value)
    elif isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, set | frozenset):
        yield from sorted(map(digest, value))
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
    elif isinstance(value, type):
        yield from (f"{value.__module__}.{value.__qualname__}", _code_of(value))
    elif isinstance(value, types.BuiltinFunctionType | types.ModuleType):
        yield f"{getattr(value, '__module__', '')}.{value.__name__}"
    elif is_dataclass(value) or _is_users(kind) or isinstance(value, types.SimpleNamespace):
        yield from (_code_of(kind), dict(getattr(value, "__dict__", {})))
        yield from ((name, getattr(value, name, None)) for name in getattr(kind, "__slots__", ()))
    elif " at 0x" not in (text := _text(value)):
        yield text


def _text(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # of a class that somebody wrote
        return ""


def _of_module(module: nn.Module) -> Iterator[Any]:
    """Yield a module's settings, code and contents, without what a forward leaves on it."""
    yield from (module.extra_repr(), _code_of(type(module)))
    left = {name for function in _functions(type(module)) for name in _stored(function.__code__)}
    for name, value in vars(module).items():
        setting = not name.startswith("_") and name != "training" and name not in left
        if name in CONTENTS or (setting and not isinstance(value, CHANGING)):
            yield name, value


def _functions(kind: type) -> Iterator[types.FunctionType]:
    """Yield the functions of a user's class that run after it was made."""
    for each in filter(_is_users, kind.__mro__):
        for name, member in vars(each).items():
            if isinstance(member, types.FunctionType) and name != "__init__":
                yield member


def _stored(code: types.CodeType) -> Iterator[str]:
    """Yield the attributes that a function sets."""
    return (str(each.argval) for each in dis.get_instructions(code) if each.opname == "STORE_ATTR")


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    """Yield a function's name, and if it is the user's, its code and what that refers to."""
    yield f"{function.__module__}.{function.__qualname__}"
    if _is_users(function):
        yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # it is not filled yet
                yield None
        yield from (function.__globals__[name] for name in _globals(function.__code__) if name in function.__globals__)


def _globals(code: types.CodeType) -> Iterator[str]:
    """Yield the global names that a function reads, and those within it."""
    yield from (str(each.argval) for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL")
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _globals(inner)


def _code_of(kind: type) -> Iterable[Any]:
    """Return what a user's class and its bases have: functions, properties, and values of the class."""
    found = []
    for each in filter(_is_users, kind.__mro__):
        for name, member in vars(each).items():
            inner = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if isinstance(inner, types.FunctionType) or not name.startswith("__"):
                found.append((name, inner))
    return found


def _is_users(value: Any) -> bool:
    """Return whether a class or function is of the user, and not of an installed package."""
    name = str(getattr(value, "__module__", None))
    if name.partition(".")[0] in ("reslab", "torch", "builtins", "None"):
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is None or not str(file).startswith(INSTALLED)
