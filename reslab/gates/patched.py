"""What of torch is otherwise while a network is traced, and put back afterwards."""

import builtins
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.autograd import Function
from torch.fx.proxy import TraceError
from torch.nn.modules import transformer
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import CheckpointFunction


@contextmanager
def _patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Inside this context, an attribute is another, whether it is the owner's own or inherited."""
    own = name in vars(owner)
    original = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)


def modes_read(mode_of: Callable[[nn.Module], Any]) -> AbstractContextManager[None]:
    """Inside this context, a module's `training` is what `mode_of` says, if it says anything."""
    original = nn.Module.__getattribute__

    def read(module: nn.Module, name: str) -> Any:
        if name == "training" and (mode := mode_of(module)) is not None:
            return mode
        return original(module, name)

    return _patched(nn.Module, "__getattribute__", read)


def attributes_assigned(record: Callable[[nn.Module, str, Any], object]) -> AbstractContextManager[None]:
    """Inside this context, an assignment of traced values to a buffer or another attribute is recorded."""
    original = nn.Module.__setattr__

    def write(module: nn.Module, name: str, value: Any) -> None:
        if _is_traced(value):
            record(module, name, value)
        if isinstance(value, fx.Proxy) and name in vars(module).get("_buffers", ()):
            module._buffers[name] = value  # type: ignore[assignment]  # what is read from here on
        else:
            original(module, name, value)

    return _patched(nn.Module, "__setattr__", write)


def compiled_as_written() -> AbstractContextManager[Any]:
    """Inside this context, what torch.compile made of a function is that function, where it would refuse to be
    traced.
    """
    dynamo: Any = sys.modules.get("torch._dynamo")
    return dynamo.config.patch(error_on_nested_fx_trace=False) if dynamo is not None else nullcontext()


@contextmanager
def own_gradients_refused() -> Iterator[None]:
    """Inside this context, an `autograd.Function` of a traced value is refused, as no graph has its gradient; but
    reentrant checkpoints only call their function, which has the same gradient.
    """
    kinds: list[type[Function]] = [Function]
    for kind in kinds:  # which grows
        kinds += kind.__subclasses__()
    original = vars(Function)["apply"]

    def apply(kind: type[Function], *args: Any, **kwargs: Any) -> Any:
        call = original.__get__(None, kind)
        return (call if _is_of_checkpoints(kind) else _refusing(call))(*args, **kwargs)

    with ExitStack() as stack:
        stack.enter_context(_patched(CheckpointFunction, "apply", staticmethod(_called)))
        stack.enter_context(_patched(Function, "apply", classmethod(apply)))
        for kind in {kind for kind in kinds if "forward" in vars(kind) and not _is_of_checkpoints(kind)}:
            # for an `apply` that was looked up before
            refusing = _refusing(vars(kind)["forward"].__get__(None, kind))
            stack.enter_context(_patched(kind, "forward", staticmethod(refusing)))
        yield


def _called(function: Callable[..., Any], _preserve_rng_state: bool, *args: Any) -> Any:
    return function(*args)


def _is_of_checkpoints(kind: type[Function]) -> bool:
    """Return whether a function belongs to torch's checkpoints, which note what they are given and no more."""
    return kind.__module__ == CheckpointFunction.__module__


def _refusing(call: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        if _is_traced((args, kwargs)):
            raise TraceError("it computes in an autograd.Function, whose own gradient a graph would lose")
        return call(*args, **kwargs)

    return refuse


def autocast_met(meet: Callable[[torch.autocast], object]) -> AbstractContextManager[None]:
    """Inside this context, whatever turns autocast on or off is met first."""
    original = torch.autocast.__enter__

    def enter(context: torch.autocast) -> Any:
        meet(context)
        return original(context)

    return _patched(torch.autocast, "__enter__", enter)


FACTORIES = ("arange", "empty", "eye", "full", "linspace", "ones", "tensor", "tril_indices", "triu_indices", "zeros")
"""Torch's factories, which make tensors from sizes and would not accept a traced value as a size."""


@contextmanager
def factories_recorded(record: Callable[..., Any]) -> Iterator[None]:
    """Inside this context, calls of torch's factories with a traced value are recorded in the graph."""

    def recording(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def make(*args: Any, **kwargs: Any) -> Any:
            return record(original, args, kwargs) if _is_traced((args, kwargs)) else original(*args, **kwargs)

        return make

    with ExitStack() as stack:
        for name in FACTORIES:
            stack.enter_context(_patched(torch, name, recording(getattr(torch, name))))
        yield


@contextmanager
def masks_recorded(record: Callable[..., Any]) -> Iterator[None]:
    """Inside this context, torch's own transformers take traced masks: whether one is causal is asked in the graph."""
    dtype_of, is_causal = F._none_or_dtype, transformer._detect_is_causal_mask

    def dtype(mask: Any) -> Any:
        return mask.dtype if isinstance(mask, fx.Proxy) else dtype_of(mask)

    def causal(*asked: Any) -> Any:
        return record(is_causal, asked, {}) if _is_traced(asked) else is_causal(*asked)

    with _patched(F, "_none_or_dtype", dtype), _patched(transformer, "_detect_is_causal_mask", causal):
        yield


def lengths_recorded(length_of: Callable[[fx.Proxy], Any]) -> AbstractContextManager[None]:
    """Inside this context, `len` of a traced value is what `length_of` says, where it says anything: a forward that
    only passes it on does not branch on it.
    """
    original = len

    def length(value: Any) -> Any:
        found = length_of(value) if isinstance(value, fx.Proxy) else None
        return original(value) if found is None else found

    return _patched(builtins, "len", length)


def _is_traced(arguments: Any) -> bool:
    return any(isinstance(leaf, fx.Proxy) for leaf in tree_leaves(arguments))
