"""What every sweep over settings of gates needs: a view that answers fast, batches, and memory of its own for what runs
more than once.
"""

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reslab.analysis.inference import Precision, fast_view
from reslab.analysis.subject import Loss, answers_alone, check_batch, check_logits, check_repeatable, loss_value
from reslab.gates.gating import Gates
from reslab.gates.view import Live, View

BATCH = 250


def prepared(
    view: View, images: Tensor, labels: Tensor, precision: Precision = "32", loss: Loss = F.cross_entropy
) -> tuple[View, int]:
    """Return what answers as the network in evaluation mode, in which it is put, and how many images are a batch.

    Raises:
        UserError: if the labels do not belong to the images, or effects could not be told from chance.
    """
    check_batch(images, labels, loss)
    view.network.eval()
    check_repeatable(view.whole, images)
    batch = batch_of(view, images)
    return fast_view(view, images[:batch], precision), batch


def batch_of(view: View, images: Tensor) -> int:
    """Return how many images may be a batch: all, where a network in evaluation mode looks at several at once."""
    if len(images) <= BATCH or answers_alone(view.whole, images):
        return BATCH
    warnings.warn(
        f"an image's answer depends on the others in its batch; all {len(images):,} images are one batch", stacklevel=5
    )
    return len(images)


def batches(images: Tensor, labels: Tensor, batch: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield how many images are done with each batch, and the batch."""
    for start in range(0, len(labels), batch):
        stop = min(start + batch, len(labels))
        yield stop, images[start:stop], labels[start:stop]


def in_other_memory(live: Live) -> Live:
    """Return the values in other memory, which in-place activations may change; what was in one piece of memory still
    is.
    """
    return copy.deepcopy(live)


def to_the_end(view: View, start: int, live: Live, gates: Gates = None) -> Tensor:
    """Return the output from what is live before block `start`."""
    for index in range(start, len(view)):
        live = view.block(index, live, gates)
    outputs: Tensor = view.head(live)
    return outputs


def wrong_answers(logits: Tensor, labels: Tensor) -> int:
    """Return how many answers are wrong; NaN and infinity are.

    Raises:
        UserError: if they are no logits for the labels.
    """
    check_logits(logits, labels)
    logits = logits.float()
    return len(labels) - int(((logits.argmax(1) == labels) & logits.isfinite().all(1)).sum())


def loss_at(loss: Loss, outputs: Any, labels: Tensor) -> float:
    """Return the loss, computed in float32 at least.

    Raises:
        UserError: if outputs and labels do not fit, or it is one's own that gives no number.
    """
    if isinstance(outputs, Tensor) and outputs.is_floating_point():
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    return loss_value(loss, outputs, labels).item()
