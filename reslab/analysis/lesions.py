"""What a network loses without each block, when zero, the mean or another image's value replaces the branch.

Zero is a value that the network may never have seen there. The mean removes what the branch says about an image and
keeps what it always adds. Another image's value keeps the whole distribution.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reslab.analysis.inference import Precision
from reslab.analysis.subject import Images, Labels, Loss, as_view, careful
from reslab.analysis.sweeping import batches, in_other_memory, loss_at, prepared, to_the_end, wrong_answers
from reslab.errors import UnknownNameError, WrongValueError, worded
from reslab.gates.gating import Gates, Setting, Standing
from reslab.gates.view import View
from reslab.progress import Progress, silent
from reslab.sending import widened

Kind = Literal["zero", "mean", "resample"]
KINDS: tuple[Kind, ...] = ("zero", "mean", "resample")

Metric = Callable[[Any, Labels], Float[Tensor, ""] | float]
"""A function of outputs and targets that returns a mean over the images; batches are weighted by their size."""


class Readings(NamedTuple):
    """Readings of the outputs, `[..., 4]`; the error and the last two are NaN where they are undefined."""

    loss: Tensor
    error: Tensor
    kl: Tensor  # relative to the whole network's distribution over classes, in nats
    metric: Tensor


class Lesions(NamedTuple):
    """The readings of the whole network, and without each block."""

    whole: Readings  # each []
    without: dict[Kind, Readings]  # each [n]


@careful
def lesions(
    network: nn.Module,
    images: Images,
    labels: Labels,
    *,
    kinds: Sequence[Kind] = KINDS,
    loss: Loss = F.cross_entropy,
    metric: Metric | None = None,
    precision: Precision = "32",
    seed: int = 0,
    progress: Progress = silent,
) -> Lesions:
    """Return loss, error, KL divergence and any other metric with each block's branch replaced in turn.

    Every prefix is run once: with n blocks and k kinds of replacement, k·n²/2 block evaluations and two passes, and a
    third pass if the mean over all images is one of the kinds. "Another image" is the next in a random circle of the
    same batch.

    Args:
        network: any network with blocks, or its view; in evaluation mode.
        images: `[B, …]`, run in batches, or as one batch if outputs depend on it.
        labels: int64 `[B]`, or whatever the loss takes.
        kinds: what replaces the branch: "zero", "mean" or "resample".
        loss: of outputs and labels; a mean over the images.
        metric: any other function of outputs and labels that returns a number.
        precision: "32" or "bf16".
        seed: of the choice of other images.
        progress: notified of the images done.

    Raises:
        UserError: if there is no such kind, there is only one image to resample from, the network has no blocks, draws
            random numbers, or has tokens before images where not only "zero" replaces, or images, labels and outputs do
            not fit.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UnknownNameError(*worded("no-replacement", kind=kind, names=", ".join(KINDS)))
    if "resample" in kinds and len(images) < 2:
        raise WrongValueError(*worded("one-image-of-lesions"))
    view = as_view(network, images)
    if set(kinds) != {"zero"}:
        view.check_images_first()
    n = len(view)
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        fast, batch = prepared(view, images, labels, precision, loss)
        while "resample" in kinds and len(images) % batch == 1:
            batch -= 1  # so that the last batch has more than one image
        means = _means(fast, images, labels, batch) if "mean" in kinds else {}
        total = torch.zeros(len(kinds) * n + 1, 4, dtype=torch.float64, device="cpu")
        for done, x, y in batches(images, labels, batch):
            circle = _circle(len(x), generator).to(x.device)
            outputs = to_the_end(fast, 0, fast.stem(x))
            total[-1] += len(y) * _read(outputs, outputs, y, loss, metric)
            live = fast.stem(x)
            for index in range(n):
                for place, kind in enumerate(kinds):
                    setting = _setting(kind, index, n, means, circle)
                    damaged = to_the_end(fast, index + 1, fast.block(index, in_other_memory(live), setting))
                    total[place * n + index] += len(y) * _read(damaged, outputs, y, loss, metric)
                live = fast.block(index, live)
                progress("lesions", (done - len(y)) * n + (index + 1) * len(y), len(labels) * n)
    *each, whole = total / len(labels)
    rows = torch.stack(each).reshape(len(kinds), n, 4)
    return Lesions(Readings(*whole), {kind: Readings(*row.unbind(1)) for kind, row in zip(kinds, rows, strict=True)})


def _setting(kind: Kind, index: int, n: int, means: Mapping[tuple[int, int], Tensor], circle: Tensor) -> Gates:
    if kind == "zero":
        gates = torch.ones(n, device=circle.device)
        gates[index] = 0
        return gates
    if kind == "mean":
        return Setting(None, {index: lambda _, number: means[index, number]})
    return Setting(None, {index: lambda branch, _: branch[circle]})


def _means(fast: View, images: Tensor, labels: Tensor, batch: int) -> dict[tuple[int, int], Tensor]:
    """Return what each branch of each block adds, averaged over all images."""
    sums: dict[tuple[int, int], Tensor] = {}

    def summing(index: int) -> Standing:
        def noted(branch: Tensor, number: int) -> Tensor:
            sums[index, number] = sums.get((index, number), 0) + widened(branch).sum(0)
            return branch

        return noted

    setting = Setting(None, {index: summing(index) for index in range(len(fast))})
    for _, x, _ in batches(images, labels, batch):
        to_the_end(fast, 0, fast.stem(x), setting)
    return {place: total / len(images) for place, total in sums.items()}


def _circle(count: int, generator: torch.Generator) -> Tensor:
    """Return for each image the next in a random circle of all of them."""
    order = torch.randperm(count, generator=generator, device="cpu")
    return torch.empty_like(order).scatter_(0, order, order.roll(1))


def _read(outputs: Tensor, whole: Tensor, labels: Tensor, loss: Loss, metric: Metric | None) -> Tensor:
    """Return loss, error, KL divergence and metric, `[4]`; NaN for those undefined for these outputs and labels."""
    value = loss_at(loss, outputs, labels)
    error = divergence = extra = float("nan")
    if loss is F.cross_entropy:
        error = wrong_answers(outputs, labels) / len(labels)
        before, after = (widened(logits).log_softmax(1) for logits in (whole, outputs))
        each = F.kl_div(after, before, reduction="none", log_target=True)
        divergence = each.masked_fill(before == -torch.inf, 0).sum().item() / len(labels)  # 0 log 0 is 0
    if metric is not None:
        extra = float(metric(outputs, labels))
    return torch.tensor([value, error, divergence, extra], dtype=torch.float64, device="cpu")
