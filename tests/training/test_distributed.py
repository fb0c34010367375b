"""Several processes: the weights of one that accumulates the shares, death of one, and going on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import refused, reslab, tiny_trial
from safetensors.torch import load_file

from reslab.data import load_data
from reslab.errors import FailedError, MismatchError, UnusableError
from reslab.executors import run_trial
from reslab.networks.zoo import build
from reslab.runs import Run
from reslab.training import devices
from reslab.training.loop import TrialConfig, generator


def shared_trial(**recipe: object) -> TrialConfig:
    return tiny_trial(**recipe).model_copy(update={"devices": 2})  # type: ignore[arg-type]  # settings of the recipe


def accumulated(config: TrialConfig) -> dict[str, torch.Tensor]:
    """Train in this process alone: the gradients of both halves of each batch, each normalised by itself, averaged."""
    recipe, data = config.recipe, load_data(config.data)
    torch.manual_seed(config.seed)
    network = build(config.model, num_classes=10, in_channels=1, **config.options).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=1, momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=recipe.weight_decay
    )
    steps_per_epoch = len(data.labels) // recipe.batch_size
    total = recipe.total_iterations(steps_per_epoch)
    for step in range(total):
        epoch, position = divmod(step, steps_per_epoch)
        order = torch.randperm(len(data.labels), generator=generator(config.seed, "order", epoch))
        optimizer.param_groups[0]["lr"] = recipe.rate(step, total)
        optimizer.zero_grad()
        halves = order[position * recipe.batch_size :][: recipe.batch_size].chunk(config.devices)
        statistics: dict[str, torch.Tensor] = {}
        for rank, half in enumerate(halves):
            images, labels = data.training_batch(half, None)
            (F.cross_entropy(network(images), labels) / config.devices).backward()
            if rank == 0:  # the running statistics that are kept are process 0's
                statistics = {name: buffer.clone() for name, buffer in network.named_buffers()}
        optimizer.step()
        network.load_state_dict(statistics, strict=False)
    return network.state_dict()


@pytest.mark.usefixtures("_forked_workers")
def test_two_processes_take_the_step_of_one_that_accumulates_both_halves(tmp_path: Path) -> None:
    config = shared_trial(augment=False, epochs=1)
    result = run_trial(config, tmp_path)
    run = Run(tmp_path, config)
    with devices.threads(config.threads):  # as the processes of the trial
        expected = accumulated(config)
    for name, tensor in load_file(run.weights).items():
        torch.testing.assert_close(
            tensor, expected[name], rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert result["status"] == "finished" and result["steps"] == 1307 // 256
    assert [line["epoch"] for line in run.metrics()] == [1]


@pytest.mark.slow  # starts five interpreters: 45 s
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_when_one_process_is_killed_the_others_end_with_an_error_and_the_run_goes_on(tmp_path: Path) -> None:
    words = (
        "train",
        "cifar_resnet",
        "--depth",
        "8",
        "--epochs",
        "15",
        "--devices",
        "2",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "runs"),
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "reslab", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    deadline = time.monotonic() + 100
    while (
        not any(path.stat().st_size for path in tmp_path.glob("runs/*/metrics.jsonl")) and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2 and "Traceback" not in error and "process" in error.splitlines()[-1]
    assert not list(tmp_path.glob("runs/*/result.json"))
    done = reslab(*words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["status"] == "finished"


def children(parent: int) -> list[int]:
    """Return the training processes of a parent: its children that hold a network's share, and not Python's resource
    tracker.
    """
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text(encoding="utf-8").rpartition(")")[2].split()
            command = (status.parent / "cmdline").read_text(encoding="utf-8")
        except OSError:  # it has ended
            continue
        if int(fields[1]) == parent and "resource_tracker" not in command:
            found.append(int(status.parent.name))
    return sorted(found)


@pytest.mark.slow  # starts two interpreters and a launcher: 20 s
def test_torchrun_starts_the_processes_too_and_gives_the_same_weights(tmp_path: Path) -> None:
    words = (
        "train",
        "cifar_resnet",
        "--depth",
        "8",
        "--epochs",
        "1",
        "--devices",
        "2",
        "--device",
        "cpu",
        "--precision",
        "32",
    )
    here = reslab(*words, "--out", tmp_path / "here")
    assert here.returncode == 0, here.stderr
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "reslab"]
    there = subprocess.run(
        [*launcher, *words, "--out", str(tmp_path / "there")], capture_output=True, text=True, encoding="utf-8"
    )
    assert there.returncode == 0, there.stderr
    assert there.stdout.count("finished after") == 1  # process 0 alone speaks
    (ours,), (theirs,) = (list(tmp_path.glob(f"{where}/*/weights.safetensors")) for where in ("here", "there"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_what_cannot_be_shared_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with refused(MismatchError, "--devices says 2", "--devices 4"):
        run_trial(shared_trial(), tmp_path)


def test_only_torchrun_has_processes_that_do_not_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")  # of a system that starts jobs
    assert devices.is_main_process()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert not devices.is_main_process()


def test_precision_and_device_are_checked_and_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(UnusableError, "--precision 16"):
        devices.check("cpu", "16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused(UnusableError, "--device cuda"):
        devices.check("cuda", "32")
    for bf16, expected in (
        (True, ("bf16", "this CPU multiplies bfloat16")),
        (False, ("32", "this CPU would only emulate bfloat16")),
    ):
        monkeypatch.setattr(devices, "has_bf16", lambda bf16=bf16: bf16)
        chosen = devices.best_precision("cpu")
        assert (chosen.value, chosen.why.english) == expected
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert devices.best_precision("cuda").value == "16"


FRAMES = """

-- Process 0 terminated with the following error:
Traceback (most recent call last):
  File "a.py", line 1, in a
    raise KeyError
KeyError

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 2, in b
    fit(network)
    ^^^^^^^^^^^^
"""


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ("reslab.errors.MismatchError: a batch of 64 cannot be split", "a batch of 64 cannot be split"),
        (
            "torch.AcceleratorError: CUDA error: out of memory\nFor debugging\n  see this",
            "torch.AcceleratorError: CUDA error: out of memory",
        ),
        ("KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_what_went_wrong_in_a_process_is_told(monkeypatch: pytest.MonkeyPatch, last: str, told: str) -> None:
    class Fails:
        def launch(self, *_: object) -> None:
            raise torch.multiprocessing.ProcessRaisedException(f"{FRAMES}{last}\n", 0, 1)  # type: ignore[attr-defined]

    monkeypatch.setattr(devices, "_fabric", lambda *_, **__: Fails())
    with pytest.raises(FailedError) as error:
        devices.launch(tiny_trial().model_copy(update={"devices": 2}), lambda fabric: None)
    assert str(error.value) == told


def test_cudnns_choice_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (False, True):
        monkeypatch.setattr(torch.backends.cudnn, "deterministic", before)
        with devices.deterministic(torch.device("cuda")):
            assert torch.backends.cudnn.deterministic
        assert torch.backends.cudnn.deterministic is before
        with devices.deterministic(torch.device("cpu")):
            assert torch.backends.cudnn.deterministic is before
