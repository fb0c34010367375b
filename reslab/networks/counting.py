"""Counting: a network's parameters, and the multiply-adds of a forward pass."""

from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from reslab.state import in_mode


def count_params(module: nn.Module) -> int:
    """Return the number of trainable parameters, including BatchNorm's."""
    return sum(parameter.numel() for parameter in module.parameters())


_BATCH_NORM = torch.ops.aten.native_batch_norm.default


_KEEP_SHAPE = {_BATCH_NORM, torch.ops.aten.relu.default, torch.ops.aten.silu.default, torch.ops.aten.sigmoid.default}
"""Operations without multiply-adds that return their input's shape: torch's own meta kernels for them take six times as
long.
"""


class FlopCounter(TorchDispatchMode):
    """Adds up torch's own operation counts, without the per-module bookkeeping of `FlopCounterMode`, which is slow at
    1000 layers.

    Attention is computed as the matrix products that it is made of: the fused kernels of a CPU are in no table of
    counts.
    """

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry  # imports triton

        super().__init__()
        self.flops = 0
        self._counts = flop_registry
        self._unfused = ExitStack()

    def __enter__(self) -> Self:
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        self._unfused.callback(torch.backends.mha.set_fastpath_enabled, fast)
        self._unfused.enter_context(sdpa_kernel(SDPBackend.MATH))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
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
        out = func(*args, **(kwargs or {}))
        if count := self._counts.get(func._overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        return out


def count_macs(network: nn.Module, images: torch.Tensor) -> int:
    """Return the multiply-adds of the convolutions and matrix products of one forward pass in evaluation mode.

    A multiply-add counts as one, as in the paper's "FLOPs"; torch counts it as two.
    """
    with in_mode(network, training=False), FlopCounter() as counter, torch.no_grad():
        network(images)
    return counter.macs
