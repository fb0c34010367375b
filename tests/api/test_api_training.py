"""`reslab.train`: the command's bits, one's own network, data and loss; logs, grids and runs that are extended."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TRAIN, assert_refused, refused, reslab_here
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import reslab
from reslab.api import own
from reslab.errors import MismatchError, MissingError, WrongValueError

SMALL = {"depth": 8, "epochs": 1, "settings": {"batch_size": 256}, "device": "cpu", "precision": "32"}
OF_SMALL = ("--device", "cpu", "--precision", "32", "--json")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> reslab.Run:
    return reslab.train("cifar_plain", **SMALL, out=tmp_path_factory.mktemp("runs"))


def test_it_is_the_run_of_the_command_and_shows_itself(run: reslab.Run) -> None:
    done = reslab_here(*TRAIN, *OF_SMALL, "--out", str(run.directory.parent))
    assert json.loads(done.stdout)["directory"] == str(run.directory), done.stderr
    assert len(run.to_frame()) == 1 and not run.network().training
    counts = run.confusion()
    assert counts.to_numpy().sum() == 327 and run.errors_by_class()["images"].sum() == 327
    wrong = (run.errors_by_class()["error"] * run.errors_by_class()["images"]).sum()
    assert wrong == pytest.approx(327 * run.result["test_error"])
    again = pickle.loads(pickle.dumps(run))
    assert again == run and "<svg" in again._repr_html_() and "<table" in again._repr_html_()
    with refused(MismatchError, "ema"):
        run.network(ema=True)


def test_a_log_is_read_by_the_real_tool_and_is_no_part_of_the_identity(run: reslab.Run) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = run.directory.parent
    for tool in ("tensorboard", "csv"):
        done = reslab_here(*TRAIN, *OF_SMALL, "--out", str(out), "--log", tool)
        assert json.loads(done.stdout)["directory"] == str(run.directory)
    events = EventAccumulator(str(out / "logs" / "tensorboard" / run.directory.name)).Reload()
    (loss,) = events.Scalars("loss")
    assert loss.value == pytest.approx(run.metrics["loss"][0]) and loss.step == run.metrics["step"][0]
    lines = (out / "logs" / "csv" / run.directory.name / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert "heldout_error" in lines[0] and len(lines) >= 2


def test_a_grid_is_several_runs_and_one_is_extended(run: reslab.Run) -> None:
    out = str(run.directory.parent)
    grid = json.loads(reslab_here(*TRAIN, *OF_SMALL, "--out", out, "--set", "learning_rate=0.05,0.2").stdout)
    assert [one["config"]["recipe"]["learning_rate"] for one in grid["runs"]] == [0.05, 0.2]
    assert grid["runs"][0]["directory"] == str(run.directory)
    longer = json.loads(reslab_here(*TRAIN, *OF_SMALL, "--out", out, "--extend", "1").stdout)
    assert longer["config"]["start"]["whole"] and longer["result"]["train_error"] < run.result["train_error"]
    assert_refused(reslab_here(*TRAIN, "--seed", "9", "--out", out, "--extend", "1"), "finished")


def digits(count: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = reslab.load_data("digits").train
    return images[:count], labels[:count]


def linear() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def test_own_networks_learn_from_pairs_triples_and_dicts_alike(tmp_path: Path) -> None:
    images, labels = digits()
    network, before = linear(), linear().state_dict()
    sources = [
        DataLoader(TensorDataset(images, labels), batch_size=50),
        DataLoader(TensorDataset(images, labels, labels), batch_size=50),
        [{"image": images[at : at + 50], "label": labels[at : at + 50]} for at in range(0, 200, 50)],
    ]
    runs = [
        reslab.train(network, (source, (images, labels)), epochs=3, out=tmp_path / str(n))
        for n, source in enumerate(sources)
    ]
    weights = [each.network().state_dict() for each in runs]
    assert all(torch.equal(one[key], weights[0][key]) for one in weights for key in one)
    assert runs[0].result["train_error"] < 0.5 and runs[0].result["steps"] == 3 * (180 // 50)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    again = reslab.train(linear(), (sources[0], (images, labels)), epochs=3, out=tmp_path / "0")
    assert again.directory == runs[0].directory and again.result == runs[0].result
    other = linear()
    nn.init.zeros_(other[1].weight)
    assert own.network_digest(other) != own.network_digest(network)


def test_an_own_loss_is_what_is_learned_and_measured(tmp_path: Path) -> None:
    images, labels = digits()
    goal = labels.float()

    def distance(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs[:, 0] - targets).square().mean()

    data = ((images, goal), (images, goal), (images, goal))
    run = reslab.train(linear(), data, loss=distance, epochs=3, settings={"learning_rate": 0.001}, out=tmp_path)
    with torch.no_grad():
        measured = distance(run.network()(images), goal).item()
    assert run.result["train_loss"] == pytest.approx(measured, rel=1e-4) and run.result["test_error"] is None
    assert list(run.metrics["loss"]) == sorted(run.metrics["loss"], reverse=True)


def test_what_does_not_go_together_is_told(tmp_path: Path) -> None:
    with refused(WrongValueError, "data=(train_loader, test_loader)"):
        reslab.train(linear(), "digits", out=tmp_path)
    with refused(WrongValueError, "own"):
        reslab.train("resnet20", (digits(), digits()), out=tmp_path)
    with refused(MissingError, "ten"):
        reslab.train(linear(), (digits(5), digits(5)), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_own_networks_are_evaluated_on_pairs_triples_and_dicts_alike() -> None:
    images, labels = digits()
    network = linear()
    wrong = (network(images).argmax(1) != labels).double().mean().item()
    sources = [
        DataLoader(TensorDataset(images, labels), batch_size=50),
        [(images[:50], labels[:50], ["name"] * 50), [images[50:], labels[50:], None]],
        [{"index": 3, "image": images, "label": labels}],
    ]
    for source in sources:
        found = reslab.evaluate(network, data=source)
        assert found["images"] == 200 and found["top1_error"] == pytest.approx(wrong)
        assert "top-5 error" in repr(found)
    goal = labels.float()

    def own(outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return (outputs.sum(1) - wanted).square().mean()

    found = reslab.evaluate(network, data=[(images, goal)], loss=own)
    assert found["loss"] == pytest.approx(own(network(images), goal).item(), rel=1e-5)
    assert found["top1_error"] is None and "error" not in repr(found)
    assert reslab.evaluate(network, data="digits", part="heldout")["images"] == 163
    assert network.training


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [(("resnet20",), {}), (("resnet20", "digits", []), {}), (("resnet20", "digits"), {"loss": len})],
)
def test_a_named_network_is_evaluated_with_weights_on_a_data_set(
    arguments: tuple[Any, ...], settings: dict[str, Any]
) -> None:
    with refused(WrongValueError):
        reslab.evaluate(*arguments, **settings)


def test_an_own_network_is_evaluated_as_it_is_and_on_some_images() -> None:
    with refused(WrongValueError):
        reslab.evaluate(linear(), "digits")
    with refused(MissingError):
        reslab.evaluate(linear(), data=[])
    with refused(WrongValueError, "picture"):
        reslab.evaluate(linear(), data=[{"picture": torch.zeros(2)}])
