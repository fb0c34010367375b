"""Whether later blocks restore what a removed block would have added."""

from itertools import groupby

import torch
from torch import Tensor

from reslab.gates.planning import Live
from reslab.gates.view import View


def stages(gated: View) -> list[list[int]]:
    """Return, stage by stage, the indices of the blocks that keep the shape."""
    keeping = [index for index, block in enumerate(gated.blocks) if block.identity]
    return [list(group) for _, group in groupby(keeping, key=lambda index: gated.blocks[index].stage)]


@torch.no_grad()
def repair(gated: View, images: Tensor) -> float:
    """Return the fraction of a removed block's output that later blocks restore by the end of its stage.

    It is taken over all images together, and averaged over the blocks but each stage's last.
    """
    before: list[Live] = [gated.stem(images)]
    for index in range(len(gated)):
        before.append(gated.block(index, before[-1]))
    parts = []
    for blocks in stages(gated):
        end = blocks[-1] + 1
        for index in blocks[:-1]:
            _, branches = gated.sides(index, before[index])
            output = torch.stack(list(branches)).sum(0).flatten(1)  # F_i, [B, C·H·W]
            live = gated.block(index, before[index], torch.zeros(len(gated)))
            for later in range(index + 1, end):
                live = gated.block(later, live)
            missing = (before[end].stream - live.stream).flatten(1)
            parts.append(1 - (missing * output).sum() / output.square().sum())
    return float(torch.stack(parts).mean())
