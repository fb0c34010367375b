"""Digests of what a user's own network, loss and data consist of, by which a trial of them is known again.

The user's own code counts, with the values that it refers to; that of installed packages counts by name alone, as it is
not what a user changes, and refers to caches that change by themselves.
"""

import dis
import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from reslab.digests import INSTALLED
from reslab.state import OF_TORCH, hooks_of

CONTENTS = ("_parameters", "_buffers", "_modules")
"""The attributes of a module that hold what it consists of."""
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
"""Those that hold functions called at every pass, by numbers that differ from process to process."""
CALLED = ("forward", "__call__", "train", "__getitem__")
"""The functions of an object that run while something is trained."""
CACHED = type(functools.cache(len))
"""The kind of functions that remember what they returned."""
HELD = (list, set, Mapping, np.ndarray, Tensor)
"""Kinds of values that are also left on a module by another's forward, or by a hook."""
IN_PLACE = (
    *("append", "appendleft", "extend", "insert", "pop", "popleft", "popitem", "remove", "clear"),
    *("update", "setdefault", "discard"),
)
"""Methods that change what they belong to, but for those of a tensor, which end in an underscore."""


def digest(*values: Any) -> str:
    """Return the first 16 hex digits of a hash of values, the same in every process: tensors and arrays by their bytes,
    modules by their layers, weights, settings and code, functions and other objects by their code and values,
    containers by their members. Anything else counts by its text, and without one by its class alone.
    """
    found = hashlib.sha256()
    for part in _parts(values, Met({}, set())):
        content = memoryview(part)
        found.update(b"%d\0" % content.nbytes)
        found.update(content)
    return found.hexdigest()[:16]


class Met(NamedTuple):
    """What came before a value: values within which it is, or that may be met again, by their place in memory, in which
    they are kept, so that none takes the place of another; and the names of what modules around it change.
    """

    values: dict[int, tuple[int, Any]]
    changed: set[str]


def _parts(value: Any, met: Met) -> Iterator[bytes | memoryview]:
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
    elif id(value) in met.values:
        yield b"as value %d" % met.values[id(value)][0]
    else:
        met.values[id(value)] = len(met.values), value
        for part in _members(value, met.changed):
            yield from _parts(part, met)
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


def _members(value: Any, changed: set[str]) -> Iterator[Any]:
    """Yield what a value consists of, the name of its class first; a module adds the names of what it changes."""
    kind = type(value)
    yield f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, nn.Module):
        yield from _of_module(value, changed)
    elif isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, set | frozenset):
        yield from sorted(map(digest, value))
    elif isinstance(value, list | tuple):
        yield from [repr(value)] if _is_plain(value) else value  # at once, as there may be a million
    elif isinstance(value, np.ndarray):  # of objects
        yield from (value.shape, value.tolist())
    elif hasattr(value, "to_numpy"):  # a table, whose text leaves out rows
        yield from (list(getattr(value, "columns", ())), value.to_numpy())
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, functools.cached_property):
        yield value.func
    elif isinstance(value, CACHED):
        yield value.__wrapped__
    elif isinstance(value, torch.jit.ScriptFunction):
        yield value.code
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
        yield from (_code_of(kind), settings(value))
        yield from ((name, getattr(value, name, None)) for name in _slots(kind))
    elif " at 0x" not in (text := _text(value)):
        yield text


def _slots(kind: type) -> list[str]:
    """Return the attributes of a class and its bases that are kept in slots."""
    declared = [vars(each).get("__slots__", ()) for each in kind.__mro__]
    return [name for names in declared for name in ([names] if isinstance(names, str) else names)]


def _is_plain(value: Any) -> bool:
    return type(value) in (str, int, float, bool) or (type(value) in (list, tuple) and all(map(_is_plain, value)))


def _text(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # of a class that somebody wrote
        return ""


def _of_module(module: nn.Module, changed: set[str]) -> Iterator[Any]:
    """Yield a module's settings, code, contents and hooks, without what a forward or a hook leaves on it."""
    yield from (module.extra_repr(), _code_of(type(module)))
    hooks = [list(vars(module)[kind].values()) for kind in HOOKS]
    hooks += [hooks_of(each) for each in module._parameters.values() if each is not None]
    mine = {name for each in hooks for hook in each for name in _changed_by(hook)}
    changed |= mine | _changed(type(module))
    yield hooks
    private = _is_users(type(module))  # those of installed packages are caches, or differ from process to process
    for name, value in settings(module).items():
        computed = any(f"{name}{end}" in module._parameters for end in ("_orig", "_g"))  # of pruning, of weight_norm
        left = isinstance(value, HELD) and (computed or name in changed)
        if not left and name not in mine and (private or not name.startswith("_")):
            yield name, value
    yield from ((name, vars(module)[name]) for name in CONTENTS)


def settings(value: Any) -> dict[str, Any]:
    """Return an object's attributes, without those that it changes itself while something is trained."""
    left = _changed(type(value)) | (OF_TORCH if isinstance(value, nn.Module) else frozenset())
    return {name: each for name, each in getattr(value, "__dict__", {}).items() if name not in left}


def _changed(kind: type) -> set[str]:
    """Return the attributes that a class's functions change when it is called: those, and what they call by name."""
    members = [vars(each) for each in kind.__mro__ if each not in (nn.Module, object)]
    reached: set[str] = set()
    waiting, found = list(CALLED), set[str]()
    while waiting:
        if (name := waiting.pop()) not in reached:
            reached.add(name)
            for code in (code for each in members for code in _codes_of(each.get(name))):
                found |= _touched(code)
                waiting += code.co_names
    return found


def _changed_by(hook: Any) -> set[str]:
    """Return the attributes that a hook changes on a module."""
    function = (
        hook
        if hasattr(hook, "__code__") or hasattr(hook, "__func__")
        else inspect.getattr_static(hook, "__call__", None)
    )
    return {name for code in _codes_of(function) for name in _touched(code)}


def _codes_of(member: Any) -> Iterator[types.CodeType]:
    """Yield the code of a function, method or property, also of a decorated one, and of the functions within it."""
    if isinstance(member, property):
        functions = [member.fget, member.fset]
    else:
        functions = [getattr(member, "__func__", member)]
    waiting: list[Any] = [getattr(inspect.unwrap(each), "__code__", None) for each in functions if callable(each)]
    while waiting:
        if isinstance(code := waiting.pop(), types.CodeType):
            yield code
            waiting += code.co_consts


@functools.lru_cache(1024)
def _touched(code: types.CodeType) -> frozenset[str]:
    """Return the names of attributes, and of variables from outside, that a function sets or changes in place."""
    found: set[str] = set()
    # the names that an expression begins with, by where it begins: a variable's, empty if unknown, and attributes'
    begun: dict[Any, list[str]] = {}
    for each in dis.get_instructions(code):
        name, kind, start = str(each.argval), each.opname, each.positions and each.positions[::2]
        if kind in ("STORE_ATTR", "STORE_GLOBAL") or (kind == "STORE_DEREF" and name in code.co_freevars):
            found.add(name)
        elif kind in ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE"):
            found.update(_changing(begun.get(start, [""])))
        elif kind in ("LOAD_ATTR", "LOAD_METHOD"):
            names = begun.setdefault(start, [""])
            if name in IN_PLACE or (name.endswith("_") and not name.endswith("__")):
                found.update(_changing(names))
            names.append(name)
        elif kind.startswith("LOAD_"):
            begun[start] = [name if kind in ("LOAD_GLOBAL", "LOAD_DEREF") else ""]
        elif kind.startswith("CALL"):
            begun.pop(start, None)  # what it returns is another value
    return frozenset(found - {""})


def _changing(names: list[str]) -> list[str]:
    """Return what changes as the end of an expression does: attributes, or a variable where there are none."""
    return names[1:] or names


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    """Yield a function's name, and if it is the user's, its code and what that refers to."""
    yield f"{function.__module__}.{function.__qualname__}"
    if _is_users(function):
        yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
        changed = {name for code in _codes_of(function) for name in _touched(code)}
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                yield None if name in changed else cell.cell_contents
            except ValueError:  # it is not filled yet
                yield None
        for name, *attributes in _globals(function.__code__):
            if name in function.__globals__ and name not in changed:
                value = function.__globals__[name]
                yield _within(value, attributes) if changed.isdisjoint(attributes) else value


def _globals(code: types.CodeType) -> Iterator[list[str]]:
    """Yield the global names that a function reads, and those within it, each with the attributes that follow it."""
    names: list[str] = []
    for each in dis.get_instructions(code):
        if names and each.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            names.append(str(each.argval))
            continue
        if names:
            yield names
        names = [str(each.argval)] if each.opname == "LOAD_GLOBAL" else []
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _globals(inner)


def _within(value: Any, attributes: list[str]) -> Any:
    """Return what is read of one of the user's own modules, as of `losses` in `losses.focal`; another value itself."""
    for name in attributes:
        if not isinstance(value, types.ModuleType) or not _is_users(value) or not hasattr(value, name):
            break
        value = getattr(value, name)
    return value


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
    """Return whether a class, function or module is of the user, and not of an installed package."""
    name = value.__name__ if isinstance(value, types.ModuleType) else str(getattr(value, "__module__", None))
    if name.partition(".")[0] in ("reslab", "torch", "builtins", "None"):
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is None or not str(file).startswith(INSTALLED)
