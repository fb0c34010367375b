"""`reslab.train`: the command's bits, one's own network, data and loss; logs, grids and runs that are extended."""

import json
import pickle
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import TRAIN, assert_refused, refused, reslab_here, sum_up, tiny_trial
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import reslab
from reslab.api.own import OwnData
from reslab.api.planning import Machine, extended, recipe_of, trial
from reslab.errors import MismatchError, MissingError, UnusableError, UserError, WrongValueError
from reslab.runs import Run
from reslab.training import loop
from reslab.training.ema import Average
from reslab.training.loop import TrialConfig

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


def test_a_result_of_other_code_is_returned_with_a_warning(run: reslab.Run, tmp_path: Path) -> None:
    old = tmp_path / run.directory.name
    shutil.copytree(run.directory, old)
    (old / "result.json").write_text(json.dumps({**run.result, "code": "0" * 16}), encoding="utf-8")
    sum_up(old)
    with pytest.warns(UserWarning, match="this result was made with different code"):
        assert reslab.train("cifar_plain", **SMALL, out=tmp_path).directory == old


def test_classes_that_only_the_network_has_are_named_by_their_numbers(tmp_path: Path) -> None:
    short = {**SMALL, "epochs": None, "settings": {"iterations": 1}}
    found = reslab.train("cifar_plain", **short, num_classes=12, out=tmp_path).errors_by_class()
    assert list(found.index) == [*map(str, range(12))] and list(found["images"][-2:]) == [0, 0]


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


def test_a_run_that_diverged_is_not_extended(tmp_path: Path) -> None:
    config = tiny_trial()
    run = Run(tmp_path, config)
    run.create()
    errors = dict.fromkeys(("train_error", "heldout_error", "test_error"), 1.0)
    run.finish({"status": "diverged", "reason": "of a test", "steps": 1, "seconds": 1.0, **errors})
    with refused(UnusableError, "diverged"):
        extended(tmp_path, config, 1)


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


def test_labels_that_take_turns_are_all_learned_and_held_out() -> None:
    source = torch.arange(200.0)[:, None], torch.arange(200) % 10
    parts = OwnData.of((source, source)).parts
    train, heldout = parts["train"][1], parts["heldout"][1]
    assert sorted([*train, *heldout]) == [*range(200)] and len(heldout) == 20
    assert len({place % 10 for place in train}) == 10 and len({place % 10 for place in heldout}) > 5
    assert OwnData.of((source, source)).parts["heldout"][1] == heldout
    assert OwnData.of((source, source, source)).training_images == 200


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


class Noisy(Dataset[Any]):
    """Forty images that are drawn anew whenever they are read."""

    read: list[int]

    def __init__(self) -> None:
        self.read = []

    def __len__(self) -> int:
        return 40

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        self.read.append(place)
        return digits()[0][place] + torch.randn(1, 8, 8), int(digits()[1][place])


def test_data_without_a_length_are_told_and_so_is_what_describes_no_file() -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([(torch.zeros(3), 0)] * 20)

    class Lengthless(Dataset[Any]):
        def __getitem__(self, place: int) -> Any:
            return torch.zeros(3), 0

    for data in (Endless(), Lengthless(), DataLoader(Endless())):
        with refused(WrongValueError, "__len__"):
            reslab.train(linear(), (data, digits(20)))
    with refused(MissingError, "--zero-pad"):
        reslab.train("resnet20", zero_pad="end")


def test_another_loss_or_data_is_another_run_and_so_is_a_frozen_layer(tmp_path: Path) -> None:
    def ran(network: nn.Module, **given: Any) -> str:
        run = reslab.train(network, (digits(40), digits(40)), epochs=1, out=tmp_path, **given)
        return run.directory.name

    frozen = linear()
    frozen[1].bias.requires_grad_(False)  # type: ignore[index]  # it is a Sequential
    losses = [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.9)]
    found = [ran(linear()), ran(frozen), *(ran(linear(), loss=loss) for loss in losses)]
    assert len(set(found)) == len(found) and ran(linear(), loss=nn.CrossEntropyLoss()) == found[2]


def test_a_loader_by_indices_gives_those_alone_and_others_are_refused(tmp_path: Path) -> None:
    images = Noisy()
    parts = [DataLoader(images, 10, sampler=SubsetRandomSampler(range(*ends))) for ends in ((0, 25), (25, 40))]
    run = reslab.train(linear(), (parts[0], parts[1]), epochs=1, out=tmp_path)
    assert run.result["steps"] == 2 and run.confusion().to_numpy().sum() == 15
    whole = DataLoader(images, batch_sampler=BatchSampler(RandomSampler(images), 20, drop_last=True))
    assert reslab.train(linear(), (whole, parts[1]), epochs=1, out=tmp_path).result["steps"] == 1
    for sampler, count in ((range(30, 40), 10), ([3, 4, 5], 3), (RandomSampler(range(12)), 12)):
        tested = DataLoader(images, 10, sampler=sampler)
        assert reslab.train(linear(), (whole, tested), epochs=1, out=tmp_path).confusion().to_numpy().sum() == count
    for loader in (
        DataLoader(images, 10, sampler=[3, 3, 4]),
        DataLoader(images, 10, sampler=WeightedRandomSampler([1.0] * 40, 40)),
        DataLoader(images, 10, sampler=RandomSampler(images, num_samples=20)),
        DataLoader(images, batch_sampler=[[0, 1], [2, 3]]),
    ):
        with refused(WrongValueError, "once an epoch"):
            reslab.train(linear(), (loader, parts[1]), epochs=1, out=tmp_path)


def test_a_run_that_is_stopped_while_it_is_evaluated_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = reslab.train(linear(), (Noisy(), Noisy()), epochs=2, out=tmp_path / "whole")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(loop.Trainer, "_outcome", stop)
        with pytest.raises(KeyboardInterrupt):
            reslab.train(linear(), (Noisy(), Noisy()), epochs=2, out=tmp_path / "stopped")
    resumed = reslab.train(linear(), (Noisy(), Noisy()), epochs=2, out=tmp_path / "stopped")
    for part in ("train", "heldout", "test"):
        assert resumed.result[f"{part}_error"] == whole.result[f"{part}_error"]


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have training write a checkpoint after every step, and end as by Ctrl-C at one."""
    iterate = loop.Trainer.iterate

    def stopped(self: loop.Trainer, index: torch.Tensor) -> None:
        if self.step == step:
            raise KeyboardInterrupt
        iterate(self, index)

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop.Trainer, "iterate", stopped)


class Counts(nn.Module):
    """A network whose output depends on what its forward leaves on it."""

    factor: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.fc, self.steps, self.seen, self.rate = nn.Linear(64, 10), 0, torch.zeros(1), np.float64(1.0)
        self.last: torch.Tensor | None = None
        self.register_buffer("factor", torch.ones(10), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps += 1
            self.rate = self.rate * 0.9
            self.seen.add_(x.mean())
            self.factor.mul_(0.9).add_(0.1 * x.square().mean())
            self.last = x.mean(0).flatten()
        bias = 0.0 if self.last is None else self.last.mean()
        return self.fc(x.flatten(1)) * self.factor * (1 + 1 / (1 + self.steps)) + self.seen * self.rate + bias


def test_what_a_forward_leaves_on_the_network_is_resumed_and_is_on_the_trained_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ran(where: str) -> reslab.Run:
        return reslab.train(Counts(), (digits(40), digits(40)), epochs=2, settings=settings, out=tmp_path / where)

    settings = {"batch_size": 10, "ema": 0.9}
    whole = ran("whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(5, patch)
        ran("stopped")
    resumed = ran("stopped")
    for ema in (False, True):
        one, other = whole.network(ema=ema), resumed.network(ema=ema)
        assert isinstance(one, Counts) and isinstance(other, Counts)
        assert one.steps == other.steps == (0 if ema else 6) and one.rate == other.rate
        with torch.no_grad():
            assert torch.equal(one(digits()[0]), other(digits()[0]))
        error = (one(digits(40)[0]).argmax(1) != digits(40)[1]).double().mean().item()
        assert error == pytest.approx((whole.result["ema"] if ema else whole.result)["test_error"])
    assert resumed.result["train_loss"] == whole.result["train_loss"] and ran("whole").result == whole.result


class Scaled(nn.Module):
    """The cross-entropy over its running mean, which it keeps."""

    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.ones(()))
        self.calls = 0

    def forward(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = nn.functional.cross_entropy(outputs, labels)
        self.seen.mul_(0.9).add_(0.1 * loss.detach())
        self.calls += 1
        return loss / self.seen * (1 + 1 / self.calls)


def test_what_an_own_loss_keeps_is_resumed_and_the_users_own_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ran(where: str) -> reslab.Run:
        data, settings = (digits(40), digits(40)), {"batch_size": 10}
        return reslab.train(linear(), data, loss=mine, epochs=2, settings=settings, out=tmp_path / where)

    mine = Scaled()
    whole = ran("whole")
    assert mine.seen == 1 and mine.calls == 0
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(5, patch)
        ran("stopped")
    assert ran("stopped").weights.read_bytes() == whole.weights.read_bytes()


def test_a_run_that_was_stopped_is_named_where_the_same_script_draws_other_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(seed: int) -> reslab.Run:
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        return reslab.train(network, (digits(40), digits(40)), epochs=2, settings={"batch_size": 10}, out=tmp_path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(5, patch)
        script(0)
    (stopped,) = (path.parent for path in tmp_path.glob("*/checkpoint.pt"))
    with pytest.warns(UserWarning, match=stopped.name):
        assert script(1).directory != stopped
    assert script(0).directory == stopped  # with no warning


def test_a_result_of_an_own_network_by_other_code_is_returned_with_a_warning(tmp_path: Path) -> None:
    def ran() -> reslab.Run:
        return reslab.train(linear(), (digits(40), digits(40)), epochs=1, out=tmp_path)

    old = ran()
    (old.directory / "result.json").write_text(json.dumps({**old.result, "code": "0" * 16}), encoding="utf-8")
    sum_up(old.directory)
    with pytest.warns(UserWarning, match="this result was made with different code"):
        assert ran().directory == old.directory


def test_weights_that_are_gone_are_told(tmp_path: Path) -> None:
    run = reslab.train(linear(), (digits(40), digits(40)), epochs=1, out=tmp_path)
    run.weights.unlink()
    with refused(MissingError, run.weights):
        run.network()


class Augmented(Dataset[Any]):
    """Images that draw from Python's and NumPy's random generators, as augmentation by other packages does."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        images, labels = digits(40)
        image = images[place].flip(-1) if random.random() < 0.5 else images[place]
        return image + float(np.random.rand()), int(labels[place])


def test_a_seed_determines_what_data_draw_from_other_generators(tmp_path: Path) -> None:
    before = random.getstate()
    runs = [reslab.train(linear(), (Augmented(), Augmented()), epochs=2, out=tmp_path / where) for where in "ab"]
    assert runs[0].weights.read_bytes() == runs[1].weights.read_bytes()
    assert random.getstate() == before


class Viewing(nn.Module):
    """A network that flattens its maps by `view`, which only one layout in memory allows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.fc = nn.Conv2d(1, 6, 3, padding=1), nn.Linear(6 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.conv(x).relu(), 2)
        return self.fc(x.view(x.size(0), -1))  # type: ignore[no-any-return]


def test_a_network_that_reads_its_maps_by_view_is_trained_and_evaluated(tmp_path: Path) -> None:
    run = reslab.train(Viewing(), (digits(40), digits(40)), epochs=1, out=tmp_path)
    found = [reslab.evaluate(run.network(), data=[digits(40)], loss=loss) for loss in (None, nn.CrossEntropyLoss())]
    assert found[0]["top1_error"] == found[1]["top1_error"] == run.result["test_error"]


def test_batches_without_an_end_are_refused(tmp_path: Path) -> None:
    def endless() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield torch.zeros(1).expand(1000, 3, 64, 64), torch.zeros(1000, dtype=torch.int64)

    with refused(WrongValueError, "1.1 GB"):
        reslab.train(linear(), (endless(), digits(40)), epochs=1, out=tmp_path)


class Volumes(nn.Module):
    """Filters of two and of three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.deep, self.fc = nn.Conv2d(1, 2, 3), nn.Conv3d(1, 2, 3), nn.Linear(2, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        volume = x.unsqueeze(2).expand(-1, -1, 3, -1, -1)
        return self.fc(self.flat(x).mean((2, 3)) + self.deep(volume).mean((2, 3, 4)))  # type: ignore[no-any-return]


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 10, dtype=torch.cfloat))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1).cfloat() @ self.weight).abs()


def called(change: Any) -> nn.Module:
    """Return a network with a changed layer, after a forward, which may store computed tensors."""
    network = linear()
    change(network.get_submodule("1"))
    network(digits(2)[0])
    return network


@pytest.mark.parametrize(
    "make",
    [
        lambda: called(lambda layer: prune.l1_unstructured(layer, "weight", 0.5)),
        lambda: called(nn.utils.spectral_norm),
        Volumes,
        Complex,
    ],
    ids=["pruned", "normalised", "volumes", "complex"],
)
@pytest.mark.filterwarnings("ignore:Casting complex values")
def test_any_network_is_trained(make: Any, tmp_path: Path) -> None:
    settings = {"ema": 0.9, "optimizer": "adamw"} if make is Complex else {"ema": 0.9}
    torch.manual_seed(1)
    images, labels = digits(40)
    run = reslab.train(make(), ((images, labels), (images, labels)), epochs=1, settings=settings, out=tmp_path)
    wrong = (run.network()(images).argmax(1) != labels).double().mean().item()
    assert run.result["test_error"] == pytest.approx(wrong)


def test_a_hook_of_a_parameter_is_on_the_copy_that_is_trained(tmp_path: Path) -> None:
    network = linear()
    network.get_parameter("1.weight").register_hook(lambda gradient: 0 * gradient)
    data, settings = (digits(40), digits(40)), {"weight_decay": 0.0}
    trained = reslab.train(network, data, epochs=1, settings=settings, out=tmp_path).network()
    same = [torch.equal(one, other) for one, other in zip(network.parameters(), trained.parameters(), strict=True)]
    assert same == [True, False]


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8])
def test_labels_may_be_any_integers(kind: torch.dtype, tmp_path: Path) -> None:
    images, labels = digits(40)
    runs = [
        reslab.train(linear(), ((images, each), (images, each)), epochs=1, out=tmp_path)
        for each in (labels, labels.to(kind))
    ]
    assert runs[0].result["train_loss"] == runs[1].result["train_loss"]
    assert runs[0].confusion().equals(runs[1].confusion())


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.b(self.a(x.flatten(1))))  # type: ignore[no-any-return]


def test_layers_that_share_weights_are_kept_and_averaged_once(tmp_path: Path) -> None:
    run = reslab.train(Tied(), (digits(40), digits(40)), epochs=1, settings={"ema": 0.9}, out=tmp_path)
    network = run.network()
    assert isinstance(network, Tied) and network.a.weight is network.b.weight
    loaded = Tied()
    reslab.load_weights(loaded, run.weights)
    assert torch.equal(loaded.b.weight, network.a.weight)
    one = Tied().requires_grad_(False)
    one.a.weight.zero_()
    average = Average(one, 0.9)
    one.a.weight.fill_(1.0)
    average.update(one, 1000)
    assert average.network.get_parameter("a.weight")[0, 0].item() == pytest.approx(0.1)


class Extra(nn.Linear):
    def get_extra_state(self) -> dict[str, int]:
        return {"of": 1}

    def set_extra_state(self, state: object) -> None:
        """Take nothing."""


class Learning(nn.Module):
    """A loss that has something to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(10))

    def forward(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs * self.scale, labels)


def test_a_length_that_is_none_leaves_the_other_one() -> None:
    for settings in ({"iterations": 2, "epochs": None}, {"epochs": None, "iterations": 2}):
        assert recipe_of("paper-cifar", "digits", None, settings).total_iterations(5) == 2
    assert recipe_of("paper-cifar", "digits", None, {"epochs": 2, "iterations": None}).total_iterations(5) == 10


def test_numbers_of_numpy_are_options_as_others_are() -> None:
    recipe, machine = recipe_of("fast", "digits", 1, {}), Machine()
    found = trial("cifar_resnet", "digits", recipe, 0, machine, {"depth": np.int64(8), "block": np.str_("basic")})
    assert (
        found.digest() == trial("cifar_resnet", "digits", recipe, 0, machine, {"depth": 8, "block": "basic"}).digest()
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"network": nn.Sequential(nn.Flatten(), Extra(64, 10))}, "1._extra_state"),
        ({"network": nn.Sequential(nn.Flatten(), nn.LazyLinear(10))}, "lazy"),
        ({"loss": Learning()}, "Learning"),
        ({"loss": nn.CrossEntropyLoss(), "settings": {"label_smoothing": 0.1}}, "label_smoothing"),
        ({"settings": {"cutout": 2}}, "cutout"),
        ({"settings": {"epochs": 3, "iterations": 2}, "epochs": None}, "epochs and iterations"),
        ({"settings": {"schedule": {"kind": "steps", "milestones": [30, 60]}}}, "less than 1"),
        ({"seed": -1}, "seed"),
        ({"data": ((digits(40)[0], digits(30)[1]), digits(40))}, "40 images and 30 labels"),
        ({"data": ([("no tensor", 1)] * 12, digits(40))}, "tensors of the same length"),
    ],
)
def test_what_would_do_nothing_or_fail_at_the_end_is_refused_before(
    given: dict[str, Any], told: str, tmp_path: Path
) -> None:
    settings = {"network": linear(), "data": (digits(40), digits(40)), "epochs": 1, **given}
    with refused(UserError, told):
        reslab.train(**settings, out=tmp_path)


def test_own_images_that_make_no_batch_are_told(tmp_path: Path) -> None:
    class Files(Dataset[Any]):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, place: int) -> tuple[Path, int]:
            return tmp_path, place % 2

    with refused(WrongValueError, "ToTensor"):
        reslab.train(linear(), (Files(), digits(40)), epochs=1, out=tmp_path)


def test_outputs_that_are_no_numbers_are_wrong_by_any_loss_and_classes_have_their_confusion(tmp_path: Path) -> None:
    class NoNumber(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.flatten(1)) * float("nan")  # type: ignore[no-any-return]

    data = [(digits()[0], torch.zeros(200, dtype=torch.long))]
    errors = [reslab.evaluate(NoNumber(), data=data, loss=loss)["top1_error"] for loss in (None, nn.CrossEntropyLoss())]
    assert errors == [1.0, 1.0]
    run = reslab.train(linear(), (digits(40), digits(40)), loss=nn.CrossEntropyLoss(), epochs=1, out=tmp_path)
    assert run.confusion().to_numpy().sum() == 40
    numbers = (digits(40)[0], torch.randn(40, 10))
    run = reslab.train(linear(), (numbers, numbers), loss=nn.MSELoss(), epochs=1, out=tmp_path)
    with refused(MissingError, "no confusion matrix"):
        run.errors_by_class()


@pytest.mark.parametrize(
    ("outputs", "classes", "loss"),
    [
        (1, 2, lambda o, y: nn.functional.binary_cross_entropy_with_logits(o[:, 0], y.float())),
        (1, 10, lambda o, y: nn.functional.mse_loss(o[:, 0], y.float())),
        (8, 10, lambda o, y: (o.square().sum(1) - y).abs().mean()),
    ],
    ids=["logit", "number", "embedding"],
)
def test_outputs_that_are_no_scores_of_the_classes_have_no_errors(
    outputs: int, classes: int, loss: Any, tmp_path: Path
) -> None:
    data = digits(40)[0], digits(40)[1] % classes
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))
    assert reslab.evaluate(network, data=[data], loss=loss)["top1_error"] is None
    run = reslab.train(network, (data, data), loss=loss, epochs=1, settings={"learning_rate": 1e-4}, out=tmp_path)
    assert run.result["train_error"] is run.result["test_error"] is None and run.result["status"] == "finished"
    with refused(MissingError, "no confusion matrix"):
        run.confusion()


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (torch.full((200,), -1), "label -1"),
        (torch.zeros(200), "float32 [200]"),
        (torch.zeros(200, 1, dtype=torch.long), "int64 [200, 1]"),
    ],
)
def test_labels_that_are_no_numbers_of_classes_are_told(labels: torch.Tensor, told: str) -> None:
    with refused(MismatchError, told):
        reslab.evaluate(linear(), data=[(digits()[0], labels)])
    assert reslab.evaluate(linear(), data=[(digits()[0], digits()[1].int())])["images"] == 200


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
    for unused in ({"view": "ten-crop"}, {"batchnorm": "true-average"}, {"zero_pad": "end"}, {"raw": True}):
        with refused(WrongValueError, next(iter(unused))):
            reslab.evaluate(linear(), data="digits", **unused)  # type: ignore[arg-type]  # each of its own type
    with refused(WrongValueError, "size"):
        reslab.evaluate(linear(), data=[(torch.zeros(2, 64), torch.zeros(2).long())], size=8)
    pooled = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    losses = {size: reslab.evaluate(pooled, data="digits", part="heldout", size=size)["loss"] for size in (None, 8, 16)}
    assert losses[None] == losses[8] != losses[16]
    with refused(MissingError):
        reslab.evaluate(linear(), data=[])
    with refused(WrongValueError, "picture"):
        reslab.evaluate(linear(), data=[{"picture": torch.zeros(2)}])


def test_another_code_of_a_factory_is_another_run(tmp_path: Path) -> None:
    """Also that of what it refers to; one that was planned before, without a digest, is read as it was."""
    file = tmp_path / "edited_net.py"

    def ran(activation: str, comment: str = "") -> reslab.Run:
        file.write_text(
            f"from torch import nn  # {comment}\n"
            "def body(features):\n"
            f"    return nn.Sequential(nn.Flatten(), nn.Linear(features, 8), nn.{activation}())\n"
            "def net(num_classes=10, in_channels=1):\n"
            "    return nn.Sequential(body(in_channels * 64), nn.Linear(8, num_classes))\n",
            encoding="utf-8",
        )
        return reslab.train(f"{file}:net", settings={"iterations": 2}, out=tmp_path)

    first, other = ran("ReLU"), ran("Tanh")
    assert other.directory != first.directory and other.metrics["loss"][0] != first.metrics["loss"][0]
    assert ran("ReLU", "as it was") == first
    older = {key: value for key, value in first.config.model_dump().items() if key != "factory"}
    assert TrialConfig(**older).model_dump() == older


def test_what_a_factory_gives_besides_a_network_is_told_where_it_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "given_net.py").write_text(
        "from torch import nn\n"
        "def net(num_classes=10, in_channels=1):\n"
        "    network = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 64, num_classes))\n"
        "    return {'network': network, 'loss': nn.MultiMarginLoss(), 'loader': []}\n",
        encoding="utf-8",
    )
    with pytest.warns(UserWarning, match="given_net.py:net gives: loader, loss;"):
        reslab.train(f"{tmp_path / 'given_net.py'}:net", settings={"iterations": 2}, out=tmp_path)


def test_tensors_of_a_batch_that_the_network_is_not_given_are_told_once() -> None:
    images, labels = digits()
    batch = {"input_ids": images, "attention_mask": images > 0, "index": torch.arange(200), "labels": labels}
    with pytest.warns(UserWarning, match="batches: attention_mask;") as told:
        assert reslab.evaluate(linear(), data=[batch, batch])["images"] == 400
    assert len(told) == 1


def test_a_run_of_a_factory_that_builds_a_network_of_the_lab_is_loaded_again(tmp_path: Path) -> None:
    file = tmp_path / "built_net.py"
    file.write_text(
        "import reslab\n\n\ndef net(num_classes, in_channels):\n"
        "    return reslab.build('cifar_resnet', depth=8, num_classes=num_classes, in_channels=in_channels)\n",
        encoding="utf-8",
    )
    run = reslab.train(f"{file}:net", settings={"iterations": 1}, out=tmp_path / "runs")
    network = reslab.build("cifar_resnet", depth=8, num_classes=10, in_channels=1)
    reslab.load_weights(network, run.directory / "weights.safetensors")
    for name, value in run.network().state_dict().items():
        assert torch.equal(value, network.state_dict()[name])


class Following(nn.Module):
    """A network beside which a copy follows by momentum, in its forward (He et al. 2020, Momentum Contrast)."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = linear(), linear().requires_grad_(False)
        self.updates = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            with torch.no_grad():
                self.updates.add_(1)
                for key, query in zip(self.key.parameters(), self.query.parameters(), strict=True):
                    key.mul_(0.9).add_(query, alpha=0.1)
        return self.query(x)  # type: ignore[no-any-return]  # modules return Any


def test_a_network_that_writes_into_its_parameters_does_so_once_a_step(tmp_path: Path) -> None:
    settings = {"batch_size": 10}
    run = reslab.train(Following(), (digits(40), digits(40)), epochs=2, settings=settings, out=tmp_path)
    assert run.result["steps"] == run.network().get_parameter("updates").item()


def test_a_loss_that_cannot_be_copied_is_used_itself(tmp_path: Path) -> None:
    class Locked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

        def forward(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            with self.lock:
                return nn.functional.cross_entropy(outputs, labels)

    assert reslab.train(linear(), (digits(40), digits(40)), loss=Locked(), epochs=1, out=tmp_path).result["steps"] == 1
