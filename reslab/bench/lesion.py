"""The removal of every block of resnet110 and its path spectrum against the naive versions: ratios of time and
differences of errors; and the cost of each measure of a block's worth, in passes and memory.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reslab.analysis.alike import alike
from reslab.analysis.direction import direction
from reslab.analysis.lens import lens
from reslab.analysis.lesions import lesions
from reslab.analysis.paths import path_spectrum
from reslab.analysis.probe import probe
from reslab.analysis.pruning import prune
from reslab.analysis.removal import remove_each
from reslab.analysis.shapley import shapley
from reslab.analysis.split import split
from reslab.bench.memory import peak_of
from reslab.bench.timing import machine, side_by_side
from reslab.gates.making import view
from reslab.gates.view import View
from reslab.networks import zoo
from reslab.progress import Progress, each, silent
from reslab.state import whole_float32
from reslab.training.devices import Device, check, native_precision

QUICK = {"model": "resnet20", "images": 8, "batch": 4, "rounds": 1, "warmup": 0}


@whole_float32()
@torch.inference_mode()
def plain_loop(gated: View, images: Tensor, labels: Tensor) -> list[float]:
    """Return the error without each block in the naive way: eager float32, one full evaluation per block."""
    n = len(gated)
    errors = []
    for removed in range(n):
        gates = torch.ones(n, device=images.device)
        gates[removed] = 0
        wrong = 0
        for x, y in zip(images.split(250), labels.split(250), strict=True):
            live: Any = gated.stem(x)
            for index in range(n):
                live = gated.block(index, live, gates if index == removed else None)
            wrong += int((gated.head(live).argmax(1) != y).sum())
        errors.append(wrong / len(labels))
    return errors


def bench(
    *,
    model: str = "resnet110",
    images: int = 100,
    batch: int = 32,
    rounds: int = 5,
    warmup: int = 0,
    device: Device = "cpu",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Return the speed-ups of the sweep, ratios as the median, the lowest and the highest round.

    These are its speed-up in float32 and bf16 (left out where the device would only emulate it), the largest
    difference of any error rate in points, the time of each measure of a block's worth over that of one forward pass
    and the most memory that its tensors take, and the time of the path spectrum over that of one backward pass.

    The network is untrained except for its BatchNorm statistics; the labels are its own answers, so that every error
    rate starts at 0.

    Raises:
        UserError: if there is no such device.
    """
    check(device, "32")
    torch.manual_seed(0)
    x = torch.randn(images, 3, 32, 32).to(device)
    network = zoo.build(model).train().to(device)
    warmup = warmup if device == "cpu" else max(warmup, 1)  # in which a GPU's kernels are loaded
    about: dict[str, Any] = {"machine": machine(device), "model": model, "images": images, "rounds": rounds}
    return about | _measured(network, x, device, batch, rounds, warmup, progress)


@whole_float32()  # what is compared with the analyses, too
def _measured(
    network: nn.Module, x: Tensor, device: Device, batch: int, rounds: int, warmup: int, progress: Progress
) -> dict[str, Any]:
    with torch.no_grad():
        for _ in range(10):
            network(x)
        labels = network.eval()(x).argmax(1)
    gated = view(network, x[:2])
    found: dict[str, list[float]] = {}
    sweeps: dict[str, Callable[[], None]] = {
        "plain": lambda: found.update(plain=plain_loop(gated, x, labels)),
        "32": lambda: found.update({"32": remove_each(gated, x, labels).without.tolist()}),
    }
    if native_precision(device).value == "bf16":
        sweeps["bf16"] = lambda: found.update(bf16=remove_each(gated, x, labels, precision="bf16").without.tolist())
    timings = side_by_side(sweeps, rounds=rounds, warmup=warmup, progress=progress, what="removing blocks")
    result: dict[str, Any] = {}
    for precision in found.keys() - {"plain"}:
        points = max(abs(a - b) for a, b in zip(found["plain"], found[precision], strict=True)) * 100
        result[f"removal of each block, {precision}"] = {
            "seconds": timings[precision].median,
            "plain loop s": timings["plain"].median,
            "times faster": timings["plain"].ratio(timings[precision]),
            "largest difference in points": points,
        }
    small, few = x[:batch], labels[:batch]
    result |= _worth(gated, small, few, rounds, warmup, progress)
    loss = F.cross_entropy(network(small), few)

    def backward() -> None:
        loss.backward(retain_graph=True)

    both: dict[str, Callable[[], object]] = {"spectrum": lambda: path_spectrum(gated, small, few), "backward": backward}
    passes = side_by_side(both, rounds=rounds, warmup=warmup, progress=progress, what="path spectrum")
    result["path spectrum"] = {
        "seconds": passes["spectrum"].median,
        "backward s": passes["backward"].median,
        "backward passes": passes["spectrum"].ratio(passes["backward"]),
    }
    return result


def _worth(gated: View, x: Tensor, labels: Tensor, rounds: int, warmup: int, progress: Progress) -> dict[str, Any]:
    """Return each measure's time in forward passes of the plain network, and its memory in MB (10^6 bytes)."""

    def forward() -> None:
        with torch.inference_mode():
            gated.network(x)

    measures: dict[str, Callable[[], object]] = {
        "lesions by zero, mean and another image": lambda: lesions(gated, x, labels),
        "one permutation for Shapley values": lambda: shapley(gated, x, labels, permutations=1),
        "one step of pruning": lambda: prune(gated, x, labels, steps=1),
        "lens": lambda: lens(gated, x, labels),
        "split, two classes": lambda: split(gated, x, classes=[0, 1]),
        "direction": lambda: direction(gated, x, labels),
        "CKA": lambda: alike(gated, torch.cat([x, x])),
        "probe": lambda: probe(gated, x, labels),
    }
    timings = side_by_side(
        {"forward": forward, **measures}, rounds=rounds, warmup=warmup, progress=progress, what="worth of blocks"
    )
    there = [x, labels, *gated.network.state_dict().values()]
    found: dict[str, Any] = {"forward": {"seconds": timings["forward"].median, "MB": peak_of(forward, there) / 1e6}}
    for name, measure in each(measures.items(), "memory", progress):
        found[name] = {"passes": timings[name].ratio(timings["forward"]), "MB": peak_of(measure, there) / 1e6}
    return found
