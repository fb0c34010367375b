"""Data sets by name, each in three parts: train, held-out and test."""

from importlib import import_module
from pathlib import Path

from reslab.data.augment import Augment, ScaleCrop
from reslab.data.dataset import Dataset
from reslab.data.places import full_path
from reslab.errors import MismatchError, UnknownNameError, UnusableError, meant, suggested, worded
from reslab.progress import Progress, silent

__all__ = ["DATA", "Augment", "Dataset", "ScaleCrop", "canonical", "load_data"]

DATA: dict[str, str] = {
    "digits": "digits:digits",
    "cifar10": "published:cifar10",
    "cifar10-jpeg75": "published:cifar10_jpeg75",
    "cifar100": "published:cifar100",
    "fashion_mnist": "published:fashion_mnist",
    "folder": "folder:folder",
}
"""Kinds of data: the module and function of each, which takes (place, download, progress) and is imported on demand."""


def load_data(name: str, *, download: bool = False, progress: Progress = silent) -> Dataset:
    """Return a data set in its three parts, of training, held-out and test images.

    Args:
        name: "digits", which needs no file; "cifar10", "cifar100" or "fashion_mnist", or with the directory that they
            are in, "cifar10:ROOT"; or a directory of images by class, "folder:PATH".
        download: download what is not there; nothing is downloaded otherwise.
        progress: notified of what is read.

    Examples:
        >>> import reslab
        >>> data = reslab.load_data("digits")
        >>> images, labels = data.test
        >>> images.shape, labels.shape, data.num_classes
        (torch.Size([327, 1, 8, 8]), torch.Size([327]), 10)

    Raises:
        UserError: if there is no such data set (the message suggests the nearest), or its files are missing or damaged.
    """
    try:
        kind, _, place = canonical(name).partition(":")
        module, _, function = DATA[kind].partition(":")
        loaded: Dataset = getattr(import_module(f"reslab.data.{module}"), function)(place, download, progress)
    except OSError as error:  # an unreadable directory, a circular link, a missing disk
        reason = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        raise UnusableError(*worded("unreadable-data", name=name, reason=reason)) from error
    return loaded


def canonical(name: str) -> str:
    """Return the name with an absolute path, so that it means the same in every directory.

    Raises:
        UserError: if there is no such data set, or it takes no path, or needs one.
    """
    kind, colon, place = name.partition(":")
    if kind not in DATA:
        if Path(name).is_dir():
            raise UnknownNameError(*worded("no-data", name=name, near=meant(repr(f"folder:{name}"))))
        raise UnknownNameError(*worded("no-data", name=kind, near=suggested(kind, DATA)))
    if kind == "digits" and colon:
        raise MismatchError(*worded("digits-take-no-path"))
    if kind == "folder":
        from reslab.data.folder import parse

        root, skip_broken = parse(place)
        return f"folder:{root}{'?broken=skip' if skip_broken else ''}"
    return f"{kind}:{full_path(place)}" if place else kind
