"""What flows through a view: the values at some nodes of its graph, kept as they were made."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, fx, nn


class Recorder(fx.Interpreter):
    """Runs a graph and keeps the values of some nodes, whatever is later done to them in place.

    What runs on is a copy, through which autograd goes back to what is kept; `differentiable` says that all that is
    kept needs a gradient, also where nothing before it does.
    """

    def __init__(
        self, root: nn.Module, graph: fx.Graph, nodes: Iterable[fx.Node], *, differentiable: bool = False
    ) -> None:
        super().__init__(root, graph=graph)
        self.extra_traceback = False
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
