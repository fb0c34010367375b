"""The tutorials' notebooks: `python docs/notebooks.py` runs each from top to bottom and keeps what its cells give, in
both languages.
"""

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
TUTORIALS = ("learner", "engineer", "researcher", "gates")
LANGUAGES = ("en", "ko")
LONGEST = 4000
"""Characters of a value's text that are kept beside its HTML."""


def read(name: str, language: str) -> dict[str, Any]:
    """Return a notebook as JSON."""
    notebook: dict[str, Any] = json.loads((FOLDER / f"{name}.{language}.ipynb").read_text(encoding="utf-8"))
    return notebook


def cells(notebook: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return a notebook's cells of a kind, code or markdown."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    """Return what is typed in a cell."""
    return "".join(cell["source"])


def run(codes: Sequence[str], names: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Run cells one after another among these names, and yield each one's outputs as a notebook keeps them: what it
    prints, and its last value.
    """
    for number, code in enumerate(codes, 1):
        statements = ast.parse(code).body
        last = statements.pop() if isinstance(statements[-1], ast.Expr) else None
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(ast.Module(statements, []), f"cell {number}", "exec"), names)
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names) if last else None
        outputs: list[dict[str, Any]] = []
        if text := printed.getvalue():
            outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(text)})
        if value is not None:
            result = {"output_type": "execute_result", "execution_count": number, "metadata": {}}
            outputs.append({**result, "data": {kind: _lines(text) for kind, text in _shown(value).items()}})
        yield outputs


def _shown(value: Any) -> dict[str, str]:
    """Return a value as a notebook shows it, by MIME type."""
    text = repr(value)
    if not hasattr(value, "_repr_html_"):
        return {"text/plain": text}
    return {
        "text/html": value._repr_html_(),
        "text/plain": text if len(text) <= LONGEST else f"<{type(value).__name__}>",
    }


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def keep(name: str) -> None:
    """Run a tutorial in an empty directory, and write what its cells give into its notebooks."""
    notebooks = {language: read(name, language) for language in LANGUAGES}
    code = [source(cell) for cell in cells(notebooks["en"], "code")]
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        for number, outputs in enumerate(run(code, {}), 1):
            for notebook in notebooks.values():
                cells(notebook, "code")[number - 1] |= {"execution_count": number, "outputs": outputs}
    for language, notebook in notebooks.items():
        text = json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"
        (FOLDER / f"{name}.{language}.ipynb").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    for tutorial in sys.argv[1:] or TUTORIALS:
        keep(tutorial)
