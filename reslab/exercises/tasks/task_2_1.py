"""Task 2.1: degradation, and the deeper network that contains the shallower."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, listed, normal
from reslab.exercises.likeness import OfAnotherKind, as_tensor


# the solution
def diagnose(
    train_shallow: Sequence[float],
    train_deep: Sequence[float],
    test_shallow: Sequence[float],
    test_deep: Sequence[float],
    margin: float,
) -> str:
    """Return what ails the deeper network, from errors over seeds: "degradation", "overfitting" or "neither"."""
    if mean(train_deep) - mean(train_shallow) > margin:
        return "degradation"
    return "overfitting" if mean(test_deep) - mean(test_shallow) > margin else "neither"


def identity_convolution(channels: int) -> Tensor:
    """Return the weight `[C, C, 3, 3]` of the 3×3 convolution that leaves its input unchanged."""
    weight = torch.zeros(channels, channels, 3, 3)
    weight[range(channels), range(channels), 1, 1] = 1
    return weight


def deeper(weights: Sequence[Tensor], index: int) -> list[Tensor]:
    """Return the plain network's weights with one layer more before layer `index`, which changes no answer."""
    return [*weights[:index], identity_convolution(weights[index - 1].shape[0]), *weights[index:]]


# how it is judged


def _errors(generator: Generator) -> Cases:
    for trained, tested in ((2, 3), (3, 0), (0, 2), (-2, 3), (0, 0), (0.5, 0.4), (-2, -3), (-3, 0), (2, -2)):
        margin = 0.01 + 0.02 * float(torch.rand((), generator=generator))
        sides: list[list[float]] = []
        for shift in (0, trained, 0, tested):
            noise = normal(generator, 5)
            spread = 2 * margin * (noise - noise.mean()) / noise.std()
            level = 0.3 if len(sides) < 2 else 0.4
            sides.append((level + (shift * margin + spread)).tolist())
        yield (*sides, margin)


def _by_seed(train_shallow: Sequence[float], train_deep: Sequence[float], *rest: list[float]) -> list[float]:
    return [deep - shallow for shallow, deep in zip(train_shallow, train_deep, strict=True)]


def _every_seed(a: Sequence[float], b: Sequence[float], c: Sequence[float], d: Sequence[float], margin: float) -> str:
    if all(difference > margin for difference in _by_seed(a, b)):
        return "degradation"
    return "overfitting" if all(difference > margin for difference in _by_seed(c, d)) else "neither"


def _test_first(a: Sequence[float], b: Sequence[float], c: Sequence[float], d: Sequence[float], margin: float) -> str:
    if mean(d) - mean(c) > margin:
        return "overfitting"
    return diagnose(a, b, c, d, margin)


def _by_the_test(a: Sequence[float], b: Sequence[float], c: Sequence[float], d: Sequence[float], margin: float) -> str:
    return "degradation" if mean(d) - mean(c) > margin else "neither"


_EXCHANGED = {"degradation": "overfitting", "overfitting": "degradation", "neither": "neither"}


def _sizes(generator: Generator) -> Cases:
    for channels in (1, 3, int(torch.randint(4, 9, (), generator=generator))):
        yield (channels,)


def _shared(channels: int) -> Tensor:
    weight = torch.zeros(channels, channels, 3, 3)
    weight[:, :, 1, 1] = 1
    return weight


def _in_the_corner(channels: int) -> Tensor:
    return identity_convolution(channels).roll((-1, -1), (2, 3))


def _spread(channels: int) -> Tensor:
    return torch.eye(channels)[:, :, None, None].expand(-1, -1, 3, 3) / 9


def _networks(generator: Generator) -> Cases:
    for widths, index in (([2, 3, 5], 1), ([3, 3, 3, 2], 2), ([1, 4, 2, 3], 2)):
        weights = [normal(generator, after, before, 3, 3) / 2 for before, after in pairwise(widths)]
        yield weights, index, normal(generator, 2, widths[0], 4, 4).relu()


def _answers(
    answer: Callable[..., Sequence[Tensor]], weights: Sequence[Tensor], index: int, x: Tensor
) -> dict[str, object] | OfAnotherKind:
    given = list(weights)
    came = answer(weights, index)
    made = listed(came, "torch.Tensor")
    if isinstance(made, OfAnotherKind):
        return made
    made = [as_tensor(weight) for weight in made]
    if not all(isinstance(weight, Tensor) for weight in made):
        return OfAnotherKind("list of torch.Tensor", came)
    layers = len(made)
    for weight in made:
        x = F.relu(F.conv2d(x, weight.to(x), padding=weight.shape[-1] // 2))
    others = [*made[:index], *made[index + 1 :]]
    kept = len(others) == len(given) and all(
        one.shape == other.shape and torch.allclose(one.to(other), other)
        for one, other in zip(others, given, strict=True)
    )
    return {"layers": layers, "output": x, "other layers": kept}


def _with(make: Callable[[Tensor], Tensor]) -> Callable[..., list[Tensor]]:
    return lambda weights, index: [*weights[:index], make(weights[index - 1]), *weights[index:]]


TASK = Task(
    "2.1",
    [
        Part(
            diagnose,
            points=4,
            cases=_errors,
            mistakes={
                "test-error-first": _test_first,
                "by-the-test-error": _by_the_test,
                "names-exchanged": lambda *errors: _EXCHANGED[diagnose(*errors)],
                "margin-forgotten": lambda a, b, c, d, margin: diagnose(a, b, c, d, 0),
                "every-seed": _every_seed,
                "turned-round": lambda a, b, c, d, margin: diagnose(b, a, d, c, margin),
            },
        ),
        Part(
            identity_convolution,
            points=3,
            cases=_sizes,
            mistakes={
                "channels-mixed": _shared,
                "in-the-corner": _in_the_corner,
                "ones-everywhere": lambda channels: torch.ones(channels, channels, 3, 3),
                "mean-of-the-neighbours": _spread,
                "one-channel-each": lambda channels: identity_convolution(1).repeat(channels, 1, 1, 1),
            },
        ),
        Part(
            deeper,
            points=4,
            cases=_networks,
            mistakes={
                "zeros": _with(lambda before: torch.zeros(before.shape[0], before.shape[0], 3, 3)),
                "channels-mixed": _with(lambda before: _shared(before.shape[0])),
                "a-copy": _with(lambda before: before),
                "in-place-of-a-layer": lambda weights, index: [
                    *weights[:index],
                    identity_convolution(weights[index - 1].shape[0]),
                    *weights[index + 1 :],
                ],
                "at-the-end": lambda weights, index: [*weights, identity_convolution(weights[-1].shape[0])],
                "input-channels-of-the-layer-before": _with(lambda before: identity_convolution(before.shape[1])),
            },
            observe=_answers,
        ),
    ],
)
