"""A data set: stored images, and standardised batches of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float32, Int64
from torch import Generator, Tensor

from reslab.data.augment import Augment, ScaleCrop
from reslab.data.images import Framing, Images, Ragged, Raw, Statistics, resize_shorter, single_view
from reslab.errors import Language, MissingError, Wording, check_one_of, worded
from reslab.sending import sent

PartName = Literal["train", "heldout", "test"]
Split = tuple[Float32[Tensor, "n c h w"], Int64[Tensor, "n"]]
"""Standardised images and their labels."""

BATCH_PIXELS = 128 * 32 * 32
BATCH_IMAGES = 512


STATISTICS_BATCH = 256
WORDS: dict[Language, dict[str, str]] = {
    "ko": {
        "data": "{name}: 클래스 {classes}개. {images}, {size}. {rule}",
        "parts": "훈련 이미지 {}장, 검증 이미지 {}장, 테스트 이미지 {}장",
        "test": "테스트 이미지 {}장",
        "sizes": "크기는 여러 가지",
    },
    "en": {
        "data": "{name}: {classes} classes; {images}, {size}; {rule}",
        "parts": "{} training, {} held-out and {} test images",
        "test": "{} test images",
        "sizes": "of several sizes",
    },
}


class Part(NamedTuple):
    """The stored images of a part, and their labels."""

    images: Images
    labels: Int64[Tensor, "n"]

    def __repr__(self) -> str:
        return f"Part of {len(self.labels):,} images"  # and not their pixels


@dataclass(frozen=True)
class Dataset:
    """Images in three parts, or only a test part. `heldout` is for choices; `test` is read once, at the end.

    Stored pixels lie between 0 and `unit`. `size` is the side of the network's input, None for unchanged images, and
    `framing` how images are resized to it if not in the paper's way. `statistics` are the first part's, and standardise
    all parts. `fingerprint` is of all images and labels that may change; it is empty if they come with a library.
    """

    name: str
    parts: Mapping[PartName, Part]
    classes: tuple[str, ...]
    statistics: Statistics
    augment: Augment | ScaleCrop
    split_rule: Wording
    unit: float = 255.0
    size: int | None = None
    fingerprint: str = ""
    framing: Framing | None = None

    def __repr__(self) -> str:
        return f"Dataset {self.describe()}"

    @property
    def num_classes(self) -> int:
        """Return the number of classes, including those without images in some part."""
        return len(self.classes)

    @property
    def in_channels(self) -> int:
        """Return the number of image channels."""
        images = next(iter(self.parts.values())).images
        return images.channels if isinstance(images, Ragged) else int(images.shape[1])

    def part(self, name: PartName) -> Part:
        """Return a part.

        Raises:
            UserError: if there is no such part, or the data set has only a test part.
        """
        check_one_of("part", name, get_args(PartName))
        if name not in self.parts:
            raise MissingError(*worded("test-part-only", data=self.name, part=name))
        return self.parts[name]

    @property
    def training_images(self) -> int:
        """Return the number of training images."""
        return len(self.labels)

    @property
    def labels(self) -> Int64[Tensor, "n"]:
        """Return the training labels."""
        return self.part("train").labels

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Return how a network's images are prepared and what its outputs mean, as stored in weights files."""
        mean, std = map(list, (self.statistics.mean, self.statistics.std))
        return {"data": self.name, "mean": mean, "std": std, "size": self.side, "classes": list(self.classes)}

    @property
    def identity(self) -> dict[str, Any]:
        """Return what may change under a data set's name, as results say it: its images, and its classes' names."""
        return {"images": self.fingerprint, "classes": list(self.classes)}

    @property
    def side(self) -> int | None:
        """Return the side of the network's input: `size`, or that of the images if all are squares of one size."""
        if self.size is not None:
            return self.size
        sides = {
            side
            for images, _ in self.parts.values()
            for side in ((None,) if isinstance(images, Ragged) else images.shape[2:])
        }
        return next(iter(sides)) if len(sides) == 1 else None

    def describe(self, language: Language = "en") -> str:
        """Return a one-line summary: classes, images, their size, and the split."""
        words = WORDS[language]
        sizes = [f"{len(part.labels):,}" for part in self.parts.values()]
        images = next(iter(self.parts.values())).images
        return words["data"].format(
            name=self.name,
            classes=self.num_classes,
            images=words["parts" if len(sizes) > 1 else "test"].format(*sizes),
            size=words["sizes"] if isinstance(images, Ragged) else "×".join(map(str, images.shape[1:])),
            rule=self.split_rule.said_in(language),
        )

    @property
    def train(self) -> Split:
        """Return the whole training part, standardised."""
        return self._whole("train")

    @property
    def heldout(self) -> Split:
        """Return the whole held-out part, standardised."""
        return self._whole("heldout")

    @property
    def test(self) -> Split:
        """Return the whole test part, standardised."""
        return self._whole("test")

    def _whole(self, part: PartName) -> Split:
        images, labels = self.part(part)
        if isinstance(images, Ragged):
            return self.sample(part, len(labels))
        return self._single_views(images), labels.clone()  # which one may change

    def fitted(self, size: int) -> "Dataset":
        """Return this data set with images of different sizes resized to `size` and shifted by up to an eighth; images
        of one size are unchanged.
        """
        ragged = any(isinstance(images, Ragged) for images, _ in self.parts.values())
        return replace(self, size=size, augment=Augment(shift=size // 8, flip=True)) if ragged else self

    def labelled(self, classes: Sequence[str], places: Sequence[int]) -> "Dataset":
        """Return this data set with labels that are the indices of its classes among `classes`."""
        label = torch.tensor(places)
        parts = {name: Part(images, label.to(labels.device)[labels]) for name, (images, labels) in self.parts.items()}
        return replace(self, classes=tuple(classes), parts=parts)

    def scale_cropped(self, shorter: tuple[int, int], crop: int, colour: float) -> "Dataset":
        """Return this data set with the paper's augmentation for ImageNet, and inputs of side `crop`."""
        return replace(self, size=crop, augment=ScaleCrop(shorter, crop, colour, self.statistics.covariance))

    def cut_out(self, side: int) -> "Dataset":
        """Return this data set with cutout: a square of this side is blanked in every training image."""
        assert isinstance(self.augment, Augment)
        return replace(self, augment=replace(self.augment, cutout=side))

    def to(self, device: torch.device) -> "Dataset":
        """Return this data set with images of one size on the device, if they leave half of its free memory; others are
        sent batch by batch.
        """
        size = sum(images.nbytes for images, _ in self.parts.values() if isinstance(images, Tensor))
        fits = size <= _free(device) / 2
        parts = {
            name: Part(images.to(device) if fits and isinstance(images, Tensor) else images, labels.to(device))
            for name, (images, labels) in self.parts.items()
        }
        return replace(self, parts=parts)

    def training_batch(self, index: Int64[Tensor, "n"], generator: Generator | None) -> Split:
        """Return the training images at `index`, augmented with the generator; without one, as for evaluation."""
        part = self.part("train")
        raw, labels = _take(part.images, index), part.labels[sent(index, part.labels.device)]
        if generator is None:
            return self._single_views(raw), labels
        if isinstance(self.augment, ScaleCrop):
            return self._standardise(self.augment(list(raw), self.unit, generator)), labels
        return self.augment(self._single_views(raw), generator), labels

    def shuffled(self) -> Iterator[Split]:
        """Yield the training images, not augmented, in batches of about 256 with mixed classes."""
        order = torch.randperm(len(self.labels), generator=Generator().manual_seed(0))
        for index in order.tensor_split(-(-len(order) // STATISTICS_BATCH)):
            yield self.training_batch(index, None)

    def batches(self, part: PartName) -> Iterator[Split]:
        """Yield the part in order, each image once: unchanged, or its single view at `size`."""
        return self._batches(part, torch.arange(len(self.part(part).labels)))

    def sample(self, part: PartName, count: int) -> Split:
        """Return `count` images of the part in the same way, or all of them.

        They are the first ones, or evenly spread over the part if its images are sorted by class, as a folder's are.
        """
        labels = self.part(part).labels
        count = min(count, len(labels))
        by_class = len(labels.unique_consecutive()) == len(labels.unique())
        index = torch.arange(count)
        found = list(self._batches(part, index * len(labels) // count if by_class else index))
        return torch.cat([images for images, _ in found]), torch.cat([some for _, some in found])

    def _batches(self, part: PartName, chosen: Tensor) -> Iterator[Split]:
        images, labels = self.part(part)
        side = self.size if isinstance(images, Ragged) or self.size else max(images.shape[2:])
        step = max(1, min(BATCH_IMAGES, BATCH_PIXELS // (side or 1) ** 2))
        for index in chosen.split(step):
            yield self._single_views(_take(images, index)), labels[sent(index, labels.device)]

    def resized(self, part: PartName, shorter: int, batch: int) -> Iterator[Split]:
        """Yield the part with the shorter side of each image at `shorter`, in batches of one shape and at most `batch`
        images.

        The order depends only on the images and `batch`, so that batches of different scales match.
        """
        images, labels = self.part(part)
        for index in _of_one_shape(images):
            for some in index.split(batch):
                raw = _take(images, some)
                whole = raw if isinstance(raw, Tensor) else torch.stack(raw)
                yield self._prepare(resize_shorter(whole, shorter)), labels[sent(some, labels.device)]

    def _single_views(self, raw: Raw) -> Tensor:
        if self.framing is not None:
            return self._prepare(torch.stack([self.framing(image) for image in raw]))
        if isinstance(raw, Tensor):
            return self._prepare(raw if self.size is None else single_view(raw, self.size))
        if self.size is None:
            raise MissingError(*worded("sizes-differ", data=self.name))
        return self._prepare(torch.stack([single_view(image, self.size) for image in raw]))

    def _prepare(self, images: Tensor) -> Tensor:
        return self._standardise(images.float() / self.unit)

    def _standardise(self, images: Tensor) -> Tensor:
        mean, std = self._mean_and_std
        # images of different sizes stay on the CPU until they form a batch
        return (sent(images, mean.device) - mean) / std

    @cached_property
    def _mean_and_std(self) -> tuple[Tensor, Tensor]:
        """Return both on the data set's device, as sending them with every batch would stall the host."""
        device = next(iter(self.parts.values())).labels.device
        return torch.tensor(self.statistics.mean, device=device)[:, None, None], torch.tensor(
            self.statistics.std, device=device
        )[:, None, None]


def _free(device: torch.device) -> float:
    """Return the free memory of a device in bytes, without bounds for the CPU, whose images are in memory already."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return float("inf")


def _take(images: Images, index: Tensor) -> Raw:
    return images[index] if isinstance(images, Ragged) else images[sent(index, images.device)]


def _of_one_shape(images: Images) -> list[Tensor]:
    """Return the indices of the images of each shape."""
    if isinstance(images, Tensor):
        return [torch.arange(len(images))]
    _, group = images.shapes.unique(dim=0, return_inverse=True)
    return [torch.nonzero(group == number)[:, 0] for number in range(int(group.max()) + 1)]


def held_out(labels: Tensor) -> Tensor:
    """Return which training images are held out: of each class the 10th, the 20th, …; of a class of fewer than ten, the
    last.

    For CIFAR-10 that is 45,000 and 5,000 images, the sizes of the paper's split (He et al. 2015, section 4.2).

    Raises:
        UserError: if a class has only one image.
    """
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        places = torch.nonzero(labels == label)[:, 0]
        if len(places) < 2:
            raise MissingError(*worded("class-of-one-image", label=int(label)))
        mask[places[9::10] if len(places) >= 10 else places[-1:]] = True
    return mask


HELD_OUT_RULE = Wording(
    "of each class, training images 10, 20, … in order are held out (the last one, of fewer than ten)",
    "클래스마다 훈련 이미지를 순서대로 세어 10, 20, …번째를 검증에 쓴다 (열 장이 안 되면 마지막 한 장)",
)
