"""`reslab predict`: a trained network's predictions for images."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from reslab.commands import printing, typed
from reslab.commands.app import Flag, app
from reslab.errors import MismatchError, worded


@app.command
def predict(
    model: str,
    images: Annotated[tuple[Path, ...], Parameter(negative=())],
    /,
    *,
    weights: str,
    top: Annotated[int, Parameter(validator=Number(gte=1))] = 5,
    size: int | None = None,
    zero_pad: Literal["end", "centred"] | None = None,
    json: Flag = False,
    **options: str,
) -> None:
    """Classify images: `reslab predict resnet50 CAT.jpg DOG.png --weights torchvision`.

    The network comes first, then any number of images. Each is prepared on its own, as the weights say.

    Parameters
    ----------
    model
        Name of the network.
    images
        Image files, in any format that a folder of images may have.
    weights
        As for `reslab evaluate`.
    top
        How many classes to name, the likeliest first.
    size
        Image size in pixels (default: what the weights say).
    zero_pad
        Where option A puts its zero channels in this file; only for files from elsewhere.
    json
        Print the classes and probabilities as JSON.
    options
        Options of the network, such as `--depth 26`.
    """
    from reslab.networks import zoo
    from reslab.trained import predict as ask

    if Path(model).is_file():
        raise MismatchError(*worded("network-comes-first", file=model))
    words = typed.words(options)
    typed.see_whose(words, predict, zoo.options(model))
    found = ask(model, images, weights, top=top, size=size, zero_pad=zero_pad, **words)
    printing.print_json(found) if json else print(found)
