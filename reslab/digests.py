"""Digests of the code that can change a trained weight, and of the code that can change a measured value.

Every result records the digest of the code that made it. The digest is of syntax trees without docstrings, so comments,
layout and docstrings do not change it. Neither does code that only schedules, displays or teaches.
"""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent

Parts = tuple[str, ...]
"""Files and folders of the package, by their paths in it."""

TRIAL: Parts = (
    "analysis/twin.py",
    "data",
    "executors/trial.py",
    "gates",  # random blocks are trained through gates
    "networks/sources.py",
    "networks/variants.py",
    "networks/zoo.py",
    "paper",
    "pytorch_lowlevel",
    "state.py",
    "successors",
    "training",
)
"""The code that determines a trial's weights."""
RACE: Parts = (*TRIAL, "speedrun")
"""The code that determines a sprint's weights."""
MEASURED: Parts = (*TRIAL, "analysis", "counting.py", "networks")
"""The code that measures a network, apart from the study's own module. The ledger is not among it: it decides from
values already measured.
"""
DECIDED: Parts = ("ledger/comparison.py", "ledger/estimate.py", "ledger/verdict.py")
"""The code that decides claims from measured values."""
INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
"""Where code is that is not the user's."""
ROOMS = ("reslab.studies", "reslab.measures", "reslab.experiment")
"""The packages with a study's own files."""


@cache
def code_digest(parts: Parts = TRIAL) -> str:
    """Return the first 16 hex digits of the hash of these parts of the package."""
    return _digest(files(parts))


def measure_digest(module: str) -> str:
    """Return the first 16 hex digits of the hash of the code behind a measurement: networks, analyses, and the module
    of the study or measure. A user's own study is its file, and what it imports of the user's.
    """
    if module.startswith("reslab."):
        return _of_the_labs(module)
    sources = [file.read_bytes() for file in users_files(module)]
    imports = (node for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom))
    ours = files(MEASURED).union(*(own_files(name) for node in imports for name in _modules(node)))
    theirs = "".join(sorted(map(_program, sources)))
    return f"{_digest(ours)}+{hashlib.sha256(theirs.encode()).hexdigest()[:16]}"


@cache
def _of_the_labs(module: str) -> str:
    return _digest(files(MEASURED) | own_files(module))


def files(parts: Parts) -> set[Path]:
    """Return the Python files of parts of the package.

    Raises:
        FileNotFoundError: if there is no such part.
    """
    return {file for part in parts for file in _files(ROOT / part)}


def _files(part: Path) -> Iterable[Path]:
    if part.is_dir():
        return part.rglob("*.py")
    if part.is_file():
        return [part]
    raise FileNotFoundError(part)


def own_files(module: str) -> set[Path]:
    """Return the file of a module of the studies or measures, and those of the same packages that it imports, directly
    or indirectly.
    """
    found: set[Path] = set()
    pending = [_file(module)]
    while pending:
        file = pending.pop()
        if file not in found and file.is_file():
            found.add(file)
            imports = (node for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.ImportFrom))
            pending += [_file(name) for node in imports for name in _modules(node)]
    return found


def users_files(module: str) -> set[Path]:
    """Return the file of a user's module, which is imported, and those of the user's modules that it has imported,
    directly or indirectly.
    """
    found: set[Path] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        file = Path(getattr(sys.modules.get(name), "__file__", None) or "")
        theirs = name.partition(".")[0] == "reslab" or str(file).startswith(INSTALLED)
        if file.suffix == ".py" and not theirs and file not in found:
            found.add(file)
            package = sys.modules[name].__package__
            for node in ast.walk(ast.parse(file.read_bytes())):
                pending += _imported(node, package or "")
    return found


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """Yield possible modules in an import, within a package, and the packages that they are in."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        module = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
        names = [f"{module}.{alias.name}" for alias in node.names]
    else:
        return
    for name in names:
        yield from (name[:end] for end, letter in enumerate(f"{name}.") if letter == ".")


def _file(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")


def _modules(node: ast.ImportFrom) -> Iterator[str]:
    """Yield possible modules of these packages in `from reslab.measures import a, b` or `from reslab.measures.a import
    …`.
    """
    if (node.module or "") in ROOMS:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif node.module and node.module.rpartition(".")[0] in ROOMS:
        yield node.module


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(ROOT).as_posix(), path) for path in paths):
        digest.update(f"{name}\0{_program(path.read_bytes())}\n".encode())
    return digest.hexdigest()[:16]


@cache
def _program(source: bytes) -> str:
    """Return the digest of one file's program; cached, as the digests share most files."""
    return hashlib.sha256(written(ast.parse(source)).encode()).hexdigest()


def written(node: Any) -> str:
    """Return a syntax tree as text: `ast.dump` without docstrings, and without empty fields, which differ between
    versions of Python.
    """
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({', '.join(f'{name}={written(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{', '.join(written(part) for part in node if not _is_docstring(part))}]"
    return repr(node)


def _is_docstring(node: Any) -> bool:
    """Return whether a statement is a docstring of a module, a class, a function, or of the constant before it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
