"""What training changes of a network beside its state dict: buffers that are not persistent, and plain attributes, such
as a counter.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reslab.errors import DamagedError, told
from reslab.state import OF_TORCH, device_of

Beside = dict[str, dict[str, Any]]
"""Values by the names of the module and of the attribute or buffer."""
PLAIN = (bool, int, float, str, type(None))


def beside(network: nn.Module) -> Beside:
    """Return copies of a network's buffers that are not persistent, and of its attributes that are numbers, text or
    tensors.
    """
    return {
        name: {key: _copy(value) for key, value in _held(module).items() if _kept(value)}
        for name, module in network.named_modules()
    }


def changed(network: nn.Module, start: Beside) -> Beside:
    """Return what differs from the start; nothing for a network that has but parameters and buffers."""
    found = {
        name: {
            key: value
            for key, value in values.items()
            if name not in start or key not in start[name] or not _same(value, start[name][key])
        }
        for name, values in beside(network).items()
    }
    return {name: values for name, values in found.items() if values}


@torch.no_grad()
def put_back(network: nn.Module, values: Beside) -> None:
    """Give a network such values, also tensors that share their memory with its parameters."""
    for name, new in values.items():
        module = network.get_submodule(name)
        for key, value in new.items():
            old = _held(module).get(key)
            if isinstance(old, Tensor) and isinstance(value, Tensor) and old.shape == value.shape:
                old.copy_(value)
            else:
                there = old.device if isinstance(old, Tensor) else device_of(network)
                here = value.to(there) if isinstance(value, Tensor) else value
                (module._buffers if key in module._buffers else vars(module))[key] = here


def to_bytes(weights: Beside, ema: Beside) -> bytes:
    """Return these of a trained network, and of the moving average of its weights, as a file."""
    buffer = io.BytesIO()
    torch.save({"weights": weights, "ema": ema}, buffer)
    return buffer.getvalue()


def read(file: Path, which: str) -> Beside:
    """Return those of a file, `weights` or `ema`.

    Raises:
        UserError: if it is something else.
    """
    with told(f"{file} does not hold what training changed beside the weights", DamagedError):
        values: Beside = torch.load(file, map_location="cpu", weights_only=True)[which]
    return values


def _held(module: nn.Module) -> dict[str, Any]:
    apart = {name: value for name, value in module._buffers.items() if name in module._non_persistent_buffers_set}
    return {name: value for name, value in vars(module).items() if name not in OF_TORCH} | apart


def _kept(value: Any) -> bool:
    """Return whether a value is one that a checkpoint can hold, which are no others' classes."""
    if isinstance(value, Tensor):
        return value.layout == torch.strided
    return type(value) in PLAIN or isinstance(value, np.integer | np.floating | np.bool_)


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().as_subclass(Tensor).clone()
    return value.item() if isinstance(value, np.generic) else value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one.cpu(), other.cpu())
    return type(one) is type(other) and not isinstance(one, Tensor) and one == other
