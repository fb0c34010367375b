"""Tensors that are drawn on the CPU, on their way to a device."""

import torch
from torch import Tensor


def sent(drawn: Tensor, device: torch.device) -> Tensor:
    """Return the tensor on the device; a GPU gets it from pinned memory, so that the host does not wait."""
    return drawn.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else drawn.to(device)
