"""DenseNet: "Densely Connected Convolutional Networks" (Huang et al. 2017, arXiv:1608.06993).

Within a dense block every layer takes everything before it, `x_l = H_l([x_0, x_1, …, x_(l-1)])` (Eq. 2), and adds
`growth_rate` channels. DenseNet-B puts a 1×1 bottleneck in front of each 3×3; DenseNet-C has a transition keep only a
part, `compression`, of the channels; DenseNet-BC does both. State-dict names are torchvision's.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Images = Float[Tensor, "b c h w"]
Maps = Float[Tensor, "b out h2 w2"]


class DenseLayer(nn.Module):
    """H_l = bn-relu-conv3×3 (section 3, "Composite function"): `[B, C, H, W] -> [B, C + growth_rate, H, W]`, the input
    and what is new.
    """

    def __init__(self, in_channels: int, growth_rate: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, growth_rate, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def new(self, x: Images) -> Maps:
        """Return the new features H_l(x), `[B, growth_rate, H, W]`."""
        return self.dropout(self.conv1(self.relu1(self.norm1(x))))

    def forward(self, x: Images) -> Maps:
        """Return `[x, H_l(x)]`; `x` is all that came before (Eq. 2)."""
        return torch.cat((x, self.new(x)), dim=1)


class BottleneckLayer(DenseLayer):
    """H_l of DenseNet-B: bn-relu-conv1×1 to four times the growth rate, then bn-relu-conv3×3 (section 3, "Bottleneck
    layers").
    """

    def __init__(self, in_channels: int, growth_rate: int, dropout: float) -> None:
        super().__init__(in_channels, growth_rate, dropout)
        inner = 4 * growth_rate
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(inner, growth_rate, 3, padding=1, bias=False)

    def new(self, x: Images) -> Maps:
        """Return the new features H_l(x), `[B, growth_rate, H, W]`."""
        x = self.conv1(self.relu1(self.norm1(x)))  # [B, 4 · growth_rate, H, W]
        return self.dropout(self.conv2(self.relu2(self.norm2(x))))


class Transition(nn.Sequential):
    """Between two blocks, bn-relu-conv1×1 and a 2×2 average: `[B, C, H, W] -> [B, out, H/2, W/2]` (section 3, "Pooling
    layers").

    The ReLU is the authors' release's; the paper's text does not name it.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.pool = nn.AvgPool2d(2)


class DenseNet(nn.Module):
    """A stem, dense blocks with transitions between them, average pooling and a classifier: `[B, in_channels, H, W] ->
    [B, num_classes]`.

    The ImageNet stem is 7×7 / 2 and a 3×3 / 2 max-pool, for 224×224 images; CIFAR's is a bare 3×3, for 32×32.
    """

    def __init__(
        self,
        stem: Literal["imagenet", "cifar"],
        blocks: Sequence[int],
        growth_rate: int,
        stem_width: int,
        bottleneck: bool,
        compression: float,
        dropout: float,
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        if not 0 < compression <= 1:
            raise ValueError(f"compression must be in (0, 1], got {compression}")
        if not blocks or min(blocks) < 1:
            raise ValueError(f"every block needs a layer at least, got {tuple(blocks)}")
        make = BottleneckLayer if bottleneck else DenseLayer
        width = stem_width
        self.features = nn.Sequential()
        if stem == "imagenet":
            self.input_shape = (in_channels, 224, 224)
            self.features.add_module("conv0", nn.Conv2d(in_channels, width, 7, 2, padding=3, bias=False))
            self.features.add_module("norm0", nn.BatchNorm2d(width))
            self.features.add_module("relu0", nn.ReLU())
            self.features.add_module("pool0", nn.MaxPool2d(3, 2, padding=1))
        else:
            self.input_shape = (in_channels, 32, 32)
            self.features.add_module("conv0", nn.Conv2d(in_channels, width, 3, padding=1, bias=False))
        for number, layers in enumerate(blocks, start=1):
            block = nn.Sequential()
            for layer in range(1, layers + 1):
                block.add_module(f"denselayer{layer}", make(width, growth_rate, dropout))
                width += growth_rate
            self.features.add_module(f"denseblock{number}", block)
            if number < len(blocks):
                kept = max(1, int(compression * width))
                self.features.add_module(f"transition{number}", Transition(width, kept))
                width = kept
        self.features.add_module("norm5", nn.BatchNorm2d(width))  # torchvision's name, from the design with four blocks
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, num_classes)
        initialise(self)

    def forward(self, x: Images) -> Float[Tensor, "b classes"]:
        """Return the logits."""
        return self.classifier(self.avgpool(self.relu(self.features(x))).flatten(1))


def initialise(network: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / fan_in), as torchvision, and set the classifier's bias to 0; the authors' release
    has fan_out.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


# --- Builders ---------------------------------------------------------------------------------------------------------


def densenet(
    blocks: Sequence[int],
    growth_rate: int,
    *,
    compression: float = 0.5,
    dropout: float = 0.0,
    num_classes: int = 1000,
    in_channels: int = 3,
) -> DenseNet:
    """Return a DenseNet-BC for ImageNet with these layers per block and a stem of twice the growth rate (Table 1)."""
    return DenseNet(
        "imagenet", blocks, growth_rate, 2 * growth_rate, True, compression, dropout, num_classes, in_channels
    )


def cifar_densenet(
    depth: int,
    growth_rate: int,
    *,
    bottleneck: bool = False,
    compression: float = 1.0,
    dropout: float = 0.0,
    num_classes: int = 10,
    in_channels: int = 3,
) -> DenseNet:
    """Return a CIFAR network of three equal blocks (section 3, "Implementation details"): 3n+4 layers, or 6n+4 with
    bottlenecks.

    DenseNet-BC is `bottleneck=True, compression=0.5`; its stem is twice the growth rate, the others' is 16. Without
    augmentation the paper drops 0.2 behind each convolution but the first (section 4.2); here, as in torchvision, it is
    of each layer's new features alone.

    Raises:
        ValueError: if the depth is not of that form with n ≥ 1, or the compression is not in (0, 1].
    """
    each = 6 if bottleneck else 3
    n, rest = divmod(depth - 4, each)
    if rest or n < 1:
        nearest = each * max(1, round((depth - 4) / each)) + 4
        raise ValueError(f"depth {depth} is not {each}n+4, as the CIFAR design needs; the nearest is {nearest}")
    stem_width = 2 * growth_rate if bottleneck and compression < 1 else 16
    return DenseNet(
        "cifar", (n, n, n), growth_rate, stem_width, bottleneck, compression, dropout, num_classes, in_channels
    )


# --- Names ------------------------------------------------------------------------------------------------------------

FAMILIES: dict[str, Callable[..., nn.Module]] = {"densenet": densenet, "cifar_densenet": cifar_densenet}
"""Networks of any depth, growth rate and compression."""

_cifar_bc = partial(cifar_densenet, bottleneck=True, compression=0.5)

MODELS: dict[str, Callable[..., nn.Module]] = {
    "densenet121": partial(densenet, (6, 12, 24, 16), 32),
    "densenet161": partial(densenet, (6, 12, 36, 24), 48),
    "densenet169": partial(densenet, (6, 12, 32, 32), 32),
    "densenet201": partial(densenet, (6, 12, 48, 32), 32),
    "densenet40_12": partial(cifar_densenet, 40, 12),
    "densenet100_12": partial(cifar_densenet, 100, 12),
    "densenet_bc100_12": partial(_cifar_bc, 100, 12),
    "densenet_bc190_40": partial(_cifar_bc, 190, 40),
}

_TABLE_1 = "Huang et al. 2017, Table 1 (the layers); exact counts are torchvision's network's, measured"
_WIDER = "the authors' release (growth rate 48); exact counts are torchvision's network's, measured"
_TABLE_2 = (
    "Huang et al. 2017, Table 2 (1.0, 7.0, 0.8, 25.6 M parameters); exact counts from the closed form of section 3"
)

REFERENCE: dict[str, tuple[int, int, str]] = {
    # name: (parameters, multiply-adds of convolutions and classifier for one colour image of the design's size, source)
    "densenet121": (7_978_856, 2_834_161_664, _TABLE_1),
    "densenet161": (28_681_000, 7_727_907_072, _WIDER),
    "densenet169": (14_149_480, 3_359_843_328, _TABLE_1),
    "densenet201": (20_013_928, 4_291_365_888, _TABLE_1),
    "densenet40_12": (1_019_722, 264_812_928, _TABLE_2),
    "densenet100_12": (6_979_642, 1_769_516_448, _TABLE_2),
    "densenet_bc100_12": (769_162, 287_929_692, _TABLE_2),
    "densenet_bc190_40": (25_624_430, 9_301_945_740, _TABLE_2),
}
