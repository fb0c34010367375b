"""The subject of an analysis: a network with weights, a loss and images if it comes with them, and a data set prepared
for it.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import nn

from reslab.data.classes import match
from reslab.data.dataset import Dataset
from reslab.data.images import Framing
from reslab.errors import MismatchError, WrongValueError, first_few, worded
from reslab.networks import zoo
from reslab.networks.pretrained import pretrained
from reslab.networks.sources import Own
from reslab.residual import view
from reslab.weights.files import WeightFile, read_weights
from reslab.weights.fitting import Fit, Head, classifier
from reslab.weights.untold import Asked

LARGEST_SIZE = 2048


@dataclass(frozen=True)
class Subject:
    """A network and where it comes from.

    `options` are the network's options: the weights file's and the user's. `metadata` are the weights', None without
    weights, and `fit` says how a file's tensors fit. `own` is what a user's factory returned. `standardised` says whose
    mean and standard deviation `data` are normalised with: the weights' or the data's own. `head` is the classifier
    that replaces the file's, if asked for.
    """

    network: nn.Module
    own: Own
    options: dict[str, Any]
    metadata: Mapping[str, Any] | None = None
    fit: Fit | None = None
    data: Dataset | None = None
    standardised: Literal["weights", "data"] = "data"
    head: Head | None = None

    @classmethod
    def of(
        cls,
        model: str,
        weights: WeightFile | Path | str | None,
        options: Mapping[str, Any],
        *,
        asked: Asked | None = None,
        like: Dataset | None = None,
    ) -> Self:
        """Return a network with these weights (a file, or the name of published ones), or a fresh one. Its classes and
        channels are those of `like` unless something else determines them.

        Raises:
            UserError: if there is no such network, or the weights do not fit it.
        """
        asked = asked or Asked()
        if asked.head == "fresh" and like is not None:
            options = {"num_classes": like.num_classes, **options}
        if isinstance(weights, str):
            network, metadata, told = pretrained(model, weights, options, asked)
            return cls(network, Own(network), told, metadata, head=asked.head)
        read = read_weights(weights) if isinstance(weights, Path) else weights
        classes = read.metadata.get("preprocessing", {}).get("classes") if read is not None else None
        otherwise = (
            {} if like is None else {"num_classes": len(classes or like.classes), "in_channels": like.in_channels}
        )
        if read is None:
            if given := [f"--{name.replace('_', '-')}" for name, value in vars(asked).items() if value]:
                raise MismatchError(*worded("options-of-weights", options=", ".join(given)))
            own = zoo.own(model, {**otherwise, **options})
            return cls(own.network, own, dict(options))
        own, fit, told = zoo.loaded(model, whole(read, model, options), options, asked, otherwise)
        network = own.network
        if read.without:
            network = without(network, read.without)
            fit = fit._replace(state={name: fit.state[name] for name in network.state_dict()})
        return cls(network, own, told, read.metadata, fit, head=asked.head)

    def seeing(self, data: Dataset, size: int | None = None) -> tuple[Self, Dataset]:
        """Return the same with a data set prepared as the weights require, and that data set.

        Raises:
            UserError: if weights, network and images do not go together.
        """
        if self.metadata is None:
            data.part("train")  # whose statistics standardise
            seen = data.fitted(zoo.input_shape(self.network)[1])
            return replace(self, data=seen), seen
        kept = self.preprocessing
        seen, standardised = prepared_for(self.network, data, kept, size)
        told_apart = self._classes(data.num_classes)
        if not kept.get("classes") and told_apart != data.num_classes:
            raise MismatchError(
                *worded("other-number-of-classes", theirs=told_apart, data=data.name, classes=data.num_classes)
            )
        if not kept.get("classes") and kept.get("data") != data.name and self.head is None:
            warnings.warn(
                f"the weights name no classes; their outputs are taken for those of {data.name}, in order: "
                f"{first_few(data.classes)}",
                stacklevel=2,
            )
        return replace(self, data=seen, standardised=standardised), seen

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Return how the weights' images are prepared, and what their outputs mean unless another classifier takes the
        place of the file's.
        """
        kept: Mapping[str, Any] = (self.metadata or {}).get("preprocessing", {})
        return {key: value for key, value in kept.items() if key != "classes" or self.head is None}

    def _classes(self, otherwise: int) -> int:
        """Return the number of classes of the weights, from their metadata or their classifier."""
        said: dict[str, int] = (self.metadata or {}).get("card", {"made_for": {}})["made_for"]
        if "num_classes" in said and self.head is None:
            return said["num_classes"]
        name = classifier(self.network) if self.head != "none" else None
        last = self.network.get_submodule(name) if name is not None else None
        if isinstance(last, nn.Conv2d):
            return last.out_channels
        return last.out_features if isinstance(last, nn.Linear) else otherwise


def without(network: nn.Module, blocks: Sequence[str]) -> nn.Module:
    """Return a network without the branches of some blocks, in evaluation mode, for images of the same shape.

    Raises:
        UserError: if there is no such block, or one cannot be removed.
    """
    shape = zoo.input_shape(network)
    smaller = view(network.eval(), torch.zeros(2, *shape)).without(*blocks)
    vars(smaller)["input_shape"] = shape
    return smaller


def whole(read: WeightFile, model: str, options: Mapping[str, Any]) -> WeightFile:
    """Return the weights of a network without some blocks as those of the whole network, with zeros for these blocks
    that take no memory.

    Raises:
        UserError: if there is no such network.
    """
    if not read.without:
        return read
    wanted = zoo.outline(model, {**read.options(model), **options}).network.state_dict()
    # one of several blocks of a module is named layer[1]; of the network itself, network[1]
    modules = (block.partition("[")[0] for block in read.without)
    inside = tuple(f"{name}." if any(key.startswith(f"{name}.") for key in wanted) else "" for name in modules)
    zeros = {
        name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
        for name, tensor in wanted.items()
        if name.startswith(inside)
    }
    metadata = {key: value for key, value in read.metadata.items() if key != "without"}
    return read._replace(sets={place: {**zeros, **state} for place, state in read.sets.items()}, metadata=metadata)


def prepared_for(
    network: nn.Module, data: Dataset, kept: Mapping[str, Any], size: int | None
) -> tuple[Dataset, Literal["weights", "data"]]:
    """Return the data set prepared as the `preprocessing` of a weights file says, and whether mean and standard
    deviation are the weights' or the data's.

    Labels are those of the file, matched by class name.

    Raises:
        UserError: if the file is for another number of channels or other classes, or the size is out of range.
    """
    if kept.get("classes"):  # other people's files and reslab's old ones name none
        known = len(kept["classes"])
        places, by = match(data.classes, kept["classes"])
        if data.num_classes < known:
            warnings.warn(
                f"{data.name} has {data.num_classes} of the {known} classes that the weights distinguish, matched by "
                f"{by}; an answer is right if its class is the likeliest of all {known}",
                stacklevel=2,
            )
        data = data.labelled(kept["classes"], places)
    own = zoo.input_shape(network)[1]
    side = size if size is not None else kept.get("size", own)
    if side is not None and not 2 <= side <= LARGEST_SIZE:
        raise WrongValueError(*worded("size-out-of-range", largest=f"{LARGEST_SIZE:,}", side=side))
    data = replace(data, size=side) if side is not None else data.fitted(own)
    if "framing" in kept:
        framing = Framing(**kept["framing"])
        data = replace(data, framing=framing if size is None else framing.at(size))
    if "mean" not in kept or "std" not in kept:
        data.part("train")  # whose statistics standardise
        return data, "data"
    mean, std = tuple(kept["mean"]), tuple(kept["std"])
    if not len(mean) == len(std) == data.in_channels:
        raise MismatchError(
            *worded(
                "weights-of-other-channels",
                source=kept.get("data") or "?",
                theirs=len(mean),
                data=data.name,
                channels=data.in_channels,
            )
        )
    return replace(data, statistics=data.statistics._replace(mean=mean, std=std)), "weights"
