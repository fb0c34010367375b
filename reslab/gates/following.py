"""Values that are known while a graph is traced: shapes, on which a forward may branch.

The graph so far is run on fake tensors, which have a shape and no content. Numbers, sizes and dtypes are therefore
known from the example's shape alone, and a forward that branches on them can be followed. The graph asserts these
values, and so checks them again when it runs on another shape. Whatever depends on content stays unknown.
"""

import functools
import operator
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.immutable_collections import immutable_dict, immutable_list
from torch.fx.proxy import TraceError
from torch.utils._pytree import tree_map

from reslab.errors import MismatchError, worded
from reslab.gates.writing import assigned
from reslab.state import draws_apart


@dataclass(frozen=True)
class Sketch:
    """A tensor without its content."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def tensor(self) -> Tensor:
        """Return a tensor of this kind, whose content is arbitrary."""
        return torch.empty(self.shape, dtype=self.dtype, device=self.device)

    def few(self) -> Tensor:
        """Return two of such a batch at most, all of them zeros."""
        return torch.zeros(
            (*(min(size, 2) for size in self.shape[:1]), *self.shape[1:]), dtype=self.dtype, device=self.device
        )


def sketched(example: Any) -> Any:
    """Return an example, a tensor or several in a tuple, a list or a dict, with a `Sketch` for each tensor."""
    return tree_map(lambda leaf: Sketch(tuple(leaf.shape), leaf.dtype, leaf.device) if _is(leaf) else leaf, example)


def shapes_of(example: Any) -> Any:
    """Return the shape of an input, or of each tensor in it."""
    shapes = tree_map(lambda leaf: _Shape(leaf.shape) if isinstance(leaf, Tensor | Sketch) else leaf, example)
    return shapes


class _Shape(list[int]):
    """Sizes, as a leaf of what holds tensors and not as a list of leaves."""


def _is(leaf: object) -> bool:
    return isinstance(leaf, Tensor)


def check(value: Any, expected: Any, where: str, example: str, given: Any) -> None:
    """Reject an input for whose shape the network would take another path than for the example.

    Raises:
        UserError: if `value`, computed from the shape, differs from the example's.
    """
    if value != expected:
        raise MismatchError(*worded("branches-on-shape", where=where, example=example, given=given))


def check_content(value: Any, expected: Any, where: str) -> None:
    """Reject a parameter or buffer by whose value the network would take another path than when it was viewed.

    Raises:
        UserError: if `value`, computed from it, differs from what it was.
    """
    if value != expected:
        raise MismatchError(*worded("branches-on-content", where=where))


def check_no_autocast(device: str, where: str) -> None:
    """Reject autocast on a device, where the network turns it off.

    Raises:
        UserError: if it is on.
    """
    if torch.is_autocast_enabled(device):
        raise MismatchError(*worded("autocast-off", where=where))


class UnknownError(Exception):
    """A value that depends on more than shapes."""


class Known:
    """The values of a graph's nodes, as far as an example's shapes determine them."""

    def __init__(self, root: nn.Module, graph: fx.Graph, example: Any) -> None:
        self.root, self.graph, self.sketch = root, graph, example
        self.device = next((parameter.device for parameter in root.parameters()), None)
        self.running = False
        self.values: dict[fx.Node, Any] = {}

    @functools.cached_property
    def mode(self) -> FakeTensorMode:
        """The mode that makes fake tensors, made when a value is first asked for: it imports torch's compiler."""
        return FakeTensorMode(allow_non_fake_inputs=True)

    @functools.cached_property
    def example(self) -> Any:
        """The example as fake tensors."""
        with self.mode:
            return tree_map(
                lambda leaf: leaf.tensor().to(self.device) if isinstance(leaf, Sketch) else leaf, self.sketch
            )

    def __getitem__(self, node: fx.Node) -> Any:
        """Return the value of a node, a fake tensor or what is computed from shapes.

        Raises:
            UnknownError: if it depends on the content of tensors, or cannot be computed.
        """
        self.running = True
        try:
            with draws_apart(), torch.no_grad():
                for each in self.graph.nodes:
                    if each not in self.values:
                        self.values[each] = self._run(each)
        finally:
            self.running = False
        value = self.values[node]
        if isinstance(value, UnknownError):
            raise value
        return value

    def is_number(self, node: fx.Node) -> bool:
        """Return whether a node's value is one number, such as a loss, of a graph that is complete."""
        return self._shapes.get(node) == torch.Size([])

    def shape(self, node: fx.Node) -> torch.Size:
        """Return the shape of a node's value for two images at most, of a graph that is complete.

        Raises:
            UnknownError: if it is not known, or the value is not a tensor.
        """
        if node in self._shapes:
            return self._shapes[node]
        shape = getattr(self[node], "shape", None)
        if shape is None:
            raise UnknownError(node.name)
        return torch.Size(shape)

    @functools.cached_property
    def _shapes(self) -> Mapping[fx.Node, torch.Size]:
        """The shapes of all tensors when the graph runs on two images of zeros, which needs no compiler; empty where it
        does not.
        """
        few = tree_map(lambda leaf: leaf.few().to(self.device) if isinstance(leaf, Sketch) else leaf, self.sketch)
        run = _Noting(self.root, self.graph)
        buffers = {name: buffer.clone() for name, buffer in run.named_buffers()}
        try:
            with draws_apart(), torch.no_grad():
                return torch.func.functional_call(run, buffers, (few,))
        except Exception:
            return {}

    def read(self, node: fx.Node, read: Callable[[Any], Any]) -> Any:
        """Return a function of a node's value.

        Raises:
            UnknownError: if it depends on the content of tensors.
        """
        value = self[node]
        try:
            with self.mode:
                return read(value)
        except Exception:
            raise UnknownError(node.name) from None

    def from_input(self, node: fx.Node) -> bool:
        """Return whether a node's value comes from the input, and not from parameters and constants alone."""
        seen: set[fx.Node] = set()
        pending = [node]
        while pending:
            each = pending.pop()
            if each.op == "placeholder":
                return True
            if each not in seen:
                seen.add(each)
                pending += each.all_input_nodes
        return False

    def _run(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self.example
        if node.target in (check, check_content, setattr):
            return None
        try:
            if any(isinstance(self.values[source], UnknownError) for source in node.all_input_nodes):
                raise UnknownError(node.name)
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.values.__getitem__)
            with self.mode:
                return self._computed(node, *thawed(args, kwargs))
        except Exception:
            return UnknownError(node.name)

    def _computed(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "get_attr":
            if str(node.target).endswith((".training", ".requires_grad")):
                raise UnknownError(node.name)
            return operator.attrgetter(str(node.target))(self.root)
        if node.op == "call_module":
            return self._called(self.root.get_submodule(str(node.target)), args, kwargs)
        if node.op == "call_method":
            first, *rest = args
            return getattr(first, str(node.target))(*rest, **kwargs)
        if node.target is getattr and args[1] == "requires_grad":
            raise UnknownError(node.name)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def _called(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Run a module; one that depends on content is run on zeros, to find the shape of its output."""
        try:
            return module(*args, **kwargs)
        except Exception:
            with torch.utils._python_dispatch._disable_current_modes():
                real = tree_map(
                    lambda leaf: (
                        torch.zeros(leaf.shape, dtype=leaf.dtype, device=leaf.device)
                        if isinstance(leaf, FakeTensor)
                        else leaf
                    ),
                    (args, kwargs),
                )
                out = module(*real[0], **real[1])
            return tree_map(lambda leaf: self.mode.from_tensor(leaf) if isinstance(leaf, Tensor) else leaf, out)


def thawed(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments with copies of a graph's lists and dicts, as a function may modify its own; what a module
    returned in a class of its own is left as it is.
    """

    def own(value: Any) -> Any:
        if type(value) in (dict, immutable_dict):
            return {key: own(each) for key, each in value.items()}
        return [own(each) for each in value] if type(value) in (list, immutable_list) else value

    return tuple(map(own, args)), {key: own(value) for key, value in kwargs.items()}


class Runner(fx.Interpreter):
    """Runs a graph node by node, as its own code does."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__(root, graph=graph)
        self.extra_traceback = False

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the values of a node's arguments."""
        return thawed(*super().fetch_args_kwargs_from_env(n))


class _Noting(nn.Module):
    """Runs a graph and returns the shapes of its tensors; a module, so that its buffers can be others meanwhile."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__()
        self.root, self.graph = root, graph

    def forward(self, example: Any) -> dict[fx.Node, torch.Size]:
        runner = Runner(self.root, self.graph)
        runner.garbage_collect_values = False
        runner.run(example)
        return {node: value.shape for node, value in runner.env.items() if isinstance(value, Tensor)}


class Followed(fx.Proxy):
    """A traced value with a length, parts and a number, where the example's shape determines them."""

    tracer: Any

    def __getattr__(self, k: str) -> Any:
        return FollowedAttribute(self, k)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "data":
            raise TraceError("it gives a tensor other data, which a graph would not")
        super().__setattr__(name, value)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", assigned, (self, key, value), {})

    def __len__(self) -> int:
        return self._told(len)

    def __int__(self) -> int:
        return self._told(int)

    def __index__(self) -> int:
        return self._told(operator.index)

    def __float__(self) -> float:
        return self._told(float)

    def _told(self, read: Callable[[Any], Any]) -> Any:
        """Return the known value; the graph asserts it."""
        return self.tracer.told(self, read)


class FollowedAttribute(Followed, fx.proxy.Attribute):
    """An attribute of such a value."""


_TRACERS = tuple(f"{Path(file).parent}{os.sep}" for file in (torch.__file__, __file__))


def is_of_network(file: str) -> bool:
    """Return whether a file of code is not torch's and not of what traces: the network's own, then."""
    return not file.startswith(_TRACERS)


def line_of_network() -> str:
    """Return the line of the network's own code that is being traced: ` (model.py:12)`."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        file = frame.f_code.co_filename
        if is_of_network(file):
            return f" ({file}:{frame.f_lineno})"
        frame = frame.f_back
    return ""
