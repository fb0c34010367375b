"""Task 1.5: gradient norms over depth, and the rate a block."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

import reslab
from reslab.analysis.gradient_flow import gradient_flow
from reslab.analysis.twin import without_batchnorm
from reslab.data import load_data
from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, normal


# the solution
def gradient_ratio(
    stem: nn.Module, blocks: Sequence[nn.Module], head: nn.Module, images: Tensor, labels: Tensor
) -> float:
    """Return the gradient's norm before the first block over that after the last, of the mean cross-entropy."""
    first = signal = stem(images)
    for block in blocks:
        signal = block(signal)
    loss = F.cross_entropy(head(signal), labels)
    at_first, at_last = torch.autograd.grad(loss, [first, signal])
    return float(at_first.norm() / at_last.norm())


def rate(blocks: Sequence[int], ratios: Sequence[float]) -> float:
    """Return the factor per block: the exponential of the slope of the logarithms over the number of blocks."""
    x, y = torch.tensor(blocks, dtype=torch.float64), torch.tensor(ratios, dtype=torch.float64).log()
    x = x - x.mean()
    return float(torch.exp((x * y).sum() / x.square().sum()))


def measured_rate(
    name: str, batchnorm: bool, depths: Sequence[int], images: Tensor, labels: Tensor, seed: int
) -> float:
    """Return the factor per block of a CIFAR family at initialisation, over these depths."""
    ratios = []
    for depth in depths:
        torch.manual_seed(seed)
        network = reslab.build(name, depth=depth, num_classes=10, in_channels=1)
        network = network if batchnorm else without_batchnorm(network)
        ratios.append(gradient_flow(network.train(), images, labels).first_over_last)
    return rate([(depth - 2) // 2 for depth in depths], ratios)


# how it is judged


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn(self.conv(x)))


def towers(generator: Generator) -> Cases:
    """Yield stems, blocks and heads with images and labels, one of them in evaluation mode."""
    for depth in (2, 4, 3):
        stem, blocks = nn.Conv2d(1, 4, 3, padding=1), [_Residual(4) for _ in range(depth)]
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        network = nn.ModuleList([stem, *blocks, head]).double()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(normal(generator, *parameter.shape) / 2)
        network.train(depth != 3)
        yield stem, blocks, head, normal(generator, 6, 1, 5, 5), torch.randint(3, (6,), generator=generator)


def in_its_mode(
    answer: Callable[..., Any], stem: nn.Module, blocks: Sequence[nn.Module], head: nn.Module, *batch: Tensor
) -> Any:
    """What comes of a tower; beside that it was, if a part of it is left in another mode."""
    parts = [each for part in (stem, *blocks, head) for each in part.modules()]
    modes = [part.training for part in parts]
    came = answer(stem, blocks, head, *batch)
    return came if modes == [part.training for part in parts] else {"values": came, "mode kept": False}


def _signals(
    stem: nn.Module, blocks: Sequence[nn.Module], head: nn.Module, images: Tensor, labels: Tensor
) -> tuple[list[Tensor], Tensor]:
    signals = [stem(images)]
    for block in blocks:
        signals.append(block(signals[-1]))
    return signals, F.cross_entropy(head(signals[-1]), labels)


def _ratio(measure: Callable[[Tensor], Tensor], first: int = 0) -> Callable[..., float]:
    def ratio(*tower: Any) -> float:
        signals, loss = _signals(*tower)
        gradients = torch.autograd.grad(loss, signals)
        return float(measure(gradients[first]) / measure(gradients[-1]))

    return ratio


def _dot_grad(*tower: Any) -> float:
    """The attribute `grad` of a tensor that is not a leaf, which stays empty."""
    signals, loss = _signals(*tower)
    loss.backward()
    first, last = signals[0].grad, signals[-1].grad
    return float(first.norm() / last.norm())  # type: ignore[union-attr]  # that is the mistake


def in_mode_of_its_own(answer: Callable[..., Any], *, training: bool, given_back: bool) -> Callable[..., Any]:
    """The answer in one mode, whatever the mode of the network, which may be given back in it."""

    def answered(stem: nn.Module, blocks: Sequence[nn.Module], head: nn.Module, *batch: Tensor) -> Any:
        network = nn.ModuleList([stem, *blocks, head])
        was = [part.training for part in network.modules()]
        network.train(training)
        came = answer(stem, blocks, head, *batch)
        for part, mode in zip(network.modules(), was, strict=True):
            part.training = mode if given_back else training
        return came

    return answered


def _ratios(generator: Generator) -> Cases:
    for sizes in ([3, 5, 9], [9, 27, 54], [2, 4, 5, 8]):
        slope = float(normal(generator, 1)) / 10
        noise = 0.3 * normal(generator, len(sizes))
        yield (
            sizes,
            [
                float(torch.exp(torch.tensor(0.7 + slope * size) + disturbed))
                for size, disturbed in zip(sizes, noise, strict=True)
            ],
        )


def _fit(blocks: Sequence[int], values: Tensor, *, centred: bool = True) -> float:
    x = torch.tensor(blocks, dtype=torch.float64)
    x = x - x.mean() if centred else x
    return float((x * values).sum() / x.square().sum())


def _log(ratios: Sequence[float]) -> Tensor:
    return torch.tensor(ratios, dtype=torch.float64).log()


def _end_to_end(blocks: Sequence[int], ratios: Sequence[float]) -> float:
    return float(torch.exp((_log(ratios)[-1] - _log(ratios)[0]) / (blocks[-1] - blocks[0])))


def _networks(generator: Generator) -> Cases:
    images, labels = load_data("digits").train
    chosen = torch.randperm(len(labels), generator=generator)[:8]
    seed = int(torch.randint(1000, (), generator=generator))
    for name, batchnorm in (("cifar_plain", True), ("cifar_resnet", False)):
        yield name, batchnorm, (8, 14), images[chosen], labels[chosen], seed


def _measured(
    name: str,
    batchnorm: bool,
    depths: Sequence[int],
    images: Tensor,
    labels: Tensor,
    seed: int,
    *,
    seeded_once: bool = False,
    removing: bool = True,
    layers: bool = False,
    towards_the_end: bool = False,
) -> float:
    """The measured rate with a way to go wrong for every option."""
    ratios: list[float] = []
    for depth in depths:
        if not (seeded_once and ratios):
            torch.manual_seed(seed)
        network = reslab.build(name, depth=depth, num_classes=10, in_channels=1)
        network = without_batchnorm(network) if removing and not batchnorm else network
        ratios.append(gradient_flow(network.train(), images, labels).first_over_last)
    factor = rate([depth - 2 if layers else (depth - 2) // 2 for depth in depths], ratios)
    return 1 / factor if towards_the_end else factor


TASK = Task(
    "1.5",
    [
        Part(
            gradient_ratio,
            points=5,
            cases=towers,
            mistakes={
                "upside-down": lambda *tower: 1 / gradient_ratio(*tower),
                "squared": _ratio(lambda gradient: gradient.square().sum()),
                "mean-of-values": _ratio(lambda gradient: gradient.mean()),
                "one-block-late": _ratio(lambda gradient: gradient.norm(), first=1),
                "running-statistics-used": in_mode_of_its_own(gradient_ratio, training=False, given_back=True),
                "left-evaluating": in_mode_of_its_own(gradient_ratio, training=False, given_back=False),
                "left-training": in_mode_of_its_own(gradient_ratio, training=True, given_back=False),
                "grad-of-no-leaf": _dot_grad,
            },
            observe=in_its_mode,
        ),
        Part(
            rate,
            points=4,
            cases=_ratios,
            mistakes={
                "slope-not-factor": lambda blocks, ratios: _fit(blocks, _log(ratios)),
                "not-logarithmic": lambda blocks, ratios: _fit(blocks, torch.tensor(ratios, dtype=torch.float64)),
                "through-the-origin": lambda blocks, ratios: float(
                    torch.tensor(_fit(blocks, _log(ratios), centred=False)).exp()
                ),
                "two-points": _end_to_end,
                "tenth-powers": lambda blocks, ratios: float(10 ** _fit(blocks, _log(ratios))),
            },
        ),
        Part(
            measured_rate,
            points=5,
            cases=_networks,
            mistakes={
                "batchnorm-left-in": partial(_measured, removing=False),
                "a-layer-not-a-block": partial(_measured, layers=True),
                "seeded-once": partial(_measured, seeded_once=True),
                "upside-down": partial(_measured, towards_the_end=True),
            },
            tolerance=1e-3,
        ),
    ],
    seconds=60,
    loads=("numpy.random", "torch.utils._device", "reslab.data.digits", "reslab.networks.zoo"),
)
