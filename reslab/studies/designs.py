"""The successors' designs, counted: what the chapter says of ResNet's successors, against the networks and the papers.

Nothing is trained. RegNet's stages are fitted back to a line: stage s of the line `w0 + wa·j`, quantised to powers of
wm, begins at the first block j with `1 + (wa/w0)·j ≥ wm^(s−½)` (Radosavovic et al. 2020, Eq. 2 to 4), so that the
blocks per stage give a range of `wa/w0`, or none.
"""

import math
import operator
from collections.abc import Iterable

import torch
from torch import nn

from reslab.analysis.feature_reuse import dense_blocks
from reslab.experiment.config import StudyConfig
from reslab.experiment.counted import Counted
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, cited, claims
from reslab.experiment.trials import Trials
from reslab.ledger.record import Table, Value
from reslab.measures.laws import agreeing_phi, nearest_blocks, slopes, sum_of_paths
from reslab.networks import zoo
from reslab.successors import efficientnet, regnet

RESNEXT = "Xie et al. 2017 (arXiv:1611.05431)"
DENSENET = "Huang et al. 2017 (arXiv:1608.06993)"
EFFICIENTNET = "Tan & Le 2019 (arXiv:1905.11946)"
REGNET = "Radosavovic et al. 2020 (arXiv:2003.13678)"
COUNTS = "counts of timm's and torchvision's networks"

RESNETS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
_KINDS = (("x", regnet.X), ("y", regnet.Y))
DESIGNS = {f"regnet_{kind}_{size}": design for kind, designs in _KINDS for size, design in designs.items()}

COUNTED = Counted()


@COUNTED.claim(True, source=f"{RESNEXT}, section 3.3, Eq. 3 and Fig. 3")
def _cardinality_is_a_sum_of_paths() -> bool:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = zoo.build("cifar_resnext", depth=20, cardinality=4, base_width=3).double().eval()
        for bn in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
            assert bn.running_mean is not None and bn.running_var is not None
            bn.running_mean.normal_()
            bn.running_var.uniform_(0.5, 2)
        inputs = {"layer2.0": torch.randn(2, 256, 6, 6).double(), "layer2.1": torch.randn(2, 512, 6, 6).double()}
        for name, x in inputs.items():
            block = network.get_submodule(name)
            if not torch.allclose(block(x), sum_of_paths(block, x, 4), rtol=1e-10):
                return False
    return True


@COUNTED.claim((25.0, 44.5, 56), source="counted; the figures are those of torchvision's metadata")
def _resnext50_has_fewer_parameters_than_resnet101() -> tuple[float, float, int]:
    resnext50, resnet101 = zoo.describe("resnext50_32x4d").params, zoo.describe("resnet101").params
    return round(resnext50 / 1e6, 1), round(resnet101 / 1e6, 1), round(100 * resnext50 / resnet101)


@COUNTED.claim(
    (535, 1711),
    source=f"{DENSENET}, section 3 (“Pooling layers”) and Table 1; counted, a block's input included as a source",
)
def _dense_connections_stay_within_a_block() -> tuple[int, int]:
    return connections("densenet121")


@COUNTED.claim(
    ["b2", "b3", "b4", "b5", "b6", "b7"],
    source=f"{EFFICIENTNET}; coefficients from the authors' release (tensorflow/tpu, efficientnet_builder.py)",
)
def _efficientnets_scale_three_dimensions() -> list[str]:
    scales = {name[-2:]: scale[:3] for name, scale in efficientnet.PUBLISHED.items()}
    return [name for name, scale in scales.items() if all(map(operator.gt, scale, scales["b0"]))]


@COUNTED.claim(
    ["b0", "b1", "b2"],
    source=f"{EFFICIENTNET}, Eq. 3 and section 4; rounding: coefficients to 0.1, sides to 4 pixels",
)
def _published_coefficients_are_not_powers() -> list[str]:
    return [name[-2:] for name, scale in efficientnet.PUBLISHED.items() if agreeing_phi(scale)]


@COUNTED.claim(
    len(DESIGNS),
    at=f"Eq. 2 to 4, Fig. 15 and 16 (with b = 1, and RegNetY's squeeze ratio); {COUNTS}",
)
def _five_numbers_give_a_regnet() -> int:
    found = map(zoo.describe, DESIGNS)
    return sum((one.params, one.macs) == (one.reference.params, one.reference.macs) for one in found)


@COUNTED.claim((1, 20), at="section 3.3, which fits lines to networks in the same way")
def _widths_do_not_give_the_parameters_back() -> tuple[int, int]:
    looseness = [high / low - 1 for low, high in map(wa_range, DESIGNS.values())]
    return round(100 * min(looseness)), round(100 * max(looseness))


@COUNTED.claim(list[str](), source=f"He et al. 2015 (arXiv:1512.03385), Table 1; {REGNET}, Eq. 2 to 4")
def _no_line_gives_resnets_stages() -> list[str]:
    return [name for name, blocks in RESNETS.items() if slopes(blocks, 2.0)]


TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    REGNET,
    "successors",
    {
        **COUNTED.specs,
        "resnext50-does-not-quite-reach-resnet101": cited(source=f"{RESNEXT}, Table 3; {REGNET}, Table 3"),
        "b0-was-searched": cited(source=f"{EFFICIENTNET}, section 4 and Table 1"),
        "scaling-resolution-pays": cited(
            "inconclusive",
            source=f"{EFFICIENTNET}, Table 7; {REGNET}, section 4 and Fig. 14",
        ),
        "regnet-designs-a-space": cited(at="sections 3 and 5, Table 1"),
    },
)


def measure(config: StudyConfig, trials: Trials) -> Measurement:
    """Count on the networks themselves."""
    return Measurement(COUNTED.measured(trials), tables=[regnet_table(), efficientnet_table()])


def connections(name: str) -> tuple[int, int]:
    """Return a dense network's direct connections into its layers, and those of one block of as many layers."""
    with torch.device("meta"):
        layers = [len(block.readers) - 1 for block in dense_blocks(zoo.build(name))]
    return sum(n * (n + 1) // 2 for n in layers), sum(layers) * (sum(layers) + 1) // 2


def wa_range(design: regnet.Design) -> tuple[float, float]:
    """Return the range of wa, its end excluded, over which a design's network is the same."""
    found = slopes([blocks for blocks, _, _ in regnet.stages(design)], design.wm)
    assert found is not None
    return design.w0 * found[0], design.w0 * found[1]


def regnet_table() -> Table:
    """Return each RegNet's five numbers and what they give; then the ResNets and their nearest lines."""
    rows: list[list[Value]] = []
    for name, design in DESIGNS.items():
        stages = regnet.stages(design)
        low, high = wa_range(design)
        # A line's widths are off the network's where those were made to fit its groups.
        misfits = (n * abs(math.log(design.w0 * design.wm**s / w)) for s, (n, w, _) in enumerate(stages))
        widths, blocks = _list(w for _, w, _ in stages), _list(n for n, _, _ in stages)
        rows.append([name, *design, widths, blocks, f"{low:.2f} … {high:.2f}", sum(misfits) / design.d])
    for name, resnet in RESNETS.items():
        nearest, misfit = nearest_blocks(resnet, 2.0)
        line = [256, None, 2.0, None, sum(resnet), "256, 512, 1024, 2048"]
        rows.append([name, *line, _list(resnet), f"none; nearest: {_list(nearest)}", misfit])
    return TEXT.table("regnets", rows)


def efficientnet_table() -> Table:
    """Return the published coefficients, and the φ that each of them alone would need."""
    rows: list[list[Value]] = []
    for name, scale in efficientnet.PUBLISHED.items():
        agreeing = agreeing_phi(scale)
        shared = f"{agreeing[0]:.2f} … {agreeing[1]:.2f}" if agreeing else "none"
        alone = (round(phi, 2) for phi in efficientnet.implied_phi(scale))
        rows.append([name, scale.depth, scale.width, scale.resolution, *alone, shared])
    return TEXT.table("efficientnets", rows)


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


STUDY = Study(TEXT, CLAIMS, StudyConfig, grid=lambda _: {}, measure=measure)
