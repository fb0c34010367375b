"""The catalogue of networks, their parameters and multiply-adds, without building them or importing torch.

`catalogue.json` caches the measurements of each model file under the file's digest; files that have changed are
measured again. `python -m reslab.networks.catalogue` writes it.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from reslab.errors import UnknownNameError, suggested, worded

FILE = Path(__file__).with_name("catalogue.json")
ROOT = Path(__file__).parent.parent
PACKAGES = ("pytorch_lowlevel", "paper", "successors", "networks")
"""Packages with model files."""
DECLARES = re.compile(rb"^MODELS\b", re.MULTILINE)


class Reference(NamedTuple):
    """The expected parameters and multiply-adds of a network, and their source."""

    params: int
    macs: int
    source: str


class Description(NamedTuple):
    """The measured parameters and multiply-adds of a network, and its reference."""

    name: str
    family: str
    params: int
    macs: int
    input: tuple[int, int, int]
    reference: Reference


class Known(NamedTuple):
    """The networks of all model files, and the required options of open families."""

    networks: dict[str, Description]
    families: dict[str, list[str]]


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the networks of `build`, family by family. Families of any depth, and networks of
    other libraries, are not listed.

    Args:
        pattern: which of them, with `*` and `?`.

    Examples:
        >>> import reslab
        >>> reslab.list_models("resnet*2")
        ['resnet152', 'resnet32', 'resnet1202']

    Raises:
        UserError: if none matches; the message suggests the nearest.
    """
    names = known().networks
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise UnknownNameError(*worded("no-network-listed", pattern=pattern, near=suggested(pattern, names)))
    return found


def family(name: str) -> str:
    """Return the family in a network's name: "resnet", "wide_resnet", "regnet"."""
    found = re.match("(?:wide_)?[a-z]+", name.rpartition("/")[2])
    assert found is not None
    return found[0]


@cache
def known() -> Known:
    """Return the cached measurements of model files, measured again for changed files."""
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    files = {file: kept.get(file, {}) for file in model_files()}
    found = [of if of.get("digest") == digest(file) else measured(file) for file, of in files.items()]
    networks = chain.from_iterable(of["networks"].items() for of in found)
    families = chain.from_iterable(of["families"].items() for of in found)
    return Known({name: _described(name, *figures) for name, figures in networks}, dict(families))


def _described(name: str, params: int, macs: int, shape: Sequence[int], reference: tuple[int, int, str]) -> Description:
    channels, height, width = shape
    return Description(name, family(name), params, macs, (channels, height, width), Reference(*reference))


def model_files() -> list[str]:
    """Return the files that declare `MODELS`, by their paths in the package, in the order of the packages."""
    paths = (path for package in PACKAGES for path in sorted(ROOT.joinpath(package).glob("*.py")))
    return [path.relative_to(ROOT).as_posix() for path in paths if DECLARES.search(path.read_bytes())]


def digest(file: str) -> str:
    """Return the SHA-256 of a file of the package, whatever its ends of lines."""
    return hashlib.sha256(ROOT.joinpath(file).read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def measured(file: str) -> dict[str, Any]:
    """Return the entry of `catalogue.json` for a model file, measured on its networks."""
    from reslab.networks import zoo

    module = import_module(".".join(("reslab", *Path(file).with_suffix("").parts)))
    described = [zoo.describe(name) for name in module.MODELS]
    return {
        "digest": digest(file),
        "networks": {each.name: [each.params, each.macs, each.input, each.reference] for each in described},
        "families": {name: zoo.required_options(name) for name in getattr(module, "FAMILIES", {})},
    }


if __name__ == "__main__":
    text = json.dumps({file: measured(file) for file in model_files()}, ensure_ascii=False, separators=(",", ":"))
    text = text.replace('"digest"', '\n"digest"').replace("]],", "]],\n")
    FILE.write_text(f"{text}\n", encoding="utf-8", newline="\n")
