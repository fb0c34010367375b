"""Data flow in a graph: which values come from the images, through which nodes, and what lies between two nodes."""

import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import attrgetter
from typing import NamedTuple

from torch import fx

from reslab.gates.following import check, check_content, shapes_of
from reslab.gates.inputs import part
from reslab.gates.writing import name_of

_OF_MASKS = re.compile(r"(?:^|_)masks?(?:$|_pos$)|_masked_pos$")
"""Names of inputs that are masks, and not of masked images."""


class Begin(NamedTuple):
    """The rank of an input as the start of a flow; masks come last."""

    is_mask: bool
    place: int


def begins(graph: fx.Graph) -> dict[fx.Node, Begin]:
    """Return, for each node whose value comes from the input, the first of the network's inputs that it comes from.

    Parameters, constants and sizes do not: a learned position embedding or a mask of ones is not a second path. What is
    compared becomes a mask, which is an input of its own: it passes beside the values, and is none of them.
    """
    found = _begins(graph, masks=True)
    given = graph.output_node().all_input_nodes
    # where all that is given comes from comparisons, as in a spiking network, they are the values
    return found if any(node in found and not found[node].is_mask for node in given) else _begins(graph, masks=False)


def _begins(graph: fx.Graph, *, masks: bool) -> dict[fx.Node, Begin]:
    parts = [node for node in graph.nodes if node.target is part]
    found: dict[fx.Node, Begin] = {}
    for node in graph.nodes:
        if node in parts or (node.op == "placeholder" and not parts):
            named = str(node.args[1]) if len(node.args) > 1 else ""
            found[node] = Begin(masks and _OF_MASKS.search(named) is not None, len(found))
        elif node.op != "output" and not is_of_shape(node):
            inputs = [found[source] for source in node.all_input_nodes if source in found]
            if inputs:
                found[node] = Begin(True, len(found)) if masks and _compares(node) else min(inputs)
    return found


COMPARISONS = frozenset(
    ("eq", "ne", "lt", "le", "gt", "ge", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_not")
)
"""Names of operations whose result is true or false at each place."""


def _compares(node: fx.Node) -> bool:
    """Return whether a node compares values."""
    name = name_of(node).removeprefix("aten.").partition(".")[0]
    return node.op in ("call_function", "call_method") and name in COMPARISONS


def flows(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """Return, for each node whose value comes from the input, the nodes that it takes such values from.

    Each of several inputs starts a separate flow. Where they meet, the first continues, and the others count as
    parameters.
    """
    begin = begins(graph)
    return {node: [source for source in node.all_input_nodes if begin.get(source) == begin[node]] for node in begin}


def flows_to_output(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes whose value comes from the images, not from a mask, and goes into the output."""
    begin = begins(graph)
    found = reached([graph.output_node()], attrgetter("all_input_nodes"))
    return {node for node in found if node in begin and not begin[node].is_mask}


NEW = ("new_", "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "randint_like")
"""Names of operations that use only a tensor's shape."""


def is_of_shape(node: fx.Node) -> bool:
    """Return whether a value is read off the shape of another, or checks it."""
    if node.target in (check, check_content, shapes_of, bool, int, float, len, operator.index):
        return True
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] in ("shape", "device", "dtype", "ndim")
    name = name_of(node).removeprefix("aten.")
    return node.op != "call_module" and name.startswith(("size", "dim", "numel", *NEW))


def has_content(node: fx.Node) -> bool:
    """Return whether a value comes from what parameters or buffers hold, and not from their shapes alone."""

    def back(node: fx.Node) -> list[fx.Node]:
        return [source for source in node.all_input_nodes if not is_of_shape(source)]

    held = (each for each in reached([node], back) if each.op == "get_attr")
    return not is_of_shape(node) and any(not str(each.target).startswith("_tensor_constant") for each in held)


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
    """Return the nodes on the paths from `start`, left out, to `end`, included."""
    before = reached([end], sources.__getitem__, (start,))
    return reached([user for user in start.users if user in before], lambda node: before.intersection(node.users))


def reached(
    nodes: Iterable[fx.Node], step: Callable[[fx.Node], Iterable[fx.Node]], outside: Collection[fx.Node] = ()
) -> set[fx.Node]:
    """Return some nodes and all that `step` leads to from them, never into those outside."""
    found: set[fx.Node] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node not in found and node not in outside:
            found.add(node)
            pending += step(node)
    return found
