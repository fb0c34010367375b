"""What a network takes and gives: one tensor, or several in a tuple or a dict, or in a class of its own."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

Keys = tuple[int, ...] | tuple[str, ...]
"""Of the parts of an input that a network takes as arguments of their own."""


def keys_of(network: nn.Module, example: Any) -> Keys | None:
    """Return the keys of an example whose parts are arguments of the network: a dict's by name, a tuple's by place;
    None if it is one argument.
    """
    accepts = inspect.signature(network.forward).bind
    try:
        if isinstance(example, Mapping):
            accepts(**example)
            return tuple(example)
        if isinstance(example, tuple):
            accepts(*example)
            return tuple(range(len(example)))
    except TypeError:
        pass  # then it is one argument
    return None


def part(x: Any, key: int | str) -> Any:
    """Return one of the parts of an input: in a graph, where what comes from it begins."""
    return x[key]


class Whole(nn.Module):
    """A network as a part, so that it is called with its input alone, whatever else its forward could take."""

    def __init__(self, network: nn.Module, example: Any) -> None:
        super().__init__()
        self.training = network.training
        self.network = network
        self.sketch = example
        self.keys = keys_of(network, example)

    def whole(self, x: Any) -> Any:
        """Call the network: what is traced."""
        if self.keys is None:
            return self.network(x)
        take = _recorded_part if isinstance(x, fx.Proxy) else part
        parts = {key: take(x, key) for key in self.keys}
        return self.network(
            *(value for key, value in parts.items() if isinstance(key, int)),
            **{key: value for key, value in parts.items() if isinstance(key, str)},
        )


def _recorded_part(x: fx.Proxy, key: int | str) -> fx.Proxy:
    return x.tracer.create_proxy("call_function", part, (x, key), {})


def rebuilt(value: Any) -> tuple[Callable[[list[Any]], Any], list[Any]] | None:
    """Return what a value of a class that holds others, registered with torch's trees, holds, and the function that
    makes it of that again; None of any other value.
    """
    if type(value) not in pytree.SUPPORTED_NODES or type(value).__module__ in ("builtins", "torch", "collections"):
        return None
    leaves, structure = pytree.tree_flatten(value)
    if not any(isinstance(leaf, fx.Proxy) for leaf in leaves):
        return None

    def rebuild(leaves: list[Any]) -> Any:
        return pytree.tree_unflatten(leaves, structure)

    return rebuild, leaves


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors in an output, which may be one tensor, a tuple or a mapping."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]
