"""Whether a module that cannot be traced through adds a skip out of sight."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from reslab.gates import flow, tracing
from reslab.gates.following import Runner
from reslab.gates.inputs import Whole, tensors_of


class Hidden(Runner):
    """Runs a traced graph and finds the leaves that add a skip out of sight."""

    def __init__(self, root: Whole, traced: tracing.Traced) -> None:
        super().__init__(root, traced.graph)
        self.leaves = traced.leaves
        self.found: list[tracing.CannotSeeError] = []

    def call_module(self, target: fx.node.Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Look inside the leaves that could not be traced, by the operations that they run on this example."""
        module = self.module.get_submodule(str(target))
        leaf = self.leaves.get(str(target))
        if leaf is not None and _adds_a_skip(module, args, kwargs):
            self.found.append(tracing.CannotSeeError(str(target), module, leaf))
        return module(*args, **kwargs)


def _adds_a_skip(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Say whether a module, run on these arguments, adds two values that come from them."""
    if isinstance(module, tracing.FUSED):
        return True  # in evaluation mode it is one operation
    with _Additions(tensors_of((args, kwargs))) as additions:
        module(*args, **kwargs)
    return additions.found


class _Additions(TorchDispatchMode):
    """Notes whether two values that come from some tensors are added, among the operations that run meanwhile."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        self.come = {id(tensor): tensor for tensor in tensors}  # kept, so that no other gets the same id
        self.found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = {id(tensor) for tensor in tensors_of((args, kwargs))} & self.come.keys()
        out = func(*args, **kwargs)
        if func in (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor) and len(given) == 2:
            self.found = True
        if given and not str(func).removeprefix("aten.").startswith(flow.NEW):
            self.come |= {id(tensor): tensor for tensor in tensors_of(out)}
        return out
