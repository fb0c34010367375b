"""The common parts of sweeps over gates: a fast view, batches, and copies of values that are run more than once."""

import copy
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor

from reslab.analysis.inference import Precision, fast_view
from reslab.analysis.subject import Loss, answers_alone, check_batch, check_logits, check_repeatable, loss_value
from reslab.gates.gating import Gates
from reslab.gates.inputs import cloned, tensors_of
from reslab.gates.planning import Live
from reslab.gates.view import View

BATCH = 250


def prepared(
    view: View, images: Tensor, labels: Tensor, precision: Precision = "32", loss: Loss = F.cross_entropy
) -> tuple[View, int]:
    """Put the network in evaluation mode, and return a fast equivalent and the batch size.

    Raises:
        UserError: if the labels do not match the images, or effects could not be told from chance.
    """
    check_batch(images, labels, loss)
    view.network.eval()
    check_repeatable(view.whole, images)
    batch = batch_of(view, images)
    return fast_view(view, images[:batch], precision), batch


def batch_of(view: View, images: Tensor, callers: int = 3) -> int:
    """Return the batch size: all images, if a network in evaluation mode mixes them, with a warning so many callers
    up.
    """
    if len(images) <= BATCH or answers_alone(view.whole, images):
        return BATCH
    warnings.warn(
        f"the output for an image depends on its batch, so all {len(images):,} images are run as one batch",
        stacklevel=callers + 2,
    )
    return len(images)


def batches(images: Tensor, labels: Tensor, batch: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield each batch, after the number of images done with it."""
    for start in range(0, len(labels), batch):
        stop = min(start + batch, len(labels))
        yield stop, alone(images[start:stop]), labels[start:stop]


def alone(images: Tensor) -> Tensor:
    """Return these images without others behind them: what is copied of a part of a tensor is the whole of it."""
    if any(part.nbytes < part.untyped_storage().nbytes() for part in tensors_of(images)):
        return cast(Tensor, cloned(images))
    return images


def in_other_memory(live: Live) -> Live:
    """Return a copy of the values, as in-place activations may change them; values that shared memory still do."""
    return copy.deepcopy(live)


class Entered(NamedTuple):
    """What a block takes: its input, and what else, such as a mask; and all that is live before it."""

    taken: Tensor
    beside: tuple[Any, ...]
    live: Live


def entered(view: View, x: Any) -> Iterator[Entered]:
    """Yield what each block takes; the input is a copy, which the block may overwrite."""
    live = view.stem(x)
    for index in range(len(view)):
        taken = view.input(index, in_other_memory(live)).clone()
        yield Entered(taken, view.beside(index, live), live)
        live = view.block(index, live)


def to_the_end(view: View, start: int, live: Live, gates: Gates = None) -> Tensor:
    """Return the output from what is live before block `start`."""
    for index in range(start, len(view)):
        live = view.block(index, live, gates)
    outputs: Tensor = view.head(live)
    return outputs


def wrong_answers(logits: Tensor, labels: Tensor) -> int:
    """Return the number of wrong answers; NaN and infinity count as wrong, but not the minus infinity of classes that
    are ruled out.

    Raises:
        UserError: if they are not logits for the labels.
    """
    check_logits(logits, labels)
    logits = logits.float()
    return len(labels) - int(((logits.argmax(1) == labels) & logits.amax(1).isfinite()).sum())


def loss_at(loss: Loss, outputs: Any, labels: Tensor) -> float:
    """Return the loss as a number.

    Raises:
        UserError: if outputs and labels do not fit, or a custom loss does not return a number.
    """
    return loss_value(loss, outputs, labels).item()
