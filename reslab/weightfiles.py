"""Weights in and out: files of this lab, of torchvision, of third parties, recognised by their keys and shapes, never by their names.

A few trained networks come with the lab, in `weights/DATA/MODEL.safetensors`, each with its card beside it.

Two things change what a network computes and cannot be read from its tensors: where a bottleneck has its stride, and on which side
option A pads its zeros. Our files say both in their metadata; for any other file the user must.
"""

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, takewhile
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from reslab import tensorfiles
from reslab.errors import UserError, first_few, suggest
from reslab.state import in_mode
from reslab.tensorfiles import State

ZeroPadSide = Literal["end", "centred"]

METADATA_KEY = "reslab"
NESTED_UNDER = ("", "state_dict", "model_state_dict", "model", "net", "network")
"""The keys under which a network's weights are, the likeliest first, where a file holds several sets of tensors that fit it."""
LEFT_BY_TOOLS = ("n_averaged", "total_ops", "total_params")
"""Ends of names that are no weights: the count of an average of weights, and what profilers leave in every module."""


class WeightFile(NamedTuple):
    """The sets of tensors in a file, under its own names, by the keys that lead to them; and its metadata, empty unless the file is ours."""

    path: Path
    sets: dict[str, State]
    metadata: dict[str, Any]
    unread: tuple[str, ...] = ()

    @property
    def network(self) -> str | None:
        """Return the network that the file says it is for; None for one of a factory, which a user may name to be called, but no file."""
        named: str | None = self.metadata.get("model")
        return None if named is None or ":" in named else named

    def options(self, model: str) -> dict[str, Any]:
        """Return the options that the file's own metadata give for a network, its data set's among them; none if they are another's."""
        if self.metadata.get("model") != model:
            return {}
        kept = self.metadata.get("preprocessing", {})
        data_set = {"num_classes": len(kept["classes"]), "in_channels": len(kept["mean"])} if {"classes", "mean"} <= kept.keys() else {}
        return {**data_set, **self.metadata.get("card", {"made_for": {}})["made_for"], **self.metadata["options"]}


def read_weights(path: Path) -> WeightFile:
    """Read a safetensors file or a saved state dict; of a run directory, the weights in it. Nothing of a file is run.

    Raises:
        UserError: if there is no such file, it is damaged or something else, or its metadata are not such as `to_bytes` writes.
    """
    content = tensorfiles.read(path)
    return WeightFile(path, content.sets, _metadata(content.metadata.get(METADATA_KEY, "{}"), path), content.unread)


def _metadata(text: str, path: Path) -> dict[str, Any]:
    """Return our metadata: either nothing, or facts of the kinds that `to_bytes` writes.

    Raises:
        UserError: if they are anything else.
    """

    def numbers(values: Any) -> bool:
        return isinstance(values, list) and all(isinstance(value, int | float) and isfinite(value) for value in values)

    def constant(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    try:
        facts = json.loads(text, parse_constant=constant)
        json.dumps(facts, ensure_ascii=False).encode()  # lone surrogates could not be printed
        kept, card = facts.get("preprocessing", {}), facts.get("card", {"made_for": {}})
        sound = not facts or (isinstance(facts["model"], str) and isinstance(facts["options"], dict) and isinstance(card["made_for"], dict))
        sound &= numbers(kept.get("mean", [])) and numbers(std := kept.get("std", [])) and all(value > 0 for value in std)
        sound &= isinstance(kept.get("size"), int | None)
        sound &= isinstance(classes := kept.get("classes", []), list) and all(isinstance(name, str) for name in classes)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        sound = False
    if not sound:
        raise UserError(f"{path} has damaged metadata under {METADATA_KEY!r}; take the file from where it came again")
    return dict(facts)


# --- Names ------------------------------------------------------------------------------------------------------------

Rule = Callable[[list[str]], list[str]]
"""Other names for the same tensors. It is used on a file's names and on the network's alike, and those that become equal belong together."""


def _without_common_prefix(names: list[str]) -> list[str]:
    """Leave out what all names begin with: what DataParallel, torch.compile, or a module that holds the network, adds."""
    levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
    depth = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    return [name.split(".", depth)[-1] for name in names]


def _rewritten(pattern: str, replacement: str) -> Rule:
    return lambda names: [re.sub(pattern, replacement, name) for name in names]


RULES: tuple[Rule, ...] = (
    _without_common_prefix,
    _rewritten(r"(^|\.)(?:(?:module|_orig_mod)\.)+", r"\1"),  # parts that DataParallel or torch.compile wraps
    _rewritten(r"^linear\.", "fc."),  # a habit of CIFAR implementations
    _rewritten(r"\.shortcut\.", ".downsample."),  # likewise
    _rewritten(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),  # torchvision's own DenseNet files
)


class Fit(NamedTuple):
    """How a file's tensors fit a network: its whole state, the names that changed, and what was left out or chosen."""

    state: State
    renamed: dict[str, str]
    notes: tuple[str, ...] = ()


def fit(weights: WeightFile, network: nn.Module) -> Fit:
    """Return a file's tensors under the network's names, if the network takes them exactly.

    Names are kept where they fit as they are, else as few rules as make them fit are used; counts of batches, which old files lack, are added as 0.

    Raises:
        UserError: naming what is missing, what is extra, and which shapes and kinds of numbers differ; or the sets, if several fit alike.
    """
    fits: dict[str, Fit] = {}
    misfits: list[tuple[int, str]] = []
    for place, state in weights.sets.items():
        found, complaints = _named(state, network.state_dict())
        if complaints:
            misfits.append((sum(map(len, complaints.values())), "; ".join(f"{what}: {first_few(names)}" for what, names in complaints.items())))
        else:
            fits[place] = found
    if not fits:
        among = f" (best of {first_few(list(weights.sets))})" if len(misfits) > 1 else ""
        raise UserError(f"the weights do not fit: {min(misfits)[1]}{among}")
    chosen = next((place for place in NESTED_UNDER if place in fits), next(iter(fits)))
    if len(fits) > 1 and chosen not in NESTED_UNDER:
        raise UserError(f"{weights.path} holds several sets of weights that fit, under {first_few(list(fits))}; save the one that is meant alone")
    notes = list(fits[chosen].notes)
    if others := [place for place in weights.sets if place != chosen]:
        notes.append(f"took the weights under {chosen!r}, not the tensors under {first_few(others)}")
    if weights.unread:
        notes.append(f"left unread what is no tensor: {first_few(list(weights.unread))}")
    return fits[chosen]._replace(notes=tuple(f"{weights.path}: {text}" for text in notes))


def _named(state: State, wanted: State) -> tuple[Fit, dict[str, list[str]]]:
    """Return the tensors under the names that fit best, the least changed of such, and what is wrong with them still."""
    ends = {name.rpartition(".")[2] for name in wanted}
    left = [name for name in state if (end := name.rpartition(".")[2]) in LEFT_BY_TOOLS and end not in ends]
    kept = {name: tensor for name, tensor in state.items() if name not in left}
    notes = (f"left out what is no weight: {first_few(left)}",) if left else ()
    best: tuple[Fit, dict[str, list[str]]] | None = None
    for names in _candidates(list(kept), list(wanted)):
        named = {name: torch.zeros_like(value) for name, value in wanted.items() if name.endswith("num_batches_tracked")}
        named |= dict(zip(names, kept.values(), strict=True))
        complaints = _complaints(named, wanted)
        if best is None or sum(map(len, complaints.values())) < sum(map(len, best[1].values())):
            renamed = {original: name for original, name in zip(kept, names, strict=True) if original != name}
            best = Fit(named, renamed, notes), complaints
        if not complaints:
            break
    assert best is not None
    return best


def _candidates(names: list[str], wanted: list[str]) -> Iterator[list[str]]:
    """Yield a file's names as they are, then as the network has them by ever more rules; never two names as one."""
    yield names
    seen = [names]
    for rules in (chosen for count in range(1, len(RULES) + 1) for chosen in combinations(RULES, count)):
        theirs, ours = names, wanted
        for rule in rules:
            theirs, ours = rule(theirs), rule(ours)
        networks = dict(zip(ours, wanted, strict=True))
        found = [networks.get(name, original) for name, original in zip(theirs, names, strict=True)]
        if len(networks) == len(wanted) and len(set(found)) == len(names) and found not in seen:
            seen.append(found)
            yield found


def _complaints(state: State, wanted: State) -> dict[str, list[str]]:
    """Return what keeps a network from taking a state, by kind."""
    shared = [(name, state[name], value) for name, value in wanted.items() if name in state]
    found = {
        "missing": [name for name in wanted if name not in state],
        "not in the network": [name for name in state if name not in wanted],
        "other shapes": [f"{name} is {tuple(is_.shape)}, wanted {tuple(value.shape)}" for name, is_, value in shared if is_.shape != value.shape],
        "other kinds": [f"{name} is {is_.dtype}, wanted {value.dtype}" for name, is_, value in shared if not _takes(value, is_)],
    }
    return {what: names for what, names in found.items() if names}


def _takes(wanted: Tensor, given: Tensor) -> bool:
    """Say whether a tensor's numbers mean the same in another's type: integers in the place of fractions are quantised, and stand for others."""
    return given.layout == torch.strided and not given.is_meta and (given.is_floating_point() or not wanted.is_floating_point())


# --- What comes with the lab -------------------------------------------------------------------------------------------

SHIPPED = Path(__file__).parent / "weights"
TRAINED_ON = {"digits": "digits", "cifar10-jpeg75": "cifar10-jpeg", "folder:cifar10-jpeg": "cifar10-jpeg"}
"""Data sets, and the folder of `weights/` with networks trained on their images. A folder of images is known by its name."""


def shipped() -> dict[tuple[str, str], Path]:
    """Return the files that come with the lab, by data and network."""
    return {(path.parent.name, path.stem): path for path in sorted(SHIPPED.glob("*/*.safetensors"))}


def trained_on(data: str) -> str | None:
    """Return the folder of `weights/` for a data set, `digits` or `folder:PATH/cifar10-jpeg`; None if there can be none."""
    kind, _, place = data.partition(":")
    return TRAINED_ON.get(f"folder:{Path(place.partition('?')[0]).name}" if kind == "folder" else kind)


TORCHVISION = Path("torchvision")
"""What stands for torchvision's trained weights in the place of a file."""


def locate(weights: str | Path, model: str) -> Path:
    """Return the file that is meant: the one that comes with the lab where `weights` is a word such as "digits", else `weights` itself.

    Raises:
        UserError: if networks trained on that data come with the lab, but not this one; or if it is neither a word for weights nor a file.
    """
    if not isinstance(weights, str | Path):
        raise UserError(
            f"weights are a file, or a word for trained ones, and not {type(weights).__name__}; tensors are for a network's load_state_dict"
        )
    path, words = Path(weights), {data for data, _ in shipped()}
    if path == TORCHVISION:
        return TORCHVISION
    if weights not in words:
        if path.name == str(weights) and not path.suffix and not path.exists():
            raise UserError(f"no file {weights}, and no trained weights of that name{suggest(str(weights), sorted({*words, str(TORCHVISION)}))}")
        return path
    if (str(weights), model) not in shipped():
        models = [name for data, name in shipped() if data == weights]
        raise UserError(f"no {model} trained on {weights} comes with the lab; there are {', '.join(models)}")
    return shipped()[str(weights), model]


def halved(state: Mapping[str, Tensor]) -> State:
    """Return the state with its kernels and matrices, nearly all of it, in float16; BatchNorm's vectors, of many magnitudes, stay in float32."""
    return {name: tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor for name, tensor in state.items()}


# --- What tensors cannot tell -----------------------------------------------------------------------------------------


def settle(weights: WeightFile, model: str, network: nn.Module, options: Mapping[str, Any], zero_pad: ZeroPadSide | None) -> ZeroPadSide:
    """Return where the file's zero channels are, once everything that its tensors cannot tell has been told.

    Raises:
        UserError: if a fact is missing (the message names the flag that gives it) or contradicts the file's own metadata.
    """
    if "model" in weights.metadata:
        theirs = {"model": weights.metadata["model"], "stride_in": weights.metadata["options"].get("stride_in", "1x1")}
        for fact, ours in (("model", model), ("stride_in", options.get("stride_in", theirs["stride_in"]))):
            if theirs[fact] != ours:
                raise UserError(f"the file's own metadata says {fact} {theirs[fact]}, not {ours}")
        if zero_pad == "centred":
            raise UserError("the file's own metadata says that its zero channels are at the end, not centred")
        return "end"
    if has_stride_choice(network) and "stride_in" not in options:
        raise UserError(
            "nothing in the file tells where its bottlenecks have their stride: add --stride-in 1x1 (the paper) or 3x3 (torchvision, v1.5)"
        )
    if _padded_blocks(network) and zero_pad is None:
        raise UserError("nothing in the file tells where its option A pads zero channels: add --zero-pad end or centred (both sides)")
    return zero_pad or "end"


def has_stride_choice(network: nn.Module) -> bool:
    """Say whether a network has bottlenecks whose stride may be in either of two places; such modules say so by `stride_in`."""
    return any(name.endswith(".conv3.weight") for name in network.state_dict()) and any(hasattr(module, "stride_in") for module in network.modules())


def _padded_blocks(network: nn.Module) -> dict[str, int]:
    """Return the blocks whose shortcut appends zero channels, and how many."""
    return {
        name.removesuffix(".downsample"): int(module.extra_channels)
        for name, module in network.named_modules()
        if name.endswith(".downsample") and getattr(module, "extra_channels", 0)
    }


def recentre(state: Mapping[str, Tensor], network: nn.Module) -> State:
    """Return the state of the same function with zero channels at the end, from one that pads them on both sides.

    Centred padding puts e/2 channels of zeros before the old ones and e/2 behind. Sorting the channels of the sum, old ones first,
    in every tensor that writes or reads it, changes no value, only their order.
    """
    state = dict(state)
    if hasattr(network, "bn_last"):
        raise UserError("centred zero channels are understood in v1 networks only, where the BatchNorms of a block see its own channels")
    padded = _padded_blocks(network)
    order: list[int] | None = None  # ours[i] = theirs[order[i]], for the channels that the blocks add to; None is the identity
    for block in [name.removesuffix(".downsample") for name, _ in network.named_modules() if name.endswith(".downsample")]:
        if order is not None:
            state[f"{block}.conv1.weight"] = state[f"{block}.conv1.weight"][:, order]
        if block in padded:
            width = state[f"{block}.conv1.weight"].shape[1]
            before = padded[block] // 2
            old = [before + channel for channel in (order or range(width))]
            order = old + [channel for channel in range(width + padded[block]) if channel not in set(old)]
        if order is not None:
            last = 3 if f"{block}.conv3.weight" in state else 2
            for name in (f"conv{last}.weight", *(f"bn{last}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))):
                state[f"{block}.{name}"] = state[f"{block}.{name}"][order]
    if order is not None:
        state["fc.weight"] = state["fc.weight"][:, order]
    return state


def load(network: nn.Module, weights: WeightFile, model: str, options: Mapping[str, Any], zero_pad: ZeroPadSide | None) -> Fit:
    """Put a file's weights into a network of the zoo, and return how they fit; what was left out or chosen is warned of.

    Raises:
        UserError: if they do not fit, or something that the tensors cannot tell is missing or contradicted.
    """
    side = settle(weights, model, network, options, zero_pad)
    found = fit(weights, network)
    network.load_state_dict(recentre(found.state, network) if side == "centred" else found.state, strict=True)
    for note in found.notes:
        warnings.warn(note, stacklevel=2)
    return found


def assumed(network: nn.Module) -> list[str]:
    """Return what a network computes with that is in no file's tensors, and is therefore assumed: settings of its layers, in words."""
    found: dict[str, set[str]] = {}
    for module in network.modules():
        name = type(module).__name__
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            found.setdefault("BatchNorm's eps", set()).add(f"{module.eps:g}")
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            found.setdefault("rounding of pooling", set()).add("up" if module.ceil_mode else "down")
        elif isinstance(module, nn.Conv2d):
            found.setdefault("dilation", set()).add("×".join(map(str, module.dilation)) if max(module.dilation) > 1 else "none")
        elif type(module).__module__ == "torch.nn.modules.activation":
            found.setdefault("activation", set()).add(name)
    return [f"{what} {' and '.join(sorted(values))}" for what, values in found.items()]


def to_bytes(
    network: nn.Module,
    model: str,
    options: Mapping[str, Any],
    preprocessing: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the network as a safetensors file whose metadata say the model, its options, and how its images are prepared.

    With a card, which then is in the metadata too, it is a small file to come with the lab: `halved`.
    """
    facts = {"model": model, "options": dict(options), "zero_pad": "end", "preprocessing": dict(preprocessing or {})}
    tensors = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    if card is not None:
        facts, tensors = facts | {"card": dict(card)}, halved(tensors)
    return save(tensors, {METADATA_KEY: json.dumps(facts, sort_keys=True)})  # one key: safetensors does not keep an order of several


def to_onnx(network: nn.Module, input_shape: tuple[int, int, int]) -> bytes:
    """Return the network, in evaluation mode, as an ONNX model of any batch size, and of any image size where the network takes any.

    Raises:
        UserError: if the packages that export needs are not installed.
    """
    try:
        import onnx  # noqa: F401  # torch needs both, and says so less clearly
        import onnxscript  # noqa: F401  # likewise
    except ModuleNotFoundError as error:
        raise UserError(f"ONNX export needs {error.name}; install it with: pip install 'reslab[onnx]', in reslab's environment") from error
    batch, sides = {0: torch.export.Dim("batch")}, {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    with in_mode(network, training=False):
        try:
            return _exported(network, input_shape, {**batch, **sides})
        except Exception:  # one of torch's many ways to say that the network fixes a size
            return _exported(network, input_shape, batch)


def _exported(network: nn.Module, input_shape: tuple[int, int, int], free: dict[int, Any]) -> bytes:
    program = torch.onnx.export(network, (torch.zeros(2, *input_shape),), dynamo=True, verbose=False, dynamic_shapes=(free,))
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content
