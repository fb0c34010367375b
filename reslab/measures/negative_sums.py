"""The share of sums x + F that a unit's last ReLU sets to 0 (He et al. 2016, section 4.2)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from reslab.analysis.subject import evaluating
from reslab.experiment.trials import Trial


class Negative(NamedTuple):
    """The share of negative sums x + F in each block, before training and after."""

    before: list[float]
    after: list[float]


def negative(trial: Trial) -> Negative:
    """Return the shares of a network as it was drawn and as it was trained, of 256 training images."""
    images = trial.data().sample("train", 256)[0]
    return Negative(negative_sums(trial.fresh_network(), images), negative_sums(trial.network(), images))


@torch.no_grad()
def negative_sums(network: nn.Module, images: Tensor) -> list[float]:
    """Return, for each block of an original network, the share of sums x + F that its last ReLU sets to 0.

    The network normalises by the images' own statistics.
    """
    shares: list[float] = []
    with evaluating(network, images):
        handles = [
            module.register_forward_pre_hook(lambda _, given: shares.append(float((given[0] < 0).double().mean())))
            for name, module in network.named_modules()
            if name.endswith(".relu2")  # the last of a block of `cifar_resnet`
        ]
        try:
            network(images)
        finally:
            for handle in handles:
                handle.remove()
    return shares
