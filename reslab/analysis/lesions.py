"""What a network loses without each block, with zero, the mean or another image's value in the branch's place.

A zero is a value that the network may never have seen there. The mean takes away what the branch says of an image and
leaves what it always adds; another image's value leaves its whole distribution.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reslab.analysis.inference import Precision
from reslab.analysis.subject import Images, Labels, Loss, as_view, careful
from reslab.analysis.sweeping import batches, in_other_memory, loss_at, prepared, to_the_end, wrong_answers
from reslab.errors import UnknownNameError, WrongValueError
from reslab.gates.gating import Gates, Setting
from reslab.gates.view import View
from reslab.progress import Progress, silent

Kind = Literal["zero", "mean", "resample"]
KINDS: tuple[Kind, ...] = ("zero", "mean", "resample")

Metric = Callable[[Any, Labels], Float[Tensor, ""] | float]
"""From outputs and targets to a number, a mean over the images: those of batches are averaged by the images in them."""


class Readings(NamedTuple):
    """What is read off the outputs, `[..., 4]`: the last two and the error are NaN where they mean nothing."""

    loss: Tensor
    error: Tensor
    kl: Tensor  # from the whole network's distribution over classes, in nats
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

    Every prefix is run once: with n blocks and k kinds of replacement, k·n²/2 block evaluations and two passes; a third
    where the mean, which is over all images, is one of the kinds. Another image is one of the same batch, the next in a
    random circle of them.

    Args:
        network: any network with blocks, or its view; in evaluation mode.
        images: `[B, …]`, run in batches, or as one where an answer depends on the others in its batch.
        labels: int64 `[B]`, or whatever the loss takes.
        kinds: what takes the branch's place: "zero", "mean" or "resample".
        loss: of outputs and labels; a mean over the images.
        metric: any other number of outputs and labels.
        precision: "32" or "bf16".
        seed: of the images that take others' places.
        progress: notified of the images done.

    Raises:
        UserError: if there is no such kind, one image has no other, the network has no blocks or draws random numbers,
            or images, labels and outputs do not fit.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UnknownNameError(f"no replacement {kind!r}; known: {', '.join(KINDS)}")
    if "resample" in kinds and len(images) < 2:
        raise WrongValueError("one image has no other whose value could replace its own; give two or more")
    view = as_view(network, images)
    n = len(view)
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        fast, batch = prepared(view, images, labels, precision, loss)
        if "resample" in kinds and len(images) % batch == 1:
            batch -= 1  # so that the last image has another beside it
        means = _means(fast, images, labels, batch) if "mean" in kinds else []
        total = torch.zeros(len(kinds) * n + 1, 4, dtype=torch.float64)
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


def _setting(kind: Kind, index: int, n: int, means: Sequence[Tensor], circle: Tensor) -> Gates:
    if kind == "zero":
        gates = torch.ones(n, device=circle.device)
        gates[index] = 0
        return gates
    return Setting(None, {index: (lambda branch: means[index]) if kind == "mean" else (lambda branch: branch[circle])})


def _means(fast: View, images: Tensor, labels: Tensor, batch: int) -> list[Tensor]:
    """Return what each branch adds, averaged over all images."""
    sums: dict[int, Tensor] = {}

    def summing(index: int) -> Callable[[Tensor], Tensor]:
        def noted(branch: Tensor) -> Tensor:
            sums[index] = sums.get(index, 0) + branch.double().sum(0)
            return branch

        return noted

    setting = Setting(None, {index: summing(index) for index in range(len(fast))})
    for _, x, _ in batches(images, labels, batch):
        to_the_end(fast, 0, fast.stem(x), setting)
    return [sums[index] / len(images) for index in range(len(fast))]


def _circle(count: int, generator: torch.Generator) -> Tensor:
    """Return for each of some images another, each once: the next in a random circle of them."""
    order = torch.randperm(count, generator=generator)
    return torch.empty_like(order).scatter_(0, order, order.roll(1))


def _read(outputs: Tensor, whole: Tensor, labels: Tensor, loss: Loss, metric: Metric | None) -> Tensor:
    """Return loss, error, KL divergence and metric, `[4]`; NaN for those that these outputs and labels do not have."""
    value = loss_at(loss, outputs, labels)
    error = divergence = extra = float("nan")
    if loss is F.cross_entropy:
        error = wrong_answers(outputs, labels) / len(labels)
        before, after = (logits.double().log_softmax(1) for logits in (whole, outputs))
        divergence = F.kl_div(after, before, reduction="batchmean", log_target=True).item()
    if metric is not None:
        extra = float(metric(outputs, labels))
    return torch.tensor([value, error, divergence, extra], dtype=torch.float64)
