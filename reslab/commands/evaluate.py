"""`reslab evaluate`: a file's weights, a data set's images prepared as the file says, in one of the paper's views."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from reslab.commands import printing, typed
from reslab.commands.app import Flag, app
from reslab.progress import Progress, display, silent

if TYPE_CHECKING:
    from torch import nn

    from reslab.data.dataset import Dataset, PartName, Split
    from reslab.files import Json
    from reslab.weights.untold import Asked


@app.command
def evaluate(
    model: str,
    /,
    *,
    weights: str,
    data: str = "digits",
    part: Literal["test", "heldout", "train"] = "test",
    view: Literal["single", "ten-crop", "multi-scale"] = "single",
    size: int | None = None,
    batchnorm: Literal["stored", "true-average"] = "stored",
    zero_pad: Literal["end", "centred"] | None = None,
    raw: Flag = False,
    download: Flag = False,
    json: Flag = False,
    **options: str,
) -> None:
    """Measure trained weights: `reslab evaluate resnet20 --weights FILE --data folder:PATH`.

    Top-1 and top-5 error. Images are standardised as the weights' metadata say, else by the data's own training
    statistics.

    Parameters
    ----------
    model
        Name of the network.
    weights
        Its weights: any file that `reslab weights` reads, a word that it lists, such as digits, or torchvision or
        torchvision:IMAGENET1K_V2 for torchvision's; pretrained for those of timm/NAME.TAG or hf:ORG/NAME, which may
        also be named here: --weights hf:microsoft/resnet-50.
    data
        As for `reslab train`.
    part
        Choices are made on heldout; test is read at the end.
    view
        single: shorter side 256, centre 224; ten-crop: corners and centre, mirrored too; multi-scale: whole images,
            shorter sides 224 to 640.
        Sizes are in proportion where the network's is not 224; single leaves images that have it as they are.
    size
        Side that the network sees (by default the one in the weights' metadata, else its paper's).
    batchnorm
        true-average: BatchNorm statistics from all training images, in place of the file's moving averages.
    zero_pad
        Where the file's option A puts its zero channels; only for files that are not this lab's.
    raw
        Of weights and their average in one file, take the weights; else the average is taken.
    download
        Download the data set if it is not there.
    json
        Print the figures as JSON.
    options
        Options of the network, such as `--depth 26`.
    """
    from reslab.data import load_data
    from reslab.networks import zoo
    from reslab.networks.pretrained import is_word
    from reslab.weights.shipped import locate
    from reslab.weights.untold import Asked

    words = typed.words(options)
    typed.see_whose(words, evaluate, zoo.options(model))
    with display() as progress:
        dataset = load_data(data, download=download, progress=progress)
        average = batchnorm == "true-average"
        file = weights if is_word(weights) else locate(weights, model)
        record = evaluate_file(
            model,
            file,
            dataset,
            part=part,
            view=view,
            size=size,
            average_batchnorm=average,
            asked=Asked(zero_pad, raw=raw),
            options=words,
            progress=progress,
        )
    printing.print_json(record) if json else print_evaluation(record)


View = Literal["single", "ten-crop", "multi-scale"]


def evaluate_file(
    model: str,
    file: Path | str,
    data: "Dataset",
    *,
    part: "PartName" = "test",
    view: View = "single",
    size: int | None = None,
    average_batchnorm: bool = False,
    asked: "Asked | None" = None,
    options: Mapping[str, Any],
    progress: Progress = silent,
) -> dict[str, Any]:
    """Return the errors of a file's weights on a part of a data set, and how the images were prepared.

    `size` is the side that the network sees: by default the one in the file's metadata, else that of the network's
    paper.

    Raises:
        UserError: if weights, network and images do not go together.
    """
    from dataclasses import asdict

    import torch

    from reslab.subject import Subject
    from reslab.training.batchnorm import true_average

    subject, data = Subject.of(model, file, options, asked=asked, like=data).seeing(data, size)
    network = subject.network.to(memory_format=torch.channels_last)  # the layout that convolutions are fastest in
    start = perf_counter()
    if average_batchnorm:
        true_average(network, _told(data.shuffled(), progress, "averaging BatchNorm statistics", len(data.labels)))
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
        "preprocessing": {
            "from": subject.standardised,
            "mean": data.statistics.mean,
            "std": data.statistics.std,
            "size": data.size,
            "framing": None if data.framing is None else asdict(data.framing),
        },
        "seconds": round(perf_counter() - start, 3),
    }


def look(
    network: "nn.Module", data: "Dataset", part: "PartName", view: View, progress: Progress
) -> dict[str, float | None]:
    """Return the errors of a network on a part, in one view."""
    from torch import Tensor

    from reslab.data.dataset import BATCH_PIXELS
    from reslab.networks import zoo
    from reslab.training.evaluation import SCALES, evaluate, evaluate_multi_scale, evaluate_ten_crop

    total = len(data.parts[part].labels)
    if view == "single":
        return evaluate(network, _told(data.batches(part), progress, "evaluating", total))
    images = data.parts[part].images
    size = data.size or (min(images.shape[2:]) if isinstance(images, Tensor) else zoo.input_shape(network)[1])
    if view == "ten-crop":
        whole = data.resized(part, round(size * 8 / 7), max(1, BATCH_PIXELS // (10 * size**2)))
        return evaluate_ten_crop(network, _told(whole, progress, "evaluating ten crops", total), size)
    sides = [round(side * size / 224) for side in SCALES]
    first, *others = (data.resized(part, side, max(1, BATCH_PIXELS // sides[-1] ** 2)) for side in sides)
    return evaluate_multi_scale(
        network, [_told(first, progress, f"evaluating at {', '.join(map(str, sides))}", total), *others]
    )


def _told(batches: "Iterable[Split]", progress: Progress, what: str, total: int) -> "Iterator[Split]":
    done = 0
    for images, labels in batches:
        yield images, labels
        done += len(labels)
        progress(what, done, total)


def print_evaluation(record: "Json") -> None:
    """Print the errors of trained weights, and how the images were prepared."""
    how = record["preprocessing"]
    size = f"{how['size']}×{how['size']}" if how["size"] else "the images' own size"
    loss = "not finite" if record["loss"] is None else f"{record['loss']:.4f}"
    print(
        f"{record['model']} on the {record['part']} part of {record['data']} ({record['images']:,} images), "
        f"{record['view']} view at {size}:\n"
        f"top-1 error {100 * record['top1_error']:.2f} %, top-5 error {100 * record['top5_error']:.2f} %, loss {loss}"
    )
    channels = [", ".join(f"{value:.4f}" for value in how[key]) for key in ("mean", "std")]
    whose = "the weights' metadata" if how["from"] == "weights" else "the data's own training part"
    print(
        f"mean ({channels[0]}) and standard deviation ({channels[1]}) from {whose}; BatchNorm statistics: "
        f"{record['batchnorm']}"
    )
