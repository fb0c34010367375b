"""The machine's devices, precisions and processes. Only this module and the loop use Lightning Fabric."""

import ctypes
import logging
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import torch

from reslab.errors import FailedError, MismatchError, UnusableError, Wording, worded
from reslab.processes import end, following_parent
from reslab.training import speed

# it imports torch's compiler, which takes seconds and is only needed for training
if TYPE_CHECKING:
    from lightning_fabric import Fabric as Fabric

__all__ = [
    "Choice",
    "Device",
    "Placement",
    "Precision",
    "best_device",
    "best_precision",
    "check",
    "deterministic",
    "fabric_here",
    "has_bf16",
    "is_here",
    "is_main_process",
    "keep_freed_memory",
    "launch",
    "native_precision",
]

Device = Literal["cpu", "cuda", "mps"]
Precision = Literal["32", "bf16", "16"]

PATIENCE = timedelta(days=1)
"""The time-out of processes that wait for one another, for example while process 0 evaluates. A dead process is noticed
at once.
"""

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h

_FABRICS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}


class Choice(NamedTuple):
    """The choice of `auto` on this machine, and the reason."""

    value: Precision
    why: Wording


class Placement(Protocol):
    """Where a trial runs: a device, a precision, a number of processes."""

    @property
    def device(self) -> Device:
        """Return the kind of device."""

    @property
    def precision(self) -> Precision:
        """Return the precision of convolutions and matrix products."""

    @property
    def devices(self) -> int:
        """Return the number of processes, one per device."""


def best_device() -> Device:
    """Return the fastest kind of device on this machine."""
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


FASTER = 0.95
"""Half precision is chosen if a step takes at most this share of float32's time."""


def best_precision(device: Device) -> Choice:
    """Return the fastest precision, and the reason: measured by `reslab doctor --speed`, or else what is native."""
    measured = speed.kept(device)
    if measured is None or "32" not in measured.precision:
        return native_precision(device)
    fastest = min(measured.precision, key=measured.precision.__getitem__)
    share = measured.precision[fastest] / measured.precision["32"]
    chosen: Precision = fastest if share <= FASTER else "32"
    times = ", ".join(f"{name} {1000 * seconds:.4g}" for name, seconds in sorted(measured.precision.items()))
    return Choice(
        chosen,
        Wording(
            f"measured on {measured.date}, milliseconds a training step: {times}",
            f"{measured.date}에 잰 값, 학습 한 스텝의 밀리초: {times}",
        ),
    )


def native_precision(device: Device) -> Choice:
    """Return the half precision that the device supports natively, or float32, and the reason."""
    if device == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Choice("bf16", Wording("this GPU multiplies bfloat16", "이 GPU는 bfloat16을 바로 곱한다"))
        return Choice(
            "16",
            Wording("this GPU multiplies float16 and not bfloat16", "이 GPU는 bfloat16이 아니라 float16을 곱한다"),
        )
    if device == "mps":
        return Choice(
            "32",
            Wording("on Apple's GPUs half precision is not tried here", "Apple의 GPU에서는 반정밀도를 시도하지 않는다"),
        )
    if has_bf16():
        return Choice("bf16", Wording("this CPU multiplies bfloat16", "이 CPU는 bfloat16을 바로 곱한다"))
    return Choice("32", Wording("this CPU would only emulate bfloat16", "이 CPU에서는 bfloat16을 흉내만 낸다"))


def has_bf16() -> bool:
    """Return whether the CPU supports bfloat16 natively (x86: AMX or AVX512-BF16), and oneDNN may use it
    (ONEDNN_MAX_CPU_ISA).
    """
    # Apple's builds do not have oneDNN
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):  # where oneDNN's own answer includes emulation
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return True


def is_here(device: Device) -> bool:
    """Return whether this machine has a device of this kind."""
    if device == "cpu":
        return True
    return torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()


def check(device: Device, precision: Precision) -> None:
    """Check that the device exists and supports the precision.

    Raises:
        UserError: if not.
    """
    if not is_here(device):
        raise UnusableError(*worded("no-device", device=device, best=best_device()))
    if device == "cpu" and precision == "16":
        raise UnusableError(*worded("precision-needs-gpu"))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` threads, and restore the number on exit. It is part of a result's identity, as it changes
    the order of sums.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Have cuDNN compute the same bits every time, where it is what computes; otherwise the order in which gradients
    are summed may vary.
    """
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def keep_freed_memory() -> None:
    """Keep glibc from returning freed memory to the system, which saves page faults in the next step.

    Without glibc it does nothing. Results do not change; the process may hold more memory.
    """
    with suppress(AttributeError):  # other C libraries have no mallopt
        if sys.platform == "linux":
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_MMAP_MAX, 0)
            mallopt(_M_TRIM_THRESHOLD, -1)


def is_main_process() -> bool:
    """Return whether this process prints: under torchrun, only process 0 does."""
    return not _is_under_torchrun() or os.environ.get("RANK", "0") == "0"


def fabric_here(where: Placement) -> "Fabric":
    """Return the fabric of a trial in this process alone."""
    return _fabric(where, devices=1)


def _fabric(where: Placement, **places: Any) -> "Fabric":
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    # the processes are torchrun's or its own, also within a job of a cluster
    plugins = None if _is_under_torchrun() else LightningEnvironment()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # not its advice whenever a trial starts
    return Fabric(accelerator=where.device, precision=_FABRICS[where.precision], plugins=plugins, **places)


def _is_under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch(where: Placement, work: Callable[..., None], *args: Any) -> None:
    """Call `work(fabric, *args)` once, or in each of the trial's processes, and return when all have ended.

    Under torchrun the processes already exist, on one host or several, and each calls this; otherwise they are spawned.
    If one dies, the others end with an error.

    Raises:
        UserError: if torchrun started another number of processes than the trial needs.
    """
    check(where.device, where.precision)
    under_torchrun = _is_under_torchrun()
    world, here = (
        int(os.environ[name]) if under_torchrun else where.devices for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")
    )
    if world != where.devices:
        raise MismatchError(*worded("processes-of-torchrun", world=world, devices=where.devices))
    if world == 1:
        fabric_here(where).launch(work, *args)
        return
    from lightning_fabric.strategies.ddp import DDPStrategy

    strategy = DDPStrategy(start_method="popen" if under_torchrun else "spawn", timeout=PATIENCE)
    fabric = _fabric(where, devices=here, num_nodes=world // here, strategy=strategy)
    if under_torchrun:
        fabric.launch(work, *args)
        return
    others = multiprocessing.active_children()
    try:
        fabric.launch(partial(_following, work), *args)
    except torch.multiprocessing.ProcessRaisedException as error:  # type: ignore[attr-defined]  # it is exported
        raise FailedError(_told_by(str(error))) from error
    finally:
        end(child for child in multiprocessing.active_children() if child not in others)


def _told_by(text: str) -> str:
    """Return the first line of the error that a traceback ends with: what follows its last frame."""
    frames, lines = -1, text.strip().splitlines()
    for number, line in enumerate(lines):
        if line.startswith('  File "'):
            frames = number
    said = next((line for line in lines[frames + 1 :] if not line.startswith("    ")), lines[-1])
    kind, _, message = said.partition(": ")
    return message if kind.startswith("reslab.") else said


@following_parent
def _following(work: Callable[..., None], fabric: "Fabric", *args: Any) -> None:
    """Do a spawned process's part."""
    work(fabric, *args)
