"""Muon: momentum whose every step is made orthogonal (Jordan et al. 2024, kellerjordan.github.io/posts/muon)."""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan's coefficients of x → a·x + b·x³ + c·x⁵, which rises from 0 as steeply as possible and ends near 1, not
exactly at 1.
"""

TINY = 1e-7


class Muon(torch.optim.Optimizer):
    """Nesterov's momentum, orthogonalised, for the weights of convolutions, `[out, in, h, w]`, each seen as a matrix
    `[out, in·h·w]`.

    Every step first gives each weight the Frobenius norm √out, so that `lr` is how far a step turns it, whatever its
    size; this also replaces weight decay. It suits layers followed by a normalisation, whose size does not matter.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is called
        """Take one step with the current gradients."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if "velocity" not in self.state[weight]:
                    self.state[weight]["velocity"] = torch.zeros_like(weight)
                velocity = self.state[weight]["velocity"]
                velocity.mul_(group["momentum"]).add_(weight.grad)
                ahead = weight.grad + group["momentum"] * velocity
                filters = len(weight)
                weight.mul_(math.sqrt(filters) / weight.norm().clamp(min=TINY))
                weight.sub_(orthogonalised(ahead.flatten(1)).view_as(weight), alpha=group["lr"])


def orthogonalised(matrix: Float[Tensor, "m n"], iterations: int = 3) -> Float[Tensor, "m n"]:
    """Return the matrix with its singular vectors unchanged and its singular values near 1, by a Newton-Schulz
    iteration.

    "Near" is from about a half to one and a half after five iterations. Three, with which the CIFAR-10 record does (K.
    Jordan, cifar10-airbench, airbench94_muon.py), leave the smallest ones smaller. A matrix of zeros stays one.
    """
    a, b, c = QUINTIC
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    x = wide / wide.norm().clamp(min=TINY)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide is matrix else x.T
