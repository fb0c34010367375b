"""Task 2.4: predict, then run."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import combinations, pairwise
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

import reslab
from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, listed, whole
from reslab.exercises.likeness import OfAnotherKind

# the solution
NETWORKS = {
    "plain8": ("cifar_plain", 8),
    "plain20": ("cifar_plain", 20),
    "resnet8": ("cifar_resnet", 8),
    "resnet20": ("cifar_resnet", 20),
}


def prediction() -> list[str]:
    """Return the four networks, the one with the lowest training error first: a guess, made before anything runs."""
    return ["resnet20", "resnet8", "plain20", "plain8"]


def run(seed: int) -> dict[str, float]:
    """Return each network's training error, a fraction, after three epochs on 32 digits."""
    images, labels = (part[:32] for part in reslab.load_data("digits").train)
    images, errors = images.double(), {}
    for name, (family, depth) in NETWORKS.items():
        torch.manual_seed(seed)
        network = reslab.build(family, depth=depth, num_classes=10, in_channels=1).double()
        optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        for _ in range(3):
            for batch in torch.randperm(32).split(16):
                optimiser.zero_grad()
                F.cross_entropy(network(images[batch]), labels[batch]).backward()
                optimiser.step()
        with torch.no_grad():
            errors[name] = float((network(images).argmax(1) != labels).double().mean())
    return errors


def held(order: Sequence[str], results: Sequence[Mapping[str, float]], margin: float) -> dict[tuple[str, str], str]:
    """Return for each pair (better, worse) of the predicted order whether it "held" at every seed, "failed" at every
    seed, or is "open".
    """
    verdicts = {}
    for better, worse in combinations(order, 2):
        differences = [result[worse] - result[better] for result in results]
        every = (
            all(difference > margin for difference in differences),
            all(difference < -margin for difference in differences),
        )
        verdicts[better, worse] = "held" if every[0] else "failed" if every[1] else "open"
    return verdicts


# how it is judged


def _once(generator: Generator) -> Cases:
    yield ()


def _completeness(answer: Callable[[], Sequence[str]]) -> str | OfAnotherKind:
    """Any order is worth its points: what counts is that it was made."""
    came = answer()
    order = listed(came, "str")
    if isinstance(order, OfAnotherKind) or not all(isinstance(name, str) for name in order):
        return OfAnotherKind("list of str", came)
    if unknown := [name for name in order if name not in NETWORKS]:
        return "all unknown" if len(unknown) == len(order) else "some unknown"
    if len(set(order)) < len(order):
        return "a network twice"
    return "every network once" if len(order) == len(NETWORKS) else "some missing"


def _seeds(generator: Generator) -> Cases:
    """One of a few seeds, so that in a class most answers are compared with networks that are trained already."""
    yield (whole(generator, 0, 4),)


@cache
def _trained(
    seed: int,
    *,
    once: bool = False,
    shuffled: bool = True,
    zeroed: bool = True,
    precision: torch.dtype = torch.float64,
) -> Mapping[str, nn.Module]:
    """The networks that `run` trains, with a way to go wrong for every option."""
    images, labels = (part[:32] for part in reslab.load_data("digits").train)
    networks = {}
    for index, (name, (family, depth)) in enumerate(NETWORKS.items()):
        if index == 0 or not once:
            torch.manual_seed(seed)
        network = networks[name] = reslab.build(family, depth=depth, num_classes=10, in_channels=1).to(precision)
        optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        for _ in range(3):
            for batch in (torch.randperm(32) if shuffled else torch.arange(32)).split(16):
                if zeroed:
                    optimiser.zero_grad()
                F.cross_entropy(network(images[batch].to(precision)), labels[batch]).backward()
                optimiser.step()
    return networks


def _measured(
    networks: Mapping[str, nn.Module], part: str = "train", evaluate: bool = False, only: int = 32
) -> dict[str, float]:
    images, labels = (tensor[:only] for tensor in getattr(reslab.load_data("digits"), part))
    with torch.no_grad():
        # measuring moves running statistics
        copies = {name: copy.deepcopy(network).train(not evaluate) for name, network in networks.items()}
        return {name: _error(network, images, labels) for name, network in copies.items()}


def _error(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    images = images.to(next(network.parameters()))
    return float((network(images).argmax(1) != labels).double().mean())


_OTHER = {"plain8": "resnet8", "plain20": "resnet20", "resnet8": "plain8", "resnet20": "plain20"}


def _results(generator: Generator) -> Cases:
    for number in range(3):
        names = list(NETWORKS)
        order = [names[index] for index in torch.randperm(4, generator=generator).tolist()]
        levels = dict(zip(order, (0.3, 0.32, 0.1, 0.5), strict=True))
        wobble = [{name: 0.004 * whole(generator, -2, 2) for name in order} for _ in range(3)]
        if number < 2:
            wobble[0][order[2]] += 0.4  # one seed apart from the others; in the last case, none, and two pairs fail
        yield order, [{name: levels[name] + each[name] for name in order} for each in wobble], 0.05


def _judged(
    order: Sequence[str],
    results: Sequence[Mapping[str, float]],
    margin: float,
    how: Callable[[Sequence[float], float], str],
    pairs: Sequence[tuple[str, str]] | None = None,
) -> dict[tuple[str, str], str]:
    chosen = list(combinations(order, 2)) if pairs is None else pairs
    return {
        (better, worse): how([result[worse] - result[better] for result in results], margin) for better, worse in chosen
    }


def _every(differences: Sequence[float], margin: float) -> str:
    return "held" if min(differences) > margin else "failed" if max(differences) < -margin else "open"


def _mean(differences: Sequence[float], margin: float) -> str:
    return _every([mean(differences)], margin)


def _any(differences: Sequence[float], margin: float) -> str:
    return "held" if max(differences) > margin else "failed" if min(differences) < -margin else "open"


def _never_open(differences: Sequence[float], margin: float) -> str:
    return "held" if min(differences) > margin else "failed"


def _wrong_held(how: Callable[[Sequence[float], float], str]) -> Callable[..., Any]:
    return lambda order, results, margin: _judged(order, results, margin, how)


def _neighbours(
    order: Sequence[str], results: Sequence[Mapping[str, float]], margin: float
) -> dict[tuple[str, str], str]:
    return _judged(order, results, margin, _every, list(pairwise(order)))


TASK = Task(
    "2.4",
    [
        Part(
            prediction,
            points=2,
            cases=_once,
            mistakes={
                "some-missing": lambda: ["plain8", "resnet20"],
                "a-network-twice": lambda: ["plain8"] * 2,
                "names-of-their-own": lambda: ["ResNet-20"],
            },
            observe=_completeness,
        ),
        Part(
            cache(run),
            points=6,
            cases=_seeds,
            mistakes={
                "accuracy": lambda seed: {name: 1 - error for name, error in _measured(_trained(seed)).items()},
                "percent": lambda seed: {name: 100 * error for name, error in _measured(_trained(seed)).items()},
                "evaluation-mode": lambda seed: _measured(_trained(seed), evaluate=True),
                "test-error": lambda seed: _measured(_trained(seed), part="test", only=10_000),
                "all-training-images": lambda seed: _measured(_trained(seed), only=10_000),
                "families-exchanged": lambda seed: {
                    _OTHER[name]: error for name, error in _measured(_trained(seed)).items()
                },
                "seeded-once": lambda seed: _measured(_trained(seed, once=True)),
                "not-shuffled": lambda seed: _measured(_trained(seed, shuffled=False)),
                "gradients-added-up": lambda seed: _measured(_trained(seed, zeroed=False)),
                "single-precision": lambda seed: _measured(_trained(seed, precision=torch.float32)),
            },
        ),
        Part(
            held,
            points=4,
            cases=_results,
            mistakes={
                "no-margin": lambda order, results, margin: held(order, results, 0),
                "on-average": _wrong_held(_mean),
                "any-seed": _wrong_held(_any),
                "never-open": _wrong_held(_never_open),
                "turned-round": _wrong_held(
                    lambda differences, margin: _every([-difference for difference in differences], margin)
                ),
                "neighbours-only": _neighbours,
            },
        ),
    ],
    seconds=90,
    loads=("reslab.data.digits", "reslab.networks.zoo", "torch._dynamo"),
)
