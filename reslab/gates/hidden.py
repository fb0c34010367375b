"""Whether a module that cannot be traced contains a hidden skip, and which modules need a graph per mode."""

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode

from reslab.gates import flow, tracing
from reslab.gates.following import Runner
from reslab.gates.inputs import Whole, tensors_of
from reslab.state import preserve, transformers_as_written


class Hidden(Runner):
    """Runs a traced graph and finds two kinds of leaves: those with a hidden skip, and those that branch only on their
    mode and use an input only for its shape, so that their output seems to come from it.
    """

    def __init__(self, root: Whole, traced: tracing.Traced) -> None:
        super().__init__(root, traced.graph)
        self.leaves = traced.leaves
        self.found: list[tracing.CannotSeeError] = []
        self.apart: list[tracing.CannotSeeError] = []

    def call_module(self, target: fx.node.Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Inspect the leaves that could not be traced, by the operations that they run on this example."""
        module = self.module.get_submodule(str(target))
        leaf = self.leaves.get(str(target))
        if leaf is None:
            return module(*args, **kwargs)
        with Additions(tensors_of((args, kwargs))) as additions:
            out = module(*args, **kwargs)
        error = tracing.CannotSeeError(str(target), module, leaf)
        if additions.found:
            self.found.append(error)
        elif leaf.by_mode and not any(id(tensor) in additions.come for tensor in tensors_of(out)):
            self.apart.append(error)
        return out


class Additions(TorchDispatchMode):
    """Detects additions of two values that come from given tensors, among the operations run inside it."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        self.come = {id(tensor): tensor for tensor in tensors}  # kept alive, so that its id is not reused
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


def fixed_and_hidden(
    whole: Whole, example: Any, declarations: tracing.Declarations
) -> tuple[frozenset[str], list[tracing.CannotSeeError]]:
    """Return the modules whose forward branches on their mode, which need a graph per mode, and the other untraceable
    modules with a hidden skip.
    """
    fixed: frozenset[str] = frozenset()
    apart: set[str] = set()  # modules without a hidden skip, which may stay leaves
    while True:
        try:
            with preserve(whole.network), torch.no_grad(), transformers_as_written():
                whole.network.eval()
                run = Hidden(whole, tracing.trace(whole, declarations, fixed))
                run.run(example)
            stopped, opening = run.found, {error.path for error in run.apart} - apart
        except tracing.CannotSeeError as error:
            if error.path in fixed & apart:
                fixed -= {error.path}
                continue
            if not error.leaf.by_mode or error.path in fixed:
                raise
            stopped, opening = [error], set()
        apart |= opening
        by_mode = {error.path for error in stopped if error.leaf.by_mode} - fixed
        if not by_mode | opening:
            return fixed, stopped
        fixed |= by_mode | opening
