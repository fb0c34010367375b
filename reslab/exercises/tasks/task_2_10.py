"""Task 2.10: the kinds of shortcut, trained and compared."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from math import sqrt
from statistics import mean, stdev, variance

import torch
import torch.nn.functional as F
from scipy import stats
from torch import Generator, nn

import reslab
from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, normal, whole

OPTIONS = ("none", "A", "B", "C")


# the solution
def shortcut_errors(seed: int) -> dict[str, float]:
    """Return each shortcut's training error, a fraction, after three epochs on 32 digits at depth 8."""
    images, labels = (part[:32] for part in reslab.load_data("digits").train)
    images, errors = images.double(), {}
    for option in ("none", "A", "B", "C"):
        torch.manual_seed(seed)
        if option == "none":
            network = reslab.build("cifar_plain", depth=8, num_classes=10, in_channels=1).double()
        else:
            network = reslab.build("cifar_resnet", depth=8, num_classes=10, in_channels=1, shortcut=option).double()
        optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        for _ in range(3):
            for batch in torch.randperm(32).split(16):
                optimiser.zero_grad()
                F.cross_entropy(network(images[batch]), labels[batch]).backward()
                optimiser.step()
        with torch.no_grad():
            errors[option] = float((network(images).argmax(1) != labels).double().mean())
    return errors


def shortcut_intervals(results: Sequence[Mapping[str, float]], level: float) -> dict[str, tuple[float, float]]:
    """Return for A, B and C the interval of its error minus that of "none", paired by seed; the three hold at once."""
    intervals = {}
    for option in ("A", "B", "C"):
        differences = [result[option] - result["none"] for result in results]
        quantile = float(stats.t.ppf(1 - (1 - level) / 3 / 2, len(differences) - 1))
        half = quantile * stdev(differences) / sqrt(len(differences))
        intervals[option] = (mean(differences) - half, mean(differences) + half)
    return intervals


# how it is judged


def _seeds(generator: Generator) -> Cases:
    """One of a few seeds, so that in a class most answers are compared with networks that are trained already."""
    yield (whole(generator, 0, 4),)


def _built(kind: str) -> nn.Module:
    if kind == "none":
        return reslab.build("cifar_plain", depth=8, num_classes=10, in_channels=1)
    return reslab.build("cifar_resnet", depth=8, num_classes=10, in_channels=1, shortcut=kind)


@cache
def _trained(seed: int, *, once: bool = False, always: str | None = None, epochs: int = 3) -> Mapping[str, nn.Module]:
    """The networks that are trained, with a way to go wrong for every option."""
    images, labels = (part[:32] for part in reslab.load_data("digits").train)
    networks = {}
    for option in OPTIONS:
        if option == "none" or not once:
            torch.manual_seed(seed)
        kind = option if always is None or option == "none" else always
        network = networks[option] = _built(kind).double()
        optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        for _ in range(epochs):
            for batch in torch.randperm(32).split(16):
                optimiser.zero_grad()
                F.cross_entropy(network(images[batch].double()), labels[batch]).backward()
                optimiser.step()
    return networks


def _measured(
    seed: int,
    *,
    accuracy: bool = False,
    part: str = "train",
    once: bool = False,
    always: str | None = None,
    epochs: int = 3,
) -> dict[str, float]:
    images, labels = getattr(reslab.load_data("digits"), part)
    images, labels = (images[:32], labels[:32]) if part == "train" else (images, labels)
    errors = {}
    for option, network in _trained(seed, once=once, always=always, epochs=epochs).items():
        with torch.no_grad():
            errors[option] = float((network(images.double()).argmax(1) != labels).double().mean())
    return {option: 1 - error if accuracy else error for option, error in errors.items()}


def _results(generator: Generator) -> Cases:
    for n, level in ((3, 0.95), (6, 0.9)):
        yield [_result(generator) for _ in range(n)], level


def _result(generator: Generator) -> dict[str, float]:
    base = 0.3 + 0.1 * float(normal(generator, 1))
    return {option: base + 0.05 * float(normal(generator, 1)) for option in OPTIONS}


def _compared(
    results: Sequence[Mapping[str, float]],
    level: float,
    *,
    comparisons: int = 3,
    sign: int = 1,
    paired: bool = True,
    normal_quantile: bool = False,
    root: bool = True,
) -> dict[str, tuple[float, float]]:
    """The intervals with a way to go wrong for every option."""
    found = {}
    for option in ("A", "B", "C"):
        one, other = [result[option] for result in results], [result["none"] for result in results]
        n, share = len(one), 1 - (1 - level) / comparisons / 2
        differences = [sign * (a - b) for a, b in zip(one, other, strict=True)]
        spread = stdev(differences) if paired else sqrt(variance(one) + variance(other))
        freedom = n - 1 if paired else 2 * (n - 1)
        quantile = float(stats.norm.ppf(share) if normal_quantile else stats.t.ppf(share, freedom))
        half = quantile * spread / (sqrt(n) if root else 1)
        found[option] = (mean(differences) - half, mean(differences) + half)
    return found


TASK = Task(
    "2.10",
    [
        Part(
            cache(shortcut_errors),
            points=5,
            cases=_seeds,
            mistakes={
                "accuracy": partial(_measured, accuracy=True),
                "test-error": partial(_measured, part="test"),
                "seeded-once": partial(_measured, once=True),
                "always-a": partial(_measured, always="A"),
                "one-epoch": partial(_measured, epochs=1),
            },
        ),
        Part(
            shortcut_intervals,
            points=3,
            cases=_results,
            mistakes={
                "each-by-itself": partial(_compared, comparisons=1),
                "turned-round": partial(_compared, sign=-1),
                "unpaired": partial(_compared, paired=False),
                "normal-quantile": partial(_compared, normal_quantile=True),
                "of-single-values": partial(_compared, root=False),
            },
        ),
    ],
    seconds=60,
    loads=("reslab.data.digits", "reslab.networks.zoo", "torch._dynamo"),
)
