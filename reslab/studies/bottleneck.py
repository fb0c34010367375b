"""Bottlenecks: more layers for the same computation, and what they are worth (He et al. 2015, sections 3.4 and 4.1, Fig. 5)

A bottleneck (1×1 to a quarter of the channels, 3×3, 1×1 back) has three layers where a basic block has two. CIFAR networks with n blocks a
stage, basic (6n+2 layers) and bottleneck (9n+2 layers, four times the channels between blocks), both with projections where the shape
changes, so that the blocks alone differ. Multiply-adds and parameters are in the table: from n = 9 on (56 and 83 layers) they agree within 2 %;
with fewer blocks the bottlenecks cost more, since their projections are wider.

What the chapter says of a bottleneck's layers and of ResNet-50's stages is read off the network itself.
"""

from statistics import mean

import torch
from pydantic import Field
from torch import nn

from reslab import zoo
from reslab.claims import Check, Citation, Claim, Comparison
from reslab.studies.study import Chart, CifarDepths, Groups, Measurement, Progress, Series, Study, StudyConfig, Table, by_seed
from reslab.training.loop import TrialConfig

PAPER = "He et al. 2015 (arXiv:1512.03385)"

MORE_LAYERS = Claim(
    id="bottleneck.one-more-layer-for-no-more-computation",
    kind="exact",
    section="blocks",
    statement={
        "ko": "56×56에서 256채널 병목 블록(3층)의 곱셈-덧셈은 2억 1837만 번으로, 64채널 기본 블록(2층)의 2억 3121만 번보다 적다.",
        "en": "At 56×56, a bottleneck of 256 channels (3 layers) takes 218.37 M multiply-adds, a basic block of 64 (2 layers) more: 231.21 M.",
    },
    source=f"{PAPER}, Fig. 5: “similar time complexity”",
)
MIDDLE = Claim(
    id="bottleneck.the-3x3-is-half-of-the-computation",
    kind="exact",
    section="blocks",
    statement={
        "ko": "병목 블록에서 3×3 합성곱은 곱셈-덧셈의 52.9 %이다. 나머지 47.1 %는 두 1×1 합성곱이 쓴다.",
        "en": "The 3×3 convolution makes 52.9 % of a bottleneck's multiply-adds; the two 1×1 convolutions make the other 47.1 %.",
    },
    source=f"{PAPER}, Fig. 5; counted",
    corrects={"ko": "3×3 합성곱이 병목 블록의 주요 연산이다", "en": "the 3×3 convolution is the bottleneck's main computation"},
)
CHANNELS = Claim(
    id="bottleneck.channels-of-resnet-50",
    kind="exact",
    section="resnet-50",
    statement={
        "ko": "ResNet-50의 네 단계는 64→256, 256→512, 512→1024, 1024→2048채널이다. 128, 256, 512는 입력이 아니라 블록 안쪽의 너비이다.",
        "en": "ResNet-50's stages go 64→256, 256→512, 512→1024, 1024→2048; 128, 256 and 512 are widths inside the blocks, not inputs.",
    },
    source=f"{PAPER}, Table 1",
    corrects={"ko": "Layer2는 128→512, Layer3은 256→1024, Layer4는 512→2048", "en": "Layer2 is 128→512, Layer3 256→1024, Layer4 512→2048"},
)
REDUCES_NOTHING = Claim(
    id="bottleneck.the-first-reduces-nothing",
    kind="exact",
    section="blocks",
    statement={
        "ko": "ResNet-50의 블록 16개 중 첫 블록의 첫 1×1 합성곱은 64채널을 64채널로 두어 아무것도 줄이지 않고, 나머지 15개는 2배 또는 4배로 줄인다.",
        "en": "Of ResNet-50's 16 blocks, the first one's first 1×1 keeps 64 channels at 64 and reduces nothing; the other 15 reduce them by 2 or 4.",
    },
    source=f"{PAPER}, Table 1",
    corrects={"ko": "첫 1×1 합성곱은 채널을 축소한다", "en": "the first 1×1 reduces the channels"},
)
STRIDES = Claim(
    id="bottleneck.strides-of-resnet-50",
    kind="exact",
    section="resnet-50",
    statement={
        "ko": "ResNet-50에서 보폭 2는 layer2, 3, 4의 첫 블록의 첫 1×1에만 있고, 지름길의 투영은 보폭이 1인 layer1의 첫 블록에도 있다.",
        "en": "In ResNet-50 only the first 1×1 in the first blocks of layer2, 3 and 4 has stride 2; layer1's first block projects too, at stride 1.",
    },
    source=f"{PAPER}, Table 1 and the authors' release; torchvision's v1.5 has the stride in the 3×3",
    corrects={"ko": "Layer2, 3, 4는 stride=2이다", "en": "Layer2, 3 and 4 have stride 2"},
)
NOT_WORSE = Claim(
    id="bottleneck.not-worse-at-equal-computation",
    kind="statistical",
    section="blocks",
    statement={
        "ko": "가장 깊은 쌍에서, 거의 같은 계산량으로 층이 1.5배인 병목 신경망의 시험 오류는 기본 블록 신경망보다 1 %p 넘게 크지 않다.",
        "en": "In the deepest pair, bottlenecks (1.5 times the layers, about equal computation) have a test error higher by no more than 1 point.",
    },
    source=f"{PAPER}, section 4.1, Table 3",
    direction="not higher",
    margin=0.01,
    unit="test error",
)
BETTER = Claim(
    id="bottleneck.trains-better-at-equal-computation",
    kind="statistical",
    section="blocks",
    statement={
        "ko": "가장 깊은 쌍에서, 거의 같은 계산량의 병목 신경망은 기본 블록 신경망보다 훈련 오류가 0.5 %p 넘게 작다.",
        "en": "In the deepest pair, the bottleneck network of about equal computation has a training error lower by over half a point.",
    },
    source=f"{PAPER}, section 4.1: the deeper networks train to lower errors",
    direction="lower",
    margin=0.005,
    unit="training error",
)
IMAGENET = Claim(
    id="bottleneck.better-on-imagenet",
    kind="cited",
    section="blocks",
    statement={
        "ko": "ImageNet에서 병목 블록의 ResNet-50은 계산량이 비슷한 기본 블록의 ResNet-34보다 오류가 작다.",
        "en": "On ImageNet, ResNet-50 of bottlenecks has a lower error than ResNet-34 of basic blocks, at a similar computation.",
    },
    source=f"{PAPER}, Tables 1 and 3",
)
CIFAR = Claim(
    id="bottleneck.better-on-cifar-10",
    kind="cited",
    section="blocks",
    statement={
        "ko": "CIFAR-10에서 병목 블록의 ResNet-164는 계산량과 매개변수가 비슷한 기본 블록의 ResNet-110보다 오류가 작다.",
        "en": "On CIFAR-10, ResNet-164 of bottlenecks has a lower error than ResNet-110 of basic blocks, at similar computation and parameters.",
    },
    source="He et al. 2016 (arXiv:1603.05027), Tables 2 and 3",
)


class BottleneckConfig(StudyConfig):
    """Depths of the basic networks; each is paired with the bottleneck network of as many blocks."""

    depths: CifarDepths = Field((20, 56), min_length=1, description="depths of the basic networks, each 6n+2; the claims compare at the deepest")


def partner(depth: int) -> int:
    """Return the depth of the bottleneck network with as many blocks as the basic network of this depth: 9n+2 for 6n+2."""
    return (depth - 2) // 6 * 9 + 2


def grid(config: BottleneckConfig) -> dict[str, list[TrialConfig]]:
    """Return the trials: a basic and a bottleneck group for each number of blocks."""
    groups = {}
    for depth in config.depths:
        groups[f"basic-{depth}"] = config.trials("cifar_resnet", depth=depth, block="basic", shortcut="B")
        groups[f"bottleneck-{partner(depth)}"] = config.trials("cifar_resnet", depth=partner(depth), block="bottleneck", shortcut="B")
    return groups


def measure(config: BottleneckConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return the comparisons at the deepest pair, and what the blocks and ResNet-50 are."""
    deep = config.depths[-1]
    basic, bottleneck = groups[f"basic-{deep}"], groups[f"bottleneck-{partner(deep)}"]
    with torch.device("meta"):
        resnet34, resnet50 = zoo.build("resnet34"), zoo.build("resnet50")
    return Measurement(
        comparisons=[
            Comparison(NOT_WORSE, by_seed(bottleneck, "test_error"), by_seed(basic, "test_error")),
            Comparison(BETTER, by_seed(bottleneck, "train_error"), by_seed(basic, "train_error")),
        ],
        checks=[*block_checks(resnet34, resnet50), *stage_checks(resnet50)],
        citations=[
            Citation(
                IMAGENET,
                "supported",
                "22.85 % top-1 error at 3.8 G multiply-adds (ResNet-50) against 24.52 % at 3.6 G (ResNet-34, option B too), 10 crops",
            ),
            Citation(CIFAR, "supported", "5.93 % (ResNet-164) against 6.61 % (ResNet-110), original units, both with 1.7 M parameters"),
        ],
        tables=[_table(groups)],
        charts=[_chart(config, groups)],
    )


def block_checks(resnet34: nn.Module, resnet50: nn.Module) -> list[Check]:
    """Return the multiply-adds of a basic block and a bottleneck of ResNet-34's and ResNet-50's first stages."""
    basic, bottleneck = resnet34.get_submodule("layer1.1"), resnet50.get_submodule("layer1.1")
    middle = bottleneck.get_submodule("conv2")
    with torch.device("meta"):
        macs = {
            "basic": zoo.count_macs(basic, torch.empty(1, 64, 56, 56)),
            "bottleneck": zoo.count_macs(bottleneck, torch.empty(1, 256, 56, 56)),
        }
        share = zoo.count_macs(middle, torch.empty(1, 64, 56, 56)) / macs["bottleneck"]
    # a 3×3 convolution from c to c channels takes 9c² a pixel, a 1×1 from a to b takes ab
    expected = {"basic": 2 * 9 * 64**2 * 56**2, "bottleneck": (256 * 64 + 9 * 64**2 + 64 * 256) * 56**2}
    return [Check(MORE_LAYERS, macs, expected), Check(MIDDLE, round(share, 3), 0.529)]


def stage_checks(resnet50: nn.Module) -> list[Check]:
    """Return what goes into and out of ResNet-50's stages, what its first 1×1s reduce, and where it has strides and projections."""
    stages = [resnet50.get_submodule(f"layer{number}") for number in (1, 2, 3, 4)]
    blocks = {f"layer{number}.{index}": block for number, stage in enumerate(stages, 1) for index, block in enumerate(stage.children())}
    convolutions = {name: module for name, module in resnet50.named_modules() if isinstance(module, nn.Conv2d) and name.startswith("layer")}
    channels = [
        f"{convolutions[f'layer{n}.0.conv1'].in_channels}→{convolutions[f'layer{n}.0.conv3'].out_channels}" for n in range(1, len(stages) + 1)
    ]
    first = [convolutions[f"{block}.conv1"] for block in blocks]
    strided = [name for name, convolution in convolutions.items() if convolution.stride == (2, 2) and "downsample" not in name]
    projecting = [name for name in blocks if f"{name}.downsample.0" in convolutions]
    return [
        Check(CHANNELS, channels, ["64→256", "256→512", "512→1024", "1024→2048"]),
        Check(REDUCES_NOTHING, [c.in_channels // c.out_channels for c in first], [1, 4, 4, 2, 4, 4, 4, 2, 4, 4, 4, 4, 4, 2, 4, 4]),
        Check(
            STRIDES,
            {"stride 2": strided, "projection": projecting},
            {"stride 2": [f"layer{n}.0.conv1" for n in (2, 3, 4)], "projection": [f"layer{n}.0" for n in (1, 2, 3, 4)]},
        ),
    ]


def _table(groups: Groups) -> Table:
    rows: list[list[str | int | float | None]] = []
    for group, trials in groups.items():
        image = next(trials[0].data().batches("test"))[0][:1]
        with torch.device("meta"):
            network = trials[0].fresh_network()
            macs = zoo.count_macs(network, image.to("meta"))
        errors = [100 * mean(by_seed(trials, f"{part}_error").values()) for part in ("train", "test")]
        rows.append([group, int(group.partition("-")[2]), macs, zoo.count_params(network), *errors])
    return Table(
        title={"ko": "계산량과 오류 (시드 평균)", "en": "Computation and errors (means over seeds)"},
        columns=["network", "layers", "MACs", "parameters", "training error (%)", "test error (%)"],
        rows=rows,
    )


def _chart(config: BottleneckConfig, groups: Groups) -> Chart:
    series = []
    for kind, depths in (("basic", config.depths), ("bottleneck", [partner(depth) for depth in config.depths])):
        errors = [torch.tensor(list(by_seed(groups[f"{kind}-{depth}"], "test_error").values()), dtype=torch.float64) for depth in depths]
        blocks = [(depth - 2) / 2 for depth in config.depths]
        series.append(Series(kind, blocks, [100 * float(e.mean()) for e in errors], [100 * float(e.std(correction=0)) for e in errors]))
    return Chart(
        title={"ko": "블록 수가 같은 두 신경망", "en": "Networks of as many blocks"},
        caption={
            "ko": "같은 수의 블록에서 계산량은 비슷하고 층은 병목 쪽이 1.5배 많다. 정확한 계산량은 표에 있다.",
            "en": "With as many blocks, bottlenecks have 1.5 times the layers for about the same computation; the table has the exact figures.",
        },
        x={"ko": "블록 수", "en": "blocks"},
        y={"ko": "시험 오류 (%)", "en": "test error (%)"},
        series=series,
    )


STUDY = Study(
    name="bottleneck",
    title={"ko": "병목 블록", "en": "Bottlenecks"},
    question={
        "ko": "병목 블록은 같은 계산량으로 층을 얼마나 늘리고, 늘린 층은 정확도에 도움이 되는가?",
        "en": "How many more layers does a bottleneck buy for the same computation, and do they help the accuracy?",
    },
    claims=(MORE_LAYERS, MIDDLE, CHANNELS, REDUCES_NOTHING, STRIDES, NOT_WORSE, BETTER, IMAGENET, CIFAR),
    config=BottleneckConfig,
    presets={
        "default": {},
        "smoke": {"depths": (8,), "seeds": 3, "epochs": 1},
        "full": {"data": "cifar10", "epochs": 16, "depths": (20, 56, 110)},
    },
    grid=grid,
    measure=measure,
)
