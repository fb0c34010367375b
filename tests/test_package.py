"""What is shipped: one top-level package with all its data, and READMEs whose commands work."""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from itertools import chain
from pathlib import Path
from unittest.mock import Mock

import pytest
from helpers import reslab_here
from helpers_commands import check_command
from helpers_images import image_folder
from packaging.requirements import Requirement
from torch.distributed.run import get_args_parser

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


def fenced(name: str, kind: str) -> list[str]:
    """Return the command lines of a README's fences of this kind, without their comments."""
    blocks = re.findall(
        rf"^```{kind}\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    return [line.split(" #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines() if line]


def readme_python(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)


FOR_EXAMPLE = {"NAME": "degradation", "이름": "degradation", "my_module:factory": "torchvision.models:resnet18"}


def named_in_prose(name: str) -> list[str]:
    """Return the commands in a README's sentences, with examples in place of what stands for any."""
    found = set(re.findall(r"`((?:reslab|python -m) [^`]+)`", (ROOT / name).read_text(encoding="utf-8")))
    return sorted(" ".join(FOR_EXAMPLE.get(word, word) for word in command.split()) for command in found)


READMES = ["README.md", "README.ko.md"]


def test_both_readmes_show_the_same_commands_and_code() -> None:
    for kind in ("sh", "text"):
        english, korean = (fenced(name, kind) for name in READMES)
        assert english == korean and english
    english, korean = (named_in_prose(name) for name in READMES)
    assert english == korean and english
    assert [re.sub("#.*", "", code) for code in readme_python(READMES[0])] == [
        re.sub("#.*", "", code) for code in readme_python(READMES[1])
    ]


EXPECTED = {("exercise", "check"): 1}  # for a file that nobody has filled in
SMALLER = {
    "study": ["--preset", "smoke", "--workers", "1", "--seeds", "1"],
    "train": ["--epochs", "1"],
    "models": ["--family", "resnet"],
    "analyze": ["--images", "50"],
}


@pytest.mark.slow
def test_readme_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, each with the settings that make it small."""
    monkeypatch.chdir(tmp_path)
    for command in fenced("README.md", "sh"):
        program, *arguments = shlex.split(command)
        if program == "make":  # below
            continue
        for name in ("--seeds", "--depths"):
            if arguments[0] == "study" and name in arguments:
                del arguments[arguments.index(name) : arguments.index(name) + 2]
        done = reslab_here(*arguments, *(SMALLER.get(arguments[0], []) if "--diff" not in arguments else []))
        assert done.returncode == EXPECTED.get(tuple(arguments[:2]), 0), (command, done.stderr)


def test_make_starts_lab_py_which_knows_its_targets() -> None:
    targets = [command.removeprefix("make ") for command in fenced("README.md", "sh") if command.startswith("make ")]
    assert {"lab", "test", "check"} == set(targets) <= runpy.run_path(str(ROOT / "lab.py"))["COMMANDS"].keys()
    if shutil.which("make"):
        dry = subprocess.run(
            ["make", "-n", "-C", str(ROOT), *targets], check=True, capture_output=True, text=True, encoding="utf-8"
        )
        assert re.findall(r"lab\.py (\S+)", dry.stdout) == targets


class ReachedError(Exception):
    """The command came to its work."""


WORK = {
    "train": "reslab.executors.run_trials",
    "study": "reslab.experiment.study.run_study",
    "report": "reslab.report.page.write_report",
    "exercise": "reslab.exercises.classroom.grade",
}
"""What each command does once everything is read and checked; trained on Ray and by torchrun it is in the tests of
those.
"""


@pytest.mark.parametrize("command", fenced("README.md", "text"))
def test_a_command_too_large_for_a_test_comes_to_its_work(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a data set, a class and shared storage in their places, and without the work."""
    monkeypatch.chdir(tmp_path)
    image_folder(tmp_path / "PATH")
    reslab_here("exercise", "start", "01", "--dir", "submissions/student")
    (tmp_path / "my_tests.py").touch()
    words = [word.replace("/shared", str(tmp_path / "shared")) for word in shlex.split(command)]
    if words[0] == "pip":
        _, extra = words[-1].rstrip("]").split("[")
        assert (
            extra
            in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
        )
        return
    if words[0] == "torchrun":
        launch = get_args_parser().parse_args(words[1:])
        words = [launch.training_script, *launch.training_script_args]
        assert launch.no_python and int(words[words.index("--devices") + 1]) == int(launch.nnodes) * int(
            launch.nproc_per_node
        )
    program, *arguments = [str(path) for word in words for path in (ROOT.glob(word) if "*" in word else [word])]
    assert program == "reslab"
    work = Mock(side_effect=ReachedError)
    monkeypatch.setattr(WORK[arguments[0]], work)
    with pytest.raises(ReachedError):
        done = reslab_here(*arguments)
        pytest.fail(f"{command} ended with {done.returncode}: {done.stderr}")
    if "--address" in arguments:
        assert work.call_args.args[3].keywords == {"address": "HOST:6379"}


@pytest.mark.parametrize(
    "command", [command for command in named_in_prose("README.md") if not command.endswith("--help")]
)
def test_a_command_in_the_prose_is_right(command: str) -> None:
    check_command(command)


def test_readme_python_runs() -> None:
    """With two of its ten training steps."""
    steps, two = "range(0, 640, 64)", "range(0, 128, 64)"
    codes = readme_python("README.md")
    assert sum(code.count(steps) for code in codes) == 1
    for code in codes:
        exec(compile(code.replace(steps, two), "README.md", "exec"), {})


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
