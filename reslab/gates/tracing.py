"""Tracing a network with torch.fx to a graph that is right in training and evaluation mode, and for any mix of its
submodules' modes.
"""

import operator
import sys
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.nn.utils.parametrize import type_before_parametrizations
from torch.utils._pytree import tree_leaves, tree_map

from reslab.errors import MismatchError, UnseenError, UserError, worded
from reslab.gates import flow
from reslab.gates.following import (
    Followed,
    Known,
    Sketch,
    UnknownError,
    check,
    check_content,
    check_no_autocast,
    is_of_network,
    line_of_network,
    shapes_of,
)
from reslab.gates.inputs import Whole, rebuilt
from reslab.gates.patched import (
    attributes_assigned,
    autocast_met,
    compiled_as_written,
    factories_recorded,
    lengths_recorded,
    masks_recorded,
    modes_read,
    own_gradients_refused,
)
from reslab.gates.writing import memory, quietly, since, written
from reslab.state import drawn_elsewhere, transformers_as_written

Declarations = Mapping[str, tuple[str | None, ...]]
"""Module name -> names, within that module, of its branch, of its shortcut (None: the identity) and of what follows
their sum, if anything.
"""


class Call(NamedTuple):
    """The input and output nodes of one call of a module."""

    input: fx.Node
    output: fx.Node


class Leaf(NamedTuple):
    """Why a module cannot be traced, and whether the only reason is that it branches on its own mode."""

    reason: str
    by_mode: bool


class Traced(NamedTuple):
    """The graph of a network, and where each module begins and ends in it."""

    graph: fx.Graph
    calls: dict[str, Call]  # modules called once, on one value
    all_calls: dict[str, list[Call]]
    types: dict[str, type[nn.Module]]
    leaves: dict[str, Leaf]  # modules that cannot be traced
    declared: dict[str, fx.Node]  # the addition of each declared block
    known: Known  # the shapes in it


def without_gradient(value: Any) -> Any:
    """Return the tensors in a value detached from their graph, and the rest as it is."""
    return tree_map(lambda each: each.detach() if isinstance(each, torch.Tensor) else each, value)


class _Stopped(Exception):  # noqa: N818  # not an error: tracing restarts
    """Tracing met a module that cannot be traced and must become a leaf."""

    def __init__(self, path: str, module: nn.Module, leaf: Leaf) -> None:
        super().__init__(leaf.reason)
        self.path, self.module, self.leaf = path, module, leaf


class _ModeBranchError(TraceError):
    """A forward branches on a module's training mode, mostly its own."""

    def __init__(self, path: str) -> None:
        super().__init__("it takes another way in training mode (`if self.training`)")
        self.path = path


class Tracer(fx.Tracer):
    """torch.fx's tracer, with nine differences.

    - A module's `training` flag is read when the graph runs, not when it is traced, but for modules in `fixed`.
    - A forward that decides on the shape of the input is followed as the example's shape has it.
    - A module whose forward decides on a value, or on its own mode, becomes a leaf.
    - A declared block is `after(shortcut(x) + branch(x))`, whatever its own forward says.
    - What a forward computes under `torch.no_grad()` is without gradient in the graph too.
    - Where an `autograd.Function` computes, whose gradient no graph has, its module becomes a leaf.
    - An assignment to a module's attribute is part of the graph.
    - What an operation in place writes into is from there on what that returns.
    - A part that turns autocast off is not run under it.
    """

    traced_func_name = "whole"
    proxy_buffer_attributes = True  # what a forward computes from a buffer follows it

    def __init__(
        self, declarations: Declarations, fixed: Collection[str], opaque: Mapping[type[nn.Module], Leaf]
    ) -> None:
        super().__init__()
        self.known: Known | None = None
        self.declarations = declarations
        self.fixed = fixed
        self.opaque = opaque
        self.calls: dict[str, list[Call]] = {}
        self.types: dict[str, type[nn.Module]] = {}
        self.leaves: dict[str, Leaf] = {}
        self.declared: dict[str, fx.Node] = {}
        self.values: list[weakref.ref[Followed]] = []  # that the forward may still use

    def run(self, root: Whole) -> Traced:
        """Trace `root.whole`.

        Raises:
            _Stopped: if a module has to be a leaf.
            UserError: if the network draws random numbers outside its leaves.
        """
        rng, others = torch.get_rng_state(), drawn_elsewhere()
        held = [(each, dict(each)) for module in root.modules() for each in (vars(module), module._buffers)]
        try:
            with (
                torch.enable_grad(),
                modes_read(self._mode_of),
                attributes_assigned(self._assign),
                autocast_met(self._meet_autocast),
                own_gradients_refused(),
                compiled_as_written(),
                factories_recorded(partial(self.create_proxy, "call_function")),
                lengths_recorded(self._length_of),
                transformers_as_written(),
                masks_recorded(partial(self.create_proxy, "call_function")),
            ):
                graph = self.trace(root)
            drew = not torch.equal(rng, torch.get_rng_state()) or others != drawn_elsewhere()
        finally:
            torch.set_rng_state(rng)
            for values, before in held:  # where a forward has put traced ones, which no run can use
                values.update(before)
        if drew:
            raise UnseenError(*worded("random-in-forward"))
        _give_shapes(graph)
        _make_anew(graph, root)
        once = {path: calls[0] for path, calls in self.calls.items() if len(calls) == 1}
        return Traced(graph, once, self.calls, self.types, self.leaves, self.declared, self._so_far())

    def create_proxy(self, kind: str, *arguments: Any, **more: Any) -> Any:
        """Record an operation, and where gradients are off, that its result has none.

        Raises:
            TraceError: if it writes there into what may have a gradient.
        """
        proxy = super().create_proxy(kind, *arguments, **more)
        operation = proxy.node
        if not kind.startswith("call") or self._is_looking:
            return proxy
        if not torch.is_grad_enabled():
            proxy = super().create_proxy("call_function", without_gradient, (proxy,), {})
        into = written(operation, self.root)
        if into is not None:
            at = memory(into, self.root)
            of_before = at.op != "get_attr" and not any(user.target is without_gradient for user in at.users)
            if of_before and not torch.is_grad_enabled():
                raise TraceError("it writes into a value under torch.no_grad, where a graph would have its gradient")
            if not torch.is_grad_enabled() and at.op == "get_attr" and self._is_parameter(str(at.target)):
                self._silence(operation)
                self._rewrite(into, proxy, None)
            else:
                self._rewrite(into, proxy, into)
        return proxy

    def _silence(self, operation: fx.Node) -> None:
        """Have an operation that writes into a parameter run without gradients, as torch asks of it."""
        with self.graph.inserting_after(operation):
            given: Any = (operation.target, *operation.args)
            silent = self.graph.call_function(quietly, given, operation.kwargs)
        operation.replace_all_uses_with(silent)
        self.graph.erase_node(operation)

    def _is_parameter(self, path: str) -> bool:
        owner, _, name = path.rpartition(".")
        return name in self.root.get_submodule(owner)._parameters

    def _rewrite(self, into: fx.Node, result: fx.Proxy, replaced: fx.Node | None) -> None:
        """Have all later uses of a value that was written into, and of all in its memory, depend on that; those of
        one are of the result itself, which has its gradient.
        """
        at = memory(into, self.root)
        values = [value for each in self.values if (value := each()) is not None]
        for value in values:
            if value.node is replaced:
                value.node = result.node
            elif value is not result and memory(value.node, self.root) is at:
                value.node = super().create_proxy("call_function", since, (value, result), {}).node
        self.values = list(map(weakref.ref, values))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether the graph holds a call of this module and not its inside."""
        if type(m) in self.opaque and module_qualified_name not in self.fixed:
            self.leaves[module_qualified_name] = self.opaque[type(m)]
            return True
        return is_layer(m)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Record the call, and trace through it, call it as a leaf, or write out its declaration."""
        if self._is_looking:
            return forward(*args, **kwargs)
        if (inner := within(m)) is not m:
            return inner(*args, **kwargs)
        if m not in self._paths():  # made in a forward: what it does is its maker's
            return forward(*args, **kwargs)
        if m._compiled_call_impl is not None:
            forward = m._call_impl
        path = self.path_of_module(m)
        taken = next((value.node for value in (*args, *kwargs.values()) if isinstance(value, fx.Proxy)), None)
        declaration = self.declarations.get(path.removeprefix("network."))
        try:
            out = (
                self._declared_call(m, path, declaration, args)
                if declaration
                else super().call_module(m, forward, args, kwargs)
            )
        except (_Stopped, UserError):
            raise
        except Exception as error:
            by_mode = isinstance(error, _ModeBranchError)
            if isinstance(error, _ModeBranchError):
                path, m = error.path, self.root.get_submodule(error.path)
            raise _Stopped(path, m, Leaf(_reason(error), by_mode)) from error
        if not self.is_leaf_module(m, path):
            for name, value in list(vars(m).items()):  # what a forward appends is assigned to nothing
                if isinstance(value, list) and any(isinstance(leaf, fx.Proxy) for leaf in tree_leaves(value)):
                    self._assign(m, name, value)
        if isinstance(out, fx.Proxy) and taken is not None:
            self.calls.setdefault(path, []).append(Call(taken, out.node))
            self.types[path] = type_before_parametrizations(m)
        return out

    def _declared_call(self, m: nn.Module, path: str, names: tuple[str | None, ...], args: tuple[Any, ...]) -> Any:
        branch, shortcut, *after = (None if name is None else m.get_submodule(name) for name in names)
        if branch is None or len(args) != 1:
            raise MismatchError(*worded("declared-of-one-input", path=path.removeprefix("network.")))
        total = (args[0] if shortcut is None else shortcut(args[0])) + branch(args[0])
        self.declared[path] = total.node
        return after[0](total) if after and after[0] is not None else total

    def proxy(self, node: fx.Node) -> Followed:
        """Return a value in tracing that can be asked for its sizes."""
        value = Followed(node, self)
        self.values.append(weakref.ref(value))
        return value

    def create_arg(self, a: Any) -> fx.node.Argument:
        """Record the construction of values from traced ones, such as a network's output class, so that it is repeated
        when the graph runs.
        """
        made = rebuilt(a)
        if made is None:
            try:
                return super().create_arg(a)
            except NotImplementedError:
                off = "; turn it off: network.config.use_cache = False" if type(a).__name__.endswith("Cache") else ""
                raise TraceError(f"it takes a {type(a).__name__}, which a graph cannot hold{off}") from None
        rebuild, leaves = made
        return self.create_node("call_function", rebuild, (super().create_arg(leaves),), {})

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return a parameter as a node of the graph, or itself if only its shape is read."""
        return attr_val if self._is_looking else super().getattr(attr, attr_val, parameter_proxy_cache)

    def told(self, value: fx.Proxy, read: Callable[[Any], Any]) -> Any:
        """Return what `read` (`len`, `int`, `bool`, …) gives of a value that only shapes decide, and have the graph
        check it.

        Raises:
            TraceError: if it depends on the content of tensors.
        """
        known = self._so_far()
        try:
            told = known.read(value.node, read)
        except UnknownError:
            raise TraceError(f"its path depends on a value known only at run time ({value.node.name})") from None
        if known.from_input(value.node):
            reading = self.create_node("call_function", read, (value.node,), {})
            example = str(shapes_of(self.root.sketch))
            self.create_node("call_function", check, (reading, told, line_of_network(), example), {})
        elif flow.has_content(value.node):
            reading = self.create_node("call_function", read, (value.node,), {})
            self.create_node("call_function", check_content, (reading, told, line_of_network()), {})
        return told

    def _so_far(self) -> Known:
        """Return what shapes tell of the graph so far."""
        self.known = self.known or Known(self.root, self.graph, self.root.sketch)
        return self.known

    def _length_of(self, value: fx.Proxy) -> Any:
        """Return a node for the length of a tensor; None for other values, whose number of parts is known."""
        if self._is_looking or not is_of_network(sys._getframe(2).f_code.co_filename):
            return None
        try:
            is_tensor = self._so_far().read(value.node, lambda found: isinstance(found, torch.Tensor))
        except UnknownError:
            is_tensor = True
        return value.size(0) if is_tensor else None

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Return what the example's shape decides.

        Raises:
            TraceError: if it does not, with the reason in the network's own words.
        """
        if obj.node.op == "get_attr" and str(obj.node.target).endswith(".training"):
            raise _ModeBranchError(str(obj.node.target).removesuffix(".training"))
        return self.told(obj, bool)

    def iter(self, obj: Any) -> Iterator[Any]:
        """Yield the parts of a value, whose number the example's shape determines."""
        return (obj[index] for index in range(self.told(obj, len)))

    @property
    def _is_looking(self) -> bool:
        """Whether the graph so far is being run to find its shapes."""
        return self.known is not None and self.known.running

    def _mode_of(self, module: nn.Module) -> Any:
        """Return a node that reads a traced module's mode when the graph runs; None if it is as it is now."""
        path = None if self._is_looking else self._paths().get(module)
        if path is None or path in self.fixed:
            return None
        return self.create_proxy("get_attr", f"{path}.training", (), {})

    def _assign(self, module: nn.Module, name: str, value: Any) -> None:
        """Record an assignment to an attribute, so that it is repeated when the graph runs."""
        if (path := self._paths().get(module)) is not None:
            owner = self.create_proxy("get_attr", path, (), {})
            with suppress(TraceError):  # what a graph cannot hold is of the moment of tracing
                self.create_proxy("call_function", setattr, (owner, name, value), {})

    def _meet_autocast(self, context: torch.autocast) -> None:
        """Have the graph refuse to run under autocast where a forward turns it off.

        Raises:
            TraceError: if it turns it on, which a graph would not.
        """
        if self._is_looking or context.device not in self._devices():
            return
        if context._enabled:
            raise TraceError("it turns autocast on, which a graph would not; turn it on around the whole network")
        self.create_proxy("call_function", check_no_autocast, (context.device, line_of_network()), {})

    def _devices(self) -> set[str]:
        """Return the types of the devices on which the network computes."""
        tensors = [*self.root.parameters(), *self.root.buffers(), *tree_leaves(self.root.sketch)]
        return {each.device.type for each in tensors if isinstance(each, torch.Tensor | Sketch)}

    def _paths(self) -> dict[nn.Module, str]:
        paths: dict[nn.Module, str] = getattr(self, "submodule_paths", None) or {}
        return paths


def _give_shapes(graph: fx.Graph) -> None:
    """Have every check of the graph name the shape that the graph is given."""
    checks = [node for node in graph.nodes if node.target is check]
    if checks:
        first = next(iter(graph.nodes))
        with graph.inserting_after(first):
            shapes = graph.call_function(shapes_of, (first,))
        for node in checks:
            node.args = (*node.args, shapes)


def _make_anew(graph: fx.Graph, root: nn.Module) -> None:
    """Have what a forward makes, and then writes into, be made anew in every run."""
    places: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "get_attr" and str(node.target).startswith("_tensor_constant"):
            places.setdefault(str(node.target), []).append(node)
    into = {memory(at, root) for node in graph.nodes if (at := written(node, root)) is not None}
    for first, *others in places.values():
        if into.isdisjoint((first, *others)):
            continue
        with graph.inserting_after(first):
            made = graph.call_method("clone", (first,))
        first.replace_all_uses_with(made, delete_user_cb=partial(operator.is_not, made))
        for other in others:
            other.replace_all_uses_with(made)
            graph.erase_node(other)


_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_TRANSFORMERS = (
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
)


def within(module: nn.Module) -> nn.Module:
    """Return the module inside DataParallel, DistributedDataParallel or torch.compile; any other module itself."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return within(module.module)
    # as torch.compile calls it
    return within(module.get_submodule("_orig_mod")) if "_orig_mod" in module._modules else module


def is_layer(module: nn.Module) -> bool:
    """Return whether a module is one of torch's own, which a graph calls as a whole."""
    theirs = type_before_parametrizations(module).__module__.startswith(("torch.nn.", "torch.ao.nn."))
    # others, and does nothing itself, or has the skips
    holds = type(module) is nn.Module or isinstance(module, _CONTAINERS + _TRANSFORMERS)
    return theirs and not holds and within(module) is module


def opened(network: nn.Module) -> dict[str, nn.Module]:
    """Return, by name, the modules of which a graph holds the inside and not a call: all but torch's own layers, and
    what these are made of.
    """
    closed = {part for layer in network.modules() if is_layer(layer) for part in layer.modules()}
    return {name: module for name, module in network.named_modules() if module not in closed}


def trace(root: Whole, declarations: Declarations, fixed: Collection[str] = ()) -> Traced:
    """Trace `root.whole`, again and again until every module that stops it is a leaf.

    Modules at the paths in `fixed` are traced through for the mode that they are in.

    Raises:
        CannotSeeError: if the network's own forward cannot be traced.
        UserError: if the network draws random numbers outside its leaves.
    """
    opaque: dict[type[nn.Module], Leaf] = {}
    while True:
        try:
            return Tracer(declarations, fixed, opaque).run(root)
        except _Stopped as stop:
            if stop.path == "network" or type(stop.module) in opaque:
                raise CannotSeeError(stop.path, stop.module, stop.leaf) from stop
            opaque[type(stop.module)] = stop.leaf


class CannotSeeError(UnseenError):
    """A module that has to be traced cannot be."""

    def __init__(self, path: str, module: nn.Module, leaf: Leaf) -> None:
        self.path, self.leaf = path, leaf
        self.name = path.removeprefix("network").removeprefix(".")
        advice = f'; declare it: blocks={{"{self.name}": ("branch", "shortcut")}}' if self.name else ""
        self.why = f"{leaf.reason}{advice}"
        super().__init__(f"cannot see through {self.name or 'the network'} ({type(module).__name__}): {self.why}")


def _reason(error: Exception) -> str:
    """Return why a forward could not be traced, with the responsible line of the network's code."""
    frame = error.__traceback__
    lines = []
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if is_of_network(file):
            lines.append(f"{file}:{frame.tb_lineno}")
        frame = frame.tb_next
    return " ".join(str(error).split()).rstrip(".") + (f" ({lines[-1]})" if lines else "")


def function_of(graph: fx.Graph) -> Callable[..., Any]:
    """Return the graph as a Python function whose first argument is the module that its names are attributes of."""
    code = graph.python_code("self")
    namespace: dict[str, Any] = dict(code.globals)
    exec(code.src, namespace)  # torch.fx's own way to run a graph
    function: Callable[..., Any] = namespace["forward"]
    return function
