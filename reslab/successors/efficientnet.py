"""EfficientNet: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (Tan & Le 2019,
arXiv:1905.11946).

B0, which an architecture search found (Table 1), is made α^φ times deeper and β^φ times wider, and its images γ^φ times
larger (Eq. 3). The coefficients of B1 … B7 are published numbers, which no φ gives exactly: here they are data, and
`implied_phi` says how far off they are. A block is `y = x + F(x)` with nothing after the addition, F an inverted
bottleneck with squeeze-and-excitation. State-dict names are torchvision's.
"""

from collections.abc import Callable
from functools import partial
from math import ceil, log
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

Images = Float[Tensor, "b c h w"]
Maps = Float[Tensor, "b out h2 w2"]


class SqueezeExcitation(nn.Module):
    """`s · x`, one factor per channel: `s = σ(W_2 silu(W_1 mean(x)))` (Hu et al. 2018, arXiv:1709.01507, Eq. 2 to 4;
    SiLU for their ReLU).
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.silu = nn.SiLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Images) -> Images:
        """Return the input with its channels weighed."""
        return self.sigmoid(self.fc2(self.silu(self.fc1(self.avgpool(x))))) * x


class StochasticDepth(nn.Module):
    """Drops a branch with probability `1 - survival` in training (Huang et al. 2016, arXiv:1603.09382), here for each
    image on its own, as EfficientNet's release does; Huang et al. draw once for the whole batch.

    What survives is divided by the survival probability, so that evaluation, where nothing is dropped, needs no factor.
    """

    def __init__(self, survival: float) -> None:
        super().__init__()
        self.survival = survival

    def forward(self, branch: Images) -> Images:
        """Return the branch, `[B, C, H, W]`, with some of its B images 0 in training mode."""
        if not self.training or self.survival == 1:
            return branch
        kept = torch.empty(branch.shape[0], 1, 1, 1, dtype=branch.dtype, device=branch.device).bernoulli_(self.survival)
        return branch * kept.div_(self.survival)

    def extra_repr(self) -> str:
        """Return the survival probability."""
        return f"survival={self.survival}"


class MBConv(nn.Module):
    """The inverted bottleneck: 1×1 to `expansion` times the channels, depthwise k×k, squeeze-and-excitation, 1×1 to
    `out_channels`.

    `y = x + F(x)`, or F(x) alone where the shape changes (Sandler et al. 2018, arXiv:1801.04381, section 3).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        expansion: int,
        survival: float,
        norm: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        inner = expansion * in_channels
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.block = nn.Sequential(
            *([convolution(in_channels, inner, 1, norm=norm)] if expansion > 1 else []),
            convolution(inner, inner, kernel, stride, groups=inner, norm=norm),
            SqueezeExcitation(inner, in_channels // 4),  # a quarter of the block's input, as the authors' release
            convolution(inner, out_channels, 1, norm=norm, activate=False),
        )
        self.stochastic_depth = StochasticDepth(survival)

    def forward(self, x: Images) -> Maps:
        """Return `x + F(x)`, or F(x) where the shape changes."""
        return x + self.stochastic_depth(self.block(x)) if self.has_shortcut else self.block(x)


def convolution(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    *,
    norm: Callable[[int], nn.Module],
    activate: bool = True,
) -> nn.Sequential:
    """Return a convolution without bias, its BatchNorm and, unless told otherwise, a SiLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=(kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, norm(out_channels), *([nn.SiLU()] if activate else []))


# --- Scaling ----------------------------------------------------------------------------------------------------------


class Stage(NamedTuple):
    """A stage of B0: its blocks' kernel, expansion and output channels, how many there are, and the first
    one's stride.
    """

    kernel: int
    expansion: int
    channels: int
    blocks: int
    stride: int


B0 = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 6, 24, 2, 2),
    Stage(5, 6, 40, 2, 2),
    Stage(3, 6, 80, 3, 2),
    Stage(5, 6, 112, 3, 1),
    Stage(5, 6, 192, 4, 2),
    Stage(3, 6, 320, 1, 1),
)
"""Table 1, stages 2 to 8; before them a 3×3 / 2 of 32 channels, after them a 1×1 of 1280."""

ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
"""Depth, width and resolution for φ = 1, found by a grid search with α·β²·γ² ≈ 2 (section 4, step 1)."""


class Scale(NamedTuple):
    """What multiplies B0's width and depth, the side of the images in pixels, and the classifier's dropout."""

    width: float
    depth: float
    resolution: int
    dropout: float


PUBLISHED = {
    "efficientnet_b0": Scale(1.0, 1.0, 224, 0.2),
    "efficientnet_b1": Scale(1.0, 1.1, 240, 0.2),
    "efficientnet_b2": Scale(1.1, 1.2, 260, 0.3),
    "efficientnet_b3": Scale(1.2, 1.4, 300, 0.3),
    "efficientnet_b4": Scale(1.4, 1.8, 380, 0.4),
    "efficientnet_b5": Scale(1.6, 2.2, 456, 0.4),
    "efficientnet_b6": Scale(1.8, 2.6, 528, 0.5),
    "efficientnet_b7": Scale(2.0, 3.1, 600, 0.5),
}
"""The authors' release (tensorflow/tpu, efficientnet_builder.py)."""


def compound(phi: float, alpha: float = ALPHA, beta: float = BETA, gamma: float = GAMMA, dropout: float = 0.2) -> Scale:
    """Return B0's scale for a φ: depth α^φ, width β^φ, resolution 224·γ^φ, rounded (Eq. 3); a base of 1 leaves that
    dimension alone.
    """
    return Scale(beta**phi, alpha**phi, round(224 * gamma**phi), dropout)


def implied_phi(scale: Scale) -> tuple[float, float, float]:
    """Return the φ that would give a scale's depth, its width and its resolution: three equal numbers, had the rule
    been followed exactly.
    """
    return log(scale.depth, ALPHA), log(scale.width, BETA), log(scale.resolution / 224, GAMMA)


def scaled_channels(channels: int, width: float) -> int:
    """Return a number of channels times the width, to the nearest multiple of 8, and never below 0.9 of the exact value
    (the release).
    """
    exact = channels * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


class EfficientNet(nn.Module):
    """A stem, seven stages of inverted bottlenecks, a 1×1 head, pooling, dropout and a classifier: `[B, in_channels, H,
    W] -> [B, num_classes]`.

    The survival probability of a block's branch falls linearly, from 1 at the first towards `survival` at the end.
    """

    def __init__(
        self, scale: Scale, survival: float, norm: Callable[[int], nn.Module], num_classes: int, in_channels: int
    ) -> None:
        super().__init__()
        self.input_shape = (in_channels, scale.resolution, scale.resolution)
        counts = [ceil(stage.blocks * scale.depth) for stage in B0]
        width = scaled_channels(32, scale.width)
        layers: list[nn.Module] = [convolution(in_channels, width, 3, 2, norm=norm)]
        number = 0
        for stage, count in zip(B0, counts, strict=True):
            blocks: list[nn.Module] = []
            out = scaled_channels(stage.channels, scale.width)
            for index in range(count):
                survives = 1 - (1 - survival) * number / sum(counts)
                stride = stage.stride if index == 0 else 1
                blocks.append(MBConv(width, out, stage.kernel, stride, stage.expansion, survives, norm))
                width, number = out, number + 1
            layers.append(nn.Sequential(*blocks))
        head = 4 * width  # as torchvision; the paper's 1280 scaled, which is the same for B0 to B7
        self.features = nn.Sequential(*layers, convolution(width, head, 1, norm=norm))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(scale.dropout), nn.Linear(head, num_classes))
        initialise(self)

    def forward(self, x: Images) -> Float[Tensor, "b classes"]:
        """Return the logits."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def initialise(network: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / fan_out) and the classifier from ±1/√outputs, biases 0, as torchvision: the fan
    of a depthwise convolution is that of all its channels, where the authors' release counts one.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = module.out_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)


# --- Builders and names -----------------------------------------------------------------------------------------------


def efficientnet(
    phi: float,
    *,
    alpha: float = ALPHA,
    beta: float = BETA,
    gamma: float = GAMMA,
    dropout: float = 0.2,
    survival: float = 0.8,
    num_classes: int = 1000,
    in_channels: int = 3,
) -> EfficientNet:
    """Return B0 scaled by α^φ, β^φ, γ^φ exactly; with two of the bases 1, one dimension is scaled alone
    (section 3.2).
    """
    return EfficientNet(compound(phi, alpha, beta, gamma, dropout), survival, nn.BatchNorm2d, num_classes, in_channels)


def _published(name: str, *, survival: float = 0.8, num_classes: int = 1000, in_channels: int = 3) -> EfficientNet:
    """Return B0 … B7 with the published coefficients.

    BatchNorm's settings go with torchvision's weights: the paper's momentum (0.99, which torch calls 0.01) and the
    release's ε for B5 to B7, and torch's own for the others, whose weights come from elsewhere.
    """
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01) if name[-1] in "567" else nn.BatchNorm2d
    return EfficientNet(PUBLISHED[name], survival, norm, num_classes, in_channels)


FAMILIES: dict[str, Callable[..., nn.Module]] = {"efficientnet": efficientnet}
"""Networks of any φ, and of any bases."""

MODELS: dict[str, Callable[..., nn.Module]] = {name: partial(_published, name) for name in PUBLISHED}

_TABLE_2 = (
    "Tan & Le 2019, Table 2 (5.3, 7.8, 9.2, 12, 19, 30, 43, 66 M parameters); exact counts are torchvision's "
    "network's, measured at this resolution"
)

REFERENCE: dict[str, tuple[int, int, str]] = {
    # name: (parameters, multiply-adds of convolutions and classifier for one colour image of the network's size,
    # source)
    "efficientnet_b0": (5_288_548, 385_814_752, _TABLE_2),
    "efficientnet_b1": (7_794_184, 686_802_832, _TABLE_2),
    "efficientnet_b2": (9_109_994, 993_561_872, _TABLE_2),
    "efficientnet_b3": (12_233_232, 1_827_141_392, _TABLE_2),
    "efficientnet_b4": (19_341_616, 4_393_771_024, _TABLE_2),
    "efficientnet_b5": (30_389_784, 10_266_384_752, _TABLE_2),
    "efficientnet_b6": (43_040_704, 19_067_593_536, _TABLE_2),
    "efficientnet_b7": (66_347_960, 37_745_884_192, _TABLE_2),
}
