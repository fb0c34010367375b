"""Tensors of the CPU on their way to a device, and the widest numbers that it has."""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor on the device; a GPU gets it from pinned memory, so that the host does not wait."""
    pinned = tensor.is_cpu and device.type == "cuda"
    return tensor.pin_memory().to(device, non_blocking=True) if pinned else tensor.to(device)


WITHOUT_FLOAT64 = {"mps"}
"""The kinds of devices that have no float64: Apple's GPUs."""


def widest(device: torch.device) -> torch.dtype:
    """Return the floating-point numbers with the most digits of a device."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def widened(values: Tensor) -> Tensor:
    """Return the values as the widest numbers of their device."""
    return values.to(widest(values.device))
