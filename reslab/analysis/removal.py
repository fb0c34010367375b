"""What a trained network loses when one block is removed, k blocks are removed at random, or blocks are reordered (Veit
et al. 2016, section 3).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from reslab.analysis.inference import Precision
from reslab.analysis.result import Result, new_figure, per_block
from reslab.analysis.subject import (
    Classes,
    Images,
    Labels,
    Loss,
    analysis,
    as_view,
    check_batch,
    in_single,
    loss_value,
)
from reslab.analysis.sweeping import batches, in_other_memory, prepared, to_the_end, wrong_answers
from reslab.errors import UnseenError, WrongValueError, worded
from reslab.gates.gating import Block
from reslab.gates.planning import Live
from reslab.gates.view import View
from reslab.progress import Progress, silent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Removals(Result):
    """The error rate (a fraction) of the whole network, and without each of its blocks."""

    blocks: Sequence[Block]
    error: float
    without: Float[Tensor, "n"]

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per block."""
        rows = {
            "stage": [block.stage for block in self.blocks],
            "kind": [block.kind for block in self.blocks],
            "identity": [block.identity for block in self.blocks],
            "error": self.without.tolist(),
            "increase": (self.without - self.error).tolist(),
        }
        return per_block(self.blocks, rows)

    def figure(self) -> "Figure":
        """Plot the error without each block; blocks that change shape are marked."""
        figure = new_figure()
        axes = figure.subplots()
        colours = ["tab:blue" if block.identity else "tab:orange" for block in self.blocks]
        axes.bar([block.name for block in self.blocks], (100 * self.without).tolist(), color=colours)
        axes.axhline(100 * self.error, color="black", linestyle="--", label=f"whole network: {100 * self.error:.2f} %")
        axes.set(xlabel="removed block (orange: its shortcut is not the identity)", ylabel="error (%)")
        axes.tick_params(axis="x", rotation=90, labelsize=6)
        axes.legend()
        return figure


@dataclass(frozen=True)
class Damage(Result):
    """The error rate (a fraction) under increasing random damage: removed blocks, or swapped pairs of blocks."""

    what: str
    error: float
    amounts: Sequence[int]
    errors: Float[Tensor, "amounts draws"]
    # Kendall's tau of the blocks' order, if blocks were swapped
    correlation: Float[Tensor, "amounts draws"] | None = None

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per amount: mean and standard deviation over the draws."""
        import pandas as pd

        columns = {
            "error": self.errors.mean(1).tolist(),
            "std": self.errors.std(1).tolist() if self.errors.shape[1] > 1 else None,
        }
        if self.correlation is not None:
            columns["kendall_tau"] = self.correlation.mean(1).tolist()
        return pd.DataFrame(columns, index=pd.Index(list(self.amounts), name=self.what))

    def figure(self) -> "Figure":
        """Plot the error of every draw over the amount, or over Kendall's tau."""
        figure = new_figure()
        axes = figure.subplots()
        if self.correlation is None:
            x, label = torch.tensor(list(self.amounts), device="cpu").float()[:, None].expand_as(self.errors), self.what
        else:
            x, label = self.correlation, "Kendall's tau of the order of the blocks"
        axes.plot(x.flatten().tolist(), (100 * self.errors).flatten().tolist(), "o", alpha=0.5)
        axes.axhline(100 * self.error, color="black", linestyle="--", label=f"whole network: {100 * self.error:.2f} %")
        axes.set(xlabel=label, ylabel="error (%)")
        axes.legend()
        return figure


@dataclass(frozen=True)
class Importance(Result):
    """Each block's first-order importance: dL/dg of its gate at 1, of the mean cross-entropy, in nats."""

    blocks: Sequence[Block]
    gradient: Float[Tensor, "n"]

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per block."""
        return per_block(self.blocks, {"dL/dg": self.gradient.tolist()})

    def figure(self) -> "Figure":
        """Plot the gradients as bars."""
        figure = new_figure()
        axes = figure.subplots()
        axes.bar([block.name for block in self.blocks], self.gradient.tolist())
        axes.set(xlabel="block", ylabel="dL/dg at g = 1 (cross-entropy: nats)")
        axes.tick_params(axis="x", rotation=90, labelsize=6)
        return figure


@analysis(
    "removal",
    "the error without each block",
    needs=("blocks", "logits"),
    trained=True,
    summary=("error",),
    alias="lesion",
)
def remove_each(
    network: nn.Module, images: Images, labels: Classes, *, precision: Precision = "32", progress: Progress = silent
) -> Removals:
    """Return the error in evaluation mode without each block in turn. Every prefix is run once, so that it costs n²/2
    block evaluations instead of n².

    If it gives the same outputs, a copy is used with BatchNorms folded into the convolutions before them, which changes
    float32 logits by about 1e-5 of their size. `precision="bf16"` computes in bfloat16, which changed the error rates
    of trained networks, over 1,000 images, by up to one point.

    Args:
        network: any network of logits `[B, classes]` with blocks, or its view.
        images: `[N, …]`, run in batches, or as one batch if outputs depend on it.
        labels: int64 `[N]`.
        precision: "32" or "bf16".
        progress: notified of the images done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.remove_each(network, images, labels)
        >>> found.to_frame()["increase"].idxmax()
        'layer1.0'

    Raises:
        UserError: if the network has no blocks, gives no logits or draws random numbers, or labels and images do not
            fit.
    """
    view = as_view(network, images)
    n = len(view)
    wrong = torch.zeros(n + 1, dtype=torch.int64, device="cpu")
    with torch.inference_mode():
        fast, batch = prepared(view, images, labels, precision)
        gates = 1 - torch.eye(n, device=images.device)
        for done, x, y in batches(images, labels, batch):
            live = fast.stem(x)
            for index in range(n):
                without = fast.block(index, in_other_memory(live), gates[index])
                wrong[index] += wrong_answers(to_the_end(fast, index + 1, without), y)
                live = fast.block(index, live)
            wrong[n] += wrong_answers(fast.head(live), y)
            progress("removal", done, len(labels))
    *each, whole = (count / len(labels) for count in wrong.tolist())
    return Removals(view.blocks, whole, torch.tensor(each, dtype=torch.float64, device="cpu"))


@analysis(
    "random-removal",
    "the error without k blocks",
    needs=("blocks", "logits"),
    trained=True,
    summary=("error",),
)
def remove_random(
    network: nn.Module,
    images: Images,
    labels: Classes,
    *,
    counts: Sequence[int] | None = None,
    draws: int = 5,
    seed: int = 0,
    precision: Precision = "32",
    progress: Progress = silent,
) -> Damage:
    """Return the error with k blocks removed at random, for every k in `counts`, by default up to ten of 1 … n (Veit et
    al. 2016, Fig. 5a).

    Args:
        network: any network of logits `[B, classes]` with blocks, or its view; measured in evaluation mode.
        images: `[B, …]`, run in batches, or as one where an answer depends on the others in its batch.
        labels: int64 `[B]`.
        counts: of blocks removed at once.
        draws: sets of blocks for each count.
        seed: of the sets.
        precision: "32" or "bf16", in which it computes.
        progress: notified of the images done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.remove_random(network, images, labels, counts=[0, 4], draws=2)
        >>> found.to_frame()["error"].is_monotonic_increasing
        True

    Raises:
        UserError: if the network has no blocks, gives no logits or draws random numbers, labels and images do not fit,
            or a count is below 0 or above the number of blocks.
    """
    view = as_view(network, images)
    n = len(view)
    counts = range(1, n + 1, -(-n // 10)) if counts is None else counts
    if draws < 1 or not len(counts) or not all(0 <= count <= n for count in counts):
        raise WrongValueError(*worded("draws-out-of-range", what="counts", blocks=n, given=list(counts), draws=draws))
    generator = torch.Generator().manual_seed(seed)
    gates = torch.ones(len(counts), draws, n, device="cpu")
    for row, count in zip(gates, counts, strict=True):
        for draw in row:
            draw[torch.randperm(n, generator=generator, device="cpu")[:count]] = 0
    settings = [torch.ones(n, device="cpu"), *gates.flatten(0, 1)]

    def run(fast: View, live: Live, setting: int) -> Tensor:
        for index in range(n):
            live = fast.block(index, live, settings[setting].to(images.device))
        return fast.head(live)

    whole, *rest = _sweep(view, images, labels, len(settings), run, precision, "random-removal", progress)
    return Damage(
        "blocks removed",
        whole,
        list(counts),
        torch.tensor(rest, dtype=torch.float64, device="cpu").reshape(len(counts), draws),
    )


@analysis("reorder", "the error with swapped blocks", needs=("chain", "logits"), trained=True, summary=("error",))
def reorder(
    network: nn.Module,
    images: Images,
    labels: Classes,
    *,
    swaps: Sequence[int] = (1, 2, 4, 8),
    draws: int = 5,
    seed: int = 0,
    precision: Precision = "32",
    progress: Progress = silent,
) -> Damage:
    """Return the error after k random swaps of two blocks of the same shape, with Kendall's tau of the order (Veit et
    al. 2016, Fig. 5b).

    Blocks are swapped within a stage; those that change shape and the network's first stay in place.

    Args:
        network: a chain of residual blocks that gives logits `[B, classes]`, or its view; measured in evaluation mode.
        images: `[B, …]`, run in batches, or as one where an answer depends on the others in its batch.
        labels: int64 `[B]`.
        swaps: exchanges, one after another.
        draws: orders for each number of exchanges.
        seed: of the exchanges.
        precision: "32" or "bf16", in which it computes.
        progress: notified of the images done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.reorder(network, images, labels, swaps=[0, 4], draws=2)
        >>> found.correlation[0]  # no exchange, and the order is as it was
        tensor([1., 1.])

    Raises:
        UserError: if the network is not a chain or has no two blocks that can be swapped, gives no logits or draws
            random numbers, or labels and images do not fit.
    """
    view = as_view(network, images)
    if not view.is_chain:
        raise UnseenError(*worded("swaps-need-a-chain"))
    if draws < 1 or not len(swaps) or min(swaps) < 0:
        raise WrongValueError(*worded("swaps-out-of-range", swaps=list(swaps), draws=draws))
    movable = [
        index
        for index, block in enumerate(view.blocks)
        if index
        and block.identity
        and not view.parameters_between(index)
        and view.shapes.get(index) == view.shapes.get(index - 1)  # behind a pool it would run without that
    ]
    # neighbours of one stage and one shape: what does not move parts those before it from those behind
    groups = [
        list(group)
        for _, group in groupby(
            movable,
            key=lambda index: (
                view.blocks[index].stage,
                view.shapes.get(index, ())[1:],
                sum(other not in movable for other in range(index)),
            ),
        )
    ]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        raise UnseenError(*worded("nothing-to-swap"))
    generator = torch.Generator().manual_seed(seed)
    orders = [list(range(len(view)))]
    for count in swaps:
        orders += [_exchanged(len(view), groups, count, generator) for _ in range(draws)]

    beside: list[tuple[Any, ...]] = []

    def run(fast: View, live: Live, setting: int) -> Tensor:
        if not setting:  # the network's own order comes first: what is beside the stream then stays at its place
            beside[:] = [live.rest]
            for index in orders[setting]:
                live = fast.block(index, live)
                beside.append(live.rest)
            return fast.head(live)
        for index in orders[setting]:
            live = fast.block(index, live._replace(rest=beside[index]))
        return fast.head(live._replace(rest=beside[-1]))

    whole, *rest = _sweep(view, images, labels, len(orders), run, precision, "reorder", progress)
    taus = torch.tensor([kendall_tau(order) for order in orders[1:]], dtype=torch.float64, device="cpu")
    shape = len(swaps), draws
    return Damage(
        "exchanges",
        whole,
        list(swaps),
        torch.tensor(rest, dtype=torch.float64, device="cpu").reshape(shape),
        taus.reshape(shape),
    )


@analysis("importance", "dL/dg of each block's gate", needs=("blocks",), images=128, trained=True)
def importance(network: nn.Module, images: Images, labels: Labels, *, loss: Loss = F.cross_entropy) -> Importance:
    """Return dL/dg at g = 1 for every block's gate, in the network's current mode; removing a block costs minus that,
    to first order.

    Args:
        network: any network with blocks, or its view.
        images: `[B, …]`, taken as one batch.
        labels: int64 `[B]`, or whatever the loss takes.
        loss: of outputs and labels, a mean over the images; the mean cross-entropy.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.importance(network.eval(), images, labels)
        >>> found.gradient.shape, found.to_frame().columns.tolist()
        (torch.Size([9]), ['dL/dg'])

    Raises:
        UserError: if the network has no blocks, or labels, images and outputs do not fit.
    """
    view, images = in_single(as_view(network, images), images)
    check_batch(images, labels, loss)
    with torch.enable_grad():
        double = any(parameter.dtype == torch.float64 for parameter in view.parameters())
        dtype = torch.float64 if double else torch.float32
        gates = torch.ones(len(view), device=images.device, dtype=dtype, requires_grad=True)
        value = loss_value(loss, view(images, gates), labels)
        (gradient,) = torch.autograd.grad(value, gates)
    return Importance(view.blocks, gradient)


def kendall_tau(order: Sequence[int]) -> float:
    """Return Kendall's rank correlation of an order of 0 … n-1 with the order of size: 1 unchanged, -1 reversed."""
    pairs = [(a, b) for position, a in enumerate(order) for b in order[position + 1 :]]
    return sum(1 if a < b else -1 for a, b in pairs) / len(pairs)


def _exchanged(n: int, groups: Sequence[Sequence[int]], count: int, generator: Generator) -> list[int]:
    order = list(range(n))
    weights = torch.tensor([float(len(group)) for group in groups], device="cpu")
    for _ in range(count):
        group = groups[int(torch.multinomial(weights, 1, generator=generator))]
        a, b = (group[place] for place in torch.randperm(len(group), generator=generator, device="cpu")[:2].tolist())
        order[a], order[b] = order[b], order[a]
    return order


def _sweep(
    view: View,
    images: Tensor,
    labels: Tensor,
    settings: int,
    run: Callable[[View, Live, int], Tensor],
    precision: Precision,
    what: str,
    progress: Progress,
) -> list[float]:
    """Return the error of every setting, the first being the unchanged network; the stem is run once per batch."""
    wrong = torch.zeros(settings, dtype=torch.int64, device="cpu")
    with torch.inference_mode():
        fast, batch = prepared(view, images, labels, precision)
        for done, x, y in batches(images, labels, batch):
            stem = fast.stem(x)
            for setting in range(settings):
                wrong[setting] += wrong_answers(run(fast, in_other_memory(stem), setting), y)
                progress(what, (done - len(y)) * settings + (setting + 1) * len(y), len(labels) * settings)
    return [count / len(labels) for count in wrong.tolist()]
