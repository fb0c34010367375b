"""The plan of a view: the gated graph, cut before the first block and after each, so that each part runs by itself.

            cut 0                  cut 1                  cut 2          cut n
              |                      |                      |              |
    x -stem---|------ block 0 -------|------ block 1 -------|---- ... -----|---head- y
              |                      |                      |              |
              |   +----- S -----+    |   +----- S -----+    |              |
    x -conv---|---+             +----|-D-+             +----|---- ... -----|-D-fc--- y
              |   +- F --- g[0]-+    |   +- F --- g[1]-+    |              |
              |                      |                      |              |
    live:   stream                 stream                 stream         stream
            + rest                 + rest                 + rest         + rest

A **block** is `y = S(x) + g · F(x)`: from its input x come the shortcut S and the branch F, which meet again at its
end, the addition.

A **cut** lies right after such an end (the first one after the input of block 0). Operations after an addition, such as
the ReLU of a v1 block (D in the picture), therefore belong to the next segment, and those after the last addition to
the head.

The values that are **live** at a cut are computed before it and still used after it; everything later can be computed
from them. The first is the `stream`, the latest sum; the `rest` is mostly empty. In a chain of residual blocks the
stream is the only value on a path from the images to the output, and the rest at most sizes (`x.shape[0]`) or masks. A
dense network also carries its earlier features along, a U-Net its long skips.

A **segment** is everything between two cuts, node for node as the network computes it: segment 0 is the stem, segment i
+ 1 runs block i, segment n + 1 is the head. Run in sequence they reproduce the network, bit for bit, whatever lies
between its blocks. A **slice** is the part of the graph that leads from some nodes to others, without gates: for
example from the live values before a block to its two sides.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from torch import fx

from reslab.errors import UnseenError, worded
from reslab.gates import flow, tracing
from reslab.gates.finding import Finder, NotSplit
from reslab.gates.gating import Block, Place, put_gates, without_gate

Function = Callable[..., Any]
"""A part of the graph as a Python function, whose first argument is the view that holds the modules."""
Nodes = tuple[fx.Node, ...]


class Live(NamedTuple):
    """The values at a cut, from which everything after it is computed."""

    stream: Any  # the sum before it, or the first block's input
    rest: tuple[Any, ...] = ()  # what else is used later: other tensors, or sizes


class Cut(NamedTuple):
    """A place between two segments, with the nodes that are live there."""

    after: fx.Node  # the input of the first block, or the end of a block
    carried: Nodes  # those on a way from the images to the output
    beside: Nodes  # the others: sizes and the like

    @property
    def live(self) -> Nodes:
        """Return all live nodes: the stream first."""
        return self.carried + self.beside


class Segment(NamedTuple):
    """The nodes between two cuts, in their order."""

    nodes: Sequence[fx.Node]
    takes: Nodes  # what is live before them
    gives: Nodes | None  # what is live after them; None for the head, which ends with the network's output

    def graph(self, gates: fx.Node) -> fx.Graph:
        """Return the segment as a separate graph, from its inputs and the gates to `Live`."""
        graph = fx.Graph()
        copies = {node: graph.placeholder(node.name) for node in (*self.takes, gates)}
        for node in self.nodes:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        if self.gives is not None:
            stream, *rest = (copies[node] for node in self.gives)
            graph.output(Live(stream, tuple(rest)))
        return graph


@dataclass(frozen=True)
class Plan:
    """A gated graph, the places of its blocks, and the functions that it is made into. Made by `make_plan`."""

    graph: fx.Graph
    blocks: tuple[Block, ...]
    places: Sequence[Place]
    not_split: tuple[NotSplit, ...]
    cuts: Sequence[Cut]  # n + 1
    segments: Sequence[Function]  # n + 2: the stem, one for each block, the head; of what is live before, and the gates
    _slices: dict[tuple[Nodes, fx.node.Argument], Function] = field(default_factory=dict)

    @property
    def is_chain(self) -> bool:
        """Whether the blocks are residual and at each cut only the sum before it is carried on."""
        return all(block.kind == "add" for block in self.blocks) and all(
            cut.carried == (cut.after,) for cut in self.cuts
        )

    def sides(self, index: int) -> Function:
        """Return the function from what is live before a block to its shortcut's value and its branches' values.

        Raises:
            UserError: if the block is not simply the sum of these.
        """
        place = self.places[index]
        if not place.plain:
            raise UnseenError(*worded("no-plain-sum", name=self.blocks[index].name))
        return self._slice(self.cuts[index].live, (place.shortcut, tuple(place.branches)))

    def input(self, index: int) -> Function:
        """Return the function from what is live before a block to its input."""
        return self._slice(self.cuts[index].live, self.places[index].input)

    def module(self, index: int) -> Function:
        """Return the function from a block's input, and what it takes beside it, to its module's output."""
        return self._slice((self.places[index].input, *self.taken_beside[index]), self.places[index].output)

    @functools.cached_property
    def taken_beside(self) -> Sequence[Nodes]:
        """What each block's module takes of the values that are live before it, beside its input: a mask, what comes
        from another input of the network, or earlier features; mostly nothing.
        """
        return [self._taken_beside(place, cut) for place, cut in zip(self.places, self.cuts, strict=False)]

    def _taken_beside(self, place: Place, cut: Cut) -> Nodes:
        given = self.given(place, cut)
        inside = flow.reached([place.output], attrgetter("all_input_nodes"), (place.input, *given))
        taken = {source for node in inside for source in node.all_input_nodes}
        return tuple(node for node in given if node in taken and node is not place.input)

    def given(self, place: Place, cut: Cut) -> Nodes:
        """Return what is live at the cut before a block, but for its own branch, which may have been begun before: that
        is made from its input and what is live beside it, and not by other blocks.
        """
        if len(cut.live) == 1 or not place.plain:
            return cut.live
        begun = flow.reached(place.input.users, attrgetter("users"), [other.end for other in self.places])
        others = [node for node in cut.live if node not in begun]

        def is_own(node: fx.Node) -> bool:
            before = flow.reached([node], attrgetter("all_input_nodes"), (place.input, *others))
            return node in begun and not any(each.op == "placeholder" for each in before)

        return tuple(node for node in cut.live if not is_own(node))

    def beside(self, index: int) -> Function:
        """Return the function from what is live before a block to what is live beside the stream after it."""
        return self._slice(self.cuts[index].live, self.cuts[index + 1].beside)

    def _slice(self, takes: Nodes, gives: fx.node.Argument) -> Function:
        """Return the function from some nodes to others, made on first use."""
        if (takes, gives) not in self._slices:
            self._slices[takes, gives] = tracing.function_of(slice_graph(takes, gives))
        return self._slices[takes, gives]


def make_plan(traced: tracing.Traced, hidden: Sequence[NotSplit] = ()) -> Plan:
    """Find the blocks, put a gate on every branch, and cut the graph before the first block and after each.

    Args:
        traced: the network.
        hidden: skips that the graph does not show.

    Raises:
        UserError: if there are no blocks, or for none of them the shortcut can be distinguished from the branch.
    """
    finder = Finder(traced)
    found = finder.blocks(hidden=bool(hidden))
    not_split = [*finder.not_split, *hidden]
    if not found and not_split:
        others = worded("others-not-split", count=len(not_split) - 1) if len(not_split) > 1 else ""
        raise UnseenError(*worded("nothing-to-gate", place=not_split[0], others=others))
    if not found:
        raise UnseenError(*worded("no-blocks"))
    graph = traced.graph
    with graph.inserting_after(next(iter(graph.nodes))):
        gates = graph.placeholder("gates")
    places = put_gates(traced, gates, found)
    nodes = [node for node in graph.nodes if node is not gates]
    rank = {node: position for position, node in enumerate(nodes)}
    cuts = list(_cuts(nodes, rank, [places[0].input, *(place.end for place in places)]))
    return Plan(
        graph=graph,
        blocks=tuple(Block(block.name, block.kind, block.identity) for block in found),
        places=places,
        not_split=tuple(finder.not_split),
        cuts=cuts,
        segments=[tracing.function_of(segment.graph(gates)) for segment in _segments(nodes, rank, cuts)],
    )


def _cuts(nodes: Sequence[fx.Node], rank: Mapping[fx.Node, int], ends: Sequence[fx.Node]) -> Iterator[Cut]:
    """Yield a cut after each end, in their order."""
    flows = flow.flows_to_output(nodes[0].graph)
    for end in ends:
        at = rank[end]
        live = [node for node in nodes[: at + 1] if any(rank[user] > at for user in node.users)]
        carried = sorted(
            (node for node in live if _is_carried(node, at, rank, flows)), key=lambda node: node is not end
        )
        yield Cut(end, tuple(carried), tuple(node for node in live if node not in carried))


def _is_carried(node: fx.Node, at: int, rank: Mapping[fx.Node, int], flows: Collection[fx.Node]) -> bool:
    """Return whether a value from the images reaches the output through a node after position `at`."""
    return node in flows and any((user in flows or user.op == "output") and rank[user] > at for user in node.users)


def _segments(nodes: Sequence[fx.Node], rank: Mapping[fx.Node, int], cuts: Sequence[Cut]) -> Iterator[Segment]:
    """Yield the segments: up to each cut, and from the last one on."""
    images, start = nodes[0], 1
    takes: Nodes = (images,)
    for cut in cuts:
        stop = rank[cut.after] + 1
        yield Segment(nodes[start:stop], takes, cut.live)
        start, takes = stop, cut.live
    yield Segment(nodes[start:], takes, None)


def slice_graph(takes: Nodes, gives: fx.node.Argument) -> fx.Graph:
    """Return the part of a graph that leads from some nodes to others (one, or several in tuples), without gates."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in takes}
    wanted: set[fx.Node] = set()
    pending: list[fx.Node] = []

    def ungated(node: fx.Node) -> fx.Node:
        return node if node in takes else without_gate(node)

    fx.node.map_arg(gives, lambda node: pending.append(ungated(node)))
    while pending:
        node = pending.pop()
        if node not in copies and node not in wanted:
            wanted.add(node)
            pending += map(ungated, node.all_input_nodes)
    for node in takes[0].graph.nodes:
        if node in wanted:
            copies[node] = graph.node_copy(node, lambda source: copies[ungated(source)])
    graph.output(fx.node.map_arg(gives, lambda node: copies[ungated(node)]))
    return graph
