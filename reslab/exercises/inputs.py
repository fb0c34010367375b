"""Helpers that tasks use to draw inputs and to observe answers."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from reslab.exercises.likeness import OfAnotherKind

Function = Callable[[Tensor], Tensor]
Cases = Iterator[tuple[Any, ...]]


def normal(generator: Generator, *shape: int) -> Tensor:
    """Return float64 numbers from a standard normal distribution."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def whole(generator: Generator, low: int, high: int) -> int:
    """Return a whole number from low to high, both possible."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def curved(generator: Generator, inputs: int, outputs: int) -> Function:
    """Return a smooth function with curvature, so that a coarse step shows how a derivative was taken."""
    inner, outer = normal(generator, 5, inputs), normal(generator, outputs, 5)
    return lambda x: outer @ torch.sin(inner @ x) + (outer**2) @ (inner @ x) ** 3 / 10


def normalise(x: Tensor) -> Tensor:
    """Return `[B, C, H, W]` with mean 0 and variance 1 in every channel: BatchNorm in training, without weights."""
    return (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()


def with_gradient(function: Callable[..., Any], x: Tensor, *rest: Any) -> dict[str, Any] | OfAnotherKind:
    """Return what the function gives, the gradient at x of a fixed weighted sum of it, and whether x was left as it
    was; or what it gives, if it is not a tensor.
    """
    leaf = x.clone().requires_grad_()
    seen = leaf.clone()
    y = function(seen, *rest)
    if not isinstance(y, Tensor):
        return OfAnotherKind("torch.Tensor", y)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).sin().reshape(y.shape)
    (gradient,) = torch.autograd.grad((y * weights).sum(), leaf, allow_unused=True)
    return {"output": y.detach(), "gradient": gradient, "input kept": torch.equal(seen, leaf)}


def listed(came: Any, of: str) -> list[Any] | OfAnotherKind:
    """Return what an answer gives as a list, or as it is if it is none."""
    try:
        items = None if isinstance(came, str) else iter(came)
    except TypeError:
        items = None
    return OfAnotherKind(f"list of {of}", came) if items is None else list(items)


def after_the_first(seen: Mapping[str, Any]) -> list[Any]:
    """Return the items of an observation, each but the first paired with the first, as they count only together with
    it.
    """
    first, *others = seen.values()
    return [first, *((first, other) for other in others)]
