"""Whitening: the principal components of image patches, as a convolution (D. Page 2019, "How to train your ResNet" 8)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

ENOUGH_PATCHES = 1_000_000


class Whitening(nn.Module):
    """A convolution, without padding, by fixed filters for `side`×`side` patches and by their negatives; only its bias learns.

    Until `fit`, the filters give the patch as it is.
    """

    filters: Tensor

    def __init__(self, channels: int, side: int = 2) -> None:
        super().__init__()
        numbers = torch.eye(channels * side**2).unflatten(1, (channels, side, side))  # of the patch, until `fit`
        self.out_channels = 2 * len(numbers)
        self.register_buffer("filters", torch.cat([numbers, -numbers]))
        self.bias = nn.Parameter(torch.zeros(self.out_channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f h2 w2"]:
        """Return the components of each patch, and their negatives."""
        return F.conv2d(x, self.filters, self.bias)

    def fit(self, images: Float[Tensor, "n c h w"]) -> None:
        """Set the filters to those that whiten the patches of these images."""
        filters = whitening_filters(images, self.filters.shape[-1])
        self.filters.copy_(torch.cat([filters, -filters]))


def whitening_filters(images: Float[Tensor, "n c h w"], side: int, eps: float = 5e-4) -> Float[Tensor, "f c side side"]:
    """Return the filters whose answers over all `side`×`side` patches are uncorrelated and of mean square 1, the largest component first.

    There are c·side² of them, each an eigenvector of the patches' second moments over the root of its eigenvalue; `eps` keeps components that
    are all but absent from being blown up. Their signs are arbitrary, so that a network wants each filter and its negative.
    """
    channels = images.shape[1]
    per_image = (images.shape[2] - side + 1) * (images.shape[3] - side + 1)
    some = images[: max(1, ENOUGH_PATCHES // per_image)]
    patches = F.unfold(some.float(), side).transpose(1, 2).flatten(0, 1)  # [patches, c·side²]
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))  # in ascending order, a vector a column
    filters = (vectors / (values + eps).sqrt()).T.flip(0)
    return filters.unflatten(1, (channels, side, side))
