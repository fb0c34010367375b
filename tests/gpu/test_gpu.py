"""What is promised on the CPU, on a GPU: `pytest -m gpu`, in some minutes; skipped where there is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_trial
from pandas.testing import assert_frame_equal
from safetensors.torch import load_file
from torch import Tensor, nn

from reslab import bench as benches
from reslab.analysis.jacobian import jacobian
from reslab.analysis.paths import path_spectrum
from reslab.analysis.removal import remove_each
from reslab.data import load_data
from reslab.executors import run_trial
from reslab.networks import zoo
from reslab.residual import view
from reslab.runs import Run
from reslab.speedrun import race
from reslab.speedrun.sprint import Batches, Pixels, SprintConfig
from reslab.training import loop
from reslab.training.devices import Precision, fabric_here, native_precision
from reslab.training.loop import Trainer, TrialConfig

DEVICE = "cuda"

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]

NETWORKS = ["resnet20", "preresnet20", "resnet50", "cifar_densenet", "torchvision/resnet18", "regnet_y_400mf"]


def network_and_images(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network of this name with running statistics of its own, images and labels, on the CPU."""
    torch.manual_seed(0)
    network = zoo.build(name).train()
    with torch.no_grad():
        network(torch.randn(8, 3, 64, 64))
    return network.to(dtype).eval(), torch.randn(4, 3, 32, 32, dtype=dtype), torch.randint(10, (4,))


def moved(network: nn.Module, *tensors: Tensor) -> tuple[Any, ...]:
    return network.to(DEVICE), *(tensor.to(DEVICE) for tensor in tensors)


# --- Analyses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_view_is_the_network_bit_for_bit(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    network, images = moved(*network_and_images(name, dtype)[:2])
    gated = view(network, images[:2])
    with torch.no_grad():
        assert torch.equal(gated(images), network(images))
        gates = torch.ones(len(gated), device=DEVICE)
        assert torch.equal(gated(images, gates), network(images))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["resnet20", "preresnet20", "torchvision/resnet18"])
def test_analyses_are_those_of_the_cpu(name: str, dtype: torch.dtype) -> None:
    here = network_and_images(name, dtype)
    expected = path_spectrum(*here)
    errors = remove_each(*here)
    network, images, labels = moved(*here)
    found = path_spectrum(network, images, labels)
    assert torch.allclose(found.norm.cpu(), expected.norm, rtol=1e-8 if dtype == torch.float64 else 1e-3)
    assert torch.equal(remove_each(network, images, labels).without.cpu(), errors.without)


def test_jacobians_are_those_of_the_cpu() -> None:
    network, images, _ = network_and_images("preresnet20")
    small, blocks = images[:1, :, :8, :8], ["layer1.0", "layer3.2"]
    expected = jacobian(network, small, blocks).to_frame()
    found = jacobian(*moved(network, small), blocks).to_frame()
    assert_frame_equal(found, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["train", "lesion"])
def test_a_benchmark_runs_there(name: str) -> None:
    module = benches.find(name)
    figures = module.bench(**module.QUICK, device=DEVICE)
    assert figures["machine"]["device"] == race.device_name(torch.device(DEVICE))


# --- Training ---------------------------------------------------------------------------------------------------------


class StoppedError(Exception):
    pass


def trial(precision: Precision, epochs: int = 3, **recipe: float) -> TrialConfig:
    return tiny_trial(epochs=epochs, **recipe).model_copy(update={"device": DEVICE, "precision": precision})


@pytest.mark.parametrize(
    ("precision", "recipe"), [("32", {}), ("bf16", {}), ("16", {}), ("16", {"clip_norm": 5.0})], ids=str
)
def test_an_interrupted_run_ends_with_the_same_bits(
    precision: Precision, recipe: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float16 with the state of the loss's scaler."""
    if precision == "bf16" and native_precision("cuda").value != "bf16":
        pytest.skip("this GPU does not multiply bfloat16")
    config = trial(precision, **recipe)
    whole = run_trial(config, tmp_path / "whole")
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    iterate = Trainer.iterate

    def until_7(self: Trainer, index: Tensor) -> None:
        if self.step == 7:
            raise StoppedError
        iterate(self, index)

    monkeypatch.setattr(Trainer, "iterate", until_7)
    with pytest.raises(StoppedError):
        run_trial(config, tmp_path / "broken")
    went_on: list[int] = []

    def noting(self: Trainer, index: Tensor) -> None:
        went_on.append(self.step)
        iterate(self, index)

    monkeypatch.setattr(Trainer, "iterate", noting)
    resumed = run_trial(config, tmp_path / "broken")
    assert went_on[0] == 7
    weights = [load_file(Run(tmp_path / place, config).weights) for place in ("whole", "broken")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert resumed["train_error"] == whole["train_error"] < 0.5  # where nine in ten is chance


def test_a_first_step_that_overflows_float16_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And with it the momentum that it would have begun."""
    device, _, *rest = torch.amp.GradScaler.__init__.__defaults__ or ()
    monkeypatch.setattr(torch.amp.GradScaler.__init__, "__defaults__", (device, 2.0**20, *rest))
    update, scales = torch.amp.GradScaler.update, list[float]()

    def noting(self: torch.amp.GradScaler, *given: Any) -> None:
        update(self, *given)
        scales.append(self.get_scale())

    monkeypatch.setattr(torch.amp.GradScaler, "update", noting)
    result = run_trial(trial("16", epochs=6), tmp_path)
    assert result["status"] == "finished" and result["train_error"] < 0.5
    assert scales[0] < 2.0**20  # it was too large for the first step


def test_a_step_is_that_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step in float32, up to the order of sums; training uses TF32 in convolutions, which is left out here."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    found = []
    for device in ("cpu", DEVICE):
        config = tiny_trial(epochs=None, iterations=1, augment=False).model_copy(update={"device": device})
        run_trial(config, tmp_path / device)
        found.append(load_file(Run(tmp_path / device, config).weights))
    for name, tensor in found[0].items():
        assert torch.allclose(tensor.float(), found[1][name].float(), rtol=1e-3, atol=1e-4), name


@contextmanager
def without_waiting() -> Iterator[None]:
    """Raise if the host waits for the GPU."""
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


EVERYTHING = {"mixup": 0.2, "cutmix": 1.0, "ema": 0.99, "clip_norm": 1.0, "cutout": 4, "accumulate": 2}


RECIPES = {"fast": {}, "everything": EVERYTHING, "adamw": {"optimizer": "adamw"}, "muon": {"optimizer": "muon"}}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_host_waits_for_no_step(recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for float16, whose scaler looks for infinite gradients."""
    config = tiny_trial(epochs=1, **recipe).model_copy(update={"device": DEVICE})
    iterate, taken = Trainer.iterate, []

    def watched(self: Trainer, index: Tensor) -> None:
        if not taken:  # the first step makes the optimiser's state
            iterate(self, index)
        else:
            with without_waiting():
                iterate(self, index)
        taken.append(self.step)

    monkeypatch.setattr(Trainer, "iterate", watched)
    assert run_trial(config, tmp_path)["status"] == "finished" and len(taken) > 1


def test_the_host_waits_for_no_batch_that_is_scaled_and_cropped() -> None:
    data = load_data("digits").to(torch.device(DEVICE)).scale_cropped((9, 12), 8, 0.1)
    index, drawn = torch.arange(16), torch.Generator().manual_seed(0)
    data.training_batch(index, drawn)  # the first sends mean and deviation
    with without_waiting():
        images, labels = data.training_batch(index, drawn)
    assert images.shape == (16, 1, 8, 8) and labels.device.type == DEVICE


def pixels(count: int = 640) -> Pixels:
    drawn = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 32, 32), generator=drawn, dtype=torch.uint8)
    labels, mean = torch.randint(10, (count,), generator=drawn), torch.full((3, 1, 1), 128.0)
    return Pixels(*(tensor.to(DEVICE) for tensor in (images, labels, mean, mean / 2)))


@pytest.mark.parametrize("contender", list(race.CONTENDERS))
def test_the_host_waits_for_no_step_of_a_sprint(contender: str) -> None:
    batches = Batches(pixels(), 64, shift=1, flip=True, seed=0)  # large enough to be small at first
    steps: list[int] = []

    def report(step: int, *_: object) -> None:
        steps.append(step)
        torch.cuda.set_sync_debug_mode("error")  # from the first step on

    try:
        place = SprintConfig(
            contender=contender, data="digits", part="test", epochs=1, seed=0, threads=1, device=DEVICE, precision="32"
        )
        race.CONTENDERS[contender].train(batches, 10, fabric_here(place), 1, report)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(steps) > 1


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_processes_train_as_one_network(tmp_path: Path) -> None:
    result = run_trial(trial("32").model_copy(update={"devices": 2}), tmp_path)
    assert result["status"] == "finished" and result["train_error"] < 0.5


@pytest.mark.parametrize("contender", list(race.CONTENDERS))
def test_the_speedruns_contenders_learn(contender: str, tmp_path: Path) -> None:
    precision: Any = "32" if native_precision("cuda").value == "16" else native_precision("cuda").value
    config = SprintConfig(
        contender=contender, data="digits", part="test", epochs=2, seed=0, threads=1, device=DEVICE, precision=precision
    )
    place = Run(tmp_path, config)
    place.create()
    result = race.sprint(config, place)
    assert result["status"] == "finished" and result["accuracy"] > 0.7
    assert result["machine"]["device"] == race.device_name(torch.device(DEVICE))
