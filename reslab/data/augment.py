"""Augmentation, different for every image, from a generator of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from reslab.data.images import resize_shorter


@dataclass(frozen=True)
class Augment:
    """Shift each image by up to `shift` pixels each way (zeros come in) and, if `flip`, mirror half of them, in one gather.

    For 32×32 images, `Augment(shift=4, flip=True)` is the paper's pad-4, random crop and flip (He et al. 2015, section 4.2).
    """

    shift: int
    flip: bool

    def __call__(self, images: Float[Tensor, "b c h w"], generator: Generator) -> Float[Tensor, "b c h w"]:
        """Return the augmented batch; the same generator state gives the same batch."""
        b, c, h, w = images.shape
        padded = F.pad(images, (self.shift,) * 4)
        offsets = torch.randint(2 * self.shift + 1, (2, b), generator=generator).to(images.device)  # drawn on the CPU
        rows = offsets[0, :, None] + torch.arange(h, device=images.device)  # [B, H] of the padded image
        columns = offsets[1, :, None] + torch.arange(w, device=images.device)  # [B, W]
        if self.flip:
            mirror = torch.randint(2, (b, 1), generator=generator, dtype=torch.bool).to(images.device)
            columns = torch.where(mirror, columns.flip(1), columns)
        batch = torch.arange(b, device=images.device)[:, None, None, None]
        channels = torch.arange(c, device=images.device)[None, :, None, None]
        return padded[batch, channels, rows[:, None, :, None], columns[:, None, None, :]]


@dataclass(frozen=True)
class ScaleCrop:
    """The paper's augmentation for ImageNet (He et al. 2015, section 3.4), on images of any size.

    Each image is resized so that its shorter side is uniform in `shorter`, a `crop`×`crop` square is cut out anywhere, half of them are
    mirrored, and the colour is shifted along the principal components of the training pixels.
    """

    shorter: tuple[int, int]
    crop: int
    colour: float
    covariance: tuple[tuple[float, ...], ...]

    def __call__(self, images: Sequence[Tensor], unit: float, generator: Generator) -> Float[Tensor, "b c h w"]:
        """Return pixels between 0 and 1 before their colour is shifted; the images, `[C, H, W]` each, have theirs between 0 and `unit`."""
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
        return pixels + self.colours(len(images), generator)[:, :, None, None].to(pixels.device)

    def colours(self, count: int, generator: Generator) -> Float[Tensor, "b c"]:
        """Return colour shifts: Σ aᵢ λᵢ pᵢ over the components pᵢ with variances λᵢ, each aᵢ normal with standard deviation `colour`.

        (Krizhevsky et al. 2012, section 4.1.) With P the components and z = P a, which is normal too, the sum is P Λ a = (P Λ Pᵀ) z: the
        covariance times a normal vector. No components need be computed. Pixels are between 0 and 1, as λ has their unit squared.
        """
        covariance = torch.tensor(self.covariance)
        return self.colour * torch.randn(count, len(covariance), generator=generator) @ covariance
