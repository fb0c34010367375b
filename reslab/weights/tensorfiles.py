"""Reading files of tensors without executing anything in them; other files are rejected with a reason."""

import pickle
import re
import stat
import sys
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from reslab.errors import (
    DamagedError,
    MissingError,
    UnusableError,
    UserError,
    Wording,
    WrongValueError,
    few,
    worded,
)
from reslab.weights.numpyfiles import read_hdf5, read_pickle

State = dict[str, Tensor]

IN_A_DIRECTORY = ("weights.safetensors", "model.safetensors", "pytorch_model.bin")
"""Weights files in the directory of a run, or of Hugging Face."""
LONGEST_HEADER = 10**8
"""Bytes of the header of a safetensors file."""
DEEPEST = 5
MOST_CLASSES = 100
WHERE_CLASSES_END = re.compile(r"GLOBAL (\S+) was not an allowed global")
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
OLD_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The beginning of a file of torch.save until version 1.6, after the two bytes of pickle's protocol."""
SOMETHING_ELSE = (
    (b"<", "a-web-page"),
    (b"version https://git-lfs", "a-pointer"),
    (b"{", "a-json-file"),
    (b"\x93NUMPY", "a-numpy-array"),
    *((magic, "a-packed-archive") for magic in (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf")),
)
"""The first bytes of files that are mistaken for weights, and the messages about them. Checked last, as a safetensors
file begins with a number.
"""


class Content(NamedTuple):
    """The content of a file: its path, sets of tensors by the keys that lead to them, its metadata, and the classes of
    objects that were not read.
    """

    path: Path
    sets: dict[str, State]
    metadata: dict[str, str]
    unread: tuple[str, ...]


def read(path: Path) -> Content:
    """Read a safetensors file, one of torch.save or of Keras, or a pickle of arrays; of a directory, the weights in it.

    Nothing in a file is executed: if it holds objects beside its tensors, their classes are not imported.

    Raises:
        UserError: if there is no such file, it is damaged or something else, or no set of tensors can be read from it.
    """
    path = regular(path)
    start = _start(path)  # as safetensors says of a file that may not be read that there is none
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            return Content(path, {"": tensors}, file.metadata() or {}, ())
    except SafetensorError:
        content, unread = _content(path, start)
    except Exception as error:  # damaged bytes make the readers raise any exception
        raise DamagedError(*worded("damaged-safetensors", path=path, reason=error)) from error
    sets = dict(_sets(content, (), set()))
    if not sets:
        raise WrongValueError(*worded("no-state-dict", path=path, content=_described(content)))
    return Content(path, sets, {}, unread)


def regular(path: Path) -> Path:
    """Return the path of a regular file, or in a directory, that of the weights.

    Raises:
        UserError: if there is none.
    """
    try:
        mode = path.stat().st_mode
    except PermissionError as error:
        raise UnusableError(*worded("file-unreadable", path=path, reason=error.strerror)) from error
    except (OSError, ValueError) as error:  # the latter of names that no file has
        raise MissingError(*worded("no-file", path=path)) from error
    if stat.S_ISDIR(mode):
        inside = [path / name for name in IN_A_DIRECTORY if (path / name).is_file()]
        if not inside:
            names = Wording(" or ".join(IN_A_DIRECTORY), ", ".join(IN_A_DIRECTORY))
            raise MissingError(*worded("directory-without-weights", path=path, names=names))
        return inside[0]
    if not stat.S_ISREG(mode):
        raise WrongValueError(*worded("not-a-regular-file", path=path))
    return path


class Unread:
    """A stand-in for an object beside a file's tensors; a subclass is made for each class, under its name."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        """Take no state."""


class UnreadDefaults:
    """Stands in for a defaultdict, which is kept as a dict: torch sets the items of nothing else."""

    def __new__(cls, *_: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]  # that it is of another class is the point
        """Return an empty dict."""
        return OrderedDict()


class UnreadQueue:
    """Stands in for a deque, which is kept as a list: torch appends to nothing else."""

    def __new__(cls, *_: object) -> list[Any]:  # type: ignore[misc]  # likewise
        """Return an empty list."""
        return []


CONTAINERS = {"collections.defaultdict": UnreadDefaults, "collections.deque": UnreadQueue}
VALUES = {
    "argparse.Namespace",
    "types.SimpleNamespace",
    "collections",
    "pathlib",
    "pathlib._local",
    "datetime",
    "decimal",
    "fractions",
    "uuid",
    "functools.partial",
    *("getattr", "_operator.or_"),  # of the members of an Enum
    *("set", "frozenset", "complex", "range", "slice", "bytearray", "dict", "list", "tuple", "int", "float", "str"),
}
"""Modules and classes of Python's standard library whose objects only hold values."""


def _start(path: Path) -> bytes:
    """Return the first bytes of a file.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise UnusableError(*worded("file-unreadable", path=path, reason=error.strerror)) from error


def _content(path: Path, start: bytes) -> tuple[Any, tuple[str, ...]]:
    """Return the content of a file that is not safetensors and starts so, and the classes in it that were not read.

    Raises:
        UserError: if its kind is unknown, or reading it would execute code.
    """
    if start.startswith(HDF5_MAGIC):
        return read_hdf5(path), ()
    begins_as_safetensors = int.from_bytes(start[:8], "little") < LONGEST_HEADER and start[8:9] == b"{"
    if begins_as_safetensors or (start.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(path)):
        raise DamagedError(*worded("cut-off", path=path))
    if start[:1] == b"\x80" and not start[2:].startswith(OLD_MAGIC):
        return read_pickle(path), ()
    _see_that_it_is_torchs(path, start)
    return _unpickled(path)


def _unpickled(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Return the content of a file of torch.save, and the classes in it that were not read.

    Raises:
        UserError: if reading it would execute code.
    """
    unread: dict[str, type] = {}
    while True:
        try:
            with torch.serialization.safe_globals(list(unread.values())), warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # a warning about pickle protocols; unreadable files raise an error anyway
                return torch.load(path, map_location="cpu", weights_only=True), tuple(unread)
        except Exception as error:  # damaged bytes make torch raise any exception
            odd = _filled(error, unread)
            if odd is not None:
                unread[odd] = _stand_in(odd, UnreadDefaults if "SETITEM" in str(error) else UnreadQueue)
                continue
            wanted = WHERE_CLASSES_END.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
            if wanted is None or wanted[1] in unread or len(unread) == MOST_CLASSES or not _harmless(wanted[1]):
                raise _refusal(path, error, unread) from error
            unread[wanted[1]] = _stand_in(wanted[1], CONTAINERS.get(wanted[1], Unread))


def _stand_in(path: str, kind: type) -> type:
    """Return a stand-in for a class, under its name."""
    module, _, name = path.rpartition(".")
    return type(name, (kind,), {"__module__": module or "builtins", "__qualname__": name})


def _filled(error: Exception, unread: Mapping[str, type]) -> str | None:
    """Return the class of an object that is a dict or a list of a class of its own, which torch does not fill; None if
    it is not this that stopped the reading.
    """
    kinds = ((name, kind) for name, kind in unread.items() if issubclass(kind, Unread))
    return next((name for name, kind in kinds if f"but got {kind}" in str(error)), None)


def _harmless(name: str) -> bool:
    """Return whether an object of this name may accompany tensors: from Python's standard library, only those that hold
    values; from other packages, any.

    In either case nothing that a file names is imported or called.
    """
    module, _, kind = name.rpartition(".")
    module = IMPORT_MAPPING.get(module, module) or "builtins"  # torch.save writes Python 2's names of modules
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return True
    return module in VALUES or (kind if module == "builtins" else f"{module}.{kind}") in VALUES


def _refusal(path: Path, error: Exception, unread: Mapping[str, type]) -> UserError:
    """Return why a file of torch.save cannot be read."""
    if "torch.distributed.tensor" in str(error):
        return WrongValueError(*worded("sharded-weights", path=path))
    named = [*unread, *re.findall(r"GLOBAL (\S+)", str(error))]
    # of tensors of a class that was not read, torch says that it is no subclass
    if not named or not (isinstance(error, pickle.UnpicklingError) or "subclass" in str(error)):
        return DamagedError(*worded("damaged-weights", path=path))
    names = few(list(dict.fromkeys(named)))
    return WrongValueError(*worded("more-than-tensors", path=path, names=names))


def _see_that_it_is_torchs(path: Path, start: bytes) -> None:
    """Check by its first bytes that a file was written by torch.save.

    Raises:
        UserError: stating its kind, if it is something else.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _see_that_the_archive_is_torchs(path, archive)
    except UserError:
        raise
    except (OSError, ValueError, LookupError, NotImplementedError, zipfile.BadZipFile) as error:
        raise UnusableError(*worded("file-unreadable", path=path, reason=error)) from error
    if start[2:].startswith(OLD_MAGIC):
        return None
    if not start:
        raise DamagedError(*worded("empty-weights", path=path))
    said = next((name for magic, name in SOMETHING_ELSE if start.lstrip().startswith(magic)), None)
    if said is None:
        raise DamagedError(*worded("unreadable-weights", path=path))
    raise WrongValueError(*worded(said, path=path))


def _see_that_the_archive_is_torchs(path: Path, archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise WrongValueError(*worded("torchscript-file", path=path))
    if not any(name.endswith("data.pkl") for name in names):
        inside = few(names) if names else Wording("nothing", "없음")
        raise WrongValueError(*worded("a-zip-archive", path=path, inside=inside))
    with archive.open(next(name for name in names if name.endswith("data.pkl"))) as pickled:
        if pickled.read(2) > b"\x80\x03":
            raise WrongValueError(*worded("other-protocol", path=path))
    # its unpacked size is unlimited
    if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
        raise WrongValueError(*worded("compressed-file", path=path))


def _sets(content: Any, place: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, State]]:
    """Yield every mapping of names to tensors in what a file holds, each once, by the keys that lead to it; tensors
    count as such a mapping if they are more than what stands among them.
    """
    if not isinstance(content, Mapping) or id(content) in seen or len(place) > DEEPEST:
        return
    seen.add(id(content))
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if 2 * len(tensors) > len(content):
        yield ".".join(place), tensors
    for key, value in content.items():
        if isinstance(key, str):  # an optimiser uses numbers as keys
            yield from _sets(value, (*place, key), seen)


def _described(content: Any) -> Wording:
    """Return a short description of a file's content without tensors."""

    def kind(value: Any) -> str:
        return (
            type(value).__qualname__
            if type(value).__module__ == "builtins"
            else f"{type(value).__module__}.{type(value).__qualname__}"
        )

    if not isinstance(content, Mapping) or not content:
        return Wording(f"an object of {kind(content)}", f"{kind(content)} 객체")
    return few([f"{key} ({kind(value)})" for key, value in content.items()])
