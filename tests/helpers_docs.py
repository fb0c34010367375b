"""What people read: READMEs, CONTRIBUTING.md and docs/, and the code, commands and outputs in them.

- ```python is run; an ```output after it is what it prints.
- ```sh are commands that are run, in their order, each page in a directory of its own.
- ```text are commands that would take hours, or other people's files: they are parsed, and some run up to their work.
"""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("README*.md"), *ROOT.glob("CONTRIBUTING*.md"), *(ROOT / "docs").rglob("*.md")]
)
KOREAN = [name for name in DOCUMENTS if name.endswith(".ko.md")]
STARTS = ("reslab ", "python -m ", "torchrun ", "pip ", "make ")

FOR_EXAMPLE = {
    "NAME": "degradation",
    "ANALYSIS": "paths",
    "NETWORK": "resnet20",
    "my_module:factory": "torchvision.models:resnet18",
}
"""Examples in place of what stands for any."""


class Code(NamedTuple):
    """A piece of Python in a document, and what it is said to print, if anything is said."""

    text: str
    output: str | None


def text_of(name: str) -> str:
    """Return a document's text."""
    return (ROOT / name).read_text(encoding="utf-8")


def fences(name: str, kind: str) -> list[str]:
    """Return the contents of a document's fences of this kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", text_of(name), re.DOTALL | re.MULTILINE)


def python(name: str) -> list[Code]:
    """Return a document's pieces of Python, in their order."""
    found = re.findall(r"^```python\n(.*?)^```\n(?:\n```output\n(.*?)^```)?", text_of(name), re.DOTALL | re.MULTILINE)
    return [Code(text, output or None) for text, output in found]


def commands(name: str, kind: str) -> list[str]:
    """Return the commands in a document's fences of this kind, without their comments."""
    lines = [line for fence in fences(name, kind) for line in fence.replace("\\\n", " ").splitlines()]
    stripped = [line.split(" #")[0].strip() for line in lines]
    return [line for line in stripped if line.startswith(STARTS)]


def named_in_prose(name: str) -> list[str]:
    """Return the commands in a document's sentences, with examples in place of what stands for any."""
    prose = re.sub(r"^```.*?^```", "", text_of(name), flags=re.DOTALL | re.MULTILINE)
    found = {command for command in re.findall(r"`((?:reslab|python -m) [^`]+)`", prose) if "--help" not in command}
    return sorted(" ".join(FOR_EXAMPLE.get(word, word) for word in command.split()) for command in found)


def loaded(name: str) -> ModuleType:
    """Return a script of docs/ as a module."""
    known = f"docs_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, ROOT / "docs" / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[known] = module  # where its named tuples look for it
        spec.loader.exec_module(module)
    return sys.modules[known]
