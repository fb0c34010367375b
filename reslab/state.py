"""The state of a network, which is restored after every analysis."""

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from reslab.errors import UnseenError, told

Container = dict[Any, Any] | list[Any] | set[Any]
_HOLDING = (dict, list, set, tuple)


@contextmanager
def in_mode(network: nn.Module, *, training: bool) -> Iterator[None]:
    """Put the whole network in training or evaluation mode; on exit, restore the mode of every module."""
    modes = {module: module.training for module in network.modules()}
    network.train(training)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def draws_apart() -> Iterator[None]:
    """On exit, restore torch's random generators: the CPU's, and those of GPUs if any is in use.

    `torch.random.fork_rng` alone would start every GPU for this, and warn where there are several.
    """
    started = torch.cuda.is_initialized()
    with torch.random.fork_rng(range(torch.cuda.device_count()) if started else ()):
        yield
    if not started and torch.cuda.is_available():
        torch.cuda.manual_seed_all(torch.initial_seed())  # what was set before waits for the first use of a GPU


@contextmanager
def whole_float32() -> Iterator[None]:
    """Have a GPU multiply float32 as such: in cuDNN's TensorFloat-32 a network's outputs and a copy's, with BatchNorms
    folded, differ by more than rounding.
    """
    if not torch.cuda.is_initialized():
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextmanager
def preserve(network: nn.Module) -> Iterator[None]:
    """On exit, restore the network's attributes, gradients and `requires_grad`, and the random generators, also after
    an error.

    Attributes are modes, hooks, submodules, and whatever a forward stores on its module. Inside the block, tensors and
    buffers are copies. The originals are never written to, so that a graph still waiting for its backward pass finds
    them unchanged.
    """
    attributes: dict[int, tuple[Container, Sequence[Any]]] = {}
    for module in network.modules():
        _remember(vars(module), attributes)
    parameters = {parameter: (parameter.grad, parameter.requires_grad) for parameter in network.parameters()}
    python = random.getstate()
    try:
        _copy_tensors(network)
        with draws_apart():
            yield
    finally:
        random.setstate(python)
        for container, content in attributes.values():
            _restore(container, content)
        for parameter, (gradient, requires_grad) in parameters.items():
            parameter.grad = gradient
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)


def copied(network: nn.Module) -> nn.Module:
    """Return a copy of the network, even of one that stores computed tensors, as pruning and weight normalisation do.

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
        return copy.deepcopy(network, {id(value): value.detach().clone() for value in kept})


def _remember(container: Container, found: dict[int, tuple[Container, Sequence[Any]]]) -> None:
    """Record the content of a container, recursively."""
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


def _restore(container: Container, content: Sequence[Any]) -> None:
    """Restore the content of a container, if it has changed."""
    if not container and not content:
        return
    if isinstance(container, list):
        if len(container) != len(content) or any(now is not then for now, then in zip(container, content, strict=True)):
            container[:] = content
        return
    if isinstance(container, dict):
        same = len(container) == len(content) and all(
            now[0] == then[0] and now[1] is then[1] for now, then in zip(container.items(), content, strict=True)
        )
    else:
        same = container == set(content)
    if not same:
        container.clear()
        container.update(content)


def _copy_tensors(network: nn.Module) -> None:
    """Replace the tensors of every module, other than parameters, with copies; a shared tensor stays shared."""
    copies: dict[int, Tensor] = {}
    for module in network.modules():
        for kept in (vars(module), module._buffers):
            for name, value in list(kept.items()):
                if isinstance(value, Tensor):
                    kept[name] = copies.setdefault(id(value), value.clone())
