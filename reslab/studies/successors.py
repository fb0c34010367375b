"""The successors at equal cost: do cardinality, dense connections and compound scaling beat depth and width?

ResNeXt (Xie et al. 2017), DenseNet (Huang et al. 2017) and EfficientNet (Tan & Le 2019), in networks small enough to
train here. ResNeXt's rivals match it in parameters and multiply-adds, EfficientNet's in multiply-adds, as in the
papers.

What small images cannot show is the third of EfficientNet's dimensions, resolution: 8×8 digits hold no finer detail
that larger copies would show, and five halvings make the cost jump where a side passes a power of two. Depth and width
are scaled here, images stay as they are.
"""

from collections.abc import Callable, Mapping

from pydantic import Field

from reslab.experiment.config import StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, exact, higher, lower
from reslab.experiment.trials import Against, Exactly, Grid, Key, Trials, Values
from reslab.measures.costs import TOLERANCE, Cost, cost_charts, cost_tables, costs, equal_cost_table, unequal
from reslab.measures.reuse import Reuse, input_and_rest, reuse_charts, reuse_of, reuse_tables
from reslab.networks import literature
from reslab.training.loop import TrialConfig

DENSENET = "Huang et al. 2017 (arXiv:1608.06993), section 5 and Fig. 5"
EFFICIENTNET = "Tan & Le 2019 (arXiv:1905.11946), Table 7"
HALF_A_POINT = 0.005
"""What ResNeXt's CIFAR-10 networks gain over the best before them (Xie et al. 2017, Table 7: 3.65 against 4.17 %)."""

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    "Xie et al. 2017 (arXiv:1611.05431)",
    "successors",
    {
        "cardinality-beats-depth": lower(
            HALF_A_POINT,
            at="Table 4: 20.4 % for cardinality against 21.7 % for depth (ImageNet, twice the cost of ResNet-101)",
            published=-0.013,
        ),
        "cardinality-beats-width": lower(
            HALF_A_POINT,
            at=(
                "Table 4: 20.4 % for cardinality against 21.3 % for width (ImageNet, twice the cost of ResNet-101), "
                "and Fig. 7"
            ),
            published=-0.009,
        ),
        "compound-scaling-beats-depth": lower(
            HALF_A_POINT,
            source=f"{EFFICIENTNET}: 81.1 % against 79.0 % correct (ImageNet, and resolution scaled too)",
            published=-0.021,
            revision=2,
        ),
        "compound-scaling-beats-width": lower(
            HALF_A_POINT,
            source=f"{EFFICIENTNET}: 81.1 % against 78.9 % correct (ImageNet, and resolution scaled too)",
            published=-0.022,
        ),
        "dense-networks-use-old-features": higher(
            0.05,
            source=f"{DENSENET}: features of very early layers are directly used by deep layers"
            " throughout the same block",
            rate=True,
        ),
        "dense-layers-read-the-block-input-least": lower(
            0.05, source=f"{DENSENET}: the least weight goes to the outputs of the transition layer", revision=2
        ),
        "rivals-cost-the-same": exact(source="counted on the networks themselves, for one image of the data set"),
    },
)


class SuccessorsConfig(StudyConfig):
    """The networks: ResNeXt templates (layers, cardinality, bottleneck width), EfficientNets and a DenseNet.

    An EfficientNet is given by its depth and width, as multiples of B0's.
    """

    cardinality: tuple[int, int, int] = (11, 8, 4)
    deeper: tuple[int, int, int] = (20, 1, 14)
    wider: tuple[int, int, int] = (11, 1, 24)
    compound: tuple[float, float] = (0.432, 0.726)
    compound_deeper: tuple[float, float] = (0.69, 0.6)
    compound_wider: tuple[float, float] = (0.3, 0.75)
    dense_depth: int = 22
    growth_rate: int = Field(12, ge=1)


RESNEXT: Key = ("resnext",)
COMPOUND: Key = ("efficientnet", "compound")
DENSE: Key = ("densenet",)
RIVALS: dict[Key, Key] = {
    ("resnet", "deeper"): RESNEXT,
    ("resnet", "wider"): RESNEXT,
    ("efficientnet", "deeper"): COMPOUND,
    ("efficientnet", "wider"): COMPOUND,
}
"""What each rival is compared with."""


def grid(config: SuccessorsConfig) -> Grid:
    """Return the trials: three networks for cardinality, three for compound scaling, and a DenseNet."""

    def resnext(template: tuple[int, int, int]) -> list[TrialConfig]:
        depth, cardinality, width = template
        return config.trials("cifar_resnext", depth=depth, cardinality=cardinality, base_width=width)

    def efficientnet(scale: tuple[float, float]) -> list[TrialConfig]:
        depth, width = scale  # few epochs: nothing is dropped
        return config.trials("efficientnet", phi=1.0, alpha=depth, beta=width, gamma=1.0, survival=1.0, dropout=0.0)

    return {
        RESNEXT: resnext(config.cardinality),
        ("resnet", "deeper"): resnext(config.deeper),
        ("resnet", "wider"): resnext(config.wider),
        COMPOUND: efficientnet(config.compound),
        ("efficientnet", "deeper"): efficientnet(config.compound_deeper),
        ("efficientnet", "wider"): efficientnet(config.compound_wider),
        DENSE: config.trials("cifar_densenet", depth=config.dense_depth, growth_rate=config.growth_rate),
    }


def dearer(counted: Mapping[Key, Cost]) -> list[Key]:
    """Return the rivals of other cost than their network: ResNeXt's in either, EfficientNet's in multiply-adds."""
    found = []
    for rival, network in RIVALS.items():
        params, macs = counted[rival].apart(counted[network])
        if abs(macs) > TOLERANCE or (network == RESNEXT and abs(params) > TOLERANCE):
            found.append(rival)
    return found


def measure(config: SuccessorsConfig, trials: Trials) -> Measurement:
    """Return the comparisons at equal cost, what DenseNet's connections carry, and the whole zoo's costs."""
    test, counted = trials.errors("test"), costs(trials)
    others = dearer(counted)
    reuses = trials.look("cutting connections", reuse_of, keys=[DENSE])
    torchvision = trials.measured(literature.torchvision)

    def beats(*rival: str) -> Against:
        network = RIVALS[rival]
        return test[network].against(test[rival], untested=unequal(network, rival) if rival in others else None)

    def dense(of: Callable[[Reuse], float]) -> Values:
        return trials.figure(reuses, of)[DENSE]

    old_cut, uncut = dense(lambda reuse: reuse.old_cut), dense(lambda reuse: reuse.errors[0])
    on_input = dense(lambda reuse: input_and_rest(reuse.trained)[0])
    on_rest = dense(lambda reuse: input_and_rest(reuse.trained)[1])

    return Measurement(
        {
            "cardinality-beats-depth": beats("resnet", "deeper"),
            "cardinality-beats-width": beats("resnet", "wider"),
            "compound-scaling-beats-depth": beats("efficientnet", "deeper"),
            "compound-scaling-beats-width": beats("efficientnet", "wider"),
            "dense-networks-use-old-features": old_cut.against(uncut, paired=True),
            "dense-layers-read-the-block-input-least": on_input.against(on_rest, paired=True),
            "rivals-cost-the-same": Exactly(not others, True),
        },
        tables=[
            equal_cost_table(TEXT, trials, counted, RIVALS),
            *reuse_tables(TEXT, reuses[DENSE]),
            *cost_tables(TEXT, torchvision),
        ],
        charts=[*reuse_charts(TEXT, reuses[DENSE]), *cost_charts(TEXT, torchvision)],
    )


STUDY = Study(TEXT, CLAIMS, SuccessorsConfig, grid=grid, measure=measure)
