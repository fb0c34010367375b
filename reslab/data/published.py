"""CIFAR and Fashion-MNIST through torchvision: read from a root, or downloaded if asked for."""

import gzip
import io
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from reslab.data.augment import Augment
from reslab.data.cache import Cached, alone, kept
from reslab.data.dataset import HELD_OUT_RULE, Dataset, Part, held_out
from reslab.data.images import measure
from reslab.data.places import data_root, full_path
from reslab.errors import DamagedError, FailedError, MissingError, Wording, few, worded
from reslab.progress import Progress

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""The directory of Debian's package dataset-fashion-mnist."""


def cifar10(place: str, download: bool, progress: Progress) -> Dataset:
    """Return CIFAR-10, `[N, 3, 32, 32]`: 45,000 / 5,000 / 10,000 images."""
    return _dataset("cifar10", _CIFAR10, place, download)


def cifar100(place: str, download: bool, progress: Progress) -> Dataset:
    """Return CIFAR-100, `[N, 3, 32, 32]`: 45,000 / 5,000 / 10,000 images."""
    return _dataset("cifar100", _CIFAR100, place, download)


def cifar10_jpeg75(place: str, download: bool, progress: Progress) -> Dataset:
    """Return CIFAR-10 after JPEG compression of quality 75: each image is encoded and decoded again."""

    def encode(train: _Split, test: _Split) -> None:
        total = len(train.labels) + len(test.labels)
        for done, image in enumerate((*train.images, *test.images)):  # views, which are overwritten
            if done % 1000 == 0:
                progress("encoding as JPEG", done, total)
            image.copy_(as_jpeg(image))
        progress("encoding as JPEG", total, total)

    return _dataset("cifar10-jpeg75", _CIFAR10, place, download, encode)


def as_jpeg(image: Tensor) -> Tensor:
    """Return `[C, H, W]` uint8 after JPEG compression with Pillow's quality 75."""
    from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image  # here, as in _load

    file = io.BytesIO()
    to_pil_image(image).save(file, "JPEG", quality=75)
    with Image.open(file) as decoded:
        return pil_to_tensor(decoded)


def fashion_mnist(place: str, download: bool, progress: Progress) -> Dataset:
    """Return Fashion-MNIST, `[N, 1, 28, 28]`: 54,000 / 6,000 / 10,000 images; also from Debian's package."""
    if place or not DEBIAN.is_dir():
        return _dataset("fashion_mnist", _FASHION_MNIST, place, download)

    def unpack() -> Cached:
        with TemporaryDirectory() as root:  # torchvision reads them unpacked
            raw = Path(root) / "FashionMNIST" / "raw"
            raw.mkdir(parents=True)
            for packed in DEBIAN.glob("*.gz"):
                try:
                    (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
                except (OSError, EOFError, zlib.error) as error:
                    raise DamagedError(
                        f"{packed} is damaged; install Debian's package dataset-fashion-mnist again"
                    ) from error
            return _load(_FASHION_MNIST, Path(root), download=False)

    return _of("fashion_mnist", kept("fashion_mnist", DEBIAN, unpack))


class _Source(NamedTuple):
    """A data set of torchvision: its name here, its class, and the directory of its files below the root."""

    name: str
    kind: str
    folder: str


_CIFAR10 = _Source("cifar10", "CIFAR10", "cifar-10-batches-py")
_CIFAR100 = _Source("cifar100", "CIFAR100", "cifar-100-python")
_FASHION_MNIST = _Source("fashion_mnist", "FashionMNIST", "FashionMNIST/raw")


class _Split(NamedTuple):
    images: Tensor
    labels: Tensor


def _dataset(
    name: str, source: _Source, place: str, download: bool, change: Callable[[_Split, _Split], None] | None = None
) -> Dataset:
    """Return a data set of torchvision from its cache or its files, with its images modified in place by `change` if
    given.
    """
    root = full_path(place) if place else data_root().resolve()
    if root.as_posix().endswith(f"/{source.folder}") and not (root / source.folder).is_dir():  # that of the files
        root = root.parents[source.folder.count("/")]
    return _of(name, kept(name, root / source.folder, lambda: _load(source, root, download, change)))


def _of(name: str, found: Cached) -> Dataset:
    train, heldout, test = found.parts
    return Dataset(
        name=name,
        parts={"train": Part(*train), "heldout": Part(*heldout), "test": Part(*test)},
        classes=found.classes,
        statistics=found.statistics,
        augment=Augment(shift=found.shortest // 8, flip=True),
        split_rule=HELD_OUT_RULE,
        fingerprint=found.fingerprint,
    )


def _load(
    source: _Source, root: Path, download: bool, change: Callable[[_Split, _Split], None] | None = None
) -> Cached:
    """Return the three parts, and the names of the classes.

    Raises:
        UserError: if the files are missing, damaged, or cannot be downloaded.
    """
    from torchvision import datasets  # here, as torchvision takes a second to import and a cache needs none of it

    name = source.name
    try:
        with warnings.catch_warnings(), _downloading(root) if download else nullcontext():
            warnings.simplefilter("ignore")  # a warning of torchvision about pickles of old NumPy
            splits = [getattr(datasets, source.kind)(root, train=train, download=download) for train in (True, False)]
        train, test = (_Split(_images(split.data), torch.as_tensor(split.targets).long()) for split in splits)
        if any(
            len(images) != len(labels) or labels.max() >= len(splits[0].classes) for images, labels in (train, test)
        ):
            raise ValueError("labels that are not those of the images")
    except Exception as error:  # damaged bytes make torchvision raise any exception
        wrong = _wrong(source, root)
        damage = worded("damaged-data", name=name, place=root / source.folder, files=few(wrong))
        if download:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            more = Wording(f"; {damage.english}", f". {damage.korean}") if wrong else ""
            raise FailedError(*worded("download-failed", name=name, root=root, reason=reason, more=more)) from error
        if wrong:
            raise DamagedError(*damage) from error
        raise MissingError(*worded("data-not-here", name=name, root=root)) from error
    if change is not None:
        change(train, test)
    held = held_out(train.labels)
    parts = [_Split(train.images[mask], train.labels[mask]) for mask in (~held, held)]
    statistics = measure(parts[0].images)
    return Cached([*parts, test], statistics, min(test.images.shape[2:]), [], tuple(splits[0].classes))


@contextmanager
def _downloading(root: Path) -> Iterator[None]:
    """Let one process at a time download into a directory; the next finds what is there."""
    root.mkdir(parents=True, exist_ok=True)
    with alone(root):
        yield


def _wrong(source: _Source, root: Path) -> list[str]:
    """Return the names of a data set's damaged or missing files, or of all if no single one is to blame; none if no
    file exists.
    """
    from torchvision import datasets

    kind = getattr(datasets, source.kind)
    if source is _FASHION_MNIST:  # checksums are of packed files
        files = {name.removesuffix(".gz"): None for name, _ in kind.resources}
    else:
        files = dict([*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])])
    paths = {root / source.folder / name: checksum for name, checksum in files.items()}
    if not any(path.is_file() for path in paths):
        return []
    return [path.name for path, checksum in paths.items() if not _whole(path, checksum)] or list(files)


def _whole(path: Path, checksum: str | None) -> bool:
    """Return whether a file matches its checksum or, if none is known, the length in its header."""
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor
    from torchvision.datasets.utils import check_integrity

    if checksum is not None or not path.is_file():
        return bool(check_integrity(str(path), checksum))
    try:
        read_sn3_pascalvincent_tensor(str(path))
    except Exception:  # as in _load
        return False
    return True


def _images(data: Any) -> Tensor:
    """Return `[N, C, H, W]` from CIFAR's `[N, H, W, 3]` or Fashion-MNIST's `[N, H, W]`."""
    images = torch.as_tensor(data)
    return images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
