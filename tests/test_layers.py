"""Who may import whom, and what `import reslab` may load."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_forks import done as forked
from helpers_images import image_folder

import reslab
from reslab.cli import main
from reslab.data import load_data

ROOT = Path(reslab.__file__).parent

RUNNING = {"training", "executors", "networks", "data", "files", "runs"}
"""What makes and reads trials."""
# layer -> the layers of reslab that it may import; every layer may import `LEAVES`
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "progress": set(),
    "cache": set(),
    "state": set(),
    "counting": set(),
    "processes": set(),
    "lazily": set(),
    "importing": set(),
    "naming": set(),
    "sending": set(),
    "digests": set(),
    "files": set(),
    "shapes": {"files"},
    "runs": {"digests", "files", "shapes"},
    "ledger": set(),
    "data": set(),
    "paper": set(),
    "successors": set(),
    "pytorch_lowlevel": {"pytorch_lowlevel"},
    "gates": set(),
    "residual": {"gates"},
    "analysis": {"gates"},
    "weights": set(),
    "networks": {"weights", "gates", "analysis"},
    "training": {"shapes", "files", "runs", "weights"},
    "executors": {"shapes", "training", "networks", "data", "files", "runs"},
    "subject": {"networks", "data", "weights", "residual"},
    "trained": {"subject", "training", "networks", "data", "weights"},
    "experiment": {"shapes", "digests", "ledger", *RUNNING},
    "measures": {"experiment", "ledger", "analysis", "gates", "successors", *RUNNING},
    "studies": {"measures", "experiment", "ledger", "analysis", "gates", "successors", *RUNNING},
    "exercises": {"analysis", "digests", "experiment", "studies", "residual", "networks", "data", "ledger", "files"},
    "report": {"shapes", "files", "runs", "ledger", "networks", "analysis"},
    "zoo": {"networks"},  # this and the four that follow are names of version 0.1
    "anatomy": {"networks"},
    "claims": {"ledger"},
    "weightfiles": {"weights"},
    "analyzing": {"commands"},
    "stories": {"*"},
    "speedrun": {"*"},
    "bench": {"*"},
    "commands": {"*"},
    "cli": {"*"},
    "__main__": {"cli"},
    "api": {"shapes", "digests", "experiment", "studies", "ledger", "report", "analysis", "weights", *RUNNING},
    "__init__": set(),  # its stub says where its names are
}
LEAVES = {"errors", "progress", "cache", "state", "counting", "processes", "lazily", "importing", "naming", "sending"}
# outside packages that some layers must not know, and the layers that may
RESERVED = {
    "lightning_fabric": {"training"},
    "plotly": {"report"},
    "jinja2": {"report"},
    "cyclopts": {"cli", "commands"},
    "rich": {"progress", "commands"},
    "matplotlib": {"analysis", "api", "gates", "report", "exercises"},
    "ray": {"executors"},
    "submitit": {"executors"},
    "pandas": {"analysis", "api", "commands", "gates", "trained"},
    "sklearn": {"data"},
    "scipy": {"ledger", "exercises"},
    "psutil": {"exercises"},
    "pydantic": {
        "bench",
        "ledger",
        "files",
        "shapes",
        "runs",
        "training",
        "experiment",
        "studies",
        "api",
        "commands",
        "report",
        "speedrun",
    },
}
LEDGER_MAY_IMPORT = {"numpy", "scipy", "pydantic", "typing_extensions"}
"""Outside packages: whoever reads a record needs nothing else."""
MODEL_FILES_MAY_IMPORT = {
    "torch",
    "torchvision",
    "jaxtyping",
    "collections",
    "functools",
    "typing",
    "itertools",
    "math",
    "dataclasses",
}


def imports(source: str) -> set[str]:
    """Return every module that a source file imports, at any depth; not what it imports only where it is run as a
    program.
    """
    found: set[str] = set()
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "__main__" in ast.unparse(node.test))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found.add(node.module or "")
            if node.module == "reslab":
                found |= {f"reslab.{alias.name}" for alias in node.names}
    return found


def violations(layer: str, source: str) -> list[str]:
    wrong = []
    for name in imports(source):
        package, *rest = name.split(".")
        if package == "reslab" and rest:
            # model files of one package do not import each other
            within = set() if layer in ("paper", "successors") else {layer}
            allowed = ALLOWED[layer] | within | LEAVES | {"__version__"}
            if "*" not in allowed and rest[0] not in allowed:
                wrong.append(name)
        if package in RESERVED and layer not in RESERVED[package]:
            wrong.append(name)
        if (
            layer in ("paper", "successors", "pytorch_lowlevel")
            and package != "reslab"
            and package not in MODEL_FILES_MAY_IMPORT
        ):
            wrong.append(name)
        if layer == "ledger" and package not in LEDGER_MAY_IMPORT | sys.stdlib_module_names | {"reslab"}:
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("page", ["architecture.md", "architecture.ko.md"])
def test_the_page_names_the_modules_that_all_may_import(page: str) -> None:
    text = (ROOT.parent / "docs" / "explanation" / page).read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if "`errors`, " in line)
    assert set(re.findall(r"`(\w+)`", line)) == LEAVES


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_imports_only_what_its_layer_may(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert violations(layer, path.read_text(encoding="utf-8")) == []


def test_the_check_can_fail() -> None:
    assert violations("training", "from reslab.networks.zoo import build") == ["reslab.networks.zoo"]
    assert violations("report", "import lightning_fabric") == ["lightning_fabric"]
    assert "numpy" in violations("paper", "import numpy")
    assert violations("ledger", "import json, numpy, torch\nfrom reslab.errors import UserError") == ["torch"]
    assert violations("ledger", "from reslab.runs import one_line") == ["reslab.runs"]
    assert violations("successors", "from reslab.successors.regnet import Block") == ["reslab.successors.regnet"]


@pytest.mark.slow
def test_training_on_what_is_decoded_needs_no_torchvision(tmp_path: Path) -> None:
    """It takes a second or two to import, which every start and every worker process would pay."""
    folder = image_folder(tmp_path / "images", train=20)
    load_data(f"folder:{folder}")
    done = forked(tmp_path, train_without_torchvision, tmp_path / "runs", ["digits", f"folder:{folder}"])
    assert done.returncode == 0, done.stderr


def train_without_torchvision(runs: Path, sets: list[str]) -> None:
    assert "torchvision" not in sys.modules
    sys.modules["torchvision"] = None  # type: ignore[assignment]  # importing it raises ImportError from here on
    for data in sets:
        assert main(["train", "cifar_resnet", "--depth", "8", "--epochs", "1", "--data", data, "--out", str(runs)]) == 0


def test_importing_loads_what_is_slow_only_where_it_is_used(tmp_path: Path) -> None:
    """Neither torch for the command line, nor Fabric, with which torch's compiler comes, nor scipy.stats for the
    studies.
    """
    for modules, slow in (
        (("reslab.cli", "reslab.runs"), ("torch", "plotly", "scipy", "numpy")),
        (("reslab.studies",), ("lightning_fabric", "torch._dynamo", "plotly", "torchvision", "scipy.stats")),
    ):
        done = forked(tmp_path, import_without, modules, slow)
        assert done.returncode == 0, done.stderr


TRAINED = """
import sys
from reslab.data import load_data
from reslab.networks import zoo
load_data("digits")
zoo.check("efficientnet_b0")
zoo.check("regnet_y_400mf")
zoo.build("resnet20", weights="digits")
print(*sys.modules)
"""


def test_a_trained_network_and_the_digits_need_neither_torchs_compiler_nor_scikit_learn() -> None:
    """Each takes seconds to import, which every command and every worker process would pay."""
    done = subprocess.run([sys.executable, "-c", TRAINED], capture_output=True, encoding="utf-8", check=True)
    assert {"torch._dynamo", "sympy", "triton", "sklearn", "scipy"}.isdisjoint(done.stdout.split())


def import_without(modules: tuple[str, ...], slow: tuple[str, ...]) -> None:
    """Import modules anew where none of the slow ones can be imported."""
    for name in list(sys.modules):
        if name.partition(".")[0] == "reslab":
            del sys.modules[name]
    for name in slow:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it raises ImportError from here on
        parent, _, child = name.rpartition(".")
        vars(sys.modules.get(parent, sys)).pop(child, None)
    for name in modules:
        importlib.import_module(name)


def test_public_names_are_there_and_others_are_not() -> None:
    assert set(reslab.__all__) <= set(dir(reslab))
    assert callable(reslab.build) and callable(reslab.load_data) and callable(reslab.view)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        reslab.nothing  # noqa: B018  # the access is what is tested
