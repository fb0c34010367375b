"""The training loop: one network, one data set, one recipe, into one run directory.

With several processes, each takes its share of every batch, normalised by its share's own statistics, and gradients are
averaged over the processes: the step of one process that accumulates the shares. BatchNorm's running statistics are
those of process 0, which alone evaluates and writes.
"""

import hashlib
import io
import math
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field
from torch import Generator, Tensor, nn

from reslab.errors import DamagedError, MismatchError, UserError
from reslab.files import Json, Shape, read_sealed, set_aside, write_atomically, wrong
from reslab.runs import METRICS, Mark, Run
from reslab.shapes import Line, Number, Outcome, Share
from reslab.training.devices import Device, Precision, best_precision
from reslab.training.evaluation import Split, evaluate, evaluate_each, logits_of
from reslab.training.recipes import Recipe
from reslab.training.start import Started
from reslab.weights.files import to_bytes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PartName = Literal["train", "heldout", "test"]
CHECKPOINT_SECONDS = 20.0
PROGRESS_SECONDS = 1.0
"""Between two words on how far a trial is; each has the host wait for the device once."""
STEPS_TO_AGREE = 10
"""Processes agree on whether to save only every so many steps, as agreeing takes a message."""


class TrialLine(Line):
    """What a trial records of an epoch, as far as it is read back."""

    epoch: Number = 0.0
    loss: Number | None


class TrialOutcome(Outcome):
    """What a trial leaves."""

    code: str
    steps: int = Field(ge=0)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    train_error: Share
    heldout_error: Share
    test_error: Share


class Checkpoint(Shape):
    """What a checkpoint holds."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    precision: dict[str, Any] = Field(default_factory=dict)
    step: int = Field(ge=0)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    sums: Tensor
    trial: str
    images: str | None = None
    metrics: tuple[int, str]


class TrialConfig(Started):
    """Everything that a trial's result depends on, the images of a data set aside; its hash names the run directory."""

    line = TrialLine
    outcome = TrialOutcome
    later = ("start", "snapshots")
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


class Data(Protocol):
    """What the loop needs of a data set: standardised batches, `[B, C, H, W]` with labels `[B]`."""

    @property
    def labels(self) -> Tensor:
        """Return the training labels."""

    @property
    def fingerprint(self) -> str:
        """Return what changes with the images and labels; empty where they cannot change."""

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

    def __init__(self, fabric: "Fabric", network: nn.Module, data: Data, config: TrialConfig, run: Run) -> None:
        self.fabric, self.config, self.recipe, self.run, self.network = fabric, config, config.recipe, run, network
        self.data = data.to(fabric.device)
        self.images = len(data.labels)
        self.batch_size = min(self.recipe.batch_size, self.images)
        if self.batch_size % fabric.world_size:
            raise MismatchError(
                f"a batch of {self.batch_size} images cannot be shared equally among {fabric.world_size} processes"
            )
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
        wrapped: Any = torch.compile(network) if config.compile else network
        self.model, self.optimizer = fabric.setup(wrapped, optimizer)
        self.step = 0
        self.seconds = 0.0
        # loss and errors of this epoch, summed over this process's images
        self.sums = torch.zeros(2, device=fabric.device)
        self.told = -math.inf  # when it was last said how far this is

    def fit(self) -> Json:
        """Train to the end, or to divergence, and return the outcome; go on from the checkpoint if there is one."""
        self.restore()
        saved = time.monotonic()
        start = saved - self.seconds
        self.model.train()
        for index in self.batches():
            self.iterate(index)
            self.seconds = time.monotonic() - start
            self._tell()
            if self.step in self.config.snapshots and self.fabric.is_global_zero:
                write_atomically(self.run.snapshot(self.step), self._weights())
            done = self.step % self.steps_per_epoch
            if (done == 0 or self.step == self.total_steps) and not self._record_epoch(done or self.steps_per_epoch):
                return self._outcome("diverged")
            if self._agreed(time.monotonic() - saved > CHECKPOINT_SECONDS):
                self.save()
                saved = time.monotonic()
        return self._outcome("finished")

    def _tell(self) -> None:
        """Say now and then, and at the last step, how far this is; loss and error are those of this process's share of
        the last batch.
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
                "train_error": error,
                "heldout_error": self.run.latest_metrics().get("heldout_error"),
                "seconds": self.seconds,
                "images_per_second": self.step * self.batch_size / self.seconds,
            }
        )

    def batches(self) -> Iterator[Tensor]:
        """Yield the training images of every step that is left, `[B]`, in an order that depends on the seed and the
        epoch.
        """
        for epoch, steps in groupby(range(self.step, self.total_steps), key=lambda step: step // self.steps_per_epoch):
            order = torch.randperm(self.images, generator=generator(self.config.seed, "order", epoch)).to(
                self.fabric.device
            )
            for step in steps:
                position = step % self.steps_per_epoch
                yield order[position * self.batch_size : (position + 1) * self.batch_size]

    def iterate(self, index: Tensor) -> None:
        """Take one step of SGD on the training images at `index`, `[B]`, of which this process takes its share."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step, self.total_steps)
        rank = self.fabric.global_rank
        share = index.chunk(self.fabric.world_size)[rank]
        draws = generator(self.config.seed, f"augment/{rank}", self.step) if self.recipe.augment else None
        images, labels = self.data.training_batch(share, draws)
        images, labels = images.to(self.fabric.device, memory_format=torch.channels_last), labels.to(self.fabric.device)
        # for layers that draw, such as dropout
        torch.manual_seed(generator(self.config.seed, f"layers/{rank}", self.step).initial_seed())
        logits = logits_of(self.model(images))
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            self.latest = torch.stack([loss.detach() * len(labels), (logits.argmax(1) != labels).sum()])
            self.sums += self.latest

    def _agreed(self, due: bool) -> bool:
        """Say whether process 0 finds that something is due, where the processes agree on such things at this step."""
        if self.fabric.world_size == 1:
            return due
        return self.step % STEPS_TO_AGREE == 0 and bool(self.fabric.broadcast(due))

    def _collect(self) -> None:
        """Bring the sums of all processes together in process 0."""
        if self.fabric.world_size > 1:
            total: Any = self.fabric.all_reduce(self.sums, reduce_op="sum")
            self.sums = total if self.fabric.is_global_zero else torch.zeros_like(self.sums)

    def _record_epoch(self, steps: int) -> bool:
        """Write a line of metrics for the epoch that ends here; say whether its loss was finite."""
        self._collect()
        loss, error = self.fabric.broadcast((self.sums / (steps * self.batch_size)).tolist())
        finite = math.isfinite(loss)
        self.sums.zero_()
        if self.fabric.is_global_zero:
            self.run.append_metrics(
                {
                    "step": self.step,
                    "epoch": self.step / self.steps_per_epoch,
                    "learning_rate": self.recipe.rate(self.step - 1, self.total_steps),
                    "loss": loss if finite else None,
                    "train_error": error,  # of the augmented batches as they were learned from
                    "heldout_error": self._evaluate("heldout")["error"],
                    "seconds": round(self.seconds, 3),
                }
            )
        return finite

    def _evaluate(self, part: PartName) -> dict[str, float | None]:
        with self.fabric.autocast():
            return evaluate(self.network, self.data.batches(part))

    def _weights(self) -> bytes:
        return to_bytes(self.network, self.config.model, self.config.options, self.data.preprocessing)

    def _outcome(self, status: str) -> Json:
        """Return the result, which is process 0's to know: elsewhere an empty one."""
        if not self.fabric.is_global_zero:
            return {}
        write_atomically(self.run.weights, self._weights())
        train = self._evaluate("train")
        with self.fabric.autocast():
            heldout, heldout_wrong = evaluate_each(self.network, self.data.batches("heldout"))
            test, test_wrong = evaluate_each(self.network, self.data.batches("test"))
        self.run.write_wrong({"heldout": heldout_wrong.numpy(), "test": test_wrong.numpy()})
        auto = best_precision(self.config.device)
        return {
            "status": status,
            **(
                {"reason": f"the mean loss of epoch {math.ceil(self.step / self.steps_per_epoch)} was not finite"}
                if status == "diverged"
                else {}
            ),
            **({"images": self.data.fingerprint} if self.data.fingerprint else {}),
            "params": sum(parameter.numel() for parameter in self.network.parameters()),
            "steps": self.step,
            "train_error": train["error"],
            "train_loss": train["loss"],
            "heldout_error": heldout["error"],
            "test_error": test["error"],
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.step * self.batch_size / self.seconds, 1),
            "device": str(self.fabric.device),
            "precision": {"used": self.config.precision, "auto": auto.value, "why": auto.why},
        }

    def save(self) -> None:
        """Write everything needed to go on to the checkpoint."""
        self._collect()
        if not self.fabric.is_global_zero:
            return
        buffer = io.BytesIO()
        torch.save(
            {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),  # float16's scale of the loss
                "step": self.step,
                "seconds": self.seconds,
                "sums": self.sums,
                "trial": self.config.digest(),
                "images": self.data.fingerprint,
                "metrics": tuple(self.run.mark_metrics()),
            },
            buffer,
        )
        self.run.write_checkpoint(buffer.getvalue())

    def restore(self) -> None:
        """Go back to the newest whole checkpoint, or to the start where there is none, and cut the metrics to match."""
        path = self.fabric.broadcast(self._whole_checkpoint() if self.fabric.is_global_zero else None)
        length = 0
        if path is not None:
            state = self._read(path)
            try:
                self.network.load_state_dict(state["network"])
                self.optimizer.load_state_dict(state["optimizer"])
                if state.get("precision"):
                    self.fabric.strategy.precision.load_state_dict(state["precision"])
            except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
                raise _no_checkpoint(path, f"{type(error).__name__}: {error}") from error
            self.step, self.seconds = state["step"], state["seconds"]
            if self.fabric.is_global_zero:
                self.sums = state["sums"]
            length = state["metrics"][0]
        self.fabric.barrier()  # every process has read what is there before process 0 goes on and writes
        if self.fabric.is_global_zero:
            self.run.cut_metrics(length)

    def _read(self, path: Path) -> Json:
        """Return what a checkpoint holds.

        Raises:
            DamagedError: if it is not as it was sealed.
            UserError: if it is, and is no checkpoint of a trial: somebody else's, on which nothing is built.
        """
        content = read_sealed(path)
        try:
            state: Json = torch.load(io.BytesIO(content), map_location=self.fabric.device, weights_only=True)
        except Exception as error:  # of as many kinds as there are ways to be no such file
            raise _no_checkpoint(path, f"{type(error).__name__}: {error}") from error
        if complaint := wrong(Checkpoint, state):
            raise _no_checkpoint(path, complaint)
        return state

    def _whole_checkpoint(self) -> Path | None:
        """Return the newest checkpoint that is whole, this trial's, and in step with the metrics; one that is not is
        named and set aside.
        """
        for path in (self.run.checkpoint, self.run.previous_checkpoint):
            if not path.exists():
                continue
            try:
                state = self._read(path)
                if state["trial"] != self.config.digest():
                    raise DamagedError(f"{path} is another trial's")
                if state.get("images") not in (None, self.data.fingerprint):
                    raise DamagedError(f"{path} is of other images than {self.config.data} has now")
                if state["step"] > self.total_steps:
                    raise DamagedError(f"{path} is of step {state['step']} of {self.total_steps}")
                if not self.run.holds(Mark(*state["metrics"])):
                    raise DamagedError(
                        f"{self.run.path / METRICS} is damaged: it does not begin as it did when {path.name} was "
                        "written"
                    )
            except DamagedError as error:
                print(
                    f"reslab: {error}; it is kept as {set_aside(path).name}, and the run goes on from before it",
                    file=sys.stderr,
                )
            else:
                return path
        return None


def _no_checkpoint(path: Path, why: str) -> UserError:
    return MismatchError(
        f"{path} is whole and yet no checkpoint of this trial ({' '.join(why.split())[:200]}); delete it, and the "
        "run begins without it"
    )
