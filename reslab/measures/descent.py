"""Networks during training: the training is replayed, and the network is measured where its loss reaches certain
levels.

So networks that learn at different speeds are compared when they have learned equally much, and not one in mid-slope
with one still on the plateau. The steps at which a level is reached are not known in advance, so snapshots cannot be
requested; instead the trial's steps are repeated, bit for bit.
"""

from collections import deque
from copy import deepcopy
from itertools import pairwise
from math import inf, isfinite, log, log10
from statistics import mean
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reslab.analysis.batchnorm import covariate_shift, loss_smoothness
from reslab.errors import DamagedError
from reslab.experiment.trials import Trial
from reslab.state import draws_apart, preserve
from reslab.training.devices import fabric_here
from reslab.training.loop import Trainer

LEVELS = (0.75, 0.5, 0.25)
"""Loss levels as fractions of the logarithm of the number of classes, the loss of a guess."""
WINDOW = 10
"""Steps over which the loss is averaged."""
EXTREME = 1e9
"""Measurements are clipped to this and its inverse, which stand for overflow and underflow."""


class Look(NamedTuple):
    """The effect of one step of SGD, in log10: the turn of gradients (1 − cosine), the gradient's change per distance
    (β), and the drift of inputs.
    """

    turned: float
    beta: float
    drift: float


def descent(trial: Trial, rate: float) -> Look | None:
    """Repeat the trial's training, measure where each level is reached, and return the mean; None if the loss never
    reaches the last level.

    Each measurement is of a step with learning rate `rate` on the next batch.
    """
    looks: list[Look] = []
    losses: deque[float] = deque(maxlen=WINDOW)
    with draws_apart():
        trainer = Trainer(fabric_here(trial.config), trial.fresh_network(), trial.data(), trial.config, trial.run)
        trainer.model.train()
        guess = log(trial.data().num_classes)
        for index, following in pairwise(trainer.batches()):
            trainer.iterate(index)
            losses.append(float(trainer.sums[0]) / len(index))
            trainer.sums.zero_()
            if len(losses) == WINDOW and mean(losses) < LEVELS[len(looks)] * guess:
                looks.append(look(trainer.network, *trainer.data.training_batch(following, None), rate))
                if len(looks) == len(LEVELS):
                    return Look(*(mean(values) for values in zip(*looks, strict=True)))
    return None


def look(network: nn.Module, images: Tensor, labels: Tensor, rate: float) -> Look:
    """Return the effect of a step on this batch, without changing the network."""
    beta = loss_smoothness(network, images, labels, learning_rate=rate).beta
    moved = drift(input_moments(network, images), input_moments(stepped(network, images, labels, rate), images))
    return Look(*map(bounded_log10, (turned(network, images, labels, rate), beta, moved)))


def bounded_log10(value: float) -> float:
    """Return log10 of a value, within the extremes."""
    return log10(min(max(value, 1 / EXTREME), EXTREME) if isfinite(value) else EXTREME)


def turned(network: nn.Module, images: Tensor, labels: Tensor, rate: float) -> float:
    """Return 1 − cosine of the layers' gradients before and after the layers before them are updated: the mean over all
    layers but the first.

    A layer whose gradient is not a number after the update counts as turned by a right angle.
    """
    layers = covariate_shift(network, images, labels, learning_rate=rate).layers[1:]
    return mean(1 - layer.cosine if isfinite(layer.cosine) else 1.0 for layer in layers)


def stepped(network: nn.Module, images: Tensor, labels: Tensor, rate: float) -> nn.Module:
    """Return a copy of the network after a step of plain SGD."""
    moved = deepcopy(network)
    gradients = torch.autograd.grad(F.cross_entropy(moved(images), labels), list(moved.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(moved.parameters(), gradients, strict=True):
            parameter.sub_(rate * gradient)
    return moved


Moments = list[tuple[Tensor, Tensor]]
"""Mean and standard deviation of each channel, layer by layer."""


@torch.no_grad()
def input_moments(network: nn.Module, images: Tensor) -> Moments:
    """Return the moments of what enters each convolution but the first, in the network's current mode."""
    found: Moments = []

    def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1).double()
        found.append((values.mean(1), values.std(1)))

    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    handles = [module.register_forward_pre_hook(record) for module in convolutions[1:]]
    try:
        with preserve(network):
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def drift(before: Moments, after: Moments) -> float:
    """Return the shift of the channels' means in units of their earlier standard deviations: the mean over channels,
    then over layers.

    A channel that did not vary before is left out, and a layer with no other; infinity if nothing varied.
    """
    layers = []
    for (mean_before, std), (mean_after, _) in zip(before, after, strict=True):
        varied = std > 0
        if varied.any():
            layers.append(float(((mean_after - mean_before).abs() / std)[varied].mean()))
    return mean(layers) if layers else float("inf")


def early_loss(trial: Trial) -> float:
    """Return log10 of the mean training loss of the second epoch, or of the last of a run that ended sooner.

    Raises:
        DamagedError: if no epoch is on record.
    """
    losses = [line["loss"] for line in trial.run.metrics()][:2]
    if not losses:
        raise DamagedError(f"{trial.run.path} finished, but has no metrics; move it away and run again")
    return bounded_log10(inf if losses[-1] is None else losses[-1])
