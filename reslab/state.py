"""The state of a network, which is restored after every analysis."""

import copy
import pickle
import random
import sys
from collections import UserDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset

from reslab.errors import UnseenError, told

Container = dict[Any, Any] | list[Any] | set[Any] | deque[Any]
OF_TORCH = frozenset(vars(nn.Module()))
"""The attributes that every module has."""
LARGE = 2**24
"""Bytes of a tensor that is rather one of data than one that a forward keeps."""
_HOLDING = (dict, list, set, tuple, deque)


@contextmanager
def in_mode(network: nn.Module, *, training: bool) -> Iterator[None]:
    """Put the whole network in training or evaluation mode; on exit, restore the mode of every module."""
    modes = {module: module.training for module in network.modules() if hasattr(module, "training")}
    frozen = [module for module in network.modules() if module not in modes]  # TorchScript's
    network.train(training)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for module in frozen:
            vars(module).pop("training", None)


@contextmanager
def draws_apart() -> Iterator[None]:
    """On exit, restore torch's random generators: the CPU's, and those of GPUs if any is in use.

    `torch.random.fork_rng` alone would start every GPU for this, and warn where there are several.
    """
    started, seed = torch.cuda.is_initialized(), torch.initial_seed()
    with torch.random.fork_rng(range(torch.cuda.device_count()) if started else ()):
        yield
        seeded = torch.initial_seed() != seed
    if seeded and not started and torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)  # a seed waits for the first use of a GPU, where the last one counts


@contextmanager
def all_draws_apart(contents: Iterable[tuple[Container, Sequence[Any]]] = ()) -> Iterator[None]:
    """On exit, restore torch's random generators, Python's, NumPy's, and those in containers, also after an error."""
    before = list(_states(contents))
    try:
        with draws_apart():
            yield
    finally:
        for set_state, state in before:
            set_state(state)


def seed_all(seed: int) -> None:
    """Seed torch's, Python's and NumPy's random generators."""
    torch.manual_seed(seed)
    random.seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed % 2**32)


@contextmanager
def whole_float32() -> Iterator[None]:
    """Have a GPU multiply float32 as such: in TensorFloat-32 a network's outputs and a copy's, with BatchNorms folded,
    differ by more than rounding.
    """
    if not torch.cuda.is_initialized():
        yield
        return
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    with _without_tf32(cudnn, cudnn.conv), _without_tf32(matmul, matmul):
        yield


@contextmanager
def _without_tf32(place: Any, newer: Any) -> Iterator[None]:
    """Have a library multiply float32 as such, by its older switch or, where that cannot tell, by its newer one."""
    name, whole = "allow_tf32", cast("bool | str", False)
    try:
        before = getattr(place, name)
    except RuntimeError:  # convolutions were set apart from recurrences, or the newer switch was used
        place, name, whole = newer, "fp32_precision", "ieee"
        before = getattr(place, name)
    setattr(place, name, whole)
    try:
        yield
    finally:
        setattr(place, name, before)


@contextmanager
def transformers_as_written() -> Iterator[None]:
    """Have torch's own transformers and attention run as they are written, not as one kernel in evaluation mode."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def unfused_attention() -> Iterator[None]:
    """Have torch compute attention as the matrix products that it is made of, which can be counted."""
    with transformers_as_written(), sdpa_kernel(SDPBackend.MATH):
        yield


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's parameters; the CPU if it has none."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


@contextmanager
def preserve(network: nn.Module) -> Iterator[None]:
    """On exit, restore the network's attributes, gradients and `requires_grad`, and the random generators (torch's,
    Python's, NumPy's, and the network's own), also after an error. A parameter that was given other data has its own
    again; what is written into it stays.

    Attributes are modes, hooks, submodules, and whatever a forward stores on its module, or on an object that it has.
    Inside the block, tensors and buffers are copies. The originals are never written to, so that a graph still waiting
    for its backward pass finds them unchanged.
    """
    attributes: dict[int, tuple[Container, Sequence[Any]]] = {}
    for module in network.modules():
        _remember(vars(module), attributes, type(module).__module__)
    parameters = {
        parameter: (parameter.grad, parameter.requires_grad, parameter.data) for parameter in network.parameters()
    }
    registered = {id(module._parameters) for module in network.modules()}
    scripted = [module for module in network.modules() if isinstance(module, torch.jit.ScriptModule)]
    # which have no attributes in Python
    modes = [(module, module.training) for module in scripted if hasattr(module, "training")]  # unless it is frozen
    written = [(buffer, buffer.clone()) for module in scripted for buffer in module.buffers(recurse=False)]
    try:
        with all_draws_apart(attributes.values()):
            _copy_tensors([container for container, _ in attributes.values() if id(container) not in registered])
            yield
    finally:
        for container, content in attributes.values():
            _restore(container, content)
        for module, training in modes:
            module.training = training
        for buffer, value in written:
            if not torch.equal(buffer, value):
                buffer.copy_(value)
        for parameter, (gradient, requires_grad, data) in parameters.items():
            if not parameter.is_meta and not parameter.is_set_to(data):
                parameter.data = data
            parameter.grad = gradient
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)


def copied(network: nn.Module, instead: Mapping[nn.Module, nn.Module] | None = None) -> nn.Module:
    """Return a copy of the network, even of one that stores computed tensors, as pruning and weight normalisation do,
    and with the hooks of its parameters; with other modules `instead` of some of its own.

    Raises:
        UserError: if something in it cannot be copied.
    """
    kept = [
        value
        for module in network.modules()
        for value in tree_leaves(vars(module))
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    with told(f"this {type(network).__name__} cannot be copied, and it is a copy that would be changed", UnseenError):
        copies: dict[int, Any] = {id(value): value.detach().clone() for value in kept}
        copies |= {id(module): other for module, other in (instead or {}).items()}
        made = copy.deepcopy(network, copies)
    for parameter in network.parameters():
        if (twin := copies.get(id(parameter))) is not None and twin.requires_grad:
            for hook in (parameter._backward_hooks or {}).values():
                twin.register_hook(hook)
            for hook in (getattr(parameter, "_post_accumulate_grad_hooks", None) or {}).values():
                twin.register_post_accumulate_grad_hook(hook)
    return made


def hooks_of(parameter: Tensor) -> list[Any]:
    """Return the functions that are called with a parameter's gradient."""
    kinds = (parameter._backward_hooks, getattr(parameter, "_post_accumulate_grad_hooks", None))
    return [hook for kind in kinds for hook in (kind or {}).values()]


def _remember(container: Container, found: dict[int, tuple[Container, Sequence[Any]]], of: str) -> None:
    """Record the content of a container of a module whose class is defined `of` a file, recursively."""
    waiting: list[Any] = [container]
    while waiting:
        each = waiting.pop()
        if not each:
            found[id(each)] = each, ()  # most containers of a module: its hooks
        elif id(each) not in found:
            parts = each.values() if isinstance(each, dict) else each
            if not isinstance(each, tuple):
                found[id(each)] = each, list(each.items() if isinstance(each, dict) else each)
            waiting += [part for part in parts if isinstance(part, _HOLDING)]
            waiting += [vars(part) for part in parts if _holds_values(part, of)]


def _holds_values(value: Any, of: str) -> bool:
    """Return whether an object is one that keeps values for others, such as one of a class that is defined beside the
    network's: a logger, an optimiser or a data set is none.
    """
    if isinstance(value, SimpleNamespace | UserDict):
        return True
    if isinstance(value, nn.Module | type | Dataset) or not hasattr(value, "__dict__"):
        return False
    if is_dataclass(type(value)):
        return True
    large = any(isinstance(part, Tensor) and part.nbytes > LARGE for part in vars(value).values())
    return type(value).__module__ == of and not callable(value) and not large


def _restore(container: Container, content: Sequence[Any]) -> None:
    """Restore the content of a container, if it has changed."""
    if not container and not content:
        return
    if isinstance(container, list | deque):
        if len(container) != len(content) or any(now is not then for now, then in zip(container, content, strict=True)):
            container.clear()
            container.extend(content)
        return
    if isinstance(container, dict):
        same = len(container) == len(content) and all(
            now[0] is then[0] and now[1] is then[1] for now, then in zip(container.items(), content, strict=True)
        )
    else:
        same = container == set(content)
    if not same:
        container.clear()
        container.update(content)


def _copy_tensors(containers: Iterable[Container]) -> None:
    """Replace the tensors and arrays in containers, other than parameters, with copies; a shared one stays shared."""
    copies: dict[int, Any] = {}
    for container in containers:
        if isinstance(container, set):  # whose members cannot be exchanged
            continue
        for place in list(container) if isinstance(container, dict) else range(len(container)):
            value = container[place]
            if (copy := _copied(value, copies)) is not value:
                container[place] = copy


def _copied(value: Any, copies: dict[int, Any]) -> Any:
    """Return a copy of a tensor or of NumPy's array, or a tuple with copies in it; anything else itself."""
    numpy = sys.modules.get("numpy")
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        if id(value) not in copies:
            copies[id(value)] = value.clone()
        return copies[id(value)]
    if numpy is not None and type(value) is numpy.ndarray:
        if id(value) not in copies:
            copies[id(value)] = value.copy()
        return copies[id(value)]
    if type(value) is tuple or (isinstance(value, tuple) and hasattr(value, "_fields")):
        parts = [_copied(part, copies) for part in value]
        if any(copy is not part for copy, part in zip(parts, value, strict=True)):
            return tuple(parts) if type(value) is tuple else type(value)(*parts)
    return value


def _states(contents: Iterable[tuple[Container, Sequence[Any]]]) -> Iterator[tuple[Callable[[Any], object], Any]]:
    """Yield how to set the state of each random generator, and that: Python's, NumPy's, and those in containers."""
    yield random.setstate, random.getstate()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        yield numpy.random.set_state, numpy.random.get_state(legacy=False)
    for container, _ in contents:
        for value in tree_leaves(list(container.values() if isinstance(container, dict) else container)):
            if isinstance(value, torch.Generator):
                yield value.set_state, value.get_state()
            elif isinstance(value, random.Random):
                yield value.setstate, value.getstate()
            elif numpy is not None and isinstance(value, numpy.random.RandomState):
                yield value.set_state, value.get_state(legacy=False)
            elif numpy is not None and isinstance(value, numpy.random.Generator):
                yield partial(setattr, value.bit_generator, "state"), value.bit_generator.state


def drawn_elsewhere() -> bytes:
    """Return what changes whenever Python's or NumPy's own random generator is drawn from, or that of a GPU."""
    numpy = sys.modules.get("numpy")
    gpus = [state.tolist() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_initialized() else []
    return pickle.dumps((random.getstate(), None if numpy is None else numpy.random.get_state(legacy=False), gpus))
