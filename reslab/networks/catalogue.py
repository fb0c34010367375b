"""What networks there are and what they measure, without building one: it loads no torch.

`catalogue.json` keeps what was measured of the networks of each model file, under the digest of that file; what is
measured of a file that has changed since is measured anew. `python -m reslab.networks.catalogue` writes it.
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

from reslab.errors import UnknownNameError, suggest

FILE = Path(__file__).with_name("catalogue.json")
ROOT = Path(__file__).parent.parent
PACKAGES = ("pytorch_lowlevel", "paper", "successors", "networks")
"""Where model files are."""
DECLARES = re.compile(rb"^MODELS\b", re.MULTILINE)


class Reference(NamedTuple):
    """What a network should measure, and where the figures come from."""

    params: int
    macs: int
    source: str


class Description(NamedTuple):
    """What a network measures, beside its reference."""

    name: str
    family: str
    params: int
    macs: int
    input: tuple[int, int, int]
    reference: Reference


class Known(NamedTuple):
    """The networks of all model files, and the options that the open families cannot be built without."""

    networks: dict[str, Description]
    families: dict[str, list[str]]


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the networks that `build` makes, family by family; families of any depth, and others'
    networks, have names beside these.

    Args:
        pattern: which of them, with `*` and `?`.

    Example:
        >>> import reslab
        >>> reslab.list_models("resnet*2")
        ['resnet152', 'resnet32', 'resnet1202']

    Raises:
        UserError: if none does; the message has the nearest.
    """
    names = known().networks
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise UnknownNameError(f"no network {pattern!r}{suggest(pattern, names)}")
    return found


def family(name: str) -> str:
    """Return the letters that a network's name begins with: "resnet", "wide_resnet", "regnet"."""
    found = re.match("(?:wide_)?[a-z]+", name.rpartition("/")[2])
    assert found is not None
    return found[0]


@cache
def known() -> Known:
    """Return what is kept of the model files, or measured of those that have changed since."""
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
    """Return what `catalogue.json` keeps of a model file, measured on its networks."""
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
