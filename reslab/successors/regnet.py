"""RegNet: "Designing Network Design Spaces" (Radosavovic et al. 2020, arXiv:2003.13678).

A network is five numbers. Block j of d would be `u_j = w0 + wa · j` wide (Eq. 2); that line is quantised to powers of
wm (Eq. 3 and 4), which makes the stages, and the widths are made multiples of the group width g. Blocks are `y =
relu(shortcut(x) + F(x))`, F a bottleneck that does not narrow (b = 1) with a grouped 3×3; RegNetY adds
squeeze-and-excitation. State-dict names are torchvision's.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import groupby
from math import log
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

Rounding = Literal["paper", "torchvision"]
Images = Float[Tensor, "b c h w"]
Maps = Float[Tensor, "b out h2 w2"]


# --- The design space (section 3.3) -----------------------------------------------------------------------------------


class Design(NamedTuple):
    """A point of the design space: initial width w0, slope wa, quantisation wm, group width g, depth d in blocks."""

    w0: int
    wa: float
    wm: float
    g: int
    d: int


def block_widths(design: Design) -> list[int]:
    """Return the width of every block: the line `w0 + wa · j` quantised to `w0 · wm^s`, s whole, in multiples of 8 (Eq.
    2 to 4).

    Raises:
        ValueError: if the five numbers are no design: w0 a positive multiple of 8, wa ≥ 0, wm > 1, g at least 1, d from
            1 to 1000.
    """
    w0, wa, wm, g, d = design
    if w0 < 8 or w0 % 8 or wa < 0 or wm <= 1 or g < 1 or not 1 <= d <= 1000:
        raise ValueError(
            "w0 must be a positive multiple of 8, wa at least 0, wm over 1, g at least 1, d from 1 to 1000; got "
            f"{design}"
        )
    steps = [round(log((w0 + wa * j) / w0) / log(wm)) for j in range(d)]
    return [8 * round(w0 * wm**step / 8) for step in steps]


def stages(design: Design, rounding: Rounding = "paper") -> list[tuple[int, int, int]]:
    """Return (blocks, width, group width) of each stage; widths are multiples of their group width.

    The paper's networks have the nearest multiple, a half going to the even one; torchvision rounds a half up, and up
    again where more than a tenth would be lost, which changes three networks: X-400MF, Y-800MF and Y-8GF.

    Raises:
        ValueError: if the rounding is neither "paper" nor "torchvision", or the numbers are no design.
    """
    if rounding not in ("paper", "torchvision"):
        raise ValueError(f"rounding must be 'paper' or 'torchvision', got {rounding!r}")
    found = []
    for width, blocks in groupby(block_widths(design)):
        group = min(design.g, width)
        if rounding == "paper":
            fitted = group * round(width / group)
        else:
            fitted = (width + group // 2) // group * group
            fitted += group if fitted < 0.9 * width else 0
        found.append((len(list(blocks)), fitted, group))
    return found


# --- Blocks (Fig. 4) --------------------------------------------------------------------------------------------------


class SqueezeExcitation(nn.Module):
    """`s · x`, one factor per channel: `s = σ(W_2 relu(W_1 mean(x)))` (Hu et al. 2018, arXiv:1709.01507, Eq. 2-4)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Images) -> Images:
        """Return the input with its channels weighed."""
        return self.sigmoid(self.fc2(self.relu(self.fc1(self.avgpool(x))))) * x


class Block(nn.Module):
    """1×1, grouped 3×3, squeeze-and-excitation if `se_ratio` is not 0, 1×1, and a shortcut: `y = relu(shortcut(x) +
    F(x))`.

    A stride is in the 3×3, and the shortcut is a projection where the shape changes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, group_width: int, se_ratio: float) -> None:
        super().__init__()
        changes = stride != 1 or in_channels != out_channels
        squeezed = round(se_ratio * in_channels)  # of the block's input
        branch = OrderedDict[str, nn.Module]()
        branch["a"] = convolution(in_channels, out_channels, 1)
        branch["b"] = convolution(out_channels, out_channels, 3, stride, groups=out_channels // group_width)
        if squeezed:
            branch["se"] = SqueezeExcitation(out_channels, squeezed)
        branch["c"] = convolution(out_channels, out_channels, 1, activate=False)
        # torchvision's names:
        self.proj = convolution(in_channels, out_channels, 1, stride, activate=False) if changes else nn.Identity()
        self.f = nn.Sequential(branch)  # proj is the shortcut, f the branch
        self.relu = nn.ReLU()

    def forward(self, x: Images) -> Maps:
        """Return `relu(shortcut(x) + F(x))`."""
        return self.relu(self.proj(x) + self.f(x))


def convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, groups: int = 1, activate: bool = True
) -> nn.Sequential:
    """Return a convolution without bias, its BatchNorm and, unless told otherwise, a ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=(kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), *([nn.ReLU()] if activate else []))


class RegNet(nn.Module):
    """A 3×3 / 2 stem of 32 channels, stages that each begin with stride 2, pooling, a classifier: `[B, in_channels, H,
    W] -> [B, num_classes]`.
    """

    def __init__(self, design: Design, se_ratio: float, rounding: Rounding, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.input_shape = (in_channels, 224, 224)
        width = 32
        self.stem = convolution(in_channels, width, 3, 2)
        self.trunk_output = nn.Sequential()  # torchvision's names
        for number, (blocks, out, group_width) in enumerate(stages(design, rounding), start=1):
            stage = nn.Sequential()
            for index in range(blocks):
                stage.add_module(
                    f"block{number}-{index}", Block(width, out, 2 if index == 0 else 1, group_width, se_ratio)
                )
                width = out
            self.trunk_output.add_module(f"block{number}", stage)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)
        initialise(self)

    def forward(self, x: Images) -> Float[Tensor, "b classes"]:
        """Return the logits."""
        x = self.trunk_output(self.stem(x))  # [B, width of the last stage, H / 2^(1 + stages), …]
        return self.fc(self.avgpool(x).flatten(1))


def initialise(network: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / fan_out) and the classifier from N(0, 0.01²) with bias 0, as the authors' release
    and torchvision.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


# --- Builders and names -----------------------------------------------------------------------------------------------


def regnet(
    w0: int,
    wa: float,
    wm: float,
    g: int,
    d: int,
    *,
    se_ratio: float = 0.0,
    rounding: Rounding = "paper",
    num_classes: int = 1000,
    in_channels: int = 3,
) -> RegNet:
    """Return the network of five numbers; `se_ratio=0.25` makes it a RegNetY.

    Raises:
        ValueError: if the numbers are no design (see `block_widths`), or the rounding is unknown.
    """
    return RegNet(Design(w0, wa, wm, g, d), se_ratio, rounding, num_classes, in_channels)


X = {
    "200mf": Design(24, 36.44, 2.49, 8, 13),
    "400mf": Design(24, 24.48, 2.54, 16, 22),
    "600mf": Design(48, 36.97, 2.24, 24, 16),
    "800mf": Design(56, 35.73, 2.28, 16, 16),
    "1_6gf": Design(80, 34.01, 2.25, 24, 18),
    "3_2gf": Design(88, 26.31, 2.25, 48, 25),
    "4gf": Design(96, 38.65, 2.43, 40, 23),
    "6_4gf": Design(184, 60.83, 2.07, 56, 17),
    "8gf": Design(80, 49.56, 2.88, 120, 23),
    "12gf": Design(168, 73.36, 2.37, 112, 19),
    "16gf": Design(216, 55.59, 2.1, 128, 22),
    "32gf": Design(320, 69.86, 2.0, 168, 23),
}
"""RegNetX by multiply-adds (Fig. 15; wa and wm to the digits of the authors' release)."""

Y = {  # RegNetY, likewise (Fig. 16)
    "200mf": Design(24, 36.44, 2.49, 8, 13),
    "400mf": Design(48, 27.89, 2.09, 8, 16),
    "600mf": Design(48, 32.54, 2.32, 16, 15),
    "800mf": Design(56, 38.84, 2.4, 16, 14),
    "1_6gf": Design(48, 20.71, 2.65, 24, 27),
    "3_2gf": Design(80, 42.63, 2.66, 24, 21),
    "4gf": Design(96, 31.41, 2.24, 64, 22),
    "6_4gf": Design(112, 33.22, 2.27, 72, 25),
    "8gf": Design(192, 76.82, 2.19, 56, 17),
    "12gf": Design(168, 73.36, 2.37, 112, 19),
    "16gf": Design(200, 106.23, 2.48, 112, 18),
    "32gf": Design(232, 115.89, 2.53, 232, 20),
}

FAMILIES: dict[str, Callable[..., nn.Module]] = {"regnet": regnet}  # any point of the design space

MODELS: dict[str, Callable[..., nn.Module]] = {
    **{f"regnet_x_{size}": partial(regnet, *design) for size, design in X.items()},
    **{f"regnet_y_{size}": partial(regnet, *design, se_ratio=0.25) for size, design in Y.items()},
}

_TWIN = "Radosavovic et al. 2020, Fig. 15 and 16, to two digits; exact counts are torchvision's network's, measured"
_TIMM = (
    "Radosavovic et al. 2020, Fig. 15 and 16, to two digits; exact counts are timm's network's, measured, which "
    "torchvision lacks or rounds otherwise"
)

REFERENCE: dict[str, tuple[int, int, str]] = {
    # name: (parameters, multiply-adds of convolutions and classifier for one colour image of 224×224, source)
    "regnet_x_200mf": (2_684_792, 199_039_872, _TIMM),
    "regnet_x_400mf": (5_157_512, 397_677_568, _TIMM),
    "regnet_x_600mf": (6_196_040, 600_890_112, _TIMM),
    "regnet_x_800mf": (7_259_656, 799_699_712, _TWIN),
    "regnet_x_1_6gf": (9_190_136, 1_602_849_792, _TWIN),
    "regnet_x_3_2gf": (15_296_552, 3_176_621_952, _TWIN),
    "regnet_x_4gf": (22_118_248, 3_964_498_816, _TIMM),
    "regnet_x_6_4gf": (26_209_256, 6_460_291_264, _TIMM),
    "regnet_x_8gf": (39_572_648, 7_995_132_416, _TWIN),
    "regnet_x_12gf": (46_106_056, 12_086_678_016, _TIMM),
    "regnet_x_16gf": (54_278_536, 15_940_755_456, _TWIN),
    "regnet_x_32gf": (107_811_560, 31_735_929_792, _TWIN),
    "regnet_y_200mf": (3_162_996, 199_514_080, _TIMM),
    "regnet_y_400mf": (4_344_144, 401_842_848, _TWIN),
    "regnet_y_600mf": (6_055_160, 601_220_992, _TIMM),
    "regnet_y_800mf": (6_263_168, 797_176_832, _TIMM),
    "regnet_y_1_6gf": (11_202_430, 1_612_076_160, _TWIN),
    "regnet_y_3_2gf": (19_436_338, 3_176_482_752, _TWIN),
    "regnet_y_4gf": (20_646_656, 3_973_288_448, _TIMM),
    "regnet_y_6_4gf": (30_583_252, 6_355_204_992, _TIMM),
    "regnet_y_8gf": (39_180_068, 7_963_057_312, _TIMM),
    "regnet_y_12gf": (51_822_544, 12_092_376_576, _TIMM),
    "regnet_y_16gf": (83_590_140, 15_911_510_272, _TWIN),
    "regnet_y_32gf": (145_046_770, 32_279_552_832, _TWIN),
}
