"""The stem's max-pool of the paper's release and the ordinary one, side by side on ResNet-50. Nothing is trained."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from reslab.networks import zoo
from reslab.networks.anatomy import layers
from reslab.networks.meta import shapes_only

POOLS = ("caffe", "padded")
"""The release's max-pool, without padding and rounding up, and torchvision's."""


class Pooled(NamedTuple):
    """The shape of the stem's max-pool's output for one image, and the rows of its input, from 0, that two of its
    windows cover.
    """

    input: tuple[int, ...]  # channels, height, width
    output: tuple[int, ...]
    first: list[int]  # of three: one less is in the padding, or beyond the edge
    last: list[int]


@torch.no_grad()
def pooled(pool: str) -> Pooled:
    """Return this for the max-pool of resnet50 on an image of the paper's size; columns behave like rows."""
    with shapes_only():
        network = zoo.build("resnet50", pool=pool)
        shape = layers(network, zoo.input_shape(network))["conv1"].output
    max_pool = network.get_submodule("maxpool")
    rows = torch.eye(shape[1]).view(shape[1], 1, shape[1], 1).expand(-1, -1, -1, shape[2])  # one lit in each image
    lit = max_pool(rows)[:, 0, :, 0]  # [rows, windows]: whether the row is in the window
    first, last = (lit[:, window].nonzero().flatten().tolist() for window in (0, -1))
    return Pooled(shape, tuple(max_pool(torch.empty(shape, device="meta")).shape), first, last)


@torch.no_grad()
def logits_moved(seed: int) -> float:
    """Return ‖with the release's pool - with the ordinary one‖ / ‖with the ordinary one‖ of resnet50's logits: on one
    image of normal noise, with the same freshly drawn weights, in float64 and evaluation mode.
    """
    found = {pool: _logits(pool, seed) for pool in POOLS}
    return float((found["caffe"] - found["padded"]).norm() / found["padded"].norm())


def _logits(pool: str, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = zoo.build("resnet50", pool=pool).double().eval()
        logits: Tensor = network(torch.randn(1, *zoo.input_shape(network), dtype=torch.float64))
    return logits
