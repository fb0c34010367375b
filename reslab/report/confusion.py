"""Which classes trained networks take for which, over all seeds of a group."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from reslab import shapes
from reslab.errors import DamagedError
from reslab.files import read_record
from reslab.runs import CONFUSION, WEIGHTS, check_files

PART = "test"


class Confusion(NamedTuple):
    """How many images of each class a network takes for each class, and in the last column for none, `[C, C + 1]`."""

    classes: tuple[str, ...]
    counts: Any

    def mistakes(self) -> Any:
        """Return the share of each class's images that are taken for each other class, and NaN in their own,
        `[C, C + 1]`.
        """
        images = self.counts.sum(1, keepdims=True)
        shares = self.counts / np.where(images, images, np.nan)
        shares[np.arange(len(shares)), np.arange(len(shares))] = np.nan
        return shares

    def errors(self) -> Any:
        """Return the share of each class's images that are taken for another, `[C]`; NaN of a class without any."""
        images = self.counts.sum(1)
        return (images - self.counts.diagonal()) / np.where(images, images, np.nan)


def read_confusion(directory: Path) -> Confusion | None:
    """Return what the network of a finished run takes the test images for; None if that was not kept, or is not as it
    was when the run finished.
    """
    try:
        check_files(directory, CONFUSION)
        counts = np.array(read_record(directory / CONFUSION, shapes.Confusion)[PART])
    except (OSError, DamagedError, LookupError, ValueError):
        return None
    if counts.ndim != 2 or counts.shape[1] != len(counts) + 1:
        return None
    names = _classes(directory / WEIGHTS)
    return Confusion(tuple(names if len(names) == len(counts) else map(str, range(len(counts)))), counts)


def _classes(weights: Path) -> list[str]:
    """Return the names of the classes that a weights file knows; none if it knows none."""
    try:
        with safe_open(weights, "np") as file:
            found = json.loads((file.metadata() or {})["reslab"])["preprocessing"]["classes"]
    except (OSError, SafetensorError, ValueError, LookupError, TypeError):
        return []
    return found if isinstance(found, list) and all(isinstance(name, str) for name in found) else []


def of_groups(trials: Iterable[tuple[str, Confusion | None]]) -> dict[str, Confusion]:
    """Return the counts of each group's trials, added up; of none where they are of different classes."""
    groups: dict[str, list[Confusion]] = {}
    for group, found in trials:
        if found is not None:
            groups.setdefault(group, []).append(found)
    if len({found.classes for members in groups.values() for found in members}) != 1:
        return {}
    return {group: _added(members) for group, members in groups.items()}


def _added(members: Sequence[Confusion]) -> Confusion:
    return Confusion(members[0].classes, sum(found.counts for found in members))
