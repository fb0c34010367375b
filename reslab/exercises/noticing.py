"""Facts about a file of answers that need no run: its tasks, its language, imports of the solutions, and similarity to
other files.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations

from reslab.exercises import sheets

ALIKE = 0.9
"""The share of common statements from which two files count as similar."""
LEAST = 15
"""The smallest number of statements for a comparison."""
OFFERED = {"drawn"}
"""Modules of the exercises that learners are told to import."""
UNPARSED = (SyntaxError, ValueError, RecursionError, MemoryError)
_DEFINED = re.compile(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)|^(\w+)[ \t]*(?::[^=\n]*)?=", re.MULTILINE)
"""A function's name, in a file that may not parse."""
_OURS = "reslab.exercises"


def tasks_of(text: str, only: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the tasks of every sheet for which a file has at least one function."""
    defined = {name for pair in _DEFINED.findall(text) for name in pair}
    asked = {number: asked_in(number) for number in sheets.SHEETS}
    own = {
        number: names.difference(*(asked[other] for other in asked if other != number))
        for number, names in asked.items()
    }
    found = [number for number in sheets.SHEETS if defined & own[number]]
    return tuple(name for number in found for name in sheets.read(number, "en").tasks if not only or name in only)


@cache
def asked_in(sheet: str) -> set[str]:
    """Return the names of the functions that a sheet asks for."""
    return {name for task in sheets.read(sheet, "en").tasks.values() for name in task.functions}


def language_of(text: str) -> sheets.Language:
    """Return the language in which a file was begun."""
    return "ko" if re.search("[가-힣]", text) else "en"


def imports_solutions(text: str) -> bool:
    """Return whether a file imports or names the exercises' own code beyond what learners are told to use."""
    try:
        tree = ast.parse(text)
    except UNPARSED:
        return False
    return any(_reaches(node) for node in ast.walk(tree))


def _reaches(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(each.name.startswith(_OURS) for each in node.names)
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if module == "reslab":
            return any(each.name == "exercises" for each in node.names)
        return module.startswith(_OURS) and not {each.name for each in node.names} <= OFFERED
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(_OURS)


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
    try:
        tree = ast.parse(text)
    except UNPARSED:
        return set()
    asked = set().union(*map(asked_in, sheets.SHEETS))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in asked]
    return {f"{function.name}: {each}" for function in functions for each in _renamed(function)}


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
