"""Published trained networks, by name: torchvision's, timm's and Hugging Face's, which these libraries download and
cache, with their preparation of images and class names.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from reslab.errors import (
    FailedError,
    MismatchError,
    MissingError,
    UnknownNameError,
    UserError,
    Wording,
    suggested,
    worded,
)
from reslab.networks import zoo
from reslab.networks.sources import HUGGING_FACE, configuration, from_hub, needed
from reslab.state import in_mode
from reslab.weights.files import WeightFile
from reslab.weights.fitting import classifier
from reslab.weights.origins import Facts, configured
from reslab.weights.untold import Asked, fitted, strides

TORCHVISION = "torchvision"
PRETRAINED = "pretrained"
RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's, by its numbers, as Hugging Face's processors have them."""


class Pretrained(NamedTuple):
    """A trained network, metadata in the format of reslab's files, and the network's options."""

    network: nn.Module
    metadata: dict[str, Any]
    options: dict[str, Any]


TORCHVISION_OPTIONS: dict[str, dict[str, str]] = {
    **{name: {"stride_in": "3x3"} for name in ("resnet50", "resnet101", "resnet152")},
    **{name: {"rounding": "torchvision"} for name in ("regnet_x_400mf", "regnet_y_800mf", "regnet_y_8gf")},
}
"""Options that make a network torchvision's of the same name, where torchvision departs from the paper."""


def is_word(weights: object) -> bool:
    """Return whether weights are the name of published ones: `torchvision`, `torchvision:NAME`, `pretrained`, or the
    name of a trained network, `timm/NAME[.TAG]` or `hf:ORG/NAME`.
    """
    word = str(weights)
    return word == PRETRAINED or word.partition(":")[0] == TORCHVISION or _is_name(word)


def _is_name(word: str) -> bool:
    return word.startswith(tuple(_SOURCES)) and not Path(word).exists()


def pretrained(model: str, word: str, options: Mapping[str, Any], asked: Asked | None = None) -> Pretrained:
    """Return a trained network: with `torchvision`, torchvision's default weights, with `torchvision:NAME` those of
    that name, in this lab's network or torchvision's own; with `pretrained`, what the source of `timm/NAME[.TAG]`,
    `hf:ORG/NAME` or `torchvision/NAME` has trained; with the name of such a network, the same, or its weights in this
    lab's network. With a head asked for, its classifier is replaced, of whatever number of classes.

    Weights that are not in the library's cache are downloaded.

    Raises:
        UserError: if there are no such weights, they cannot be obtained, or they do not fit the options.
    """
    asked = asked or Asked()
    if _is_name(word) and word != model:
        return _in_ours(model, word, options, asked)
    if asked.head is not None and model.startswith(("torchvision/", *_SOURCES)):
        return _headed(model, word, options, asked)
    if word.partition(":")[0] == TORCHVISION or model.startswith("torchvision/"):
        return _torchvisions(model, word.partition(":")[2], options, asked)
    source = next((_SOURCES[prefix] for prefix in _SOURCES if model.startswith(prefix)), None)
    if source is None:
        raise MissingError(*worded("no-source-of-weights", model=model))
    if taken := sorted({"num_classes", "in_channels"} & options.keys()):
        raise MismatchError(*worded("fixed-by-weights", model=model, option=taken[0]))
    return source(model, dict(options))


def _headed(model: str, word: str, options: Mapping[str, Any], asked: Asked) -> Pretrained:
    """Return a library's own trained network with the classifier of a fresh one, or none; the rest must be alike."""
    made = pretrained(model, word, {key: value for key, value in options.items() if key != "num_classes"})
    fresh, name = zoo.fresh(model, options), classifier(made.network)
    fitted(fresh, WeightFile(Path(model), {"": made.network.state_dict()}, {}), asked)
    assert name is not None  # there would be nothing to fit
    made.network.set_submodule(name, fresh.get_submodule(name))
    return made._replace(options=dict(options))


def _in_ours(model: str, name: str, options: Mapping[str, Any], asked: Asked) -> Pretrained:
    """Return another network with the weights of the trained one of this name, whose configuration states what the
    weights cannot.
    """
    zoo.check(model, **options)  # before anything is downloaded
    trained = pretrained(name, PRETRAINED, {})
    config = getattr(trained.network, "config", None)
    facts = Facts() if config is None else configured(config.to_dict(), f"the configuration of {name}")
    if "stride_in" not in facts.options and len(found := strides(trained.network)) == 1:
        facts = facts._replace(options={**facts.options, "stride_in": found.pop()})
    weights = WeightFile(Path(name), {"": trained.network.state_dict()}, {}, (), facts)
    own, _, told = zoo.loaded(model, weights, options, asked, trained.metadata["card"]["made_for"])
    if asked.head is None and not _is_same(own.network, trained):
        raise MismatchError(*worded("computes-something-else", model=model, name=name))
    return Pretrained(own.network, trained.metadata, told)


@torch.no_grad()
def _is_same(network: nn.Module, trained: Pretrained) -> bool:
    """Return whether a network with the weights of a trained one computes the same, but for rounding."""
    size = trained.metadata["preprocessing"]["size"]
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    found = []
    for each in (network, trained.network):
        with in_mode(each, training=False):
            answer = each(images)
        found.append(getattr(answer, "logits", answer))
    ours, theirs = found
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= 1e-3 * theirs.abs().max())


def _torchvisions(name: str, wanted: str, options: Mapping[str, Any], asked: Asked) -> Pretrained:
    from torchvision.models import get_model, get_model_weights, list_models

    short = name.removeprefix("torchvision/")
    known = list(get_model_weights(short)) if short in list_models() else []
    if not known:
        raise MissingError(*worded("not-trained-there", source="torchvision", name=name))
    names = [entry.name for entry in known]
    if wanted not in ("", "DEFAULT", *names):
        near = suggested(wanted, names)
        raise UnknownNameError(*worded("no-weights-in-torchvision", name=name, wanted=wanted, near=near))
    default = get_model_weights(short).DEFAULT
    trained = default if wanted in ("", "DEFAULT") else known[names.index(wanted)]
    theirs = TORCHVISION_OPTIONS.get(name, {})
    for option, value in theirs.items():
        if options.get(option, value) != value:
            raise MismatchError(*worded("torchvisions-for-option", name=name, option=option, value=value))
    try:
        # its own networks change with their weights: in the BatchNorms of detectors, in the inputs of Inception
        if short != name:
            network = get_model(short, weights=trained, **options)
        else:
            network = zoo.fresh(name, {**theirs, **options})
            state = trained.get_state_dict(check_hash=True)
            network.load_state_dict(fitted(network, WeightFile(Path(str(trained)), {"": state}, {}), asked).state)
    except OSError as error:
        raise _out_of_reach(worded("weights-of-source", source="torchvision", name=name), error) from error
    # options that do not go with the weights, or a download of another hash
    except (TypeError, ValueError, RuntimeError) as error:
        refusal = MismatchError(*worded("refused-with-weights", name=name, reason=error))
        raise error if isinstance(error, UserError) else refusal from error
    images, classes = trained.transforms(), list(trained.meta.get("categories", ()))
    kept: dict[str, Any] = {"classes": classes} if classes else {}
    if hasattr(images, "crop_size") and hasattr(images, "antialias"):  # a classifier of images, not of videos
        framing = {
            "size": images.crop_size[0],
            "resize": images.resize_size[0],
            "interpolation": images.interpolation.value,
        }
        kept |= {"mean": list(images.mean), "std": list(images.std), "size": images.crop_size[0], "framing": framing}
    return Pretrained(network, _metadata(kept, len(classes)), {**theirs, **options})


def _timms(name: str, options: dict[str, Any]) -> Pretrained:
    timm = needed("timm", name, "zoo")
    short = name.removeprefix("timm/")
    zoo.check(name, **options)
    if short not in timm.list_models(pretrained=True) and not timm.list_models(f"{short}.*", pretrained=True):
        raise MissingError(*worded("not-trained-there", source="timm", name=short))
    what = worded("weights-of-source", source="timm", name=name)
    network = _fetched(what, lambda: timm.create_model(short, pretrained=True, **options))
    from timm.data.config import resolve_model_data_config
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    wants = resolve_model_data_config(network)
    mode, size = wants["crop_mode"], wants["input_size"][1]
    if mode not in ("center", "squash") or wants["input_size"][1] != wants["input_size"][2]:
        raise MismatchError(*worded("unknown-framing", name=name, how=f"{mode}, {wants['input_size']}"))
    subset = infer_imagenet_subset(network)
    framing = {
        "size": size,
        "resize": math.floor(size / wants["crop_pct"]),
        "interpolation": wants["interpolation"],
        "squashed": mode == "squash",
    }
    kept = {"mean": list(wants["mean"]), "std": list(wants["std"]), "size": size, "framing": framing}
    if subset:
        kept["classes"] = ImageNetInfo(subset).label_descriptions()
    return Pretrained(network, _metadata(kept, network.num_classes), options)


def _hugging_faces(name: str, options: dict[str, Any]) -> Pretrained:
    transformers = needed("transformers", name, "hf")
    repository = name.removeprefix(HUGGING_FACE)
    if options:
        raise UnknownNameError(*worded("trained-takes-no-option", name=name, option=min(options)))
    whole, prepares = transformers.AutoModelForImageClassification, transformers.AutoImageProcessor
    network, images = _fetched(
        worded("weights-of-source", source="Hugging Face", name=name),
        lambda: (
            whole.from_pretrained(repository, config=configuration(repository, {})[0]).eval(),
            prepares.from_pretrained(repository),
        ),
    )
    labels = network.config.id2label
    classes = [str(labels[place]) for place in range(len(labels))]
    plain = {"mean": [0.0] * 3, "std": [1.0] * 3}
    normalised = getattr(images, "do_normalize", None)
    scaled = {"mean": list(images.image_mean), "std": list(images.image_std)} if normalised else plain
    if getattr(images, "include_top", None):  # EfficientNet's divides by the deviation once more
        scaled["std"] = [value**2 for value in scaled["std"]]
    framing = _framing(images)
    kept = {**scaled, "size": framing["size"], "framing": framing, "classes": classes}
    if not _is_prepared_so(images, kept):
        raise MismatchError(*worded("prepared-otherwise", kind=type(images).__name__))
    return Pretrained(network, _metadata(kept, len(classes)), {})


def _framing(images: Any) -> dict[str, Any]:
    """Return how an image processor of Hugging Face resizes and crops.

    Two kinds are special: ConvNeXT's crops a fraction below 384 and squashes from there on; LeViT's resizes to 256/224
    of the size.

    Raises:
        UserError: if its way is unknown here.
    """
    size, crop = dict(images.size or {}), dict(getattr(images, "crop_size", None) or {})
    size = {key: value for key, value in size.items() if value}
    side = size.get("shortest_edge") or (size.get("height") if size.get("height") == size.get("width") else None)
    scaled = math.isclose(float(images.rescale_factor), 1 / 255) if images.do_rescale else False
    if not (images.do_resize and side and scaled) or size.keys() - {"shortest_edge", "height", "width"}:
        raise MismatchError(*worded("unknown-framing", name=type(images).__name__, how=size))
    found = {"size": side, "resize": side, "squashed": "shortest_edge" not in size}
    kind = type(images).__name__
    if kind.startswith("ConvNext"):
        share = float(images.crop_pct)
        found |= {"squashed": True} if side >= 384 else {"resize": int(side / share)}
    else:
        if kind.startswith("Levit") and "shortest_edge" in size:
            found["resize"] = int(256 / 224 * side)
        if getattr(images, "do_center_crop", False):
            found["size"] = int(crop["height"])
    return {**found, "interpolation": RESAMPLING[int(images.resample)]}


def _is_prepared_so(images: Any, kept: Mapping[str, Any]) -> bool:
    """Return whether an image processor prepares a picture as these facts say, but for rounding and kernels."""
    from torchvision.transforms.v2 import functional

    framing, side = kept["framing"], kept["framing"]["resize"]
    spots = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    picture = (255 * F.interpolate(spots, (3 * side // 2, 2 * side), mode="bilinear")[0]).byte()
    given = images(picture, return_tensors="pt")["pixel_values"][0]
    framed = functional.resize(picture, [side, side] if framing["squashed"] else [side], antialias=True)
    framed = functional.center_crop(framed, [framing["size"]] * 2) / 255
    mean, std = (torch.tensor(kept[name])[:, None, None] for name in ("mean", "std"))
    return given.shape == framed.shape and bool((given * std + mean - framed).abs().mean() < 0.01)


_SOURCES = {"timm/": _timms, HUGGING_FACE: _hugging_faces}


def _metadata(kept: dict[str, Any], classes: int) -> dict[str, Any]:
    return {"preprocessing": kept, "card": {"made_for": {"num_classes": classes}}}


def _fetched(what: Wording, make: Callable[[], Any]) -> Any:
    """Return the result of a function that reads files of Hugging Face's hub.

    Raises:
        UserError: if they cannot be obtained.
    """
    try:
        return from_hub(make)
    except Exception as error:  # of whatever library fetches
        raise _out_of_reach(what, error) from error


def _out_of_reach(what: Wording, error: Exception) -> FailedError:
    """Return the error that weights are neither cached nor downloadable."""
    reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return FailedError(*worded("out-of-reach", what=what, reason=reason[:200]))
