"""What `reslab evaluate` does: a file's weights, a data set's images, prepared as the file says, in one of the paper's views."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reslab.data.dataset import BATCH_PIXELS, Dataset, PartName, Split
from reslab.errors import UserError
from reslab.networks import zoo
from reslab.progress import Progress
from reslab.training.batchnorm import true_average
from reslab.training.evaluation import SCALES, evaluate, evaluate_multi_scale, evaluate_ten_crop
from reslab.weights.files import read_weights
from reslab.weights.shipped import TORCHVISION
from reslab.weights.untold import ZeroPadSide

View = Literal["single", "ten-crop", "multi-scale"]
STATISTICS_BATCH = 256
LARGEST_SIZE = 2048


def evaluate_file(
    model: str,
    file: Path,
    data: Dataset,
    *,
    part: PartName = "test",
    view: View = "single",
    size: int | None = None,
    average_batchnorm: bool = False,
    zero_pad: ZeroPadSide | None = None,
    options: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Return the errors of a file's weights on a part of a data set, and how the images were prepared.

    `size` is the side that the network sees: by default the one in the file's metadata, else that of the network's paper.

    Raises:
        UserError: if weights, network and images do not go together.
    """
    network, data, source = trained(model, file, data, size=size, zero_pad=zero_pad, options=options)
    network.to(memory_format=torch.channels_last)  # the layout that convolutions are fastest in
    start = perf_counter()
    if average_batchnorm:
        true_average(network, _watched(shuffled(data), progress, "averaging BatchNorm statistics", len(data.labels)))
    figures = look(network, data, part, view, progress)
    return {
        "model": model,
        "weights": str(file),
        "data": data.name,
        "part": part,
        "images": len(data.parts[part].labels),
        "view": view,
        "batchnorm": "true-average" if average_batchnorm else "stored",
        "top1_error": figures["error"],
        "top5_error": figures["top5_error"],
        "loss": figures["loss"],
        "classes": list(data.classes),
        "preprocessing": {"from": source, "mean": data.statistics.mean, "std": data.statistics.std, "size": data.size},
        "seconds": round(perf_counter() - start, 3),
    }


STEPS_TO_SETTLE = 100
"""Before so many steps BatchNorm's moving averages (momentum 0.1, so of about the last ten steps) may lag behind weights that still move fast."""


def true_average_errors(network: nn.Module, data: Dataset) -> dict[str, float | None] | None:
    """Return a network's error on each part with BatchNorm's statistics averaged over the training images; None where it keeps none."""
    try:
        true_average(network, shuffled(data))
    except UserError:
        return None
    parts: tuple[PartName, ...] = ("train", "heldout", "test")
    return {part: evaluate(network, data.batches(part))["error"] for part in parts}


def trained(
    model: str, file: Path, data: Dataset, *, size: int | None = None, zero_pad: ZeroPadSide | None, options: Mapping[str, Any]
) -> tuple[nn.Module, Dataset, Literal["weights", "data"]]:
    """Return the network with a file's weights, and the data set seen as they want it; whose mean and deviation these are.

    Raises:
        UserError: if weights, network and images do not go together.
    """
    if file == TORCHVISION:
        network, metadata = zoo.torchvisions(model, options)
    else:
        weights = read_weights(file)
        metadata = weights.metadata
        classes = metadata.get("preprocessing", {}).get("classes") or data.classes
        network, _ = zoo.loaded(model, weights, zero_pad, options, {"num_classes": len(classes), "in_channels": data.in_channels})
    kept = metadata.get("preprocessing", {})
    seen, origin = prepared_for(network, data, kept, size)
    told_apart = metadata.get("card", {"made_for": {}})["made_for"].get("num_classes", data.num_classes)
    if not kept.get("classes") and told_apart != data.num_classes:
        raise UserError(
            f"the weights tell {told_apart} classes apart, and {data.name} has {data.num_classes}; give the --data that they were trained on"
        )
    return network, seen, origin


def prepared_for(network: nn.Module, data: Dataset, kept: Mapping[str, Any], size: int | None) -> tuple[Dataset, Literal["weights", "data"]]:
    """Return the data set seen as a weights file's `preprocessing` says, and whether mean and deviation are the weights' or the data's.

    Labels are those that the classes have in the file, by their names.

    Raises:
        UserError: if the file's are for another number of channels or other classes, or the size is out of range.
    """
    if kept.get("classes"):  # files of others, and our old ones, name none
        known = len(kept["classes"])
        if data.num_classes < known:
            warnings.warn(f"{data.name} has {data.num_classes} of the {known} classes that the weights tell apart", stacklevel=2)
        data = data.labelled(kept["classes"])
    own = zoo.input_shape(network)[1]
    side = size if size is not None else kept.get("size", own)
    if side is not None and not 2 <= side <= LARGEST_SIZE:
        raise UserError(f"--size must be from 2 to {LARGEST_SIZE:,}, got {side}")
    data = replace(data, size=side) if side is not None else data.fitted(own)
    if "mean" not in kept or "std" not in kept:
        return data, "data"
    mean, std = tuple(kept["mean"]), tuple(kept["std"])
    if not len(mean) == len(std) == data.in_channels:
        trained_on = f", trained on {kept['data']}," if isinstance(kept.get("data"), str) else ""
        raise UserError(
            f"the weights{trained_on} take images of {len(mean)} channels, and those of {data.name} have {data.in_channels}; give other --data"
        )
    return replace(data, statistics=data.statistics._replace(mean=mean, std=std)), "weights"


def look(network: nn.Module, data: Dataset, part: PartName, view: View, progress: Progress) -> dict[str, float | None]:
    """Return the errors of a network on a part, in one view."""
    total = len(data.parts[part].labels)
    if view == "single":
        return evaluate(network, _watched(data.batches(part), progress, "evaluating", total))
    images = data.parts[part].images
    size = data.size or (min(images.shape[2:]) if isinstance(images, Tensor) else zoo.input_shape(network)[1])
    if view == "ten-crop":
        whole = data.resized(part, round(size * 8 / 7), max(1, BATCH_PIXELS // (10 * size**2)))
        return evaluate_ten_crop(network, _watched(whole, progress, "evaluating ten crops", total), size)
    sides = [round(side * size / 224) for side in SCALES]
    first, *others = (data.resized(part, side, max(1, BATCH_PIXELS // sides[-1] ** 2)) for side in sides)
    return evaluate_multi_scale(network, [_watched(first, progress, f"evaluating at {', '.join(map(str, sides))}", total), *others])


def shuffled(data: Dataset) -> Iterator[Split]:
    """Yield the training images, not augmented, in batches of about 256 that mix the classes as training does."""
    order = torch.randperm(len(data.labels), generator=torch.Generator().manual_seed(0))
    for index in order.tensor_split(-(-len(order) // STATISTICS_BATCH)):
        yield data.training_batch(index, None)


def _watched(batches: Iterable[Split], progress: Progress, what: str, total: int) -> Iterator[Split]:
    done = 0
    for images, labels in batches:
        yield images, labels
        done += len(labels)
        progress(what, done, total)
