"""Sprints: training in a few epochs, with every image in memory. This is the part that contenders share; each has its
own recipe.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from reslab import digests
from reslab.runs import Config
from reslab.sending import sent
from reslab.shapes import Line, Outcome, Share, Value
from reslab.speedrun.whitening import Whitening
from reslab.training.devices import Device, Precision
from reslab.training.evaluation import Split
from reslab.training.loop import generator
from reslab.training.speed import Seconds

if TYPE_CHECKING:
    from reslab.training.devices import Fabric

LEAST_STEPS = 10
"""The smallest number of steps per epoch."""
WHITENING_IMAGES = 5000


class SprintLine(Line):
    """The progress of a sprint."""

    step: int
    steps: int


class SprintOutcome(Outcome):
    """The result of a sprint."""

    code: str
    accuracy: Share
    steps: int
    training_seconds: Seconds
    processor_seconds: Seconds
    process_seconds: Seconds
    machine: dict[str, Value]


class SprintConfig(Config):
    """Everything that a sprint's result depends on, except the images and the machine, on which convolutions are chosen
    by their time.
    """

    line = SprintLine
    outcome = SprintOutcome
    made_by = digests.RACE
    contender: str
    against: str = Field("", description="the opponent of a race; races have separate runs")
    data: str
    part: Literal["heldout", "test"] = Field(
        description="what it is evaluated on; for test, it is trained on the held-out images too"
    )
    epochs: float = Field(gt=0)
    seed: int = Field(ge=0)
    threads: int = Field(ge=1)
    device: Device
    precision: Precision

    @property
    def devices(self) -> int:
        """Return the number of processes that share a batch."""
        return 1


Report = Callable[[int, int, Tensor], None]
"""Called by a contender with the finished step, from 1, the number of steps, and the mean loss of the batch."""


@dataclass(frozen=True)
class Pixels:
    """Stored images, `[N, C, H, W]`, and labels `[N]`; mean and standard deviation of stored values, `[C, 1, 1]`."""

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def standardised(self, images: Tensor) -> Float[Tensor, "b c h w"]:
        """Return stored images standardised, in channels-last memory."""
        return ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def in_order(self, size: int = 500) -> Iterator[Split]:
        """Yield all images once, unchanged."""
        for images, labels in zip(self.images.split(size), self.labels.split(size), strict=True):
            yield self.standardised(images), labels


class Batches:
    """An endless stream of training images, each once per epoch: in a new order, shifted by up to `shift` pixels with
    reflected edges, and mirrored.

    Half of the images, drawn once, are mirrored in even epochs and the other half in odd ones, so that two epochs show
    both sides of each image (Jordan 2024, arXiv:2404.00498, section 3.6). An incomplete last batch of an epoch is
    dropped.
    """

    def __init__(self, pixels: Pixels, batch_size: int, *, shift: int, flip: bool, seed: int) -> None:
        self.pixels, self.shift, self.flip, self.seed = pixels, shift, flip, seed
        self.batch_size = max(2, min(batch_size, len(pixels) // LEAST_STEPS))

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return len(self.pixels) // self.batch_size

    def __iter__(self) -> Iterator[Split]:
        images = self.pixels.images
        mirrored = torch.rand(len(images), generator=generator(self.seed, "mirror", 0)) < 0.5
        for epoch in count():
            draws = generator(self.seed, "epoch", epoch)
            order = torch.randperm(len(images), generator=draws)
            for index in order.split(self.batch_size)[: len(self)]:
                flips = (mirrored[index] ^ (epoch % 2 == 1)) & self.flip
                shifts = torch.randint(-self.shift, self.shift + 1, (2, len(index)), generator=draws)
                chosen = sent(index, images.device)
                yield self.pixels.standardised(moved(images, chosen, shifts, flips)), self.pixels.labels[chosen]


def moved(images: Tensor, index: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
    """Return the images at `index`, `[B]` and on their device, shifted by `shifts` (down and right, `[2, B]`) pixels
    and mirrored where `flips`.

    It is one gather. Pixels beyond an edge are reflected.
    """
    (h, w), device = images.shape[2:], images.device
    # [B, H] and [B, W]
    rows, columns = (
        reflected(torch.arange(side) - shift[:, None], side) for side, shift in zip((h, w), shifts, strict=True)
    )
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    rows, columns = sent(rows, device), sent(columns, device)
    return images[index[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def reflected(places: Tensor, side: int) -> Tensor:
    """Return indices with those slightly outside 0 … side-1 reflected: -1 becomes 1."""
    inside = places.abs()
    return (side - 1) - ((side - 1) - inside).abs()


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a BatchNorm that learns its bias and not its scale, and whose running statistics follow fast (Jordan 2024,
    arXiv:2404.00498).
    """
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


class Sprinter(nn.Module):
    """A network that begins with whitened patches and ends in a linear classifier."""

    whiten: Whitening
    head: nn.Linear


AnySprinter = TypeVar("AnySprinter", bound=Sprinter)


def whitened(build: Callable[[int, int], AnySprinter], batches: Batches, num_classes: int) -> AnySprinter:
    """Return a fresh network, `build(num_classes, in_channels)`, that whitens the patches of the first
    training images.
    """
    images = batches.pixels.standardised(batches.pixels.images[:WHITENING_IMAGES])
    network = build(num_classes, images.shape[1])
    network.to(memory_format=torch.channels_last)
    network.whiten.fit(images)
    return network


@dataclass(frozen=True)
class Contender:
    """A network and the recipe that trains it: `train(batches, num_classes, fabric, epochs, report)` returns it
    trained.
    """

    model: str
    batch_size: int
    epochs: float
    train: "Callable[[Batches, int, Fabric, float, Report], nn.Module]"
