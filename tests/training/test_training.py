"""The loop: it learns, it resumes bit for bit, it records divergence."""

from pathlib import Path

import pytest
import torch
from helpers import timeless, tiny_trial
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import nn

from reslab.data import load_data
from reslab.errors import DamagedError
from reslab.executors import build_network, run_trial
from reslab.runs import Run
from reslab.training import loop
from reslab.training.evaluation import evaluate
from reslab.training.loop import Trainer, generator
from reslab.training.recipes import Steps


def test_a_short_run_learns_and_leaves_a_full_record(tmp_path: Path) -> None:
    config = tiny_trial(epochs=6)
    result = run_trial(config, tmp_path)
    assert result["status"] == "finished" and result["steps"] == 6 * (1307 // 256)
    assert result["train_error"] < 0.3
    assert result["processor"] and result["capability"] == torch.backends.cpu.get_cpu_capability()
    run = Run(tmp_path, config)
    lines = list(run.metrics())
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert not run.checkpoint.exists()
    network, data = build_network(config, load_data("digits"), weights=run.weights).eval(), load_data("digits")
    wrong = run.wrong()
    assert wrong.keys() == {"heldout", "test"}
    for part, marks in wrong.items():
        scores = torch.cat([network(images) for images, _ in data.batches(part)])
        labels = torch.cat([labels for _, labels in data.batches(part)])
        assert marks.sum() / len(marks) == result[f"{part}_error"] > 0
        assert marks.tolist() == (scores.argmax(1) != labels).tolist()


def test_errors_are_measured_in_float32_whatever_the_precision_of_training(tmp_path: Path) -> None:
    config = tiny_trial().model_copy(update={"precision": "bf16"})  # emulated where the processor has no bf16
    result, data = run_trial(config, tmp_path), load_data("digits")
    network = build_network(config, data, weights=Run(tmp_path, config).weights)
    assert result["train_loss"] == pytest.approx(evaluate(network, data.batches("train"))["loss"], rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert result["train_loss"] != pytest.approx(evaluate(network, data.batches("train"))["loss"], rel=1e-5)


def test_the_optimiser_takes_the_schedules_rate(tmp_path: Path) -> None:
    config = tiny_trial()
    run = Run(tmp_path, config)
    run.create()
    data = load_data("digits")
    trainer = Trainer(Fabric(devices=1), nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), data, config, run)
    for step in range(3):
        trainer.iterate(torch.arange(8))
        assert trainer.optimizer.param_groups[0]["lr"] == config.recipe.rate(step, trainer.total_steps)


class KilledError(Exception):
    pass


def test_the_scale_of_float16_is_kept_with_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none without a GPU, so one is pretended."""
    precision, given = "lightning_fabric.plugins.precision.Precision", []
    monkeypatch.setattr(f"{precision}.state_dict", lambda _: {"scale": 512.0})
    monkeypatch.setattr(f"{precision}.load_state_dict", lambda _, state: given.append(state))
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    iterate = Trainer.iterate

    def killed(self: Trainer, index: torch.Tensor) -> None:
        if self.step:
            raise KilledError
        iterate(self, index)

    monkeypatch.setattr(Trainer, "iterate", killed)
    with pytest.raises(KilledError):
        run_trial(tiny_trial(), tmp_path)
    assert given == []
    with pytest.raises(KilledError):
        run_trial(tiny_trial(), tmp_path)
    assert given == [{"scale": 512.0}]


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that nothing interrupted."""
    root = tmp_path_factory.mktemp("whole")
    for augment in (True, False):
        run_trial(tiny_trial(augment=augment), root)
    return root


@pytest.mark.parametrize(
    ("augment", "after"),
    [
        (True, 1),
        (False, 4),
        (True, 7),
        *(
            pytest.param(augment, after, marks=pytest.mark.slow)
            for augment, after in ((False, 1), (True, 4), (False, 7))
        ),
    ],
)
def test_an_interrupted_run_ends_with_the_same_weights_bit_for_bit(
    whole_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: bool, after: int
) -> None:
    config = tiny_trial(augment=augment)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)  # a checkpoint after every step
    iterate = Trainer.iterate
    steps = 0

    def killed_after(self: Trainer, index: torch.Tensor) -> None:
        nonlocal steps
        iterate(self, index)
        steps += 1
        if steps == after:
            raise KilledError

    monkeypatch.setattr(Trainer, "iterate", killed_after)
    with pytest.raises(KilledError):
        run_trial(config, tmp_path / "broken")
    monkeypatch.setattr(Trainer, "iterate", iterate)
    torch.manual_seed(99)  # the state of the process must not matter
    resumed = run_trial(config, tmp_path / "broken")
    whole = Run(whole_runs, config)
    broken = Run(tmp_path / "broken", config)
    for name, tensor in load_file(whole.weights).items():
        assert torch.equal(tensor, load_file(broken.weights)[name]), name
    assert timeless(resumed) == timeless(whole.result())
    assert [timeless(line) for line in broken.metrics()] == [timeless(line) for line in whole.metrics()]
    assert (broken.path / "wrong.json").read_bytes() == (whole.path / "wrong.json").read_bytes()


def test_dropout_too_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    config = tiny_trial()
    data = load_data("digits")

    def network() -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))

    def trainer(where: str) -> Trainer:
        run = Run(tmp_path / where, config)
        run.create()
        return Trainer(Fabric(devices=1), network(), data, config, run)

    whole = trainer("whole")
    whole.fit()
    first = trainer("broken")
    for start in range(0, 6 * 8, 8):
        first.iterate(torch.arange(start, start + 8))
    first.save()
    uninterrupted = {name: tensor.clone() for name, tensor in _finish(first).items()}
    assert all(torch.equal(tensor, uninterrupted[name]) for name, tensor in _finish(trainer("broken")).items())


def _finish(trainer: Trainer) -> dict[str, torch.Tensor]:
    trainer.fit()
    return trainer.network.state_dict()


def test_divergence_is_a_result_not_a_crash(tmp_path: Path) -> None:
    config = tiny_trial(learning_rate=1e30)
    result = run_trial(config, tmp_path)
    assert result["status"] == "diverged" and result["reason"] == "the mean loss of epoch 1 was not finite"
    assert result["train_error"] == result["test_error"] == 1.0  # a network that answers NaN is wrong
    assert result["train_loss"] is None
    assert all(marks.all() for marks in Run(tmp_path, config).wrong().values())


def test_generators_depend_on_all_three_words() -> None:
    draws = {
        tuple(torch.rand(3, generator=generator(*words)).tolist())
        for words in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    }
    assert len(draws) == 4


def test_snapshots_are_the_weights_on_the_way_and_part_of_the_run(tmp_path: Path) -> None:
    constant = Steps(milestones=())
    config = tiny_trial(model="cifar_plain", epochs=None, iterations=2, schedule=constant)
    looked_at = config.model_copy(update={"snapshots": (1,)})
    assert "snapshots" not in config.canonical_json() and looked_at.digest() != config.digest()
    shorter = tiny_trial(model="cifar_plain", epochs=None, iterations=1, schedule=constant)
    for trial in (looked_at, shorter):
        run_trial(trial, tmp_path)
    run = Run(tmp_path, looked_at)
    kept, ended = load_file(run.snapshot(1)), load_file(Run(tmp_path, shorter).weights)
    assert all(torch.equal(kept[name], ended[name]) for name in ended)
    run.snapshot(1).write_bytes(b"other")
    with pytest.raises(DamagedError):
        run.result()
