"""Augmentation, drawn for every image from a separate generator."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from reslab.data.images import resize_shorter
from reslab.sending import sent


@dataclass(frozen=True)
class Augment:
    """Shift each image by up to `shift` pixels each way, with zeros outside, and mirror half of them if `flip`, in one
    gather; then apply cutout.

    For 32×32 images, `Augment(shift=4, flip=True)` is the paper's pad-4, random crop and flip (He et al. 2015, section
    4.2). Cutout blanks a square with sides of `cutout` pixels around a random pixel, so that part of it may lie outside
    (DeVries & Taylor 2017, arXiv:1708.04552, section 3.2); blank is 0, the mean of standardised images.
    """

    shift: int
    flip: bool
    cutout: int = 0

    def __call__(self, images: Float[Tensor, "b c h w"], generator: Generator) -> Float[Tensor, "b c h w"]:
        """Return the augmented batch; the same generator state gives the same batch."""
        b, c, h, w = images.shape
        device = images.device
        padded = F.pad(images, (self.shift,) * 4)
        offsets = sent(torch.randint(2 * self.shift + 1, (2, b), generator=generator), device)
        rows = offsets[0, :, None] + torch.arange(h, device=device)  # [B, H] of the padded image
        columns = offsets[1, :, None] + torch.arange(w, device=device)  # [B, W]
        if self.flip:
            mirror = sent(torch.randint(2, (b, 1), generator=generator, dtype=torch.bool), device)
            columns = torch.where(mirror, columns.flip(1), columns)
        batch = torch.arange(b, device=device)[:, None, None, None]
        channels = torch.arange(c, device=device)[None, :, None, None]
        moved = padded[batch, channels, rows[:, None, :, None], columns[:, None, None, :]]
        if not self.cutout:
            return moved
        top, left = (
            sent(torch.randint(side, (b, 1), generator=generator), device) - self.cutout // 2 for side in (h, w)
        )
        # [B, H] and [B, W] from the square's corner
        down, across = torch.arange(h, device=device) - top, torch.arange(w, device=device) - left
        inside = [(place >= 0) & (place < self.cutout) for place in (down, across)]
        return moved.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.0)


@dataclass(frozen=True)
class ScaleCrop:
    """The paper's augmentation for ImageNet (He et al. 2015, section 3.4), on images of any size.

    Each image is resized so that its shorter side is uniform in `shorter`, a `crop`×`crop` square is cut out anywhere,
    half of them are mirrored, and the colour is shifted along the principal components of the training pixels.
    """

    shorter: tuple[int, int]
    crop: int
    colour: float
    covariance: tuple[tuple[float, ...], ...]

    def __call__(self, images: Sequence[Tensor], unit: float, generator: Generator) -> Float[Tensor, "b c h w"]:
        """Return pixels between 0 and 1 before their colour is shifted; the images, `[C, H, W]` each, have theirs
        between 0 and `unit`.
        """
        low, high = self.shorter
        sides = torch.randint(low, high + 1, (len(images),), generator=generator).tolist()
        places = torch.rand(len(images), 2, generator=generator).tolist()
        mirrored = torch.randint(2, (len(images),), generator=generator).tolist()
        crops = []
        for image, side, place, mirror in zip(images, sides, places, mirrored, strict=True):
            resized = resize_shorter(image, side)
            top, left = (int(where * (n - self.crop + 1)) for where, n in zip(place, resized.shape[-2:], strict=True))
            square = resized[:, top : top + self.crop, left : left + self.crop]
            crops.append(square.flip(2) if mirror else square)
        pixels = torch.stack(crops).float() / unit
        return pixels + sent(self.colours(len(images), generator), pixels.device)[:, :, None, None]

    def colours(self, count: int, generator: Generator) -> Float[Tensor, "b c"]:
        """Return colour shifts: Σ aᵢ λᵢ pᵢ over the components pᵢ with variances λᵢ, each aᵢ normal with standard
        deviation `colour`.

        (Krizhevsky et al. 2012, section 4.1.) With P the components and z = P a, which is normal too, the sum is P Λ a
        = (P Λ Pᵀ) z: the covariance times a normal vector. No components need be computed. Pixels are between 0 and 1,
        as λ has their unit squared.
        """
        covariance = torch.tensor(self.covariance)
        return self.colour * torch.randn(count, len(covariance), generator=generator) @ covariance
