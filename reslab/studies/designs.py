"""The successors' designs, counted: what the chapter says of ResNet's successors, against the networks and the papers.

Nothing is trained. RegNet's stages are fitted back to a line: stage s of the line `w0 + wa·j`, quantised to powers of
wm, begins at the first block j with `1 + (wa/w0)·j ≥ wm^(s−½)` (Radosavovic et al. 2020, Eq. 2 to 4), so that the
blocks per stage give a range of `wa/w0`, or none.
"""

import operator

import torch
from torch import nn

from reslab.experiment.config import StudyConfig
from reslab.experiment.counted import Counted
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, cited, claims
from reslab.experiment.trials import Trials
from reslab.measures.laws import (
    DESIGNS,
    RESNETS,
    agreeing_phi,
    connections,
    efficientnet_table,
    regnet_table,
    slopes,
    sum_of_paths,
    wa_range,
)
from reslab.networks import zoo
from reslab.state import draws_apart
from reslab.successors import efficientnet

RESNEXT = "Xie et al. 2017 (arXiv:1611.05431)"
DENSENET = "Huang et al. 2017 (arXiv:1608.06993)"
EFFICIENTNET = "Tan & Le 2019 (arXiv:1905.11946)"
REGNET = "Radosavovic et al. 2020 (arXiv:2003.13678)"
COUNTS = "counts of timm's and torchvision's networks"


COUNTED = Counted()


@COUNTED.claim(True, source=f"{RESNEXT}, section 3.3, Eq. 3 and Fig. 3")
def _cardinality_is_a_sum_of_paths() -> bool:
    with draws_apart(), torch.no_grad():
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
    ["b0", "b1", "b2"], source=f"{EFFICIENTNET}, Eq. 3 and section 4; rounding: coefficients to 0.1, sides to 4 pixels"
)
def _published_coefficients_are_not_powers() -> list[str]:
    return [name[-2:] for name, scale in efficientnet.PUBLISHED.items() if agreeing_phi(scale)]


@COUNTED.claim(len(DESIGNS), at=f"Eq. 2 to 4, Fig. 15 and 16 (with b = 1, and RegNetY's squeeze ratio); {COUNTS}")
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
            "inconclusive", source=f"{EFFICIENTNET}, Table 7; {REGNET}, section 4 and Fig. 14"
        ),
        "regnet-designs-a-space": cited(at="sections 3 and 5, Table 1"),
    },
)


def measure(config: StudyConfig, trials: Trials) -> Measurement:
    """Count on the networks themselves."""
    return Measurement(COUNTED.measured(trials), tables=[regnet_table(TEXT), efficientnet_table(TEXT)])


STUDY = Study(TEXT, CLAIMS, StudyConfig, grid=lambda _: {}, measure=measure)
