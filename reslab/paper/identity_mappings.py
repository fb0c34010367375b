"""The ablations of "Identity Mappings in Deep Residual Networks" (He et al. 2016, arXiv:1603.05027), on any CIFAR depth
6n+2.

Every unit here is `y = after(mix(x, shortcut(x), branch(x)))`. Table 1 varies `mix`, what happens on the shortcut, and
keeps the original order of activations; Table 2 varies the order and keeps `mix` an addition.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Maps = Float[Tensor, "b c h w"]
Make = Callable[[int, int, int], nn.Module]
"""(in_channels, out_channels, stride) -> module"""

# --- Table 1: what happens on the shortcut (Fig. 2) -------------------------------------------------------------------


class Scaling(nn.Module):
    """Fig. 2(a, b): `shortcut · s + branch · f`, with constants; (1, 1) is the original addition."""

    def __init__(self, shortcut: float, branch: float) -> None:
        super().__init__()
        self.shortcut, self.branch = shortcut, branch

    def extra_repr(self) -> str:
        """Return the constants."""
        return f"shortcut={self.shortcut:g}, branch={self.branch:g}"

    def forward(self, x: Maps, s: Maps, f: Maps) -> Maps:
        """Return the scaled sum of the shortcut's `s` and the branch's `f`."""
        return self.shortcut * s + self.branch * f


class Gate(nn.Module):
    """g(x) = σ(W_g x + b_g), W_g a 1×1 convolution, for every pixel and channel; b_g starts at `bias`."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, bias: float) -> None:
        super().__init__()
        self.gate = nn.Conv2d(in_channels, out_channels, 1, stride)
        self.start = bias

    def g(self, x: Maps) -> Maps:
        """Return the gate's values, between 0 and 1."""
        return torch.sigmoid(self.gate(x))


class ExclusiveGating(Gate):
    """Fig. 2(c): `(1 − g) · s + g · f`, as in highway networks; for b_g → −∞ the bare shortcut."""

    def forward(self, x: Maps, s: Maps, f: Maps) -> Maps:
        """Return the gated sum."""
        g = self.g(x)
        return (1 - g) * s + g * f


class ShortcutGating(Gate):
    """Fig. 2(d): `(1 − g) · s + f`; for b_g → −∞ the original."""

    def forward(self, x: Maps, s: Maps, f: Maps) -> Maps:
        """Return the sum with the gated shortcut."""
        return (1 - self.g(x)) * s + f


class ConvolutionShortcut(nn.Module):
    """Fig. 2(e): `W x + f`, W a 1×1 convolution in every unit."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Maps, s: Maps, f: Maps) -> Maps:
        """Return the projected input plus the branch."""
        return self.conv(x) + f


class DropoutShortcut(nn.Module):
    """Fig. 2(f): `dropout(s) + f`, not inverted: in training a value stays as it is or becomes 0, in evaluation it is
    scaled by the keep rate.

    torch's own dropout scales in training instead. The paper likens this shortcut to scaling by the keep rate, which it
    is on average.
    """

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop

    def extra_repr(self) -> str:
        """Return the rate at which values are dropped."""
        return f"drop={self.drop:g}"

    def forward(self, x: Maps, s: Maps, f: Maps) -> Maps:
        """Return the sum with the dropped shortcut."""
        return (1 - self.drop) * F.dropout(s, self.drop, self.training) + f


# --- Table 2: the order of activations (Fig. 4) -----------------------------------------------------------------------

Order = Literal[
    "original", "bn-after-addition", "relu-before-addition", "relu-only-pre-activation", "full-pre-activation"
]

ORDERS: dict[str, tuple[str, str, str]] = {
    "original": ("", "conv bn relu conv bn", "relu"),
    "bn-after-addition": ("", "conv bn relu conv", "bn relu"),
    "relu-before-addition": ("", "conv bn relu conv bn relu", ""),
    "relu-only-pre-activation": ("relu", "conv bn relu conv bn", ""),
    "full-pre-activation": ("bn relu", "conv bn relu conv", ""),
}
"""Fig. 4 (a) to (e): the branch's activation before its first weights, the branch, and what follows the addition."""


def layers(words: str, in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return the layers that the words name; the first convolution changes the shape."""
    made: list[nn.Module] = []
    channels = in_channels
    for word in words.split():
        if word == "conv":
            made.append(nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False))
            channels, stride = out_channels, 1
        else:
            made.append(nn.BatchNorm2d(channels) if word == "bn" else nn.ReLU())
    return nn.Sequential(*made)


class ZeroPad(nn.Module):
    """The identity across a change of shape (option A of 2015): every `stride`-th pixel, zero channels appended."""

    def __init__(self, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels, self.stride = extra_channels, stride

    def extra_repr(self) -> str:
        """Return what it adds and skips."""
        return f"{self.extra_channels}, stride={self.stride}"

    def forward(self, x: Maps) -> Maps:
        """Return the subsampled, padded input."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra_channels))


class Unit(nn.Module):
    """`y = after(mix(x, shortcut(x), branch(before(x))))`; where the shape changes, or the unit is first, both paths
    share `before`.
    """

    def __init__(
        self, order: Order, mix: nn.Module, in_channels: int, out_channels: int, stride: int, first: bool
    ) -> None:
        super().__init__()
        before, branch, after = ORDERS[order]
        self.changes = stride != 1 or in_channels != out_channels
        # the stem's activation serves the first unit
        self.before = layers("" if first else before, in_channels, in_channels, 1)
        self.branch = layers(branch, in_channels, out_channels, stride)
        self.shortcut = ZeroPad(out_channels - in_channels, stride) if self.changes else nn.Identity()
        self.mix = mix
        self.after = layers(after, out_channels, out_channels, 1)

    def forward(self, x: Maps) -> Maps:
        """Return the unit's output."""
        a = self.before(x)
        x = a if self.changes else x
        return self.after(self.mix(x, self.shortcut(x), self.branch(a)))


class AblationNet(nn.Module):
    """A CIFAR network of 6n+2 layers (2015, section 4.2) made of these units; `[B, in_channels, H, W] -> [B,
    num_classes]`.
    """

    def __init__(self, depth: int, order: Order, make_mix: Make, num_classes: int, in_channels: int) -> None:
        super().__init__()
        n, rest = divmod(depth - 2, 6)
        if rest or n < 1:
            raise ValueError(f"depth {depth} is not 6n+2 (8, 14, 20, …, as the CIFAR design needs)")
        if order not in ORDERS:
            raise ValueError(f"no order {order!r}; known: {', '.join(ORDERS)}")
        self.input_shape = (in_channels, 32, 32)
        self.stem = layers("conv bn relu", in_channels, 16, 1)
        units: list[nn.Module] = []
        width = 16
        for channels, stride in ((16, 1), (32, 2), (64, 2)):
            for _ in range(n):
                changed = stride if width != channels else 1
                units.append(Unit(order, make_mix(width, channels, changed), width, channels, changed, first=not units))
                width = channels
        self.units = nn.Sequential(*units)
        # pre-activation orders activate once more after the last addition
        self.last = layers(ORDERS[order][0], width, width, 1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, Gate):
                nn.init.constant_(module.gate.bias, module.start)  # type: ignore[arg-type]  # the gate's convolution has a bias
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Maps) -> Float[Tensor, "b classes"]:
        """Return the logits."""
        return self.fc(self.avgpool(self.last(self.units(self.stem(x)))).flatten(1))


# --- Builders ---------------------------------------------------------------------------------------------------------

Kind = Literal["scaling", "exclusive-gating", "shortcut-gating", "convolution", "dropout"]


def cifar_shortcut_ablation(
    depth: int,
    kind: Kind = "scaling",
    *,
    shortcut_scale: float = 1.0,
    branch_scale: float = 1.0,
    gate_bias: float = -6.0,
    drop: float = 0.5,
    num_classes: int = 10,
    in_channels: int = 3,
) -> AblationNet:
    """Return a network with one of Table 1's shortcuts in every unit; the option that belongs to another kind has no
    effect.

    Raises:
        ValueError: for a depth that is not 6n+2, or an unknown kind.
    """
    mixes: dict[str, Make] = {
        "scaling": lambda *_: Scaling(shortcut_scale, branch_scale),
        "exclusive-gating": partial(ExclusiveGating, bias=gate_bias),
        "shortcut-gating": partial(ShortcutGating, bias=gate_bias),
        "convolution": ConvolutionShortcut,
        "dropout": lambda *_: DropoutShortcut(drop),
    }
    if kind not in mixes:
        raise ValueError(f"no shortcut {kind!r}; known: {', '.join(mixes)}")
    return AblationNet(depth, "original", mixes[kind], num_classes, in_channels)


def cifar_activation_order(
    depth: int, order: Order = "original", *, num_classes: int = 10, in_channels: int = 3
) -> AblationNet:
    """Return a network with one of Table 2's orders of activation in every unit.

    Raises:
        ValueError: for a depth that is not 6n+2, or an unknown order.
    """
    return AblationNet(depth, order, lambda *_: Scaling(1.0, 1.0), num_classes, in_channels)


FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "cifar_shortcut_ablation": cifar_shortcut_ablation,
    "cifar_activation_order": cifar_activation_order,
}
MODELS: dict[str, Callable[..., nn.Module]] = {}
REFERENCE: dict[str, tuple[int, int, str]] = {}
