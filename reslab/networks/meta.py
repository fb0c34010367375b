"""Networks that have shapes and no memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class _Undrawn(TorchFunctionMode):
    """While it is entered, nothing normal is drawn on the meta device, where that imports torch's compiler, which takes
    seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        if func in (Tensor.normal_, nn.init.normal_):
            drawn: Tensor = args[0] if args else kwargs["tensor"]
            if drawn.is_meta:
                return drawn
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_only() -> Iterator[None]:
    """Build networks on the meta device, not even initialised."""
    with torch.device("meta"), _Undrawn():
        yield
