"""Networks as ONNX models."""

from typing import Any

import torch
from torch import nn

from reslab.errors import MissingError, told, worded
from reslab.state import in_mode


def to_onnx(network: nn.Module, input_shape: tuple[int, int, int]) -> bytes:
    """Return the network, in evaluation mode, as an ONNX model with any batch size and, if the network allows it, any
    image size.

    Raises:
        UserError: if the packages that export needs are not installed, or the network cannot be exported.
    """
    try:
        import onnx  # noqa: F401  # torch needs both, and its own message is less clear
        import onnxscript  # noqa: F401  # likewise
    except ModuleNotFoundError as error:
        raise MissingError(*worded("onnx-needs", package=error.name)) from error
    batch, sides = {0: torch.export.Dim("batch")}, {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    with in_mode(network, training=False):
        try:
            return _exported(network, input_shape, {**batch, **sides})
        except Exception:  # one of torch's many errors for a network with a fixed size
            with told(f"this {type(network).__name__} cannot be exported to ONNX"):
                return _exported(network, input_shape, batch)


def _exported(network: nn.Module, input_shape: tuple[int, int, int], free: dict[int, Any]) -> bytes:
    program = torch.onnx.export(
        network, (torch.zeros(2, *input_shape),), dynamo=True, verbose=False, dynamic_shapes=(free,)
    )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content
