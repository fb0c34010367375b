"""The story of Level 4: the gradient's size over depth, with and without skips, with and without BatchNorm."""

from collections.abc import Sequence
from itertools import product
from statistics import mean, stdev

import torch

from reslab.analysis.gradient_flow import GradientFlow, gradient_flow, without_batchnorm
from reslab.data import load_data
from reslab.errors import Language
from reslab.networks import zoo
from reslab.progress import display, each
from reslab.stories.speaking import padded, words

DEPTHS = (20, 56, 110)
SEEDS = (0, 1, 2)
BATCH = 128
ROWS = {
    "plain, BatchNorm": ("cifar_plain", True),
    "plain, no BatchNorm": ("cifar_plain", False),
    "residual, BatchNorm": ("cifar_resnet", True),
    "residual, no BatchNorm": ("cifar_resnet", False),
}


def main(depths: tuple[int, ...] = DEPTHS, *, spoken: Language = "en") -> None:
    """Print the ratio of gradient norms, first over last, of every kind of network at initialisation, and the factor
    per block.
    """
    say = words("gradient_flow", spoken)
    images, labels = (part[:BATCH] for part in load_data("digits").train)
    flows: dict[tuple[str, int], list[GradientFlow]] = {}
    with display() as progress:
        for label, depth, seed in each(list(product(ROWS, depths, SEEDS)), say["bar"], progress):
            family, batchnorm = ROWS[label]
            torch.manual_seed(seed)
            network = zoo.build(family, depth=depth, in_channels=1)
            flow = gradient_flow(network if batchnorm else without_batchnorm(network), images, labels)
            flows.setdefault((label, depth), []).append(flow)
    print(say["title"].format(images=BATCH, seeds=len(SEEDS)) + "\n")
    print(f"{'':24}" + "".join(f"{say['layers'].format(depth=depth):>30}" for depth in depths))
    for label in ROWS:
        cells = [_cell(flows[label, depth]) for depth in depths]
        print(padded(say[label], 24) + "".join(f"{cell:>30}" for cell in cells))
    print(f"\n{say['reading']}")
    onwards = ("paths resnet20", "removal resnet20 --weights FILE", "tour")
    print(f"\n{say['onwards']}: " + " · ".join(f"reslab analyze {each}" for each in onwards))


def _cell(flows: Sequence[GradientFlow]) -> str:
    """Return the mean ratio with its spread over the seeds, and the mean factor."""
    ratios = [flow.first_over_last for flow in flows]
    return f"{mean(ratios):.2g} ± {stdev(ratios):.1g} (×{mean(flow.growth for flow in flows):.2f})"
