"""Trained networks: their errors on a data set, and their predictions for images."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reslab.data import Augment, Dataset, load_data
from reslab.data.batches import pair
from reslab.data.dataset import BATCH_PIXELS, Part, PartName, Split
from reslab.data.decoding import decode, left_out
from reslab.data.images import Images, Ragged, Statistics
from reslab.errors import (
    DamagedError,
    Language,
    MismatchError,
    MissingError,
    UnseenError,
    Wording,
    WrongValueError,
    check_one_of,
    few,
    told,
    worded,
)
from reslab.networks import zoo
from reslab.networks.pretrained import is_word
from reslab.progress import Progress, silent
from reslab.state import in_mode
from reslab.subject import Subject, prepared_for
from reslab.training.batchnorm import true_average
from reslab.training.evaluation import SCALES, evaluate_multi_scale, evaluate_ten_crop, logits_of
from reslab.training.evaluation import evaluate as errors_of
from reslab.training.layout import fastest_layout
from reslab.training.objective import Batch, Classes, OwnLoss
from reslab.weights.shipped import locate
from reslab.weights.untold import Asked, ZeroPadSide

if TYPE_CHECKING:
    import pandas as pd

View = Literal["single", "ten-crop", "multi-scale"]
WORDS: dict[Language, dict[str, str]] = {
    "ko": {
        "own": "{model}, 이미지 {images:,}장: {figures}",
        "all": "{model}, {data}의 {part} 이미지 {images:,}장, {view}, {size}:\n{figures}\n"
        "평균 ({mean})과 표준편차 ({std}): {whose}. 배치 정규화의 통계: {batchnorm}",
        "error": "top-{} 오류 {:.2f} %",
        "loss": "손실 {}",
        "endless": "유한하지 않음",
        "size": "이미지의 크기 그대로",
        "weights": "가중치의 메타데이터에서",
        "training": "데이터의 훈련 이미지에서",
        "train": "훈련",
        "heldout": "검증",
        "test": "테스트",
    },
    "en": {
        "own": "{model} on {images:,} images: {figures}",
        "all": "{model} on the {part} part of {data} ({images:,} images), {view} view at {size}:\n{figures}\n"
        "mean ({mean}) and standard deviation ({std}) from {whose}; BatchNorm statistics: {batchnorm}",
        "error": "top-{} error {:.2f} %",
        "loss": "loss {}",
        "endless": "not finite",
        "size": "the images' own size",
        "weights": "the weights' metadata",
        "training": "the data's own training part",
        "train": "train",
        "heldout": "heldout",
        "test": "test",
    },
}


class Evaluation(dict[str, Any]):
    """The errors of trained weights on a part of a data set, and how the images were prepared; prints as a table."""

    def __repr__(self) -> str:
        """Return both in English."""
        return self.text("en")

    def text(self, language: Language) -> str:
        """Return both in words."""
        words = WORDS[language]
        loss = words["endless"] if self["loss"] is None else f"{self['loss']:.4f}"
        errors = {best: self[f"top{best}_error"] for best in (1, 5)}
        figures = ", ".join(
            [words["error"].format(best, 100 * error) for best, error in errors.items() if error is not None]
            + [words["loss"].format(loss)]
        )
        if "preprocessing" not in self:  # of one's own network, whose images were prepared already
            return words["own"].format(model=self["model"], images=self["images"], figures=figures)
        how = self["preprocessing"]
        mean, std = (", ".join(f"{value:.4f}" for value in how[key]) for key in ("mean", "std"))
        return words["all"].format(
            **{key: self[key] for key in ("model", "data", "images", "view", "batchnorm")},
            part=words[self["part"]],
            size=f"{how['size']}×{how['size']}" if how["size"] else words["size"],
            figures=figures,
            mean=mean,
            std=std,
            whose=words["weights" if how["from"] == "weights" else "training"],
        )

    def to_frame(self) -> "pd.DataFrame":
        """Return the errors and all settings as one row."""
        import pandas as pd

        return pd.json_normalize(dict(self))

    def _repr_html_(self) -> str:
        return str(self.to_frame().T.to_html(header=False))


class Predictions(list[dict[str, Any]]):
    """The likeliest classes of each image and their probabilities; prints as a table."""

    def __repr__(self) -> str:
        """Return the classes of each image, the likeliest first."""
        lines: list[str] = []
        for one in self:
            lines.append(one["image"])
            lines += [f"  {100 * said['probability']:6.2f} %  {said['class']}" for said in one["classes"]]
        return "\n".join(lines)

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per image and class: `image`, `label`, `class`, `probability`, the likeliest class first."""
        import pandas as pd

        rows = [{"image": one["image"], **said} for one in self for said in one["classes"]]
        return pd.DataFrame(rows, columns=["image", "label", "class", "probability"])

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(index=False))


def evaluate(
    model: str | nn.Module,
    weights: str | Path | None = None,
    data: str | Dataset | Iterable[Any] = "digits",
    *,
    loss: Callable[[Any, Any], Float[Tensor, ""]] | None = None,
    part: PartName = "test",
    view: View = "single",
    size: int | None = None,
    batchnorm: Literal["stored", "true-average"] = "stored",
    zero_pad: ZeroPadSide | None = None,
    raw: bool = False,
    download: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> Evaluation:
    """Return the errors of trained weights on a part of a data set, as `reslab evaluate … --json` prints them; or
    those of one's own network.

    Args:
        model: the network's name, or any network as it is, which takes `data`, its `part` and `size`, and `loss` alone.
        weights: of a named network: a file, or the name of trained ones: "digits", "torchvision", "pretrained",
            "hf:microsoft/resnet-50".
        data: a data set, or its name as `load_data` takes it; for one's own network also a loader, whose batches are
            pairs, triples or dicts of images and labels.
        loss: of outputs and labels, a mean over the images, for one's own network; the mean cross-entropy where there
            is none. Errors are None where outputs are no classes.
        part: "heldout" for choices, "test" for final figures.
        view: "single", "ten-crop" or "multi-scale".
        size: image size in pixels; by default that of the weights' metadata, else of the network's paper.
        batchnorm: "true-average" computes BatchNorm's statistics from all training images, in place of the file's.
        zero_pad: where the file's option A puts its zero channels; only for files from elsewhere.
        raw: if a file holds both weights and their average, use the weights.
        download: download the data set if it is missing.
        progress: notified of the images done.
        options: of the network.

    Examples:
        >>> import reslab
        >>> found = reslab.evaluate("resnet20", "digits", part="heldout")
        >>> found["images"], found["top1_error"] < 0.1
        (163, True)
        >>> network = reslab.build("resnet20", weights="digits")
        >>> loader = [reslab.load_data("digits").heldout]  # batches, as of a DataLoader
        >>> reslab.evaluate(network, data=loader)["images"]
        163

    Raises:
        UserError: if weights, network and images do not fit together.
    """
    check_one_of("view", view, get_args(View))
    check_one_of("batchnorm", batchnorm, ("stored", "true-average"))
    check_one_of("part", part, get_args(PartName))
    if size is not None and (not isinstance(size, int) or size < 1):
        raise WrongValueError(*worded("no-size", size=repr(size)))
    if isinstance(data, str):
        data = load_data(data, download=download, progress=progress)
    if isinstance(model, nn.Module):
        asked = {
            **{"weights": weights is not None, "options": bool(options), "view": view != "single", "raw": raw},
            **{"batchnorm": batchnorm != "stored", "zero_pad": zero_pad is not None},
            "size (with own batches)": size is not None and not isinstance(data, Dataset),
        }
        if unused := [name for name, given in asked.items() if given]:
            raise WrongValueError(*worded("own-network-takes-none", unused=", ".join(unused)))
        if isinstance(data, Dataset):
            data.part("train")  # whose statistics standardise
            data = data if size is None else replace(data, size=size)
        return _own(model, data.batches(part) if isinstance(data, Dataset) else map(pair, data), loss)
    if weights is None or loss is not None or not isinstance(data, Dataset):
        raise WrongValueError(*worded("loader-of-own-networks"))
    chosen = weights if is_word(weights) else locate(weights, model)
    subject, data = Subject.of(model, chosen, options, asked=Asked(zero_pad, raw=raw), like=data).seeing(data, size)
    layout = fastest_layout(subject.network, data.sample(part, 2)[0])
    network = subject.network.to(memory_format=layout)
    start = perf_counter()
    if batchnorm == "true-average":
        true_average(network, _told(data.shuffled(), progress, "averaging BatchNorm statistics", len(data.labels)))
    figures = look(network, data, part, view, progress)
    return Evaluation(
        model=model,
        weights=str(chosen),
        data=data.name,
        part=part,
        images=len(data.part(part).labels),
        view=view,
        batchnorm=batchnorm,
        top1_error=figures["error"],
        top5_error=figures["top5_error"],
        loss=figures["loss"],
        classes=list(data.classes),
        preprocessing={
            "from": subject.standardised,
            "mean": list(data.statistics.mean),
            "std": list(data.statistics.std),
            "size": data.size,
            # crops and scales have their own resizing
            "framing": None if data.framing is None or view != "single" else asdict(data.framing),
        },
        seconds=round(perf_counter() - start, 3),
    )


def _own(network: nn.Module, batches: Iterable[Batch], loss: Callable[[Any, Any], Tensor] | None) -> Evaluation:
    images = 0

    def counted() -> Iterator[Batch]:
        nonlocal images
        for batch in batches:
            yield batch
            images += len(batch[1])

    start = perf_counter()
    figures, _ = (Classes() if loss is None else OwnLoss(loss)).evaluate_each(network, counted())
    return Evaluation(
        model=type(network).__name__,
        images=images,
        top1_error=figures["error"],
        top5_error=figures.get("top5_error"),
        loss=figures["loss"],
        seconds=round(perf_counter() - start, 3),
    )


def look(network: nn.Module, data: Dataset, part: PartName, view: View, progress: Progress) -> dict[str, float | None]:
    """Return the errors of a network on a part, in one view."""
    total = len(data.part(part).labels)
    if view == "single":
        return errors_of(network, _told(data.batches(part), progress, "evaluating", total))
    images = data.part(part).images
    size = data.size or (min(images.shape[2:]) if isinstance(images, Tensor) else zoo.input_shape(network)[1])
    if view == "ten-crop":
        whole = data.resized(part, round(size * 8 / 7), max(1, BATCH_PIXELS // (10 * size**2)))
        return evaluate_ten_crop(network, _told(whole, progress, "evaluating ten crops", total), size)
    sides = [round(side * size / 224) for side in SCALES]
    first, *others = (data.resized(part, side, max(1, BATCH_PIXELS // sides[-1] ** 2)) for side in sides)
    return evaluate_multi_scale(
        network, [_told(first, progress, f"evaluating at {', '.join(map(str, sides))}", total), *others]
    )


def _told(batches: Iterable[Split], progress: Progress, what: str, total: int) -> Iterator[Split]:
    done = 0
    for images, labels in batches:
        yield images, labels
        done += len(labels)
        progress(what, done, total)


def predict(
    model: str,
    images: str | PathLike[str] | Sequence[str | PathLike[str]],
    weights: str | Path,
    *,
    top: int = 5,
    size: int | None = None,
    zero_pad: ZeroPadSide | None = None,
    **options: Any,
) -> Predictions:
    """Return for each image that can be decoded its `image` and the likeliest `classes` with their `probability`, as
    `reslab predict … --json` prints them.

    Args:
        model: the network's name.
        images: one image file or several, each prepared as the weights' metadata say.
        weights: as for `evaluate`.
        top: how many classes.
        size: image size in pixels; by default that of the weights' metadata.
        zero_pad: as for `evaluate`.
        options: of the network.

    Examples:
        >>> import reslab
        >>> from PIL import Image
        >>> Image.new("L", (8, 8)).save("dark.png")
        >>> (said,) = reslab.predict("resnet20", "dark.png", "digits", top=2)
        >>> said["image"], len(said["classes"])
        ('dark.png', 2)

    Raises:
        UserError: if an image is missing or none can be decoded, or network, weights and images do not fit
            together.
    """
    paths = [Path(path) for path in ([images] if isinstance(images, str | PathLike) else images)]
    if absent := [str(path) for path in paths if not path.is_file()]:
        raise MissingError(*worded("no-image", names=few(absent)))
    chosen = weights if is_word(weights) else locate(weights, model)
    subject = Subject.of(model, chosen, options, asked=Asked(zero_pad))
    kept = dict((subject.metadata or {}).get("preprocessing", {}))
    names = kept.pop("classes", None)
    if not {"mean", "std"} <= kept.keys():
        raise MissingError(*worded("not-said-how-normalised", weights=weights))
    count = len(kept["mean"])
    channels, *_ = getattr(subject.network, "input_shape", (count,))  # a factory's network has none
    if count != channels:
        raise MismatchError(*worded("statistics-of-others", weights=weights, count=count, channels=channels))
    if top < 1:
        raise WrongValueError(*worded("top-out-of-range", top=top))
    mode = "L" if count == 1 else "RGB"
    found = Predictions()
    broken: list[str] = []
    with in_mode(subject.network, training=False), torch.no_grad():
        for path in paths:
            pixels = decode(path, mode)
            if pixels is None:
                broken.append(str(path))
                continue
            data, _ = prepared_for(subject.network, _alone(pixels, kept, subject.network), kept, size)
            pixels = data.test[0]
            with told(f"{model} on an image of {'×'.join(map(str, pixels.shape[2:]))}"):
                scores = logits_of(subject.network(pixels))
            if not isinstance(scores, torch.Tensor) or scores.dim() != 2:
                raise UnseenError(*worded("no-scores-of-an-image", model=model))
            if names and len(names) != scores.shape[1]:
                raise MismatchError(
                    *worded("classes-of-others", weights=weights, names=len(names), classes=scores.shape[1])
                )
            if not scores.amax(1).isfinite().all():  # a class that is ruled out has minus infinity
                raise UnseenError(*worded("scores-not-finite", model=model, image=path))
            shares = scores.float().softmax(1)[0]
            best = shares.topk(min(top, len(shares)))
            said = [
                {"class": names[label] if names else str(label), "label": label, "probability": share}
                for share, label in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
            found.append({"image": str(path), "classes": said})
    if not found:
        raise DamagedError(*worded("no-image-decoded", count=f"{len(paths):,}", names=few(broken)))
    if broken:
        warnings.warn(left_out(broken, len(paths)), stacklevel=2)
    return found


def _alone(pixels: Tensor, kept: Mapping[str, Any], network: nn.Module) -> Dataset:
    """Return an image as a data set of its own. It is as it is where the network was trained on images that were not
    resized; where the weights do not say, if it is no larger than the network's input.
    """
    own = zoo.input_shape(network)[1]
    as_it_is = kept.get("size") is None and ("size" in kept or max(pixels.shape[1:]) <= own)
    images: Images = pixels[None] if as_it_is else Ragged(pixels.flatten(), torch.tensor([pixels.shape]))
    some = tuple(kept["mean"])
    return Dataset(
        name="the image",
        parts={"test": Part(images, torch.zeros(1, dtype=torch.int64))},
        classes=(),
        statistics=Statistics(some, tuple(kept["std"]), ()),
        augment=Augment(0, False),
        split_rule=Wording("an image by itself", "이미지 한 장"),
    )
