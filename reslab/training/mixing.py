"""Mixing pairs of training images: mixup adds them, and cutmix pastes a part of one into the other."""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from reslab.errors import MismatchError, worded
from reslab.sending import sent
from reslab.training.recipes import Recipe


def mixed(
    images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"], recipe: Recipe, generator: Generator
) -> tuple[Float[Tensor, "b c h w"], Int[Tensor, " b"], float]:
    """Return images each mixed with another of the batch, the others' labels, and the share that the image itself has,
    which is Beta(α, α).

    Mixup (Zhang et al. 2018, arXiv:1710.09412, eq. 1) adds the images in these shares; cutmix (Yun et al. 2019,
    arXiv:1905.04899, section 3.1 and eq. 2) takes a rectangle of the other, of that share of the area before it is cut
    off at the border. With both in a recipe, each batch gets one or the other with equal probability.
    """
    others = sent(torch.randperm(len(images), generator=generator), images.device)
    cut = bool(recipe.cutmix) and (not recipe.mixup or bool(torch.randint(2, (), generator=generator)))
    alpha = torch.full((2,), recipe.cutmix if cut else recipe.mixup)
    one, two = torch._standard_gamma(alpha, generator=generator).tolist()
    share = one / (one + two) if one + two else 1.0  # both may be 0 in float32 for a small α
    if not cut:
        return share * images + (1 - share) * images[others], labels[others], share
    if images.dim() != 4:
        raise MismatchError(*worded("cutmix-of-no-images", shape=list(images.shape)))
    height, width = images.shape[2:]
    inside = _rectangle(height, width, 1 - share, generator)
    kept = 1 - inside.sum().item() / (height * width)
    return torch.where(sent(inside, images.device), images[others], images), labels[others], kept


def _rectangle(height: int, width: int, area: float, generator: Generator) -> Tensor:
    """Return a rectangle, `[H, W]`, of this share of the area, its middle anywhere, so that a part may be outside."""
    marks = []
    for side in (height, width):
        length = round(side * area**0.5)
        first = int(torch.randint(side, (), generator=generator)) - length // 2
        place = torch.arange(side)
        marks.append((place >= first) & (place < first + length))
    return marks[0][:, None] & marks[1]
