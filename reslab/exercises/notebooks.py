"""Notebooks as Python: the code of their cells, without what only IPython understands."""

import io
import re
import tokenize

from reslab.files import parse_json

PYTHON_CELLS = {"capture", "memit", "prun", "time", "timeit"}
"""Cell magics below which is Python that runs in the notebook; below others are files, and other languages."""
_COMMAND = re.compile(
    r"""(?P<indent>[ \t]*)(?:
        [%!].*                                    # a magic, or a command of the system
        | \?{1,2}[ \t]*[\w.*%]+[ \t]*             # help, asked for before a name
        | [%\w][\w.*\[\]]*\?{1,2}[ \t]*           # or after it
        | (?P<target>[\w.,\[\]* \t]+?=[ \t]*)[!%].*  # the output of a command, given a name
    )""",
    re.VERBOSE,
)


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
    return "\n\n".join(map(python, texts)) + "\n"


def python(cell: str) -> str:
    """Return the Python of one cell."""
    magic = re.match(r"\s*%%(\w+)", cell)
    if magic is not None and magic[1] not in PYTHON_CELLS:
        return "pass" + "\n" * cell.count("\n")
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
    return "\n".join(lines)


def _is_open(lines: list[str]) -> bool:
    """Return whether a bracket, a string or a statement goes on below these lines."""
    try:
        list(tokenize.generate_tokens(io.StringIO("".join(f"{line}\n" for line in lines)).readline))
    except tokenize.TokenError:
        return True
    except SyntaxError:  # such as an indentation that fits nothing
        return False
    return False
