"""How well a network does: in one view of each image, in ten, or at several scales (He et al. 2015, section 3.4)."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from reslab.errors import MismatchError, MissingError, UnseenError
from reslab.state import in_mode

Split = tuple[Tensor, Tensor]
SCALES = (224, 256, 384, 480, 640)
"""The paper's shorter sides, for a network that sees 224×224."""


def evaluate(network: nn.Module, batches: Iterable[Split]) -> dict[str, float | None]:
    """Return `error` and `top5_error` (fractions) and the mean cross-entropy `loss` (nats; None if not finite) in
    evaluation mode.

    The batches hold each image once. A network that answers with NaN or infinity is wrong. The network's mode is
    restored.
    """
    with in_mode(network, training=False), torch.no_grad():
        return tally((_scores(network, images), labels) for images, labels in _at(network, batches))


class Answers(NamedTuple):
    """What each image is, and what it is taken for, `[N]` each in order; -1 where the scores are not finite."""

    labels: Tensor
    taken_for: Tensor
    classes: int

    @property
    def wrong(self) -> Tensor:
        """Return which images the network gets wrong, `[N]`."""
        return self.taken_for != self.labels

    def confusion(self) -> list[list[int]]:
        """Return how many images of each class are taken for each, `[classes][classes]`, and in a last column for
        none, as their scores are not finite.
        """
        columns = torch.where(self.taken_for < 0, self.classes, self.taken_for)
        counts = torch.bincount(self.labels * (self.classes + 1) + columns, minlength=self.classes * (self.classes + 1))
        table: list[list[int]] = counts.reshape(self.classes, self.classes + 1).tolist()
        return table


def evaluate_each(network: nn.Module, batches: Iterable[Split]) -> tuple[dict[str, float | None], Answers]:
    """Return the same, and what each image is taken for, in order."""
    found: list[Split] = []
    classes = 0

    def answers() -> Iterator[Split]:
        nonlocal classes
        for images, labels in _at(network, batches):
            scores = _scores(network, images)
            classes = scores.shape[1]
            yield scores, labels
            found.append((labels.cpu(), torch.where(scores.isfinite().all(1), scores.argmax(1), -1).cpu()))

    with in_mode(network, training=False), torch.no_grad():
        figures = tally(answers())
    labels, taken_for = map(torch.cat, zip(*found, strict=True))
    return figures, Answers(labels, taken_for, classes)


def evaluate_ten_crop(network: nn.Module, batches: Iterable[Split], size: int) -> dict[str, float | None]:
    """Return the same for the mean of the softmax over ten crops: four corners and the centre, `size`×`size`, each also
    mirrored.

    The batches hold whole images; the paper resizes their shorter side to 256 for crops of 224.
    """

    # here, as torchvision takes a second to import and training needs none of it
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
    convolution, gives scores at every place of the last maps, and the scores (before the softmax) are averaged over the
    places, as in the work that the paper cites for it (Simonyan & Zisserman 2015, section 3.2). After global average
    pooling the classifier is linear, so that mean is the network's own output for the larger image, which is what is
    computed; the mean of each place's softmax would be something else. The paper averages "the scores at multiple
    scales" and does not say on which side of the softmax; here it is the probabilities, as the ten crops do.

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
        UserError: if there are no images, or a label is of a class that has no score.
    """
    loss, wrong, wrong5, n = 0.0, 0, 0, 0
    for scores, labels in answers:
        if len(labels) and (highest := int(labels.max())) >= scores.shape[1]:
            raise MismatchError(
                f"label {highest} needs at least {highest + 1} outputs; the network returns {scores.shape[1]}"
            )
        n += len(labels)
        loss += F.cross_entropy(scores, labels, reduction="sum").item()
        finite = scores.isfinite().all(1)
        top = scores.topk(min(5, scores.shape[1])).indices
        wrong += int(misses(scores, labels).sum())
        wrong5 += len(labels) - int(((top == labels[:, None]).any(1) & finite).sum())
    if not n:
        raise MissingError("there are no images to evaluate")
    return {"error": wrong / n, "top5_error": wrong5 / n, "loss": loss / n if math.isfinite(loss) else None}


def misses(scores: Tensor, labels: Tensor) -> Tensor:
    """Return which answers are wrong, `[B]`, from scores `[B, classes]`; one with NaN or infinity is."""
    return (scores.argmax(1) != labels) | ~scores.isfinite().all(1)


def mean_of_softmax(logits: Tensor) -> Tensor:
    """Return the logarithm of the mean, over the first of `[V, B, classes]`, of the softmax; a probability of 0 counts
    as the smallest number.
    """
    return logits.float().softmax(2).mean(0).clamp(min=torch.finfo(torch.float32).tiny).log()


def check_pools_globally(network: nn.Module, images: Tensor) -> None:
    """Check that the network ends in global average pooling and a linear classifier, from what it computes and not from
    its names.

    Raises:
        UserError: if it does not.
    """
    try:
        with _GlobalMeans() as means:
            logits = logits_of(network(images))
    except RuntimeError as error:
        side = "×".join(map(str, images.shape[2:]))
        raise UnseenError(
            f"this network cannot be applied fully convolutionally: it rejects a {side} image "
            f"({str(error).splitlines()[0]})"
        ) from error
    if means.last is None or not any(
        torch.allclose(scores, logits, rtol=1e-3, atol=1e-4) for scores in _linear(network, means.last)
    ):
        raise UnseenError(
            "this network cannot be applied fully convolutionally: it does not end in global average pooling and a "
            "linear classifier; use --view single or ten-crop"
        )


def _linear(network: nn.Module, features: Tensor) -> Iterator[Tensor]:
    """Yield what each linear map in the network's parameters makes of `[B, F]` features."""
    parameters = [parameter for parameter in network.parameters() if parameter.ndim <= 2]
    for weight in parameters:
        if weight.ndim == 2 and weight.shape[1] == features.shape[1]:
            yield F.linear(features, weight)
            yield from (F.linear(features, weight, bias) for bias in parameters if bias.shape == weight.shape[:1])


class _GlobalMeans(TorchDispatchMode):
    """Keeps the last average of maps over all places: `last`, `[B, C]`, None where there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.mean.dim and args[0].ndim == 4 and sorted(axis % 4 for axis in args[1]) == [2, 3]:
            self.last = out.flatten(1)
        return out


def logits_of(answer: Any) -> Any:
    """Return what a network gives, or its logits where it gives them by name among other things, as Hugging Face's
    classifiers do.
    """
    return getattr(answer, "logits", answer)


def _scores(network: nn.Module, images: Tensor) -> Tensor:
    """Return the network's scores `[B, classes]` in float32.

    Raises:
        UserError: if it gives anything else.
    """
    scores = logits_of(network(images))
    if not isinstance(scores, Tensor) or scores.dim() != 2 or len(scores) != len(images):
        found = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise UnseenError(f"expected class scores [{len(images)}, classes]; the network returns {found}")
    return scores.float()


def _at(network: nn.Module, batches: Iterable[Split]) -> Iterator[Split]:
    """Yield the batches on the network's device."""
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    for images, labels in batches:
        yield images.to(device), labels.to(device)
