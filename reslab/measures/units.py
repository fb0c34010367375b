"""Parts of a pre-activation network beyond the order of operations in its units."""

from typing import Any

import torch

from reslab.networks import zoo
from reslab.networks.anatomy import Operations
from reslab.networks.meta import shapes_only


def snippet() -> dict[str, Any]:
    """Return what the v2 network of 56 layers contains beyond the chapter's snippet."""
    with shapes_only():
        network: Any = zoo.build("preresnet56").eval()
    blocks = [
        (f"layer{stage}.{index}", block)
        for stage in (1, 2, 3)
        for index, block in enumerate(network.get_submodule(f"layer{stage}"))
    ]
    first = blocks[0][1]
    with Operations() as in_first, torch.no_grad():
        first(torch.empty(1, 16, 32, 32, device="meta"))
    with Operations() as in_all, torch.no_grad():
        network(torch.empty(1, 3, 32, 32, device="meta"))
    last_addition = len(in_all.words) - 1 - in_all.words[::-1].index("+")
    return {
        "shared activation": [name for name, block in blocks if block.shares_activation],
        "first unit": " ".join(in_first.words),
        "after the last addition": " ".join(in_all.words[last_addition + 1 :]),
    }
