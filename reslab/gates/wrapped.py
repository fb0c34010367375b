"""Unwrapping networks."""

from typing import Any

import torch
from torch import nn

from reslab.errors import UnseenError, WrongValueError
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
        raise UnseenError(
            "the network is a TorchScript program, whose blocks are hidden; give the module that it was made from"
        )
    if not isinstance(network, nn.Module):
        raise WrongValueError(
            f"a network is a torch.nn.Module, got {type(network).__name__}; `reslab.build(NAME)` makes one by name"
        )
    network = tracing.within(network)
    if any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in network.parameters()):
        raise UnseenError("the network has uninitialised lazy layers; run it once on images")
    return network


def _of_program(program: torch.export.ExportedProgram) -> nn.Module:
    """Return an exported program as an ordinary module with modes, whose input is checked only by its graph."""
    module = program.module()
    module._forward_pre_hooks.clear()
    module._forward_hooks.clear()
    for name in ("train", "eval"):  # which raise
        vars(module).pop(name, None)
    return module
