"""A network as a graph of operations, by torch.fx, true in every mode and for every setting of its
submodules' modes.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.proxy import TraceError
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from reslab.errors import MismatchError, UnseenError, UserError

_FUSED = (
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
)

Declarations = Mapping[str, tuple[str | None, ...]]
"""Module name -> names, within that module, of its branch, of its shortcut (None: the identity) and of what follows
their sum, if anything.
"""


class Call(NamedTuple):
    """What one call of a module takes and gives."""

    input: fx.Node
    output: fx.Node


class Leaf(NamedTuple):
    """Why a module cannot be traced through, and whether all that stops it is that it branches on its own mode."""

    reason: str
    by_mode: bool


class Traced(NamedTuple):
    """The graph of a network, and where in it each module begins and ends."""

    graph: fx.Graph
    calls: dict[str, Call]  # modules called once, on one value
    types: dict[str, type[nn.Module]]
    leaves: dict[str, Leaf]  # modules that cannot be seen through
    declared: dict[str, fx.Node]  # the addition of each declared block


class _Stopped(Exception):  # noqa: N818  # not an error: the trace starts again
    """Tracing ran into a module that cannot be traced; it is to be a leaf."""

    def __init__(self, path: str, module: nn.Module, leaf: Leaf) -> None:
        super().__init__(leaf.reason)
        self.path, self.module, self.leaf = path, module, leaf


class _ModeBranchError(TraceError):
    """A forward takes another way in training mode."""


class Whole(nn.Module):
    """A network as a part, so that it is called with its images alone, whatever else its forward could take."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.training = network.training
        self.network = network

    def whole(self, x: Tensor) -> Any:
        """Call the network: what is traced."""
        return self.network(x)


class Tracer(fx.Tracer):
    """torch.fx's tracer, with three differences.

    A module's `training` flag is read when the graph runs, not when it is traced, but for modules in `fixed`; a module
    whose forward decides on a value (or on its own mode) becomes a leaf; a declared block is `after(shortcut(x) +
    branch(x))`, whatever its own forward says.
    """

    traced_func_name = "whole"

    def __init__(
        self, declarations: Declarations, fixed: Collection[str], opaque: Mapping[type[nn.Module], Leaf]
    ) -> None:
        super().__init__()
        self.declarations = declarations
        self.fixed = fixed
        self.opaque = opaque
        self.calls: dict[str, list[Call]] = {}
        self.types: dict[str, type[nn.Module]] = {}
        self.leaves: dict[str, Leaf] = {}
        self.declared: dict[str, fx.Node] = {}

    def run(self, root: Whole) -> Traced:
        """Trace `root.whole`.

        Raises:
            _Stopped: if a module has to be a leaf.
            UserError: if the network draws random numbers outside its leaves.
        """
        rng = torch.get_rng_state()
        try:
            with self._live_modes():
                graph = self.trace(root)
            drew = not torch.equal(rng, torch.get_rng_state())
        finally:
            torch.set_rng_state(rng)
        if drew:
            raise UnseenError(
                "the network draws random numbers in a forward that is traced; draw them in a module of its own "
                "that reads self.training"
            )
        once = {path: calls[0] for path, calls in self.calls.items() if len(calls) == 1}
        return Traced(graph, once, self.types, self.leaves, self.declared)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Say whether the graph holds a call of this module and not its inside."""
        if type(m) in self.opaque and module_qualified_name not in self.fixed:
            self.leaves[module_qualified_name] = self.opaque[type(m)]
            return True
        if isinstance(m, _FUSED):
            self.leaves[module_qualified_name] = Leaf(f"torch's own {type(m).__name__} cannot be traced", by_mode=False)
            return True
        return is_layer(m)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Record the call, and trace through it, call it as a leaf, or write out its declaration."""
        path = self.path_of_module(m)
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
            raise _Stopped(path, m, Leaf(_reason(error), isinstance(error, _ModeBranchError))) from error
        first = args[0] if args else None
        if isinstance(out, fx.Proxy) and isinstance(first, fx.Proxy):
            self.calls.setdefault(path, []).append(Call(first.node, out.node))
            self.types[path] = type(m)
        return out

    def _declared_call(self, m: nn.Module, path: str, names: tuple[str | None, ...], args: tuple[Any, ...]) -> Any:
        branch, shortcut, *after = (None if name is None else m.get_submodule(name) for name in names)
        if branch is None or len(args) != 1:
            raise MismatchError(f"a declared block has one input and a branch: {path.removeprefix('network.')}")
        total = (args[0] if shortcut is None else shortcut(args[0])) + branch(args[0])
        self.declared[path] = total.node
        return after[0](total) if after and after[0] is not None else total

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Refuse, with the reason in the network's own words."""
        if obj.node.op == "get_attr" and str(obj.node.target).endswith(".training"):
            raise _ModeBranchError("it takes another way in training mode (`if self.training`)")
        raise TraceError(f"its way depends on a value that is only known when it runs ({obj.node.name})")

    @contextmanager
    def _live_modes(self) -> Iterator[None]:
        """While it lasts, reading `training` of a module that is traced through gives a node that reads it
        at run time.
        """
        original = nn.Module.__getattribute__

        def read(module: nn.Module, name: str) -> Any:
            if name == "training" and (path := self._paths().get(module)) is not None and path not in self.fixed:
                return self.create_proxy("get_attr", f"{path}.training", (), {})
            return original(module, name)

        nn.Module.__getattribute__ = read  # type: ignore[method-assign,assignment]  # put back below
        try:
            yield
        finally:
            nn.Module.__getattribute__ = original  # type: ignore[method-assign]  # as it was

    def _paths(self) -> dict[nn.Module, str]:
        paths: dict[nn.Module, str] = getattr(self, "submodule_paths", None) or {}
        return paths


_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def is_layer(module: nn.Module) -> bool:
    """Say whether a module is one of torch's own, which a graph calls as a whole."""
    return type(module).__module__.startswith(("torch.nn.", "torch.ao.nn.")) and not isinstance(module, _CONTAINERS)


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
    """A module that has to be seen through cannot be."""

    def __init__(self, path: str, module: nn.Module, leaf: Leaf) -> None:
        name = path.removeprefix("network").removeprefix(".")
        advice = f'; declare it: blocks={{"{name}": ("branch", "shortcut")}}' if name else ""
        super().__init__(f"cannot see through {name or 'the network'} ({type(module).__name__}): {leaf.reason}{advice}")
        self.path, self.leaf = path, leaf


def _reason(error: Exception) -> str:
    """Return why a forward could not be traced, with the line of the network's own code that did it."""
    frame = error.__traceback__
    lines = []
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if "/torch/" not in file.replace("\\", "/") and file != __file__:
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


def flows(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """Return, for each node whose value comes from the images, the nodes that it takes such values from.

    Parameters, constants and sizes are not such values: a learned position embedding or a mask is no second path.
    """
    sources: dict[fx.Node, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            sources[node] = []
            continue
        inputs = [source for source in node.all_input_nodes if source in sources]
        if inputs and node.op != "output" and not _is_of_shape(node):
            sources[node] = inputs
    return sources


def flows_to_output(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes whose value comes from the images and goes into the output."""
    sources = flows(graph)
    found: set[fx.Node] = set()
    pending = [graph.output_node()]
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += node.all_input_nodes
    return found & sources.keys()


def _is_of_shape(node: fx.Node) -> bool:
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] in ("shape", "device", "dtype", "ndim")
    name = str(node.target).removeprefix("aten.")
    return node.op != "call_module" and name.startswith(
        ("size", "dim", "numel", "new_", "zeros_like", "ones_like", "empty_like", "full_like")
    )


def immediate_dominators(sources: Mapping[fx.Node, list[fx.Node]]) -> dict[fx.Node, fx.Node]:
    """Return for each node the last node that every path from the images to it passes (Cooper, Harvey & Kennedy 2001,
    for a graph without cycles).
    """
    rank = {node: position for position, node in enumerate(sources)}
    parent: dict[fx.Node, fx.Node] = {}
    for node, inputs in sources.items():
        if not inputs:
            continue
        common = inputs[0]
        for other in inputs[1:]:
            while common is not other:
                if rank[common] > rank[other]:
                    common = parent[common]
                else:
                    other = parent[other]
        parent[node] = common
    return parent


def between(start: fx.Node, end: fx.Node, sources: Mapping[fx.Node, list[fx.Node]]) -> set[fx.Node]:
    """Return the nodes on the paths from `start`, left out, to `end`, included; `start` must dominate `end`."""
    found: set[fx.Node] = set()
    pending = [end]
    while pending:
        node = pending.pop()
        if node is not start and node not in found:
            found.add(node)
            pending += sources[node]
    return found


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors in an output, which may be one tensor, a tuple or a mapping."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


class Hidden(fx.Interpreter):
    """Runs a traced graph and refuses a leaf that adds a skip out of sight."""

    def __init__(self, root: Whole, traced: Traced) -> None:
        super().__init__(root, graph=traced.graph)
        self.extra_traceback = False
        self.leaves = traced.leaves

    def call_module(self, target: fx.node.Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Look inside the leaves that could not be traced, by the operations that they run on this example."""
        module = self.module.get_submodule(str(target))
        leaf = self.leaves.get(str(target))
        if leaf is not None and _adds_a_skip(module, args, kwargs):
            raise CannotSeeError(str(target), module, leaf)
        return module(*args, **kwargs)


def _adds_a_skip(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Say whether a module, run on these arguments, adds two values that come from them."""
    if isinstance(module, _FUSED):
        return True  # in evaluation mode it is one operation
    leaves, structure = tree_flatten((args, kwargs))

    def run(*values: Tensor) -> Any:
        given = iter(values)
        positional, named = tree_unflatten(
            [next(given) if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure
        )
        return module(*positional, **named)

    graph = make_fx(run)(*(leaf for leaf in leaves if isinstance(leaf, Tensor))).graph
    sources = flows(graph)
    additions = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)
    return any(node.target in additions and len(sources.get(node, ())) == 2 for node in graph.nodes)
