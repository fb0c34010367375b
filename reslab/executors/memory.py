"""How many worker processes fit the cores and the memory of this machine or container; the memory is estimated from the
tensors of each network's training step.
"""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reslab.data import load_data
from reslab.errors import UnusableError, worded
from reslab.executors.trial import data_for, fresh_network
from reslab.state import all_draws_apart
from reslab.training.loop import TrialConfig
from reslab.training.recipes import FAST

CONTAINER = Path("/sys/fs/cgroup")
"""Where Linux tells a container's limits."""
PROCESS = 400e6
"""Bytes of a process with all imports and a small data set, measured with torch 2.14."""


def most_that_fit(configs: Sequence[TrialConfig], workers: int) -> int:
    """Return the number of workers that fit in free memory, from 1 to `workers`; all of them if the system does not
    report free memory.
    """
    free = free_memory()
    fit = [count for count in range(1, workers + 1) if free is None or needed(configs, count) <= free]
    return max(fit, default=1)


def check_memory(configs: Sequence[TrialConfig], workers: int) -> None:
    """Check that so many workers fit in free memory, if the system reports it.

    Raises:
        UserError: if they do not.
    """
    free = free_memory()
    if free is not None and (total := needed(configs, workers)) > free:
        raise UnusableError(*worded("workers-without-memory", workers=workers, needed=total / 1e9, free=free / 1e9))


def needed(configs: Sequence[TrialConfig], workers: int) -> float:
    """Return an estimate of the bytes of the `workers` largest trials together."""
    return sum(sorted((bytes_needed(config) for config in configs), reverse=True)[:workers])


def free_memory() -> int | None:
    """Return the bytes available without swapping, on the machine and in the container; None where nobody tells."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    lines = meminfo.read_text(encoding="utf-8").splitlines()
    free = next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), None)
    if free is None:
        return None
    most, used = _of_container("memory.max"), _of_container("memory.current")
    if not most or not used:
        return free
    stat = _of_container("memory.stat")  # names and numbers in turn
    cached = dict(zip(stat[::2], map(int, stat[1::2]), strict=True)).get("inactive_file", 0)  # of files, and given up
    return min(free, int(most[0]) - int(used[0]) + cached)


def cores() -> int:
    """Return the number of cores that this process may use: of its affinity, and of its container."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _of_container("cpu.max")  # microseconds of so many
    return max(1, min(found, int(quota[0]) // int(quota[1]))) if quota else found


def _of_container(name: str) -> list[str]:
    """Return what the container (cgroup v2) says of itself; nothing if there is no such limit."""
    file = CONTAINER / name
    limit = file.read_text(encoding="utf-8").split() if file.is_file() else []
    return [] if limit[:1] == ["max"] else limit


def bytes_needed(config: TrialConfig) -> float:
    """Return an estimate of a trial's main memory: the process and, on the CPU, weights, gradients, momenta and a
    batch's activations.
    """
    if config.device != "cpu":
        return PROCESS
    try:
        weights, activations = _footprint(config.model, tuple(sorted(config.options.items())), config.data)
    except Exception:  # it will not train; the trial itself reports why
        return PROCESS
    return PROCESS + 3 * weights + activations * config.recipe.batch_size / config.devices


@cache
def _footprint(model: str, options: tuple[tuple[str, Any], ...], data: str) -> tuple[int, int]:
    """Return the bytes of a network's weights, and of all tensors of a forward pass for one image, counted on two real
    images.

    (Two, as BatchNorm needs more than one value per channel. Not on the meta device, where a network that compares
    numbers cannot be built.)
    """
    config = TrialConfig(model=model, options=dict(options), data=data, recipe=FAST, seed=0)
    with all_draws_apart(), torch.no_grad():
        given = load_data(data)
        network = fresh_network(config, given).train()
        images, _ = data_for(config, network, given).training_batch(torch.arange(2), None)
        with _Bytes() as counter:
            network(images)
    return sum(parameter.nbytes for parameter in network.parameters()), counter.total // 2


class _Bytes(TorchDispatchMode):
    """Adds up the bytes of all new tensors, without views and in-place operations: `total`."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for part, returned in zip(out if isinstance(out, tuple) else (out,), func._schema.returns, strict=False):
            if isinstance(part, torch.Tensor) and not returned.alias_info:
                self.total += part.nbytes
        return out
