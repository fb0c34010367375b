"""Augmentation as one gather over the batch, different for every image, from a generator of its own."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor


@dataclass(frozen=True)
class Augment:
    """Shift each image by up to `shift` pixels each way (zeros come in) and, if `flip`, mirror half of them.

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
