"""Side-by-side timing: variants take turns in each round, so that a slow moment of the machine affects all of them."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch

from reslab.progress import Progress, each
from reslab.training.devices import Device
from reslab.training.speed import processor


@dataclass(frozen=True)
class Timing:
    """Seconds of each round of one variant."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the median round, in seconds."""
        return median(self.seconds)

    def ratio(self, other: "Timing") -> tuple[float, float, float]:
        """Return the median, lowest and highest ratio to another variant, round by round."""
        ratios = sorted(mine / theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True))
        return median(ratios), ratios[0], ratios[-1]


def side_by_side(
    variants: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int, progress: Progress, what: str
) -> dict[str, Timing]:
    """Return the timing of each variant over `rounds` rounds after `warmup` untimed ones; `what` is timed, as
    `progress` is told. NVIDIA's GPUs are waited for.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in each(range(warmup + rounds), what, progress):
        for name, call in variants.items():
            _wait()
            start = time.perf_counter()
            call()
            _wait()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def _wait() -> None:
    """Wait for the GPU, if one is used."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def machine(device: Device = "cpu") -> dict[str, str | int]:
    """Return a description of the machine, and of its GPU if that is measured."""
    return {
        "processor": processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "system": platform.platform(),
        **({"device": torch.cuda.get_device_name()} if device == "cuda" else {}),
    }
