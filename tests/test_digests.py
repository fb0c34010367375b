"""The digests of the code: what they cover, and what changes them."""

import ast
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_forks import done

from reslab import digests, studies
from reslab.speedrun.sprint import SprintConfig
from reslab.training.loop import TrialConfig

# what is imported where networks train or are measured, and changes no bit of either
APART = {
    "reslab.progress",
    "reslab",
    "reslab.importing",  # a user's own files
    "reslab.lazily",
    "reslab.naming",
    "reslab.cache",
    "reslab.digests",
    "reslab.errors",
    "reslab.executors",  # where trials run
    "reslab.executors.attempts",
    "reslab.executors.memory",
    "reslab.executors.workers",
    "reslab.files",
    "reslab.processes",
    "reslab.sending",
    "reslab.runs",
    "reslab.shapes",
    "reslab.weights",  # written after the last step
    "reslab.weights.files",
    "reslab.weights.fitting",
    "reslab.weights.names",
    "reslab.weights.numpyfiles",
    "reslab.weights.origins",
    "reslab.weights.shipped",
    "reslab.weights.tensorfiles",
    "reslab.weights.untold",
}
LEDGER = {
    f"reslab.ledger{name}" for name in ("", ".claim", ".comparison", ".estimate", ".record", ".verdict")
}  # decides of what is measured already
COUNTING = {
    "reslab.counting",
    "reslab.networks.counting",
    "reslab.networks.meta",
}  # parameters, multiply-adds, and shapes


def modules(parts: digests.Parts) -> set[str]:
    """Return the names of the modules that parts of the package are."""
    paths = (path.relative_to(digests.ROOT).with_suffix("") for path in digests.files(parts))
    return {".".join(("reslab", *path.parts)).removesuffix(".__init__") for path in paths}


def imported_by(place: Path, program: str) -> set[str]:
    """Return the lab's modules that a program has imported at its end, in a process that began without them."""
    child = done(place, _import, program, place)
    assert child.returncode == 0, child.stderr
    return set(child.stdout.splitlines()[-1].split())


def _import(program: str, place: Path) -> None:
    for name in ours():
        del sys.modules[name]
    exec(program, {"place": place})
    print(*ours())


def ours() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "reslab"]


def test_all_that_a_trial_imports_and_that_computes_is_covered(tmp_path: Path) -> None:
    """With random blocks, as they train through the gates."""
    trial = """
from reslab.executors.trial import run_trial
from reslab.training.loop import TrialConfig
from reslab.training.recipes import FAST
recipe = FAST.model_copy(update={"epochs": 1})
options = {"depth": 8}
config = TrialConfig(model="cifar_stochastic_depth", options=options, data="digits", recipe=recipe, seed=0)
run_trial(config, place)
"""
    found_beside_models = {"reslab.analysis", "reslab.networks", "reslab.networks.catalogue"} | COUNTING
    assert imported_by(tmp_path, trial) - modules(digests.TRIAL) == APART | found_beside_models


def test_a_run_is_marked_with_the_digest_of_its_kind() -> None:
    assert TrialConfig.code_digest() == digests.code_digest(digests.TRIAL)
    assert SprintConfig.code_digest() == digests.code_digest(digests.RACE) != TrialConfig.code_digest()


def test_all_that_a_race_imports_and_that_computes_is_covered(tmp_path: Path) -> None:
    beside = {"reslab.bench", "reslab.bench.timing", "reslab.networks", "reslab.networks.catalogue"} | COUNTING
    registering = LEDGER | {"reslab.ledger.registration"}
    assert imported_by(tmp_path, "import reslab.speedrun.race") - modules(digests.RACE) == APART | beside | registering


def test_all_that_studies_import_and_that_measures_is_covered(tmp_path: Path) -> None:
    """Of their own room, what Python has imported against what is read in their sources."""
    program = "\n".join(f"import reslab.studies.{name}" for name in studies.names())
    imported = imported_by(tmp_path, program) - modules(digests.MEASURED)
    own = {
        f"reslab.{path.parent.name}.{path.stem}"
        for name in studies.names()
        for path in digests.own_files(f"reslab.studies.{name}")
    }
    assert imported == APART | LEDGER | {"reslab.ledger.registration", *digests.ROOMS} | own
    assert {path.stem for path in digests.own_files("reslab.studies.batchnorm_role")} == {
        *("batchnorm_role", "descent", "rates", "twins"),
        *("config", "directory", "identity", "kept", "study", "text", "trials"),
    }


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the package's Python files, and have the digests taken of them."""
    shutil.copytree(
        digests.ROOT,
        tmp_path / "reslab",
        ignore=lambda _, names: [n for n in names if "." in n and not n.endswith(".py")],
    )
    monkeypatch.setattr(digests, "ROOT", tmp_path / "reslab")
    return tmp_path / "reslab"


def taken() -> dict[str, str]:
    """Return all digests of the package as it is now."""
    measured = {
        f"measured by {study}": digests._of_the_labs.__wrapped__(f"reslab.studies.{study}")
        for study in ("lesion", "bottleneck")
    }
    trial, race = (digests.code_digest.__wrapped__(parts) for parts in (digests.TRIAL, digests.RACE))
    return {"trial": trial, "race": race, **measured}


def changed(edit: Callable[[], object]) -> set[str]:
    """Return which digests an edit changes."""
    before = taken()
    edit()
    after = taken()
    return {name for name in before if before[name] != after[name]}


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


class OtherDocstrings(ast.NodeTransformer):
    """Replaces all docstrings, those of constants too."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        return (
            ast.Expr(ast.Constant("Other words."))
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            else node
        )


@pytest.mark.slow
def test_words_and_layout_change_no_digest(package: Path) -> None:
    """Every file written anew from its syntax tree: other docstrings, no comments, other lines, and CRLF
    at their ends.
    """

    def rewrite() -> None:
        for path in package.rglob("*.py"):
            tree = OtherDocstrings().visit(ast.parse(path.read_bytes()))
            path.write_text("# A comment.\n" + ast.unparse(tree), encoding="utf-8", newline="\r\n")

    assert changed(rewrite) == set()


@pytest.mark.parametrize("room", ["report", "exercises", "commands", "bench", "ledger"])
def test_what_shows_and_teaches_is_in_no_digest(package: Path, room: str) -> None:
    assert (
        changed(lambda: [path.write_text("x = 1\n", encoding="utf-8") for path in (package / room).glob("*.py")])
        == set()
    )


EVERY = {"trial", "race", "measured by lesion", "measured by bottleneck"}


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("training/recipes.py", "Field(0.9, ge=0, lt=1)", "Field(0.8, ge=0, lt=1)", EVERY),
        ("networks/variants.py", "survival: float = 0.5", "survival: float = 0.6", EVERY),
        ("speedrun/whitening.py", "import", "import sys\nimport", {"race"}),
        ("analysis/sweeping.py", "BATCH = 250", "BATCH = 251", {"measured by lesion", "measured by bottleneck"}),
        ("counting.py", "import", "import sys\nimport", {"measured by lesion", "measured by bottleneck"}),
        ("measures/costs.py", "TOLERANCE = ", "TOLERANCE = 2 * ", {"measured by bottleneck"}),
        ("studies/lesion.py", "import", "import sys\nimport", {"measured by lesion"}),
        ("executors/attempts.py", "starting", "begins", set()),
    ],
)
def test_a_change_of_the_program_changes_the_digests_of_what_it_makes(
    package: Path, file: str, old: str, new: str, expected: set[str]
) -> None:
    assert changed(lambda: replace(package / file, old, new)) == expected


def test_an_emptied_or_negated_value_is_another_program() -> None:
    texts = [
        "x = 1",
        "x = -1",
        "x = None",
        "x = []",
        "x = ''",
        "x = 1.0",
        "x = True",
        "def x(): return",
        "def x(): pass",
        "x: int = 1",
        "'x'",
    ]
    assert len({digests.written(ast.parse(text)) for text in texts}) == len(texts)


def test_a_part_that_is_not_there_is_no_part() -> None:
    with pytest.raises(FileNotFoundError):
        digests.files(("nothing.py",))
