"""Users' own modules are found by name in the working directory and by path anywhere; sys.path is as it was."""

import pickle
import sys
from pathlib import Path

import pytest
from helpers import refused
from torch import nn

import reslab
from reslab.errors import ExistsError, FailedError, MissingError
from reslab.importing import of_file, of_name

NET = """
from torch import nn
{top}
class Net(nn.Module):
    def __init__(self, width=4):
        {inside}
        super().__init__()
        self.layer = nn.Linear(width, width)

def make(width=4):
    return Net(width)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working directory of networks and a file beside them, that is not on sys.path."""
    for name in ("own_alone", "own_beside", "own_late", "own_helper", "own_package", "own_package.nets"):
        monkeypatch.setitem(sys.modules, name, nn)  # and as it was afterwards
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (tmp_path / "own_helper.py").write_text("WIDTH = 4", encoding="utf-8")
    late = NET.format(top="", inside="import own_helper")
    (tmp_path / "own_alone.py").write_text(NET.format(top="", inside=""), encoding="utf-8")
    (tmp_path / "own_beside.py").write_text(NET.format(top="import own_helper", inside=""), encoding="utf-8")
    (tmp_path / "own_late.py").write_text(late, encoding="utf-8")
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "nets.py").write_text(NET.format(top="from own_package import shared", inside=""), encoding="utf-8")
    (package / "shared.py").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("module", ["own_alone", "own_beside", "own_package.nets", "own_alone.py", "own_beside.py"])
def test_a_factory_of_the_working_directory_is_found(module: str, project: Path) -> None:
    before = list(sys.path)
    network = reslab.build(f"{module}:make", width=3)
    assert network.layer.out_features == 3 and sys.path == before
    assert type(pickle.loads(pickle.dumps(network))) is type(network)
    assert type(reslab.build(f"{module}:make")) is type(network), "it is imported once"


def test_a_file_is_found_anywhere_and_its_neighbours_with_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project / "elsewhere")
    before = list(sys.path)
    for file in ("../own_beside.py", str(project / "own_beside.py")):
        assert reslab.build(f"{file}:make").layer.in_features == 4 and sys.path == before
    with refused(FailedError, "own_alone"):
        reslab.build("own_alone:make")


def test_an_import_inside_of_a_function_finds_no_neighbour(project: Path) -> None:
    for module in ("own_late", "own_late.py"):
        with refused(FailedError, "own_helper"):
            reslab.build(f"{module}:make")


def test_a_file_that_has_changed_is_imported_anew(project: Path) -> None:
    file = project / "own_helper.py"
    first = of_file(file)
    assert of_file(file) is first and first.WIDTH == 4
    file.write_text("WIDTH = 8", encoding="utf-8")
    assert of_file(file).WIDTH == 8


def test_what_cannot_be_imported_is_told_and_leaves_nothing(project: Path) -> None:
    before = list(sys.path)
    (project / "own_late.py").write_text("1 / 0", encoding="utf-8")
    with refused(FailedError, "ZeroDivisionError"):
        of_file(project / "own_late.py")
    with pytest.raises(ZeroDivisionError):
        of_name("own_late")
    assert "own_late" not in sys.modules and sys.path == before
    with refused(MissingError, "nothing.py"):
        reslab.build("nothing.py:make")
    (project / "json.py").write_text("", encoding="utf-8")
    with refused(ExistsError, "json"):
        of_file(project / "json.py")
