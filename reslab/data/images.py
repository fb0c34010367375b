"""Images: of one size as a tensor, of any sizes as a `Ragged`; resizing, cropping and statistics."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self, TypeAlias, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reslab.errors import UnusableError, WrongValueError, check_one_of, worded

Raw: TypeAlias = "Tensor | list[Tensor]"
"""Stored images: `[B, C, H, W]` if all have one size, else a list of `[C, H, W]`."""

CHUNK, MOST_VALUES = 1024, 2**24
"""Images that are measured at once, and their values."""
LONGEST = 16
"""The largest aspect ratio that is resized. Only the middle of longer strips is used, so that they fit in memory."""


Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""Pillow's resampling filters; all but the nearest are antialiased."""


LARGEST_RESIZE = 8192
"""More than any network's images are resized to, and little enough for memory."""


@dataclass(frozen=True)
class Framing:
    """How other libraries prepare an image of `size`×`size`: Pillow resizes its shorter side to `resize`, or both sides
    if `squashed`, and the centre is cropped.
    """

    size: int
    resize: int
    interpolation: Interpolation = "bilinear"
    squashed: bool = False

    def __post_init__(self) -> None:
        if not 1 <= min(self.size, self.resize) <= max(self.size, self.resize) <= LARGEST_RESIZE:
            raise WrongValueError(*worded("resized-and-cropped", resize=self.resize, size=self.size))
        check_one_of("interpolation", self.interpolation, get_args(Interpolation))

    def at(self, size: int) -> Self:
        """Return the same for another size, in proportion."""
        return replace(self, size=size, resize=max(size, round(self.resize * size / self.size)))

    def __call__(self, image: Tensor) -> Tensor:
        """Return `[C, size, size]` uint8 of an image `[C, H, W]` uint8."""
        # here, as torchvision takes a second to import
        from torchvision.transforms.v2.functional import center_crop

        image = image if self.squashed else _middle(image)
        height, width = image.shape[1:]
        sides = (self.resize, self.resize) if self.squashed else (self._side(width, height), self._side(height, width))
        method = Image.Resampling[self.interpolation.upper()]
        planes = [np.asarray(Image.fromarray(plane).resize(sides, method)) for plane in image.cpu().numpy()]
        return center_crop(torch.from_numpy(np.stack(planes)), [self.size, self.size])

    def _side(self, side: int, other: int) -> int:
        """Return the new length of a side; the longer one is rounded down."""
        return self.resize * side // min(side, other)


class Ragged:
    """Images of any sizes, concatenated in a flat tensor of bytes, which may be a memory-mapped file.

    `shapes` is `[N, 3]`: channels, height and width of each; all have the same channels.
    """

    def __init__(self, pixels: Tensor, shapes: Tensor) -> None:
        self.pixels, self.shapes = pixels, shapes
        ends = shapes.prod(1).cumsum(0)
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.long), ends])

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: Tensor) -> list[Tensor]:
        """Return the images at `index`, each `[C, H, W]` uint8."""
        return [
            self.pixels[self.offsets[i] : self.offsets[i + 1]].view(*self.shapes[i].tolist()) for i in index.tolist()
        ]

    def slice(self, start: int, stop: int) -> "Ragged":
        """Return the images from `start` to `stop`, on the same bytes."""
        return Ragged(self.pixels[self.offsets[start] : self.offsets[stop]], self.shapes[start:stop])

    @property
    def channels(self) -> int:
        """Return the number of channels of every image."""
        return int(self.shapes[0, 0])


Images: TypeAlias = Tensor | Ragged
"""All images of a part: `[N, C, H, W]` where they have one size, else ragged."""


class Statistics(NamedTuple):
    """Mean and standard deviation of each channel, and the channels' covariance, of pixels between 0 and 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]


def measure(images: Images, unit: float = 255.0) -> Statistics:
    """Return the statistics of all pixels, which lie between 0 and `unit`, from sums in float64.

    Raises:
        UserError: if a channel is constant, as its standard deviation is then 0.
    """
    channels = images.channels if isinstance(images, Ragged) else images.shape[1]
    count, total, products = (
        0,
        torch.zeros(channels, dtype=torch.double),
        torch.zeros(channels, channels, dtype=torch.double),
    )
    of_each = 1 if isinstance(images, Ragged) else images[:1].numel()  # as those are taken one by one
    step = min(CHUNK, max(MOST_VALUES // of_each, 1))
    for start in range(0, len(images), step):
        some = images[torch.arange(start, min(start + step, len(images)))]
        for pixels in (
            [some.transpose(0, 1).flatten(1)] if isinstance(some, Tensor) else [image.flatten(1) for image in some]
        ):
            values = pixels.double() / unit  # [C, pixels]
            count += values.shape[1]
            total += values.sum(1)
            products += values @ values.T
    mean = total / count
    covariance = products / count - mean[:, None] * mean
    std = covariance.diagonal().clamp(min=0).sqrt()
    if (std < 1e-6).any():
        raise UnusableError(*worded("constant-channel"))
    return Statistics(tuple(mean.tolist()), tuple(std.tolist()), tuple(map(tuple, covariance.tolist())))


def resize_shorter(images: Tensor, side: int) -> Tensor:
    """Return `[..., C, H, W]` with its shorter side of this length and its proportions kept (bilinear, antialiased).

    Only the middle of an image longer than `LONGEST` times its shorter side is used.
    """
    # here, as torchvision takes a second to import and the digits need none of it
    from torchvision.transforms.v2.functional import resize

    images = _middle(images)
    return images if min(images.shape[-2:]) == side else resize(images, [side], antialias=True)


def _middle(images: Tensor) -> Tensor:
    """Return the middle of images longer than `LONGEST` times their shorter side, others unchanged."""
    for axis in (-2, -1):
        beyond = images.shape[axis] - LONGEST * min(images.shape[-2:])
        images = images.narrow(axis, beyond // 2, images.shape[axis] - beyond) if beyond > 0 else images
    return images


def single_view(images: Tensor, size: int) -> Tensor:
    """Return the paper's single view: shorter side 8/7 of `size` (256 for 224), a centre crop of `size`×`size`.

    Images of exactly `size`×`size` are unchanged.
    """
    if images.shape[-2:] == (size, size):
        return images
    from torchvision.transforms.v2.functional import center_crop

    return center_crop(resize_shorter(images, round(size * 8 / 7)), [size, size])
