"""Residuals: the algebra of a block with an identity shortcut, and the sizes of F beside x in trained networks."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reslab.analysis.responses import responses
from reslab.analysis.subject import evaluating
from reslab.experiment.trials import Trial
from reslab.gates.making import view
from reslab.networks import zoo


def block_of(family: str) -> Any:
    """Return a block with an identity shortcut, in float64 and evaluation mode."""
    torch.manual_seed(0)
    return zoo.build(family, depth=14).get_submodule("layer1.1").double().eval()


def zero_branch(family: str, x: Tensor) -> Tensor:
    """Return what a block makes of `x` when its branch's last layer is zero."""
    block = block_of(family)
    nn.init.zeros_((block.conv2 if family == "cifar_preresnet" else block.bn2).weight)
    return block(x)


def adds_up(family: str, x: Tensor) -> bool:
    """Return whether two blocks in a row give their input plus the values of both branches."""
    network = zoo.build(family, depth=20).double().eval()
    live, total = x, x
    for name in ("layer1.1", "layer1.2"):
        block: Any = network.get_submodule(name)
        total = total + (
            block.weights(block.relu1(block.bn1(live))) if family == "cifar_preresnet" else block.branch(live)
        )
        live = block(live)
    return torch.allclose(live, total, rtol=1e-12, atol=1e-12)


IMAGES = 128
"""Training images under whose statistics the trained networks are looked at."""


def stds(trial: Trial) -> list[float]:
    """Return the standard deviation of each layer's response in a trained network."""
    return [layer.std for layer in responses(trial.network(), trial.data().sample("train", IMAGES)[0]).layers]


class Residuals(NamedTuple):
    """The size of F over that of x for each block with an identity shortcut, before training and after."""

    before: list[float]
    after: list[float]


def residuals(trial: Trial) -> Residuals:
    """Return the sizes of a network's residuals, as it was drawn and as it was trained."""
    images = trial.data().sample("train", IMAGES)[0]
    return Residuals(changes(trial.fresh_network(), images), changes(trial.network(), images))


@torch.no_grad()
def changes(network: nn.Module, images: Tensor) -> list[float]:
    """Return the root mean square of F over that of x for each block with an identity shortcut.

    The network normalises by the images' own statistics.
    """
    seen = view(network, images[:2])
    found = []
    with evaluating(network, images):
        live = seen.stem(images)
        for index, block in enumerate(seen.blocks):
            if block.identity:
                shortcut, (branch,) = seen.sides(index, live)
                found.append(float((branch.square().mean() / shortcut.square().mean()).sqrt()))
            live = seen.block(index, live)
    return found
