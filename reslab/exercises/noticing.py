"""Facts about a file of answers that need no run: its tasks, its language, what a teacher should look at, and
similarity to other files.
"""

import ast
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations
from typing import AnyStr

from reslab.errors import Language
from reslab.exercises import sheets
from reslab.exercises.remarks import Remark, remark

ALIKE = 0.9
"""The share of common statements from which two files count as similar."""
LEAST = 15
"""The smallest number of statements for a comparison."""
OFFERED = {"drawn"}
"""Modules of the exercises that learners are told to import."""
UNPARSED = (SyntaxError, ValueError, RecursionError, MemoryError, SystemError)  # the last of deep trees
_MARK = "# %% next cell"
CELL = f"\n{_MARK}\n"
"""What stands between the cells of a notebook in its Python."""
_DEFINED = re.compile(r"^[ \t]*(?:(?:async[ \t]+)?def|class)[ \t]+(\w+)|^(\w+)[ \t]*(?::[^=\n]*)?=", re.MULTILINE)
"""A name that a file defines, which may not parse."""
_OURS = "reslab.exercises"
_NAMES_OURS = re.compile(r"^reslab\.exercises|^exercises/|\btask_\d+_\d+\.py$|^solutions\.py$")
"""A text that leads to the exercises' own code: its name, its directory or one of its files."""
_BY_NAME = ("getattr", "attrgetter", "import_module", "__import__")
"""Functions that take a name for what it names."""
_MODULES = ("__main__.", "ctypes.", "gc.", "importlib.", "inspect.", "sys.modules.", "torchvision.models.")
_ATTRIBUTES = ("_exit", "_getframe", "__globals__", "f_back", "f_globals", "f_locals", "import_module")
_CALLED = ("__import__", "eval", "exec")
_FROM_MEMORY = re.compile(r"^def (stages)\b", re.MULTILINE)
"""A function that a sheet asks to write without looking; elsewhere others' networks are welcome."""


def tasks_of(text: str, only: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the tasks of every sheet for which a file has at least one function. Where there is any, what is assigned
    a value may have its name by chance: `for depth in (20, 56)`.
    """
    defined, assigned = _names(text)
    asked = {number: asked_in(number) for number in sheets.SHEETS}
    own = {
        number: names.difference(*(asked[other] for other in asked if other != number))
        for number, names in asked.items()
    }
    found = [number for number in sheets.SHEETS if defined & own[number]]
    found = found or [number for number in sheets.SHEETS if assigned & own[number]]
    return tuple(name for number in found for name in sheets.read(number, "en").tasks if not only or name in only)


def begun_in(text: str) -> set[str]:
    """Return the numbers of the sheets that a file begins; of another, a helper may have a name by chance."""
    defined, assigned = _names(text)
    counts = {number: len((defined or assigned) & asked_in(number)) for number in sheets.SHEETS}
    return {number for number, count in counts.items() if 2 * count >= max(counts.values()) > 0}


def _names(text: str) -> tuple[set[str], set[str]]:
    """Return the functions and classes that a file defines or imports, and the names that it assigns in whatever way,
    all of them outside functions and classes; of a file that does not parse, what looks like either, as defined.
    """
    tree = parsed(text)
    if tree is None:
        return {name for pair in _DEFINED.findall(text) for name in pair}, set()
    defined, assigned = set[str](), set[str]()
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
            continue
        if isinstance(node, ast.alias):
            defined.add(node.asname or node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            assigned.add(node.id)
        if not isinstance(node, ast.Lambda):
            nodes += ast.iter_child_nodes(node)
    return defined, assigned


def imported_in(text: str) -> set[str]:
    """Return the modules that a file imports, by their first names."""
    tree = parsed(text)
    nodes = list(ast.walk(tree)) if tree is not None else []
    names = [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def parsed(source: AnyStr) -> ast.Module | None:
    """Return a file's statements, of a notebook those of the cells that are Python; None if it is no Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a learner wrote
        whole = _parsed(source)
        if whole is not None:
            return whole
        found = [tree for cell in cells_of(source) if (tree := _parsed(cell)) is not None]
    return ast.Module([each for tree in found for each in tree.body], []) if len(found) > 1 else None


def _parsed(source: AnyStr) -> ast.Module | None:
    try:
        return ast.parse(source)
    except UNPARSED:
        return None


def cells_of(source: AnyStr) -> list[AnyStr]:
    """Return the cells of a notebook's Python; a file that is none is one cell."""
    return source.split(CELL if isinstance(source, str) else CELL.encode())


def place_in(source: str, line: int | None) -> tuple[int | None, int | None]:
    """Return the number of a notebook's code cell, from 1, and the line in it, given the line in the notebook's Python;
    other files have no cells.
    """
    if line is None or len(cells_of(source)) == 1:
        return None, line
    above = [number for number, each in enumerate(source.split("\n")[: line - 1], start=1) if each == _MARK]
    return len(above) + 1, line - (above[-1] if above else 0)


@cache
def asked_in(sheet: str) -> set[str]:
    """Return the names of the functions that a sheet asks for."""
    return {name for task in sheets.read(sheet, "en").tasks.values() for name in task.functions}


def language_of(text: str) -> Language | None:
    """Return the language in which a file was begun; None if it shows neither Korean nor a sheet's English text."""
    if re.search("[가-힣]", text):
        return "ko"
    titles = (
        f"{task.id} {task.title}" for number in sheets.SHEETS for task in sheets.read(number, "en").tasks.values()
    )
    return "en" if any(title in text for title in titles) else None


def remarks_on(text: str, file: str) -> list[Remark]:
    """Return what a teacher should look at in a file."""
    tree = parsed(text)
    uses = sorted({name for node in ast.walk(tree) for name in _used(node)}) if tree is not None else []
    if not _FROM_MEMORY.search(text):
        uses = [name for name in uses if not name.startswith("torchvision.")]
    found = [remark("imports-solutions", file)] if imports_solutions(text) else []
    return found + ([remark("uses", file, names=", ".join(uses))] if uses else [])


def imports_solutions(text: str) -> bool:
    """Return whether a file imports or names the exercises' own code beyond what learners are told to use."""
    tree = parsed(text)
    if tree is None:
        return False
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    imported = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    ours = {each.asname or "reslab" for each in imported if each.name.partition(".")[0] == "reslab"}
    return any(_reaches(node, ours) for node in ast.walk(tree) if id(node) not in texts)


def _reaches(node: ast.AST, ours: set[str]) -> bool:
    """Return whether a node names the exercises' own code, given the names that reslab has in its file."""
    if isinstance(node, ast.Import):
        return any(each.name.startswith(_OURS) for each in node.names)
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if module == "reslab":
            return any(each.name == "exercises" for each in node.names)
        return module.startswith(_OURS) and not {each.name for each in node.names} <= OFFERED
    if isinstance(node, ast.Attribute):
        name, _, rest = _dotted(node).partition(".")
        return name in ours and f"{rest}.".startswith("exercises.")
    if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in _BY_NAME:
        return any(isinstance(each, ast.Constant) and each.value == "exercises" for each in node.args)
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_NAMES_OURS.search(node.value))


def _used(node: ast.AST) -> Iterator[str]:
    """Yield what a node uses that no task needs: ways to the grader, and others' networks in place of one's own."""
    if isinstance(node, ast.Import):
        yield from (each.name for each in node.names if _is_suspect(each.name))
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{each.name}" for each in node.names]
        yield from (name for name in names if _is_suspect(name))
    elif isinstance(node, ast.Name) and node.id in _CALLED:
        yield node.id
    elif isinstance(node, ast.Attribute) and _is_suspect(name := _dotted(node)):
        yield name
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from re.findall(r"\.\./[^\s\"']*|log\.jsonl|\b_getframe\b|^reslab\.$", node.value)
    elif isinstance(node, ast.FunctionDef) and _FROM_MEMORY.match(f"def {node.name}"):
        inside = {each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "") for each in ast.walk(node)}
        if "build" in inside:
            yield f"build in {node.name}"


def _dotted(node: ast.Attribute) -> str:
    """Return an attribute with the names before it, back to what is no name, such as a call."""
    names, value = [node.attr], node.value
    while isinstance(value, ast.Attribute):
        names, value = [value.attr, *names], value.value
    return ".".join([value.id if isinstance(value, ast.Name) else "…", *names])


def _is_suspect(name: str) -> bool:
    return f"{name}.".startswith(_MODULES) or name.rpartition(".")[2] in _ATTRIBUTES


def alike(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """Return for each student whose files are nearly a copy of theirs, regardless of names."""
    statements = {student: _statements(text) for student, text in texts.items()}
    found: dict[str, list[str]] = {}
    for one, other in combinations([name for name, those in statements.items() if len(those) >= LEAST], 2):
        a, b = statements[one], statements[other]
        if len(a & b) >= ALIKE * len(a | b):
            found.setdefault(one, []).append(other)
            found.setdefault(other, []).append(one)
    return found


def _statements(text: str) -> set[str]:
    """Return the statements of the functions that sheets ask for, with local names replaced by their order."""
    tree = parsed(text)
    if tree is None:
        return set()
    asked = set().union(*map(asked_in, sheets.SHEETS))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in asked]
    try:
        return {f"{function.name}: {each}" for function in functions for each in _renamed(function)}
    except RecursionError:  # of a sum of a thousand terms
        return set()


def _renamed(function: ast.FunctionDef) -> list[str]:
    own = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    own |= {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    order: dict[str, str] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id in own:
            node.id = order.setdefault(node.id, f"v{len(order)}")
        elif isinstance(node, ast.arg):
            node.arg = order.setdefault(node.arg, f"v{len(order)}")
    # what the first hold counts by itself; what a stub raises is nobody's own
    skipped = (ast.FunctionDef, ast.For, ast.While, ast.If, ast.With, ast.Raise)
    return [
        ast.dump(node)
        for node in ast.walk(function)
        if isinstance(node, ast.stmt) and not isinstance(node, skipped) and not _text_only(node)
    ]


def _text_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
