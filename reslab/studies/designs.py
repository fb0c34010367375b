"""The successors' designs, counted: what the chapter's section on ResNet's successors says, against the networks and the papers themselves.

Nothing is trained. RegNet's stages are fitted back to a line: stage s of the line `w0 + wa·j`, quantised to powers of wm, begins at the first
block j with `1 + (wa/w0)·j ≥ wm^(s−½)` (Radosavovic et al. 2020, Eq. 2 to 4), so that blocks a stage give a range of `wa/w0`, or none.
"""

import math
from collections.abc import Iterable

import torch
from torch import nn

from reslab.analysis.feature_reuse import dense_blocks
from reslab.ledger.claim import Claim
from reslab.ledger.record import Table
from reslab.ledger.verdict import Check, Citation
from reslab.networks import literature, zoo
from reslab.studies.laws import agreeing_phi, nearest_blocks, slopes, sum_of_paths
from reslab.studies.study import Groups, Measurement, Progress, Study, StudyConfig
from reslab.successors import efficientnet, regnet

RESNEXT = "Xie et al. 2017 (arXiv:1611.05431)"
EFFICIENTNET = "Tan & Le 2019 (arXiv:1905.11946)"
REGNET = "Radosavovic et al. 2020 (arXiv:2003.13678)"

SUM_OF_PATHS = Claim(
    id="designs.cardinality-is-a-sum-of-paths",
    kind="exact",
    section="successors",
    statement={
        "ko": "그룹이 C개인 합성곱을 쓴 ResNeXt 블록은 모양이 같은 좁은 병목 C개의 합과 같은 함수이다. C가 카디널리티이다.",
        "en": "A ResNeXt block with a convolution in C groups is the same function as a sum of C narrow bottlenecks: C is the cardinality.",
    },
    source=f"{RESNEXT}, section 3.3, Eq. 3 and Fig. 3",
)
FEWER_PARAMETERS = Claim(
    id="designs.resnext50-has-fewer-parameters-than-resnet101",
    kind="exact",
    section="successors",
    statement={
        "ko": "ResNeXt-50 (32×4d)의 매개변수는 2,503만 개로, ResNet-101의 4,455만 개의 56%이다.",
        "en": "ResNeXt-50 (32×4d) has 25.0 million parameters, 56 % of ResNet-101's 44.5 million.",
    },
    source="counted; the figures are those of torchvision's metadata",
)
NOT_QUITE_RESNET101 = Claim(
    id="designs.resnext50-does-not-quite-reach-resnet101",
    kind="cited",
    section="successors",
    statement={
        "ko": "ResNeXt-50의 ImageNet 오류는 ResNet-101에 가깝지만 조금 더 크다.",
        "en": "ResNeXt-50's error on ImageNet comes close to ResNet-101's, and is slightly higher.",
    },
    source=f"{RESNEXT}, Table 3; {REGNET}, Table 3",
    corrects={"ko": "ResNeXt-50은 ResNet-101과 성능이 같다", "en": "ResNeXt-50 performs as ResNet-101 does"},
)
WITHIN_A_BLOCK = Claim(
    id="designs.dense-connections-stay-within-a-block",
    kind="exact",
    section="successors",
    statement={
        "ko": "DenseNet의 층은 같은 밀집 블록의 뒤따르는 층에만 직접 연결된다. DenseNet-121의 연결은 535개이다. "
        "58개 층을 모두 이었다면 1,711개였을 것이다.",
        "en": "A DenseNet's layer is connected to the later layers of its own dense block only: 535 connections in DenseNet-121, where 58 layers "
        "connected throughout would have 1,711.",
    },
    source="Huang et al. 2017 (arXiv:1608.06993), section 3 (“Pooling layers”) and Table 1; counted, a block's input included as a source",
    corrects={"ko": "모든 레이어를 모든 후속 레이어에 연결한다", "en": "it connects every layer to all later ones"},
)
ALL_THREE = Claim(
    id="designs.efficientnets-scale-three-dimensions",
    kind="exact",
    section="successors",
    statement={
        "ko": "공개된 EfficientNet은 B2부터 B7까지 너비, 깊이, 해상도가 모두 B0보다 크다. B1은 너비를 그대로 둔다.",
        "en": "From B2 to B7 the published EfficientNets exceed B0 in width, depth and resolution; B1 leaves the width as it was.",
    },
    source=f"{EFFICIENTNET}; coefficients from the authors' release (tensorflow/tpu, efficientnet_builder.py)",
)
NOT_POWERS = Claim(
    id="designs.published-coefficients-are-not-powers",
    kind="exact",
    section="successors",
    statement={
        "ko": "B3부터는 어떤 φ도 공개된 계수를 α^φ, β^φ, γ^φ로 주지 않는다. 반올림을 감안해도 그렇다. B1과 B2에는 그런 φ가 있다(약 0.5와 1.07).",
        "en": "From B3 on no φ gives the published coefficients as α^φ, β^φ, γ^φ, even rounded; for B1 and B2 one does (about 0.5 and 1.07).",
    },
    source=f"{EFFICIENTNET}, Eq. 3 and section 4; rounding: coefficients to 0.1, sides to 4 pixels",
    corrects={"ko": "세 차원을 한 계수로 함께 스케일링한다", "en": "one compound coefficient scales the three dimensions"},
)
B0_WAS_SEARCHED = Claim(
    id="designs.b0-was-searched",
    kind="cited",
    section="successors",
    statement={
        "ko": "EfficientNet의 출발점인 B0는 구조 탐색(NAS)으로 찾은 것이고, 스케일링은 그다음이다.",
        "en": "EfficientNet's starting point, B0, was found by an architecture search; scaling comes after.",
    },
    source=f"{EFFICIENTNET}, section 4 and Table 1",
    corrects={
        "ko": "너비, 깊이, 해상도를 동시에 스케일링한다(B0의 출처는 말하지 않음)",
        "en": "it scales three dimensions (B0's origin is left out)",
    },
)
RESOLUTION_DISPUTED = Claim(
    id="designs.scaling-resolution-pays",
    kind="cited",
    section="successors",
    statement={"ko": "계산량을 늘릴 때는 해상도도 함께 늘리는 것이 낫다.", "en": "Where more computation is spent, resolution should grow too."},
    source=f"{EFFICIENTNET}, Table 7; {REGNET}, section 4 and Fig. 14",
)
A_SPACE = Claim(
    id="designs.regnet-designs-a-space",
    kind="cited",
    section="successors",
    statement={
        "ko": "RegNet은 최적의 신경망 하나를 탐색하지 않고 신경망의 공간을 설계한다. "
        "공개된 신경망은 저마다 그 공간에서 무작위로 고른 점 25개 가운데 가장 나은 것이다.",
        "en": "RegNet does not search for one optimal network but designs a space; each published network is the best of 25 random points of it.",
    },
    source=f"{REGNET}, sections 3 and 5, Table 1",
    corrects={"ko": "최적 네트워크 구조를 탐색한다", "en": "it searches for the optimal structure"},
)
FIVE_NUMBERS = Claim(
    id="designs.five-numbers-give-a-regnet",
    kind="exact",
    section="successors",
    statement={
        "ko": "다섯 수(w0, wa, wm, g, d)에서 양자화된 직선으로 지은 RegNet 24개의 매개변수와 연산량은 다른 구현의 것과 하나도 다르지 않다.",
        "en": "Built from five numbers each (w0, wa, wm, g, d) by a quantised line, the 24 RegNets have exactly the parameters and multiply-adds "
        "that other implementations count.",
    },
    source=f"{REGNET}, Eq. 2 to 4, Fig. 15 and 16 (with b = 1, and RegNetY's squeeze ratio); counts of timm's and torchvision's networks",
)
NOT_BACK = Claim(
    id="designs.widths-do-not-give-the-parameters-back",
    kind="exact",
    section="successors",
    statement={
        "ko": "너비와 깊이에서 매개변수 wa를 되찾을 수는 없다. 24개 모두 wa의 한 범위(폭 1%에서 20%) 어디에 두어도 같은 신경망이다.",
        "en": "Widths and depths do not give the slope wa back: each of the 24 networks stays the same over a range of it, 1 to 20 % wide.",
    },
    source=f"{REGNET}, section 3.3, which fits lines to networks in the same way",
)
RESNETS_OFF_THE_LINE = Claim(
    id="designs.no-line-gives-resnets-stages",
    kind="exact",
    section="successors",
    statement={
        "ko": "너비가 단계마다 두 배가 되는 어떤 직선도 ResNet-50, 101, 152의 단계별 블록 수를 주지 않는다. ResNet은 RegNet의 규칙을 따르지 않는다.",
        "en": "No line whose widths double gives the blocks a stage of ResNet-50, 101 or 152: they do not keep to RegNet's rule.",
    },
    source=f"He et al. 2015 (arXiv:1512.03385), Table 1; {REGNET}, Eq. 2 to 4",
)
RESNETS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
DESIGNS = {f"regnet_{kind}_{size}": design for kind, designs in (("x", regnet.X), ("y", regnet.Y)) for size, design in designs.items()}


def measure(config: StudyConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return the checks on the networks themselves, and what the papers say."""
    exact = 0
    for done, name in enumerate(DESIGNS):
        progress("counting RegNets", done, len(DESIGNS))
        counted = zoo.describe(name)
        exact += (counted.params, counted.macs) == (counted.reference.params, counted.reference.macs)
    progress("counting RegNets", len(DESIGNS), len(DESIGNS))
    resnext50, resnet101 = zoo.describe("resnext50_32x4d").params, zoo.describe("resnet101").params
    looseness = [high / low - 1 for low, high in map(wa_range, DESIGNS.values())]
    b0 = efficientnet.PUBLISHED["efficientnet_b0"]
    larger = [name[-2:] for name, scale in efficientnet.PUBLISHED.items() if all(a > b for a, b in zip(scale[:3], b0[:3], strict=True))]
    on_a_curve = [name[-2:] for name, scale in efficientnet.PUBLISHED.items() if agreeing_phi(scale)]
    return Measurement(
        checks=[
            Check(SUM_OF_PATHS, same_function(), True),
            Check(FEWER_PARAMETERS, [round(resnext50 / 1e6, 1), round(resnet101 / 1e6, 1), round(100 * resnext50 / resnet101)], [25.0, 44.5, 56]),
            Check(WITHIN_A_BLOCK, list(connections("densenet121")), [535, 1711]),
            Check(ALL_THREE, larger, ["b2", "b3", "b4", "b5", "b6", "b7"]),
            Check(NOT_POWERS, on_a_curve, ["b0", "b1", "b2"]),
            Check(FIVE_NUMBERS, exact, len(DESIGNS)),
            Check(NOT_BACK, [round(100 * min(looseness)), round(100 * max(looseness))], [1, 20]),
            Check(RESNETS_OFF_THE_LINE, [name for name, blocks in RESNETS.items() if slopes(blocks, 2.0)], []),
        ],
        citations=[
            Citation(NOT_QUITE_RESNET101, "supported", resnext_against_resnet()),
            Citation(B0_WAS_SEARCHED, "supported", "“a multi-objective neural architecture search that optimizes both accuracy and FLOPS”"),
            Citation(
                RESOLUTION_DISPUTED,
                "inconclusive",
                "the sources disagree: compound scaling with resolution gains two points over depth, width or resolution alone (Tan & Le, Table 7); "
                "for RegNetX a fixed 224×224 is best, also at more multiply-adds (Radosavovic et al., Fig. 14). 8×8 images cannot decide it",
            ),
            Citation(
                A_SPACE, "supported", "from AnyNet, with 16 dimensions, to RegNet, with 6; “the best model from 25 random settings” is published"
            ),
        ],
        tables=[regnet_table(), efficientnet_table()],
    )


def same_function() -> bool:
    """Return whether grouped blocks, one with a projection and one without, equal the sums of their paths, in float64."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = zoo.build("cifar_resnext", depth=20, cardinality=4, base_width=3).double().eval()
        for bn in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
            assert bn.running_mean is not None and bn.running_var is not None
            bn.running_mean.normal_()
            bn.running_var.uniform_(0.5, 2)
        blocks = [network.get_submodule("layer2.0"), network.get_submodule("layer2.1")]
        inputs = [torch.randn(2, 256, 6, 6).double(), torch.randn(2, 512, 6, 6).double()]
        return all(torch.allclose(block(x), sum_of_paths(block, x, 4), rtol=1e-10) for block, x in zip(blocks, inputs, strict=True))


def connections(name: str) -> tuple[int, int]:
    """Return a dense network's direct connections into its layers, and how many there would be if they did not end with a block."""
    with torch.device("meta"):
        layers = [len(block.readers) - 1 for block in dense_blocks(zoo.build(name))]
    return sum(n * (n + 1) // 2 for n in layers), sum(layers) * (sum(layers) + 1) // 2


def resnext_against_resnet() -> str:
    """Return both networks' printed errors, wherever one source has both."""
    pairs = [
        (p.errors["resnext50_32x4d"], p.errors["resnet101"], p.who) for p in literature.IMAGENET if {"resnext50_32x4d", "resnet101"} <= set(p.errors)
    ]
    assert all(resnext > resnet for resnext, resnet, _ in pairs)
    return "; ".join(f"{resnext:.1f} against {resnet:.1f} % top-1 ({who})" for resnext, resnet, who in pairs)


def wa_range(design: regnet.Design) -> tuple[float, float]:
    """Return the range of wa, its end excluded, over which a design's network is the same."""
    found = slopes([blocks for blocks, _, _ in regnet.stages(design)], design.wm)
    assert found is not None
    return design.w0 * found[0], design.w0 * found[1]


def regnet_table() -> Table:
    """Return each RegNet's five numbers, what they give, and the range of wa that gives the same; then the ResNets and their nearest lines."""
    rows: list[list[str | int | float | None]] = []
    for name, design in DESIGNS.items():
        stages = regnet.stages(design)
        low, high = wa_range(design)
        misfit = sum(n * abs(math.log(design.w0 * design.wm**s / w)) for s, (n, w, _) in enumerate(stages)) / design.d  # of making groups fit
        rows.append([name, *design, _list(w for _, w, _ in stages), _list(n for n, _, _ in stages), f"{low:.2f} … {high:.2f}", misfit])
    for name, blocks in RESNETS.items():
        nearest, misfit = nearest_blocks(blocks, 2.0)
        rows.append([name, 256, None, 2.0, None, sum(blocks), "256, 512, 1024, 2048", _list(blocks), f"none; nearest: {_list(nearest)}", misfit])
    return Table(
        title={
            "ko": "RegNet의 다섯 수와, 같은 신경망을 주는 wa의 범위",
            "en": "RegNets' five numbers, and the range of wa that gives the same network",
        },
        columns=["network", "w0", "wa", "wm", "g", "d", "widths", "blocks", "the same for wa", "e_fit"],
        rows=rows,
    )


def efficientnet_table() -> Table:
    """Return the published coefficients, and the φ that each of them alone would need."""
    rows: list[list[str | int | float | None]] = []
    for name, scale in efficientnet.PUBLISHED.items():
        agreeing = agreeing_phi(scale)
        shared = f"{agreeing[0]:.2f} … {agreeing[1]:.2f}" if agreeing else "none"
        rows.append([name, scale.depth, scale.width, scale.resolution, *(round(phi, 2) for phi in efficientnet.implied_phi(scale)), shared])
    return Table(
        title={
            "ko": "EfficientNet의 공개된 계수와, 저마다 필요한 φ (깊이 1.2^φ, 너비 1.1^φ, 이미지 한 변 224·1.15^φ)",
            "en": "EfficientNet's published coefficients, and the φ that each needs (depth 1.2^φ, width 1.1^φ, side of the images 224·1.15^φ)",
        },
        columns=["network", "depth", "width", "side", "φ of depth", "φ of width", "φ of side", "one φ for all, rounded"],
        rows=rows,
    )


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


STUDY = Study(
    name="designs",
    title={"ko": "후속 신경망의 설계, 세어 보기", "en": "The successors' designs, counted"},
    question={
        "ko": "장이 ResNeXt, DenseNet, EfficientNet, RegNet에 대해 하는 말은 신경망 자체와 논문에 비추어 맞는가?",
        "en": "Does what the chapter says of ResNeXt, DenseNet, EfficientNet and RegNet hold for the networks themselves, and in their papers?",
    },
    claims=(
        SUM_OF_PATHS,
        FEWER_PARAMETERS,
        NOT_QUITE_RESNET101,
        WITHIN_A_BLOCK,
        ALL_THREE,
        NOT_POWERS,
        B0_WAS_SEARCHED,
        RESOLUTION_DISPUTED,
        A_SPACE,
        FIVE_NUMBERS,
        NOT_BACK,
        RESNETS_OFF_THE_LINE,
    ),
    config=StudyConfig,
    presets={"default": {}, "smoke": {}},
    grid=lambda _: {},
    measure=measure,
)
