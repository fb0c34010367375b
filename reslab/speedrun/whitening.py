"""Whitening: the principal components of image patches, as a convolution (D. Page 2019, "How to train
your ResNet" 8).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SMALLEST_SIDE = 16
"""The side to which smaller images are enlarged: a 2×2 convolution without padding and three poolings reduce it to one
pixel.
"""
CHUNK = 500


class Whitening(nn.Module):
    """A convolution, without padding, by fixed filters for `side`×`side` patches and by their negatives; only its bias
    learns.

    Until `fit`, the filters return the patch unchanged.
    """

    filters: Tensor

    def __init__(self, channels: int, side: int = 2) -> None:
        super().__init__()
        numbers = torch.eye(channels * side**2).unflatten(1, (channels, side, side))  # of a patch, one a filter
        self.out_channels = 2 * len(numbers)
        self.register_buffer("filters", torch.cat([numbers, -numbers]))
        self.bias = nn.Parameter(torch.zeros(self.out_channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f h2 w2"]:
        """Return the components of each patch, and their negatives."""
        return F.conv2d(enlarged(x), self.filters, self.bias)

    def fit(self, images: Float[Tensor, "n c h w"]) -> None:
        """Set the filters to those that whiten the patches of these images."""
        filters = whitening_filters(images, self.filters.shape[-1])
        self.filters.copy_(torch.cat([filters, -filters]))


def enlarged(images: Float[Tensor, "b c h w"]) -> Tensor:
    """Return images whose shorter side has at least 16 pixels; smaller ones are enlarged by an integer factor
    (bilinear).
    """
    factor = -(-SMALLEST_SIDE // min(images.shape[2:]))
    return images if factor == 1 else F.interpolate(images, scale_factor=float(factor), mode="bilinear")


def whitening_filters(images: Float[Tensor, "n c h w"], side: int, eps: float = 5e-4) -> Float[Tensor, "f c side side"]:
    """Return the filters whose answers over all `side`×`side` patches have a mean square of 1 and mean products of 0,
    the largest component first.

    There are c·side² of them, each an eigenvector of the patches' second moments over the root of its eigenvalue; `eps`
    keeps negligible components from being amplified. Signs are arbitrary, so a network needs each filter and its
    negative.
    """
    moments, count = torch.zeros(()), 0
    for some in images.split(CHUNK):
        patches = F.unfold(enlarged(some).float(), side).transpose(1, 2).flatten(0, 1).cpu()  # [patches, c·side²]
        moments, count = moments + patches.T @ patches, count + len(patches)
    values, vectors = torch.linalg.eigh(moments / count)  # in ascending order, a vector a column
    filters = (vectors / (values + eps).sqrt()).T.flip(0)
    return filters.unflatten(1, (images.shape[1], side, side)).to(images.device)
