"""Evaluation of a network: in one view of each image, in ten, or at several scales (He et al. 2015, section 3.4)."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from reslab.errors import MismatchError, MissingError, UnseenError, in_one_line, told, worded
from reslab.state import device_of, in_mode

Split = tuple[Tensor, Tensor]
SCALES = (224, 256, 384, 480, 640)
"""The paper's shorter sides, for a network with 224×224 inputs."""


def evaluate(network: nn.Module, batches: Iterable[Split]) -> dict[str, float | None]:
    """Return `error` and `top5_error` (fractions) and the mean cross-entropy `loss` (nats; None if not finite) in
    evaluation mode.

    The batches contain each image once. An output with NaN or infinity counts as wrong, unless that is minus infinity,
    of classes that are ruled out. The network's mode is restored.
    """
    with in_mode(network, training=False), torch.no_grad():
        return tally((_scores(network, images), labels) for images, labels in _at(network, batches))


class Answers(NamedTuple):
    """The label and the prediction of each image, `[N]` each, in order; -1 if the scores are not finite."""

    labels: Tensor
    taken_for: Tensor
    classes: int

    @classmethod
    def of(cls, scores: Tensor, labels: Tensor) -> "Answers":
        """Return the answers of a batch, from scores `[B, classes]`."""
        taken_for = torch.where(scores.amax(1).isfinite(), scores.argmax(1), -1)
        return cls(labels.long().cpu(), taken_for.cpu(), scores.shape[1])

    @classmethod
    def joined(cls, batches: "Sequence[Answers | None]") -> "Answers | None":
        """Return the answers of all batches, or None if one has none."""
        whole = [each for each in batches if each is not None]
        if not whole or len(whole) < len(batches):
            return None
        labels, taken_for, classes = zip(*whole, strict=True)
        return cls(torch.cat(labels), torch.cat(taken_for), max(classes))

    @property
    def wrong(self) -> Tensor:
        """Return which images the network gets wrong, `[N]`."""
        return self.taken_for != self.labels

    def confusion(self) -> list[list[int]]:
        """Return the confusion matrix, a row per true class; a last column counts images whose scores are not
        finite.
        """
        columns = torch.where(self.taken_for < 0, self.classes, self.taken_for)
        counts = torch.bincount(self.labels * (self.classes + 1) + columns, minlength=self.classes * (self.classes + 1))
        table: list[list[int]] = counts.reshape(self.classes, self.classes + 1).tolist()
        return table


def evaluate_each(network: nn.Module, batches: Iterable[Split]) -> tuple[dict[str, float | None], Answers]:
    """Return the same, and the prediction for each image, in order."""
    found: list[Answers | None] = []

    def answers() -> Iterator[Split]:
        for images, labels in _at(network, batches):
            scores = _scores(network, images)
            yield scores, labels
            found.append(Answers.of(scores, labels))

    with in_mode(network, training=False), torch.no_grad():
        figures = tally(answers())
    every = Answers.joined(found)
    assert every is not None  # there were images
    return figures, every


def evaluate_ten_crop(network: nn.Module, batches: Iterable[Split], size: int) -> dict[str, float | None]:
    """Return the same for the mean of the softmax over ten crops: four corners and the centre, `size`×`size`, each also
    mirrored.

    The batches contain whole images; the paper resizes their shorter side to 256 for crops of 224.
    """

    # imported here, as torchvision takes a second and training does not need it
    from torchvision.transforms.v2.functional import ten_crop

    def answer(images: Tensor) -> Tensor:
        crops = torch.stack(ten_crop(images, [size, size]))  # [10, B, C, size, size]
        return mean_of_softmax(_scores(network, crops.flatten(0, 1)).unflatten(0, crops.shape[:2]))

    with in_mode(network, training=False), torch.no_grad():
        return tally((answer(images), labels) for images, labels in _at(network, batches))


def evaluate_multi_scale(network: nn.Module, scales: Sequence[Iterable[Split]]) -> dict[str, float | None]:
    """Return the same for the mean of the softmax over scales, the network applied fully convolutionally to whole
    images.

    `scales` are the same images in the same order, at each size. Fully convolutional: the classifier, as a 1×1
    convolution, gives scores at every position of the last maps, and these scores (before the softmax) are averaged
    over positions, as in the work that the paper cites (Simonyan & Zisserman 2015, section 3.2). As the classifier
    after global average pooling is linear, this mean is the network's own output for the larger image, which is
    computed here. The paper averages "the scores at multiple scales" and does not say on which side of the softmax;
    here the probabilities are averaged, as for the ten crops.

    Raises:
        UserError: if the network does not end in global average pooling and a linear classifier.
    """
    with in_mode(network, training=False), torch.no_grad():
        return tally(_multi_scale(network, scales))


def _multi_scale(network: nn.Module, scales: Sequence[Iterable[Split]]) -> Iterator[Split]:
    checked = False
    for views in zip(*(_at(network, batches) for batches in scales), strict=True):
        if not checked:
            check_pools_globally(network, views[-1][0][:1])
            checked = True
        yield mean_of_softmax(torch.stack([_scores(network, images) for images, _ in views])), views[0][1]


def tally(answers: Iterable[Split]) -> dict[str, float | None]:
    """Return error, top-5 error and loss from scores `[B, classes]` (logits, or logarithms of probabilities) and
    labels.

    Raises:
        UserError: if there are no images, or a label has no score.
    """
    loss, wrong, wrong5, n = 0.0, 0, 0, 0
    for scores, given in answers:
        labels = _checked(given, scores)
        n += len(labels)
        loss += F.cross_entropy(scores, labels, reduction="sum").item()
        finite = scores.amax(1).isfinite()
        top = scores.topk(min(5, scores.shape[1])).indices
        wrong += int(misses(scores, labels).sum())
        wrong5 += len(labels) - int(((top == labels[:, None]).any(1) & finite).sum())
    if not n:
        raise MissingError(*worded("nothing-to-evaluate"))
    return {"error": wrong / n, "top5_error": wrong5 / n, "loss": loss / n if math.isfinite(loss) else None}


def _checked(labels: Tensor, scores: Tensor) -> Tensor:
    """Return labels as int64 `[B]`, after checking that each is the number of a class that has a score."""
    labels = class_numbers(labels)
    if len(labels) and (lowest := int(labels.min())) < 0:
        raise MismatchError(*worded("negative-label", label=lowest))
    if len(labels) and (highest := int(labels.max())) >= scores.shape[1]:
        raise MismatchError(
            *worded("label-without-output", highest=highest, needed=highest + 1, outputs=scores.shape[1])
        )
    return labels


def class_numbers(labels: Tensor) -> Tensor:
    """Return labels as int64 `[B]`.

    Raises:
        UserError: if they are anything else than whole numbers, one per image.
    """
    if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex():
        kind, shape = str(labels.dtype).removeprefix("torch."), list(labels.shape)
        raise MismatchError(*worded("no-class-numbers", kind=kind, shape=shape))
    return labels.long()


def misses(scores: Tensor, labels: Tensor) -> Tensor:
    """Return which answers are wrong, `[B]`, from scores `[B, classes]`; NaN and infinity count as wrong, but not the
    minus infinity of classes that are ruled out.
    """
    return (scores.argmax(1) != labels) | ~scores.amax(1).isfinite()


def mean_of_softmax(logits: Tensor) -> Tensor:
    """Return the logarithm of the softmax's mean over the first dimension of `[V, B, classes]`; a probability of 0
    counts as the smallest positive number.
    """
    return logits.float().softmax(2).mean(0).clamp(min=torch.finfo(torch.float32).tiny).log()


def check_pools_globally(network: nn.Module, images: Tensor) -> None:
    """Check that the network ends in global average pooling and a linear classifier, by its values and not by names.

    Raises:
        UserError: if it does not.
    """
    try:
        with _GlobalMeans() as means:
            logits = logits_of(network(images))
    except Exception as error:  # torchvision's and timm's transformers assert a size
        side = "×".join(map(str, images.shape[2:]))
        raise UnseenError(*worded("not-convolutional-at-size", side=side, reason=in_one_line(error))) from error
    if means.last is None or not any(
        torch.allclose(scores, logits, rtol=1e-3, atol=1e-4) for scores in _linear(network, means.last)
    ):
        raise UnseenError(*worded("not-convolutional"))


def _linear(network: nn.Module, features: Tensor) -> Iterator[Tensor]:
    """Yield the output of each linear map among the network's parameters for features `[B, F]`."""
    parameters = [parameter for parameter in network.parameters() if parameter.ndim <= 2]
    for weight in parameters:
        if weight.ndim == 2 and weight.shape[1] == features.shape[1]:
            yield F.linear(features, weight)
            yield from (F.linear(features, weight, bias) for bias in parameters if bias.shape == weight.shape[:1])


class _GlobalMeans(TorchDispatchMode):
    """Records the last average of maps over all positions: `last`, `[B, C]`, or None."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.mean.dim and args[0].ndim == 4 and sorted(axis % 4 for axis in args[1]) == [2, 3]:
            self.last = out.flatten(1)
        return out


def logits_of(answer: Any) -> Any:
    """Return a network's output, or its logits if they are named among several outputs, as for Hugging Face's
    classifiers.
    """
    return getattr(answer, "logits", answer)


def _scores(network: nn.Module, images: Tensor) -> Tensor:
    """Return the network's scores `[B, classes]` in float32.

    Raises:
        UserError: if it returns anything else.
    """
    with told(f"{type(network).__name__} on images {list(images.shape)}"):
        scores = logits_of(network(images))
    if not isinstance(scores, Tensor) or scores.dim() != 2 or len(scores) != len(images):
        found = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise UnseenError(*worded("no-class-scores", count=len(images), found=found))
    return scores.float()


def _at(network: nn.Module, batches: Iterable[Split]) -> Iterator[Split]:
    """Yield the batches on the network's device."""
    device = device_of(network)
    for images, labels in batches:
        yield images.to(device), labels.to(device)
