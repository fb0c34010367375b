"""The moving average of a network's weights through training (Polyak & Juditsky 1992), evaluated beside it."""

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from reslab.state import copied


class Average:
    """A network whose weights are an exponential moving average of another's, including BatchNorm's statistics.

    The decay grows to its value, `min(decay, (1 + step) / (10 + step))`, so that the untrained first weights are soon
    forgotten, even in a short run.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copied(network).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Add the weights after so many steps to the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(_tensors(self.network), _tensors(network), strict=True):
            if mine.is_floating_point() or mine.is_complex():
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    """Yield parameters and buffers, each once, by whatever number of layers it is shared."""
    return chain(network.parameters(), network.buffers())
