"""Gates in a traced graph: one on every branch, and the graph cut into segments at the ends of the blocks."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from reslab.errors import UserError
from reslab.gates import tracing
from reslab.gates.finding import Candidate, Finder, Kind


@dataclass(frozen=True)
class Block:
    """One gated place of a network.

    `kind` is "add" for a residual block, "concat" for a dense layer (its gate is on its new features) and "unit" for a repeated
    module of a plain network, which at gate 0 becomes the parameter-free shortcut: subsampling, and zero channels at the end.
    """

    name: str  # the module's path, such as "layer2.0"; with [0], [1], … where one module has several
    kind: Kind
    identity: bool  # whether the shortcut does nothing; False where the block changes shape

    @property
    def stage(self) -> str:
        """Return the path of what holds the block: "layer2"."""
        return self.name.partition("[")[0].rpartition(".")[0]


class Place(NamedTuple):
    """Where a block is in the gated graph."""

    input: fx.Node
    shortcut: fx.Node
    branches: list[fx.Node]
    end: fx.Node  # the addition, the dense layer's gated features, or the bridged unit
    output: fx.Node  # of the block's module: after an activation that follows the addition
    plain: bool  # whether the end is just the sum of shortcut and branches


class Plan(NamedTuple):
    """A gated graph in segments: the stem, one a block, the head."""

    blocks: tuple[Block, ...]
    places: list[Place]
    cuts: list[list[fx.Node]]  # what is live between two segments
    segments: list[fx.Graph]
    is_chain: bool
    functions: dict[str, Callable[..., Any]]  # made from the graphs when needed


def gated(branch: Tensor, gates: Tensor | None, index: int) -> Tensor:
    """Return the branch `[B, …]` times its gate, cast to the branch's dtype; the branch itself if there are no gates."""
    return branch if gates is None else branch * _fitted(gates[index], branch)


def bridged(x: Tensor, out: Tensor, gates: Tensor | None, index: int) -> Tensor:
    """Return a unit's output `[B, C', H', W']` at gate 1, its input through the option-A shortcut at gate 0, and a mix between."""
    return out if gates is None else torch.lerp(option_a(x, out), out, _fitted(gates[index], out))


def _fitted(gate: Tensor, like: Tensor) -> Tensor:
    """Return a gate, `[]` or `[B]`, in the dtype and on the device of `like`, so that it broadcasts over all but its batch."""
    return gate.to(like).reshape(gate.shape + (1,) * (like.dim() - 1) if gate.dim() else ())


def option_a(x: Tensor, like: Tensor) -> Tensor:
    """Return `x` subsampled by striding and with zero channels appended, in the shape of `like` (He et al. 2015, section 3.3, option A).

    Raises:
        UserError: if that cannot give the shape.
    """
    steps = [-(-before // after) for before, after in zip(x.shape[2:], like.shape[2:], strict=False)]
    places: tuple[Any, ...] = (..., *(slice(None, None, step) for step in steps))
    strided = x[places]
    padded = F.pad(strided, (0, 0) * len(steps) + (0, max(0, like.shape[1] - x.shape[1])))
    if padded.shape != like.shape:
        raise UserError(f"a unit from {list(x.shape)} to {list(like.shape)} cannot be removed: striding and zero channels do not bridge it")
    return padded


def make_plan(traced: tracing.Traced) -> Plan:
    """Find the blocks, put a gate on every branch, and cut the graph before the first block and after each.

    Raises:
        UserError: if there are no blocks, or a shortcut cannot be told from a branch.
    """
    found = Finder(traced).blocks()
    if not found:
        raise UserError("the network has no blocks: no additive skip, no dense layer and no repeated unit was found in its graph")
    graph = traced.graph
    images = next(iter(graph.nodes))
    with graph.inserting_after(images):
        gates = graph.placeholder("gates")
    places: list[Place] = []
    bridges: dict[fx.Node, fx.Node] = {}  # a unit's output -> what stands in for it, which the next unit takes
    for index, block in enumerate(found):
        place = _gate(graph, block._replace(input=bridges.get(block.input, block.input)), gates, index, traced)
        places.append(place)
        if block.kind == "unit":
            bridges[block.end] = place.end
    blocks = tuple(Block(block.name, block.kind, block.identity) for block in found)

    nodes = [node for node in graph.nodes if node is not gates]
    rank = {node: position for position, node in enumerate(nodes)}
    flows = tracing.flows_to_output(graph)
    ends = [rank[places[0].input], *(rank[place.end] for place in places)]
    cuts = [_live(nodes, rank, end, flows) for end in ends]
    trunk = [places[0].input, *(place.end for place in places)]
    is_chain = all(block.kind == "add" for block in found) and all(
        [node for node in cut if _matters(node, rank, end, flows)] == [last] for cut, end, last in zip(cuts, ends, trunk, strict=True)
    )
    starts, inputs, stops = [1, *(end + 1 for end in ends)], [[images], *cuts], [*(end + 1 for end in ends), len(nodes)]
    outputs = [*cuts, None]
    segments = [_segment(nodes[a:b], into, out, gates) for a, b, into, out in zip(starts, stops, inputs, outputs, strict=True)]
    return Plan(blocks, places, cuts, segments, is_chain, {})


def _live(nodes: Sequence[fx.Node], rank: Mapping[fx.Node, int], end: int, flows: Collection[fx.Node]) -> list[fx.Node]:
    """Return the nodes up to position `end` that are used after it: first those that lead from the images to the output, then sizes and the like."""
    live = [node for node in nodes[: end + 1] if any(rank[user] > end for user in node.users)]
    return sorted(live, key=lambda node: not _matters(node, rank, end, flows))


def _matters(node: fx.Node, rank: Mapping[fx.Node, int], end: int, flows: Collection[fx.Node]) -> bool:
    return node in flows and any((user in flows or user.op == "output") and rank[user] > end for user in node.users)


def _gate(graph: fx.Graph, block: Candidate, gates: fx.Node, index: int, traced: tracing.Traced) -> Place:
    """Gate one block; return where it is."""
    if block.kind == "add":
        for branch in block.branches:
            user = _summing(block.end, branch)
            with graph.inserting_before(user):
                user.replace_input_with(branch, graph.call_function(gated, (branch, gates, index)))
        call = traced.calls.get(f"network.{block.name}")
        order = list(graph.nodes).index
        whole = call is not None and call.input is block.input and order(call.output) >= order(block.end)  # else it is the branch alone
        output = call.output if call is not None and whole else block.end
        return Place(block.input, block.shortcut, block.branches, block.end, output, block.plain)
    (branch,) = block.branches
    with graph.inserting_after(branch):
        if block.kind == "concat":
            end = graph.call_function(gated, (branch, gates, index))
        else:
            end = graph.call_function(bridged, (block.input, branch, gates, index))
    branch.replace_all_uses_with(end, delete_user_cb=lambda user: user is not end)
    return Place(block.input, block.shortcut, block.branches, end, end, plain=False)


def _summing(end: fx.Node, term: fx.Node) -> fx.Node:
    """Return the addition that takes the term, in a sum that ends at `end`."""
    pending = [end]
    while term not in pending[0].all_input_nodes:
        pending += pending.pop(0).all_input_nodes
    return pending[0]


def _segment(nodes: Sequence[fx.Node], inputs: Sequence[fx.Node], outputs: Sequence[fx.Node] | None, gates: fx.Node) -> fx.Graph:
    """Return consecutive nodes as a graph from what is live before them, and the gates, to what is live after."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    copies[gates] = graph.placeholder("gates")
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    if outputs is not None:
        graph.output(tuple(copies[node] for node in outputs))
    return graph


def slice_graph(inputs: Sequence[fx.Node], outputs: Any) -> fx.Graph:
    """Return the part of a graph that leads from `inputs` to `outputs` (a node, or nodes in tuples and lists), without gates."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    wanted: set[fx.Node] = set()
    pending: list[fx.Node] = []
    fx.node.map_arg(outputs, pending.append)
    while pending:
        node = pending.pop()
        if node not in copies and node not in wanted:
            wanted.add(node)
            pending += [_without_gate(source) for source in node.all_input_nodes]
    for node in inputs[0].graph.nodes:
        if node in wanted:
            copies[node] = graph.node_copy(node, lambda source: copies[_without_gate(source)])
    graph.output(fx.node.map_arg(outputs, lambda node: copies[_without_gate(node)]))
    return graph


def _without_gate(node: fx.Node) -> fx.Node:
    return node.all_input_nodes[0] if node.target is gated else node
