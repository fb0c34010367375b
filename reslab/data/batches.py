"""Images and labels from the batches of a user's loader."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from reslab.errors import MissingError, WrongValueError, worded

if TYPE_CHECKING:
    from torch import Tensor


MOST_IMAGES = 10_000
"""The limit if an analysis reads a whole loader: as many as CIFAR-10's test part, as a loader may be infinite."""
IMAGES = ("images", "image", "pixel_values", "inputs", "input", "input_ids", "x")
LABELS = ("labels", "label", "targets", "target", "y")
"""Keys of images and labels in batches that are mappings."""


def first(batches: Iterable[Any], count: int | None) -> "tuple[Tensor, Tensor]":
    """Return the first `count` images and labels, or all, of `MOST_IMAGES` at most.

    Raises:
        UserError: if there are none, or they differ in shape.
    """
    import torch

    images: list[Tensor] = []
    labels: list[Tensor] = []
    most = MOST_IMAGES if count is None else count
    for batch in batches:
        x, y = pair(batch)
        images.append(x)
        labels.append(y)
        if (found := sum(map(len, images))) >= most + (count is None):  # one more, to learn whether there are more
            if count is None:
                warnings.warn(
                    f"the loader has at least {found:,} images; the first {most:,} are used (change this with "
                    "--images)",
                    stacklevel=2,
                )
            break
    if not images:
        raise MissingError(*worded("no-images"))
    for differ, parts in (("images-of-two-shapes", images), ("labels-of-two-shapes", labels)):
        if len(shapes := list({tuple(part.shape[1:]): None for part in parts})) > 1:
            raise WrongValueError(*worded(differ, one=shapes[0], other=shapes[1]))
    return torch.cat(images)[:most], torch.cat(labels)[:most]


def pair(batch: Any) -> "tuple[Tensor, Tensor]":
    """Return images and labels of a loader's batch: the first two of a sequence, or those of a mapping by their keys,
    of which other tensors with more than a number per image, such as masks, cause a warning.

    Raises:
        UserError: if they are not found, or do not fit together.
    """
    from torch import Tensor

    found: list[Any] = []
    if isinstance(batch, Mapping):
        found = [next((batch[name] for name in names if name in batch), None) for names in (IMAGES, LABELS)]
    elif isinstance(batch, Sequence):
        found = list(batch[:2])
    if (
        len(found) != 2
        or not all(isinstance(value, Tensor) and value.dim() for value in found)
        or len(found[0]) != len(found[1])
    ):
        names = f" ({', '.join(map(str, batch))})" if isinstance(batch, Mapping) else ""
        kind = f"{type(batch).__name__}{names}"
        raise WrongValueError(*worded("no-batch-of-loader", kind=kind))
    if isinstance(batch, Mapping):
        others = {str(key): value for key, value in batch.items() if isinstance(value, Tensor) and value.dim() > 1}
        _tell_unused(tuple(key for key, value in others.items() if all(value is not each for each in found)))
    return found[0], found[1]


@cache
def _tell_unused(keys: tuple[str, ...]) -> None:
    """Warn, once and not with every batch, of what no network is given."""
    if keys:
        warnings.warn(
            f"not used of a loader's batches: {', '.join(keys)}; a network is given one tensor, so put them into it "
            "if they matter",
            stacklevel=3,
        )
