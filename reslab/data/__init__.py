"""Data sets by name, each in three parts: train, held-out and test."""

from collections.abc import Callable
from pathlib import Path

from reslab.data.augment import Augment, ScaleCrop
from reslab.data.dataset import Dataset
from reslab.data.digits import digits
from reslab.data.folder import folder, parse
from reslab.data.places import Watch, silent
from reslab.data.published import cifar10, cifar10_jpeg75, cifar100, fashion_mnist
from reslab.errors import UserError, suggest

__all__ = ["DATA", "Augment", "Dataset", "ScaleCrop", "canonical", "load_data"]

DATA: dict[str, Callable[[str, bool, Watch], Dataset]] = {
    "digits": lambda place, download, watch: digits(),
    "cifar10": cifar10,
    "cifar10-jpeg75": cifar10_jpeg75,
    "cifar100": cifar100,
    "fashion_mnist": fashion_mnist,
    "folder": lambda place, download, watch: folder(place, watch),
}
"""Kinds of data. What a user types may have a place behind a colon: `cifar10:ROOT`, `folder:PATH`."""


def load_data(name: str, *, download: bool = False, watch: Watch = silent) -> Dataset:
    """Return a data set: `digits`, `cifar10`, `cifar10:ROOT`, `folder:PATH`, ….

    Nothing is downloaded unless `download` asks for it.

    Raises:
        UserError: if there is no such data set (the message suggests the nearest), or its files are missing or damaged.
    """
    kind, _, place = canonical(name).partition(":")
    return DATA[kind](place, download, watch)


def canonical(name: str) -> str:
    """Return the name with its place as a full path, so that it means the same wherever it is used.

    Raises:
        UserError: if there is no such data set, or it takes no place, or needs one.
    """
    kind, colon, place = name.partition(":")
    if kind not in DATA:
        raise UserError(f"no data set {kind!r}{suggest(kind, DATA)}")
    if kind == "digits" and colon:
        raise UserError("the digits come with scikit-learn and are in no place of yours; leave out what is after the colon")
    if kind == "folder":
        root, skip_broken = parse(place)
        return f"folder:{root}{'?broken=skip' if skip_broken else ''}"
    return f"{kind}:{Path(place).expanduser().resolve()}" if place else kind
