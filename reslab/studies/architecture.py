"""Is the architecture what the chapter says it is? Counted on the networks themselves. Nothing is trained.

The networks are built on the meta device and run once; their layers, shapes and multiply-adds (MACs) are read off as they run.
Sources: He et al. 2015 (arXiv:1512.03385) and its release, torchvision.
"""

import re
from typing import Any

import torch
from torch import Tensor, nn

from reslab.ledger.claim import Claim, Section, Text
from reslab.ledger.record import Chart, Series, Table
from reslab.ledger.verdict import Check
from reslab.networks import zoo
from reslab.networks.anatomy import Layer, Operations, layers, stages
from reslab.networks.counting import count_params
from reslab.studies.study import Groups, Measurement, Progress, Study, StudyConfig

HE_2015 = "He et al. 2015 (arXiv:1512.03385)"


def _claim(name: str, section: Section, ko: str, en: str, source: str, chapter: tuple[str, str] | None = None) -> Claim:
    """Return a claim of this study; `chapter` is what the chapter says instead, in Korean and English."""
    corrects: Text | None = {"ko": chapter[0], "en": chapter[1]} if chapter else None
    return Claim(f"architecture.{name}", "exact", section, {"ko": ko, "en": en}, source, corrects=corrects)


# --- The two blocks ---------------------------------------------------------------------------------------------------

BASIC = _claim(
    "basic-block",
    "blocks",
    "ResNet-18과 34의 블록은 3×3 합성곱 두 개이고, 순서는 합성곱-BN-ReLU-합성곱-BN-덧셈-ReLU이다.",
    "The blocks of ResNet-18 and 34 are two 3×3 convolutions, in the order convolution, BN, ReLU, convolution, BN, addition, ReLU.",
    f"{HE_2015}, Table 1 and section 3.3",
)
BOTTLENECK = _claim(
    "bottleneck-block",
    "blocks",
    "ResNet-50, 101, 152의 블록은 1×1, 3×3, 1×1 합성곱이고, 마지막 ReLU는 덧셈 뒤에 온다.",
    "The blocks of ResNet-50, 101 and 152 are 1×1, 3×3 and 1×1 convolutions, and the last ReLU comes after the addition.",
    f"{HE_2015}, Table 1 and Fig. 5",
)
REDUCES = _claim(
    "first-1x1-reduces",
    "blocks",
    "ResNet-50에서 첫 1×1 합성곱이 채널을 줄이지 않는 블록은 layer1.0 하나뿐이다(64채널을 받아 64채널을 낸다).",
    "In ResNet-50 the first 1×1 convolution reduces the channels in every block but layer1.0, which takes 64 and gives 64.",
    f"{HE_2015}, Table 1",
    ("병목 블록의 첫 1×1은 채널을 축소한다", "A bottleneck's first 1×1 reduces the channels"),
)
RESTORES = _claim(
    "last-1x1-quadruples",
    "blocks",
    "ResNet-50에서 마지막 1×1은 채널을 병목 폭의 4배로 만든다. 단계의 첫 블록에서는 받은 것보다 많고, 나머지 블록에서는 받은 만큼으로 복원된다.",
    "In ResNet-50 the last 1×1 makes four times the bottleneck's channels: more than came in where a stage begins, as many in all other blocks.",
    f"{HE_2015}, Table 1",
    ("병목 블록의 마지막 1×1은 채널을 복원한다", "A bottleneck's last 1×1 restores the channels"),
)
MAIN_SHARE = _claim(
    "share-of-the-3x3",
    "blocks",
    "256채널 병목 블록에서 3×3 합성곱은 곱셈-누산의 52.9 %를 차지한다. 절반을 조금 넘을 뿐이다.",
    "In a bottleneck of 256 channels the 3×3 convolution has 52.9 % of the multiply-adds: little more than half.",
    f"counted on the block of {HE_2015}, Fig. 5",
    ("병목 블록의 주요 연산은 3×3이다", "The 3×3 is the bottleneck's main computation"),
)
CHEAPER = _claim(
    "bottleneck-is-cheaper",
    "blocks",
    "한 픽셀에 드는 곱셈-누산은 256채널 병목이 69,632번, 64채널 기본 블록이 73,728번, 256채널 기본 블록이 1,179,648번이다.",
    "A pixel costs 69,632 multiply-adds in a bottleneck of 256 channels, 73,728 in a basic block of 64, and 1,179,648 in a basic block of 256.",
    f"{HE_2015}, Fig. 5: “similar time complexity”",
)
MORE_LAYERS = _claim(
    "layers-at-equal-compute",
    "blocks",
    "ResNet-50은 ResNet-34보다 16층 깊고, 곱셈-누산은 5.3 % 많다(3.86G와 3.66G).",
    "ResNet-50 has 16 more layers than ResNet-34 and 5.3 % more multiply-adds (3.86 G against 3.66 G).",
    f"{HE_2015}, Table 1 gives 3.8 and 3.6 G",
    ("병목 블록은 같은 계산량으로 더 많은 레이어를 쌓는다", "Bottlenecks give more layers at the same compute"),
)

# --- The five networks ------------------------------------------------------------------------------------------------

VARIANTS: dict[str, tuple[int, tuple[int, ...], str]] = {
    "resnet18": (18, (2, 2, 2, 2), "11.7M"),
    "resnet34": (34, (3, 4, 6, 3), "21.8M"),
    "resnet50": (50, (3, 4, 6, 3), "25.6M"),
    "resnet101": (101, (3, 4, 23, 3), "44.5M"),
    "resnet152": (152, (3, 8, 36, 3), "60.2M"),
}
"""The chapter's table: layers, blocks of each stage, parameters."""

DEPTHS = _claim(
    "layers-in-the-name",
    "variants",
    "신경망 이름의 수는 지름길의 투영을 뺀 합성곱과 완전연결층의 수이다(18, 34, 50, 101, 152).",
    "The number in a network's name counts its convolutions and its classifier, without the shortcuts' projections (18, 34, 50, 101, 152).",
    f"{HE_2015}, Table 1",
)
COUNTS = _claim(
    "block-counts",
    "variants",
    "네 단계의 블록 수는 ResNet-18이 2-2-2-2, 34와 50이 3-4-6-3, 101이 3-4-23-3, 152가 3-8-36-3이다.",
    "The four stages have 2-2-2-2 blocks in ResNet-18, 3-4-6-3 in 34 and 50, 3-4-23-3 in 101, and 3-8-36-3 in 152.",
    f"{HE_2015}, Table 1",
)
PARAMETERS = _claim(
    "parameters",
    "variants",
    "매개변수는 ResNet-18, 34, 50, 101, 152 순으로 11.7M, 21.8M, 25.6M, 44.5M, 60.2M개이다.",
    "ResNet-18, 34, 50, 101 and 152 have 11.7M, 21.8M, 25.6M, 44.5M and 60.2M parameters.",
    "counted on the networks; torchvision's metadata has the same",
)

# --- ResNet-50 --------------------------------------------------------------------------------------------------------

OUTPUTS = {
    "conv1": (64, 112, 112),
    "maxpool": (64, 56, 56),
    "layer1": (256, 56, 56),
    "layer2": (512, 28, 28),
    "layer3": (1024, 14, 14),
    "layer4": (2048, 7, 7),
    "avgpool": (2048, 1, 1),
    "fc": (1000,),
}
STAGES = _claim(
    "resnet50-outputs",
    "resnet-50",
    "224×224 입력에 대한 ResNet-50의 단계별 출력은 64×112×112(conv1), 64×56×56(풀링), 256×56×56, 512×28×28, 1024×14×14, 2048×7×7이고, "
    "평균 풀링 뒤 2048에서 1000으로 간다.",
    "On a 224×224 image ResNet-50's stages give 64×112×112 (conv1), 64×56×56 (pooling), 256×56×56, 512×28×28, 1024×14×14 and 2048×7×7, "
    "then 2048 after average pooling and 1000.",
    f"{HE_2015}, Table 1",
)
STEM = _claim(
    "resnet50-stem",
    "resnet-50",
    "ResNet-50은 7×7 합성곱(스트라이드 2, 패딩 3)과 3×3 최대 풀링(스트라이드 2, 패딩 1)으로 시작한다.",
    "ResNet-50 begins with a 7×7 convolution (stride 2, padding 3) and a 3×3 max pooling (stride 2, padding 1).",
    f"{HE_2015}, Table 1; the paddings are those of torchvision",
)
WIDTHS = _claim(
    "resnet50-widths",
    "resnet-50",
    "layer2, 3, 4가 받는 채널은 256, 512, 1024개이다. 128, 256, 512는 병목 안쪽의 폭이다.",
    "layer2, 3 and 4 take 256, 512 and 1024 channels; 128, 256 and 512 are the widths inside their bottlenecks.",
    f"{HE_2015}, Table 1",
    ("Layer2는 128→512, Layer3은 256→1024, Layer4는 512→2048이다", "Layer2 is 128→512, Layer3 256→1024, Layer4 512→2048"),
)
STRIDED = _claim(
    "stride-in-first-blocks",
    "resnet-50",
    "스트라이드 2는 layer2, 3, 4의 첫 블록에만 있다. 다섯 신경망이 모두 그렇다.",
    "Stride 2 is in the first block of layer2, 3 and 4 only, in all five networks.",
    f"{HE_2015}, Table 1",
    ("Layer2는 stride 2인 병목 블록 4개이다", "Layer2 is four bottlenecks of stride 2"),
)
STRIDE_PLACE = _claim(
    "stride-in-which-layer",
    "resnet-50",
    "병목 블록의 스트라이드 2는 논문(v1)에서는 첫 1×1에, torchvision(v1.5)에서는 3×3에 있다.",
    "A bottleneck of stride 2 has that stride in its first 1×1 in the paper (v1), and in its 3×3 in torchvision (v1.5).",
    "Kaiming He's released ResNet-50 (res3a_branch2a has stride 2); torchvision/models/resnet.py",
)
PROJECTIONS = _claim(
    "projections-of-resnet50",
    "resnet-50",
    "ResNet-50에는 투영이 네 개 있고, layer1.0의 투영은 스트라이드 1로 채널만 64에서 256으로 바꾼다.",
    "ResNet-50 has four projections, and layer1.0's has stride 1: it changes only the channels, from 64 to 256.",
    f"{HE_2015}, sections 3.3 and 4.1",
)

# --- Shortcuts across a change of shape -------------------------------------------------------------------------------

OPTION_A = _claim(
    "option-a-subsamples",
    "shortcuts",
    "A안은 채널을 0으로 채울 뿐 아니라 가로세로로 두 픽셀마다 하나만 남긴다.",
    "Option A does not only append channels of zeros: it also keeps every second pixel both ways.",
    f"{HE_2015}, section 3.3: “performed with a stride of 2”",
    ("A안은 x_padded = pad(x, extra_channels)이다", "Option A is x_padded = pad(x, extra_channels)"),
)
EXAMPLE = _claim(
    "projection-example",
    "shortcuts",
    "B안은 64×56×56을 스트라이드 2인 1×1 합성곱으로 128×28×28로 바꾼다(ResNet-34의 layer2.0).",
    "Option B takes 64×56×56 to 128×28×28 by a 1×1 convolution of stride 2 (layer2.0 of ResNet-34).",
    f"{HE_2015}, Eq. 2 and section 3.3",
)
WHERE = _claim(
    "projections-where-the-shape-changes",
    "shortcuts",
    "다섯 신경망에서 투영은 입력과 출력의 모양이 다른 블록에 빠짐없이 있고 다른 블록에는 없다. 나머지 지름길은 모두 항등 사상이다.",
    "In the five networks all blocks whose output has another shape than their input have a projection, and no others; those have the identity.",
    f"{HE_2015}, section 3.3 and Table 3 (B)",
)
PROJECTION_BN = _claim(
    "projections-have-batchnorm",
    "shortcuts",
    "투영은 편향 없는 1×1 합성곱과 그 뒤의 BN이다. 다섯 신경망이 모두 그렇다.",
    "A projection is a 1×1 convolution without bias followed by BatchNorm, in all five networks.",
    "Kaiming He's released ResNet-50 (res2a_branch1, bn2a_branch1); torchvision/models/resnet.py",
    ("shortcut = Conv1×1(x)이다", "The shortcut is Conv1×1(x)"),
)
CIFAR_A = _claim(
    "cifar-networks-have-no-projections",
    "shortcuts",
    "논문의 CIFAR 신경망(20…110층)은 A안을 쓴다. 매개변수가 평범한 쌍둥이와 똑같다.",
    "The paper's CIFAR networks (20 … 110 layers) use option A: they have exactly as many parameters as their plain twins.",
    f"{HE_2015}, section 4.2: “exactly the same depth, width, and number of parameters as the plain counterparts”",
    ("B안(1×1 합성곱)이 논문에서 채택되었다", "Option B (1×1 convolution) was adopted by the paper"),
)

ORDER_V2 = _claim(
    "v2-order",
    "identity",
    "v2의 기본 블록은 BN-ReLU-합성곱-BN-ReLU-합성곱-덧셈이고, 덧셈 뒤에는 아무것도 없다.",
    "A basic block of v2 is BN, ReLU, convolution, BN, ReLU, convolution, addition, with nothing after the addition.",
    "He et al. 2016 (arXiv:1603.05027), Fig. 1(b) and Fig. 4(e)",
)

# --- Measuring --------------------------------------------------------------------------------------------------------

BLOCK = re.compile(r"layer\d\.\d+")
FIRST_BLOCKS = ("layer1.0", "layer2.0", "layer3.0", "layer4.0")


class Anatomy:
    """A network of the zoo, built on the meta device, and its layers as they run on one image of its paper's size."""

    def __init__(self, name: str) -> None:
        with torch.device("meta"):
            self.network = zoo.build(name).eval()
        self.shape = zoo.input_shape(self.network)
        self.layers = layers(self.network, self.shape)
        self.blocks = [path for path, _ in self.network.named_modules() if BLOCK.fullmatch(path)]

    def of(self, block: str) -> dict[str, Layer]:
        """Return a block's layers by their names within it."""
        return {name.removeprefix(f"{block}."): layer for name, layer in self.layers.items() if name.startswith(f"{block}.")}

    @property
    def macs(self) -> int:
        """Return the multiply-adds of the whole network."""
        return sum(layer.macs for layer in self.layers.values())

    @property
    def projections(self) -> dict[str, Layer]:
        """Return the convolutions on shortcuts, by block."""
        return {name.split(".downsample")[0]: layer for name, layer in self.layers.items() if ".downsample" in name}

    @property
    def strided(self) -> dict[str, list[str]]:
        """Return the convolutions of stride over 1 on each block's main path, for the blocks that have any."""
        found = {block: [name for name, layer in self.of(block).items() if stride(layer) > 1 and "downsample" not in name] for block in self.blocks}
        return {block: names for block, names in found.items() if names}

    def ends(self, block: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes that a block takes and gives."""
        path = [layer for name, layer in self.of(block).items() if "downsample" not in name]
        return path[0].input, path[-1].output

    def macs_a_pixel(self, block: str) -> int:
        """Return the multiply-adds of a block for one pixel of its output."""
        parts = list(self.of(block).values())
        return sum(layer.macs for layer in parts) // (parts[-1].output[1] * parts[-1].output[2])

    def operations(self, block: str) -> str:
        """Return what runs in a block."""
        with Operations() as operations, torch.no_grad():
            self.network.get_submodule(block)(torch.empty(1, *self.of(block)["conv1"].input, device="meta"))
        return " ".join(operations.words)


def stride(layer: Layer) -> int:
    """Return a layer's stride; 1 for a classifier."""
    return int(layer.module.stride[0]) if isinstance(layer.module, nn.Conv2d) else 1


def option_a_keeps(x: Tensor) -> tuple[tuple[int, ...], bool, bool]:
    """Return what resnet20's first option-A shortcut makes of `x`: the shape, and whether it is every second pixel, then zeros."""
    y = zoo.build("resnet20").get_submodule("layer2.0.downsample")(x)
    channels = x.shape[1]
    return tuple(y.shape[1:]), torch.equal(y[:, :channels], x[:, :, ::2, ::2]), not y[:, channels:].any()


def measure(config: StudyConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return the counts, and the tables of the five networks and of ResNet-50."""
    nets = {}
    for done, name in enumerate(VARIANTS):
        progress("networks", done, len(VARIANTS))
        nets[name] = Anatomy(name)
    progress("networks", len(VARIANTS), len(VARIANTS))
    net34, net50 = nets["resnet34"], nets["resnet50"]
    identity = {name: [block for block in net.blocks if block not in net.projections] for name, net in nets.items()}
    orders = {name: {net.operations(block) for block in identity[name]} for name, net in nets.items()}
    bottleneck = net50.of("layer1.1")
    share = 100 * bottleneck["conv2"].macs / sum(layer.macs for layer in bottleneck.values())
    outputs = {stage.name: stage.output for stage in stages(net50.network, net50.shape)}
    pool: Any = net50.network.get_submodule("maxpool")
    stem: Any = net50.layers["conv1"].module
    parameters = {name: count_params(net.network) for name, net in nets.items()}
    depths = {name: len(net.layers) - len(net.projections) for name, net in nets.items()}
    counts = {name: tuple(len(list(net.network.get_submodule(f"layer{n}").children())) for n in (1, 2, 3, 4)) for name, net in nets.items()}
    channels = {block: (net50.of(block)["conv1"].input[0], *(net50.of(block)[c].output[0] for c in ("conv1", "conv3"))) for block in net50.blocks}
    example = net34.projections["layer2.0"]
    places = {
        "v1": sorted({name for names in net50.strided.values() for name in names}),
        "v1.5": sorted({name for names in Anatomy("torchvision/resnet50").strided.values() for name in names}),
    }
    with torch.device("meta"):
        twins = [count_params(zoo.build(f"resnet{d}")) - count_params(zoo.build(f"plain{d}")) for d in (20, 32, 44, 56, 110)]
    costs = {
        "bottleneck, 256": net50.macs_a_pixel("layer1.1"),
        "basic, 64": net34.macs_a_pixel("layer1.1"),
        "basic, 256": net34.macs_a_pixel("layer3.1"),
    }
    more = (depths["resnet50"] - depths["resnet34"], round(100 * net50.macs / net34.macs - 100, 1))
    unreduced = [block for block, (taken, inner, _) in channels.items() if inner >= taken]
    grown = {"times the bottleneck's": sorted({given // inner for _, inner, given in channels.values()})}
    grown["more than came in"] = [block for block, (taken, _, given) in channels.items() if given > taken]
    reshaping = {name: [block for block in net.blocks if len(set(net.ends(block))) > 1] for name, net in nets.items()}
    projections: list[Any] = [net.network.get_submodule(f"{block}.downsample") for net in nets.values() for block in net.projections]
    made_of = [*{(conv.kernel_size, conv.bias is not None, type(norm).__name__) for conv, norm in projections}]
    checks = [
        Check(BASIC, sorted(orders["resnet18"] | orders["resnet34"]), ["3×3 BN ReLU 3×3 BN + ReLU"]),
        Check(BOTTLENECK, sorted(orders["resnet50"] | orders["resnet101"] | orders["resnet152"]), ["1×1 BN ReLU 3×3 BN ReLU 1×1 BN + ReLU"]),
        Check(REDUCES, unreduced, ["layer1.0"]),
        Check(RESTORES, grown, {"times the bottleneck's": [4], "more than came in": list(FIRST_BLOCKS)}),
        Check(MAIN_SHARE, f"{share:.1f} %", "52.9 %"),
        Check(CHEAPER, list(costs.values()), [69_632, 73_728, 1_179_648]),
        Check(MORE_LAYERS, more, (16, 5.3)),
        Check(DEPTHS, list(depths.values()), [row[0] for row in VARIANTS.values()]),
        Check(COUNTS, list(counts.values()), [row[1] for row in VARIANTS.values()]),
        Check(PARAMETERS, [f"{count / 1e6:.1f}M" for count in parameters.values()], [row[2] for row in VARIANTS.values()]),
        Check(STAGES, {name: outputs[name] for name in OUTPUTS}, OUTPUTS),
        Check(STEM, (stem.kernel_size, stem.stride, stem.padding, pool.kernel_size, pool.stride, pool.padding), ((7, 7), (2, 2), (3, 3), 3, 2, 1)),
        Check(WIDTHS, [channels[block] for block in FIRST_BLOCKS[1:]], [(256, 128, 512), (512, 256, 1024), (1024, 512, 2048)]),
        Check(STRIDED, sorted({block for net in nets.values() for block in net.strided}), list(FIRST_BLOCKS[1:])),
        Check(STRIDE_PLACE, places, {"v1": ["conv1"], "v1.5": ["conv2"]}),
        Check(PROJECTIONS, {block: stride(p) for block, p in net50.projections.items()}, dict(zip(FIRST_BLOCKS, (1, 2, 2, 2), strict=True))),
        Check(OPTION_A, option_a_keeps(torch.randn(2, 16, 32, 32, generator=torch.Generator().manual_seed(0))), ((32, 16, 16), True, True)),
        Check(EXAMPLE, (example.input, example.output, stride(example)), ((64, 56, 56), (128, 28, 28), 2)),
        Check(WHERE, {name: list(net.projections) for name, net in nets.items()}, reshaping),
        Check(PROJECTION_BN, made_of, [((1, 1), False, "BatchNorm2d")]),
        Check(CIFAR_A, twins, [0, 0, 0, 0, 0]),
        Check(ORDER_V2, Anatomy("preresnet18").operations("layer1.1"), "BN ReLU 3×3 BN ReLU 3×3 +"),
    ]
    kinds = {name: "Basic" if depths[name] < 50 else "Bottleneck" for name in nets}
    family = Table(
        title={"ko": "다섯 신경망: 센 그대로", "en": "The five networks, as counted"},
        columns=("network", "layers", "block", "blocks", "parameters", "MACs"),
        rows=[(name, depths[name], kinds[name], str(list(counts[name])), parameters[name], net.macs) for name, net in nets.items()],
    )
    stages50 = Table(
        title={"ko": "ResNet-50(v1), 224×224 영상", "en": "ResNet-50 (v1) on a 224×224 image"},
        columns=("stage", "what", "output", "parameters", "MACs"),
        rows=[(s.name, s.blocks, "×".join(map(str, s.output)), s.params, s.macs) for s in stages(net50.network, net50.shape)],
    )
    cost = Chart(
        title={"ko": "픽셀 하나에 드는 계산량: 병목과 기본 블록", "en": "What a pixel costs: bottleneck and basic block"},
        caption={
            "ko": "256채널 병목은 64채널 기본 블록보다 조금 싸고, 비용이 같은 폭의 기본 블록의 17분의 1이다.",
            "en": "A bottleneck of 256 channels costs a little less than a basic block of 64, and 17 times less than a basic block of its own width.",
        },
        x={"ko": "블록", "en": "block"},
        y={"ko": "픽셀당 곱셈-누산", "en": "multiply-adds a pixel"},
        series=[Series(name="MACs", x=list(costs), y=[float(cost) for cost in costs.values()])],
        kind="bars",
    )
    return Measurement(checks=checks, tables=[family, stages50], charts=[cost])


STUDY = Study(
    name="architecture",
    title={"ko": "구조를 세어 보다", "en": "The architecture, counted"},
    question={
        "ko": "ResNet의 구조는 이 장이 말하는 대로인가?",
        "en": "Is the architecture of ResNet what the chapter says?",
    },
    claims=(
        *(BASIC, BOTTLENECK, REDUCES, RESTORES, MAIN_SHARE, CHEAPER, MORE_LAYERS, DEPTHS, COUNTS, PARAMETERS),
        *(STAGES, STEM, WIDTHS, STRIDED, STRIDE_PLACE, PROJECTIONS, OPTION_A, EXAMPLE, WHERE, PROJECTION_BN, CIFAR_A, ORDER_V2),
    ),
    config=StudyConfig,
    presets={"default": {}, "smoke": {}},
    grid=lambda _: {},
    measure=measure,
)
