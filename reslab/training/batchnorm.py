"""BatchNorm statistics as true averages over training images, as the networks of He et al. 2015 were released."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from reslab.errors import UnseenError
from reslab.state import draws_apart, in_mode
from reslab.training.evaluation import Split


class _Moments:
    """Count, mean and sum of squared deviations of each channel, merged batch by batch in float64 (Chan
    et al. 1979).
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(1, dtype=torch.double)
        self.squares = torch.zeros(1, dtype=torch.double)

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Add a BatchNorm layer's input: `[B, C, …]`."""
        values = inputs[0].detach().transpose(0, 1).flatten(1).double()  # [C, B·H·W]
        count = values.shape[1]
        variance, mean = torch.var_mean(values, 1, correction=0)
        difference = mean - self.mean.to(mean.device)
        total = self.count + count
        self.squares = self.squares.to(mean.device) + variance * count + difference**2 * (self.count * count / total)
        self.mean = mean - difference * (self.count / total)
        self.count = total


def true_average(network: nn.Module, batches: Iterable[Split]) -> int:
    """Replace each BatchNorm layer's running statistics by those of all its inputs, with fixed weights; return the
    number of layers.

    The original release did so "with a sufficiently large training batch" instead of keeping moving averages. Every
    batch is normalised by its own statistics, as in training; the mean and the unbiased variance of each layer's inputs
    are then those over all batches together, including the variance between batches. With one batch of all images they
    are exactly that batch's statistics. The network's mode and the random generators are unchanged.

    Raises:
        UserError: if the network has no BatchNorm layers that keep running statistics.
    """
    layers = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
    ]
    if not layers:
        raise UnseenError("this network has no BatchNorm layer with running statistics")
    moments = [_Moments() for _ in layers]
    hooks: list[Any] = [layer.register_forward_pre_hook(moment) for layer, moment in zip(layers, moments, strict=True)]
    seen = [layer.num_batches_tracked.clone() if layer.num_batches_tracked is not None else None for layer in layers]
    device = next(network.parameters()).device
    try:
        with in_mode(network, training=True), torch.no_grad(), draws_apart():
            for images, _ in batches:
                network(images.to(device))
    finally:
        for hook in hooks:
            hook.remove()
    with torch.no_grad():
        for layer, moment, before in zip(layers, moments, seen, strict=True):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.copy_(moment.mean)
            layer.running_var.copy_(moment.squares / (moment.count - 1))
            if before is not None and layer.num_batches_tracked is not None:
                layer.num_batches_tracked.copy_(before)
    return len(layers)
