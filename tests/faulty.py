"""Networks in which something goes wrong, for `--model faulty:NAME`."""

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """A linear classifier of 8×8 images: no depth to speak of, and quick."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.fc = nn.Linear(64 * in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class Greedy(Linear):
    """Asks for more memory than there is, once it learns."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > 2:
            torch.empty(2**50)
        return super().forward(x)


class Lost(Linear):
    """Answers NaN."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float("nan")
