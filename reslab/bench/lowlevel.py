"""Level 2 against torchvision: resnet18, batch 32, 64×64, eager, float32; training step, inference, peak memory."""

from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torchvision.models import resnet18

from reslab.bench.timing import machine, side_by_side
from reslab.processes import answer_of, following_parent
from reslab.progress import Progress, silent
from reslab.pytorch_lowlevel import resnet_lowlevel as lowlevel

Steps = tuple[Callable[[], object], Callable[[], object]]

QUICK = {"batch": 2, "rounds": 1, "warmup": 0}


def torchvision_steps(images: torch.Tensor, labels: torch.Tensor) -> Steps:
    """Return torchvision's (training step, inference)."""
    network = resnet18()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def train() -> None:
        network.train()
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()

    @torch.inference_mode()
    def infer() -> None:
        network.eval()(images)

    return train, infer


def lowlevel_steps(images: torch.Tensor, labels: torch.Tensor) -> Steps:
    """Return Level 2's (training step, inference)."""
    params, stats = lowlevel.initialise(18, generator=torch.Generator().manual_seed(0))
    momenta: lowlevel.Tensors | None = None

    def train() -> None:
        nonlocal params, stats, momenta
        step = lowlevel.loss_and_gradients(params, stats, images, labels, need_g_images=False)
        stats = step.stats
        params, momenta = lowlevel.sgd_step(params, step.gradients, momenta, learning_rate=0.01)

    @torch.inference_mode()
    def infer() -> None:
        lowlevel.forward(params, stats, images)

    return train, infer


STEPS = {"torchvision": torchvision_steps, "lowlevel": lowlevel_steps}


def bench(*, batch: int = 32, rounds: int = 10, warmup: int = 2, progress: Progress = silent) -> dict[str, Any]:
    """Return the medians in milliseconds, the ratios (median, lowest, highest round) and the ratio of peak memory."""
    images, labels = torch.randn(batch, 3, 64, 64), torch.randint(1000, (batch,))
    steps = {name: make(images, labels) for name, make in STEPS.items()}
    result: dict[str, Any] = {"machine": machine(), "batch": batch, "rounds": rounds}
    for index, what in enumerate(("training step", "inference")):
        timings = side_by_side(
            {name: pair[index] for name, pair in steps.items()},
            rounds=rounds,
            warmup=warmup,
            progress=progress,
            what=what,
        )
        ours, theirs = timings["lowlevel"], timings["torchvision"]
        result[what] = {
            "lowlevel ms": 1e3 * ours.median,
            "torchvision ms": 1e3 * theirs.median,
            "ratio": ours.ratio(theirs),
        }
    peaks = {name: peak_memory(name, batch) for name in STEPS}
    ours_peak, theirs_peak = peaks["lowlevel"], peaks["torchvision"]
    result["peak memory"] = {f"{name} MB": peak for name, peak in peaks.items()}
    result["peak memory"]["ratio"] = ours_peak / theirs_peak if ours_peak and theirs_peak else None
    return result


def peak_memory(name: str, batch: int) -> float | None:
    """Return by how many MB three training steps raise a fresh process's peak resident memory; None without /proc."""
    peak: float | None = answer_of(_measure_peak, name, batch, label=f"lowlevel, memory of {name}")
    return peak


@following_parent
def _measure_peak(connection: Connection, name: str, batch: int) -> None:
    images, labels = torch.randn(batch, 3, 64, 64), torch.randint(1000, (batch,))
    before = _high_water_mark()
    train, _ = STEPS[name](images, labels)
    for _ in range(3):
        train()
    after = _high_water_mark()
    connection.send(None if before is None or after is None else (after - before) / 1024)


def _high_water_mark() -> int | None:
    """Return this process's largest resident memory so far, in kB; None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = status.read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
