"""Unwrapping networks."""

from typing import Any

import torch
from torch import nn

from reslab.errors import UnseenError, WrongValueError, worded
from reslab.gates import tracing


def unwrapped(network: Any) -> nn.Module:
    """Return the network inside DataParallel, DistributedDataParallel, torch.compile or torch.export.

    Raises:
        UserError: if it is not a network, is a TorchScript program, whose blocks are hidden, or has uninitialised lazy
            layers.
    """
    if isinstance(network, torch.export.ExportedProgram):
        return _of_program(network)
    if isinstance(network, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        raise UnseenError(*worded("blocks-in-torchscript"))
    if not isinstance(network, nn.Module):
        raise WrongValueError(*worded("not-a-network", kind=type(network).__name__))
    network = tracing.within(network)
    if any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in network.parameters()):
        raise UnseenError(*worded("not-yet-initialised"))
    return network


def _of_program(program: torch.export.ExportedProgram) -> nn.Module:
    """Return an exported program as an ordinary module with modes, whose input is checked only by its graph."""
    module = program.module()
    module._forward_pre_hooks.clear()
    module._forward_hooks.clear()
    for name in ("train", "eval"):  # which raise
        vars(module).pop(name, None)
    return module
