"""The speeds that `reslab doctor --speed` has measured on this machine: `auto` chooses by them.

They are kept in the user's cache, a file per kind of device, and do not count for another processor or PyTorch.
"""

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field

from reslab.cache import user_cache
from reslab.errors import UserError
from reslab.files import Shape, read_record, write_json

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Speed(Shape):
    """Seconds of a training step: by precision, and on a CPU, with freed memory kept by the process or given back."""

    version: Literal[1] = 1
    date: str
    device: str
    processor: str
    capability: str
    torch: str
    precision: dict[Literal["32", "bf16", "16"], Seconds]
    freed_memory: dict[Literal["kept", "given back"], Seconds]

    @property
    def keeps_freed_memory(self) -> bool:
        """Return whether a process that keeps freed memory was no slower, or was not measured."""
        kept, given_back = (self.freed_memory.get(name) for name in ("kept", "given back"))
        return kept is None or given_back is None or kept <= given_back


def processor() -> str:
    """Return the name of the CPU, or at least its architecture."""
    told = Path("/proc/cpuinfo")  # Linux's
    if told.is_file():
        for line in told.read_text(encoding="utf-8", errors="replace").splitlines():
            what, _, name = line.partition(":")
            if what.strip() == "model name":
                return name.strip()
    return platform.processor() or platform.machine()


def hardware(device: str) -> dict[str, str]:
    """Return the name of the processor that computes, a GPU if it is one, and the CPU's instructions."""
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    return {"processor": name, "capability": torch.backends.cpu.get_cpu_capability()}


def _here(device: str) -> dict[str, str]:
    """Return what a measurement is of."""
    return {"device": device, **hardware(device), "torch": torch.__version__}


def keep(device: str, precision: dict[str, float], freed_memory: dict[str, float]) -> Path:
    """Write what was measured of this machine's device, and return the file."""
    file = _file(device)
    file.parent.mkdir(parents=True, exist_ok=True)
    measured = {"version": 1, "date": datetime.now(UTC).date().isoformat(), **_here(device)}
    write_json(file, {**measured, "precision": precision, "freed_memory": freed_memory})
    return file


def kept(device: str) -> Speed | None:
    """Return what was measured of this machine's device; None if nothing was, or what is kept is damaged or of another
    machine.
    """
    try:
        file = _file(device)
        if not file.is_file() or (device == "cuda" and not torch.cuda.is_available()):
            return None
        found = Speed.model_validate(read_record(file, Speed))
    except (UserError, OSError):
        return None
    return found if all(getattr(found, name) == value for name, value in _here(device).items()) else None


def _file(device: str) -> Path:
    return user_cache() / f"speed-{device}.json"
