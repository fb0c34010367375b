"""Level 3: the networks of "Deep Residual Learning for Image Recognition" (He et al., 2015, arXiv:1512.03385).

A residual block computes `relu(shortcut(x) + branch(x))` (Eq. 1 and 2); its plain twin is the branch alone. The CIFAR-10
networks are the 6n+2 design of section 4.2. State-dict names are torchvision's.
"""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# --- Shortcuts (section 3.3) ------------------------------------------------------------------------------------------


class ZeroPad(nn.Module):
    """Option A: the identity across a change of shape, with no parameters.

    Keeps every `stride`-th pixel and appends channels of zeros at the end: `[B, C, H, W] -> [B, C + extra, H/stride, W/stride]`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels = out_channels - in_channels
        self.stride = stride

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out h2 w2"]:
        """Return the subsampled, zero-padded input."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra_channels))


def shortcut_a(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return option A: the identity, zero-padded where the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return ZeroPad(in_channels, out_channels, stride)


# --- Blocks (Fig. 5, left) --------------------------------------------------------------------------------------------


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut: `y = relu(shortcut(x) + branch(x))`; `[B, C, H, W] -> [B, channels, H/stride, W/stride]`."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut_a(in_channels, channels, stride)  # torchvision's name for the shortcut
        self.relu2 = nn.ReLU()

    def branch(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out h2 w2"]:
        """Return the residual function F(x): conv-bn-relu-conv-bn."""
        return self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out h2 w2"]:
        """Return `relu(shortcut(x) + F(x))` (Eq. 2; the second ReLU comes after the addition)."""
        return self.relu2(self.downsample(x) + self.branch(x))


class PlainBlock(BasicBlock):
    """The same two convolutions with no shortcut: `y = relu(branch(x))`."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__(in_channels, channels, stride)
        del self.downsample

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out h2 w2"]:
        """Return `relu(F(x))`."""
        return self.relu2(self.branch(x))


# --- Whole networks ---------------------------------------------------------------------------------------------------


class CifarResNet(nn.Module):
    """A 3×3 stem, three stages of n blocks (16, 32, 64 channels; maps 32, 16, 8), average pooling, a classifier (section 4.2).

    Takes `[B, in_channels, H, W]` and returns logits `[B, num_classes]`; the paper's images are 32×32.
    """

    def __init__(self, block: type[BasicBlock], blocks_per_stage: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.input_shape = (in_channels, 32, 32)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = stage(block, 16, 16, blocks_per_stage, stride=1)
        self.layer2 = stage(block, 16, 32, blocks_per_stage, stride=2)
        self.layer3 = stage(block, 32, 64, blocks_per_stage, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)
        initialise(self)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Return the logits."""
        x = self.relu(self.bn1(self.conv1(x)))  # [B, 16, H, W]
        x = self.layer1(x)  # [B, 16, H, W]
        x = self.layer2(x)  # [B, 32, H/2, W/2]
        x = self.layer3(x)  # [B, 64, H/4, W/4]
        return self.fc(self.avgpool(x).flatten(1))  # [B, 64] -> [B, classes]


def stage(block: type[BasicBlock], in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    """Return `blocks` blocks in a row; only the first changes the shape."""
    first = block(in_channels, channels, stride)
    return nn.Sequential(first, *(block(channels, channels, 1) for _ in range(blocks - 1)))


def initialise(network: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / fan_out) and set the classifier's bias to 0 ("Delving deep into rectifiers", He et al., 2015)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def blocks_per_stage(depth: int) -> int:
    """Return n for a network of depth 6n+2 (section 4.2): three stages of n blocks of two layers, the stem and the classifier.

    Raises:
        ValueError: if the depth is not 6n+2 with n ≥ 1.
    """
    n, rest = divmod(depth - 2, 6)
    if rest or n < 1:
        nearest = 6 * max(1, round((depth - 2) / 6)) + 2
        raise ValueError(f"depth {depth} is not 6n+2 (8, 14, 20, …, as the CIFAR design needs); the nearest is {nearest}")
    return n


def cifar_resnet(depth: int, *, num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """Return the CIFAR residual network of any depth 6n+2, shortcut option A (section 4.2)."""
    return CifarResNet(BasicBlock, blocks_per_stage(depth), num_classes, in_channels)


def cifar_plain(depth: int, *, num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """Return the plain twin of `cifar_resnet`: the same layers, no shortcuts."""
    return CifarResNet(PlainBlock, blocks_per_stage(depth), num_classes, in_channels)


# --- Names ------------------------------------------------------------------------------------------------------------

FAMILIES: dict[str, Callable[..., nn.Module]] = {"cifar_resnet": cifar_resnet, "cifar_plain": cifar_plain}
"""Networks of any depth, asked for with `depth=`."""

MODELS: dict[str, Callable[..., nn.Module]] = {
    **{f"resnet{depth}": partial(cifar_resnet, depth) for depth in (20, 32, 44, 56, 110, 1202)},
    **{f"plain{depth}": partial(cifar_plain, depth) for depth in (20, 32, 44, 56, 110)},
}

_TABLE_6 = "He et al. 2015, Table 6 (0.27, 0.46, 0.66, 0.85, 1.7, 19.4 M parameters); exact counts from the layer sizes of section 4.2"
_TWIN = "He et al. 2015, section 4.2: option A adds no parameters, so a plain network has exactly its residual twin's"

REFERENCE: dict[str, tuple[int, int, str]] = {
    # name: (parameters, multiply-adds of convolutions and classifier for one 32×32 colour image, source)
    "resnet20": (269_722, 40_551_040, _TABLE_6),
    "resnet32": (464_154, 68_862_592, _TABLE_6),
    "resnet44": (658_586, 97_174_144, _TABLE_6),
    "resnet56": (853_018, 125_485_696, _TABLE_6),
    "resnet110": (1_727_962, 252_887_680, _TABLE_6),
    "resnet1202": (19_421_274, 2_829_238_912, _TABLE_6),
    "plain20": (269_722, 40_551_040, _TWIN),
    "plain32": (464_154, 68_862_592, _TWIN),
    "plain44": (658_586, 97_174_144, _TWIN),
    "plain56": (853_018, 125_485_696, _TWIN),
    "plain110": (1_727_962, 252_887_680, _TWIN),
}


def __getattr__(name: str) -> Callable[..., nn.Module]:
    """Make every named network an attribute: `from reslab.paper.resnet_paper import resnet56`."""
    if name in MODELS:
        return MODELS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
