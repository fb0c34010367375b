"""The backward pass of one block: by autograd, and by a formula whose parts are computed without it.

W_s, J_a and the mask are written down from the block's weights and signs, and J_F is differentiated forwards.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reslab.analysis.jacobian import along
from reslab.networks import zoo
from reslab.state import draws_apart

BLOCKS: dict[str, tuple[str, str, str]] = {
    "v2, identity": ("cifar_preresnet", "A", "layer1.1"),
    "v1, identity": ("cifar_resnet", "A", "layer1.1"),
    "v1, option A": ("cifar_resnet", "A", "layer2.0"),
    "v1, option B": ("cifar_resnet", "B", "layer2.0"),
    "v2, option A": ("cifar_preresnet", "A", "layer2.0"),
    "v2, option B": ("cifar_preresnet", "B", "layer2.0"),
}
"""A family, its shortcut option, and one of its blocks."""


class Backward:
    """One block in float64, with random BatchNorm parameters, at one input `[16, 4, 4]`, as after a ReLU.

    `gradient` `[256]` is autograd's of the loss ⟨delta, y⟩.
    """

    def __init__(self, kind: str) -> None:
        family, self.option, name = BLOCKS[kind]
        with draws_apart():
            torch.manual_seed(0)
            self.block: Any = zoo.build(family, depth=14, shortcut=self.option).get_submodule(name).double().eval()
            for norm in (module for module in self.block.modules() if isinstance(module, nn.BatchNorm2d)):
                _draw(norm)
            self.x = torch.randn(16, 4, 4, dtype=torch.float64).relu().flatten()
            self.y = self(self.x)
            self.delta = torch.randn_like(self.y)
        self.v2 = family == "cifar_preresnet"
        x = self.x.clone().requires_grad_()
        (self.gradient,) = torch.autograd.grad(self(x), x, self.delta)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the block's output for a flat input, flat."""
        made: Tensor = self.block(_images(x))
        return made.flatten()

    def branch(self, x: Tensor) -> Tensor:
        """Return F of flat inputs, one after another."""
        block, images = self.block, _images(x)
        made: Tensor = block.weights(block.relu1(block.bn1(images))) if self.v2 else block.branch(images)
        return made.flatten()

    @property
    def branch_jacobian(self) -> Tensor:
        """Return J_F, a column per direction, each the derivative for one image of a batch of equal ones."""
        n = len(self.x)
        return along(self.branch, self.x.repeat(n), torch.eye(n).double().flatten()).reshape(n, -1).T

    @property
    def shortcut(self) -> Tensor:
        """Return W_s as a matrix, its projection's BatchNorm in it: I for an identity."""
        layer = self.block.downsample
        if isinstance(layer, nn.Identity):
            return torch.eye(len(self.x)).double()
        if self.option == "A":
            channels = torch.eye(32, 16).double()
        elif isinstance(layer, nn.Conv2d):
            channels = layer.weight[:, :, 0, 0]
        else:
            channels = scale(layer[1])[:, None] * layer[0].weight[:, :, 0, 0]
        every_second = torch.eye(4)[::2].double()
        return torch.einsum("oc,hi,wj->ohwcij", channels, every_second, every_second).reshape(-1, len(self.x)).detach()

    @property
    def activation(self) -> Tensor:
        """Return J_a as a matrix, of the activation that a shortcut of v2 shares where the shape changes; else I."""
        if not getattr(self.block, "shares_activation", False):
            return torch.eye(len(self.x)).double()
        lets_through = (self.block.bn1(_images(self.x)) > 0).double() * scale(self.block.bn1)[:, None, None]
        return torch.diag(lets_through.flatten()).detach()

    @property
    def errors(self) -> "Errors":
        """Return the relative error of each formula against autograd."""
        branch = self.branch_jacobian
        masked = self.delta if self.v2 else (self.y > 0) * self.delta

        def error(shortcut: Tensor, delta: Tensor) -> float:
            return float(((shortcut + branch).T @ delta - self.gradient).norm() / self.gradient.norm())

        fits = self.delta.shape == self.x.shape
        return Errors(
            error(torch.eye(len(self.x)).double(), self.delta) if fits else None,
            error(self.shortcut, masked),
            error(self.shortcut @ self.activation, masked),
        )


class Errors(NamedTuple):
    """Relative errors of three formulas: with I, where the shapes fit; with W_s and the mask m; with W_s J_a."""

    chapter: float | None
    bare: float
    full: float


def rounding(relative_error: float | None) -> bool:
    """Return whether an error in float64 is rounding."""
    return relative_error is not None and relative_error < 1e-12


def scale(norm: nn.BatchNorm2d) -> Tensor:
    """Return a BatchNorm's factor for each channel in evaluation mode."""
    assert norm.running_var is not None
    return norm.weight / (norm.running_var + norm.eps).sqrt()


def _images(x: Tensor) -> Tensor:
    return x.reshape(-1, 16, 4, 4)


def _draw(norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    nn.init.uniform_(norm.weight, 0.5, 2)
    for numbers in (norm.bias, norm.running_mean):
        nn.init.normal_(numbers)
    nn.init.uniform_(norm.running_var, 0.5, 2)
