"""Networks that are drawn, and trained for some steps, to have the flow of their gradients looked at: the four kinds of
`gradient_flow`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reslab.analysis.gradient_flow import GradientFlow, TrainingFlow, gradient_flow, through_training
from reslab.analysis.twin import without_batchnorm
from reslab.data import Dataset, load_data
from reslab.errors import UserError
from reslab.networks import zoo

KINDS: dict[str, tuple[str, bool]] = {
    "plain, BN": ("cifar_plain", True),
    "plain": ("cifar_plain", False),
    "residual, BN": ("cifar_resnet", True),
    "residual": ("cifar_resnet", False),
}
"""A family, and whether it keeps its BatchNorms."""


class Flow(NamedTuple):
    """The gradient's norm before the first block and after each; its factor per block, its decades, those of the
    blocks' parameters' gradients, and the loss.
    """

    backward: list[float]
    growth: float
    decades: float
    parameter_decades: float
    loss: float


class Training(NamedTuple):
    """The flow at steps of training."""

    steps: list[int]
    flows: list[Flow]


def build(kind: str, depth: int, seed: int, num_classes: int, in_channels: int) -> nn.Module:
    """Return a network of one of the four kinds, in training mode, drawn from the seed."""
    family, batchnorm = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = zoo.build(family, depth=depth, num_classes=num_classes, in_channels=in_channels)
    return network if batchnorm else without_batchnorm(network)


def trained_flow(network: nn.Module, images: Tensor, labels: Tensor, steps: int, seed: int) -> TrainingFlow | None:
    """Return the flow through training; None if it diverged, or a gradient of 0 left the last block."""
    try:
        flow = through_training(network, images, labels, steps=steps, every=max(1, steps // 6), seed=seed)
    except UserError:  # the weights are no longer finite: nothing else is wrong with what was measured before training
        return None
    return flow if all(math.isfinite(step.first_over_last) for step in flow.flows) else None


def _start(data: Dataset, kind: str, depth: int, seed: int) -> nn.Module:
    return build(kind, depth, seed, data.num_classes, data.in_channels)


def start(data: str, kind: str, depth: int, seed: int, images: int) -> Flow:
    """Return the flow of a batch of so many images through a network at initialisation."""
    loaded = load_data(data).fitted(32)
    return plain(gradient_flow(_start(loaded, kind, depth, seed), *loaded.sample("train", images)))


def training(data: str, kind: str, depth: int, seed: int, steps: int) -> Training | None:
    """Return the flow through so many steps of training; None if it diverged, or a gradient of 0 left
    the last block.
    """
    loaded = load_data(data).fitted(32)
    found = trained_flow(_start(loaded, kind, depth, seed), *loaded.train, steps, seed)
    return None if found is None else Training(list(found.steps), [plain(flow) for flow in found.flows])


def plain(flow: GradientFlow) -> Flow:
    """Return what is kept of a flow."""
    return Flow(flow.backward.tolist(), flow.growth, flow.decades, flow.parameter_decades, flow.loss)
