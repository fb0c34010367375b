"""READMEs, CONTRIBUTING.md and docs/: their code runs and prints what they show, their commands exist, their links lead
somewhere, both languages show the same, and what is generated is up to date.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock
from urllib.parse import unquote

import pytest
import torch
from helpers import reslab_here
from helpers_commands import check_command
from helpers_docs import (
    DOCUMENTS,
    KOREAN,
    ROOT,
    commands,
    fences,
    loaded,
    named_in_prose,
    python,
    text_of,
)
from helpers_images import image_folder
from helpers_slurm import make_cluster
from torch.distributed.run import get_args_parser

import reslab
from reslab.analysis import analyses

DOCS = ROOT / "docs"
ERRORS = "docs/errors.md"
CONTRIBUTING = "CONTRIBUTING.md"
WITH_PYTHON = [name for name in DOCUMENTS if python(name) and name not in KOREAN]
LONG = {"docs/how-to/gates.md", "docs/how-to/trained-networks.md", "docs/reference/files.md"}
STEPS = ("range(0, 640, 64)", "range(0, 128, 64)")
"""Ten training steps in a document, of which a test takes two."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in WITH_PYTHON]
)
def test_code_runs_and_prints_what_is_shown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers to a fiftieth: on another processor an image or two may be classified otherwise."""
    names: dict[str, Any] = {}
    for code, output in python(name):
        exec(compile(code.replace(*STEPS), name, "exec"), names)
        printed = capsys.readouterr().out
        assert printed
        if output is not None:
            number = r"-?\d+\.\d+"
            assert re.sub(number, "x", printed).split() == re.sub(number, "x", output).split()
            shown = [float(found) for found in re.findall(number, output)]
            assert [float(found) for found in re.findall(number, printed)] == pytest.approx(shown, abs=0.02)


def test_every_command_is_right() -> None:
    """It is parsed, and the network, study or analysis that it names is there."""
    found: set[str] = set()
    for name in DOCUMENTS:
        if name not in KOREAN:  # which show the same
            given = [] if name in (ERRORS, CONTRIBUTING) else [*commands(name, "sh"), *commands(name, "text")]
            found |= {re.sub("^torchrun .* (?=reslab )", "", command) for command in [*given, *named_in_prose(name)]}
    parsed = [command for command in sorted(found) if not command.startswith(("make", "pip")) and " hf:" not in command]
    for command in parsed:  # but for what would be fetched
        check_command(command)
    assert len(parsed) > 60


class ReachedError(Exception):
    """The command came to its work."""


WORK = {
    "train": "reslab.executors.run_trials",
    "study": "reslab.experiment.study.run_study",
    "report": "reslab.report.page.write_report",
}
"""What each command does once everything is read and checked; trained on Ray and by torchrun it is in the tests of
those.
"""
SCALING = "docs/how-to/scaling.md"


@pytest.mark.parametrize("command", [line for line in commands(SCALING, "text") if "bench" not in line])
def test_a_command_too_large_for_a_test_comes_to_its_work(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a data set and shared storage in their places, and without the work."""
    monkeypatch.chdir(tmp_path)
    image_folder(tmp_path / "PATH")
    words = [word.replace("/shared", str(tmp_path / "shared")) for word in shlex.split(command)]
    if words[0] == "pip":
        _, extra = words[-1].rstrip("]").split("[")
        assert extra in tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
        return
    if words[0] == "torchrun":
        launch = get_args_parser().parse_args(words[1:])
        words = [launch.training_script, *launch.training_script_args]
        assert launch.no_python and int(words[words.index("--devices") + 1]) == int(launch.nnodes) * int(
            launch.nproc_per_node
        )
    program, *arguments = words
    assert program == "reslab"
    if arguments[0] not in WORK:
        check_command(shlex.join(words))
        return
    if "ray" in arguments and find_spec("ray") is None:
        ray = ModuleType("ray")
        ray.__spec__ = ModuleSpec("ray", None)  # as if it were installed
        monkeypatch.setitem(sys.modules, "ray", ray)
    if "slurm" in arguments:
        if os.name != "posix":
            pytest.skip("its programs here are shell scripts")
        make_cluster(tmp_path / "bin", tmp_path / "state")
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    work = Mock(side_effect=ReachedError)
    import_module("reslab.api.studying")  # which keeps what it imports: the real one
    monkeypatch.setattr(WORK[arguments[0]], work)
    with pytest.raises(ReachedError):
        done = reslab_here(*arguments)
        pytest.fail(f"{command} ended with {done.returncode}: {done.stderr}")
    if "--address" in arguments:
        assert work.call_args.args[3].keywords == {"address": "HOST:6379"}
    if "slurm" in arguments:
        assert work.call_args.args[3].keywords == {"options": {"partition": "gpu"}, "minutes": 120, "cluster": "slurm"}


@pytest.mark.parametrize(("system", "name"), [("C.UTF-8", ERRORS), ("ko_KR.UTF-8", ERRORS.replace(".md", ".ko.md"))])
@pytest.mark.parametrize("index", range(len(commands(ERRORS, "sh"))))
def test_a_common_error_is_as_it_is_shown(
    index: int, name: str, system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, output = commands(name, "sh")[index], fences(name, "output")[index]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", system)
    done = reslab_here(*shlex.split(command)[1:])
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1].replace(str(tmp_path), "DIRECTORY").replace("\\", "/")
    assert line == output.strip()


EXPECTED = {("exercise", "check"): 1}  # for a file that nobody has filled in
SMALLER = {
    ("study", "degradation"): ["--workers", "1", "--seeds", "1"],
    ("train", "lowlevel/resnet18"): ["--epochs", "1"],
    ("analyze", "jacobian"): ["--images", "1", "--blocks", "layer3.2"],
}
RUN = [name for name in DOCUMENTS if name not in (*KOREAN, ERRORS) and commands(name, "sh")]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_commands_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, each with the settings that make it small."""
    monkeypatch.chdir(tmp_path)
    for command in commands(name, "sh"):
        program, *arguments = shlex.split(command)
        if program == "make":  # test_package.py
            continue
        if program == "python":
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            continue
        done = reslab_here(*arguments, *SMALLER.get(tuple(arguments[:2]), []))
        assert done.returncode == EXPECTED.get(tuple(arguments[:2]), 0), (command, done.stderr)


@pytest.mark.parametrize("name", KOREAN)
def test_both_languages_show_the_same(name: str) -> None:
    english = name.replace(".ko.md", ".md")
    for kind in ("sh", "text"):
        assert commands(english, kind) == commands(name, kind)
    if english != ERRORS:  # which are told in both languages
        assert fences(english, "output") == fences(name, "output")
    assert named_in_prose(english) == named_in_prose(name)
    without_comments = [
        [(re.sub(" *#.*", "", code.text), code.output) for code in python(each)] for each in (english, name)
    ]
    assert without_comments[0] == without_comments[1]
    rows = [re.findall(r"^(?:\||##? |- )", text_of(each), re.MULTILINE) for each in (english, name)]
    assert rows[0] == rows[1]


ENGLISH_ONLY = {"CONTRIBUTING.md", "docs/support-matrix.md"}


def test_every_page_is_in_both_languages() -> None:
    english = {name for name in DOCUMENTS if name not in KOREAN}
    assert {name.replace(".ko.md", ".md") for name in KOREAN} == english - ENGLISH_ONLY


PLAIN = {
    r"\b(one|five|three|\d+) (seeds?|images?|blocks?|layers?) an? (network|stage|class|block|trial)\b": "per",
    r"\bin a process of its own\b": "in a separate process",
    r"\b(comes?|came) with the lab\b": "bundled",
    r"\bis there already\b|\bthat is not there\b": "exists, is missing",
    r"\bare not to be had\b|\bis no (file|directory|network|number|tensor|notebook|chain)\b": "is not a",
    r"\b(small letters|of it there (is|are))\b": "lower case",
    r"\bOf (it|these|them) there (is|are)\b|\b(Asked for|Written|Kept) (is|are)\b": "the usual order of words",
}
"""Turns of phrase that read as translated, and what to say."""


def read_texts() -> dict[str, str]:
    """Return what people read in English: documents, help, and the package's own words."""
    package = [path for path in (ROOT / "reslab").rglob("*") if path.suffix in (".py", ".js", ".j2")]
    words = [*(ROOT / "reslab").rglob("*.toml"), *(ROOT / "reslab").rglob("*.en.md")]
    documents = [ROOT / name for name in DOCUMENTS if name not in KOREAN]
    paths = [*documents, ROOT / "tests" / "help.txt", *package, *words]
    return {path.relative_to(ROOT).as_posix(): " ".join(path.read_text(encoding="utf-8").split()) for path in paths}


def test_the_english_is_plain() -> None:
    found = {
        (name, match[0]): better
        for name, text in read_texts().items()
        for pattern, better in PLAIN.items()
        for match in re.finditer(pattern, text)
    }
    assert found == {}


OTHERS = ["CHANGELOG.md", "PROMISES.md", "THIRD_PARTY.md", "reslab/README.md", "reslab/README.en.md"]
LOGS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "log").glob("*.md"))


@pytest.mark.parametrize("name", [*DOCUMENTS, *OTHERS, *LOGS])
def test_links_lead_to_files_and_headings(name: str) -> None:
    build, page = loaded("build"), ROOT / name
    for target, anchor in build.links(text_of(name)):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        if anchor:
            assert anchor in build.anchors(path.read_text(encoding="utf-8")), f"{target}#{anchor}"


def test_the_site_has_every_page_and_file_that_it_links_to(tmp_path: Path) -> None:
    build = loaded("build")
    build.assemble(tmp_path)
    pages = sorted(tmp_path.rglob("*.md"))
    assert {"commands.md", "api.md", "chapter.md", "chapter.ko.md"} <= {page.name for page in pages}
    for page in pages:
        for target, anchor in build.links(page.read_text(encoding="utf-8")):
            assert not target or (page.parent / target).is_file(), (page, target)
            if anchor and (not target or target.endswith(".md")):
                text = ((page.parent / target) if target else page).read_text(encoding="utf-8")
                assert anchor in build.anchors(text), (page, target, anchor)
    config = tomllib.loads((DOCS / "zensical.toml").read_text(encoding="utf-8"))
    shown = set(re.findall(r"'([^']+\.md)'", str(config["project"]["nav"])))
    assert all((tmp_path / page).is_file() for page in shown)
    ours = {page.relative_to(tmp_path).as_posix() for page in pages if page.relative_to(tmp_path).parts[0] != "files"}
    assert ours == shown


@pytest.mark.parametrize("name", list(loaded("build").WRITTEN))
def test_what_is_generated_is_up_to_date(name: str) -> None:
    """`python docs/build.py pages` writes it anew."""
    assert (DOCS / name).read_text(encoding="utf-8") == loaded("build").WRITTEN[name]()


@pytest.mark.parametrize("name", list(loaded("drawings").WRITTEN))
def test_the_chapters_drawings_are_up_to_date(name: str) -> None:
    """`python docs/drawings.py` draws them anew."""
    drawings = loaded("drawings")
    assert (drawings.FOLDER / name).read_text(encoding="utf-8") == drawings.WRITTEN[name]()


@pytest.mark.parametrize("end, misread", [("md", "## How it is misread"), ("ko.md", "## 잘못 읽기 쉬운 점")])
@pytest.mark.parametrize("name", sorted({each.name for each in analyses().values()}))
def test_an_analysis_has_a_page_with_its_picture_and_its_command(name: str, end: str, misread: str) -> None:
    page = f"docs/analyses/{name}.{end}"
    (command,) = commands(page, "sh")
    _, _, called, *model = command.split(" --")[0].split()
    assert called == name
    assert f"({'-'.join([name, *model])}.png)" in text_of(page)
    assert misread in text_of(page)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("zensical") is None, reason="the extra docs is not installed: make docs")
def test_the_site_builds_without_a_warning_and_its_links_lead_somewhere() -> None:
    build = loaded("build")
    assert build.build() == 0
    site = build.SITE / "site"
    texts = {path.resolve(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    anchors = {path: set(re.findall(r'id="?([^" >]+)', text)) for path, text in texts.items()}
    for path, text in texts.items():
        for link in map(unquote, re.findall(r'href="?([^" >]+)', text)):
            target, _, anchor = link.partition("#")
            if path.name == "404.html" or re.match("[a-z]+:|//", link):
                continue
            found = (path.parent / target).resolve() if target else path
            assert found.exists() and (not anchor or anchor in anchors.get(found, {anchor})), (path, link)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the diffs")
def test_the_worked_examples_of_contributing_work(tmp_path: Path) -> None:
    """Their diffs are applied to a copy of the package, and their commands run there."""
    shutil.copytree(ROOT / "reslab", tmp_path / "reslab", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "examples.diff").write_text("".join(fences(CONTRIBUTING, "diff")), encoding="utf-8", newline="\n")
    subprocess.run(["git", "apply", "examples.diff"], cwd=tmp_path, check=True)
    save_imaginary(tmp_path / "imaginary.pth")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    for command in commands(CONTRIBUTING, "text"):
        words = [sys.executable, "-m", *shlex.split(command)]
        subprocess.run(words, cwd=tmp_path, env=environment, check=True, capture_output=True)
    measured = """
from reslab.networks import zoo
found = zoo.describe("rezero9")
assert (found.params, found.macs) == found.reference[:2], (found.params, found.macs)
"""
    subprocess.run([sys.executable, "-c", measured], cwd=tmp_path, env=environment, check=True)


def save_imaginary(path: Path) -> None:
    """Write the weights of a network in the names of the imaginary library."""
    names = {"conv1.": "stem.conv.", "bn1.": "stem.norm."}
    state = {}
    for name, tensor in reslab.build("resnet20").state_dict().items():
        found = re.fullmatch(r"layer(\d)\.(\d)\.(conv|bn)(.*)", name)
        if found:
            kind = "conv" if found[3] == "conv" else "norm"
            state[f"group{int(found[1]) - 1}.{found[2]}.{kind}{found[4]}"] = tensor
        else:
            stem = next((start for start in names if name.startswith(start)), "")
            state[names.get(stem, "") + name.removeprefix(stem)] = tensor
    torch.save(state, path)


CHEAP = ["alike", "direction", "gradient-flow", "importance", "lens", "paths", "probe", "prune", "removal", "responses"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEAP)
def test_costs_are_as_counted(name: str) -> None:
    """As `python docs/costs.py` counts them; other releases of torch do some operations in other steps."""
    costs = loaded("costs")
    written = json.loads(costs.FILE.read_text(encoding="utf-8"))
    assert costs.cost(analyses()[name]) == pytest.approx(written[name], rel=0.15)
