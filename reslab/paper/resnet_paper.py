"""Level 3: the networks of the two ResNet papers.

"Deep Residual Learning for Image Recognition" (He et al. 2015, arXiv:1512.03385): `y = relu(shortcut(x) + branch(x))`,
and plain twins that are the branch alone. "Identity Mappings in Deep Residual Networks" (He et al. 2016,
arXiv:1603.05027), "v2":
`y = x + branch(x)`, where the branch begins with its activation and nothing follows the addition.

Each comes in two designs: ImageNet's (2015, Table 1) and CIFAR's (2015, section 4.2). State-dict names are
torchvision's. `python -m reslab.paper.resnet_paper` prints the family and its tables.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Shortcut = Literal["A", "B", "C"]
StrideIn = Literal["1x1", "3x3"]
Stem = Literal["imagenet", "cifar"]
Pool = Literal["padded", "caffe"]
BlockKind = Literal["basic", "bottleneck"]
Images = Float[Tensor, "b c h w"]
Maps = Float[Tensor, "b out h2 w2"]
BlockMaker = Callable[[int, int, int], nn.Module]
"""(in_channels, out_channels, stride) -> block"""


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3×3 convolution; it has no bias, because a BatchNorm follows or precedes every one."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 1×1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


# --- Shortcuts (2015, section 3.3 and 4.1) ----------------------------------------------------------------------------


class ZeroPad(nn.Module):
    """Option A: the identity across a change of shape, with no parameters.

    Keeps every `stride`-th pixel and appends channels of zeros at the end: `[B, C, H, W] -> [B, C + extra, H/stride,
    W/stride]`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels = out_channels - in_channels
        self.stride = stride

    def extra_repr(self) -> str:
        """Return what it adds and skips."""
        return f"{self.extra_channels}, stride={self.stride}"

    def forward(self, x: Images) -> Maps:
        """Return the subsampled, zero-padded input."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra_channels))


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the projection W_s of v1: a 1×1 convolution and its BatchNorm."""
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


def make_shortcut(
    option: Shortcut, in_channels: int, out_channels: int, stride: int, project: BlockMaker = projection
) -> nn.Module:
    """Return the shortcut: A, identity with zero padding; B, a projection where the shape changes; C, a projection in
    every block.

    Raises:
        ValueError: if there is no such option.
    """
    if option not in ("A", "B", "C"):
        raise ValueError(f"no shortcut option {option!r}; known: 'A', 'B' and 'C' (2015, section 4.1)")
    changes = stride != 1 or in_channels != out_channels
    if option == "C" or (option == "B" and changes):
        return project(in_channels, out_channels, stride)
    return ZeroPad(in_channels, out_channels, stride) if changes else nn.Identity()


# --- Version 1: activation after the addition (2015, Fig. 2 and 5) ----------------------------------------------------


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut: `y = relu(shortcut(x) + F(x))`; `[B, C, H, W] -> [B, out, H/stride,
    W/stride]`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        # torchvision's name for the shortcut
        self.downsample = make_shortcut(shortcut, in_channels, out_channels, stride)
        self.relu2 = nn.ReLU()

    def branch(self, x: Images) -> Maps:
        """Return the residual function F(x): conv-bn-relu-conv-bn."""
        return self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))

    def forward(self, x: Images) -> Maps:
        """Return `relu(shortcut(x) + F(x))` (Eq. 2; the second ReLU comes after the addition)."""
        return self.relu2(self.downsample(x) + self.branch(x))


class PlainBlock(BasicBlock):
    """The same two convolutions with no shortcut: `y = relu(F(x))`."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, stride, shortcut="A")
        del self.downsample

    def forward(self, x: Images) -> Maps:
        """Return `relu(F(x))`."""
        return self.relu2(self.branch(x))


class Bottleneck(nn.Module):
    """1×1 to a quarter of the width, 3×3, 1×1 back, and a shortcut (Fig. 5, right): `y = relu(shortcut(x) + F(x))`.

    A stride is in the first 1×1, as in the paper's release, or in the 3×3 (`stride_in="3x3"`), as in torchvision, which
    is called v1.5.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut, stride_in: StrideIn
    ) -> None:
        super().__init__()
        inner = out_channels // 4
        self.stride_in = stride_in  # so that a file of weights, which cannot tell it, is asked about
        first, middle = strides(stride, stride_in)
        self.conv1 = conv1x1(in_channels, inner, first)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.conv2 = conv3x3(inner, inner, middle)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv3 = conv1x1(inner, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = make_shortcut(shortcut, in_channels, out_channels, stride)
        self.relu3 = nn.ReLU()

    def branch(self, x: Images) -> Maps:
        """Return the residual function F(x)."""
        x = self.relu1(self.bn1(self.conv1(x)))  # [B, out/4, ...]
        x = self.relu2(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))  # [B, out, ...]

    def forward(self, x: Images) -> Maps:
        """Return `relu(shortcut(x) + F(x))`."""
        return self.relu3(self.downsample(x) + self.branch(x))


def strides(stride: int, stride_in: StrideIn) -> tuple[int, int]:
    """Return the strides of a bottleneck's first 1×1 and of its 3×3.

    Raises:
        ValueError: if `stride_in` is neither "1x1" nor "3x3".
    """
    if stride_in not in ("1x1", "3x3"):
        raise ValueError(f"stride_in must be '1x1' (the paper) or '3x3' (v1.5), got {stride_in!r}")
    return (stride, 1) if stride_in == "1x1" else (1, stride)


def max_pool(pool: Pool) -> nn.MaxPool2d:
    """Return the stem's 3×3 / 2 max-pool: padded by 1, as torchvision has it, or the paper's release's, which pads
    nothing and whose last window may reach beyond the edge, as Caffe rounds up; `[B, C, 112, 112] -> [B, C, 56, 56]`
    by both.

    Raises:
        ValueError: if `pool` is neither "padded" nor "caffe".
    """
    if pool not in ("padded", "caffe"):
        raise ValueError(f"pool must be 'padded' (torchvision) or 'caffe' (the release), got {pool!r}")
    return nn.MaxPool2d(3, 2, padding=1) if pool == "padded" else nn.MaxPool2d(3, 2, ceil_mode=True)


# --- Version 2: activation before the weights (2016, Fig. 4e) ---------------------------------------------------------


class PreActivation(nn.Module):
    """A v2 unit: `y = x + F(relu(bn(x)))`.

    Where the shape changes, the shortcut takes the activated input too: `a = relu(bn(x)); y = shortcut(a) + F(a)`, and
    a projection is a bare convolution. The network's first unit has no activation of its own (`first=True`): the stem's
    is shared by both its paths (2016, section 4.1, Fig. 5, and appendix).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut, first: bool) -> None:
        super().__init__()
        self.bn1 = nn.Identity() if first else nn.BatchNorm2d(in_channels)
        self.relu1 = nn.Identity() if first else nn.ReLU()
        self.downsample = make_shortcut(shortcut, in_channels, out_channels, stride, project=conv1x1)
        self.shares_activation = not isinstance(self.downsample, nn.Identity)

    def weights(self, a: Images) -> Maps:
        """Return the branch after its first activation."""
        raise TypeError("a PreActivation unit must be basic or bottleneck")

    def forward(self, x: Images) -> Maps:
        """Return `x + F(a)`, or `shortcut(a) + F(a)` where the shape changes, with `a = relu(bn(x))`."""
        a = self.relu1(self.bn1(x))
        return self.downsample(a if self.shares_activation else x) + self.weights(a)


class PreBasicBlock(PreActivation):
    """The v2 unit of two 3×3 convolutions."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut, first: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels, stride, shortcut, first)
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.conv2 = conv3x3(out_channels, out_channels)

    def weights(self, a: Images) -> Maps:
        """Return conv-bn-relu-conv of the activated input."""
        return self.conv2(self.relu2(self.bn2(self.conv1(a))))


class PreBottleneck(PreActivation):
    """The v2 bottleneck unit; a stride is in the first 1×1, as in the paper's release, or in the 3×3."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: Shortcut,
        stride_in: StrideIn,
        first: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, stride, shortcut, first)
        inner = out_channels // 4
        self.stride_in = stride_in  # so that a file of weights, which cannot tell it, is asked about
        first_stride, middle_stride = strides(stride, stride_in)
        self.conv1 = conv1x1(in_channels, inner, first_stride)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv2 = conv3x3(inner, inner, middle_stride)
        self.bn3 = nn.BatchNorm2d(inner)
        self.relu3 = nn.ReLU()
        self.conv3 = conv1x1(inner, out_channels)

    def weights(self, a: Images) -> Maps:
        """Return the three convolutions of the activated input, each of the last two after its activation."""
        x = self.conv2(self.relu2(self.bn2(self.conv1(a))))
        return self.conv3(self.relu3(self.bn3(x)))


# --- Whole networks ---------------------------------------------------------------------------------------------------


class ResNet(nn.Module):
    """A stem, stages of blocks, average pooling and a classifier: `[B, in_channels, H, W] -> [B, num_classes]`.

    The ImageNet stem is 7×7 / 2 and a 3×3 / 2 max-pool, for 224×224 images; CIFAR's is 3×3, for 32×32. Every stage but
    the first begins with stride 2. The four stages of the ImageNet design take 64 channels, CIFAR's three take 16.
    """

    def __init__(
        self,
        stem: Stem,
        make_first: BlockMaker,
        make: BlockMaker,
        stages: Sequence[tuple[int, int]],
        num_classes: int,
        in_channels: int,
        pool: Pool = "padded",
    ) -> None:
        super().__init__()
        width = 64 if len(stages) == 4 else 16
        self.input_shape = (in_channels, 224, 224) if stem == "imagenet" else (in_channels, 32, 32)
        self.conv1 = (
            nn.Conv2d(in_channels, width, 7, 2, padding=3, bias=False)
            if stem == "imagenet"
            else conv3x3(in_channels, width)
        )
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = max_pool(pool) if stem == "imagenet" else nn.Identity()
        self.stages = len(stages)
        for number, (blocks, channels) in enumerate(stages, start=1):
            first = (make_first if number == 1 else make)(width, channels, 1 if number == 1 else 2)
            self.add_module(
                f"layer{number}", nn.Sequential(first, *(make(channels, channels, 1) for _ in range(blocks - 1)))
            )
            width = channels
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)
        initialise(self)

    def features(self, x: Images) -> Maps:
        """Return the last stage's maps."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # ImageNet: [B, 64, H/4, W/4]; CIFAR: [B, 16, H, W]
        for number in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x

    def forward(self, x: Images) -> Float[Tensor, "b classes"]:
        """Return the logits."""
        return self.fc(self.avgpool(self.features(x)).flatten(1))


class PreResNet(ResNet):
    """The same with v2 units: an extra BatchNorm and ReLU follow the last addition (2016, appendix)."""

    def __init__(
        self,
        stem: Stem,
        make_first: BlockMaker,
        make: BlockMaker,
        stages: Sequence[tuple[int, int]],
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__(stem, make_first, make, stages, num_classes, in_channels)
        self.bn_last = nn.BatchNorm2d(self.fc.in_features)
        self.relu_last = nn.ReLU()

    def features(self, x: Images) -> Maps:
        """Return the last stage's maps, activated."""
        return self.relu_last(self.bn_last(super().features(x)))


def initialise(network: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / fan_out) and set the classifier's bias to 0 ("Delving deep into rectifiers", He
    et al. 2015).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


# --- Builders ---------------------------------------------------------------------------------------------------------

IMAGENET_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),  # 2016 only: 152 with 16 more units on the 28×28 maps
}
"""Blocks per stage (2015, Table 1; 2016, section 5); basic up to 34 layers, bottlenecks beyond."""


def cifar_stages(depth: int, block: BlockKind) -> list[tuple[int, int]]:
    """Return (blocks, channels) of the three stages of a CIFAR network: 6n+2 layers with basic blocks, 9n+2 with
    bottlenecks.

    Raises:
        ValueError: if the depth is not of that form with n ≥ 1, or the kind of block is unknown.
    """
    if block not in ("basic", "bottleneck"):
        raise ValueError(f"block must be 'basic' or 'bottleneck', got {block!r}")
    layers, form = (6, "6n+2") if block == "basic" else (9, "9n+2")
    n, rest = divmod(depth - 2, layers)
    if rest or n < 1:
        nearest = layers * max(1, round((depth - 2) / layers)) + 2
        raise ValueError(
            f"depth {depth} is not {form}, as the CIFAR design with {block} blocks needs; the nearest is {nearest}"
        )
    expansion = 1 if block == "basic" else 4
    return [(n, expansion * width) for width in (16, 32, 64)]


def imagenet_stages(depth: int) -> list[tuple[int, int]]:
    """Return (blocks, channels) of the four stages of an ImageNet network (2015, Table 1)."""
    expansion = 1 if depth < 50 else 4
    return [(blocks, expansion * 64 * 2**number) for number, blocks in enumerate(IMAGENET_BLOCKS[depth])]


def _v1(bottleneck: bool, shortcut: Shortcut, stride_in: StrideIn) -> BlockMaker:
    strides(1, stride_in)  # which refuses any other, also where basic blocks have no use for it
    return (
        partial(Bottleneck, shortcut=shortcut, stride_in=stride_in)
        if bottleneck
        else partial(BasicBlock, shortcut=shortcut)
    )


def _v2(bottleneck: bool, shortcut: Shortcut, stride_in: StrideIn) -> tuple[BlockMaker, BlockMaker]:
    """Return the makers of the first unit and of the others."""
    strides(1, stride_in)
    make = (
        partial(PreBottleneck, shortcut=shortcut, stride_in=stride_in)
        if bottleneck
        else partial(PreBasicBlock, shortcut=shortcut)
    )
    return partial(make, first=True), make


def _resnet(
    depth: int,
    *,
    shortcut: Shortcut = "B",
    stride_in: StrideIn = "1x1",
    stem: Stem = "imagenet",
    pool: Pool = "padded",
    num_classes: int = 1000,
    in_channels: int = 3,
) -> ResNet:
    """Return an ImageNet network of 2015; torchvision's, which are v1.5, with `stride_in="3x3"`. With `stem="cifar"`,
    for images of 32×32, its stem is a 3×3 with no pooling, as many train it on CIFAR; the paper has no such network.

    Raises:
        ValueError: for another stem, or a pool that it has not.
    """
    if stem not in ("imagenet", "cifar"):
        raise ValueError(f"stem must be 'imagenet' or 'cifar', got {stem!r}")
    if stem == "cifar" and pool != "padded":
        raise ValueError(f"pool={pool!r} does not apply: the CIFAR stem has no pooling")
    make = _v1(depth >= 50, shortcut, stride_in)
    return ResNet(stem, make, make, imagenet_stages(depth), num_classes, in_channels, pool)


def _plain(depth: int, *, num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """Return the plain twin of an 18- or 34-layer ImageNet network."""
    return ResNet("imagenet", PlainBlock, PlainBlock, imagenet_stages(depth), num_classes, in_channels)


def _preresnet(
    depth: int, *, shortcut: Shortcut = "B", stride_in: StrideIn = "1x1", num_classes: int = 1000, in_channels: int = 3
) -> PreResNet:
    """Return an ImageNet network of 2016."""
    return PreResNet(
        "imagenet", *_v2(depth >= 50, shortcut, stride_in), imagenet_stages(depth), num_classes, in_channels
    )


def cifar_resnet(
    depth: int,
    *,
    block: BlockKind = "basic",
    shortcut: Shortcut | None = None,
    stride_in: StrideIn = "1x1",
    num_classes: int = 10,
    in_channels: int = 3,
) -> ResNet:
    """Return the CIFAR residual network of any depth 6n+2 (basic; 2015, section 4.2, option A) or 9n+2 (bottleneck;
    2016, option B).
    """
    stages = cifar_stages(depth, block)
    make = _v1(block == "bottleneck", shortcut or _cifar_option(block), stride_in)
    return ResNet("cifar", make, make, stages, num_classes, in_channels)


def cifar_plain(depth: int, *, num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Return the plain twin of `cifar_resnet`: the same layers, no shortcuts."""
    return ResNet("cifar", PlainBlock, PlainBlock, cifar_stages(depth, "basic"), num_classes, in_channels)


def cifar_preresnet(
    depth: int,
    *,
    block: BlockKind = "basic",
    shortcut: Shortcut | None = None,
    stride_in: StrideIn = "1x1",
    num_classes: int = 10,
    in_channels: int = 3,
) -> PreResNet:
    """Return the CIFAR pre-activation network of any depth 6n+2 (basic, option A) or 9n+2 (bottleneck, option B)
    (2016).
    """
    makers = _v2(block == "bottleneck", shortcut or _cifar_option(block), stride_in)
    return PreResNet("cifar", *makers, cifar_stages(depth, block), num_classes, in_channels)


def _cifar_option(block: BlockKind) -> Shortcut:
    """Return the option that the papers used: A with basic blocks (2015, section 4.2), B with bottlenecks (the 2016
    release).
    """
    return "A" if block == "basic" else "B"


# --- Names ------------------------------------------------------------------------------------------------------------

FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "cifar_resnet": cifar_resnet,
    "cifar_plain": cifar_plain,
    "cifar_preresnet": cifar_preresnet,
}
"""Networks of any depth, asked for with `depth=`."""

MODELS: dict[str, Callable[..., nn.Module]] = {
    **{f"resnet{depth}": partial(_resnet, depth) for depth in (18, 34, 50, 101, 152)},
    **{f"resnet{depth}": partial(cifar_resnet, depth) for depth in (20, 32, 44, 56, 110, 1202)},
    **{f"plain{depth}": partial(_plain, depth) for depth in (18, 34)},
    **{f"plain{depth}": partial(cifar_plain, depth) for depth in (20, 32, 44, 56, 110)},
    **{f"preresnet{depth}": partial(_preresnet, depth) for depth in (18, 34, 50, 101, 152, 200)},
    **{f"preresnet{depth}": partial(cifar_preresnet, depth) for depth in (20, 32, 44, 56, 110)},
    **{f"preresnet{depth}": partial(cifar_preresnet, depth, block="bottleneck") for depth in (164, 1001)},
}

_TABLE_1 = (
    "He et al. 2015, Table 1 (1.8, 3.6, 3.8, 7.6, 11.3 G multiply-adds), option B; torchvision's metadata has the same "
    "parameters"
)
_TABLE_6 = (
    "He et al. 2015, Table 6 (0.27, 0.46, 0.66, 0.85, 1.7, 19.4 M parameters); exact counts from the layer sizes of "
    "section 4.2"
)
_TWIN = "He et al. 2015: option A adds no parameters, so a plain network has exactly its option-A twin's"
_SIZES = "He et al. 2016, section 4.1, Fig. 5, and appendix; exact counts from the layer sizes"
_TABLE_4 = (
    "He et al. 2016, Table 4 (1.7 and 10.2 M parameters, without BatchNorm's); with them, as the authors' release "
    "builds it"
)

REFERENCE: dict[str, tuple[int, int, str]] = {
    # name: (parameters, multiply-adds of convolutions and classifier for one colour image of the design's size, source)
    "resnet18": (11_689_512, 1_814_073_344, _TABLE_1),
    "resnet34": (21_797_672, 3_663_761_408, _TABLE_1),
    "resnet50": (25_557_032, 3_857_973_248, _TABLE_1),
    "resnet101": (44_549_160, 7_570_194_432, _TABLE_1),
    "resnet152": (60_192_808, 11_282_415_616, _TABLE_1),
    "resnet20": (269_722, 40_551_040, _TABLE_6),
    "resnet32": (464_154, 68_862_592, _TABLE_6),
    "resnet44": (658_586, 97_174_144, _TABLE_6),
    "resnet56": (853_018, 125_485_696, _TABLE_6),
    "resnet110": (1_727_962, 252_887_680, _TABLE_6),
    "resnet1202": (19_421_274, 2_829_238_912, _TABLE_6),
    "plain18": (11_515_688, 1_794_805_760, _TWIN),
    "plain34": (21_623_848, 3_644_493_824, _TWIN),
    "plain20": (269_722, 40_551_040, _TWIN),
    "plain32": (464_154, 68_862_592, _TWIN),
    "plain44": (658_586, 97_174_144, _TWIN),
    "plain56": (853_018, 125_485_696, _TWIN),
    "plain110": (1_727_962, 252_887_680, _TWIN),
    "preresnet18": (11_687_720, 1_814_073_344, _SIZES),
    "preresnet34": (21_795_880, 3_663_761_408, _SIZES),
    "preresnet50": (25_549_352, 3_857_973_248, _SIZES),
    "preresnet101": (44_541_480, 7_570_194_432, _SIZES),
    "preresnet152": (60_185_128, 11_282_415_616, _SIZES),
    "preresnet200": (64_666_152, 14_776_270_848, _SIZES),
    "preresnet20": (269_722, 40_551_040, _SIZES),
    "preresnet32": (464_154, 68_862_592, _SIZES),
    "preresnet44": (658_586, 97_174_144, _SIZES),
    "preresnet56": (853_018, 125_485_696, _SIZES),
    "preresnet110": (1_727_962, 252_887_680, _SIZES),
    "preresnet164": (1_703_258, 244_500_992, _TABLE_4),
    "preresnet1001": (10_327_706, 1_487_849_984, _TABLE_4),
}


def __getattr__(name: str) -> Callable[..., nn.Module]:
    """Make every named network an attribute: `from reslab.paper.resnet_paper import resnet56`."""
    if name in MODELS:
        return MODELS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    from reslab.stories.paper import main
    from reslab.stories.speaking import tell

    tell(main)
