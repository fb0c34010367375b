"""Task 1.3: BatchNorm from tensors."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, normal


# the solution
def batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return BatchNorm of x `[B, C, H, W]`, and the new running mean and variance `[C]`."""
    mean, var = running_mean, running_var
    if training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        n = x.numel() // x.shape[1]
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var * n / (n - 1)
    normalised = (x - mean[:, None, None]) / torch.sqrt(var + eps)[:, None, None]
    return weight[:, None, None] * normalised + bias[:, None, None], running_mean, running_var


# how it is judged


def _batches(generator: Generator) -> Cases:
    for training in (True, False, True):
        x = 2 * normal(generator, 3, 2, 2, 3) + 1
        vectors = [normal(generator, 2) for _ in range(3)]
        yield (x, *vectors, normal(generator, 2).square() + 0.5, training, 0.3, 0.1)


def _batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    tracked: int = 1,
    used: int = 0,
    running_in_training: bool = False,
    batch_in_evaluation: bool = False,
    swapped: bool = False,
    eps_outside: bool = False,
    over: tuple[int, ...] = (0, 2, 3),
    affine: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """BatchNorm with a way to go wrong for every option."""
    mean, var = x.mean(over, keepdim=True), x.var(over, correction=used, keepdim=True)
    old_mean, old_var = running_mean[:, None, None], running_var[:, None, None]
    if (training and running_in_training) or (not training and not batch_in_evaluation):
        mean, var = old_mean, old_var
    deviation = var.sqrt() + eps if eps_outside else (var + eps).sqrt()
    y = (x - mean) / deviation
    y = weight[:, None, None] * y + bias[:, None, None] if affine else y
    if training:
        share = 1 - momentum if swapped else momentum
        running_mean = (1 - share) * running_mean + share * x.mean((0, 2, 3))
        running_var = (1 - share) * running_var + share * x.var((0, 2, 3), correction=tracked)
    return y, running_mean, running_var


class _Watch(TorchFunctionMode):
    """Notes whether PyTorch's own BatchNorm, or a relation of it, is at work."""

    used = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.used |= func.__name__.endswith(("batch_norm", "instance_norm", "group_norm", "layer_norm"))
        return func(*args, **(kwargs or {}))


def _by_hand(answer: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    with _Watch() as watch:
        values = answer(*arguments)
    return {"values": values, "PyTorch's own": watch.used}


def _items(seen: dict[str, Any]) -> tuple[Any, ...]:
    """Return what was normalised and the new statistics; nothing of an answer that is PyTorch's."""
    return () if seen["PyTorch's own"] or len(seen["values"]) != 3 else tuple(seen["values"])


def _torchs_own(
    x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, training: bool, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    mean, var = mean.clone(), var.clone()
    return F.batch_norm(x, mean, var, weight, bias, training, momentum, eps), mean, var


TASK = Task(
    "1.3",
    [
        Part(
            batch_norm,
            points=12,
            cases=_batches,
            mistakes={
                "biased-variance-tracked": partial(_batch_norm, tracked=0),
                "unbiased-variance-used": partial(_batch_norm, used=1),
                "running-statistics-in-training": partial(_batch_norm, running_in_training=True),
                "batch-statistics-in-evaluation": partial(_batch_norm, batch_in_evaluation=True),
                "momentum-swapped": partial(_batch_norm, swapped=True),
                "eps-outside": partial(_batch_norm, eps_outside=True),
                "per-position": partial(_batch_norm, over=(0,)),
                "per-image": partial(_batch_norm, over=(2, 3)),
                "without-weights": partial(_batch_norm, affine=False),
                "torchs-own": _torchs_own,
            },
            observe=_by_hand,
            shares=(6, 3, 3),
            items=_items,
        )
    ],
)
