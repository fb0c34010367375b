"""`reslab predict`: what a trained network says of images."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from reslab.commands import printing, typed
from reslab.commands.app import Flag, app
from reslab.errors import DamagedError, MismatchError, MissingError, UnseenError, first_few

if TYPE_CHECKING:
    from torch import Tensor

    from reslab.data import Dataset
    from reslab.files import Json
    from reslab.weights.untold import Asked


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
    """Say what is in images: `reslab predict resnet50 CAT.jpg DOG.png --weights torchvision`.

    The network comes first, then any number of images. Each is prepared as the weights say, by itself.

    Parameters
    ----------
    model
        Name of the network.
    images
        Image files, in any of the formats that a folder of images may have.
    weights
        As for `reslab evaluate`.
    top
        How many classes to name, the likeliest first.
    size
        Side that the network sees (by default the one that the weights say).
    zero_pad
        Where the file's option A puts its zero channels; only for files that are not this lab's.
    json
        Print the classes and probabilities as JSON.
    options
        Options of the network, such as `--depth 26`.
    """
    from reslab.networks import zoo
    from reslab.networks.pretrained import is_word
    from reslab.weights.shipped import locate
    from reslab.weights.untold import Asked

    if Path(model).is_file():
        raise MismatchError(f"{model} is a file; the network comes first: reslab predict NETWORK IMAGE…")
    words = typed.words(options)
    typed.see_whose(words, predict, zoo.options(model))
    chosen = weights if is_word(weights) else locate(weights, model)
    found = predict_images(model, images, chosen, top=top, size=size, asked=Asked(zero_pad), options=words)
    printing.print_json(found) if json else print_predictions(found)


def predict_images(
    model: str,
    images: Sequence[Path],
    weights: Path | str,
    *,
    top: int = 5,
    size: int | None = None,
    asked: "Asked | None" = None,
    options: Mapping[str, Any] | None = None,
) -> "list[Json]":
    """Return, for each image that can be decoded, its `image` and the likeliest `classes` with their `probability`.

    Raises:
        UserError: if an image is missing or none can be decoded, or network, weights and images do not go together.
    """
    import torch

    from reslab.data.decoding import decode, left_out
    from reslab.state import in_mode
    from reslab.subject import Subject, prepared_for

    if absent := [str(path) for path in images if not path.is_file()]:
        raise MissingError(f"no image file {first_few(absent)}")
    subject = Subject.of(model, weights, options or {}, asked=asked)
    kept = dict((subject.metadata or {}).get("preprocessing", {}))
    names = kept.pop("classes", None)
    if not {"mean", "std"} <= kept.keys():
        raise MissingError(
            f"nothing in {weights} says how images are prepared; `reslab weights` writes a file that does, with "
            "--mean and --std"
        )
    mode = "L" if len(kept["mean"]) == 1 else "RGB"
    found: list[Json] = []
    broken: list[str] = []
    with in_mode(subject.network, training=False), torch.no_grad():
        for path in images:
            pixels = decode(path, mode)
            if pixels is None:
                broken.append(str(path))
                continue
            data, _ = prepared_for(subject.network, _alone(pixels, kept, subject.network), kept, size)
            answer = subject.network(data.test[0])
            scores = getattr(answer, "logits", answer)
            if not isinstance(scores, torch.Tensor) or scores.dim() != 2:
                raise UnseenError(f"{model} gives no scores of classes for an image")
            shares = scores.float().softmax(1)[0]
            best = shares.topk(min(top, len(shares)))
            said = [
                {"class": names[label] if names else str(label), "label": label, "probability": share}
                for share, label in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
            found.append({"image": str(path), "classes": said})
    if not found:
        raise DamagedError(f"none of {len(images):,} images can be decoded: {first_few(broken)}")
    if broken:
        warnings.warn(left_out(broken, len(images)), stacklevel=2)
    return found


def _alone(pixels: "Tensor", kept: "Json", network: Any) -> "Dataset":
    """Return an image as a test part by itself: as it is, if the weights say no size and it is no larger than the
    network's own, so that it is not blown up.
    """
    import torch

    from reslab.data import Augment, Dataset
    from reslab.data.dataset import Part
    from reslab.data.images import Images, Ragged, Statistics
    from reslab.networks import zoo

    own = zoo.input_shape(network)[1]
    as_it_is = kept.get("size") is None and max(pixels.shape[1:]) <= own
    images: Images = pixels[None] if as_it_is else Ragged(pixels.flatten(), torch.tensor([pixels.shape]))
    some = tuple(kept["mean"])
    return Dataset(
        name="the image",
        parts={"test": Part(images, torch.zeros(1, dtype=torch.int64))},
        classes=(),
        statistics=Statistics(some, tuple(kept["std"]), ()),
        augment=Augment(0, False),
        split_rule="an image by itself",
    )


def print_predictions(found: "list[Json]") -> None:
    """Print the classes of each image, the likeliest first."""
    for one in found:
        print(one["image"])
        for said in one["classes"]:
            print(f"  {100 * said['probability']:6.2f} %  {said['class']}")
