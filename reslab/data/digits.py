"""Handwritten digits: 1,797 real 8×8 grey images of 10 classes, which ship with scikit-learn (UCI optdigits, its test
part).
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from reslab.data.augment import Augment
from reslab.data.dataset import Dataset, Part
from reslab.data.images import Statistics
from reslab.errors import Wording
from reslab.progress import Progress

SPLIT_RULE = Wording(
    "image i is test if i mod 11 is 0 or 5, held out if it is 8, else training: 1,307 / 163 / 327 images",
    "i번째 이미지는 i를 11로 나눈 나머지가 0이나 5면 테스트, 8이면 검증, 그 밖에는 훈련에 쓴다 (1,307 / 163 / 327장)",
)
GREY_LEVELS = 16.0


def digits(place: str, download: bool, progress: Progress) -> Dataset:
    """Return the digits; they take no path."""
    return _digits()


def _table() -> np.ndarray:
    """Return a row an image: its pixels and its label. Importing scikit-learn takes longer than all else, so its file
    is read without.
    """
    found = find_spec("sklearn")
    for place in (found and found.submodule_search_locations) or ():
        if (file := Path(place, "datasets", "data", "digits.csv.gz")).is_file():
            return np.loadtxt(file, delimiter=",", encoding="ascii")
    from sklearn.datasets import load_digits

    return np.column_stack(load_digits(return_X_y=True))


@cache
def _digits() -> Dataset:
    """Return the digits, `[N, 1, 8, 8]`, split by position so that the split is the same everywhere.

    The labels mostly run 0, 1, …, 9, 0, 1, …; the period 11 shares no factor with 10, so every part holds every class
    evenly. They are not augmented: a mirrored 2 is not a 2, and a shift by one of eight pixels only slows training.
    """
    table = torch.from_numpy(_table())
    images = table[:, :-1].float().view(-1, 1, 8, 8)  # grey levels 0 to 16
    labels = table[:, -1].long()
    position = torch.arange(len(labels)) % 11
    test, heldout = (position == 0) | (position == 5), position == 8
    train = ~(test | heldout)
    mean, std = (f(images[train], (0, 2, 3)) / GREY_LEVELS for f in (torch.mean, torch.std))
    return Dataset(
        name="digits",
        parts={
            "train": Part(images[train], labels[train]),
            "heldout": Part(images[heldout], labels[heldout]),
            "test": Part(images[test], labels[test]),
        },
        classes=tuple("0123456789"),
        statistics=Statistics((mean.item(),), (std.item(),), ((std.item() ** 2,),)),
        augment=Augment(shift=0, flip=False),
        split_rule=SPLIT_RULE,
        unit=GREY_LEVELS,
    )
