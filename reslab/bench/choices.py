"""What this machine does fastest, for `reslab doctor --speed`: a training step of resnet20 on 128 images of 32×32.

Variants take turns in one process, but for what becomes of freed memory: it cannot be given back once it is kept, so
processes of either kind take turns.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch
import torch.nn.functional as F

from reslab.bench.timing import Timing, side_by_side
from reslab.networks import zoo
from reslab.processes import answer_of, following_parent
from reslab.progress import Progress, each, silent
from reslab.training.devices import Device, Precision, keep_freed_memory, native_precision, threads

BATCH = 128
_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16}


class Choices(NamedTuple):
    """Timings of a training step: by precision; in float32 by layout and by number of threads; and seconds with freed
    memory kept or given back, for each process.
    """

    precision: dict[str, Timing]
    layout: dict[str, Timing]
    threads: dict[str, Timing]
    freed_memory: dict[str, list[float]]

    def seconds(self) -> dict[str, float]:
        """Return the median seconds of a step in each precision."""
        return {name: timing.median for name, timing in self.precision.items()}


def measure(
    device: Device, *, batch: int = BATCH, rounds: int = 3, processes: int = 2, progress: Progress = silent
) -> Choices:
    """Return the timings of a training step on a device: of the precisions that it has natively, and on a CPU of the
    rest.
    """
    half = native_precision(device).value
    steps: dict[str, Callable[[], object]] = {"32": step(device, "32", batch)}
    steps[half] = step(device, half, batch)
    if device != "cpu":
        timed = side_by_side(steps, rounds=rounds, warmup=2, progress=progress, what="training steps")
        return Choices(timed, {}, {}, {})
    count = torch.get_num_threads()
    others: dict[str, Callable[[], object]] = {"contiguous": step(device, "32", batch, channels_last=False)}
    if count > 1:
        others["1"] = _with_threads(1, step(device, "32", batch))
    timed = side_by_side(steps | others, rounds=rounds, warmup=1, progress=progress, what="training steps")
    freed: dict[str, list[float]] = {"kept": [], "given back": []}
    for number in each(range(2 * processes), "processes", progress):
        name = list(freed)[number % 2]
        freed[name].append(_in_a_process(name == "kept", half, batch, rounds))
    return Choices(
        {name: timed[name] for name in steps},
        {"channels last": timed["32"], "contiguous": timed["contiguous"]},
        {str(count): timed["32"], **{name: timed[name] for name in others.keys() & {"1"}}},
        freed,
    )


def step(device: Device, precision: Precision, batch: int, *, channels_last: bool = True) -> Callable[[], None]:
    """Return a training step on random images, with plain SGD and without the lab's loop."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = zoo.build("resnet20").train().to(device).to(memory_format=layout)
        images = torch.randn(batch, 3, 32, 32).to(device, memory_format=layout)
        labels = torch.randint(10, (batch,)).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def take() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, _DTYPES[precision]) if precision in _DTYPES else nullcontext():
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # which waits for the device

    return take


def _with_threads(count: int, take: Callable[[], None]) -> Callable[[], None]:
    def alone() -> None:
        with threads(count):
            take()

    return alone


def _in_a_process(keep: bool, precision: Precision, batch: int, rounds: int) -> float:
    """Return the median seconds of a step in a separate process."""
    count = torch.get_num_threads()
    return float(answer_of(_serve, keep, precision, batch, rounds, count, label="doctor --speed, freed memory"))


@following_parent
def _serve(connection: Connection, keep: bool, precision: Precision, batch: int, rounds: int, count: int) -> None:
    if keep:
        keep_freed_memory()
    with threads(count):
        steps: Mapping[str, Callable[[], object]] = {"step": step("cpu", precision, batch)}
        timed = side_by_side(steps, rounds=rounds, warmup=1, progress=silent, what="steps")
    connection.send(timed["step"].median)
