"""CIFAR and Fashion-MNIST through torchvision: found in a root, or downloaded when that is asked for."""

import gzip
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from reslab.data.augment import Augment
from reslab.data.dataset import HELD_OUT_RULE, Dataset, Part, held_out
from reslab.data.images import measure
from reslab.data.places import Watch, data_root
from reslab.errors import UserError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist installs it."""


def cifar10(place: str, download: bool, watch: Watch) -> Dataset:
    """Return CIFAR-10, `[N, 3, 32, 32]`: 45,000 / 5,000 / 10,000 images."""
    return _dataset("cifar10", *_load(datasets.CIFAR10, "cifar10", place, download))


def cifar100(place: str, download: bool, watch: Watch) -> Dataset:
    """Return CIFAR-100, `[N, 3, 32, 32]`: 45,000 / 5,000 / 10,000 images."""
    return _dataset("cifar100", *_load(datasets.CIFAR100, "cifar100", place, download))


def cifar10_jpeg75(place: str, download: bool, watch: Watch) -> Dataset:
    """Return CIFAR-10 as a JPEG copy of quality 75 shows it, each image encoded and decoded again in memory."""
    train, test, classes = _load(datasets.CIFAR10, "cifar10", place, download)
    total = len(train.labels) + len(test.labels)
    for done, image in enumerate((*train.images, *test.images)):  # views: each is written over
        if done % 1000 == 0:
            watch("encoding as JPEG", done, total)
        image.copy_(as_jpeg(image))
    watch("encoding as JPEG", total, total)
    return _dataset("cifar10-jpeg75", train, test, classes)


def as_jpeg(image: Tensor) -> Tensor:
    """Return `[C, H, W]` uint8 as it comes out of a JPEG file of Pillow's quality 75."""
    file = io.BytesIO()
    to_pil_image(image).save(file, "JPEG", quality=75)
    with Image.open(file) as decoded:
        return pil_to_tensor(decoded)


def fashion_mnist(place: str, download: bool, watch: Watch) -> Dataset:
    """Return Fashion-MNIST, `[N, 1, 28, 28]`: 54,000 / 6,000 / 10,000 images; also where Debian's package installs it."""
    if place or not DEBIAN.is_dir():
        return _dataset("fashion_mnist", *_load(datasets.FashionMNIST, "fashion_mnist", place, download))
    with TemporaryDirectory() as root:  # torchvision reads them unpacked
        raw = Path(root) / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for packed in DEBIAN.glob("*.gz"):
            (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
        return _dataset("fashion_mnist", *_load(datasets.FashionMNIST, "fashion_mnist", root, download=False))


class _Split(NamedTuple):
    images: Tensor
    labels: Tensor


def _load(kind: Callable[..., Any], name: str, place: str, download: bool) -> tuple[_Split, _Split, tuple[str, ...]]:
    """Return the training and test images and labels, and the names of the classes.

    Raises:
        UserError: if the files are not in the root, damaged, or cannot be downloaded.
    """
    root = Path(place).expanduser() if place else data_root()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision's own, about how old NumPy pickled
            splits = [kind(root, train=train, download=download) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        if download:
            raise UserError(f"{name} could not be downloaded into {root} ({str(error).splitlines()[0]})") from error
        raise UserError(
            f"{name} is not in {root}; say where it is ({name}:ROOT), or add --download to `reslab train` or `reslab evaluate`"
        ) from error
    train, test = (_Split(_images(split.data), torch.as_tensor(split.targets).long()) for split in splits)
    return train, test, tuple(splits[0].classes)


def _images(data: Any) -> Tensor:
    """Return `[N, C, H, W]` from CIFAR's `[N, H, W, 3]` or Fashion-MNIST's `[N, H, W]`."""
    images = torch.as_tensor(data)
    return images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()


def _dataset(name: str, train: _Split, test: _Split, classes: tuple[str, ...]) -> Dataset:
    held = held_out(train.labels)
    images = train.images[~held]
    return Dataset(
        name=name,
        parts={
            "train": Part(images, train.labels[~held]),
            "heldout": Part(train.images[held], train.labels[held]),
            "test": Part(*test),
        },
        classes=classes,
        statistics=measure(images),
        augment=Augment(shift=images.shape[-1] // 8, flip=True),
        split_rule=HELD_OUT_RULE,
    )
