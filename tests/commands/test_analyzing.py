"""`reslab analyze`: every analysis by name, on any network."""

import codecs
import contextlib
import inspect
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import assert_refused, refused, reslab_here, slow_unless, snapshot

from reslab.analysis import analyses
from reslab.commands import tables
from reslab.commands.analyze import analyze_model
from reslab.data import load_data
from reslab.errors import UserError, WrongValueError
from reslab.files import file_name
from reslab.networks import zoo
from reslab.weights.files import to_bytes

SMALL = {
    "training-flow": ["--steps", "2", "--every", "1"],
    "sampled-paths": ["--draws", "2"],
    "random-removal": ["--counts", "1", "--draws", "2"],
    "reorder": ["--swaps", "1", "--draws", "2", "--depth", "20"],
    "jacobian": ["--method", "all", "--images", "1"],
    "shattering": ["--points", "16", "--images", "2"],
    "landscape": ["--points", "3"],
}


LONG = {"gradient-flow", "jacobian", "reorder", "sampled-paths", "smoothness"}
"""Analyses that take more than a second even so."""


@pytest.mark.parametrize("name", slow_unless(analyses().keys() - LONG, [name for name in analyses() if name != "tour"]))
def test_every_analysis_has_a_table_a_summary_and_figures(name: str, tmp_path: Path) -> None:
    arguments = SMALL.get(name, [])
    depth = [] if "--depth" in arguments else ["--depth", "8"]
    count = [] if "--images" in arguments else ["--images", "8"]
    files = {kind: tmp_path / "tables" / f"table.{kind}" for kind in ("csv", "parquet")}
    asked = [word for kind, file in files.items() for word in (f"--{kind}", file)]
    done = reslab_here("analyze", name, "cifar_resnet", *depth, *count, *arguments, "--out", tmp_path, *asked, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["analysis"] == name and record["rows"] and set(record["summary"]) == set(analyses()[name].summary)
    written = {path.suffix: path for path in tmp_path.iterdir() if path.is_file()}
    assert set(written) == {".json", ".svg", ".png"}
    assert json.loads(written[".json"].read_text(encoding="utf-8"))["rows"] == record["rows"]
    frame = pd.read_parquet(files["parquet"])
    assert (
        json.loads(json.dumps(tables.rows(frame), allow_nan=False)) == record["rows"]
        and frame.attrs["model"] == "cifar_resnet"
    )
    assert files["csv"].read_bytes().startswith(codecs.BOM_UTF8)
    pd.testing.assert_frame_equal(
        pd.read_csv(files["csv"]), frame.mask(frame.eq("")), check_dtype=False, rtol=1e-13, atol=0
    )
    again = reslab_here("analyze", name, "cifar_resnet", *depth, *count, *arguments, "--out", tmp_path)
    assert_refused(again, tmp_path, "--out")


def test_a_file_that_exists_or_cannot_be_made_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("analyze", "tour")
    taken = tmp_path / "taken.csv"
    taken.write_text("mine", encoding="utf-8")
    monkeypatch.setattr("reslab.commands.analyze.analyze_model", None)  # which is not called
    assert_refused(reslab_here(*words, "--csv", taken), taken)
    assert_refused(reslab_here(*words, "--csv", tmp_path / "a", "--parquet", tmp_path / "a"), tmp_path / "a")
    assert_refused(reslab_here(*words, "--parquet", taken / "table"), taken)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert_refused(reslab_here(*words, "--parquet", tmp_path / "a"), "--parquet", "pyarrow")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.csv"] and taken.read_text(encoding="utf-8") == "mine"


BATCHES = {"jacobian": 1, "shattering": 2}


@pytest.mark.parametrize("name", [name for name in analyses() if name != "tour"])
@pytest.mark.parametrize("failing", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_network_is_left_as_it_was(name: str, failing: bool) -> None:
    function = analyses()[name].load()
    network = zoo.build(
        "cifar_resnet", depth=20 if name == "reorder" else 14, in_channels=1
    )  # where two can be exchanged
    network.layer2.eval()
    network.conv1.weight.requires_grad_(False)
    network.fc.weight.grad = torch.ones_like(network.fc.weight)
    count = BATCHES.get(name, 4)
    images, labels = (part[:count] for part in load_data("digits").train)
    known = inspect.signature(function).parameters
    settings = {
        key: value
        for key, value in {
            "labels": labels,
            "draws": 1,
            "swaps": (1,),
            "points": 17 if name == "shattering" else 3,
            "steps": 1,
        }.items()
        if key in known
    }
    before = snapshot(network)
    if failing:
        calls = iter(range(3))  # the third call of the last layer fails, which is within the analysis
        forward = network.fc.forward

        def fails(x: torch.Tensor) -> torch.Tensor:
            if next(calls, None) is None:
                raise RuntimeError("out of order")
            return forward(x)

        network.fc.forward = fails
        with contextlib.suppress(RuntimeError, UserError):
            function(network, images, **settings)
        del network.fc.forward
    else:
        function(network, images, **settings)
    after = snapshot(network)
    assert before == after


def test_one_seed_is_one_result() -> None:
    first, second, other = (
        reslab_here("analyze", "paths", "cifar_resnet", "--depth", "8", "--seed", seed, "--json").stdout
        for seed in "001"
    )
    assert first == second != other


@pytest.mark.slow  # 4 s; test_every_analysis… looks at what it builds
def test_trained_weights_are_looked_at(tmp_path: Path) -> None:
    trained = reslab_here("train", "cifar_resnet", "--depth", "8", "--epochs", "3", "--out", tmp_path, "--json")
    weights = Path(json.loads(trained.stdout)["directory"]) / "weights.safetensors"
    done = reslab_here("analyze", "removal", "cifar_resnet", "--depth", "8", "--weights", weights, "--json")
    record = json.loads(done.stdout)
    assert record["summary"]["error"] < 0.3 < max(row["error"] for row in record["rows"]) and record["images"] == 163
    table = reslab_here("analyze", "removal", "cifar_resnet", "--depth", "8", "--weights", weights)
    assert "layer1.0" in table.stdout and "error:" in table.stdout


@pytest.mark.slow
def test_two_networks_are_compared_by_name_and_by_file(tmp_path: Path) -> None:
    shipped = reslab_here("analyze", "alike", "resnet20", "--images", "8", "--json", "--other", "resnet20")
    record = json.loads(shipped.stdout)
    own = [row[row["block"]] for row in record["rows"]]
    assert own == pytest.approx([1] * 9) and record["other"] == {
        key: record[key] for key in ("model", "weights", "untrained")
    }
    torch.manual_seed(1)
    file = tmp_path / "seed1.safetensors"
    file.write_bytes(
        to_bytes(zoo.build("cifar_plain", depth=8, in_channels=1), "cifar_plain", {"depth": 8}, {"data": "digits"})
    )
    arguments = ["--images", "8", "--json", "--weights", "none", "--out", tmp_path, "--other"]
    fresh = reslab_here("analyze", "alike", "cifar_resnet", "--depth", "14", *arguments, file)
    rows = json.loads(fresh.stdout)["rows"]
    assert len(rows) == 6 and set(rows[0]) == {"block", "layer1.0", "layer2.0", "layer3.0"}
    drawn = reslab_here("analyze", "alike", "plain20", *arguments, "plain20")  # another one, drawn after the first
    record = json.loads(drawn.stdout)
    assert record["other"]["untrained"] and record["rows"][-1]["layer3.2"] < 1 - 1e-6
    assert drawn.stderr.count("UNTRAINED") == 2
    assert_refused(reslab_here("analyze", "split", "resnet20", "--other", "plain20"), "--other", "alike")
    assert_refused(reslab_here("analyze", "alike", "resnet20", "--other", "resnet20x"), "resnet20x")


def test_the_tour_is_text_and_takes_no_network() -> None:
    assert "Bottleneck.forward" not in reslab_here("analyze", "tour", "resnet20").stdout
    assert "residual addition" in reslab_here("analyze", "tour").stdout


OWN = """
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

def network():
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)

def everything():
    batches = [(torch.randn(4, 3, 32, 32), torch.randint(4, (4,))) for _ in range(3)]
    return {"network": network(), "loader": batches, "loss": nn.CrossEntropyLoss(label_smoothing=0.1)}

def nothing():
    return 7

def batches_of(make):
    images, labels = torch.randn(4, 3, 32, 32), torch.randint(4, (4,))
    without_end = (make(images, labels) for _ in iter(int, 1))
    return {"network": network(), "loader": without_end}

def triples():
    return batches_of(lambda images, labels: (images, labels, ["name"] * 4))

def mappings():
    return batches_of(lambda images, labels: {"index": 3, "image": images, "label": labels})

def lonely():
    return batches_of(lambda images, labels: {"picture": images})

def silent():
    answers_nothing = network()
    torch.nn.init.zeros_(answers_nothing.fc.weight)
    return {**batches_of(lambda images, labels: [images, labels]), "network": answers_nothing}
"""


def test_a_network_of_ones_own_with_its_loader_and_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    # without the working directory, where it is found all the same
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.delitem(sys.modules, "my_own", raising=False)
    done = reslab_here("analyze", "gradient-flow", "my_own:everything", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["images"] == 12 and len(record["rows"]) == 4 and record["data"] == "my_own:everything's loader"


@pytest.mark.slow  # 2 s
def test_loaders_of_triples_and_mappings_and_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_own", raising=False)
    monkeypatch.setattr("reslab.data.batches.MOST_IMAGES", 6)
    for name in ("triples", "mappings"):
        assert analyze_model("importance", f"my_own:{name}", images=5).record["images"] == 5
    with pytest.warns(UserWarning, match="the first 6 are used"):
        assert analyze_model("removal", "my_own:triples").record["images"] == 6
    nowhere = analyze_model("paths", "my_own:silent", images=4).record  # no gradient comes back from a head of zeros
    assert nowhere["summary"] == {"mean_length": None} and nowhere["rows"][0]["share"] is None


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["pahts", "resnet20"], ["'pahts'; did you mean 'paths'"]),
        (["paths"], ["reslab analyze paths resnet20"]),
        (["paths", "resnet20", "--drows", "3"], ["'drows'"]),
        (["paths", "plain20"], ["blocks (unit)"]),
        (["paths", "resnet20", "--images", "0"], ["--images", 1, 0]),
        (["paths", "torchvision/resnet18"], ["torchvision/resnet18", "--data cifar10 --download"]),
        (["paths", "my_own:nothing"], ["my_own:nothing", "int"]),
        (["paths", "my_own:lonely"], ["picture"]),
        (["paths", "my_own:none"], ["my_own:none"]),
        (["paths", "timm/resnet18x"], ["timm", "'resnet18x'"]),
        (["tour", "resnet20"], ["reslab analyze tour"]),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], values: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_own.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_own", raising=False)
    done = reslab_here("analyze", *arguments)
    assert_refused(done, *values)


def texts() -> dict[str, object]:
    """A factory of a network whose labels are padded within each batch alone."""
    x = torch.randn(8, 1, 8, 8)
    loader = [(x[:4], torch.zeros(4, 5, dtype=torch.int64)), (x[4:], torch.zeros(4, 7, dtype=torch.int64))]
    return {"network": zoo.build("cifar_resnet", depth=8, in_channels=1), "loader": loader, "loss": torch.dist}


def test_labels_of_several_lengths_are_refused_in_one_line() -> None:
    with refused(WrongValueError, "labels differ in shape"):
        analyze_model("importance", f"{__name__}:texts", images=8)


def test_what_is_said_of_weights_is_refused_where_there_are_none() -> None:
    for words in (("--raw",), ("--zero-pad", "end"), ("--head", "none")):
        assert_refused(reslab_here("analyze", "responses", "resnet20", "--weights", "none", *words), words[0])


def test_names_of_results_are_those_of_files_on_any_system() -> None:
    assert file_name("nets\\mine.py:make") == file_name("nets/mine.py:make") == "nets-mine.py-make"
