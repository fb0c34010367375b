"""Task 2.5: delete blocks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

import reslab
from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, listed, normal, whole
from reslab.exercises.likeness import OfAnotherKind
from reslab.residual import preserve


# the solution
def removal_errors(network: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Return the error in evaluation mode without each block in turn, and leave the network as it was."""
    with preserve(network), torch.no_grad():
        gated = reslab.view(network.eval(), images)
        return [
            float((gated(images, gates).argmax(1) != labels).double().mean()) for gates in 1 - torch.eye(len(gated))
        ]


def removal_curve(network: nn.Module, images: Tensor, labels: Tensor, order: Sequence[int]) -> list[float]:
    """Return the error without the first k blocks of the order, for k = 0, 1, … to all of them."""
    with preserve(network), torch.no_grad():
        gated = reslab.view(network.eval(), images)
        errors = []
        for k in range(len(order) + 1):
            gates = torch.ones(len(gated))
            gates[list(order[:k])] = 0
            errors.append(float((gated(images, gates).argmax(1) != labels).double().mean()))
        return errors


# how it is judged


def networks(generator: Generator) -> Cases:
    """Yield networks, one of them in evaluation mode, with images and labels."""
    for family, training in (("cifar_resnet", True), ("cifar_plain", False)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(10_000, (), generator=generator)))
            network = reslab.build(family, depth=8, num_classes=10, in_channels=1).double()
        images = normal(generator, 32, 1, 6, 6)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1  # one batch gives it the running statistics of a trained network
        with torch.no_grad():
            network.train()(images)
            logits = network.eval()(images)
            # so that every class is among its answers, which are the labels
            network.get_parameter("fc.bias").sub_(logits.mean(0))
        labels = (logits - logits.mean(0)).argmax(1)
        labels[:4] = (labels[:4] + 1) % 10
        yield network.train(training), images, labels


def _ordered(generator: Generator) -> Cases:
    for case in networks(generator):
        yield *case, ([1, 0, 2], [2, 0], [1, 2, 0])[whole(generator, 0, 2)]


def _seen(answer: Callable[..., Any], network: nn.Module, *rest: Any) -> dict[str, Any] | OfAnotherKind:
    training = network.training
    errors = listed(answer(network, *rest), "float")
    if isinstance(errors, OfAnotherKind):
        return errors
    return {"errors": errors, "mode kept": network.training == training}


def _with_gates(gates: Callable[[int], Tensor], *, evaluate: bool = True) -> Callable[..., list[float]]:
    def errors(network: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
        with preserve(network), torch.no_grad():
            gated = reslab.view(network.eval() if evaluate else network, images)
            return [float((gated(images, each).argmax(1) != labels).double().mean()) for each in gates(len(gated))]

    return errors


def _mode_lost(answer: Callable[..., list[float]]) -> Callable[..., list[float]]:
    def lost(network: nn.Module, *rest: Any) -> list[float]:
        return answer(network.eval(), *rest)

    return lost


def _whole(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return removal_curve(network, images, labels, [])[0]


def _rows(order: Sequence[int], *, together: bool = True) -> Callable[[int], Tensor]:
    """Gates `[len(order) + 1, n]`: the blocks of the order removed together, or one at a time."""

    def rows(n: int) -> Tensor:
        gates = torch.ones(len(order) + 1, n)
        for k, index in enumerate(order, start=1):
            gates[k : None if together else k + 1, index] = 0
        return gates

    return rows


def _curve(
    change: Callable[[Tensor], Tensor] = lambda gates: gates, *, together: bool = True, evaluate: bool = True
) -> Callable[..., list[float]]:
    def curve(network: nn.Module, images: Tensor, labels: Tensor, order: Sequence[int]) -> list[float]:
        gates = _rows(order, together=together)
        return _with_gates(lambda n: change(gates(n)), evaluate=evaluate)(network, images, labels)

    return curve


def _backwards(network: nn.Module, images: Tensor, labels: Tensor, order: Sequence[int]) -> list[float]:
    return removal_curve(network, images, labels, order[::-1])


def _accuracies(answer: Callable[..., list[float]]) -> Callable[..., list[float]]:
    return lambda *arguments: [1 - error for error in answer(*arguments)]


def _in_order(network: nn.Module, images: Tensor, labels: Tensor, order: Sequence[int]) -> list[float]:
    return removal_curve(network, images, labels, range(len(order)))


TASK = Task(
    "2.5",
    [
        Part(
            removal_errors,
            points=7,
            cases=networks,
            mistakes={
                "only-that-block": _with_gates(torch.eye),
                "cumulative": _with_gates(lambda n: torch.ones(n, n).triu(1)),
                "training-mode": _with_gates(lambda n: 1 - torch.eye(n), evaluate=False),
                "accuracy": _accuracies(removal_errors),
                "increase-over-the-whole": lambda *case: [error - _whole(*case) for error in removal_errors(*case)],
                "mode-left-changed": _mode_lost(removal_errors),
            },
            observe=_seen,
        ),
        Part(
            removal_curve,
            points=5,
            cases=_ordered,
            mistakes={
                "whole-network-missing": lambda *case: removal_curve(*case)[1:],
                "one-at-a-time": _curve(together=False),
                "only-those-blocks": _curve(lambda gates: 1 - gates),
                "from-the-end-of-the-order": _backwards,
                "order-ignored": _in_order,
                "training-mode": _curve(evaluate=False),
                "accuracy": _accuracies(removal_curve),
            },
            observe=_seen,
        ),
    ],
    loads=(
        "reslab.networks.zoo",
        "reslab.gates.parts",
    ),
)
