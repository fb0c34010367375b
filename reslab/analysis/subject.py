"""What every analysis takes: a network, images, and mostly labels; how they are checked, and left as they were."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reslab.errors import MismatchError, UnseenError, WrongValueError, told
from reslab.gates.inputs import tensors_of
from reslab.gates.view import View, unwrapped, view
from reslab.state import preserve

P = ParamSpec("P")
R = TypeVar("R")

Loss = Callable[[Any, Tensor], Tensor]
"""From outputs, logits `[B, classes]` for most, and labels `[B]` to a number; the mean cross-entropy where nothing else
is said.
"""


def analysis(
    name: str,
    says: str,
    *,
    images: int | None = None,
    trained: bool = False,
    summary: tuple[str, ...] = (),
    alias: str | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function an analysis of `reslab analyze`, and careful of its network; `reslab.analysis.Analysis` says what
    the arguments are.
    """
    return careful


def careful(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function of a network (and images and labels) leave it as it was, and say in one line what it cannot do
    with it.
    """
    signature = inspect.signature(function)
    if "network" not in signature.parameters:
        return function

    @wraps(function)
    def leaving(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)  # what does not fit the function is a TypeError, as of any function
        network = given.arguments["network"]
        network = given.arguments["network"] = network if isinstance(network, View) else unwrapped(network)
        for name in ("images", "labels"):
            if name in given.arguments:
                given.arguments[name] = _detached(name, given.arguments[name])
        what = f"{function.__name__.replace('_', ' ')} cannot be computed for this {type(network).__name__}"
        with told(what), preserve(network.network if isinstance(network, View) else network):
            return function(*given.args, **given.kwargs)

    return leaving


def _detached(name: str, values: Any) -> Tensor:
    """Return images or labels without the graph that they may come from.

    Raises:
        UserError: if they are no tensor, none, or not finite.
    """
    if not isinstance(values, Tensor):
        raise WrongValueError(
            f"{name} must be a tensor [B, …], got {type(values).__name__}; of a loader's batches, torch.cat makes one"
        )
    if not values.dim() or not len(values):
        raise WrongValueError(f"{name} must be a tensor [B, …] of one or more, got {list(values.shape)}")
    if not values.isfinite().all():
        raise WrongValueError(f"{name} hold NaN or infinity; finite numbers were expected")
    return values.detach()


def as_view(network: nn.Module, images: Tensor) -> View:
    """Return the network's view, or the view itself if it is one.

    Raises:
        UserError: if what the network holds is not sound, it has no blocks, or it does not take the images.
    """
    if isinstance(network, View):
        as_network(network, images)
        return network
    check_weights(network)
    return view(network, images[:2])


def as_network(network: nn.Module, images: Tensor) -> nn.Module:
    """Return the network, out of its view if it is one, for an analysis that needs no blocks.

    Raises:
        UserError: if what the network holds is not sound, or it does not take the images.
    """
    check_weights(network)
    network = network.network if isinstance(network, View) else network
    with (
        told(f"the network does not take images {list(images.shape)}", MismatchError),
        evaluating(network),
        torch.no_grad(),
    ):
        network(images[:2])
    return network


@torch.no_grad()
def check_weights(network: nn.Module) -> None:
    """Refuse a network whose numbers cannot be a trained or a fresh one's.

    Raises:
        UserError: if it has none, being on the meta device, or a parameter, a BatchNorm's statistics or a buffer hold
            what no network computes with.
    """
    for name, parameter in network.named_parameters():
        if parameter.is_meta:
            raise UnseenError(f"parameter {name} is on the meta device, where there are shapes and no numbers")
        if not parameter.isfinite().all():
            raise UnseenError(f"parameter {name} holds NaN or infinity; an analysis of it would mean nothing")
    for name, buffer in network.named_buffers():
        if buffer.isnan().any():
            raise UnseenError(f"buffer {name} holds NaN; an analysis of it would mean nothing")
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and not _sound(module):
            raise UnseenError(
                f"BatchNorm {name} has statistics that no images give: infinite ones, or a variance below 0"
            )


def _sound(batchnorm: _BatchNorm) -> bool:
    mean, variance = batchnorm.running_mean, batchnorm.running_var
    return (
        mean is None
        or variance is None
        or bool(mean.isfinite().all() and variance.isfinite().all() and (variance >= 0).all())
    )


def agree(answers: Any, others: Any, tolerance: float) -> bool:
    """Say whether two outputs of a network are one but for rounding: tensor by tensor, by the norm of the difference
    over the norm.
    """
    pairs = zip(tensors_of(answers), tensors_of(others), strict=True)
    return all(one.shape == other.shape and _close(one.double(), other.double(), tolerance) for one, other in pairs)


def _close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    known = one.isfinite()
    same = torch.equal(known, other.isfinite())
    return same and bool((one[known] - other[known]).norm() <= tolerance * other[known].norm())


ROUNDING = 1e-4
"""More than a network's answers differ for having been computed in another order in float32."""


def check_repeatable(network: nn.Module, images: Tensor) -> None:
    """Refuse a network that answers otherwise when it is asked again: what changes it could not be told from chance.

    Raises:
        UserError: if it does, in its current mode.
    """
    with torch.no_grad():
        if not agree(network(images[:32]), network(images[:32]), ROUNDING):
            raise UnseenError(
                "the network gives other answers when it is asked again (dropout that is always on?), so that "
                "effects cannot be told from chance"
            )


def answers_alone(network: nn.Module, images: Tensor) -> bool:
    """Say whether an image's answer, in the network's current mode, is the same whatever else is in its batch."""
    with torch.no_grad():
        alone, beside = (
            tensors_of(network(batch)) for batch in (images[:1], torch.cat([images[:1], torch.zeros_like(images[:1])]))
        )
    tolerance = max(
        (torch.finfo(answer.dtype).eps ** 0.5 for answer in alone if answer.is_floating_point()), default=0.0
    )
    return agree(alone, [answer[:1] if answer.dim() else answer for answer in beside], max(tolerance, ROUNDING))


@contextmanager
def evaluating(network: nn.Module, statistics_of: Tensor | None = None) -> Iterator[None]:
    """Put the network in evaluation mode for a while.

    With `statistics_of`, BatchNorms normalise with the mean and the biased variance over these images, as in training,
    but as constants.
    """
    network = network.network if isinstance(network, View) else network
    with preserve(network):
        network.eval()
        if statistics_of is not None:
            handles = [module.register_forward_pre_hook(_take_statistics) for module in batchnorms(network)]
            try:
                with torch.no_grad():
                    network(statistics_of)
            finally:
                for handle in handles:
                    handle.remove()
        yield


def batchnorms(network: nn.Module) -> list[_BatchNorm]:
    """Return the network's BatchNorms, of any number of dimensions."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def _take_statistics(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert isinstance(module, _BatchNorm)
    if module.running_mean is not None and module.running_var is not None:
        x = inputs[0].transpose(0, 1).flatten(1)  # [C, B·H·W]
        module.running_mean.copy_(x.mean(1))
        module.running_var.copy_(x.var(1, correction=0))


def loss_value(loss: Loss, outputs: Any, labels: Tensor) -> Tensor:
    """Return the loss.

    Raises:
        UserError: if it is the cross-entropy and the outputs are no logits for the labels, or one's own that gives no
            number.
    """
    if loss is F.cross_entropy:
        check_logits(outputs, labels)
    value = loss(outputs, labels)
    if not isinstance(value, Tensor) or value.numel() != 1:
        given = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise WrongValueError(f"a loss of outputs and labels gives one number as a tensor; this one gave {given}")
    return value.reshape(())


def check_logits(logits: Any, labels: Tensor) -> None:
    """Refuse outputs that say nothing of the labels' classes.

    Raises:
        UserError: if they are not logits `[B, classes]`, or a label is of no class.
    """
    if not isinstance(logits, Tensor):
        raise UnseenError(f"the network gives a {type(logits).__name__}; this needs one that gives logits [B, classes]")
    lowest, highest = int(labels.min()), int(labels.max())
    if logits.dim() != 2 or len(logits) != len(labels) or lowest < 0 or highest >= logits.shape[1]:
        raise MismatchError(
            f"labels from {lowest} to {highest} need outputs [B, {highest + 1} or more], the network gives "
            f"{list(logits.shape)}"
        )


def check_batch(images: Tensor, labels: Tensor, loss: Loss = F.cross_entropy) -> None:
    """Refuse labels that do not belong to the images; with a loss of one's own they may be anything, one an image.

    Raises:
        UserError: if the labels are not `[B, …]` for images `[B, …]`, or not whole numbers `[B]` where classes are
            meant.
    """
    if loss is F.cross_entropy and (labels.dtype != torch.int64 or labels.shape != images.shape[:1]):
        raise MismatchError(
            f"labels must be int64 of shape [{len(images)}], one an image, got {labels.dtype} {list(labels.shape)}"
        )
    if len(labels) != len(images):
        raise MismatchError(f"labels must be one an image, for {len(images)} images, got {list(labels.shape)}")
