"""Facts that tensors cannot state, and loading weights once they are known.

Two facts change a network's function but not its tensors: where a bottleneck strides, and on which side option A pads
its zeros. Reslab's files state both in their metadata; for other files the user must.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor, nn

from reslab.errors import MismatchError, MissingError, Wording, check_one_of, worded
from reslab.weights.files import WeightFile
from reslab.weights.fitting import Fit, Head, classifier, fit
from reslab.weights.tensorfiles import State

ZeroPadSide = Literal["end", "centred"]


@dataclass(frozen=True)
class Asked:
    """A user's statements about a file: where its option A pads zeros; whether the network gets a fresh classifier or
    none in place of the file's; and whether to use the weights rather than their average.

    Raises:
        UserError: if one is none of these.
    """

    zero_pad: ZeroPadSide | None = None
    head: Head | None = None
    raw: bool = False

    def __post_init__(self) -> None:
        check_one_of("zero_pad", self.zero_pad, (None, *get_args(ZeroPadSide)))
        check_one_of("head", self.head, (None, *get_args(Head)))


def settle(
    weights: WeightFile, model: str, network: nn.Module, options: Mapping[str, Any], zero_pad: ZeroPadSide | None
) -> ZeroPadSide:
    """Return the position of the file's zero channels, after checking all facts that its tensors cannot state.

    Raises:
        UserError: if a fact is missing (the message names its flag) or contradicts the file's metadata.
    """
    if "model" in weights.metadata:
        theirs = weights.metadata["model"]
        if weights.network is not None and theirs != model:
            raise MismatchError(*worded("metadata-says", what="model", theirs=theirs, given=model))
        stride = weights.metadata["options"].get("stride_in", usual_stride(theirs))
        if stride is not None and options.get("stride_in", stride) != stride:
            given = options["stride_in"]
            raise MismatchError(*worded("metadata-says", what="stride_in", theirs=stride, given=given))
        if zero_pad == "centred":
            raise MismatchError(*worded("metadata-says-end"))
        return "end"
    pads = any(getattr(module, "extra_channels", 0) for module in network.modules())
    if zero_pad == "centred" and not pads:
        raise MismatchError(*worded("nothing-pads", name=model))
    known = weights.facts.options.get("stride_in")
    others = {options.get("stride_in", known), *strides(network)} - {known}
    if known is not None and others:
        raise MismatchError(*worded("made-for-stride", path=weights.path, theirs=known, given=others.pop()))
    if has_stride_choice(network) and "stride_in" not in options:
        raise MissingError(*worded("stride-unknown"))
    if pads and zero_pad is None:
        raise MissingError(*worded("zero-pad-unknown"))
    return zero_pad or "end"


def usual_stride(model: str) -> str | None:
    """Return where the bottlenecks of a network of the zoo stride if no option says so: in the paper's first 1×1, but
    in the 3×3 of families that have no such option; None for a network of elsewhere.
    """
    if {":", "/"} & {*model}:
        return None
    return "3x3" if "resnext" in model or "wide_resnet" in model else "1x1"


def has_stride_choice(network: nn.Module) -> bool:
    """Return whether a network has bottlenecks whose stride may be in either of two convolutions; such modules have
    `stride_in`.
    """
    return any(name.endswith(".conv3.weight") for name in network.state_dict()) and any(
        hasattr(module, "stride_in") for module in network.modules()
    )


def strides(network: nn.Module) -> set[str]:
    """Return where a network's bottlenecks stride, in reslab's own and in others of three convolutions of these
    names: "1x1", "3x3", or nothing where none strides or it cannot be seen.
    """
    found = {str(module.stride_in) for module in network.modules() if hasattr(module, "stride_in")}
    for module in network.modules() if not found else ():
        first, middle, last = (getattr(module, f"conv{number}", None) for number in (1, 2, 3))
        if isinstance(first, nn.Conv2d) and isinstance(middle, nn.Conv2d) and isinstance(last, nn.Conv2d):
            found |= {"1x1"} if max(first.stride) > 1 else {"3x3"} if max(middle.stride) > 1 else set()
    return found


def _padded_blocks(network: nn.Module) -> dict[str, int]:
    """Return the blocks whose shortcut appends zero channels, and how many."""
    return {
        name.removesuffix(".downsample"): int(module.extra_channels)
        for name, module in network.named_modules()
        if name.endswith(".downsample") and getattr(module, "extra_channels", 0)
    }


def recentre(state: Mapping[str, Tensor], network: nn.Module) -> State:
    """Return the state of the same function with zero channels at the end, from one that pads them on both sides.

    Centred padding puts e/2 channels of zeros before the old ones and e/2 behind. Sorting the channels of the sum, old
    ones first, in every tensor that writes or reads it changes only their order.
    """
    state = dict(state)
    padded = _padded_blocks(network)
    elsewhere = sum(bool(getattr(module, "extra_channels", 0)) for module in network.modules()) > len(padded)
    if hasattr(network, "bn_last") or elsewhere:
        raise MismatchError(*worded("centred-in-v1-only"))
    # ours[i] = theirs[order[i]], for the channels that the blocks add to; None is the identity
    order: list[int] | None = None
    for block in [
        name.removesuffix(".downsample") for name, _ in network.named_modules() if name.endswith(".downsample")
    ]:
        if order is not None:
            state[f"{block}.conv1.weight"] = state[f"{block}.conv1.weight"][:, order]
        if block in padded:
            width = state[f"{block}.conv1.weight"].shape[1]
            before = padded[block] // 2
            old = [before + channel for channel in (order or range(width))]
            order = old + [channel for channel in range(width + padded[block]) if channel not in set(old)]
        if order is not None:
            last = 3 if f"{block}.conv3.weight" in state else 2
            for name in (
                f"conv{last}.weight",
                *(f"bn{last}.{part}" for part in ("weight", "bias", "running_mean", "running_var")),
            ):
                state[f"{block}.{name}"] = state[f"{block}.{name}"][order]
    if order is not None and "fc.weight" in state:
        state["fc.weight"] = state["fc.weight"][:, order]
    return state


def fitted(network: nn.Module, weights: WeightFile, asked: Asked) -> Fit:
    """Return the fit of a file's tensors to a network; with head "none", the network's classifier is removed.

    Raises:
        UserError: if they do not fit, or a head is asked for and there is no classifier.
    """
    if weights.without:
        blocks = ", ".join(map(repr, weights.without))
        raise MismatchError(*worded("without-some-blocks", path=weights.path, blocks=blocks))
    removed = None
    if asked.head is not None:
        name = classifier(network)
        if name is None:
            raise MismatchError(*worded("no-classifier-for-head", head=asked.head))
        if asked.head == "none":
            removed = name
            network.set_submodule(name, nn.Identity())
    return fit(weights, network, raw=asked.raw, head=asked.head, removed=removed)


@contextmanager
def _classifier_kept(network: nn.Module) -> Iterator[None]:
    """Put the classifier back after an error, if it has been removed."""
    name = classifier(network)
    own = network.get_submodule(name) if name else None
    try:
        yield
    except Exception:
        if name and own is not None:
            network.set_submodule(name, own)
        raise


def load(network: nn.Module, weights: WeightFile, model: str, options: Mapping[str, Any], asked: Asked) -> Fit:
    """Load a file's weights into a network of the zoo, and return the fit; dropped tensors and choices cause a warning.

    Raises:
        UserError: if they do not fit, or a fact is missing or contradicted.
    """
    side = settle(weights, model, network, options, asked.zero_pad)
    with _classifier_kept(network):
        found = fitted(network, weights, asked)
        state = recentre(found.state, network) if side == "centred" else dict(found.state)
        if weights.facts.eps is not None:
            state |= _for_own_eps(state, network, weights.facts.eps)
        network.load_state_dict(state, strict=True)
    for note in found.notes:
        warnings.warn(note, stacklevel=2)
    return found


def _for_own_eps(state: Mapping[str, Tensor], network: nn.Module, eps: float) -> State:
    """Return variances adjusted to the network's eps, so that `variance + eps` is the same as in the file."""
    return {
        f"{name}.running_var": (state[f"{name}.running_var"].double() + (eps - module.eps)).float()
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }


EPS = Wording("BatchNorm's eps", "배치 정규화의 eps")
ROUNDING, UP, DOWN = Wording("rounding of pooling", "풀링 출력의 크기"), Wording("up", "올림"), Wording("down", "내림")
POOLING, CONVOLUTIONS = (
    Wording("padding of pooling", "풀링의 패딩"),
    Wording("padding of convolutions", "합성곱의 패딩"),
)
DILATION, NONE = Wording("dilation", "팽창"), Wording("none", "없음")
ACTIVATION = Wording("activation", "활성화 함수")


def assumed(network: nn.Module) -> list[Wording]:
    """Return in words the settings of layers that no file's tensors contain, and that are therefore assumed."""
    found: dict[Wording, set[Wording]] = {}

    def note(what: Wording, value: Wording | str) -> None:
        found.setdefault(what, set()).add(value if isinstance(value, Wording) else Wording(value, value))

    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            note(EPS, f"{module.eps:g}")
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            note(ROUNDING, UP if module.ceil_mode else DOWN)
            note(POOLING, f"{module.padding}")
        elif isinstance(module, nn.Conv2d):
            note(CONVOLUTIONS, module.padding_mode)
            note(DILATION, "×".join(map(str, module.dilation)) if max(module.dilation) > 1 else NONE)
        elif type(module).__module__ == "torch.nn.modules.activation":
            note(ACTIVATION, type(module).__name__)
    return [
        Wording(
            f"{what.english} {' and '.join(sorted(value.english for value in values))}",
            f"{what.korean} {', '.join(sorted(value.korean for value in values))}",
        )
        for what, values in found.items()
    ]
