"""What `reslab analyze` looks at: networks with their weights, and images as these want them."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from reslab.data import Dataset
    from reslab.data.dataset import PartName
    from reslab.subject import Subject
    from reslab.weights.untold import Asked


@dataclass(frozen=True)
class Taken:
    """A network that is looked at, under the name that was asked for, and what is said of its weights."""

    model: str
    subject: "Subject"
    origin: str
    drawn: bool  # whether its weights are freshly drawn


def take(
    model: str,
    weights: str | Path | None,
    options: Mapping[str, Any],
    asked: "Asked | None",
    data: "Callable[[], Dataset]",
    shipped_for: str | None,
    seed: int,
) -> Taken:
    """Return a network with its weights; by default with the bundled ones for the data set `shipped_for`, if there are
    any.

    Raises:
        UserError: if there is no such network, or network, weights and data do not go together.
    """
    from reslab.networks import zoo
    from reslab.subject import Subject

    file, origin = _weights(model, weights, shipped_for, seed)
    if zoo.is_factory(model):  # which may bring its own images
        subject = Subject.of(model, file, options, asked=asked)
        if subject.own.loader is None:
            subject, _ = subject.seeing(data())
    else:
        dataset = data()
        subject, _ = Subject.of(model, file, options, asked=asked, like=dataset).seeing(dataset)
    if file is not None:
        subject.network.eval()
    return Taken(model, subject, origin, file is None and not zoo.is_factory(model))


def take_other(
    asked_for: str,
    one: Taken,
    weights: str | Path | None,
    asked: "Asked | None",
    data: "Callable[[], Dataset]",
    shipped_for: str | None,
    seed: int,
) -> Taken:
    """Return the network that another is compared with: of a name, or of a file of weights; where the file does not say
    which, of the same name and options, with what is `asked` of the other's file.

    A name's weights are those that the other was asked for by a word. What is drawn is drawn after the other's.

    Raises:
        UserError: as `take`.
    """
    from reslab.networks import zoo
    from reslab.weights.files import read_weights

    path = Path(asked_for)
    if asked_for not in (*zoo.names(), *zoo.families()) and path.exists():
        file = read_weights(path)
        if file.network is None:
            taken = take(one.model, path, one.subject.options, asked, data, None, seed)
        else:
            taken = take(file.network, path, {}, None, data, None, seed)
    else:
        word = None if weights is not None and Path(weights).exists() else weights
        taken = take(asked_for, word, {}, None, data, shipped_for, seed)
    prepared = [
        (seen.statistics.mean, seen.statistics.std) for each in (one, taken) if (seen := each.subject.data) is not None
    ]
    if len(set(prepared)) > 1:
        warnings.warn(
            f"{asked_for} was trained on images of another mean and deviation, and sees these as {one.model} does",
            stacklevel=2,
        )
    return taken


def images_of(taken: Taken, part: "PartName", count: int | None, data: str) -> "tuple[Tensor, Tensor, str]":
    """Return images, labels, and where these come from: the network's own loader, or the data set."""
    from reslab.data.batches import first

    subject = taken.subject
    if subject.data is None:
        assert subject.own.loader is not None
        return *first(subject.own.loader, count), f"{taken.model}'s loader"
    x, y = subject.data.sample(part, len(subject.data.part(part).labels) if count is None else count)
    return x, y, f"{data} ({part})"


def _weights(
    model: str, weights: str | Path | None, shipped_for: str | None, seed: int
) -> tuple[Path | str | None, str]:
    """Return the weights' file, None for none, and what is said of them."""
    from reslab.networks import zoo
    from reslab.networks.pretrained import is_word
    from reslab.weights.files import read_weights
    from reslab.weights.shipped import locate, shipped, trained_on

    known = shipped()
    if weights is None and shipped_for is not None and not zoo.is_factory(model):
        weights = known.get((trained_on(shipped_for) or "", model))
    if weights is None or weights == "none":
        return None, "its own" if zoo.is_factory(model) else f"fresh, seed {seed}"
    if is_word(weights):
        return str(weights), str(weights)
    file = locate(weights, model)
    if file not in known.values():
        return file, str(file)
    card = read_weights(file).metadata["card"]
    return file, f"shipped: {file.parent.name}/{model} (test error {100 * card['errors']['test']['shipped']:.2f} %)"
