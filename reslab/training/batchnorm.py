"""BatchNorm statistics as true averages over training images, as the networks of He et al. 2015 were released."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from reslab.errors import MissingError, UnseenError, told, worded
from reslab.sending import widened
from reslab.state import draws_apart, in_mode
from reslab.training.evaluation import Split


class _Moments:
    """Count, mean and sum of squared deviations of each channel, merged batch by batch in float64
    (Chan et al. 1979).
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(1, dtype=torch.double)
        self.squares = torch.zeros(1, dtype=torch.double)

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Add a BatchNorm layer's input: `[B, C, …]`."""
        values = inputs[0].detach().transpose(0, 1).flatten(1)  # [C, B·H·W]
        count = values.shape[1]
        variance, mean = torch.var_mean(widened(values), 1, correction=0)
        difference = mean - self.mean.to(mean)
        total = self.count + count
        self.squares = self.squares.to(mean) + variance * count + difference**2 * (self.count * count / total)
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
        UserError: if the network has no BatchNorm layers that keep running statistics, there are no images, or it fails
            on a batch.
    """
    layers = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
    ]
    if not layers:
        raise UnseenError(*worded("no-running-statistics"))
    moments = [_Moments() for _ in layers]
    hooks: list[Any] = [layer.register_forward_pre_hook(moment) for layer, moment in zip(layers, moments, strict=True)]
    kept = [{name: value.clone() for name, value in layer.state_dict().items()} for layer in layers]
    device = next(network.parameters()).device
    try:
        with in_mode(network, training=True), torch.no_grad(), draws_apart(), told("the network in training mode"):
            for images, _ in batches:
                network(images.to(device))
    finally:
        for hook, layer, before in zip(hooks, layers, kept, strict=True):
            hook.remove()
            layer.load_state_dict(before)  # the moving averages, of which nothing is to be left if a batch fails
    if not any(moment.count for moment in moments):
        raise MissingError(*worded("nothing-to-average"))
    with torch.no_grad():
        for layer, moment in zip(layers, moments, strict=True):
            assert layer.running_mean is not None and layer.running_var is not None
            if moment.count > 1:  # a layer that no image reaches keeps its statistics
                layer.running_mean.copy_(moment.mean)
                layer.running_var.copy_(moment.squares / (moment.count - 1))
    return len(layers)
