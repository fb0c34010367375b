"""Weights files: of any origin, and reslab's own, whose metadata state what tensors cannot."""

import json
import warnings
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save
from torch import Tensor, nn

from reslab.errors import DamagedError, first_few, told, worded
from reslab.weights import tensorfiles
from reslab.weights.origins import Facts, understood
from reslab.weights.tensorfiles import State

METADATA_KEY = "reslab"


class WeightFile(NamedTuple):
    """A file's sets of tensors, under its own names, by the keys that lead to them; its metadata, which name the
    network if the file is reslab's; and facts that follow from the kind of another file.
    """

    path: Path
    sets: dict[str, State]
    metadata: dict[str, Any]
    unread: tuple[str, ...] = ()
    facts: Facts = Facts()

    @property
    def without(self) -> list[str]:
        """Return the removed blocks."""
        return list(self.metadata.get("without", []))

    @property
    def network(self) -> str | None:
        """Return the network that the file is for; None for a factory's, as only users may name a factory to call, not
        files.
        """
        named: str | None = self.metadata.get("model")
        return None if named is None or ":" in named else named

    def options(self, model: str) -> dict[str, Any]:
        """Return the options of a network from the file's metadata or kind, including its data set's; none if the
        metadata are for another network.
        """
        if "model" not in self.metadata:
            return dict(self.facts.options)
        if self.metadata["model"] != model:
            return {}
        kept = self.metadata.get("preprocessing", {})
        data_set = (
            {"num_classes": len(kept["classes"]), "in_channels": len(kept["mean"])}
            if {"classes", "mean"} <= kept.keys()
            else {}
        )
        return {**data_set, **self.metadata.get("card", {"made_for": {}})["made_for"], **self.metadata["options"]}


def read_weights(path: Path) -> WeightFile:
    """Read a file of weights (see `tensorfiles.read`); of a run directory, those in it. Nothing in a file is executed.

    Raises:
        UserError: if there is no such file, it is damaged or something else, or its metadata are not in the format of
            `to_bytes`.
    """
    content = tensorfiles.read(path)
    metadata = _metadata(content.metadata.get(METADATA_KEY, "{}"), path)
    if metadata:
        return WeightFile(path, content.sets, metadata, content.unread)
    with told(f"{path} cannot be converted", DamagedError):
        read = {place: understood(state, content.path) for place, state in content.sets.items()}
    facts = next((facts for _, facts in read.values() if facts != Facts()), Facts())
    prepared = {"preprocessing": dict(facts.preprocessing)} if facts.preprocessing else {}
    return WeightFile(path, {place: state for place, (state, _) in read.items()}, prepared, content.unread, facts)


def _metadata(text: str, path: Path) -> dict[str, Any]:
    """Return reslab's metadata: none, or facts in the format of `to_bytes`.

    Raises:
        UserError: for anything else.
    """

    def numbers(values: Any) -> bool:
        return isinstance(values, list) and all(
            isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) for value in values
        )

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        facts = json.loads(text, parse_constant=constant)
        json.dumps(facts, ensure_ascii=False).encode()  # lone surrogates could not be printed
        kept, card = facts.get("preprocessing", {}), facts.get("card", {"made_for": {}})
        sound = not facts or (
            isinstance(facts["model"], str)
            and isinstance(facts["options"], dict)
            and isinstance(card["made_for"], dict)
        )
        sound &= (
            numbers(kept.get("mean", [])) and numbers(std := kept.get("std", [])) and all(value > 0 for value in std)
        )
        sound &= len({len(kept[name]) for name in ("mean", "std") if name in kept}) < 2  # a number for each channel
        sound &= isinstance(kept.get("size"), int | None)
        sound &= isinstance(framing := kept.get("framing"), dict | None)
        sound &= framing is None or (
            framing.keys() <= {"size", "resize", "interpolation", "squashed"}
            and isinstance(framing["size"], int)
            and isinstance(framing["resize"], int)
            and isinstance(framing.get("interpolation", ""), str)
            and isinstance(framing.get("squashed", False), bool)
        )
        sound &= all(
            isinstance(names, list) and all(isinstance(name, str) for name in names)
            for names in (kept.get("classes", []), facts.get("without", []))
        )
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        sound = False
    if not sound:
        raise DamagedError(*worded("damaged-metadata", path=path, key=METADATA_KEY))
    return dict(facts)


def halved(state: Mapping[str, Tensor]) -> State:
    """Return the state with kernels and matrices, nearly all of it, in float16; BatchNorm's vectors, whose magnitudes
    vary widely, stay in float32.
    """
    return {
        name: tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor
        for name, tensor in state.items()
    }


def to_bytes(
    network: nn.Module,
    model: str,
    options: Mapping[str, Any],
    preprocessing: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    without: Sequence[str] = (),
) -> bytes:
    """Return the network as a safetensors file whose metadata state the model, its options, the preparation of images,
    and removed blocks.

    With a card, which is also stored in the metadata, it is a small file to be bundled: `halved`.
    """
    facts = {"model": model, "options": dict(options), "zero_pad": "end", "preprocessing": dict(preprocessing or {})}
    tensors: dict[str, Tensor] = {}
    stored: set[int] = set()
    everything = network.state_dict()
    if left := [name for name, value in everything.items() if not isinstance(value, Tensor)]:
        warnings.warn(f"left out, as a file of weights holds tensors alone: {first_few(left)}", stacklevel=2)
    for name, tensor in everything.items():
        if name in left:
            continue
        own = tensor.contiguous().cpu()
        place = own.untyped_storage().data_ptr()
        tensors[name] = own.clone() if place in stored else own  # safetensors refuses layers that share weights
        stored.add(place)
    if without:
        facts["without"] = list(without)
    if card is not None:
        facts, tensors = facts | {"card": dict(card)}, halved(tensors)
    # one key: safetensors does not keep an order of several
    return save(tensors, {METADATA_KEY: json.dumps(facts, sort_keys=True)})
