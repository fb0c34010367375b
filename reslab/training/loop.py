"""The training loop: one network, one data set, one recipe, into one run directory."""

import hashlib
import io
import math
import time
from collections.abc import Iterator
from typing import Literal, Protocol, Self

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from pydantic import Field
from torch import Generator, Tensor, nn

from reslab.runs import Config, Json, Run, write_atomically
from reslab.training.evaluation import Split, evaluate
from reslab.training.recipes import Recipe
from reslab.weightfiles import to_bytes

PartName = Literal["train", "heldout", "test"]
CHECKPOINT_SECONDS = 20.0


class TrialConfig(Config):
    """Everything that a trial's result depends on; its hash names the run directory."""

    model: str
    options: dict[str, int | float | str | bool] = Field(default_factory=dict, description="passed to the model's builder")
    data: str
    recipe: Recipe
    seed: int = Field(ge=0)
    threads: int = Field(1, ge=1, description="CPU threads: part of the config, because sums are split among them")
    precision: Literal["32", "bf16"] = "32"
    device: Literal["cpu", "cuda", "mps"] = "cpu"


class Data(Protocol):
    """What the loop needs of a data set: standardised batches, `[B, C, H, W]` with labels `[B]`."""

    @property
    def labels(self) -> Tensor:
        """Return the training labels."""

    @property
    def preprocessing(self) -> Json:
        """Return how images are prepared, for the weights file."""

    def to(self, device: torch.device) -> Self:
        """Return the data set with what fits on the device there."""

    def training_batch(self, index: Tensor, generator: Generator | None) -> Split:
        """Return the training images at `index`, augmented from the generator if there is one."""

    def batches(self, part: PartName) -> Iterator[Split]:
        """Yield a part in order; `heldout` is for choices, `test` is read once at the end."""


def generator(seed: int, purpose: str, index: int) -> Generator:
    """Return a generator that depends on these three alone, so that a resumed run needs no generator states."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


class Trainer:
    """The state of one training run: network, optimiser, step, and the sums of the current epoch."""

    def __init__(self, network: nn.Module, data: Data, config: TrialConfig, run: Run) -> None:
        precision: Literal["32-true", "bf16-mixed"] = "32-true" if config.precision == "32" else "bf16-mixed"
        self.fabric = Fabric(accelerator=config.device, devices=1, precision=precision)
        self.config, self.recipe, self.run, self.network = config, config.recipe, run, network
        self.data = data.to(self.fabric.device)
        self.images = len(data.labels)
        self.batch_size = min(self.recipe.batch_size, self.images)
        self.steps_per_epoch = self.images // self.batch_size
        self.total_steps = self.recipe.total_iterations(self.steps_per_epoch)
        optimizer = torch.optim.SGD(
            network.parameters(),
            lr=self.recipe.learning_rate,
            momentum=self.recipe.momentum,
            nesterov=self.recipe.nesterov,
            weight_decay=self.recipe.weight_decay,
            fused=True,
        )
        network.to(memory_format=torch.channels_last)
        self.model, self.optimizer = self.fabric.setup(network, optimizer)
        self.step = 0
        self.seconds = 0.0
        self.sums = torch.zeros(2, device=self.fabric.device)  # loss and errors of this epoch, summed over its images

    def fit(self) -> Json:
        """Train to the end, or to divergence, and return the outcome; go on from the checkpoint if there is one."""
        self.restore()
        saved = time.monotonic()
        start = saved - self.seconds
        order = self._order(self.step // self.steps_per_epoch)
        self.model.train()
        diverged = False
        while self.step < self.total_steps and not diverged:
            position = self.step % self.steps_per_epoch
            self.iterate(order[position * self.batch_size : (position + 1) * self.batch_size])
            self.seconds = time.monotonic() - start
            if self.step % self.steps_per_epoch == 0 or self.step == self.total_steps:
                diverged = not self._record_epoch(position + 1)
                order = self._order(self.step // self.steps_per_epoch)
            if time.monotonic() - saved > CHECKPOINT_SECONDS and not diverged:
                self.save()
                saved = time.monotonic()
        return self._outcome("diverged" if diverged else "finished")

    def iterate(self, index: Tensor) -> None:
        """Take one step of SGD on the training images at `index`."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step, self.total_steps)
        draws = generator(self.config.seed, "augment", self.step) if self.recipe.augment else None
        images, labels = self.data.training_batch(index, draws)
        labels = labels.to(self.fabric.device)
        logits = self.model(images.to(self.fabric.device, memory_format=torch.channels_last))  # the layout that convolutions are fastest in
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            self.sums += torch.stack([loss.detach() * len(labels), (logits.argmax(1) != labels).sum()])

    def _order(self, epoch: int) -> Tensor:
        return torch.randperm(self.images, generator=generator(self.config.seed, "order", epoch)).to(self.fabric.device)

    def _record_epoch(self, steps: int) -> bool:
        """Write a line of metrics for the epoch that ends here; say whether its loss was finite."""
        loss, error = (self.sums / (steps * self.batch_size)).tolist()
        finite = math.isfinite(loss)
        self.sums.zero_()
        self.run.append_metrics(
            {
                "step": self.step,
                "epoch": self.step / self.steps_per_epoch,
                "learning_rate": self.recipe.rate(self.step - 1, self.total_steps),
                "loss": loss if finite else None,
                "train_error": error,  # of the augmented batches as they were learned from
                "heldout_error": self._error("heldout"),
                "seconds": round(self.seconds, 3),
            }
        )
        return finite

    def _error(self, part: PartName) -> float | None:
        return evaluate(self.model, self.data.batches(part))["error"]

    def _outcome(self, status: str) -> Json:
        write_atomically(self.run.weights, to_bytes(self.network, self.config.model, self.config.options, self.data.preprocessing))
        train = evaluate(self.model, self.data.batches("train"))
        return {
            "status": status,
            "params": sum(parameter.numel() for parameter in self.network.parameters()),
            "steps": self.step,
            "train_error": train["error"],
            "train_loss": train["loss"],
            "heldout_error": self._error("heldout"),
            "test_error": self._error("test"),
            "seconds": round(self.seconds, 3),
            "device": str(self.fabric.device),
        }

    def save(self) -> None:
        """Write everything needed to go on to the checkpoint."""
        buffer = io.BytesIO()
        torch.save(
            {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
                "sums": self.sums,
                "rng": torch.get_rng_state(),  # for layers that draw, such as dropout
                "metrics_length": self.run.metrics_length,
            },
            buffer,
        )
        write_atomically(self.run.checkpoint, buffer.getvalue())

    def restore(self) -> None:
        """Go back to the checkpoint, or to the start where there is none, and cut the metrics to match."""
        length = 0
        if self.run.checkpoint.exists():
            state = torch.load(self.run.checkpoint, map_location=self.fabric.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds, self.sums = state["step"], state["seconds"], state["sums"]
            torch.set_rng_state(state["rng"].cpu())
            length = state["metrics_length"]
        self.run.cut_metrics(length)
