"""What is a block worth? Every measure in one table, and how well the cheap ones agree with a lesion's ranking of the
blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reslab.analysis.inference import Precision
from reslab.analysis.lesions import KINDS, Metric, lesions
from reslab.analysis.ranking import RankCorrelation, spearman
from reslab.analysis.removal import importance
from reslab.analysis.result import Result, new_figure, per_block
from reslab.analysis.shapley import shapley
from reslab.analysis.subject import Classes, Images, Loss, analysis, as_view, evaluating
from reslab.analysis.sweeping import batch_of, batches, entered, in_other_memory
from reslab.counting import FlopCounter
from reslab.gates.gating import Block
from reslab.gates.view import View
from reslab.progress import Progress, silent
from reslab.sending import widened

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LESION = "loss, zero"
"""The measure that the others are compared with: the rise of the loss with the branch at zero."""


@dataclass(frozen=True, eq=False)
class Worth(Result):
    """A row of measures per block; NaN where a measure is undefined, such as the angle between different shapes.

    - "loss, zero", "error, zero", "kl, zero" and "metric, zero": the rises with the branch at zero, and the divergence
      of the classes' probabilities (nats); likewise ", mean" and ", resample".
    - "first order": -dL/dg, what the first of these is to first order.
    - "turn": 1 - cos of the block's input and output; "ratio": ‖F(x)‖ / ‖x‖. Both treat all of an image's values as one
      vector, and are averaged over the images.
    - "shapley", and its standard error.
    - "parameters" and "macs" (multiply-adds for one image) of the block, its shortcut's included.
    """

    blocks: Sequence[Block]
    measures: Mapping[str, Float[Tensor, "n"]]
    loss: float
    error: float

    def agreement(self, *, with_: str = LESION) -> dict[str, RankCorrelation]:
        """Return the agreement of every measure with one of them in ranking the blocks: Spearman's correlation with its
        interval.
        """
        reference = self.measures[with_]
        others = [name for name in self.measures if name not in (with_, "shapley error")]
        return {name: spearman(self.measures[name], reference) for name in others}

    @property
    def turn_agreement(self) -> float:
        """Return the rank correlation of 1 - cos(input, output) with the lesion."""
        return self.agreement()["turn"].value

    @property
    def mean_agreement(self) -> float:
        """Return the rank correlation of the lesion by the mean with that by zero."""
        return self.agreement()["loss, mean"].value

    @property
    def first_order_agreement(self) -> float:
        """Return the rank correlation of -dL/dg with the lesion."""
        return self.agreement()["first order"].value

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per block and a column per measure."""
        whole = {"parameters", "macs"}
        columns = {
            name: (values.long() if name in whole else values).tolist() for name, values in self.measures.items()
        }
        return per_block(self.blocks, columns)

    def figure(self) -> "Figure":
        """Plot the lesions of each block, and the rank correlation of every other measure with the lesion by zero."""
        figure = new_figure(10, 4)
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        names = [block.name for block in self.blocks]
        for kind, mark in zip(KINDS, "os^", strict=True):
            left.plot(names, self.measures[f"loss, {kind}"].tolist(), mark + "-", markersize=3, label=kind)
        lesion = self.measures[LESION]
        worst = int(lesion.argmax())
        left.set(xlabel="block whose branch is replaced", ylabel="rise of the loss (cross-entropy: nats)")
        left.set_title(f"most is lost without {names[worst]}: the loss rises by {lesion[worst]:.2g}", fontsize=10)
        left.set_yscale("symlog", linthresh=1e-2)
        left.tick_params(axis="x", rotation=90, labelsize=6)
        left.legend(title="replaced by", loc="upper left", bbox_to_anchor=(1, 1))
        found = {name: rank for name, rank in self.agreement().items() if rank.value == rank.value}
        for place, rank in enumerate(found.values()):
            right.plot([rank.low, rank.high], [place, place], color="C0")
            right.plot(rank.value, place, "o", color="C0")
        right.set_yticks(range(len(found)), list(found), fontsize=7)
        right.axvline(0, color="grey", linewidth=1)
        right.set(xlim=(-1.05, 1.05), xlabel="Spearman correlation (95 %)")
        right.set_title(f"agreement with “{LESION}”", fontsize=10)
        right.invert_yaxis()
        return figure


@analysis(
    "worth",
    "every measure of each block's importance, and how they agree",
    needs=("blocks", "logits"),
    images=250,
    trained=True,
    summary=("loss", "error", "turn_agreement", "mean_agreement", "first_order_agreement"),
)
def block_worth(
    network: nn.Module,
    images: Images,
    labels: Classes,
    *,
    permutations: int = 8,
    loss: Loss = F.cross_entropy,
    metric: Metric | None = None,
    precision: Precision = "32",
    seed: int = 0,
    progress: Progress = silent,
) -> Worth:
    """Return every measure of each block's worth, in evaluation mode.

    With n blocks: 3n²/2 block evaluations for the lesions and n²/2 per permutation for the Shapley values, where a pass
    is n; about five passes for all the rest, one of them backward.

    Args:
        network: any network with blocks, or its view; measured in evaluation mode.
        images: `[B, …]`, two or more, run in batches, or as one where an answer depends on the others in its batch.
        labels: int64 `[B]`.
        permutations: orders of the blocks that are drawn for the Shapley values; 0 for none of these.
        loss: of outputs and labels, a mean over the images; the mean cross-entropy.
        metric: any other number of outputs and labels, such as the accuracy.
        precision: "32" or "bf16", in which it computes.
        seed: of the orders, and of the images whose values take others' places.
        progress: notified of the images done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.block_worth(network, images, labels, permutations=0)
        >>> found.to_frame()["loss, zero"].idxmax()
        'layer1.0'
        >>> found.turn_agreement > 0  # so does a block that turns its input far
        True

    Raises:
        UserError: if the network has no blocks or draws random numbers, there is one image, or images, labels and
            outputs do not fit.
    """
    view = as_view(network, images)
    n = len(view)
    found = lesions(view, images, labels, loss=loss, metric=metric, precision=precision, seed=seed, progress=progress)
    measures: dict[str, Tensor] = {}
    for kind, without in found.without.items():
        measures[f"loss, {kind}"] = without.loss - found.whole.loss
        measures[f"error, {kind}"] = without.error - found.whole.error
        measures[f"kl, {kind}"] = without.kl
        if metric is not None:
            measures[f"metric, {kind}"] = without.metric - found.whole.metric
    with evaluating(view):
        batch = batch_of(view, images)
        measures["first order"] = -_gradient(view, images, labels, batch, loss)
        measures["turn"], measures["ratio"] = _geometry(view, images, labels, batch)
        measures["macs"] = _macs(view, images)
    if permutations:
        values = shapley(
            view,
            images,
            labels,
            permutations=permutations,
            loss=loss,
            precision=precision,
            seed=seed,
            progress=progress,
        )
        measures |= {"shapley": values.values, "shapley error": values.standard_error}
    counts = [sum(map(Tensor.numel, view.parameters_of(index))) for index in range(n)]
    measures["parameters"] = torch.tensor(counts, dtype=torch.float64, device="cpu")
    return Worth(view.blocks, measures, found.whole.loss.item(), found.whole.error.item())


def _gradient(view: View, images: Tensor, labels: Tensor, batch: int, loss: Loss) -> Tensor:
    """Return dL/dg, `[n]`, of the mean loss over all images."""
    total = torch.zeros(len(view), dtype=torch.float64, device="cpu")
    for _, x, y in batches(images, labels, batch):
        total += len(y) * widened(importance(view, x, y, loss=loss).gradient).cpu()
    return total / len(images)


@torch.no_grad()
def _geometry(view: View, images: Tensor, labels: Tensor, batch: int) -> Tensor:
    """Return 1 - cos(input, output) and ‖F(x)‖ / ‖x‖, `[2, n]`, averaged over the images that have them."""
    view.check_images_first()
    found: list[list[Tensor]] = [[] for _ in view.blocks]
    for _, x, _ in batches(images, labels, batch):
        for index, (taken, beside, live) in enumerate(entered(view, x)):
            given = view.module(index, taken.clone(), beside)
            added = given[:, :0]  # of another shape
            if view.plan.places[index].plain:
                added = torch.stack(list(view.sides(index, in_other_memory(live)).branches)).sum(0)
            found[index].append(_turn_and_ratio(taken, given, added))
    return torch.stack([torch.cat(rows, 1).nanmean(1) for rows in found], 1)


def _turn_and_ratio(taken: Tensor, given: Tensor, added: Tensor) -> Tensor:
    """Return both of each image, `[2, B]`; NaN where shapes differ, or a vector is zero that has no angle or length to
    compare with.
    """
    x, y, f = (widened(values).flatten(1) for values in (taken, given, added))
    size, nothing = x.norm(dim=1), x.new_full((len(x),), torch.nan)
    turn = 1 - (x * y).sum(1) / (size * y.norm(dim=1)) if taken.shape == given.shape else nothing
    ratio = (f.norm(dim=1) / size).where(size > 0, torch.nan) if taken.shape == added.shape else nothing
    return torch.stack([turn, ratio]).cpu()


@torch.no_grad()
def _macs(view: View, images: Tensor) -> Tensor:
    """Return the multiply-adds of every block for one image; attention's are those of its matrix products. Where the
    network takes no image alone, as by batch statistics, they are half of those for two.
    """
    try:
        return _counted(view, images[:1])
    except Exception:
        return _counted(view, images[:2]) / 2


def _counted(view: View, images: Tensor) -> Tensor:
    found = []
    for index, (taken, beside, _) in enumerate(entered(view, images)):
        with FlopCounter() as counter:
            view.module(index, taken, beside)
        found.append(counter.macs)
    return torch.tensor(found, dtype=torch.float64, device="cpu")
