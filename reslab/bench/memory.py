"""The memory of a computation, as the most bytes of tensors alive at once; it is the same on every machine."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that operations in here have made and that are alive, and the most at once.

    What an operation takes for itself while it runs is not seen, and what was there before is not counted; where that
    is copied by `copy.deepcopy`, it has to be named, as it looks new there.
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
        """Run an operation, and count the memory that it gives and did not take."""
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
    """Return the most bytes of tensors that are alive at once while something is computed, beside those before."""
    with Alive(before) as alive:
        call()
    return alive.peak
