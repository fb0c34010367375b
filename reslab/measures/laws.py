"""The successors' laws as functions: the lines behind a RegNet's stages, the φ behind an EfficientNet's scale, the sum
in a ResNeXt block.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reslab.analysis.feature_reuse import dense_blocks
from reslab.experiment.text import StudyText
from reslab.ledger.record import Table, Value
from reslab.networks import zoo
from reslab.networks.meta import shapes_only
from reslab.successors import efficientnet, regnet

RESNETS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
_KINDS = (("x", regnet.X), ("y", regnet.Y))
DESIGNS = {f"regnet_{kind}_{size}": design for kind, designs in _KINDS for size, design in designs.items()}


def slopes(blocks: Sequence[int], wm: float) -> tuple[float, float] | None:
    """Return the range, its end excluded, of `wa/w0` for which a line quantised to powers of wm has these blocks per
    stage; None if there is none.
    """
    low, high = 0.0, math.inf
    for stage, end in enumerate(accumulate(blocks), start=1):  # the next stage begins with block `end`
        edge = wm ** (stage - 0.5) - 1
        if stage < len(blocks):
            low = max(low, edge / end)
        if end > 1:
            high = min(high, edge / (end - 1))
    return (low, high) if low < high else None


def nearest_blocks(blocks: Sequence[int], wm: float) -> tuple[list[int], float]:
    """Return the blocks per stage of the nearest line, of 2,000 slopes, and its mean absolute log-ratio of widths (the
    paper's e_fit).
    """
    observed = [stage for stage, count in enumerate(blocks) for _ in range(count)]

    def steps(slope: float) -> list[int]:
        return [round(math.log(1 + slope * j) / math.log(wm)) for j in range(len(observed))]

    def misfit(slope: float) -> float:
        return math.log(wm) * sum(abs(a - b) for a, b in zip(steps(slope), observed, strict=True)) / len(observed)

    best = min((0.01 * 1000 ** (i / 2000) for i in range(2000)), key=misfit)
    fitted = steps(best)
    return [fitted.count(stage) for stage in range(max(fitted) + 1)], misfit(best)


def agreeing_phi(scale: efficientnet.Scale) -> tuple[float, float] | None:
    """Return the range of φ that gives a scale's depth and width to one decimal and its side to 4 pixels; None if there
    is none.
    """
    ranges = [
        (math.log((value - half) / unit) / math.log(base), math.log((value + half) / unit) / math.log(base))
        for value, half, unit, base in (
            (scale.depth, 0.05, 1, efficientnet.ALPHA),
            (scale.width, 0.05, 1, efficientnet.BETA),
            (scale.resolution, 2, 224, efficientnet.GAMMA),
        )
    ]
    low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
    return (low, high) if low < high else None


def sum_of_paths(block: Any, x: Tensor, cardinality: int) -> Tensor:
    """Return `relu(shortcut(x) + Σ_i T_i(x))` with each T_i computed alone, from its slice of a ResNeXt block's
    weights, in evaluation mode.
    """
    width = block.conv1.out_channels // cardinality

    def norm(values: Tensor, bn: nn.BatchNorm2d, part: slice) -> Tensor:
        assert bn.running_mean is not None and bn.running_var is not None
        return F.batch_norm(
            values, bn.running_mean[part], bn.running_var[part], bn.weight[part], bn.bias[part], eps=bn.eps
        )

    total = torch.zeros(())
    for path in range(cardinality):
        part = slice(path * width, (path + 1) * width)
        h = norm(F.conv2d(x, block.conv1.weight[part]), block.bn1, part).relu()
        h = norm(F.conv2d(h, block.conv2.weight[part], stride=block.conv2.stride, padding=1), block.bn2, part).relu()
        total = total + F.conv2d(h, block.conv3.weight[:, part])
    return (block.downsample(x) + block.bn3(total)).relu()


def connections(name: str) -> tuple[int, int]:
    """Return a dense network's direct connections into its layers, and those of one block of as many layers."""
    with shapes_only():
        layers = [len(block.readers) - 1 for block in dense_blocks(zoo.build(name))]
    return sum(n * (n + 1) // 2 for n in layers), sum(layers) * (sum(layers) + 1) // 2


def wa_range(design: regnet.Design) -> tuple[float, float]:
    """Return the range of wa, its end excluded, over which a design's network is the same."""
    found = slopes([blocks for blocks, _, _ in regnet.stages(design)], design.wm)
    assert found is not None
    return design.w0 * found[0], design.w0 * found[1]


def regnet_table(text: StudyText) -> Table:
    """Return each RegNet's five numbers and the resulting stages; then the ResNets and their nearest lines."""
    rows: list[list[Value]] = []
    for name, design in DESIGNS.items():
        stages = regnet.stages(design)
        low, high = wa_range(design)
        # A line's widths are off the network's where those were made to fit its groups.
        misfits = (n * abs(math.log(design.w0 * design.wm**s / w)) for s, (n, w, _) in enumerate(stages))
        widths, blocks = _list(w for _, w, _ in stages), _list(n for n, _, _ in stages)
        rows.append([name, *design, widths, blocks, f"{low:.2f} … {high:.2f}", sum(misfits) / design.d])
    for name, resnet in RESNETS.items():
        nearest, misfit = nearest_blocks(resnet, 2.0)
        line = [256, None, 2.0, None, sum(resnet), "256, 512, 1024, 2048"]
        rows.append([name, *line, _list(resnet), f"none; nearest: {_list(nearest)}", misfit])
    return text.table("regnets", rows)


def efficientnet_table(text: StudyText) -> Table:
    """Return the published coefficients, and the φ that each of them alone would need."""
    rows: list[list[Value]] = []
    for name, scale in efficientnet.PUBLISHED.items():
        agreeing = agreeing_phi(scale)
        shared = f"{agreeing[0]:.2f} … {agreeing[1]:.2f}" if agreeing else "none"
        alone = (round(phi, 2) for phi in efficientnet.implied_phi(scale))
        rows.append([name, scale.depth, scale.width, scale.resolution, *alone, shared])
    return text.table("efficientnets", rows)


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
