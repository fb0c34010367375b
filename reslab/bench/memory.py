"""The memory of a computation: the largest number of bytes of live tensors, which is the same on every machine."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Alive(TorchDispatchMode):
    """Counts the bytes of live tensors made by operations inside this mode, and their peak.

    Temporary memory inside an operation is not seen. Earlier tensors are not counted; those copied by `copy.deepcopy`
    have to be named, as the copies look new.
    """

    def __init__(self, before: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: set[int] = set()
        for tensor in before:
            self._see(tensor.untyped_storage(), 0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and count the memory of its new outputs."""
        taken = [leaf.untyped_storage() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for storage in taken:
            self._see(storage, 0)
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self._see(storage, storage.nbytes())
        self.peak = max(self.peak, self.bytes)
        return out

    def _see(self, storage: UntypedStorage, count: int) -> None:
        key = id(storage)
        if key not in self._known:
            self._known.add(key)
            self.bytes += count
            weakref.finalize(storage, self._gone, key, count)

    def _gone(self, key: int, count: int) -> None:
        self._known.discard(key)
        self.bytes -= count


def peak_of(call: Callable[[], object], before: Iterable[Tensor] = ()) -> int:
    """Return the peak bytes of live tensors during a computation, without those made before."""
    with Alive(before) as alive:
        call()
    return alive.peak
