"""The training loop against an ordinary script: resnet20 on 32×32 images, float32, NCHW, a DataLoader with PIL
transforms.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

from reslab.bench.timing import Timing, machine, side_by_side
from reslab.data import Augment, Dataset, load_data
from reslab.data.dataset import Part
from reslab.data.images import Ragged, measure
from reslab.errors import MismatchError, Wording, worded
from reslab.networks import zoo
from reslab.progress import Progress, each, silent
from reslab.runs import Run
from reslab.training.devices import Device, best_precision, check, deterministic, fabric_here
from reslab.training.evaluation import evaluate
from reslab.training.loop import Trainer, TrialConfig
from reslab.training.recipes import PAPER_CIFAR, OneCycle

QUICK = {"images": 64, "batch": 16, "steps": 1, "rounds": 1, "warmup": 0, "loaders": 0}


class PilImages(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Training images as PIL images, shifted and mirrored one by one, as torchvision's CIFAR-10 with the usual
    transforms yields them.
    """

    def __init__(self, data: Dataset) -> None:
        images, labels = data.parts["train"]
        assert isinstance(images, Tensor)
        self.pixels, self.labels = images.permute(0, 2, 3, 1).numpy(), labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(data.statistics.mean, data.statistics.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


class Ordinary:
    """The training script of many tutorials."""

    def __init__(self, data: Dataset, config: TrialConfig, loaders: int) -> None:
        self.loader = DataLoader(
            PilImages(data), config.recipe.batch_size, shuffle=True, num_workers=loaders, drop_last=True
        )
        self.recipe = config.recipe
        self.total = self.recipe.total_iterations(len(self.loader))
        self.device = config.device
        self.network = _network(config).to(self.device)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        self.done = 0

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Take one step of SGD."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.done, self.total)
        images, labels = images.to(self.device), labels.to(self.device)
        self.optimizer.zero_grad()
        F.cross_entropy(self.network(images), labels).backward()
        self.optimizer.step()
        self.done += 1

    def epoch(self) -> None:
        """Train on every image once."""
        for images, labels in self.loader:
            self.step(images, labels)


@contextmanager
def _trainer(data: Dataset, config: TrialConfig) -> Iterator[Trainer]:
    """Give reslab's trainer, in a temporary run directory."""
    with TemporaryDirectory() as where:
        run = Run(Path(where), config)
        run.create()
        trainer = Trainer(fabric_here(config), _network(config), data, config, run)
        trainer.model.train()
        yield trainer


def _network(config: TrialConfig) -> nn.Module:
    torch.manual_seed(config.seed)
    return zoo.build(config.model).train()


def _random_images(count: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    part = Part(images, torch.randint(10, (count,), generator=generator))
    names = tuple("0123456789")
    return Dataset(
        "random",
        {"train": part, "heldout": part, "test": part},
        names,
        measure(images),
        Augment(shift=4, flip=True),
        Wording("none", "없음"),
    )


def bench(
    *,
    data: str = "",
    images: int = 2560,
    batch: int = 128,
    steps: int = 4,
    rounds: int = 5,
    warmup: int = 1,
    loaders: int = 2,
    epochs: int = 0,
    device: Device = "cpu",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Return the speed-up of reslab's training step and epoch (median, lowest, highest round), and its precision.

    The step starts from a loaded batch for the ordinary script, and from the images' indices for reslab. An epoch of
    `images` random images, or of all images of `data`, is timed as a whole, including the start of the DataLoader's
    `loaders` processes. With `epochs`, both are then trained from scratch for so many epochs, and their errors on the
    held-out images are compared.

    Raises:
        UserError: if the data are not 32×32 in colour, or fewer than a batch, or there is no such device.
    """
    check(device, "32")
    precision = best_precision(device)
    chosen = load_data(data, progress=progress) if data else _random_images(images)
    pixels = chosen.parts["train"].images
    if isinstance(pixels, Ragged) or tuple(pixels.shape[1:]) != (3, 32, 32):
        raise MismatchError(*worded("bench-needs-colour", data=chosen.name))
    if len(pixels) < batch:
        raise MismatchError(*worded("bench-needs-a-batch", images=len(pixels), batch=batch))
    threads = torch.get_num_threads()
    taken = (rounds + warmup) * (steps + len(pixels) // batch)  # of which OneCycle's rates are
    recipe = PAPER_CIFAR.model_copy(
        update={"batch_size": batch, "schedule": OneCycle(), "iterations": taken, "epochs": None}
    )
    config = TrialConfig(
        model="resnet20",
        data="digits",
        recipe=recipe,
        seed=0,
        threads=threads,
        device=device,
        precision=precision.value,
    )
    ordinary = Ordinary(chosen, config, loaders)
    x, y = next(iter(DataLoader(PilImages(chosen), batch)))
    numbers = torch.arange(len(chosen.labels))
    result: dict[str, Any] = {
        "machine": machine(device),
        "model": "resnet20",
        "batch": batch,
        "precision": f"{precision.value}: {precision.why.english}",
        "ordinary": f"float32, NCHW, DataLoader with PIL transforms and {loaders} workers",
    }
    with _trainer(chosen, config) as trainer:

        def epoch() -> None:
            with deterministic(torch.device(device)):  # as `fit` takes them
                for index in numbers[torch.randperm(len(numbers))].split(batch)[: len(numbers) // batch]:
                    trainer.iterate(index)

        def their_steps() -> None:
            for _ in range(steps):
                ordinary.step(x, y)

        def our_steps() -> None:
            with deterministic(torch.device(device)):
                for _ in range(steps):
                    trainer.iterate(numbers[:batch])

        pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "training step": (their_steps, our_steps),
            "whole epoch": (ordinary.epoch, epoch),
        }
        for what, (theirs, ours) in pairs.items():
            timings = side_by_side(
                {"ordinary": theirs, "reslab": ours}, rounds=rounds, warmup=warmup, progress=progress, what=what
            )
            result[what] = _compared(timings["ordinary"], timings["reslab"])
    if epochs:
        whole = recipe.model_copy(update={"iterations": None, "epochs": epochs})
        trained = config.model_copy(update={"recipe": whole})
        result["held-out error"] = {
            "reslab": _error_of_lab(chosen, trained, progress),
            "ordinary": _error_of_ordinary(chosen, trained, loaders, progress),
        }
    return result


def _compared(ordinary: Timing, lab: Timing) -> dict[str, Any]:
    return {"reslab s": lab.median, "ordinary s": ordinary.median, "times faster": ordinary.ratio(lab)}


def _error_of_lab(data: Dataset, config: TrialConfig, progress: Progress) -> float | None:
    with _trainer(data, config) as trainer:
        for _ in each(range(1), "training, reslab", progress):
            trainer.fit()
        return evaluate(trainer.network, data.batches("heldout"))["error"]


def _error_of_ordinary(data: Dataset, config: TrialConfig, loaders: int, progress: Progress) -> float | None:
    ordinary, epochs = Ordinary(data, config, loaders), config.recipe.epochs or 0
    for _ in each(range(epochs), "training, ordinary", progress):
        ordinary.epoch()
    return evaluate(ordinary.network, data.batches("heldout"))["error"]
