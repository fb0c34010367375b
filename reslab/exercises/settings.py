"""Settings of a whole process, of PyTorch, NumPy and Python, which an answer may change for itself but for no other."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch


@dataclass(frozen=True)
class Settings:
    """What an answer may have set: at first, what PyTorch and NumPy begin with."""

    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    gradients: bool = True
    deterministic: bool = False
    warns_only: bool = False
    detects_anomalies: bool = False
    float_errors: tuple[tuple[str, Any], ...] = (
        ("divide", "warn"),
        ("over", "warn"),
        ("under", "ignore"),
        ("invalid", "warn"),
    )

    @classmethod
    def now(cls) -> Self:
        """Return those in force."""
        return cls(
            torch.get_default_dtype(),
            str(torch.get_default_device()),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.is_anomaly_enabled(),
            tuple(np.geterr().items()),
        )

    def set(self) -> None:
        """Put them in force."""
        now = Settings.now()
        torch.set_default_dtype(self.dtype)
        if now.device != self.device:  # every call of PyTorch is slower while one is set, even the CPU
            torch.set_default_device(None if self.device == "cpu" else self.device)
        torch.set_grad_enabled(self.gradients)
        if (now.deterministic, now.warns_only) != (self.deterministic, self.warns_only):  # this imports a compiler
            torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warns_only)
        torch.autograd.set_detect_anomaly(self.detects_anomalies)
        np.seterr(**dict(self.float_errors))


@contextmanager
def held(settings: Settings) -> Iterator[Settings]:
    """Have these settings in force and give those before, which are in force again afterwards, as are the states of all
    random number generators.
    """
    before = Settings.now()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    settings.set()
    try:
        yield before
    finally:
        before.set()
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
