"""How many blocks can go? The least important block is removed again and again, with a ranking made once, or anew after
each removal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reslab.analysis.inference import Precision
from reslab.analysis.result import Result, new_figure
from reslab.analysis.subject import Images, Labels, Loss, analysis, as_view
from reslab.analysis.sweeping import batches, in_other_memory, loss_at, prepared, to_the_end, wrong_answers
from reslab.errors import WrongValueError, worded
from reslab.gates.gating import Block
from reslab.gates.view import View
from reslab.progress import Progress, silent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Pruning(Result):
    """The order in which blocks are removed, with loss and error (a fraction; NaN with a custom loss) after 0, 1, 2, …
    of them.
    """

    blocks: Sequence[Block]
    greedy: Sequence[int]  # ranked anew after each removal
    once: Sequence[int]  # ranked once, in the whole network
    losses: Float[Tensor, "2 gone"]  # greedy and once
    errors: Float[Tensor, "2 gone"]

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per number of removed blocks."""
        import pandas as pd

        columns: dict[str, list[object]] = {}
        for place, (name, order) in enumerate({"greedy": self.greedy, "one-shot": self.once}.items()):
            columns[name] = ["", *(self.blocks[index].name for index in order)]
            columns[f"loss, {name}"] = self.losses[place].tolist()
            columns[f"error, {name}"] = self.errors[place].tolist()
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self.greedy) + 1, name="blocks gone"))

    def figure(self) -> "Figure":
        """Plot loss and error over the number of removed blocks."""
        figure = new_figure()
        last = [f"{value:.2g}" for value in self.losses[:, -1].tolist()]
        figure.suptitle(
            f"{len(self.greedy)} of {len(self.blocks)} blocks gone: the loss is {last[0]} ranked after each, {last[1]} "
            "ranked once"
        )
        for axes, values, label in zip(
            figure.subplots(1, 2), (self.losses, 100 * self.errors), ("loss", "error (%)"), strict=True
        ):
            for row, name in zip(values, ("ranked after each", "ranked once"), strict=True):
                axes.plot(row.tolist(), ".-", label=name)
            axes.set(xlabel="blocks gone", ylabel=label)
            axes.locator_params(axis="x", integer=True)
            axes.legend()
        return figure


@analysis("prune", "the least important blocks, one after another", needs=("blocks",), images=250, trained=True)
def prune(
    network: nn.Module,
    images: Images,
    labels: Labels,
    *,
    steps: int | None = None,
    loss: Loss = F.cross_entropy,
    precision: Precision = "32",
    progress: Progress = silent,
) -> Pruning:
    """Return the greedy order of removal, in which each step raises the loss least, and the order of a single ranking
    at the start.

    With n blocks, each step costs about n²/2 block evaluations, and memory for the live values at one place per batch.

    Args:
        network: any network with blocks, or its view; measured in evaluation mode.
        images: `[B, …]`, run in batches, or as one where an answer depends on the others in its batch.
        labels: int64 `[B]`, or whatever the loss takes.
        steps: how many blocks go; by default half of them.
        loss: of outputs and labels, a mean over the images; the mean cross-entropy.
        precision: "32" or "bf16", in which it computes.
        progress: notified of the images done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.prune(network, images, labels, steps=1)
        >>> found.greedy == found.once  # of one block; of more, each is ranked again after the one before
        True

    Raises:
        UserError: if the network has no blocks, or fewer than `steps`, or draws random numbers, or images, labels and
            outputs do not fit.
    """
    view = as_view(network, images)
    n = len(view)
    steps = max(1, n // 2) if steps is None else steps
    if not 1 <= steps <= n:
        raise WrongValueError(*worded("steps-out-of-range", blocks=n, steps=steps))
    with torch.inference_mode():
        fast, batch = prepared(view, images, labels, precision, loss)
        gates = torch.ones(n, device=images.device)
        greedy: list[int] = []
        once: list[int] = []
        for step in range(steps):
            losses = _losses_without(fast, gates, images, labels, batch, loss)
            once = once or losses.argsort(stable=True)[:steps].tolist()
            left = [index for index in losses.argsort(stable=True).tolist() if gates[index]]
            greedy.append(next((index for index in left if not losses[index].isnan()), left[0]))
            gates[greedy[-1]] = 0
            progress("prune", step + 1, steps)
        read = [_read(fast, order, images, labels, batch, loss) for order in (greedy, once)]
    values = torch.stack(read)
    return Pruning(view.blocks, greedy, once, values[..., 0], values[..., 1])


def _losses_without(fast: View, gates: Tensor, images: Tensor, labels: Tensor, batch: int, loss: Loss) -> Tensor:
    """Return the loss without each further block, `[n]`; infinite for those already removed."""
    total = torch.zeros(len(fast), dtype=torch.float64, device="cpu")
    total[gates.cpu() == 0] = torch.inf
    for _, x, y in batches(images, labels, batch):
        live = fast.stem(x)
        for index in range(len(fast)):
            if gates[index]:
                fewer = gates.clone()
                fewer[index] = 0
                outputs = to_the_end(fast, index, in_other_memory(live), fewer)
                total[index] += len(y) * loss_at(loss, outputs, y)
            live = fast.block(index, live, gates)
    return total / len(labels)


def _read(fast: View, order: Sequence[int], images: Tensor, labels: Tensor, batch: int, loss: Loss) -> Tensor:
    """Return loss and error with 0, 1, 2, … blocks removed, `[k + 1, 2]`."""
    total = torch.zeros(len(order) + 1, 2, dtype=torch.float64, device="cpu")
    for _, x, y in batches(images, labels, batch):
        gates = torch.ones(len(fast), device=images.device)
        for gone in range(len(order) + 1):
            gates[list(order[:gone])] = 0
            outputs = to_the_end(fast, 0, fast.stem(x), gates)
            wrong = wrong_answers(outputs, y) if loss is F.cross_entropy else float("nan")
            total[gone] += torch.tensor([len(y) * loss_at(loss, outputs, y), wrong], dtype=torch.float64, device="cpu")
    return total / len(labels)
