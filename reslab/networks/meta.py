"""Networks that have shapes and no memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DRAWS = (Tensor.normal_, Tensor.uniform_)


class _Undrawn(TorchFunctionMode):
    """While it is entered, random numbers are not drawn: on the meta device that imports torch's compiler, which takes
    seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return args[0] if func in _DRAWS else func(*args, **(kwargs or {}))


@contextmanager
def shapes_only() -> Iterator[None]:
    """Build networks on the meta device, not even initialised."""
    with torch.device("meta"), _Undrawn():
        yield
