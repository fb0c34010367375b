"""Task 1.10: a network of one's own choice, dissected."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

import reslab
from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, after_the_first, normal
from reslab.exercises.likeness import OfAnotherKind
from reslab.residual import preserve


# the solution
def my_network() -> tuple[nn.Module, Tensor]:
    """Return a network with residual blocks, and a batch of images that it takes."""
    return reslab.build("cifar_preresnet", depth=20, num_classes=10, in_channels=1), torch.randn(4, 1, 8, 8)


def branch_shares(network: nn.Module, images: Tensor) -> dict[str, float]:
    """Return for each block, by name, the mean over the images of the branch's norm over the shortcut's, in evaluation
    mode.
    """
    shares = {}
    with preserve(network), torch.no_grad():
        for name, block in reslab.view(network.eval(), images).run(images).items():
            branch, shortcut = (signal.flatten(1).norm(dim=1) for signal in (block.branch, block.shortcut))
            shares[name] = float((branch / shortcut).mean())
    return shares


# how it is judged


def _norms(signal: Tensor) -> Tensor:
    return signal.flatten(1).norm(dim=1)


FEWEST = 3
"""Blocks that a network is worth dissecting with."""


def _once(generator: Generator) -> Cases:
    yield ()


def _dissected(answer: Callable[[], Any]) -> str:
    """Any network is worth its points: what counts is that its blocks are seen."""
    chosen = answer()
    if not (isinstance(chosen, tuple | list) and len(chosen) == 2):
        return "not two"
    network, images = chosen
    if not isinstance(network, nn.Module):
        return "no network"
    if isinstance(images, Tensor) and images.shape[:1].numel() < 2:
        return "one image"
    dtypes = {each.dtype for each in network.parameters() if each.is_floating_point()}
    if isinstance(images, Tensor) and images.is_floating_point() and dtypes and images.dtype not in dtypes:
        return "images of another dtype"
    branch_shares(network, images)  # which raises what hinders it
    residual = [block for block in reslab.view(network, images).blocks if block.kind == "add"]  # and no plain units
    return "a network and its images" if len(residual) >= FEWEST else "too few blocks"


def _networks(generator: Generator) -> Cases:
    for family, training in (("cifar_resnet", True), ("cifar_preresnet", False)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(10_000, (), generator=generator)))
            network = reslab.build(family, depth=8, num_classes=10, in_channels=1).double()
        images = normal(generator, 6, 1, 6, 6) * torch.arange(1, 7)[:, None, None, None]
        yield network.train(training), images


def _shares(
    network: nn.Module,
    images: Tensor,
    *,
    power: int = 1,
    of_the_sum: bool = False,
    together: bool = False,
    evaluate: bool = True,
    root: bool = True,
    mode_left: bool | None = None,
) -> dict[str, float]:
    """The shares with a way to go wrong for every option."""
    with preserve(network), torch.no_grad():
        stream = reslab.view(network.eval() if evaluate else network, images).run(images)
        found = {}
        for name, block in stream.items():
            below = block.sum if of_the_sum else block.shortcut
            norm = torch.Tensor.norm if together else _norms
            found[name] = float(((norm(block.branch) / norm(below)) ** (power if root else 2 * power)).mean())
    if mode_left is not None:
        network.train(mode_left)
    return found


def _measured(answer: Callable[..., Any], network: nn.Module, images: Tensor) -> dict[str, Any] | OfAnotherKind:
    training = network.training
    shares = answer(network, images)
    if not isinstance(shares, dict):
        return OfAnotherKind("dict[str, float]", shares)
    return {"values": shares, "mode kept": network.training == training}


TASK = Task(
    "1.10",
    [
        Part(
            my_network,
            points=3,
            cases=_once,
            mistakes={
                "network-alone": lambda: my_network()[0],
                "class-not-a-network": lambda: (nn.Linear, my_network()[1]),
                "one-image": lambda: (my_network()[0], my_network()[1][:1]),
                "another-dtype": lambda: (my_network()[0], my_network()[1].double()),
                "too-few-blocks": lambda: (reslab.build("cifar_resnet", depth=20).layer1[:2], torch.randn(2, 16, 8, 8)),  # type: ignore[index]  # a Sequential
            },
            observe=_dissected,
        ),
        Part(
            branch_shares,
            points=7,
            cases=_networks,
            mistakes={
                "upside-down": partial(_shares, power=-1),
                "of-the-sum": partial(_shares, of_the_sum=True),
                "whole-batch": partial(_shares, together=True),
                "training-mode": partial(_shares, evaluate=False),
                "squared": partial(_shares, root=False),
                "left-evaluating": partial(_shares, mode_left=False),
                "left-training": partial(_shares, mode_left=True),
            },
            observe=_measured,
            shares=(5, 2),  # the shares, the mode kept
            items=after_the_first,
        ),
    ],
    loads=(
        "reslab.networks.zoo",
        "reslab.gates.parts",
    ),
)
