"""Outcomes and inputs as short text to read, and as Python to paste."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from reslab.exercises.likeness import OfAnotherKind, Raised, plain

LONGEST = 300
"""The number of characters shown of a value."""
SHOWN = 4
"""The number of values shown of a tensor."""
PASTED = 400
"""The length up to which an input is written out; a longer one is shown as the call that draws it."""

IN_KOREAN: Mapping[Any, str] = {
    "output": "출력",
    "gradient": "기울기",
    "input kept": "입력 유지",
    "values": "값",
    "PyTorch's own": "PyTorch 함수 사용",
    "shape": "모양",
    "of length 1": "길이 1",
    "stretch": "늘어난 배율",
    "curves": "곡선",
    "over blocks": "가로축 값",
    "scale": "세로축 눈금",
    "axes named": "축 이름",
    "legend": "범례",
    "layers": "층 수",
    "other layers": "나머지 층",
    "errors": "오류율",
    "mode kept": "모드 유지",
    "every network once": "모든 신경망이 한 번씩",
    "all unknown": "모두 모르는 이름",
    "some unknown": "모르는 이름이 있음",
    "a network twice": "두 번 나온 신경망이 있음",
    "some missing": "빠진 신경망이 있음",
    "a network and its images": "신경망과 이미지",
    "not two": "둘이 아님",
    "no network": "신경망이 아님",
    "one image": "이미지 한 장",
    "images of another dtype": "이미지의 dtype이 다름",
    "too few blocks": "블록이 모자람",
}
"""What parts observe, by its name."""


def describe(value: Any, names: Mapping[Any, str] = MappingProxyType({}), beside: Any = None) -> str:
    """Return an outcome as a short text, or its kind if it cannot be shown; what was observed may have other names. A
    tensor is shown from where it differs from the one `beside` it.
    """
    try:
        return _described(value, names, plain(beside))
    except Exception:  # such as an answer's own __repr__
        return kind_of(value) if beside is None else describe(value, names)


def _described(value: Any, names: Mapping[Any, str], beside: Any) -> str:
    if isinstance(value, Raised):
        return f"{value.kind}: {value.message}"
    if isinstance(value, Tensor):
        if value.ndim == 0:
            return f"{value.item():.6g}"
        start = _first_apart(value, beside)
        shown = [f"{number:.4g}" for number in value.detach().flatten()[start : start + SHOWN].tolist()]
        shown = ["…"] * (start > 0) + shown + ["…"] * (start + SHOWN < value.numel())
        return f"[{', '.join(map(str, value.shape))}] {', '.join(shown)}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        others = beside if isinstance(beside, dict) else {}
        items = [f"{names.get(key, key)}: {describe(item, beside=others.get(key))}" for key, item in value.items()]
        return _shortened("{" + ", ".join(items) + "}")
    if isinstance(value, tuple | list):
        pairs = zip(value, beside if isinstance(beside, list) else (), strict=False)
        shown = [describe(item, beside=other) for item, other in pairs]
        return _shortened("(" + ", ".join([*shown, *map(describe, value[len(shown) :])]) + ")")
    return _shortened(repr(names.get(value, value) if isinstance(value, str) else value))


def _first_apart(value: Tensor, beside: Any) -> int:
    """Return the place of the first number that reads otherwise than the one beside it; 0 if that is among the first
    shown, or there is none.
    """
    if not isinstance(beside, Tensor) or beside.shape != value.shape:
        return 0
    pairs = enumerate(zip(value.detach().flatten().tolist(), beside.detach().flatten().tolist(), strict=True))
    place = next((place for place, (a, b) in pairs if a != b and f"{a:.4g}" != f"{b:.4g}"), 0)
    return place if place >= SHOWN else 0


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def described_apart(expected: Any, came: Any, names: Mapping[Any, str] = MappingProxyType({})) -> tuple[str, str]:
    """Return both as short texts, from where they differ, each with its kind where the kinds differ."""
    if isinstance(came, OfAnotherKind):
        return came.wanted, _shortened(f"{kind_of(came.came)} {describe(came.came)}")
    texts = describe(expected, names, came), describe(came, names, expected)
    kinds = kind_of(expected), kind_of(came)
    if isinstance(came, Raised) or kinds[0] == kinds[1]:
        return texts
    return _shortened(f"{kinds[0]} {texts[0]}"), _shortened(f"{kinds[1]} {texts[1]}")


def kind_of(value: Any) -> str:
    """Return the name of a value's class, and of a tensor's values."""
    if isinstance(value, Tensor):
        return str(value.dtype).replace("torch.", "torch.Tensor ")
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def call(function: Callable[..., Any], arguments: Sequence[Any], drawn: str) -> str:
    """Return a call of a function as Python; `drawn` is the code that draws the arguments, if they cannot be written
    out.
    """
    name, count = function.__name__, len(inspect.signature(function).parameters)
    written = [_literal(value) for value in arguments[:count]]
    text = f"{name}({', '.join(map(str, written))})"
    return f"{name}(*{drawn})" if None in written or len(text) > PASTED else text


def _literal(value: Any) -> str | None:
    """Return a value as Python; None if that cannot be."""
    if isinstance(value, Tensor):
        return f"torch.tensor({value.tolist()}, dtype={value.dtype})"
    if isinstance(value, bool | int | float | str | None):
        return repr(value)
    if isinstance(value, dict):
        items = {key: _literal(item) for key, item in value.items()}
        return None if None in items.values() else f"{{{', '.join(f'{key!r}: {item}' for key, item in items.items())}}}"
    if isinstance(value, list | tuple):
        written = [_literal(item) for item in value]
        inner = ", ".join(map(str, written))
        return None if None in written else f"[{inner}]" if isinstance(value, list) else f"({inner},)"
    return None
