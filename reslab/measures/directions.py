"""Directions that a block's Jacobian shrinks, and how often the loss's gradient gets shorter."""

from collections.abc import Sequence
from itertools import chain, product
from statistics import fmean
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reslab.analysis.jacobian import jacobian
from reslab.analysis.subject import evaluating
from reslab.experiment.text import StudyText
from reslab.experiment.trials import Key, Trial, label
from reslab.gates.making import view
from reslab.ledger.record import Chart

IMAGES = 128


class Look(NamedTuple):
    """Measurements of a network's blocks: all singular values of some, by name, and how often the loss's gradient
    shrinks.
    """

    values: dict[str, list[float]]
    shortened: float


def looks(trial: Trial) -> dict[str, Look]:
    """Return the measurements of a trial's network before and after training."""
    images, labels = trial.data().sample("train", IMAGES)
    networks = {"before": trial.fresh_network(), "after": trial.network()}
    return {
        when: Look(singular_values(network, images, trial.seed), shortened(network, images, labels))
        for when, network in networks.items()
    }


def shortened(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images for which the loss's gradient is shorter before a block than after it: the mean over
    the blocks whose shortcut is the identity, with all images' statistics in BatchNorm.
    """
    seen = view(network, images[:2])
    with evaluating(network, images):
        live = [seen.stem(images)]
        for index in range(len(seen)):
            live.append(seen.block(index, live[-1]))
        loss = F.cross_entropy(seen.head(live[-1]), labels, reduction="sum")
        gradients = torch.autograd.grad(loss, [one.stream for one in live])
    lengths = [gradient.flatten(1).norm(dim=1) for gradient in gradients]
    ends = zip(seen.blocks, lengths, lengths[1:], strict=False)
    return fmean(float((before < after).double().mean()) for block, before, after in ends if block.identity)


def singular_values(network: nn.Module, images: Tensor, seed: int) -> dict[str, list[float]]:
    """Return all singular values at the seed's image, of 8×8, of each stage's last block if its shortcut is the
    identity, by its name.

    BatchNorm uses the statistics of all the images, so that the values of an untrained network are meaningful.
    """
    images = F.adaptive_avg_pool2d(images, 8)
    last = {block.stage: block for block in view(network, images[:2]).blocks}
    names = [block.name for block in last.values() if block.identity]
    image = seed % len(images)
    with evaluating(network, images):
        found = jacobian(network, images[image : image + 1], names, method="all").blocks
    return {block.name: block.values[0].tolist() for block in found if block.values is not None}


WIDTH, BINS = 0.1, 32
"""The bins of the histograms, from 0 on, so that 1 is between two of them; the last holds what is larger too."""

Found = dict[Key, dict[int, dict[str, Look]]]
"""Measurements by group, seed, and before or after training."""


def direction_charts(text: StudyText, found: Found) -> list[Chart]:
    """Return the singular values as histograms before and after training, and in order, by block."""
    return [_histograms(text, found), _in_order(text, found)]


def _histograms(text: StudyText, found: Found) -> Chart:
    centres = [round((i + 0.5) * WIDTH, 2) for i in range(BINS)]
    series = []
    for key, when in product(filter(found.get, found), ("before", "after")):
        shares = {seed: histogram(every(one[when])) for seed, one in found[key].items()}
        series.append(text.over_seeds(label((*key, when)), centres, shares))
    return text.chart("singular-values", series, kind="bars", arrangement="panels", marks=[1.0])


def histogram(values: Sequence[float]) -> list[float]:
    """Return the share of values in each bin, in %."""
    bins = (torch.tensor(values, dtype=torch.float64) / WIDTH).floor().long().clamp(0, BINS - 1)
    return (100 * torch.bincount(bins, minlength=BINS).double() / len(values)).tolist()


def _in_order(text: StudyText, found: Found) -> Chart:
    at = torch.linspace(0, 1, 21, dtype=torch.float64)
    series = []
    for (version,), by_seed in found.items():
        for name in next(iter(by_seed.values()))["after"].values if by_seed else []:
            blocks = {
                seed: torch.tensor(one["after"].values[name], dtype=torch.float64) for seed, one in by_seed.items()
            }
            quantiles = {seed: block.quantile(at).tolist() for seed, block in blocks.items()}
            series.append(text.over_seeds(f"{version}, {name}", (100 * at).tolist(), quantiles))
    return text.chart("in-order", series)


def every(look: Look) -> list[float]:
    """Return the values of all blocks."""
    return list(chain.from_iterable(look.values.values()))


def share_under(limit: float, values: Sequence[float]) -> float:
    """Return the share of values that are under a limit."""
    return sum(value < limit for value in values) / len(values)
