"""The notebooks: each runs from top to bottom, uses the public names alone, and is the same in both languages but for
its prose.
"""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from helpers_docs import loaded

import reslab

ROOT = Path(__file__).parents[1]
notebooks = loaded("notebooks")
TUTORIALS = notebooks.TUTORIALS


def code(name: str, language: str = "en") -> list[str]:
    return [notebooks.source(cell) for cell in notebooks.cells(notebooks.read(name, language), "code")]


@pytest.mark.parametrize("name", TUTORIALS)
def test_both_languages_have_the_same_code_and_as_much_prose(name: str) -> None:
    english, korean = (notebooks.read(name, language) for language in notebooks.LANGUAGES)
    assert code(name, "en") == code(name, "ko")
    assert [cell["cell_type"] for cell in english["cells"]] == [cell["cell_type"] for cell in korean["cells"]]
    assert notebooks.cells(english, "code") == notebooks.cells(korean, "code")
    assert all(
        re.search("[가-힣]", notebooks.source(cell)) and one["source"] != cell["source"]
        for one, cell in zip(notebooks.cells(english, "markdown"), notebooks.cells(korean, "markdown"), strict=True)
    )


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_uses_public_names_alone(name: str) -> None:
    tree = ast.parse("\n".join(code(name)))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert "reslab" in imported and not [each for each in imported if each.startswith("reslab.")]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and "reslab" in (node.module or "")]
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "reslab"
    }
    assert used and used <= set(dir(reslab))


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_shows_what_its_cells_give(name: str) -> None:
    cells = notebooks.cells(notebooks.read(name, "en"), "code")
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        last = ast.parse(notebooks.source(cell)).body[-1]
        assert bool(cell["outputs"]) or not isinstance(last, ast.Expr)
        assert all(output["output_type"] in ("stream", "execute_result") for output in cell["outputs"])
    pictures = str(cells).count("<svg")
    page = loaded("build").from_notebook(ROOT / "notebooks" / f"{name}.ko.ipynb")
    assert pictures > 0 and page.count("<svg") == pictures and page.count("```python") == len(cells)


SEEN: dict[str, str] = {
    "learner": "runs['resnet32'].result['train_error'] < runs['plain32'].result['train_error']"
    " and len(lesions.to_frame()) == 15",
    "engineer": "len(gone) == 3 and len(change) == 8 and sum(p.numel() for p in small.parameters())"
    " < sum(p.numel() for p in trained.parameters())",
    "researcher": "list(mine.verdicts['n']) == [4] and registration['seeds'] == list(range(4000, 4010))"
    " and len(study.trials) == 12",
    "gates": "len(own_view) == 6 and own_view.is_chain and loss.isfinite()"
    " and (spectrum.gradient.sum(0) - gradient).norm() < 1e-5 * gradient.norm()",
}
"""What holds among a notebook's names when it has run."""


RUN = """
import sys
sys.path.append(sys.argv[1])
import notebooks
names = {}
codes = [notebooks.source(cell) for cell in notebooks.cells(notebooks.read(sys.argv[2], "en"), "code")]
assert len(list(notebooks.run(codes, names))) == len(codes)
assert eval(sys.argv[3], names), sys.argv[3]
print(names["reslab"].__file__)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment in which nothing is installed but the wheel; what the lab needs is that of
    this one.
    """
    place = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(place / "venv", with_pip=False)
    python = place / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    (library,) = (place / "venv").rglob("site-packages")
    needed = sysconfig.get_path("purelib")  # without what its own .pth files add, such as a clone of the lab
    (library / "needed.pth").write_text(f"{needed}\n", encoding="utf-8")
    (wheel,) = place.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    return python


@pytest.mark.slow  # trains
@pytest.mark.parametrize("name", TUTORIALS)
def test_an_installed_wheel_runs_each_notebook_from_top_to_bottom(name: str, installed: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(installed), "-X", "utf8", "-c", RUN, str(ROOT / "docs"), name, SEEN[name]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).is_relative_to(installed.parents[1])
