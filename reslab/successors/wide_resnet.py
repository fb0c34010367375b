"""Wide ResNets: "Wide Residual Networks" (Zagoruyko & Komodakis 2016, arXiv:1605.07146).

The same blocks as ResNet's with k times the channels inside, and fewer of them. CIFAR's WRN-d-k has pre-activated basic
blocks, `y = x + F(relu(bn(x)))`; ImageNet's are bottlenecks, `y = relu(shortcut(x) + F(x))`, with k times the inner
channels. State-dict names are torchvision's.
"""

from collections.abc import Callable
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

Images = Float[Tensor, "b c h w"]
Maps = Float[Tensor, "b out h2 w2"]


# --- CIFAR: pre-activated basic blocks (section 2, Table 1) -----------------------------------------------------------


class WideBlock(nn.Module):
    """Two 3×3 convolutions, each after its BatchNorm and ReLU, with dropout between them: `y = x + F(relu(bn(x)))`.

    Where the number of channels changes, the shortcut is a 1×1 convolution of the activated input: `a = relu(bn(x)); y
    = W a + F(a)`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.changes = in_channels != out_channels
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)  # section 2.4
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.downsample = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if self.changes else nn.Identity()

    def branch(self, a: Images) -> Maps:
        """Return the residual function of the activated input."""
        return self.conv2(self.dropout(self.relu2(self.bn2(self.conv1(a)))))

    def forward(self, x: Images) -> Maps:
        """Return `x + F(a)`, or `W a + F(a)` where the shape changes, with `a = relu(bn(x))`."""
        a = self.relu1(self.bn1(x))
        return self.downsample(a if self.changes else x) + self.branch(a)


class WideResNet(nn.Module):
    """WRN-d-k: a 3×3 stem, three stages of 16k, 32k and 64k channels, pooling and a classifier: `[B, in_channels, H, W]
    -> [B, num_classes]`.
    """

    def __init__(self, n: int, width: int, dropout: float, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.input_shape = (in_channels, 32, 32)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        channels = [16, 16 * width, 32 * width, 64 * width]
        self.layer1 = wide_stage(channels[0], channels[1], n, 1, dropout)
        self.layer2 = wide_stage(channels[1], channels[2], n, 2, dropout)
        self.layer3 = wide_stage(channels[2], channels[3], n, 2, dropout)
        self.bn_last = nn.BatchNorm2d(channels[3])
        self.relu_last = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels[3], num_classes)
        initialise(self)

    def forward(self, x: Images) -> Float[Tensor, "b classes"]:
        """Return the logits."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))  # [B, 64k, H/4, W/4]
        return self.fc(self.avgpool(self.relu_last(self.bn_last(x))).flatten(1))


def wide_stage(in_channels: int, out_channels: int, blocks: int, stride: int, dropout: float) -> nn.Sequential:
    """Return a stage; its first block has the stride."""
    first = WideBlock(in_channels, out_channels, stride, dropout)
    return nn.Sequential(first, *(WideBlock(out_channels, out_channels, 1, dropout) for _ in range(blocks - 1)))


# --- ImageNet: bottlenecks ("WRN-50-2-bottleneck", section 3) -------------------------------------------------------


class WideBottleneck(nn.Module):
    """1×1 to `inner` channels, 3×3, 1×1 to `out_channels`, and a shortcut: `y = relu(shortcut(x) + F(x))`; a stride is
    in the 3×3.
    """

    def __init__(self, in_channels: int, inner: int, out_channels: int, stride: int) -> None:
        super().__init__()
        changes = stride != 1 or in_channels != out_channels
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        # torchvision's name for the shortcut
        self.downsample = projection(in_channels, out_channels, stride) if changes else nn.Identity()
        self.relu3 = nn.ReLU()

    def branch(self, x: Images) -> Maps:
        """Return the residual function F(x)."""
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))

    def forward(self, x: Images) -> Maps:
        """Return `relu(shortcut(x) + F(x))`."""
        return self.relu3(self.downsample(x) + self.branch(x))


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the projection shortcut: a 1×1 convolution and its BatchNorm."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class WideBottleneckNet(nn.Module):
    """ResNet-50 or -101 with `width` times the inner channels, for 224×224 images: `[B, in_channels, H, W] -> [B,
    num_classes]`.
    """

    def __init__(self, blocks: tuple[int, int, int, int], width: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.input_shape = (in_channels, 224, 224)
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = bottleneck_stage(64, 64 * width, 256, blocks[0], 1)
        self.layer2 = bottleneck_stage(256, 128 * width, 512, blocks[1], 2)
        self.layer3 = bottleneck_stage(512, 256 * width, 1024, blocks[2], 2)
        self.layer4 = bottleneck_stage(1024, 512 * width, 2048, blocks[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2048, num_classes)
        initialise(self)

    def forward(self, x: Images) -> Float[Tensor, "b classes"]:
        """Return the logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # [B, 64, H/4, W/4]
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # [B, 2048, H/32, W/32]
        return self.fc(self.avgpool(x).flatten(1))


def bottleneck_stage(in_channels: int, inner: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    """Return a stage; its first block has the stride."""
    first = WideBottleneck(in_channels, inner, out_channels, stride)
    return nn.Sequential(first, *(WideBottleneck(out_channels, inner, out_channels, 1) for _ in range(blocks - 1)))


def initialise(network: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / fan_out) and set the classifier's bias to 0, as the authors' release does
    (torchvision draws the bias).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


# --- Builders and names -----------------------------------------------------------------------------------------------

IMAGENET_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Blocks per stage: ResNet's."""


def wide_resnet(depth: int, width: int, *, num_classes: int = 1000, in_channels: int = 3) -> WideBottleneckNet:
    """Return WRN-depth-width-bottleneck for ImageNet; width 1 is ResNet (v1.5).

    Raises:
        ValueError: if the depth is neither 50 nor 101.
    """
    if depth not in IMAGENET_BLOCKS:
        raise ValueError(f"depth must be 50 or 101, got {depth}")
    return WideBottleneckNet(IMAGENET_BLOCKS[depth], width, num_classes, in_channels)


def cifar_wide_resnet(
    depth: int, width: int, *, dropout: float = 0.0, num_classes: int = 10, in_channels: int = 3
) -> WideResNet:
    """Return WRN-depth-width for CIFAR: 6n+4 layers, which counts the three 1×1 shortcuts and leaves the classifier
    out (of width 1 there are two such shortcuts, as the first stage keeps the stem's 16 channels).

    Raises:
        ValueError: if the depth is not of that form with n ≥ 1.
    """
    n, rest = divmod(depth - 4, 6)
    if rest or n < 1:
        raise ValueError(
            f"depth {depth} is not 6n+4, as wide CIFAR networks need; "
            f"the nearest is {6 * max(1, round((depth - 4) / 6)) + 4}"
        )
    return WideResNet(n, width, dropout, num_classes, in_channels)


FAMILIES: dict[str, Callable[..., nn.Module]] = {"wide_resnet": wide_resnet, "cifar_wide_resnet": cifar_wide_resnet}
"""Networks of any depth and width."""

MODELS: dict[str, Callable[..., nn.Module]] = {
    "wide_resnet50_2": partial(wide_resnet, 50, 2),
    "wide_resnet101_2": partial(wide_resnet, 101, 2),
    "wrn28_10": partial(cifar_wide_resnet, 28, 10),
}

_TABLE_8 = "Zagoruyko & Komodakis 2016, Table 8 (68.9 M parameters); exact counts are torchvision's network's, measured"
_DEEPER = "torchvision's network, measured: the paper's 50-layer design at 101 layers"
_TABLE_5 = "Zagoruyko & Komodakis 2016, Table 5 (36.5 M parameters); exact counts from the closed form of section 2"

REFERENCE: dict[str, tuple[int, int, str]] = {
    # name: (parameters, multiply-adds of convolutions and classifier for one colour image of the design's size, source)
    "wide_resnet50_2": (68_883_240, 11_398_021_120, _TABLE_8),
    "wide_resnet101_2": (126_886_696, 22_753_050_624, _DEEPER),
    "wrn28_10": (36_479_194, 5_243_328_768, _TABLE_5),
}
