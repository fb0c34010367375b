"""Reading arrays from files that PyTorch did not write, Keras' HDF5 and pickles of NumPy arrays, without executing
anything.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from reslab.errors import DamagedError, MissingError, UserError, WrongValueError, worded

MOST_OBJECTS = 20_000
MOST_BYTES = 4 * 2**30
"""The largest pickle that is read: one of a billion float32 numbers."""
NUMBERS = {
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
    "i4": torch.int32,
    "i8": torch.int64,
}
"""NumPy's names of number types, and torch's types."""

# --- HDF5 -------------------------------------------------------------------------------------------------------------


def read_hdf5(path: Path) -> dict[str, Tensor]:
    """Return the arrays of a file of Keras' weights, as `LAYER.VARIABLE`: `conv1_conv.kernel`.

    External links are not followed, and no more than the file's own size is read.

    Raises:
        UserError: if h5py is not installed, or the file is damaged or something else.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise MissingError(*worded("hdf5-needs", path=path)) from error
    try:
        with h5py.File(path, "r") as file:
            # a whole model has its optimiser beside its weights
            whole = isinstance(file.get("model_weights", getlink=True), h5py.HardLink)
            top = file["model_weights"] if whole else file
            found: dict[str, Tensor] = {}
            room = path.stat().st_size
            for place, array in _arrays(top, h5py):
                if array.is_virtual or array.external or array.nbytes > room:
                    raise DamagedError(*worded("array-too-large", path=path, place=place))
                room -= array.nbytes
                *_, layer, variable = ("", *place.split("/"))
                name = f"{layer}.{variable.partition(':')[0]}"
                if array.dtype.str[1:] not in NUMBERS or name in found:
                    raise WrongValueError(*worded("no-weight-of-keras", path=path, place=place))
                found[name] = torch.from_numpy(array[()].astype(array.dtype.newbyteorder("="))).clone()
            return found
    except UserError:
        raise
    except Exception as error:  # damaged bytes make h5py raise any exception
        raise DamagedError(*worded("damaged-hdf5", path=path, reason=error)) from error


def _arrays(top: Any, h5py: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arrays below a group by their place, through hard links only."""
    waiting, seen = [("", top)], 0
    while waiting:
        place, group = waiting.pop()
        for key in group:
            seen += 1
            if seen > MOST_OBJECTS:
                raise ValueError(f"more than {MOST_OBJECTS:,} groups and arrays")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                continue
            found = group[key]
            if isinstance(found, h5py.Group):
                waiting.append((f"{place}{key}/", found))
            elif isinstance(found, h5py.Dataset):
                yield f"{place}{key}", found


# --- Pickles of NumPy's arrays ----------------------------------------------------------------------------------------


class _StandsIn:
    """A stand-in for a class or function that a pickle names: it calls one of ours, and accepts no state."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)

    def __setstate__(self, _: object) -> None:
        raise ValueError("the state of an object")


class _Kind:
    """Stands in for a NumPy dtype."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """A stand-in for a NumPy array, with the facts from its pickle."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def tensor(self) -> Tensor:
        """Return the array as a tensor.

        Raises:
            ValueError: if it does not hold numbers, or its size does not match its shape.
        """
        _, shape, kind, by_columns, data = self.state
        if not isinstance(kind, _Kind) or kind.code not in NUMBERS or kind.order not in "<=|":
            raise ValueError("an array of something other than numbers")
        data = data.encode("latin1") if isinstance(data, str) else data  # Python 2 had no bytes
        sides = [int(side) for side in shape]
        dtype = NUMBERS[kind.code]
        if min(sides, default=0) < 0 or not isinstance(data, bytes) or len(data) != prod(sides) * dtype.itemsize:
            raise ValueError("an array whose size does not match its shape")
        if not data:
            return torch.empty(sides, dtype=dtype)
        flat = torch.frombuffer(bytearray(data), dtype=dtype)
        return flat.reshape(sides[::-1]).permute(*reversed(range(len(sides)))) if by_columns else flat.reshape(sides)


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for `_codecs.encode`, by which Python 3 writes bytes for Python 2."""
    if encoding != "latin1":
        raise ValueError(f"text encoded as {encoding}")
    return text.encode("latin1")


def _of_buffer(data: bytes | bytearray, kind: _Kind, shape: tuple[int, ...], order: str) -> _Array:
    """Stand in for `numpy._core.numeric._frombuffer`, of pickle's protocol 5."""
    array = _Array()
    array.state = (1, shape, kind, order == "F", bytes(data))
    return array


CORES = ("numpy.core", "numpy._core")  # before and since NumPy 2
KNOWN: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Kind,
    **{f"{core}.multiarray._reconstruct": _Array for core in CORES},
    **{f"{core}.multiarray.scalar": lambda *_: None for core in CORES},
    "__builtin__.bytes": lambda: b"",
    "collections.OrderedDict": lambda *_: {},
}
COPYING: dict[str, Callable[..., Any]] = {
    **{f"{core}.numeric._frombuffer": _of_buffer for core in CORES},
    "_codecs.encode": _encoded,
}
"""All names that such a pickle may use, and their stand-ins, those apart that copy what they are given: nothing of
NumPy or of the file is called.
"""


class _Reader(pickle._Unpickler):
    """Reads a pickle in Python, with memory in proportion to the file; the C implementation allocates whatever the file
    says.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(file, encoding="latin1")
        self._room = size

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands in for a class or function.

        Raises:
            UserError: if it is neither in `KNOWN` nor in `COPYING`.
        """
        full = f"{module}.{name}"
        if full in COPYING:
            return _StandsIn(lambda data, *rest: COPYING[full](self._counted(data), *rest))
        if full not in KNOWN:
            raise WrongValueError(full)
        return _StandsIn(KNOWN[full])

    def _counted(self, data: Any) -> Any:
        """Return what is to be copied, which a pickle may name as often as it likes.

        Raises:
            ValueError: if it is no text or bytes, or all copies are larger than the file.
        """
        if not isinstance(data, str | bytes | bytearray):
            raise ValueError("an array of something other than bytes")
        self._room -= len(data)
        if self._room < 0:
            raise ValueError("its arrays have more bytes than the file")
        return data


def read_pickle(path: Path) -> Any:
    """Return the content of a pickle, with tensors in place of arrays; a mapping with tensors has nothing else.

    Raises:
        UserError: if it holds more than arrays, is damaged, or is too large.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise WrongValueError(*worded("pickle-too-large", path=path, size=size, most=MOST_BYTES))
    try:
        with path.open("rb") as file:
            content = _Reader(file, size).load()
        return _with_tensors(content, [size], 0)
    except UserError as error:
        raise WrongValueError(*worded("more-than-arrays", path=path, name=error)) from error
    except Exception as error:  # damaged bytes make pickle raise any exception
        raise DamagedError(*worded("damaged-pickle", path=path, reason=error)) from error


def _with_tensors(content: Any, room: list[int], depth: int) -> Any:
    """Return the mappings in a content with tensors for arrays, of no more bytes in all than there is room."""
    if not isinstance(content, Mapping) or depth > 3:
        return content
    tensors = {}
    for name, value in content.items():
        if isinstance(value, _Array):
            tensors[name] = value.tensor()
            room[0] -= tensors[name].nbytes
            if room[0] < 0:
                raise ValueError("its arrays have more bytes than the file")
    return tensors or {name: _with_tensors(value, room, depth + 1) for name, value in content.items()}
