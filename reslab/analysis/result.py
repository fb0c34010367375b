"""What every analysis returns, and what every analysis takes."""

import io
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from reslab.errors import UserError
from reslab.residual import View, view

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits `[B, classes]` and labels `[B]` to a number; the mean cross-entropy where nothing else is said."""


class Result:
    """A measurement that shows itself: as a table, as a figure, and in a notebook as both."""

    @abstractmethod
    def to_frame(self) -> "pd.DataFrame":
        """Return the measurement as a table, a row for each thing measured."""

    @abstractmethod
    def figure(self) -> "Figure":
        """Return the measurement as a figure."""

    def _repr_html_(self) -> str:
        picture = io.StringIO()
        self.figure().savefig(picture, format="svg")
        return f"{self.to_frame().to_html()}{picture.getvalue()[picture.getvalue().index('<svg') :]}"


def new_figure(width: float = 7.0, height: float = 3.5) -> "Figure":
    """Return an empty figure that no global list of figures knows of; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def as_view(network: nn.Module, images: Tensor) -> View:
    """Return the network's view, or the view itself if it is one.

    Raises:
        UserError: if the network has NaN weights, has no blocks, or does not take the images.
    """
    for name, value in network.named_parameters():
        if not value.isfinite().all():
            raise UserError(f"parameter {name} holds NaN or infinity; an analysis of it would mean nothing")
    if isinstance(network, View):
        return network
    return view(network, images[:2])


def check_batch(images: Tensor, labels: Tensor) -> None:
    """Refuse labels that do not belong to the images.

    Raises:
        UserError: if the labels are not whole numbers `[B]` for images `[B, …]`.
    """
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1] or not len(images):
        raise UserError(f"labels must be int64 of shape [{len(images)}], one an image, got {labels.dtype} {list(labels.shape)}")
