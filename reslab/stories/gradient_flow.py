"""The story of Level 4: the gradient's size over depth, with and without skips, with and without BatchNorm."""

from statistics import mean, stdev

import torch

from reslab.analysis.gradient_flow import gradient_flow, without_batchnorm
from reslab.commands.typed import Language
from reslab.data import load_data
from reslab.networks import zoo
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
    print(say["title"].format(images=BATCH, seeds=len(SEEDS)) + "\n")
    print(f"{'':24}" + "".join(f"{say['layers'].format(depth=depth):>30}" for depth in depths))
    for label, (family, batchnorm) in ROWS.items():
        cells = []
        for depth in depths:
            ratios, factors = [], []
            for seed in SEEDS:
                torch.manual_seed(seed)
                network = zoo.build(family, depth=depth, in_channels=1)
                flow = gradient_flow(network if batchnorm else without_batchnorm(network), images, labels)
                ratios.append(flow.first_over_last)
                factors.append(flow.growth)
            cells.append(f"{mean(ratios):.2g} ± {stdev(ratios):.1g} (×{mean(factors):.2f})")
        print(padded(say[label], 24) + "".join(f"{cell:>30}" for cell in cells), flush=True)
    print(f"\n{say['reading']}")
    onwards = ("paths resnet20", "removal resnet20 --weights FILE", "tour")
    print(f"\n{say['onwards']}: " + " · ".join(f"reslab analyze {each}" for each in onwards))
