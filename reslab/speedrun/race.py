"""Races: sprints of the contenders in alternation, each in a separate process, timed from outside and from inside."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isfinite, log
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, Literal

import torch
from filelock import FileLock
from torch import Tensor

from reslab.bench.timing import machine
from reslab.data import Augment, Dataset, load_data
from reslab.data.dataset import PartName
from reslab.data.images import Ragged
from reslab.digests import DECIDED, code_digest
from reslab.errors import FailedError, MismatchError, MissingError, worded
from reslab.executors.attempts import ElsewhereError, reason
from reslab.files import Json, write_atomically
from reslab.ledger.claim import Claim
from reslab.ledger.comparison import Comparison
from reslab.ledger.record import Reason
from reslab.ledger.registration import GUARDS, Registration, registered
from reslab.ledger.verdict import ERROR_RATE, decide
from reslab.naming import without_path
from reslab.networks.counting import count_params
from reslab.processes import answer_of, following_parent
from reslab.progress import Progress
from reslab.runs import Run
from reslab.speedrun import airbench
from reslab.speedrun import network as speedrun
from reslab.speedrun.sprint import Batches, Pixels, SprintConfig
from reslab.training import speed
from reslab.training.devices import fabric_here, keep_freed_memory, threads
from reslab.training.evaluation import evaluate
from reslab.training.loop import generator
from reslab.weights.files import to_bytes

CONTENDERS = {"speedrun": speedrun.CONTENDER, "airbench94": airbench.SGD, "airbench94-muon": airbench.MUON}


def run(config: SprintConfig, root: Path, progress: Progress) -> Json:
    """Return the result of a sprint, after running it if necessary. An interrupted one starts from the beginning, as
    its time counts.

    Raises:
        UserError: if its process ends with an error.
    """
    place = Run(root, config)
    place.create()
    with FileLock(place.path / ".lock"):
        if not place.finished:
            place.tidy()
            place.cut_metrics(0)
            start = time.perf_counter()
            outcome = _in_a_process(config, place, progress)
            place.finish({**outcome, "process_seconds": round(time.perf_counter() - start, 3)})
    return {**place.result(without_weights=True), "directory": str(place.path)}


def _in_a_process(config: SprintConfig, place: Run, progress: Progress) -> Json:
    """Run the sprint in a new process, and return its outcome."""
    label = f"{config.contender} s{config.seed}"

    def tell() -> None:
        if at := place.latest_metrics():
            progress(label, at["step"], at["steps"])

    outcome: Json = answer_of(_serve, config, place, label=label, meanwhile=tell)
    if "reason" in outcome:
        raise FailedError(f"{label}: {outcome['reason']}") from ElsewhereError(f"\n{outcome['traceback']}")
    progress(label, outcome["steps"], outcome["steps"])
    return outcome


@following_parent
def _serve(connection: Connection, config: SprintConfig, place: Run) -> None:
    """Run in the process of one sprint."""
    measured = speed.kept("cpu")
    if measured is None or measured.keeps_freed_memory:
        keep_freed_memory()
    torch.backends.cudnn.benchmark = True  # batches have one or two shapes
    try:
        outcome = sprint(config, place)
    except Exception as error:
        outcome = {"reason": reason(error), "traceback": traceback.format_exc()}
    connection.send(outcome)


def sprint(config: SprintConfig, place: Run) -> Json:
    """Train and evaluate a contender here, write its weights, and return the outcome. The clock runs from the whitening
    to the last step.
    """
    contender, data, fabric = CONTENDERS[config.contender], load_data(config.data), fabric_here(config)
    training, evaluated = parts(data.to(fabric.device), config.part)
    assert isinstance(data.augment, Augment)
    with threads(config.threads):
        torch.manual_seed(config.seed)
        batches = Batches(
            training, contender.batch_size, shift=data.augment.shift // 2, flip=data.augment.flip, seed=config.seed
        )
        report = Metrics(place)
        processor = time.process_time()
        network = contender.train(batches, data.num_classes, fabric, config.epochs, report)
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()
        seconds, processor = report.seconds(), time.process_time() - processor
        with fabric.autocast():
            scores = evaluate(network, evaluated.in_order())
        here = machine() | {"device": device_name(fabric.device), "precision": config.precision}
    error = scores["error"]
    assert error is not None  # only a loss can be infinite
    options = {"num_classes": data.num_classes, "in_channels": data.in_channels}
    write_atomically(place.weights, to_bytes(network, contender.model, options, data.preprocessing))
    return {
        "status": "finished" if report.finite else "diverged",
        "accuracy": 1 - error,
        "loss": scores["loss"],
        "steps": report.step,
        "params": count_params(network),
        **({"images": data.fingerprint} if data.fingerprint else {}),
        "training_seconds": round(seconds, 3),
        "processor_seconds": round(processor, 3),
        "machine": here,
    }


class Metrics:
    """A report that writes a line of metrics at most once a second, as each makes a GPU wait. Its clock starts at
    construction.
    """

    def __init__(self, place: Run) -> None:
        self.place, self.start, self.written, self.step, self.finite = place, time.perf_counter(), -1.0, 0, True

    def __call__(self, step: int, steps: int, loss: Tensor) -> None:
        """Note a step."""
        self.step = step
        if self.seconds() - self.written >= 1 or step == steps:
            value = loss.item()
            self.finite = isfinite(value)
            self.written = self.seconds()
            self.place.append_metrics(
                {
                    "step": step,
                    "steps": steps,
                    "loss": value if self.finite else None,
                    "seconds": round(self.written, 3),
                }
            )

    def seconds(self) -> float:
        """Return the time since the start."""
        return time.perf_counter() - self.start


def device_name(device: torch.device) -> str:
    """Return the identity of the hardware behind a time: the model of a GPU, else the kind of device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def check(data: Dataset) -> None:
    """Check that a sprint can be run on the data.

    Raises:
        UserError: if the images differ in size, are cut out of larger ones, or are too few.
    """
    if any(isinstance(images, Ragged) for images, _ in data.parts.values()) or not isinstance(data.augment, Augment):
        raise MismatchError(*worded("race-of-one-size", data=data.name))
    if len(data.labels) < 2:
        raise MissingError(*worded("race-of-too-few", data=data.name, count=len(data.labels)))


def parts(data: Dataset, part: Literal["heldout", "test"]) -> tuple[Pixels, Pixels]:
    """Return the training images, in an order that mixes the classes, and the images for evaluation."""
    training = _pixels(data, "train") if part == "heldout" else _pixels(data, "train", "heldout")
    order = torch.randperm(len(training), generator=generator(0, "images", 0)).to(training.labels.device)
    return replace(training, images=training.images[order], labels=training.labels[order]), _pixels(data, part)


def _pixels(data: Dataset, *names: PartName) -> Pixels:
    images = [images for images, _ in map(data.parts.__getitem__, names) if isinstance(images, Tensor)]
    labels = torch.cat([data.parts[name].labels for name in names])
    mean, std = (
        data.unit * torch.tensor(values, device=labels.device)[:, None, None]
        for values in (data.statistics.mean, data.statistics.std)
    )
    return Pixels(torch.cat(images), labels, mean, std)


SOONER = Claim(
    id="speedrun.sooner",
    kind="statistical",
    section=None,
    statement={
        "en": "The speedrun trains in notably less time than the other",
        "ko": "스피드런은 상대보다 눈에 띄게 짧은 시간에 학습을 마친다",
    },
    source="measured side by side",
    direction="lower",
    margin=0.05,
    unit="training time, as a natural logarithm",
)
AS_ACCURATE = Claim(
    id="speedrun.as-accurate",
    kind="statistical",
    section=None,
    statement={
        "en": "The speedrun does not err notably more than the other",
        "ko": "스피드런의 오류율이 상대의 오류율보다 눈에 띄게 높지는 않다",
    },
    source="measured side by side",
    direction="not higher",
    margin=0.003,
    unit="error rate",
)


def registration(configs: Sequence[SprintConfig], data: Dataset, date: str) -> Registration:
    """Return what is fixed before a race is run: its claims, settings, images, seeds and code.

    Settings are those that all of its runs share, and the epochs of each contender.
    """
    shared = configs[0].model_dump(mode="json", exclude={"contender", "seed", "epochs"})
    epochs = {f"epochs of {config.contender}": config.epochs for config in configs}
    seeds = sorted({config.seed for config in configs})
    return Registration(
        study="speedrun",
        date=date,
        claims=[registered(claim) for claim in (SOONER, AS_ACCURATE)],
        config={**shared, "data": without_path(configs[0].data), "images": data.fingerprint, **epochs},
        seeds=seeds,
        looks=[len(seeds)],
        error_rate=ERROR_RATE,
        guards=dict(GUARDS),
        code={"trains": SprintConfig.code_digest(), "decides": code_digest(DECIDED)},
    )


def compared(runs: Mapping[str, Mapping[int, Json]], grain: float = 0.0) -> Json:
    """Return the ratio of the times per seed, reslab's over the anchor's (median, lowest, highest), and whether
    reslab's is faster and equally accurate, given the runs of both by name and seed; `grain` is one image of those
    that they are evaluated on.

    Where a run diverged, or the two of a seed are from different machines, nothing is decided. Pairs may be from
    different ones, as a race may take days.
    """
    ours, theirs = runs.values()
    untested = _obstacle(runs)

    def ratio(key: str) -> tuple[float, float, float]:
        ratios = sorted(ours[seed][key] / theirs[seed][key] for seed in ours)
        return median(ratios), ratios[0], ratios[-1]

    def comparison(claim: Claim, value: Callable[[Json], float], **how: Any) -> Comparison:
        mine, others = ({seed: value(result) for seed, result in side.items()} for side in (ours, theirs))
        return Comparison(claim, mine, others, untested, **how)

    # the two runs of a seed follow each other, and share the state of the machine
    sooner = comparison(SOONER, lambda result: log(result["training_seconds"]), paired=True)
    as_accurate = comparison(AS_ACCURATE, lambda result: 1 - result["accuracy"], grain=grain)
    return {
        **{key: ratio(key) for key in ("training_seconds", "process_seconds", "processor_seconds")},
        "claims": [verdict.model_dump(mode="json") for verdict in decide([sooner, as_accurate])],
    }


def _obstacle(runs: Mapping[str, Mapping[int, Json]]) -> Reason | None:
    """Return why runs decide nothing; None if they do."""
    sound = {name: sum(each["status"] != "diverged" for each in results.values()) for name, results in runs.items()}
    if diverged := Reason.diverged({name: (sound[name], len(results)) for name, results in runs.items()}):
        return diverged
    ours, theirs = runs.values()
    alike = all(result["machine"] == theirs[seed]["machine"] for seed, result in ours.items())
    return None if alike else Reason(code="different-machines")


def summary(results: Mapping[int, Json]) -> Json:
    """Return the mean and the standard deviation over seeds (None for one seed) of each measurement."""

    def spread(key: str) -> tuple[float, float | None]:
        values = [result[key] for result in results.values()]
        return mean(values), stdev(values) if len(values) > 1 else None

    return {
        "seeds": list(results),
        **{key: spread(key) for key in ("accuracy", "training_seconds", "process_seconds", "processor_seconds")},
    }
