"""`reslab evaluate`: the errors of trained weights on a data set, in one of the paper's views."""

from typing import Literal

from reslab.commands import printing, typed
from reslab.commands.app import Flag, app
from reslab.progress import display


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

    Top-1 and top-5 error. Images are normalised as the weights' metadata say, or else by the statistics of the data's
    training images.

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
        Part of the data: make choices on heldout, and read test once, at the end.
    view
        single: shorter side 256, centre 224; ten-crop: corners and centre, mirrored too; multi-scale: whole images,
            shorter sides 224 to 640.
        Sizes scale with the network's if that is not 224; single leaves images of the right size unchanged.
    size
        Image size in pixels (default: from the weights' metadata, or else the paper's).
    batchnorm
        true-average: BatchNorm statistics from all training images, in place of the file's moving averages.
    zero_pad
        Where option A puts its zero channels in this file; only for files from elsewhere.
    raw
        If a file holds both weights and their average (EMA), use the weights; the default is the average.
    download
        Download the data set if it is missing.
    json
        Print the figures as JSON.
    options
        Options of the network, such as `--depth 26`.
    """
    from reslab.networks import zoo
    from reslab.trained import evaluate as measure

    words = typed.words(options)
    typed.see_whose(words, evaluate, zoo.options(model))
    with display() as progress:
        found = measure(
            model,
            weights,
            data,
            part=part,
            view=view,
            size=size,
            batchnorm=batchnorm,
            zero_pad=zero_pad,
            raw=raw,
            download=download,
            progress=progress,
            **words,
        )
    printing.print_json(found) if json else print(found.text(typed.language()))
