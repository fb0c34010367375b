"""The training loop: one network, one data set and one recipe, into one run directory.

With several processes, each takes its share of every batch, which BatchNorm normalises by the share's own statistics,
and gradients are averaged over the processes. It is the step of one process that accumulates the shares. BatchNorm's
running statistics are those of process 0, which alone evaluates and writes.
"""

import hashlib
import math
import time
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from reslab.errors import MismatchError, worded
from reslab.files import Json, write_atomically
from reslab.runs import Run
from reslab.shapes import Line, Number, Outcome, Share
from reslab.state import all_draws_apart, seed_all, whole_float32
from reslab.training import beside, checkpoints
from reslab.training.devices import Device, Precision, best_precision, deterministic
from reslab.training.ema import Average
from reslab.training.evaluation import Answers
from reslab.training.layout import fastest_layout, laid_out
from reslab.training.mixing import mixed
from reslab.training.objective import Classes, Figures, Objective, placed
from reslab.training.optimizers import optimizers_of
from reslab.training.recipes import Recipe
from reslab.training.speed import hardware
from reslab.training.start import Started
from reslab.weights.files import to_bytes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PartName = Literal["train", "heldout", "test"]
PARTS: tuple[PartName, ...] = ("train", "heldout", "test")
CHECKPOINT_SECONDS = 20.0
PROGRESS_SECONDS = 1.0
"""Seconds between two progress reports; each makes the host wait for the device."""
STEPS_TO_AGREE = 10
"""Steps between agreements of the processes on whether to save, as each takes a message."""


class TrialLine(Line):
    """The fields of an epoch's metrics that are read back."""

    epoch: Number = 0.0
    loss: Number | None


class TrialOutcome(Outcome):
    """The result of a trial."""

    code: str
    steps: int = Field(ge=0)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    train_error: Share
    heldout_error: Share
    test_error: Share


class TrialConfig(Started):
    """Everything that a trial's result depends on, except the images of a data set; its hash names the run
    directory.
    """

    line = TrialLine
    outcome = TrialOutcome
    later = ("start", "snapshots", "factory")
    model: str
    options: dict[str, int | float | str | bool] = Field(
        default_factory=dict, description="passed to the model's builder"
    )
    data: str
    recipe: Recipe
    seed: int = Field(ge=0)
    threads: int = Field(1, ge=1, description="CPU threads: part of the config, because sums are split among them")
    precision: Precision = Field("32", description="of convolutions and matrix products; weights are float32")
    device: Device = "cpu"
    devices: int = Field(1, ge=1, description="processes, each with a device and its share of every batch")
    compile: bool = Field(False, description="through torch.compile, which changes rounding")
    snapshots: tuple[int, ...] = Field((), description="iterations after which the weights are kept, to be looked at")
    factory: str = Field("", description="digest of the code of a user's factory, which may change under its name")


class Data(Protocol):
    """The loop's interface to a data set: standardised batches, `[B, C, H, W]` with labels `[B]`."""

    @property
    def training_images(self) -> int:
        """Return the number of training images."""

    @property
    def fingerprint(self) -> str:
        """Return a hash of the images and labels; empty if they cannot change."""

    @property
    def preprocessing(self) -> Json:
        """Return the preparation of images, for the weights file."""

    def to(self, device: torch.device) -> Self:
        """Return the data set, on the device if it fits."""

    def training_batch(self, index: Tensor, generator: Generator | None) -> tuple[Any, Tensor]:
        """Return the training images at `index`, augmented from the generator if there is one."""

    def batches(self, part: PartName) -> Iterator[tuple[Any, Tensor]]:
        """Yield a part in order; `heldout` is for choices, `test` is read once, at the end."""


def generator(seed: int, purpose: str, index: int) -> Generator:
    """Return a generator that depends only on these three, so that a resumed run needs no generator state."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


class Trainer:
    """The state of one training run: network, optimiser, step, and the sums of the current epoch."""

    def __init__(
        self,
        fabric: "Fabric",
        network: nn.Module,
        data: Data,
        config: TrialConfig,
        run: Run,
        objective: Objective | None = None,
    ) -> None:
        self.fabric, self.config, self.recipe, self.run, self.network = fabric, config, config.recipe, run, network
        self.objective = objective or Classes(self.recipe.label_smoothing)
        self.data = data.to(fabric.device)
        self.images = data.training_images
        self.batch_size = min(self.recipe.batch_size, self.images)
        if self.batch_size % fabric.world_size:
            raise MismatchError(*worded("batch-not-shared", images=self.batch_size, processes=fabric.world_size))
        self.steps_per_epoch = self.images // self.batch_size
        self.total_steps = self.recipe.total_iterations(self.steps_per_epoch)
        optimizers = optimizers_of(network, self.recipe, scaled=config.precision == "16")
        self.layout = fastest_layout(network, self._two_images())
        network.to(memory_format=self.layout)
        wrapped: Any = torch.compile(network) if config.compile else network
        self.model, *self.optimizers = fabric.setup(wrapped, *optimizers)
        self.ema = Average(network, self.recipe.ema) if self.recipe.ema else None
        self.start = beside.beside(network)
        self.loss = self.objective.module.to(fabric.device)
        self.loss_start = beside.beside(self.loss)
        self.step = 0
        self.seconds = 0.0
        # loss and errors of this epoch, summed over this process's images
        self.sums = torch.zeros(2, device=fabric.device)
        self.told = -math.inf  # the time of the last progress report
        self.codes = {config.code_digest()}  # the code that took its steps; several if it changed in between

    def _two_images(self) -> Any:
        """Return what the network takes of two images."""
        with all_draws_apart():  # of data that draw
            return self.data.training_batch(torch.arange(min(2, self.images)), None)[0]

    def fit(self) -> Json:
        """Train to the end, or to divergence, and return the outcome; resume from the checkpoint if there is one."""
        with deterministic(self.fabric.device):
            return self._fit()

    def _fit(self) -> Json:
        self.restore()
        saved = time.monotonic()
        start = saved - self.seconds
        self.model.train()
        for index in self.batches():
            self.iterate(index)
            done = self.step % self.steps_per_epoch
            ends = done == 0 or self.step == self.total_steps
            if ends and self.fabric.device.type != "cpu":
                torch.accelerator.synchronize()  # the time is of what the GPU has done, not of what it was asked
            self.seconds = time.monotonic() - start
            self._tell()
            if self.step in self.config.snapshots and self.fabric.is_global_zero:
                write_atomically(self.run.snapshot(self.step), self._weights())
            if ends and not self._record_epoch(done or self.steps_per_epoch):
                return self._outcome("diverged")
            if self._agreed(time.monotonic() - saved > CHECKPOINT_SECONDS):
                self.save()
                saved = time.monotonic()
        return self._outcome("finished")

    def _tell(self) -> None:
        """Report progress occasionally, and at the last step; loss and error are those of this process's share of the
        last batch.
        """
        if not self.fabric.is_global_zero or (
            self.seconds - self.told < PROGRESS_SECONDS and self.step < self.total_steps
        ):
            return
        self.told = self.seconds
        loss, error = (self.latest / (self.batch_size // self.fabric.world_size)).tolist()
        self.run.tell(
            {
                "step": self.step,
                "steps": self.total_steps,
                "epoch": math.ceil(self.step / self.steps_per_epoch),
                "epochs": math.ceil(self.total_steps / self.steps_per_epoch),
                "loss": loss,
                "train_error": error if math.isfinite(error) else None,  # an own loss may have no errors
                "heldout_error": self.run.latest_metrics().get("heldout_error"),
                "seconds": self.seconds,
                "images_per_second": self._speed(),
            }
        )

    def _speed(self) -> float:
        """Return images a second; a first step may end before a coarse clock has moved."""
        return self.step * self.batch_size / max(self.seconds, 1e-9)

    def batches(self) -> Iterator[Tensor]:
        """Yield the indices of the training images of every remaining step, `[B]` on the CPU, in an order that depends
        on the seed and the epoch.
        """
        for epoch, steps in groupby(range(self.step, self.total_steps), key=lambda step: step // self.steps_per_epoch):
            order = torch.randperm(self.images, generator=generator(self.config.seed, "order", epoch))
            for step in steps:
                position = step % self.steps_per_epoch
                yield order[position * self.batch_size : (position + 1) * self.batch_size]

    @property
    def optimizer(self) -> Any:
        """Return the optimiser, or the first of two."""
        return self.optimizers[0]

    def iterate(self, index: Tensor) -> None:
        """Take one step on the training images at `index`, `[B]`, of which this process takes its share."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.rate(self.step, self.total_steps)
        rank = self.fabric.global_rank
        share = index.chunk(self.fabric.world_size)[rank]
        draws = self._generator("augment") if self.recipe.augment else None
        mixing = self._generator("mix") if self.recipe.mixup or self.recipe.cutmix else None
        # for layers that draw, such as dropout, and for data that do
        seed_all(self._generator("layers").initial_seed())
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        parts = share.tensor_split(min(self.recipe.accumulate or 1, len(share)))  # as even as can be
        found = [self._learn(part, len(part) / len(share), draws, mixing, part is parts[-1]) for part in parts]
        if limit := self.recipe.clip_norm:
            self._clip(limit)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self.latest = found[0] if len(found) == 1 else torch.stack(found).sum(0)
        self.sums += self.latest
        if self.ema is not None:
            self.ema.update(self.network, self.step)

    def _clip(self, limit: float) -> None:
        """Scale the gradient, of all parameters together, to this norm if it is larger."""
        if len(self.optimizers) == 1:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        else:  # whose loss has no scale, which Fabric would heed
            nn.utils.clip_grad_norm_(self.network.parameters(), limit)

    def _generator(self, purpose: str) -> Generator:
        """Return this process's generator for this step."""
        return generator(self.config.seed, f"{purpose}/{self.fabric.global_rank}", self.step)

    def _learn(
        self, part: Tensor, share: float, draws: Generator | None, mixing: Generator | None, last: bool
    ) -> Tensor:
        """Add the gradient of a part of the batch, weighted by its share; return its loss and errors, summed over its
        images.
        """
        images, labels = placed(self.data.training_batch(part, draws), self.fabric.device)
        images = laid_out(images, self.layout)
        others, own = labels, 1.0
        if mixing is not None:
            images, others, own = mixed(images, labels, self.recipe, mixing)
        with self.fabric.no_backward_sync(self.model, enabled=not last):
            outputs = self.model(images)
            loss = self.objective.loss(outputs, labels)
            if mixing is not None:
                loss = own * loss + (1 - own) * self.objective.loss(outputs, others)
            self.fabric.backward(loss if share == 1 else share * loss)
        with torch.no_grad():
            return torch.stack([loss.detach() * len(labels), self.objective.wrong(outputs, labels)])

    def _agreed(self, due: bool) -> bool:
        """Return whether process 0 decides that something is due, at steps at which the processes agree."""
        if self.fabric.world_size == 1:
            return due
        return self.step % STEPS_TO_AGREE == 0 and bool(self.fabric.broadcast(due))

    def _collect(self) -> None:
        """Add the sums of all processes in process 0."""
        if self.fabric.world_size > 1:
            total: Any = self.fabric.all_reduce(self.sums, reduce_op="sum")
            self.sums = total if self.fabric.is_global_zero else torch.zeros_like(self.sums)

    def _record_epoch(self, steps: int) -> bool:
        """Write a line of metrics for the epoch that ends here; return whether its loss was finite."""
        self._collect()
        loss, error = self.fabric.broadcast((self.sums / (steps * self.batch_size)).tolist())
        finite = math.isfinite(loss)
        self.sums.zero_()
        average = self.ema and self.ema.network
        if self.fabric.is_global_zero:
            self.run.append_metrics(
                {
                    "step": self.step,
                    "epoch": self.step / self.steps_per_epoch,
                    "learning_rate": self.recipe.rate(self.step - 1, self.total_steps),
                    "loss": loss if finite else None,
                    # on the augmented batches of training
                    "train_error": error if math.isfinite(error) else None,
                    "heldout_error": self._evaluate("heldout")["error"],
                    **({"ema_heldout_error": self._evaluate("heldout", average)["error"]} if average else {}),
                    "seconds": round(self.seconds, 3),
                }
            )
        return finite

    def _evaluate(self, part: PartName, network: nn.Module | None = None) -> Figures:
        return self._evaluate_each(part, network)[0]

    def _evaluate_each(self, part: PartName, network: nn.Module | None = None) -> tuple[Figures, Answers | None]:
        """Evaluate in float32, whatever the precision of training, and with draws that depend on the step alone, for
        data that draw.
        """
        seed_all(self._generator(f"evaluation of {part}").initial_seed())
        with whole_float32():
            return self.objective.evaluate_each(network or self.network, self.data.batches(part))

    def _weights(self, network: nn.Module | None = None) -> bytes:
        return to_bytes(network or self.network, self.config.model, self.config.options, self.data.preprocessing)

    def _beside(self) -> tuple[beside.Beside, beside.Beside]:
        """Return what training changed beside the weights, of the network and of the average."""
        average = {} if self.ema is None else beside.changed(self.ema.network, self.start)
        return beside.changed(self.network, self.start), average

    def _outcome(self, status: str) -> Json:
        """Return the result in process 0, and an empty one in the others."""
        if not self.fabric.is_global_zero:
            return {}
        average: Json = {}
        write_atomically(self.run.weights, self._weights())
        if any(changed := self._beside()):
            write_atomically(self.run.beside, beside.to_bytes(*changed))
        train = self._evaluate("train")
        heldout, heldout_answers = self._evaluate_each("heldout")
        test, test_answers = self._evaluate_each("test")
        if heldout_answers is not None and test_answers is not None:
            self.run.write_wrong({"heldout": heldout_answers.wrong.numpy(), "test": test_answers.wrong.numpy()})
            self.run.write_confusion({"heldout": heldout_answers.confusion(), "test": test_answers.confusion()})
        if self.ema is not None:
            write_atomically(self.run.ema, self._weights(self.ema.network))
            errors = {f"{part}_error": self._evaluate(part, self.ema.network)["error"] for part in PARTS}
            average = {"ema": errors}
        auto = best_precision(self.config.device)
        return {
            "status": status,
            **(
                {"reason": f"the mean loss of epoch {math.ceil(self.step / self.steps_per_epoch)} was not finite"}
                if status == "diverged"
                else {}
            ),
            **({"images": self.data.fingerprint} if self.data.fingerprint else {}),
            **({"classes": names} if (names := self.data.preprocessing.get("classes")) else {}),
            "params": sum(parameter.numel() for parameter in self.network.parameters()),
            "steps": self.step,
            "code": "+".join(sorted(self.codes)),
            "train_error": train["error"],
            "train_loss": train["loss"],
            "heldout_error": heldout["error"],
            "test_error": test["error"],
            **average,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self._speed(), 1),
            "device": str(self.fabric.device),
            **hardware(self.config.device),
            "precision": {"used": self.config.precision, "auto": auto.value, "why": auto.why.english},
        }

    def save(self) -> None:
        """Write a checkpoint with everything needed to resume."""
        self._collect()
        if not self.fabric.is_global_zero:
            return
        first, *others = self.optimizers
        changed, average = self._beside()
        state: Json = {
            "network": self.network.state_dict(),
            "optimizer": first.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # float16's scale of the loss
            "step": self.step,
            "seconds": self.seconds,
            "sums": self.sums,
            "trial": self.config.digest(),
            "images": self.data.fingerprint,
            "codes": sorted(self.codes),
            "metrics": tuple(self.run.mark_metrics()),
        }
        if changed:
            state["beside"] = changed
        if held := self.loss.state_dict():
            state["loss"] = held
        if moved := beside.changed(self.loss, self.loss_start):
            state["loss_beside"] = moved
        if others:
            state["others"] = [other.state_dict() for other in others]
        if self.ema is not None:
            state |= {"ema": self.ema.network.state_dict(), "ema_beside": average}
        checkpoints.write(self.run, state)

    def restore(self) -> None:
        """Return to the newest valid checkpoint, or to the start if there is none, and truncate the metrics to
        match.
        """
        path = None
        if self.fabric.is_global_zero:
            path = checkpoints.newest(self.run, self.data.fingerprint, self.total_steps)
        path = self.fabric.broadcast(path)
        length = 0
        if path is not None:
            state = checkpoints.read(path)
            try:
                self.network.load_state_dict(state["network"])
                beside.put_back(self.network, state.get("beside", {}))
                states = [state["optimizer"], *state.get("others", [])]
                for optimizer, held in zip(self.optimizers, states, strict=True):
                    optimizer.load_state_dict(held)
                if self.ema is not None:
                    self.ema.network.load_state_dict(state["ema"])
                    beside.put_back(self.ema.network, state.get("ema_beside", {}))
                if "loss" in state:
                    self.loss.load_state_dict(state["loss"])
                beside.put_back(self.loss, state.get("loss_beside", {}))
                if state.get("precision"):
                    self.fabric.strategy.precision.load_state_dict(state["precision"])
            except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
                raise checkpoints.no_checkpoint(path, f"{type(error).__name__}: {error}") from error
            self.step, self.seconds = state["step"], state["seconds"]
            self.codes |= {*state.get("codes", ())}
            if self.fabric.is_global_zero:
                self.sums = state["sums"].to(self.fabric.device)
            length = state["metrics"][0]
        self.fabric.barrier()  # every process has read the files before process 0 writes
        if self.fabric.is_global_zero:
            self.run.cut_metrics(length)
