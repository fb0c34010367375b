"""What is shipped: one top-level package with all its data, and READMEs whose commands work."""

import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest
from helpers import reslab_here
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def test_the_wheel_holds_one_package_and_all_its_files(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"reslab"}
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "reslab").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert ours <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def readme_commands(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", text, flags=re.DOTALL)
    return [line.split(" #")[0].strip() for block in blocks for line in block.splitlines() if line.startswith("reslab ")]


def readme_python(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)


READMES = ["README.md", "README.ko.md"]


def test_both_readmes_show_the_same_commands_and_code() -> None:
    english, korean = (readme_commands(name) for name in READMES)
    assert english == korean and english
    assert [re.sub("#.*", "", code) for code in readme_python(READMES[0])] == [re.sub("#.*", "", code) for code in readme_python(READMES[1])]


EXPECTED = {("exercise", "check"): 1}  # for a file that nobody has filled in
SMALLER = {"study": ["--preset", "smoke", "--workers", "1", "--seeds", "1"], "train": ["--epochs", "1"]}


def test_readme_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, each with the settings that make it small."""
    monkeypatch.chdir(tmp_path)
    for command in readme_commands("README.md"):
        _, *arguments = shlex.split(command)
        for name in ("--seeds", "--depths"):
            if arguments[0] == "study" and name in arguments:
                del arguments[arguments.index(name) : arguments.index(name) + 2]
        done = reslab_here(*arguments, *SMALLER.get(arguments[0], []))
        assert done.returncode == EXPECTED.get(tuple(arguments[:2]), 0), (command, done.stderr)


def test_readme_python_runs() -> None:
    fresh = "\n".join(f"exec({code!r}, {{}})" for code in readme_python("README.md"))  # each with names of its own
    subprocess.run([sys.executable, "-W", "error", "-c", fresh], check=True)


@pytest.mark.parametrize("arguments", [["--help"], ["nonsense"]])
def test_lab_py_explains_itself(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "lab.py"), *arguments], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == (0 if arguments == ["--help"] else 2)
    assert "python lab.py test" in done.stdout + done.stderr


def test_torch_hub_finds_every_network() -> None:
    import torch

    with torch.device("meta"):
        assert all(torch.hub.load(str(ROOT), name, source="local") for name in ("resnet50", "preresnet164", "densenet121"))
        network = torch.hub.load(str(ROOT), "resnet56", source="local", num_classes=7)
    assert network.fc.out_features == 7


def test_the_citation_has_the_version_of_the_package() -> None:
    import reslab

    assert f"\nversion: {reslab.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_oldest_releases_are_the_lower_bounds_of_the_project() -> None:
    """So that `make test-oldest` tests what pyproject.toml promises."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = map(Requirement, [*project["dependencies"], *chain(*project["optional-dependencies"].values())])
    lowest = {requirement.name: str(requirement.specifier) for requirement in needed if requirement.name != "reslab"}
    lines = (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(f"{name}{bound.replace('>=', '==')}" for name, bound in lowest.items()) == sorted(line for line in lines if line[:1] != "#")
