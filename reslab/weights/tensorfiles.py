"""Files of tensors as people have them: read without running anything that is in them, or refused by what they are."""

import pickle
import re
import stat
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from reslab.errors import DamagedError, MissingError, UnusableError, UserError, WrongValueError, first_few

State = dict[str, Tensor]

IN_A_RUN = "weights.safetensors"
DEEPEST = 5
MOST_CLASSES = 100
WHERE_CLASSES_END = re.compile(r"GLOBAL (\S+) was not an allowed global")
OLD_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What torch.save wrote first until version 1.6, after the two bytes that name pickle's protocol."""
SOMETHING_ELSE = (
    (b"<", "a web page or a server's message, saved in place of the file; download the file again"),
    (b"version https://git-lfs", "a Git-LFS pointer and not the file that it stands for; get that by `git lfs pull`"),
    (b"\x80", "a pickle that torch.save did not write; save its tensors by torch.save(network.state_dict(), FILE)"),
    (b"\x89HDF", "an HDF5 file, as Keras writes them; expected safetensors or a saved state dict"),
    (b"\x93NUMPY", "a NumPy array; expected safetensors or a saved state dict"),
    *(
        (magic, "a packed archive; unpack it, and give the weights in it")
        for magic in (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf")
    ),
)
"""How files begin that are taken for weights, and what they are. Looked at last, as a safetensors file begins with a
number.
"""


class Content(NamedTuple):
    """What a file holds: sets of tensors by the keys that lead to them, its metadata, and the classes of objects that
    were left unread.
    """

    sets: dict[str, State]
    metadata: dict[str, str]
    unread: tuple[str, ...]


def read(path: Path) -> Content:
    """Read a safetensors file, or one of torch.save; of a run directory, the weights in it.

    Nothing of a file is run: where it holds objects beside its tensors, their classes are not imported.

    Raises:
        UserError: if there is no such file, it is damaged or something else, or no set of tensors can be read from it.
    """
    path = _regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            return Content({"": {name: file.get_tensor(name) for name in file.keys()}}, file.metadata() or {}, ())  # noqa: SIM118  # no mapping
    except SafetensorError:
        content, unread = _unpickled(path)
    except Exception as error:  # on damaged bytes the readers raise whatever they come to
        raise DamagedError(f"{path} is not a readable safetensors file: {error}") from error
    sets = dict(_sets(content, (), set()))
    if not sets:
        raise WrongValueError(
            f"{path} holds no state dict, names with tensors, but {_described(content)}; save one by "
            "torch.save(network.state_dict(), FILE)"
        )
    return Content(sets, {}, unread)


def _regular(path: Path) -> Path:
    """Return the regular file that is meant.

    Raises:
        UserError: if there is none.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # the latter of names that no file has
        raise MissingError(f"no file {path}") from error
    if stat.S_ISDIR(mode):
        if not (path / IN_A_RUN).is_file():
            raise MissingError(
                f"{path} is a directory without {IN_A_RUN}; give a file of weights, or the directory of a run that "
                "ended"
            )
        return path / IN_A_RUN
    if not stat.S_ISREG(mode):
        raise WrongValueError(f"{path} is no regular file; expected a file of weights")
    return path


class Unread:
    """Stands in for an object that a file holds beside its tensors; each class of these is made here, under the name of
    the object's own.
    """

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        """Take no state."""


class UnreadDefaults:
    """Stands in for a defaultdict, which is kept as a dict: torch sets the items of nothing else."""

    def __new__(cls, *_: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]  # that it is of another class is the point
        """Return an empty dict."""
        return OrderedDict()


def _unpickled(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Return what torch.save has written, and the classes in it that stay unread.

    Raises:
        UserError: if it has not written this file, or what it has written cannot be read without running code.
    """
    _see_that_it_is_torchs(path)
    unread: dict[str, type] = {}
    while True:
        try:
            with torch.serialization.safe_globals(list(unread.values())), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read is an error
                return torch.load(path, map_location="cpu", weights_only=True), tuple(unread)
        except Exception as error:  # on damaged bytes torch raises whatever it comes to
            wanted = WHERE_CLASSES_END.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
            if wanted is None or wanted[1] in unread or len(unread) == MOST_CLASSES:
                raise _refusal(path, error, unread) from error
            module, _, name = wanted[1].rpartition(".")
            kind = UnreadDefaults if wanted[1] == "collections.defaultdict" else Unread
            unread[wanted[1]] = type(name, (kind,), {"__module__": module or "builtins", "__qualname__": name})


def _refusal(path: Path, error: Exception, unread: Mapping[str, type]) -> UserError:
    """Return why a file of torch.save cannot be read."""
    named = [*unread, *re.findall(r"GLOBAL (\S+)", str(error))]
    if not isinstance(error, pickle.UnpicklingError) or not named:
        return DamagedError(f"{path} is damaged, or no weights file; expected safetensors or a saved state dict")
    return WrongValueError(
        f"{path} holds more than tensors, and reading it could run code: {first_few(list(dict.fromkeys(named)))}; "
        "save the tensors alone, by torch.save(network.state_dict(), FILE)"
    )


def _see_that_it_is_torchs(path: Path) -> None:
    """See that a file is one that torch.save has written, as far as that shows without reading it.

    Raises:
        UserError: saying what it is, if it is something else.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _see_that_the_archive_is_torchs(path, archive)
    except UserError:
        raise
    except (OSError, ValueError, LookupError, NotImplementedError, zipfile.BadZipFile) as error:
        raise UnusableError(f"{path} cannot be read: {error}") from error
    if start[2:].startswith(OLD_MAGIC):
        return None
    if not start:
        raise DamagedError(f"{path} is empty; expected safetensors or a saved state dict")
    what = next((what for magic, what in SOMETHING_ELSE if start.lstrip().startswith(magic)), None)
    if what is None:
        raise DamagedError(f"{path} is not a readable weights file; expected safetensors or a saved state dict")
    raise WrongValueError(f"{path} is {what}")


def _see_that_the_archive_is_torchs(path: Path, archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise WrongValueError(
            f"{path} is a TorchScript program; save its tensors by torch.save(torch.jit.load(FILE).state_dict(), OTHER)"
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise WrongValueError(
            f"{path} is a zip archive of {first_few(names) or 'nothing'}; unpack it, and give the weights in it"
        )
    # it may be of any size once unpacked
    if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
        raise WrongValueError(
            f"{path} is compressed, which torch.save does not do; unpack it, and save its tensors again"
        )


def _sets(content: Any, place: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, State]]:
    """Yield every mapping of names to tensors in what a file holds, each once, by the keys that lead to it."""
    if not isinstance(content, Mapping) or id(content) in seen or len(place) > DEEPEST:
        return
    seen.add(id(content))
    if content and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        yield ".".join(place), dict(content)
        return
    for key, value in content.items():
        if isinstance(key, str):  # an optimiser numbers what it keeps
            yield from _sets(value, (*place, key), seen)


def _described(content: Any) -> str:
    """Return what a file holds in the place of tensors, in a few words."""

    def kind(value: Any) -> str:
        return (
            type(value).__qualname__
            if type(value).__module__ == "builtins"
            else f"{type(value).__module__}.{type(value).__qualname__}"
        )

    if not isinstance(content, Mapping) or not content:
        return f"an object of {kind(content)}"
    return first_few([f"{key} ({kind(value)})" for key, value in content.items()])
