"""Data sets by name, each as tensors in memory: train, held-out and test."""

from collections.abc import Callable

from reslab.data.augment import Augment
from reslab.data.dataset import Dataset
from reslab.data.digits import digits
from reslab.errors import UserError, suggest

__all__ = ["DATA", "Augment", "Dataset", "load_data"]

DATA: dict[str, Callable[[], Dataset]] = {"digits": digits}


def load_data(name: str) -> Dataset:
    """Return the data set of this name.

    Raises:
        UserError: if there is none; the message suggests the nearest.
    """
    if name not in DATA:
        raise UserError(f"no data set {name!r}{suggest(name, DATA)}")
    return DATA[name]()
