"""Variants of networks for comparison: without BatchNorm, and with a random choice of blocks in every step."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from reslab.analysis.twin import without_batchnorm
from reslab.errors import UnknownNameError, worded
from reslab.gates.making import view
from reslab.networks import zoo
from reslab.sending import sent


def no_batchnorm(family: str, num_classes: int, in_channels: int, depth: int) -> nn.Module:
    """Return a network of a family of the zoo with every BatchNorm replaced by the identity; the initial weights are
    its twin's.
    """
    return without_batchnorm(zoo.build(_of_zoo(family), num_classes=num_classes, in_channels=in_channels, depth=depth))


def _of_zoo(family: str) -> str:
    """Return a family's name. It may come from a file of weights, which must not name somebody's factory, as that is
    called.

    Raises:
        UserError: if the zoo has no such network.
    """
    if not isinstance(family, str) or zoo.options(family) is None:
        raise UnknownNameError(*worded("no-network", name=family, near=""))
    return family


class RandomBlocks(nn.Module):
    """A residual network that runs only some of its blocks in every training step; in evaluation it is `network`.

    `draw` gives the gates of one step, `[n]`. Where their mean is 1, evaluation needs no rescaling: a block that is
    on with probability p has the gate 1/p (Huang et al. 2016 leave it at 1 and scale by p in evaluation; the scale is
    in the branch's last BatchNorm either way).
    """

    def __init__(self, network: nn.Module, in_channels: int, draw: Callable[[int], Tensor]) -> None:
        super().__init__()
        self.input_shape = zoo.input_shape(network)
        self.gated = view(network, torch.zeros(2, in_channels, 8, 8))
        self.draw = draw

    @property
    def network(self) -> nn.Module:
        """Return the whole network."""
        return self.gated.network

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: `[B, C, H, W] -> [B, classes]`."""
        logits: Tensor = self.gated(x, sent(self.draw(len(self.gated)), x.device)) if self.training else self.network(x)
        return logits


def whole(network: nn.Module) -> nn.Module:
    """Return a network with all of its blocks, also one that was trained with random ones."""
    return network.network if isinstance(network, RandomBlocks) else network


def stochastic_depth(num_classes: int, in_channels: int, depth: int, survival: float = 0.5) -> RandomBlocks:
    """Return the CIFAR residual network trained with stochastic depth: block i of n is on with probability 1 − i/n · (1
    − survival).

    "Deep Networks with Stochastic Depth" (Huang et al. 2016, arXiv:1603.09382), section 3. Here gates are 1/p in
    training, in place of p afterwards; a block that is off runs all the same, so that its running statistics move; and
    option A's shortcut takes every second pixel, where theirs averages.
    """
    network = zoo.build("cifar_resnet", num_classes=num_classes, in_channels=in_channels, depth=depth)
    return RandomBlocks(network, in_channels, partial(surviving, survival=survival))


def surviving(n: int, survival: float) -> Tensor:
    """Return the gates of one step with stochastic depth, `[n]`: 1/p where a block is on, with its probability p."""
    probability = 1 - torch.arange(1, n + 1) / n * (1 - survival)
    return torch.bernoulli(probability) / probability


def short_paths(
    num_classes: int, in_channels: int, depth: int, blocks: int, family: str = "cifar_resnet", scaled: bool = True
) -> RandomBlocks:
    """Return a CIFAR residual network trained with exactly `blocks` of its n blocks on in every step (Veit et al. 2016,
    section 5), which are scaled by n/blocks or, as in the paper, are not.

    Raises:
        ValueError: if there are no 1 to n blocks to be on.
    """
    network = zoo.build(_of_zoo(family), num_classes=num_classes, in_channels=in_channels, depth=depth)
    made = RandomBlocks(network, in_channels, partial(few, blocks=blocks, scaled=scaled))
    if not 1 <= blocks <= len(made.gated):
        raise ValueError(f"blocks must be from 1 to the {len(made.gated)} of the network, got {blocks}")
    return made


def few(n: int, blocks: int, scaled: bool) -> Tensor:
    """Return the gates of one step with so many blocks on, `[n]`."""
    gates = torch.zeros(n)
    gates[torch.randperm(n)[:blocks]] = n / blocks if scaled else 1.0
    return gates


MODELS: dict[str, Callable[..., nn.Module]] = {}
FAMILIES = {
    "cifar_no_batchnorm": no_batchnorm,
    "cifar_short_paths": short_paths,
    "cifar_stochastic_depth": stochastic_depth,
}
REFERENCE: dict[str, tuple[int, int, str]] = {}
