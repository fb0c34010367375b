"""Recording the values that flow through a view, at nodes of its graph and by block."""

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxtyping import Shaped
from torch import Tensor, fx, nn

from reslab.errors import UnseenError, worded
from reslab.gates.following import Runner
from reslab.gates.gating import Gates, Place
from reslab.gates.planning import Plan


class Recorder(Runner):
    """Runs a graph and keeps the values of some nodes, unaffected by later in-place operations: the graph continues
    with a copy, through which autograd reaches the kept value.

    With `differentiable`, every kept value requires a gradient, even if nothing before it does.
    """

    def __init__(
        self, root: nn.Module, graph: fx.Graph, nodes: Iterable[fx.Node], *, differentiable: bool = False
    ) -> None:
        super().__init__(root, graph)
        self.differentiable = differentiable
        self.values: dict[fx.Node, Any] = dict.fromkeys(nodes)

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        value = super().run_node(n)
        if n not in self.values:
            return value
        if self.differentiable and isinstance(value, Tensor) and not value.requires_grad:
            value = value.detach().requires_grad_()
        self.values[n] = value
        return value.clone() if isinstance(value, Tensor) else value


class Sides(NamedTuple):
    """The terms that a residual block adds, before gating."""

    shortcut: Shaped[Tensor, "b ..."]
    branches: Sequence[Shaped[Tensor, "b ..."]]  # mostly one


class BlockValues(NamedTuple):
    """A block's input, the terms that it adds, and their sum.

    `branch` is the branch's own value, before its gate and before any replacement. For a dense layer the sum is the
    gated new features, and for a unit of a plain network its output.
    """

    input: Shaped[Tensor, "b ..."]
    shortcut: Shaped[Tensor, "b ..."]
    branch: Shaped[Tensor, "b ..."]
    sum: Shaped[Tensor, "b ..."]


class Stream(dict[str, BlockValues]):
    """The values of blocks by name, in the order of the network, and the network's output."""

    def __init__(self, output: Any, values: Mapping[str, BlockValues]) -> None:
        super().__init__(values)
        self.output = output


def record(root: nn.Module, plan: Plan, x: Any, gates: Gates, indices: Sequence[int]) -> Stream:
    """Return the values of some blocks for an input, and the output.

    Raises:
        UserError: if one of them has several branches that are weighted or subtracted.
    """
    places = {plan.blocks[index].name: plan.places[index] for index in indices}
    for name, place in places.items():
        if len(place.branches) > 1 and not place.plain:
            raise UnseenError(*worded("several-branches", name=name))
    recorder = Recorder(root, plan.graph, [node for place in places.values() for node in _nodes(place)])
    output = recorder.run(x, gates)
    return Stream(output, {name: _values(place, recorder.values) for name, place in places.items()})


def _nodes(place: Place) -> tuple[fx.Node, ...]:
    return place.input, place.shortcut, *place.branches, place.end


def _values(place: Place, values: Mapping[fx.Node, Any]) -> BlockValues:
    branch = functools.reduce(operator.add, (values[node] for node in place.branches))
    return BlockValues(values[place.input], values[place.shortcut], branch, values[place.end])
