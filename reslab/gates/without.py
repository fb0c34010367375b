"""Removing blocks from a network: the result is an ordinary module without their branches."""

from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from operator import attrgetter
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from reslab.errors import UnseenError, few, worded
from reslab.gates import flow
from reslab.gates.checks import same
from reslab.gates.gating import without_gate
from reslab.gates.inputs import tensors_of
from reslab.gates.tracing import function_of
from reslab.gates.writing import since
from reslab.state import copied, preserve

if TYPE_CHECKING:
    from reslab.gates.view import View


class Smaller(nn.Module):
    """A network defined by a graph. Made by `View.without`; its parameters keep their names.

    It trains, copies, pickles and exports like any module, and can be viewed.
    """

    def __init__(
        self, parts: Mapping[str, Any], modes: Mapping[str, bool], graph: fx.Graph, unsaved: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.training = modes[""]
        for path, part in parts.items():
            holder: nn.Module = self
            *above, name = path.split(".")
            for depth, step in enumerate(above, 1):
                if step not in holder._modules:
                    holder.add_module(step, nn.Module())
                    holder.get_submodule(step).training = modes[".".join(above[:depth])]
                holder = holder.get_submodule(step)
            _put(holder, name, part, persistent=path not in unsaved)
        self._run = function_of(graph)
        code = graph.python_code("self")
        self._code, self._names = code.src, dict(code.globals)

    def forward(self, x: Any) -> Any:
        """Return what the network returns with the gates of the blocks at 0."""
        return self._run(self, x)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the graph's source text, and the modules that it refers to by name."""
        names = {
            name: value.__name__ if isinstance(value, ModuleType) else value for name, value in self._names.items()
        }
        return {key: value for key, value in vars(self).items() if key != "_run"} | {"_names": names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the function from its text."""
        super().__setstate__(state)
        self._names = {
            name: import_module(value) if isinstance(value, str) else value for name, value in self._names.items()
        }
        namespace = dict(self._names)
        exec(self._code, namespace)  # torch.fx's own way to run a graph, and what a pickle may do in any case
        self._run = namespace["forward"]


def without(view: "View", indices: Sequence[int]) -> Smaller:
    """Return a copy of a view's network in which the blocks `indices` are only their shortcuts.

    Raises:
        UserError: if one of them is not exactly the sum of a shortcut and branches, or the copy differs from the
            network with gates at 0.
    """
    plan = view.plan
    for index in indices:
        if not plan.places[index].plain:
            raise UnseenError(*worded("no-plain-sum-to-remove", name=plan.blocks[index].name))
    if view.fixed:
        raise UnseenError(*worded("no-single-graph", names=few(view.fixed)))
    graph = _cut(view, indices)
    twin, parts, unsaved = copied(view.network), {}, set()
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            path = str(node.target).removeprefix("network.")
            if path == "network":
                raise UnseenError(*worded("writes-own-buffers", kind=type(view.network).__name__))
            owner: Any = twin if path != node.target else view
            parts[path] = attrgetter(path)(owner)
            if node.op == "get_attr" and _is_unsaved(owner, path):
                unsaved.add(path)
            node.target = path
    modes = {path: module.training for path, module in view.network.named_modules(remove_duplicate=False)}
    made = Smaller(parts, modes, graph, unsaved)
    _compare(made, view, indices)
    return made


@torch.no_grad()
def _compare(made: Smaller, view: "View", indices: Sequence[int]) -> None:
    """Reject a copy that differs from the network with gates at 0, as when a branch changes its input in place."""
    assert view.example is not None  # `view` has set it
    with preserve(view), preserve(made):
        x = _anything(view.example)
        expected, got = (tensors_of(one) for one in (view.eval()(x, view.gates(off=indices)), made.eval()(x)))
    if not all(same(one, other) for one, other in zip(expected, got, strict=True)):
        names = few([view.blocks[index].name for index in indices])
        raise UnseenError(*worded("branch-in-place", names=names))


def _anything(example: Any) -> Any:
    """Return an input like the example: noise, or zeros for integers."""

    def like(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        shape, dtype, device = leaf.shape, leaf.dtype, leaf.device
        return (torch.randn if dtype.is_floating_point else torch.zeros)(shape, dtype=dtype, device=device)

    return tree_map(like, example)


def _cut(view: "View", indices: Collection[int]) -> fx.Graph:
    """Return the graph without gates and without the branches of some blocks. What the network assigns to its modules,
    but for buffers, is left out, as the copy does not have these modules.
    """
    plan, graph = view.plan, fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(plan.graph, copies))
    unused: set[fx.Node] = set()  # but for what is left out
    for node in reversed(list(graph.nodes)):
        if node.target is setattr:
            owner, name, _ = node.args
            left_out = name not in view.get_submodule(str(owner.target))._buffers
        else:
            left_out = not node.users and (node in unused or node.op == "get_attr" or node.target is since)
        if left_out and node.op != "placeholder":
            unused |= {*node.all_input_nodes}
            graph.erase_node(node)
    for index in indices:
        place = plan.places[index]
        end = copies[place.end]
        with graph.inserting_before(end):  # a copy, as later operations may work in place on the sum
            shortcut = graph.call_method("clone", (copies[place.shortcut],))
        end.replace_all_uses_with(shortcut)
        copies[place.end] = shortcut  # as the next block may be removed too
        _erase(graph, end)
    for node in [node for node in graph.nodes if without_gate(node) is not node]:
        node.replace_all_uses_with(without_gate(node))
        graph.erase_node(node)
    _, gates = (node for node in graph.nodes if node.op == "placeholder")
    graph.erase_node(gates)
    return graph


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    """Erase a node, everything computed only for it, and the checks of its shape."""
    pending = [node]
    while pending:
        node = pending.pop()
        if node.op == "placeholder" or node not in graph.nodes:
            continue
        later = flow.reached(node.users, attrgetter("users"))
        if all(user.users or flow.is_of_shape(user) for user in later):
            sources = node.all_input_nodes
            for user in sorted(later, key=list(graph.nodes).index, reverse=True):
                graph.erase_node(user)
            graph.erase_node(node)
            pending += sources


def _is_unsaved(network: nn.Module, path: str) -> bool:
    """Return whether a buffer is none of those in the network's state dict."""
    where, _, name = path.rpartition(".")
    return name in network.get_submodule(where)._non_persistent_buffers_set


def _put(holder: nn.Module, name: str, part: Any, *, persistent: bool) -> None:
    if isinstance(part, nn.Module):
        holder.add_module(name, part)
    elif isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
        holder.register_buffer(name, part, persistent=persistent)
    else:
        setattr(holder, name, part)
