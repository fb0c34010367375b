"""What is shipped: one top-level package with all its data, and what its files say of it."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from itertools import chain
from pathlib import Path

import pytest
from helpers_docs import commands
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def test_the_wheel_holds_one_package_and_all_its_files_and_shows_its_ledger(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"reslab"}
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "reslab").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert ours <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    shown = subprocess.run(
        [sys.executable, "-X", "utf8", "-m", "reslab", "claims", "--json"],
        cwd=tmp_path / "installed",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        check=True,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert {claim["verdict"] for claim in json.loads(shown.stdout)["claims"]} >= {"supported", "refuted"}


def test_make_starts_lab_py_which_knows_its_targets() -> None:
    given = [*commands("README.md", "sh"), *commands("CONTRIBUTING.md", "sh")]
    targets = list(dict.fromkeys(command.removeprefix("make ") for command in given if command.startswith("make ")))
    assert {"lab", "test", "check", "docs"} == set(targets) <= runpy.run_path(str(ROOT / "lab.py"))["COMMANDS"].keys()
    if shutil.which("make"):
        dry = subprocess.run(
            ["make", "-n", "-C", str(ROOT), *targets], check=True, capture_output=True, text=True, encoding="utf-8"
        )
        assert re.findall(r"lab\.py (\S+)", dry.stdout) == targets


@pytest.mark.parametrize("arguments", [["--help"], ["nonsense"]])
def test_lab_py_explains_itself(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "lab.py"), *arguments], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == (0 if arguments == ["--help"] else 2)
    assert "python lab.py test" in done.stdout + done.stderr


def test_torch_hub_finds_every_network() -> None:
    import torch

    with torch.device("meta"):
        assert all(
            torch.hub.load(str(ROOT), name, source="local") for name in ("resnet50", "preresnet164", "densenet121")
        )
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
    assert sorted(f"{name}{bound.replace('>=', '==')}" for name, bound in lowest.items()) == sorted(
        line for line in lines if line[:1] != "#"
    )


def test_every_promise_names_tests_that_are_there() -> None:
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", (ROOT / "PROMISES.md").read_text(encoding="utf-8"))
    assert len(named) > 30
    for file, test in named:
        assert re.search(
            rf"^def {test or 'test_'}",
            next((ROOT / "tests").rglob(file)).read_text(encoding="utf-8"),
            flags=re.MULTILINE,
        ), (file, test)


@pytest.mark.parametrize(
    ("old", "names"),
    [
        ("zoo", ["build", "fresh", "names", "count_macs", "count_params", "factory"]),
        ("anatomy", ["stages", "differences"]),
        ("claims", ["Claim", "Comparison", "Check", "decide", "check", "SECTIONS"]),
        ("weightfiles", ["read_weights", "fit", "load", "to_bytes", "to_onnx", "shipped", "locate"]),
        ("analyzing", ["analyze_model"]),
    ],
)
def test_the_modules_of_version_0_1_still_have_their_names(old: str, names: list[str]) -> None:
    module = import_module(f"reslab.{old}")
    assert [name for name in names if not hasattr(module, name)] == []
