"""ResNeXt: "Aggregated Residual Transformations for Deep Neural Networks" (Xie et al. 2017, arXiv:1611.05431).

`y = relu(shortcut(x) + Σ_i T_i(x))`: the branch is a sum of `cardinality` bottlenecks of the same shape, each
`base_width` channels wide in the first stage. All of them together are one bottleneck with a grouped 3×3 (Fig. 3c),
which is how they are built here. State-dict names are torchvision's.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

Images = Float[Tensor, "b c h w"]
Maps = Float[Tensor, "b out h2 w2"]


class Bottleneck(nn.Module):
    """1×1 to `inner` channels, 3×3 in `cardinality` groups, 1×1 to `out_channels`, and a shortcut: `y =
    relu(shortcut(x) + F(x))`.

    A stride is in the 3×3, and the shortcut is a projection where the shape changes (section 4), as in the authors'
    release.
    """

    def __init__(self, in_channels: int, inner: int, out_channels: int, stride: int, cardinality: int) -> None:
        super().__init__()
        changes = stride != 1 or in_channels != out_channels
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=cardinality, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        # torchvision's name for the shortcut
        self.downsample = projection(in_channels, out_channels, stride) if changes else nn.Identity()
        self.relu3 = nn.ReLU()

    def branch(self, x: Images) -> Maps:
        """Return F(x) = Σ_i T_i(x), normalised: the last 1×1 sums over the groups."""
        x = self.relu1(self.bn1(self.conv1(x)))  # [B, cardinality · width, ...]
        x = self.relu2(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))  # [B, out, ...]

    def forward(self, x: Images) -> Maps:
        """Return `relu(shortcut(x) + F(x))` (Eq. 3; the ReLU comes after the addition, section 4)."""
        return self.relu3(self.downsample(x) + self.branch(x))


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the projection shortcut: a 1×1 convolution and its BatchNorm."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class ResNeXt(nn.Module):
    """A stem, stages of blocks, average pooling and a classifier: `[B, in_channels, H, W] -> [B, num_classes]`.

    The ImageNet stem is 7×7 / 2 and a 3×3 / 2 max-pool, for 224×224 images; CIFAR's is 3×3, for 32×32. Every stage but
    the first begins with stride 2 and doubles the width (the two rules of section 3.1).
    """

    def __init__(
        self,
        stem: Literal["imagenet", "cifar"],
        blocks: Sequence[int],
        cardinality: int,
        base_width: int,
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        imagenet = stem == "imagenet"
        self.input_shape = (in_channels, 224, 224) if imagenet else (in_channels, 32, 32)
        kernel, stride = (7, 2) if imagenet else (3, 1)
        self.conv1 = nn.Conv2d(in_channels, 64, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if imagenet else nn.Identity()
        self.stages = len(blocks)
        width = 64
        for number, count in enumerate(blocks):
            inner, out = cardinality * base_width * 2**number, 256 * 2**number
            make = partial(Bottleneck, inner=inner, out_channels=out, cardinality=cardinality)
            stage = [make(width, stride=1 if number == 0 else 2), *(make(out, stride=1) for _ in range(count - 1))]
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))
            width = out
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)
        initialise(self)

    def forward(self, x: Images) -> Float[Tensor, "b classes"]:
        """Return the logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # ImageNet: [B, 64, H/4, W/4]; CIFAR: [B, 64, H, W]
        for number in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(self.avgpool(x).flatten(1))


def initialise(network: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / fan_out) and set the classifier's bias to 0, as the authors' release; its fan_out
    is of all groups.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


# --- Builders ---------------------------------------------------------------------------------------------------------

IMAGENET_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks per stage: ResNet's (Table 1)."""


def resnext(depth: int, cardinality: int, base_width: int, *, num_classes: int = 1000, in_channels: int = 3) -> ResNeXt:
    """Return an ImageNet network: `resnext(50, 32, 4)` is ResNeXt-50 (32×4d), and `resnext(50, 1, 64)` is ResNet-50
    (v1.5).

    Raises:
        ValueError: if the depth is not 50, 101 or 152.
    """
    if depth not in IMAGENET_BLOCKS:
        raise ValueError(f"depth must be one of {', '.join(map(str, IMAGENET_BLOCKS))}, got {depth}")
    return ResNeXt("imagenet", IMAGENET_BLOCKS[depth], cardinality, base_width, num_classes, in_channels)


def cifar_resnext(
    depth: int, cardinality: int, base_width: int, *, num_classes: int = 10, in_channels: int = 3
) -> ResNeXt:
    """Return a CIFAR network of 9n+2 layers (section 5.3).

    The paper's CIFAR results are with pre-activation; its release found the original order, which is built here,
    better.

    Raises:
        ValueError: if the depth is not of that form with n ≥ 1.
    """
    n, rest = divmod(depth - 2, 9)
    if rest or n < 1:
        raise ValueError(
            f"depth {depth} is not 9n+2, as the CIFAR design needs; "
            f"the nearest is {9 * max(1, round((depth - 2) / 9)) + 2}"
        )
    return ResNeXt("cifar", (n, n, n), cardinality, base_width, num_classes, in_channels)


# --- Names ------------------------------------------------------------------------------------------------------------

FAMILIES: dict[str, Callable[..., nn.Module]] = {"resnext": resnext, "cifar_resnext": cifar_resnext}
"""Networks of any depth, cardinality and width."""

MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnext50_32x4d": partial(resnext, 50, 32, 4),
    "resnext101_32x8d": partial(resnext, 101, 32, 8),
    "resnext101_64x4d": partial(resnext, 101, 64, 4),
    "resnext29_8x64d": partial(cifar_resnext, 29, 8, 64),
    "resnext29_16x64d": partial(cifar_resnext, 29, 16, 64),
}

_TABLE_1 = (
    "Xie et al. 2017, Table 1 (the layers; about 25 M parameters, Fig. 5); exact counts are torchvision's network's, "
    "measured"
)
_TABLE_4 = (
    "Xie et al. 2017, Table 4 (the template), and the authors' release (about 15.6 G); exact counts are torchvision's "
    "network's, measured"
)
_WIDER = "torchvision's network, measured: twice the width of the paper's ResNeXt-101 (32×4d)"
_TABLE_7 = "Xie et al. 2017, Table 7 (34.4 and 68.1 M parameters); exact counts from the closed form of section 5.3"

REFERENCE: dict[str, tuple[int, int, str]] = {
    # name: (parameters, multiply-adds of convolutions and classifier for one colour image of the design's size, source)
    "resnext50_32x4d": (25_028_904, 4_230_479_872, _TABLE_1),
    "resnext101_32x8d": (88_791_336, 16_414_015_488, _WIDER),
    "resnext101_64x4d": (83_455_272, 15_460_270_080, _TABLE_4),
    "resnext29_8x64d": (34_426_698, 5_387_266_048, _TABLE_7),
    "resnext29_16x64d": (68_155_210, 10_688_866_304, _TABLE_7),
}
