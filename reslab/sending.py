"""Tensors of the CPU on their way to a device."""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor on the device; a GPU gets it from pinned memory, so that the host does not wait."""
    pinned = tensor.is_cpu and device.type == "cuda"
    return tensor.pin_memory().to(device, non_blocking=True) if pinned else tensor.to(device)
