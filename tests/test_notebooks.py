"""The notebooks: both run from top to bottom, and are the same but for their prose."""

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
LANGUAGES = ("ko", "en")


def cells(language: str, kind: str) -> list[str]:
    notebook = json.loads((FOLDER / f"gates.{language}.ipynb").read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_both_languages_have_the_same_code_and_as_much_prose() -> None:
    assert cells("ko", "code") == cells("en", "code") and len(cells("ko", "markdown")) == len(cells("en", "markdown"))


@pytest.mark.slow
def test_a_notebook_runs_from_top_to_bottom() -> None:
    names: dict[str, Any] = {}
    for code in cells("en", "code"):
        exec(code, names)
    assert len(names["own_view"]) == 6 and names["own_view"].is_chain
    parts, whole = names["spectrum"].gradient.sum(0), names["gradient"]
    assert (parts - whole).norm() < 1e-5 * whole.norm()
    assert names["loss"].isfinite()
