"""The objective of training: a class for each image, or a user's own loss; and the errors."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reslab.errors import MissingError, WrongValueError, worded
from reslab.sending import sent
from reslab.state import device_of, in_mode
from reslab.training.evaluation import Answers, class_numbers, evaluate_each, logits_of, misses
from reslab.training.layout import moved

Figures = dict[str, float | None]
Batch = tuple[Any, Tensor]


class Objective(Protocol):
    """A loss and an error rate."""

    @property
    def module(self) -> nn.Module:
        """Return the module that holds what the loss keeps; an empty one if it keeps nothing."""

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch, `[]`."""

    def wrong(self, outputs: Any, labels: Tensor) -> Tensor:
        """Return the number of wrong answers in a batch, `[]`; NaN if it is undefined."""

    def evaluate_each(self, network: nn.Module, batches: Iterable[Batch]) -> tuple[Figures, Answers | None]:
        """Return `error` and `loss` over all batches, None if undefined; and the prediction for each image if all
        outputs are classes.
        """


class Classes(NamedTuple):
    """Cross-entropy with a class for each image."""

    label_smoothing: float = 0.0

    @property
    def module(self) -> nn.Module:
        """Return an empty module."""
        return nn.Module()

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats.

        Raises:
            UserError: if labels are not numbers of classes, `[B]`.
        """
        numbers = class_numbers(labels)
        return F.cross_entropy(logits_of(outputs), numbers, label_smoothing=self.label_smoothing)

    def wrong(self, outputs: Any, labels: Tensor) -> Tensor:
        """Return the number of images whose likeliest class is wrong."""
        return misses(logits_of(outputs), labels).sum()

    def evaluate_each(self, network: nn.Module, batches: Iterable[Batch]) -> tuple[Figures, Answers | None]:
        """Return the errors and the mean cross-entropy, with no smoothing, and the prediction for each image."""
        return evaluate_each(network, batches)


class OwnLoss(NamedTuple):
    """A user's loss of outputs and labels, a mean over the images. Errors are counted where outputs are `[B, classes]`
    of two classes or more, and labels int64 `[B]`, each the number of one of them.
    """

    function: Callable[[Any, Any], Tensor]

    @property
    def module(self) -> nn.Module:
        """Return the loss itself, if it is a module."""
        return self.function if isinstance(self.function, nn.Module) else nn.Module()

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Return the loss.

        Raises:
            UserError: if it does not return a number.
        """
        value = self.function(outputs, labels)
        if not isinstance(value, Tensor) or value.numel() != 1:
            given = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise WrongValueError(*worded("loss-of-no-number", given=given))
        return value.reshape(())

    def wrong(self, outputs: Any, labels: Tensor) -> Tensor:
        """Return the number of wrong answers, if outputs are classes."""
        undefined = torch.full((), float("nan"), device=labels.device)
        if not _are_scores(outputs, labels):
            return undefined
        # not decided on the host, which would wait for the device
        return torch.where(_have_scores(labels, outputs), misses(outputs, labels).sum(), undefined)

    def evaluate_each(self, network: nn.Module, batches: Iterable[Batch]) -> tuple[Figures, Answers | None]:
        """Return the mean loss, and the error and the prediction for each image where outputs are classes."""
        total, wrong, count = 0.0, 0.0, 0
        answers: list[Answers | None] = []
        device = device_of(network)
        with in_mode(network, training=False), _untouched(self.module), torch.no_grad():
            for batch in batches:
                images, labels = placed(batch, device)
                outputs = network(images)
                total += float(self.loss(outputs, labels)) * len(labels)
                wrong += float(self.wrong(outputs, labels))
                count += len(labels)
                classes = _are_scores(outputs, labels) and bool(_have_scores(labels, outputs))
                answers.append(Answers.of(outputs, labels) if classes else None)
        if not count:
            raise MissingError(*worded("nothing-to-evaluate"))
        return {"error": _finite(wrong / count), "loss": _finite(total / count)}, Answers.joined(answers)


@contextmanager
def _untouched(loss: nn.Module) -> Iterator[None]:
    """Put a loss in evaluation mode, and leave what it keeps as it was: what is evaluated has no say in training."""
    kept = [(buffer, buffer.clone()) for buffer in loss.buffers()]
    with in_mode(loss, training=False):
        yield
    for buffer, value in kept:
        buffer.copy_(value)


def _are_scores(outputs: Any, labels: Tensor) -> bool:
    """Return whether outputs and labels have the form of class scores and classes."""
    scores = isinstance(outputs, Tensor) and outputs.dim() == 2 and outputs.shape[1] > 1
    return scores and labels.dim() == 1 and labels.dtype == torch.int64


def _have_scores(labels: Tensor, scores: Tensor) -> Tensor:
    """Return whether each label is the number of a class that has a score, `[]`."""
    return ((labels >= 0) & (labels < scores.shape[1])).all()


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def placed(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on the device."""
    images, labels = batch
    return moved(images, device), sent(labels, device)
