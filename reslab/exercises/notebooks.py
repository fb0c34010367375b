"""Notebooks to fill in, and notebooks as Python: the code of their cells, without what only IPython understands."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reslab.errors import DamagedError, Language, worded
from reslab.exercises import sheets
from reslab.exercises.noticing import CELL, UNPARSED
from reslab.exercises.unpacking import MOST, MOST_OF_A_NOTEBOOK
from reslab.files import json_text, opened, parse_json

PYTHON_CELLS = {"capture", "memit", "prun", "time", "timeit"}
"""Cell magics below which is Python that runs in the notebook; below others are files, and other languages."""
MOST_READ = 1_000_000
"""Lines that may be read, again and again, to tell a notebook's magics from strings."""
_COMMAND = re.compile(
    r"""(?P<indent>[ \t]*+)(?:
        [%!].*                                    # a magic, or a command of the system
        | (?:pip|conda|cd|ls|pwd|mkdir|rm|cp|mv|cat)(?:[ ]+(?![-/]=)[\w\-.~/"'].*)?  # a magic without its mark
        | \?{1,2}[ \t]*[\w.*%]+[ \t]*             # help, asked for before a name
        | [%\w][\w.*\[\]]*\?{1,2}[ \t]*           # or after it
        | (?P<target>[\w.,\[\]* \t]+?=[ \t]*)[!%].*  # the output of a command, given a name
    )""",
    re.VERBOSE,
)
_FUTURE = re.compile(r"from __future__ import [\w, ]+(?:#.*)?")


def starter(number: str, language: Language) -> str:
    """Return the notebook that a learner fills in: as `sheets.starter`, each task's text above its cells."""
    sheet = sheets.read(number, language)
    cells = [_cell("markdown", f"# {sheet.title}\n\n{sheet.introduction}"), _cell("code", sheet.preamble.strip())]
    for each in sheet.tasks.values():
        cells += [
            _cell("markdown", f"## {sheets.head(each, language)}\n\n{sheets.body(each, language)}"),
            _cell("code", f"# {each.id} {each.title}\n\n{each.stub.strip()}"),
            _cell("code", sheets.in_words(each)),
        ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return json_text({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4})


def _cell(kind: str, source: str) -> dict[str, Any]:
    own: dict[str, Any] = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True)} | own


def as_python(notebook: Path, file: Path) -> Path:
    """Write the Python of a notebook to a file, and return that.

    Raises:
        UserError: if it cannot be read as a notebook.
    """
    try:
        with opened(notebook, MOST_OF_A_NOTEBOOK) as opens:
            file.write_text(code(opens.read()), encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DamagedError(*worded("answers-unreadable", file=notebook, error=error)) from error
    return file


def code(content: bytes) -> str:
    """Return the Python of a notebook's cells, as many lines as they have; magics, commands of the system and questions
    are left out.

    Raises:
        ValueError: if it is not a notebook.
    """
    notebook = parse_json(content.decode("utf-8-sig"))
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise ValueError("it is not a notebook")
    sources = [cell.get("source", "") for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    texts = ["".join(source) if isinstance(source, list) else str(source) for source in sources]
    if sum(map(len, texts)) > MOST:
        raise ValueError("it has too much code")
    if _effort(texts) > MOST_READ:
        raise ValueError("it has too many magics")
    return _futures_first(CELL.join(map(python, texts))) + "\n"


def _effort(cells: Sequence[str]) -> int:
    """Return how many lines have to be read, at most, for these cells: those above each magic, and above each import
    from `__future__`.
    """
    lines = [cell.split("\n") for cell in cells]
    magics = sum(len(each) * sum(_COMMAND.fullmatch(line) is not None for line in each) for each in lines)
    return magics + sum(map(len, lines)) * sum(_FUTURE.fullmatch(line) is not None for each in lines for line in each)


def _futures_first(text: str) -> str:
    """Return Python with its imports from `__future__` on top, as no file, but every cell, may begin with one."""
    lines = text.split("\n")
    futures = [n for n, line in enumerate(lines) if _FUTURE.fullmatch(line) and not _is_open(lines[:n])]
    return "\n".join([lines[n] for n in futures] + [line for n, line in enumerate(lines) if n not in futures])


def python(cell: str) -> str:
    """Return the Python of one cell; nothing of one that awaits outside functions, which only notebooks do."""
    magic = re.match(r"\s*%%(\w+)", cell)
    left_out = "pass" + "\n" * cell.count("\n")
    if magic is not None and magic[1] not in PYTHON_CELLS:
        return left_out
    lines: list[str] = []
    continues = False  # a command goes on below
    for line in cell.split("\n"):
        command = _COMMAND.fullmatch(line.rstrip("\r"))
        if continues:
            lines.append("")
        elif command is not None and not _is_open(lines):
            lines.append(command["indent"] + (f"{command['target']}[]" if command["target"] else "pass"))
        else:
            lines.append(line)
            continue
        continues = line.rstrip().endswith("\\")
    text = "\n".join(lines)
    return left_out if _awaits(text) else text


def _awaits(text: str) -> bool:
    """Return whether a cell is Python only where `await` may stand outside functions."""
    try:
        awaiting = compile(text, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    except UNPARSED:
        return False
    return any(isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith) for node in _outside_functions(awaiting))


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run with the cell itself."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            nodes += ast.iter_child_nodes(node)


def _is_open(lines: list[str]) -> bool:
    """Return whether a bracket, a string or a statement goes on below these lines."""
    try:
        list(tokenize.generate_tokens(io.StringIO("".join(f"{line}\n" for line in lines)).readline))
    except tokenize.TokenError:
        return True
    except SyntaxError:  # such as an indentation that fits nothing
        return False
    return False
