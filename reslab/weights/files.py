"""Weights in files: what any file holds, and this lab's own, whose metadata say what its tensors cannot."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save
from torch import Tensor, nn

from reslab.errors import DamagedError
from reslab.weights import tensorfiles
from reslab.weights.origins import Facts, understood
from reslab.weights.tensorfiles import State

METADATA_KEY = "reslab"


class WeightFile(NamedTuple):
    """The sets of tensors in a file, under its own names, by the keys that lead to them; its metadata, which say the
    network if the file is ours; and what the kind of another's tells.
    """

    path: Path
    sets: dict[str, State]
    metadata: dict[str, Any]
    unread: tuple[str, ...] = ()
    facts: Facts = Facts()

    @property
    def without(self) -> list[str]:
        """Return the blocks that are taken out of the network."""
        return list(self.metadata.get("without", []))

    @property
    def network(self) -> str | None:
        """Return the network that the file says it is for; None for one of a factory, which a user may name to be
        called, but no file.
        """
        named: str | None = self.metadata.get("model")
        return None if named is None or ":" in named else named

    def options(self, model: str) -> dict[str, Any]:
        """Return the options that the file's own metadata, or its kind, give for a network, its data set's among them;
        none if the metadata are another's.
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
    """Read a file of weights (see `tensorfiles.read`); of a run directory, those in it. Nothing of a file is run.

    Raises:
        UserError: if there is no such file, it is damaged or something else, or its metadata are not such as `to_bytes`
            writes.
    """
    content = tensorfiles.read(path)
    metadata = _metadata(content.metadata.get(METADATA_KEY, "{}"), path)
    if metadata:
        return WeightFile(path, content.sets, metadata, content.unread)
    read = {place: understood(state, content.path) for place, state in content.sets.items()}
    facts = next((facts for _, facts in read.values() if facts != Facts()), Facts())
    prepared = {"preprocessing": dict(facts.preprocessing)} if facts.preprocessing else {}
    return WeightFile(path, {place: state for place, (state, _) in read.items()}, prepared, content.unread, facts)


def _metadata(text: str, path: Path) -> dict[str, Any]:
    """Return our metadata: either nothing, or facts of the kinds that `to_bytes` writes.

    Raises:
        UserError: if they are anything else.
    """

    def numbers(values: Any) -> bool:
        return isinstance(values, list) and all(isinstance(value, int | float) and isfinite(value) for value in values)

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
        sound &= isinstance(kept.get("size"), int | None)
        sound &= all(
            isinstance(names, list) and all(isinstance(name, str) for name in names)
            for names in (kept.get("classes", []), facts.get("without", []))
        )
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        sound = False
    if not sound:
        raise DamagedError(f"{path} has damaged metadata under {METADATA_KEY!r}; get the file from its source again")
    return dict(facts)


def halved(state: Mapping[str, Tensor]) -> State:
    """Return the state with its kernels and matrices, nearly all of it, in float16; BatchNorm's vectors, of many
    magnitudes, stay in float32.
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
    """Return the network as a safetensors file whose metadata say the model, its options, how its images are prepared,
    and which of its blocks are taken out.

    With a card, which then is in the metadata too, it is a small file to come with the lab: `halved`.
    """
    facts = {"model": model, "options": dict(options), "zero_pad": "end", "preprocessing": dict(preprocessing or {})}
    tensors = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    if without:
        facts["without"] = list(without)
    if card is not None:
        facts, tensors = facts | {"card": dict(card)}, halved(tensors)
    # one key: safetensors does not keep an order of several
    return save(tensors, {METADATA_KEY: json.dumps(facts, sort_keys=True)})
