"""What a data set is to the rest of the lab."""

from dataclasses import dataclass

from torch import Tensor

from reslab.data.augment import Augment

Split = tuple[Tensor, Tensor]
"""Images `[N, C, H, W]` float32 and labels `[N]` int64."""


@dataclass(frozen=True)
class Dataset:
    """Standardised images in memory. Choices are made on `heldout`; `test` is read once, at the end."""

    name: str
    train: Split
    heldout: Split
    test: Split
    num_classes: int
    augment: Augment
    split_rule: str

    @property
    def in_channels(self) -> int:
        """Return the number of image channels."""
        return int(self.train[0].shape[1])


def standardise(train: Tensor, *others: Tensor) -> list[Tensor]:
    """Return every set of images `[N, C, H, W]` minus the training mean, over the training standard deviation, per channel."""
    mean = train.mean((0, 2, 3), keepdim=True)
    std = train.std((0, 2, 3), keepdim=True)
    return [(images - mean) / std for images in (train, *others)]
