"""What each block contributes, alone and with others: its Shapley value (Shapley 1953), by random permutations (Castro
et al. 2009).

The players are the blocks, and the worth of a set of blocks is minus the loss of the network in which all other
branches are zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reslab.analysis.inference import Precision
from reslab.analysis.result import Result, new_figure, per_block
from reslab.analysis.subject import Images, Labels, Loss, analysis, as_view
from reslab.analysis.sweeping import batches, in_other_memory, loss_at, prepared
from reslab.errors import WrongValueError, worded
from reslab.gates.gating import Block
from reslab.gates.planning import Live
from reslab.gates.view import View
from reslab.progress import Progress, silent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class ShapleyValues(Result):
    """By how much each block lowers the loss, averaged over the orders in which blocks can be added. The values add up
    to the effect of all blocks.
    """

    blocks: Sequence[Block]
    values: Float[Tensor, "n"]
    standard_error: Float[Tensor, "n"]  # over the permutations; NaN of one
    none: float  # the loss without any block
    whole: float  # the loss of the network

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per block."""
        columns = {"shapley": self.values.tolist(), "standard error": self.standard_error.tolist()}
        return per_block(self.blocks, columns)

    def figure(self) -> "Figure":
        """Plot the values as bars, with two standard errors."""
        figure = new_figure()
        axes = figure.subplots()
        names = [block.name for block in self.blocks]
        axes.bar(names, self.values.tolist(), yerr=(2 * self.standard_error.nan_to_num()).tolist())
        axes.axhline(0, color="grey", linewidth=1)
        axes.set(xlabel="block (bars: two standard errors)", ylabel="Shapley value of the loss (cross-entropy: nats)")
        best = names[int(self.values.argmax())]
        axes.set_title(f"{best} gives most; together they take the loss from {self.none:.2g} to {self.whole:.2g}")
        axes.tick_params(axis="x", rotation=90, labelsize=6)
        return figure


@analysis(
    "shapley",
    "each block's average contribution",
    needs=("blocks",),
    images=250,
    trained=True,
    summary=("none", "whole"),
)
def shapley(
    network: nn.Module,
    images: Images,
    labels: Labels,
    *,
    permutations: int = 16,
    loss: Loss = F.cross_entropy,
    precision: Precision = "32",
    seed: int = 0,
    progress: Progress = silent,
) -> ShapleyValues:
    """Return every block's Shapley value of the loss, in evaluation mode.

    Blocks are added in a random order, and each run starts at the added block: about n²/2 block evaluations per
    permutation of n blocks, and memory for the live values at n places.

    Args:
        network: any network with blocks, or its view; measured in evaluation mode.
        images: `[B, …]`, run in batches, or as one where an answer depends on the others in its batch.
        labels: int64 `[B]`, or whatever the loss takes.
        permutations: orders of the blocks that are drawn.
        loss: of outputs and labels, a mean over the images; the mean cross-entropy.
        precision: "32" or "bf16", in which it computes.
        seed: of the orders.
        progress: notified of the images done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.shapley(network, images, labels, permutations=2)
        >>> bool(abs(found.values.sum() - (found.none - found.whole)) < 1e-3)  # they add up to what all blocks do
        True

    Raises:
        UserError: if the network has no blocks or draws random numbers, images, labels and outputs do not fit, or there
            is no permutation.
    """
    if permutations < 1:
        raise WrongValueError(*worded("below-one", what="permutations", given=permutations))
    view = as_view(network, images)
    n = len(view)
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(n, generator=generator, device="cpu").tolist() for _ in range(permutations)]
    gains, ends = (
        torch.zeros(permutations, n, dtype=torch.float64, device="cpu"),
        torch.zeros(2, dtype=torch.float64, device="cpu"),
    )
    with torch.inference_mode():
        fast, batch = prepared(view, images, labels, precision, loss)
        for done, x, y in batches(images, labels, batch):
            for place, order in enumerate(orders):
                losses = torch.tensor(_losses(fast, x, y, order, loss), dtype=torch.float64, device="cpu") * len(y)
                gains[place, order] -= losses.diff()
                ends += losses[[0, -1]] / permutations
                progress("shapley", (done - len(y)) * permutations + (place + 1) * len(y), len(labels) * permutations)
    gains, (none, whole) = gains / len(labels), (ends / len(labels)).tolist()
    error = gains.std(0) / permutations**0.5 if permutations > 1 else torch.full_like(gains[0], torch.nan)
    return ShapleyValues(view.blocks, gains.mean(0), error, none, whole)


def _losses(fast: View, x: Tensor, y: Tensor, order: Sequence[int], loss: Loss) -> list[float]:
    """Return the loss with no block, and after each added block."""
    n = len(fast)
    gates = torch.zeros(n, device=x.device)
    before: list[Live] = [fast.stem(x)] * n  # the live values before each block, in memory that is only read

    def value(start: int) -> float:
        live = before[start]
        for index in range(start, n):
            before[index] = live
            live = fast.block(index, in_other_memory(live), gates)
        return loss_at(loss, fast.head(live), y)

    losses = [value(0)]
    for came in order:
        gates[came] = 1
        losses.append(value(came))
    return losses
