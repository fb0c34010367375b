"""Gates, and their insertion on the branch of every block of a traced graph."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, fx

from reslab.errors import MismatchError, worded
from reslab.gates import tracing
from reslab.gates.finding import Candidate, Kind


@dataclass(frozen=True)
class Block:
    """One gated place of a network.

    `kind` is "add" for a residual block, "concat" for a dense layer (its gate is on its new features) and "unit" for a
    repeated module of a plain network, which at gate 0 becomes the parameter-free shortcut: subsampling, and zero
    channels at the end.
    """

    name: str  # the module's path, such as "layer2.0"; with [0], [1], … where one module has several
    kind: Kind
    identity: bool  # whether the shortcut is the identity; False if the block changes the shape

    @property
    def stage(self) -> str:
        """Return the path of the block's parent: "layer2"."""
        return self.name.partition("[")[0].rpartition(".")[0]


class Setting(NamedTuple):
    """The setting of a view's run: gates, and replacements of branches, which are applied before the gates."""

    gates: Float[Tensor, "n"] | Float[Tensor, "n b"] | None = None
    replace: Mapping[int, "Standing"] = {}  # by the number of the block


Standing = Callable[[Tensor, int], Tensor]
"""A function from a branch, and its number among its block's branches, to its replacement."""

Gates = Float[Tensor, "n"] | Float[Tensor, "n b"] | Setting | None
"""The additional input of a gated graph: gates, a setting, or neither."""


class Place(NamedTuple):
    """The place of a block in the gated graph."""

    input: fx.Node
    shortcut: fx.Node
    branches: list[fx.Node]
    end: fx.Node  # the addition, the dense layer's gated features, or the bridged unit
    output: fx.Node  # of the block's module: after an activation that follows the addition
    plain: bool  # whether the end is exactly the sum of shortcut and branches


def gated(branch: Tensor, gates: Gates, index: int, number: int = 0) -> Tensor:
    """Return the branch `[B, …]`, or what replaces it, times its gate, cast to the branch's dtype; the branch itself if
    there are no gates.
    """
    if isinstance(gates, Setting):
        branch, gates = _replaced(branch, gates, index, number), gates.gates
    return branch if gates is None else branch * _fitted(gates[index], branch)


def bridged(x: Tensor, out: Tensor, gates: Gates, index: int) -> Tensor:
    """Return a unit's output `[B, C', H', W']`, or what replaces it, at gate 1, its input through the option-A shortcut
    at gate 0, and a mix between.
    """
    if isinstance(gates, Setting):
        out, gates = _replaced(out, gates, index), gates.gates
    return out if gates is None else torch.lerp(option_a(x, out), out, _fitted(gates[index], out))


def _replaced(branch: Tensor, setting: Setting, index: int, number: int = 0) -> Tensor:
    """Return a copy of a branch's replacement, as the sum may be computed in place."""
    replacement = setting.replace.get(index)
    if replacement is None:
        return branch
    value = replacement(branch, number)
    if not fits(value, branch):
        adds, given = list(branch.shape), list(value.shape)
        raise MismatchError(*worded("no-replacement-of-shape", index=index, adds=adds, given=given))
    return value.to(branch).expand_as(branch).clone()


def fits(value: Tensor, branch: Tensor) -> bool:
    """Return whether a value can replace a branch `[B, …]`: it has its shape, or that of one image."""
    return value.shape in (branch.shape, branch.shape[1:]) or value.shape == (1, *branch.shape[1:])


def _fitted(gate: Tensor, like: Tensor) -> Tensor:
    """Return a gate, `[]` or `[B]`, in the dtype and on the device of `like`, so that it broadcasts over all but its
    batch.

    Raises:
        UserError: if there is a gate for each image, and the value does not have images first.
    """
    if gate.dim() and len(gate) != len(like):
        raise MismatchError(*worded("not-images-first", shape=list(like.shape), count=len(gate)))
    return gate.to(like).reshape(gate.shape + (1,) * (like.dim() - 1) if gate.dim() else ())


def option_a(x: Tensor, like: Tensor) -> Tensor:
    """Return `x` subsampled by striding and with zero channels appended, in the shape of `like` (He et al. 2015,
    section 3.3, option A).

    Raises:
        UserError: if that cannot give the shape.
    """
    steps = [-(-before // after) for before, after in zip(x.shape[2:], like.shape[2:], strict=False)]
    places: tuple[Any, ...] = (..., *(slice(None, None, step) for step in steps))
    strided = x[places]
    padded = F.pad(strided, (0, 0) * len(steps) + (0, max(0, like.shape[1] - x.shape[1])))
    if padded.shape != like.shape:
        raise MismatchError(*worded("no-unit-to-remove", before=list(x.shape), after=list(like.shape)))
    return padded


def put_gates(traced: tracing.Traced, gates: fx.Node, found: Sequence[Candidate]) -> list[Place]:
    """Put gates from the graph's input `gates` on every block found; return the places of the blocks."""
    places: list[Place] = []
    bridges: dict[fx.Node, fx.Node] = {}  # a unit's output -> its replacement, the input of the next unit
    for index, block in enumerate(found):
        place = _gate(traced, block._replace(input=bridges.get(block.input, block.input)), gates, index)
        places.append(place)
        if block.kind == "unit":
            bridges[block.end] = place.end
    return places


def without_gate(node: fx.Node) -> fx.Node:
    """Return the branch that a gate multiplies, or the unit that is bridged; any other node itself."""
    if node.target is bridged:
        return node.all_input_nodes[1]
    return node.all_input_nodes[0] if node.target is gated else node


def _gate(traced: tracing.Traced, block: Candidate, gates: fx.Node, index: int) -> Place:
    """Gate one block, and return its place."""
    graph = traced.graph
    if block.kind == "add":
        for number, branch in enumerate(block.branches):
            user = _summing(block, branch)
            with graph.inserting_before(user):
                user.replace_input_with(branch, graph.call_function(gated, (branch, gates, index, number)))
        order = list(graph.nodes).index
        path = re.sub(r"\[\d+\]$", "", f"network.{block.name}")  # of a module that is called several times
        calls = [call for call in traced.all_calls.get(path, ()) if call.input is block.input]
        # else it is the branch alone
        output = next((call.output for call in calls if order(call.output) >= order(block.end)), block.end)
        return Place(block.input, block.shortcut, block.branches, block.end, output, block.plain)
    (branch,) = block.branches
    with graph.inserting_after(branch):
        if block.kind == "concat":
            end = graph.call_function(gated, (branch, gates, index))
        else:
            end = graph.call_function(bridged, (block.input, branch, gates, index))
    branch.replace_all_uses_with(end, delete_user_cb=lambda user: user is not end)
    return Place(block.input, block.shortcut, block.branches, end, end, plain=False)


def _summing(block: Candidate, term: fx.Node) -> fx.Node:
    """Return the addition of a block that takes the term; its other terms may come from that one."""
    terms, pending = {block.shortcut, *block.branches}, [block.end]
    while term not in pending[0].all_input_nodes:
        below = pending.pop(0).all_input_nodes
        pending += [node for node in below if node not in terms and node.target is not gated]
    return pending[0]
