"""Counting: a network's parameters, and the multiply-adds of a forward pass."""

import torch
from torch import nn

from reslab.counting import FlopCounter
from reslab.state import draws_apart, in_mode


def count_params(module: nn.Module) -> int:
    """Return the number of parameters, with those of BatchNorm and those that are frozen."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(network: nn.Module, images: torch.Tensor) -> int:
    """Return the multiply-adds of the convolutions and matrix products of one forward pass in evaluation mode.

    A multiply-add counts as one, as in the paper's "FLOPs"; torch counts it as two.
    """
    with in_mode(network, training=False), draws_apart(), FlopCounter() as counter, torch.no_grad():
        network(images)
    return counter.macs
