"""Small networks whose blocks are known."""

import torch
from torch import Tensor, nn


class Toy(nn.Module):
    """A block with any branch and shortcut."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.shortcut, self.after = branch, shortcut or nn.Identity(), after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.shortcut(x) + self.branch(x))  # type: ignore[no-any-return]  # modules return Any


def linear(width: int = 3) -> nn.Linear:
    return nn.Linear(width, width, bias=False, dtype=torch.float64)


def toy_network(blocks: int) -> nn.Sequential:
    """Return tanh branches on alternating shortcuts: identity, and a linear map shorter than the branch."""
    made = [
        Toy(nn.Sequential(linear(), nn.Tanh(), linear()), linear() if index % 2 else None) for index in range(blocks)
    ]
    return nn.Sequential(*made)
