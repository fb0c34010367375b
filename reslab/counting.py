"""Counting the operations of whatever runs."""

from collections.abc import Callable
from contextlib import ExitStack
from math import prod
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reslab.state import unfused_attention


def _of_a_matrix(*values: torch.Tensor, out_val: object = None, **_: object) -> int:
    """Return the operations of a matrix and a vector, the last two values."""
    return 2 * values[-2].numel()


def _of_matrices(_: torch.Tensor, one: torch.Tensor, other: torch.Tensor, **__: object) -> int:
    """Return the operations of the products of two batches of matrices."""
    return 2 * one.numel() * other.shape[-1]


def _of_products(*given: Any, out_val: object = None, **_: object) -> int:
    """Return the operations of a sum of products of three tensors, each with dimensions of 1 put in (`_trilinear`)."""
    shapes = []
    for tensor, places in zip(given[:3], given[3:6], strict=True):
        shape = list(tensor.shape)
        for place in sorted(places):
            shape.insert(place, 1)
        shapes.append(shape)
    return 2 * prod(torch.broadcast_shapes(*shapes))


def _of_recurrence(
    x: torch.Tensor, from_input: torch.Tensor, from_state: torch.Tensor, *_: object, **__: object
) -> int:
    """Return the operations of a recurrent layer (oneDNN's), whose weights are used at every step of every sequence."""
    return 2 * (x.numel() // x.shape[-1]) * (from_input.numel() + from_state.numel())


_OWN: dict[Any, Callable[..., int]] = {
    torch.ops.aten.mv: _of_a_matrix,
    torch.ops.aten.addmv: _of_a_matrix,
    torch.ops.aten.dot: _of_a_matrix,
    torch.ops.aten.addbmm: _of_matrices,
    torch.ops.aten._trilinear: _of_products,
    torch.ops.aten.mkldnn_rnn_layer: _of_recurrence,
}
"""Counts of operations that are not in torch's table."""
_BATCH_NORM = torch.ops.aten.native_batch_norm.default


_KEEP_SHAPE = {_BATCH_NORM, torch.ops.aten.relu.default, torch.ops.aten.silu.default, torch.ops.aten.sigmoid.default}
"""Operations without multiply-adds that return their input's shape: torch's own meta kernels for them take six times as
long.
"""


class FlopCounter(TorchDispatchMode):
    """Adds up torch's own operation counts, without the per-module bookkeeping of `FlopCounterMode`, which is slow at
    1000 layers.

    Attention is computed as the matrix products that it is made of, as the fused kernels of a CPU are in no table of
    counts; so are operations that torch composes of others, which it does before they come here unless in inference
    mode.
    """

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry  # imports triton

        super().__init__()
        self.flops = 0
        self._counts = {**flop_registry, **_OWN}
        self._unfused = ExitStack()
        self._depth = 0

    def __enter__(self) -> Self:
        if not self._depth:
            self._unfused.enter_context(unfused_attention())
        self._depth += 1
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._depth -= 1
        if not self._depth:
            self._unfused.close()

    @property
    def macs(self) -> int:
        """Return the multiply-adds so far: torch counts each as two operations."""
        return self.flops // 2

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _KEEP_SHAPE and args[0].is_meta:
            out = torch.empty_like(args[0])
            statistics = out.new_empty(out.shape[1:2])
            return (out, statistics, statistics) if func is _BATCH_NORM else out
        if func._overloadpacket not in self._counts:
            with self:
                out = func.decompose(*args, **(kwargs or {}))
            if out is not NotImplemented:
                return out
        out = func(*args, **(kwargs or {}))
        if count := self._counts.get(func._overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        return out
