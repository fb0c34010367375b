"""Inputs and outputs of networks: one tensor, or several in a tuple, a dict or a custom class."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from reslab.errors import MismatchError, UnknownNameError, Wording, worded

Output = str | int | None
"""The choice of one of a network's outputs, by name or position; None for all."""

Keys = tuple[int, ...] | tuple[str, ...]
"""The keys of the parts of an input that the network takes as separate arguments."""


class Inputs:
    """A network's inputs for a batch, by name or in order: tensors `[B, …]`, and anything else unchanged. It can be
    sliced like a tensor.
    """

    def __init__(self, parts: Any) -> None:
        self.parts = parts  # a dict or a tuple

    def __getitem__(self, at: Any) -> Any:
        """Return the same of some samples, or one of the parts."""
        if isinstance(at, slice | Tensor):
            return pytree.tree_map(lambda leaf: leaf[at] if isinstance(leaf, Tensor) else leaf, self)
        return self.parts[at]

    def __len__(self) -> int:
        """Return the number of samples, B."""
        return len(tensors_of(self)[0])

    def __iter__(self) -> Iterator[Any]:
        """Iterate as a dict or a tuple of the parts."""
        return iter(self.parts)

    def __contains__(self, key: object) -> bool:
        """Return whether there is such a part."""
        return key in self.parts

    def __getattr__(self, name: str) -> Any:
        """Return a method of the parts: `get`, `keys`, `items` of a dict."""
        if name.startswith("_") or name == "parts":
            raise AttributeError(name)
        return getattr(self.parts, name)

    def __repr__(self) -> str:
        """Return what the parts are."""
        return repr(self.parts)

    @property
    def device(self) -> torch.device:
        """Where the first part is."""
        return tensors_of(self)[0].device


pytree.register_pytree_node(Inputs, lambda inputs: ([inputs.parts], None), lambda parts, _: Inputs(next(iter(parts))))


def count_of(x: Any) -> int:
    """Return the number of samples of an input: of its first tensor that is more than a number, or the length of a list
    of such, as detectors take, whose images differ in size.
    """

    def counts(leaf: Any) -> bool:
        return isinstance(leaf, list) and bool(leaf) and all(isinstance(each, Tensor) and each.dim() for each in leaf)

    leaves = pytree.tree_leaves(x, is_leaf=counts)
    found = (len(leaf) for leaf in leaves if counts(leaf) or (isinstance(leaf, Tensor) and leaf.dim()))
    return next(found, 0)


def in_dtype(x: Any, dtype: torch.dtype) -> Any:
    """Return an input with its floating-point tensors in this dtype."""
    return pytree.tree_map(
        lambda leaf: leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, x
    )


def keys_of(network: nn.Module, example: Any) -> Keys | None:
    """Return the keys of an example whose parts are arguments of the network: a dict's by name, a tuple's by place;
    None if it is one argument.
    """
    accepts = inspect.signature(network.forward).bind
    example = example.parts if isinstance(example, Inputs) else example
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


def absent(x: Any, key: int | str) -> None:
    """Return None, which a part of the input is.

    Raises:
        UserError: if it is something, where it was None when the network was traced.
    """
    if x[key] is not None:
        raise MismatchError(*worded("given-for-none", key=key))


def part(x: Any, key: int | str) -> Any:
    """Return one of the parts of an input: in a graph, where what comes from it begins."""
    return x[key]


def cloned(x: Any) -> Any:
    """Return an input with copies of its tensors."""
    return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, x)


def is_written(x: Any) -> bool:
    """Return whether a network has written into the copies that `cloned` made, or may have where torch cannot say."""
    return any(part.is_inference() or part._version > 0 for part in tensors_of(x))


class Whole(nn.Module):
    """A wrapper that calls a network with its input alone, whatever other arguments its forward has, and returns one of
    its outputs, or all. A network that `writes` into its input is given a copy.
    """

    def __init__(self, network: nn.Module, example: Any, output: Output = None, *, writes: bool = False) -> None:
        super().__init__()
        self.training = network.training
        self.network = network
        self.sketch = example
        self.keys = keys_of(network, example)
        self.output = output
        self.writes = writes

    def forward(self, x: Any) -> Any:
        """Call the network."""
        return self.whole(x)

    def whole(self, x: Any) -> Any:
        """Call the network, whatever a view of it does: what is traced."""
        return chosen(self._answer(x), self.output)

    def _answer(self, x: Any) -> Any:
        if self.writes:
            x = _once(cloned, x)
        if self.keys is None:
            return self.network(x.parts if isinstance(x, Inputs) else x)
        parts = {key: self._part(x, key) for key in self.keys}
        return self.network(
            *(value for key, value in parts.items() if isinstance(key, int)),
            **{key: value for key, value in parts.items() if isinstance(key, str)},
        )

    def _part(self, x: Any, key: int | str) -> Any:
        if isinstance(x, fx.Proxy) and self.sketch[key] is None:
            _once(absent, x, key)
            return None  # also for a forward that asks whether it is
        return _once(part, x, key)


def _once(function: Callable[..., Any], x: Any, *more: Any) -> Any:
    """Call a function of an input; of a traced one, when the graph runs."""
    if isinstance(x, fx.Proxy):
        return x.tracer.create_proxy("call_function", function, (x, *more), {})
    return function(x, *more)


def chosen(outputs: Any, output: Output) -> Any:
    """Return one of a network's outputs.

    Raises:
        UserError: if there is none of that name or position.
    """
    if output is None:
        return outputs
    if isinstance(outputs, fx.Proxy):  # of a module that is a leaf, or of one tensor: known when the graph runs
        return _once(chosen, outputs, output)
    named = outputs_by_name(outputs)
    if output in named:
        return named[output]
    if output == 0 and not isinstance(output, bool) and isinstance(outputs, torch.Tensor):
        return outputs  # the first of one, where others come in training mode alone
    if isinstance(output, int) and 0 <= output < len(named):
        return list(named.values())[output]
    kind = type(outputs).__name__
    returned = ", ".join(map(str, named)) or Wording(f"one {kind}", f"{kind} 하나")
    raise UnknownNameError(*worded("no-output", output=output, returned=returned))


def outputs_by_name(outputs: Any) -> dict[str | int, Any]:
    """Return a network's outputs by name, or by position if unnamed; empty if there is only one."""
    if isinstance(outputs, tuple | list):
        outputs = outputs._asdict() if hasattr(outputs, "_asdict") else dict(enumerate(outputs))
    elif is_dataclass(outputs) and not isinstance(outputs, Mapping):
        outputs = vars(outputs)
    return dict(outputs) if isinstance(outputs, Mapping) else {}


@dataclass(frozen=True, eq=False)
class Rebuild:
    """Makes a value of a class that holds others; an object of a module's class, so that it can be pickled."""

    structure: pytree.TreeSpec
    __name__ = "rebuild"  # which torch.fx asks a function for

    def __call__(self, leaves: list[Any]) -> Any:
        """Return the value that holds these."""
        return pytree.tree_unflatten(leaves, self.structure)


def rebuilt(value: Any) -> tuple[Callable[[list[Any]], Any], list[Any]] | None:
    """Return what a value of a class that holds others, registered with torch's trees, holds, and the function that
    makes it of that again; None of any other value.
    """
    if type(value) not in pytree.SUPPORTED_NODES or type(value).__module__ in ("builtins", "torch", "collections"):
        return None
    leaves, structure = pytree.tree_flatten(value)
    if not any(isinstance(leaf, fx.Proxy) for leaf in leaves):
        return None

    return Rebuild(structure), leaves


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors in an output, which may be one tensor, a tuple, a mapping or a dataclass."""
    found: list[Tensor] = []
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, Mapping):  # of a class that torch's trees do not know
            found += tensors_of(list(leaf.values()))
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            found += tensors_of(list(vars(leaf).values()))
    return found
