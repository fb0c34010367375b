"""The story of Level 4 at the terminal: which way the gradient goes, with and without skips, with and without
BatchNorm.
"""

from statistics import mean, stdev

import torch

from reslab.analysis.gradient_flow import gradient_flow, without_batchnorm
from reslab.data import load_data
from reslab.networks import zoo

DEPTHS = (20, 56, 110)
SEEDS = (0, 1, 2)
BATCH = 128
ROWS = {
    "plain, BatchNorm": ("cifar_plain", True),
    "plain, no BatchNorm": ("cifar_plain", False),
    "residual, BatchNorm": ("cifar_resnet", True),
    "residual, no BatchNorm": ("cifar_resnet", False),
}


def main(depths: tuple[int, ...] = DEPTHS) -> None:
    """Print the ratio of gradient norms, first over last, of every kind of network at initialisation, and the factor a
    block.
    """
    images, labels = (part[:BATCH] for part in load_data("digits").train)
    print(
        f"Gradient norm before the first block over that after the last, at initialisation ({BATCH} digits, "
        f"{len(SEEDS)} seeds: mean ± std;"
    )
    print("in brackets the factor by which the norm changes a block on its way back).\n")
    print(f"{'':24}" + "".join(f"{f'{depth} layers':>30}" for depth in depths))
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
        print(f"{label:24}" + "".join(f"{cell:>30}" for cell in cells), flush=True)
    print(
        "\nRead along a row: far above 1 the gradient explodes on its way back, far below 1 it vanishes. Yang et "
        "al. 2019 derive that plain networks"
    )
    print(
        "with BatchNorm explode. Does BatchNorm alone keep the gradient near 1 as depth grows? Does the skip "
        "alone? Do both together?"
    )
    print(
        "\nGo on: reslab analyze paths resnet20 · reslab analyze removal resnet20 --weights FILE · reslab analyze tour"
    )
