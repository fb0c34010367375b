"""Is the architecture what the chapter says it is? Counted on the networks themselves. Nothing is trained.

The networks are built on the meta device and run once; their layers, shapes and multiply-adds (MACs) are read off as
they run. Sources: He et al. 2015 (arXiv:1512.03385) and its release, torchvision.
"""

from typing import Any, cast

import torch

from reslab.experiment.config import StudyConfig
from reslab.experiment.counted import Counted
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims
from reslab.experiment.trials import Trials
from reslab.ledger.record import Series
from reslab.measures.blocks import BASIC, BOTTLENECK, Shape, blocks_of, family, five, option_a_keeps, resnet50, stride
from reslab.measures.pools import POOLS, logits_moved, pooled
from reslab.networks import zoo
from reslab.networks.anatomy import stages
from reslab.networks.counting import count_params
from reslab.networks.meta import shapes_only

HE_2015 = "He et al. 2015 (arXiv:1512.03385)"
HE_2016 = "He et al. 2016 (arXiv:1603.05027)"
RELEASE = "Kaiming He's released ResNet-50"

PER_PIXEL = ["bottleneck, 256", "basic, 64", "basic, 256"]  # the blocks whose cost is compared, and their channels

COUNTED = Counted()


def orders(*names: str) -> list[str]:
    """Return what runs in the networks' blocks without a projection."""
    found = set[str]()
    for net in map(blocks_of, names):
        found |= {net.operations(block) for block in net.names if block not in net.projections}
    return sorted(found)


@COUNTED.claim(["3×3 BN ReLU 3×3 BN + ReLU"], "blocks", at="Table 1 and section 3.3")
def _basic_block() -> list[str]:
    return orders(*BASIC)


@COUNTED.claim(["1×1 BN ReLU 3×3 BN ReLU 1×1 BN + ReLU"], "blocks", at="Table 1 and Fig. 5")
def _bottleneck_block() -> list[str]:
    return orders(*BOTTLENECK)


@COUNTED.claim(["layer1.0"], "blocks", at="Table 1")
def _first_1x1_reduces() -> list[str]:
    channels = blocks_of("resnet50").channels
    return [block for block, (taken, inner, _) in channels.items() if inner >= taken]


@COUNTED.claim(
    {"times the bottleneck's": [4], "more than came in": ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]},
    "blocks",
    at="Table 1",
)
def _last_1x1_quadruples() -> dict[str, list[int] | list[str]]:
    channels = blocks_of("resnet50").channels
    return {
        "times the bottleneck's": sorted({given // inner for _, inner, given in channels.values()}),
        "more than came in": [block for block, (taken, _, given) in channels.items() if given > taken],
    }


@COUNTED.claim("52.9 %", "blocks", source=f"counted on the block of {HE_2015}, Fig. 5")
def _share_of_the_3x3() -> str:
    bottleneck = blocks_of("resnet50").of("layer1.1")
    share = 100 * bottleneck["conv2"].macs / sum(layer.macs for layer in bottleneck.values())
    return f"{share:.1f} %"


@COUNTED.claim([69_632, 73_728, 1_179_648], "blocks", at="Fig. 5: “similar time complexity”")
def _bottleneck_is_cheaper() -> list[int]:
    basic, bottleneck = blocks_of("resnet34"), blocks_of("resnet50")
    return [bottleneck.macs_per_pixel("layer1.1"), *(basic.macs_per_pixel(block) for block in ("layer1.1", "layer3.1"))]


@COUNTED.claim((16, 5.3), "blocks", at="Table 1 gives 3.8 and 3.6 G")
def _layers_at_equal_compute() -> tuple[int, float]:
    net34, net50 = blocks_of("resnet34"), blocks_of("resnet50")
    return net50.depth - net34.depth, round(100 * net50.macs / net34.macs - 100, 1)


@COUNTED.claim([18, 34, 50, 101, 152], "variants", at="Table 1")
def _layers_in_the_name() -> list[int]:
    return [net.depth for net in five().values()]


@COUNTED.claim([(2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)], "variants", at="Table 1")
def _block_counts() -> list[Shape]:
    return [net.counts for net in five().values()]


@COUNTED.claim(
    ["11.7M", "21.8M", "25.6M", "44.5M", "60.2M"],
    "variants",
    source="counted on the networks; torchvision's metadata has the same",
)
def _parameters() -> list[str]:
    return [f"{net.params / 1e6:.1f}M" for net in five().values()]


@COUNTED.claim(
    {
        "conv1": (64, 112, 112),
        "maxpool": (64, 56, 56),
        "layer1": (256, 56, 56),
        "layer2": (512, 28, 28),
        "layer3": (1024, 14, 14),
        "layer4": (2048, 7, 7),
        "avgpool": (2048, 1, 1),
        "fc": (1000,),
    },
    "resnet-50",
    at="Table 1",
)
def _resnet50_outputs() -> dict[str, Shape]:
    net = blocks_of("resnet50")
    return {stage.name: stage.output for stage in stages(net.network, net.shape) if stage.name != "bn1"}


@COUNTED.claim(((7, 7), (2, 2), (3, 3), 3, 2, 1), "resnet-50", at="Table 1; the paddings are those of torchvision")
def _resnet50_stem() -> tuple[Shape, Shape, Shape, int, int, int]:
    network: Any = blocks_of("resnet50").network
    conv, pool = network.conv1, network.maxpool
    return conv.kernel_size, conv.stride, conv.padding, pool.kernel_size, pool.stride, pool.padding


@COUNTED.claim(
    {"caffe": ([0, 1, 2], [110, 111]), "padded": ([0, 1], [109, 110, 111])},
    "resnet-50",
    source=f"{RELEASE} (pool1); torchvision/models/resnet.py",
)
def _rows_of_the_first_and_last_window() -> dict[str, tuple[list[int], list[int]]]:
    return {pool: (found.first, found.last) for pool, found in zip(POOLS, map(pooled, POOLS), strict=True)}


@COUNTED.claim("1.6 %", "resnet-50", source="computed on ResNet-50 with either pool, in float64")
def _logits_depend_on_the_pool() -> str:
    return f"{100 * logits_moved(seed=0):.1f} %"


@COUNTED.claim([(256, 128, 512), (512, 256, 1024), (1024, 512, 2048)], "resnet-50", at="Table 1")
def _resnet50_widths() -> list[tuple[int, int, int]]:
    return [blocks_of("resnet50").channels[block] for block in ("layer2.0", "layer3.0", "layer4.0")]


@COUNTED.claim(["layer2.0", "layer3.0", "layer4.0"], "resnet-50", at="Table 1")
def _stride_in_first_blocks() -> list[str]:
    return sorted({block for net in five().values() for block in net.strided})


@COUNTED.claim(
    {"v1": ["conv1"], "v1.5": ["conv2"]},
    "resnet-50",
    source=f"{RELEASE} (res3a_branch2a has stride 2); torchvision/models/resnet.py",
)
def _stride_in_which_layer() -> dict[str, list[str]]:
    networks = {"v1": blocks_of("resnet50"), "v1.5": blocks_of("torchvision/resnet50")}
    return {version: sorted(set().union(*net.strided.values())) for version, net in networks.items()}


@COUNTED.claim({"layer1.0": 1, "layer2.0": 2, "layer3.0": 2, "layer4.0": 2}, "resnet-50", at="sections 3.3 and 4.1")
def _projections_of_resnet50() -> dict[str, int]:
    return {block: stride(layer) for block, layer in blocks_of("resnet50").projections.items()}


@COUNTED.claim(((32, 16, 16), True, True), "shortcuts", at="section 3.3: “performed with a stride of 2”")
def _option_a_subsamples() -> tuple[Shape, bool, bool]:
    return option_a_keeps(torch.randn(2, 16, 32, 32, generator=torch.Generator().manual_seed(0)))


@COUNTED.claim(((64, 56, 56), (128, 28, 28), 2), "shortcuts", at="Eq. 2 and section 3.3")
def _projection_example() -> tuple[Shape, Shape, int]:
    example = blocks_of("resnet34").projections["layer2.0"]
    return example.input, example.output, stride(example)


def _reshaping() -> dict[str, list[str]]:
    return {name: net.reshaping for name, net in five().items()}


@COUNTED.claim(_reshaping, "shortcuts", at="section 3.3 and Table 3 (B)")
def _projections_where_the_shape_changes() -> dict[str, list[str]]:
    return {name: list(net.projections) for name, net in five().items()}


@COUNTED.claim(
    [((1, 1), False, "BatchNorm2d")],
    "shortcuts",
    source=f"{RELEASE} (res2a_branch1, bn2a_branch1); torchvision/models/resnet.py",
)
def _projections_have_batchnorm() -> list[tuple[Shape, bool, str]]:
    found = set()
    for net in five().values():
        for block in net.projections:
            conv, norm = cast(Any, net.network.get_submodule(f"{block}.downsample"))
            found.add((conv.kernel_size, conv.bias is not None, type(norm).__name__))
    return sorted(found)


@COUNTED.claim(
    [0, 0, 0, 0, 0],
    "shortcuts",
    at="section 4.2: “exactly the same depth, width, and number of parameters as the plain counterparts”",
)
def _cifar_networks_have_no_projections() -> list[int]:
    with shapes_only():
        pairs = [(zoo.build(f"resnet{depth}"), zoo.build(f"plain{depth}")) for depth in (20, 32, 44, 56, 110)]
    return [count_params(residual) - count_params(plain) for residual, plain in pairs]


@COUNTED.claim("BN ReLU 3×3 BN ReLU 3×3 +", "identity", source=f"{HE_2016}, Fig. 1(b) and Fig. 4(e)")
def _v2_order() -> str:
    return blocks_of("preresnet18").operations("layer1.1")


TEXT = StudyText(__name__)
CLAIMS = claims(TEXT, HE_2015, None, COUNTED.specs)


def measure(config: StudyConfig, trials: Trials) -> Measurement:
    """Return the counts, and the tables of the five networks and of ResNet-50."""
    counted = COUNTED.measured(trials)
    pixels = [float(count) for count in counted["bottleneck-is-cheaper"].measured]
    return Measurement(
        counted,
        tables=[TEXT.table("family", trials.measured(family)), TEXT.table("resnet50", trials.measured(resnet50))],
        charts=[TEXT.chart("pixel", [Series(name="MACs", x=PER_PIXEL, y=pixels)], kind="bars")],
    )


STUDY = Study(TEXT, CLAIMS, StudyConfig, grid=lambda _: {}, measure=measure)
