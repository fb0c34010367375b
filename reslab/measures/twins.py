"""Networks at initialisation and their twins without BatchNorm, which have the same weights: gradients and branches of
each.
"""

from statistics import mean

import torch
from torch import Tensor, nn

from reslab.analysis.gradient_flow import gradient_flow
from reslab.analysis.twin import without_batchnorm
from reslab.data import load_data
from reslab.gates.making import view
from reslab.networks import zoo
from reslab.state import draws_apart, preserve
from reslab.training.loop import generator

FAMILIES = {"residual": "cifar_resnet", "plain": "cifar_plain", "branch": "cifar_preresnet"}
"""The networks whose gradients are measured, and those whose branches are."""


def twins(data: str, name: str, depth: int, seed: int) -> dict[str, float]:
    """Return a value with BatchNorm and one without: of "branch" its share, of the others the decades of the gradient's
    flow.
    """
    fitted = load_data(data).fitted(32)
    order = torch.randperm(len(fitted.labels), generator=generator(seed, "order", 0))
    images, labels = fitted.training_batch(order[:64], None)
    with draws_apart():
        torch.manual_seed(seed)
        network = zoo.build(FAMILIES[name], depth=depth, num_classes=fitted.num_classes, in_channels=fitted.in_channels)
    both = {"with": network, "without": without_batchnorm(network)}
    if name == "branch":
        return {kind: branch_share(twin, images) for kind, twin in both.items()}
    return {kind: gradient_flow(twin, images, labels).decades for kind, twin in both.items()}


@torch.no_grad()
def branch_share(network: nn.Module, images: Tensor) -> float:
    """Return ‖F(x)‖² / (‖shortcut(x)‖² + ‖F(x)‖²), the mean over blocks, in the network's current mode."""
    gated = view(network, images[:2])
    shares = []
    with preserve(network):
        live = gated.stem(images)
        for index in range(len(gated)):
            shortcut, branches = gated.sides(index, live)
            branch = torch.stack(list(branches)).sum(0).square().sum()
            shares.append(float(branch / (branch + shortcut.square().sum())))
            live = gated.block(index, live)
    return mean(shares)
