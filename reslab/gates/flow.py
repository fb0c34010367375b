"""What a graph's values come from: the images, which of its nodes they pass, and what lies between two of them."""

import operator
from collections.abc import Mapping

from torch import fx

from reslab.gates.following import check, shapes_of
from reslab.gates.inputs import part


def flows(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """Return, for each node whose value comes from the input, the nodes that it takes such values from.

    Parameters, constants and sizes are not such values: a learned position embedding or a mask is no second path. Of
    several inputs, each begins a flow of its own; where they meet, the first goes on, and the others are to it what a
    parameter is.
    """
    sources: dict[fx.Node, list[fx.Node]] = {}
    begins: dict[fx.Node, tuple[bool, int]] = {}  # the place of the input that a value comes from, masks last
    parts = [node for node in graph.nodes if node.target is part]
    for node in graph.nodes:
        if node in parts or (node.op == "placeholder" and not parts):
            begins[node] = ("mask" in str(node.args[1:]), len(begins))
            sources[node] = []
            continue
        inputs = [source for source in node.all_input_nodes if source in sources]
        if inputs and node.op != "output" and not _is_of_shape(node):
            begins[node] = min(begins[source] for source in inputs)
            sources[node] = [source for source in inputs if begins[source] == begins[node]]
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


NEW = ("new_", "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like")
"""How the operations are called that take of a tensor its shape alone."""


def _is_of_shape(node: fx.Node) -> bool:
    if node.target in (check, shapes_of, bool, int, float, len, operator.index):
        return True
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] in ("shape", "device", "dtype", "ndim")
    name = str(node.target).removeprefix("aten.")
    return node.op != "call_module" and name.startswith(("size", "dim", "numel", *NEW))


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
