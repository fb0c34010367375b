"""What `reslab analyze` does: a network, its weights, some images, and one analysis of them."""

import inspect
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from reslab.analysis.result import Result, drawn
from reslab.data import load_data
from reslab.data.dataset import PartName
from reslab.errors import UserError, suggest
from reslab.evaluation import prepared_for, trained
from reslab.networks import zoo
from reslab.progress import Progress, silent
from reslab.runs import write_atomically
from reslab.weights.files import read_weights
from reslab.weights.shipped import locate, shipped, trained_on
from reslab.weights.untold import ZeroPadSide, load


class Analysis(NamedTuple):
    """Where an analysis is, how many images it takes unless told otherwise, and what its result says beside its table."""

    module: str
    function: str
    images: int | None  # None: the whole part
    trained: bool  # whether it asks what training made; the others ask how a network starts, or starts to learn
    summary: tuple[str, ...] = ()


ANALYSES = {
    "gradient-flow": Analysis("gradient_flow", "gradient_flow", 128, False, ("loss", "first_over_last", "growth")),
    "training-flow": Analysis("gradient_flow", "through_training", None, False),
    "paths": Analysis("paths", "path_spectrum", 32, True, ("mean_length",)),
    "sampled-paths": Analysis("paths", "sample_paths", 32, True),
    "removal": Analysis("removal", "remove_each", None, True, ("error",)),
    "random-removal": Analysis("removal", "remove_random", None, True, ("error",)),
    "reorder": Analysis("removal", "reorder", None, True, ("error",)),
    "importance": Analysis("removal", "importance", 128, True),
    "jacobian": Analysis("jacobian", "jacobian", 2, True),
    "responses": Analysis("responses", "responses", 128, True),
    "shattering": Analysis("shattering", "shattering", 2, False),
    "landscape": Analysis("landscape", "landscape", 128, True),
    "smoothness": Analysis("batchnorm", "loss_smoothness", 128, False),
    "covariate-shift": Analysis("batchnorm", "covariate_shift", 128, False),
    "tour": Analysis("torchvision_tour", "torchvision_tour", 0, False),
}
ANALYSES["lesion"] = ANALYSES["removal"]  # as Veit et al. 2016 call it


@dataclass(frozen=True)
class Found:
    """A result, and the same as plain data."""

    result: Result
    record: dict[str, Any]


def analyze_model(
    name: str,
    model: str | None,
    *,
    weights: str | Path | None = None,
    data: str = "digits",
    part: PartName = "heldout",
    images: int | None = None,
    zero_pad: ZeroPadSide | None = None,
    download: bool = False,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Found:
    """Build the network, take the images, and run the analysis; `options` go to whichever of analysis and network knows them.

    Without `weights`, an analysis of what training made takes those that come with the lab, if there are any for this network and data; with
    "none", it takes a fresh network too. `seed` decides a fresh network's weights, and what the analysis draws.

    Raises:
        UserError: if there is no such analysis, or network, weights, data and analysis do not go together.
    """
    if name not in ANALYSES:
        raise UserError(f"no analysis {name!r}{suggest(name, ANALYSES)}")
    analysis = ANALYSES[name]
    function = getattr(import_module(f"reslab.analysis.{analysis.module}"), analysis.function)
    known = inspect.signature(function).parameters
    settings, others = _sorted_out(dict(options or {}), known)
    asked = ", ".join(f"{key} {value}" for key, value in settings.items())
    if images is not None and images < 1:
        raise UserError(f"--images must be at least 1, got {images}")
    if "network" not in known:
        if model is not None or others:
            raise UserError(f"{name} takes no network: reslab analyze {name}")
        return _found(name, analysis, function(**settings), {})
    if model is None:
        raise UserError(f"name a network: reslab analyze {name} resnet20")
    torch.manual_seed(seed)
    if "seed" in known:
        settings["seed"] = seed
    file, origin = _weights(model, weights, data if analysis.trained and not others else None, seed)
    untrained = analysis.trained and file is None and ":" not in model
    network, loss, x, y, source = _subject(model, file, data, part, images or analysis.images, zero_pad, download, others, progress)
    if loss is not None and "loss" in known:
        settings["loss"] = loss
    if "labels" in known:
        settings["labels"] = y
    if "progress" in known:
        settings["progress"] = progress
    try:
        result = function(network, x, **settings)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        if isinstance(error, UserError) or not asked:
            raise
        raise UserError(f"{name} cannot be computed with {asked}: {error}") from error
    return _found(name, analysis, result, {"model": model, "weights": origin, "untrained": untrained, "images": len(x), "data": source})


def places(name: str, model: str | None, directory: Path) -> list[Path]:
    """Return where an analysis's table (JSON) and figure (SVG and PNG) go.

    Raises:
        UserError: if one of them is there already.
    """
    stem = "-".join(word.replace("/", "-").replace(":", "-") for word in (name, model) if word)
    paths = [directory / f"{stem}.{kind}" for kind in ("json", "svg", "png")]
    for path in paths:
        if path.exists():
            raise UserError(f"{path} exists and is not overwritten; give another --out")
    return paths


def write(found: Found, directory: Path) -> list[Path]:
    """Write the table and the figure, over nothing that is there.

    Raises:
        UserError: if a file of that name exists.
    """
    paths = places(found.record["analysis"], found.record.get("model"), directory)
    figure = found.result.figure()
    contents = [json.dumps(found.record, ensure_ascii=False, indent=1, default=str).encode(), *(drawn(figure, kind) for kind in ("svg", "png"))]
    for path, content in zip(paths, contents, strict=True):
        write_atomically(path, content)
    return paths


def _sorted_out(options: dict[str, Any], known: Mapping[str, inspect.Parameter]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the analysis, and the others, which are the network's."""
    settings = {key: value for key, value in options.items() if key in known and key not in ("network", "images", "labels", "progress", "loss")}
    others = {key: value for key, value in options.items() if key not in settings}
    return {key: _of_kind(key, value, known[key].annotation) for key, value in settings.items()}, others


def _of_kind(key: str, value: Any, kind: Any) -> Any:
    """Return a setting's value as its annotation wants it: one value is a sequence of one, and a typed-in 32 may be meant as text.

    Raises:
        UserError: if it is of another kind.
    """
    adapter = TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))
    complaints = []
    for candidate in (value, str(value), (value,), (str(value),)):
        try:
            return adapter.validate_python(candidate)
        except ValidationError as error:
            complaints.append(error.errors()[0]["msg"])
    raise UserError(f"--{key.replace('_', '-')} {value}: {complaints[0]}")


def _weights(model: str, weights: str | Path | None, data: str | None, seed: int) -> tuple[Path | None, str]:
    """Return the weights' file, None for none, and what is said of them; unless told, those that come with the lab for `data`."""
    known = shipped()
    if weights is None and data is not None and ":" not in model:
        weights = known.get((trained_on(data) or "", model))
    if weights is None or weights == "none":
        return None, "its own" if ":" in model else f"fresh, seed {seed}"
    file = locate(weights, model)
    if file not in known.values():
        return file, str(file)
    card = read_weights(file).metadata["card"]
    return file, f"shipped: {file.parent.name}/{model} (test error {100 * card['errors']['test']['shipped']:.2f} %)"


def _subject(
    model: str,
    weights: Path | None,
    data: str,
    part: PartName,
    count: int | None,
    zero_pad: ZeroPadSide | None,
    download: bool,
    options: dict[str, Any],
    progress: Progress,
) -> tuple[nn.Module, Any, Tensor, Tensor, str]:
    """Return the network, its loss if it has one of its own, images, labels, and where these come from."""
    own = zoo.factory(model, options) if ":" in model else None
    kept = None  # how images were prepared for the weights of one's own network
    if own is not None and weights is not None:
        read = read_weights(weights)
        load(own.network.eval(), read, model, options, zero_pad)
        kept = read.metadata.get("preprocessing", {})
    if own is not None and own.loader is not None:
        x, y = _first(own.loader, count)
        return own.network, own.loss, x, y, f"{model}'s loader"
    dataset = load_data(data, download=download, progress=progress)
    if own is None and weights is not None:
        network, dataset, _ = trained(model, weights, dataset, zero_pad=zero_pad, options=options)
        network.eval()
    else:
        given = {"num_classes": dataset.num_classes, "in_channels": dataset.in_channels, **options}
        network = own.network if own is not None else zoo.fresh(model, given)
        dataset = dataset.fitted(zoo.input_shape(network)[1]) if kept is None else prepared_for(network, dataset, kept, None)[0]
    x, y = dataset.sample(part, len(dataset.parts[part].labels) if count is None else count)
    return network, own.loss if own is not None else None, x, y, f"{data} ({part})"


MOST_IMAGES = 10_000
"""Of a loader that an analysis takes whole: CIFAR-10's test part; a loader may have no end."""
IMAGES = ("images", "image", "pixel_values", "inputs", "input", "input_ids", "x")
LABELS = ("labels", "label", "targets", "target", "y")
"""Names of images and labels in batches that are mappings."""


def _first(batches: Iterable[Any], count: int | None) -> tuple[Tensor, Tensor]:
    """Return the first `count` images and labels, or all, of `MOST_IMAGES` at most.

    Raises:
        UserError: if there are none.
    """
    images: list[Tensor] = []
    labels: list[Tensor] = []
    most = MOST_IMAGES if count is None else count
    for batch in batches:
        x, y = _pair(batch)
        images.append(x)
        labels.append(y)
        if (found := sum(map(len, images))) >= most + (count is None):  # one more tells that there are more
            if count is None:
                warnings.warn(f"the loader has {found:,} images or more; the first {most:,} are taken (--images says how many)", stacklevel=2)
            break
    if not images:
        raise UserError("there are no images to look at")
    return torch.cat(images)[:most], torch.cat(labels)[:most]


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    """Return images and labels of a loader's batch: the first two of a sequence, or those of a mapping that are called so.

    Raises:
        UserError: if they are not to be found, or do not go together.
    """
    found: list[Any] = []
    if isinstance(batch, Mapping):
        found = [next((batch[name] for name in names if name in batch), None) for names in (IMAGES, LABELS)]
    elif isinstance(batch, Sequence):
        found = list(batch[:2])
    if len(found) != 2 or not all(isinstance(value, Tensor) and value.dim() for value in found) or len(found[0]) != len(found[1]):
        kind = f"a mapping of {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else f"a {type(batch).__name__}"
        raise UserError(f"a loader gives batches of images and labels, tensors of one length; this one gave {kind}")
    return found[0], found[1]


def _found(name: str, analysis: Analysis, result: Result, about: dict[str, Any]) -> Found:
    frame = result.to_frame()
    frame = frame.reset_index(drop=frame.index.name is None)
    values = {key: getattr(result, key) for key in analysis.summary}
    summary = {key: value if isfinite(value) else None for key, value in values.items()}  # JSON has no word for 0/0
    record: dict[str, Any] = {"analysis": name, **about, "summary": summary, "rows": json.loads(frame.to_json(orient="records"))}
    if hasattr(result, "text"):
        record["text"] = result.text()
    return Found(result, record)
