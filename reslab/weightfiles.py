"""Weights in and out: files of this lab, of torchvision, of third parties, recognised by their keys and shapes, never by their names.

A few trained networks come with the lab, in `weights/DATA/MODEL.safetensors`, each with its card beside it.

Two things change what a network computes and cannot be read from its tensors: where a bottleneck has its stride, and on which side
option A pads its zeros. Our files say both in their metadata; for any other file the user must.
"""

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from reslab.errors import UserError

ZeroPadSide = Literal["end", "centred"]
State = dict[str, Tensor]

METADATA_KEY = "reslab"
NESTED_UNDER = ("state_dict", "model_state_dict", "model", "net", "network")
RENAMES = (
    (r"^module\.", ""),
    (r"^linear\.", "fc."),
    (r"\.shortcut\.", ".downsample."),
    (r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),
)
"""Other names for torchvision's: DataParallel's prefix, two habits of CIFAR implementations, and torchvision's own DenseNet files."""


class WeightFile(NamedTuple):
    """The tensors of a file under torchvision's names, its metadata (empty unless the file is ours), and what was renamed."""

    state: State
    metadata: dict[str, Any]
    renamed: dict[str, str]

    def options(self, model: str) -> dict[str, Any]:
        """Return the options that the file's own metadata give for a network; none if they are another's."""
        if self.metadata.get("model") != model:
            return {}
        return {**self.metadata["options"], **self.metadata.get("card", {"made_for": {}})["made_for"]}


def read_weights(path: Path) -> WeightFile:
    """Read a safetensors file, or a pickled one of nothing but tensors.

    Raises:
        UserError: if there is no such file, it is damaged, or it holds more than tensors, which could run code.
    """
    if not path.is_file():
        raise UserError(f"no file {path}")
    try:
        content, facts = _content(path)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} holds more than tensors and is refused, because reading it could run code") from error
    except Exception as error:  # on damaged bytes the readers raise whatever they come to
        raise UserError(f"{path} is not a readable weights file; expected safetensors or a saved state dict") from error
    metadata = _metadata(facts, path)
    tensors = _unwrap(content, path)
    state = renamed(tensors)
    if len(state) < len(tensors):
        raise UserError(f"{path} holds some tensor twice, under two names for the same; expected each once")
    changes = {original: name for original, name in zip(tensors, state, strict=True) if original != name}
    return WeightFile(state, metadata, changes)


def _content(path: Path) -> tuple[Any, str]:
    """Return what a file holds, and our metadata in it as text."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {}).get(METADATA_KEY, "{}")  # noqa: SIM118  # no mapping
    except SafetensorError:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read is an error
            return torch.load(path, map_location="cpu", weights_only=True), "{}"


def _metadata(text: str, path: Path) -> dict[str, Any]:
    """Return our metadata: either nothing, or facts of the kinds that `to_bytes` writes.

    Raises:
        UserError: if they are anything else.
    """

    def numbers(values: Any) -> bool:
        return isinstance(values, list) and all(isinstance(value, int | float) and isfinite(value) for value in values)

    try:
        facts = json.loads(text)
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


def renamed(state: Mapping[str, Tensor]) -> State:
    """Return the tensors, in their order, under torchvision's names."""
    names = list(state)
    for pattern, replacement in RENAMES:
        names = [re.sub(pattern, replacement, name) for name in names]
    return dict(zip(names, state.values(), strict=True))


def _unwrap(content: Any, path: Path) -> Mapping[str, Tensor]:
    """Return the state dict in what a file holds, also where it is nested beside other things."""
    for _ in NESTED_UNDER:  # each at most once: a mapping may hold itself
        if not isinstance(content, Mapping):
            break
        if content and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
            return content
        content = next((content[key] for key in NESTED_UNDER if isinstance(content.get(key), Mapping)), None)
    raise UserError(f"{path} holds no state dict; expected names and tensors, also nested under {', '.join(NESTED_UNDER)}")


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


def locate(weights: str | Path, model: str) -> Path:
    """Return the file that is meant: the one that comes with the lab where `weights` is a word such as "digits", else `weights` itself.

    Raises:
        UserError: if networks trained on that data come with the lab, but not this one.
    """
    models = [name for data, name in shipped() if data == weights]
    if not models:
        return Path(weights)
    if model not in models:
        raise UserError(f"no {model} trained on {weights} comes with the lab; there are {', '.join(models)}")
    return shipped()[str(weights), model]


def halved(state: Mapping[str, Tensor]) -> State:
    """Return the state with its kernels and matrices, nearly all of it, in float16; BatchNorm's vectors, of many magnitudes, stay in float32."""
    return {name: tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor for name, tensor in state.items()}


def fit(state: Mapping[str, Tensor], network: nn.Module) -> State:
    """Return the state if the network takes it exactly; counts of batches, which old files lack, are added as 0.

    Raises:
        UserError: naming what is missing, what is extra, and which shapes and kinds of numbers differ.
    """
    wanted = network.state_dict()
    state = {name: torch.zeros_like(value) for name, value in wanted.items() if name.endswith("num_batches_tracked")} | dict(state)
    missing = [name for name in wanted if name not in state]
    extra = [name for name in state if name not in wanted]
    shapes = [
        f"{name} is {tuple(state[name].shape)}, wanted {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    kinds = [
        f"{name} is {state[name].dtype}, wanted {value.dtype}" for name, value in wanted.items() if name in state and not _takes(value, state[name])
    ]
    complaints = [
        f"{what}: {', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
        for what, names in (("missing", missing), ("not in the network", extra), ("other shapes", shapes), ("other kinds", kinds))
        if names
    ]
    if complaints:
        raise UserError(f"the weights do not fit: {'; '.join(complaints)}")
    return state


def _takes(wanted: Tensor, given: Tensor) -> bool:
    """Say whether a tensor's numbers mean the same in another's type: integers in the place of fractions are quantised, and stand for others."""
    return given.layout == torch.strided and not given.is_meta and (given.is_floating_point() or not wanted.is_floating_point())


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


def load(network: nn.Module, weights: WeightFile, model: str, options: Mapping[str, Any], zero_pad: ZeroPadSide | None) -> None:
    """Put a file's weights into a network of the zoo.

    Raises:
        UserError: if they do not fit, or something that the tensors cannot tell is missing or contradicted.
    """
    side = settle(weights, model, network, options, zero_pad)
    state = fit(weights.state, network)
    network.load_state_dict(recentre(state, network) if side == "centred" else state, strict=True)


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
    """Return the network, in evaluation mode, as an ONNX model of any batch size.

    Raises:
        UserError: if the packages that export needs are not installed.
    """
    try:
        import onnx  # noqa: F401  # torch needs both, and says so less clearly
        import onnxscript  # noqa: F401  # likewise
    except ModuleNotFoundError as error:
        raise UserError(f"ONNX export needs {error.name}; install it with: pip install 'reslab[onnx]'") from error
    training = network.training
    program = torch.onnx.export(
        network.eval(), (torch.zeros(2, *input_shape),), dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    network.train(training)
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content
