"""Bottlenecks: more layers for the same computation, and what they are worth.

A bottleneck (1×1 to a quarter of the channels, 3×3, 1×1 back) has three layers where a basic block has two (He et al.
2015, sections 3.4 and 4.1, Fig. 5). CIFAR networks with n blocks per stage, basic (6n+2 layers) and bottleneck (9n+2
layers, four times the channels between blocks), both with projections where the shape changes, so that the blocks alone
differ. Multiply-adds and parameters are in the table: from n = 9 on (56 and 83 layers) they agree within 2 %; with
fewer blocks the bottlenecks cost more, since their projections are wider.

All train for the same number of steps, in which the bottlenecks come less far: a difference in the test error is one of
patience, too.
"""

from collections.abc import Mapping
from statistics import mean

from pydantic import Field

from reslab.experiment.config import CifarDepths, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, cited, claims, lower, not_higher
from reslab.experiment.trials import Grid, Key, Trials, Values, label
from reslab.ledger.record import Chart, Table, Value
from reslab.measures.costs import TOLERANCE, Cost, costs, unequal
from reslab.training.loop import PartName, TrialConfig

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    "He et al. 2015 (arXiv:1512.03385)",
    "blocks",
    {
        "not-worse-at-equal-computation": not_higher(0.01, at="section 4.1, Table 3"),
        "trains-better-at-equal-computation": lower(0.005, at="section 4.1: the deeper networks train to lower errors"),
        "better-on-imagenet": cited(at="Tables 1 and 3"),
        "better-on-cifar-10": cited(source="He et al. 2016 (arXiv:1603.05027), Tables 2 and 3"),
    },
)


class BottleneckConfig(StudyConfig):
    """Depths of the basic networks; each is paired with the bottleneck network of as many blocks."""

    depths: CifarDepths = Field((20, 56), min_length=1)


def partner(depth: int) -> int:
    """Return the depth of the bottleneck network with as many blocks as the basic one of this depth: 9n+2 for 6n+2."""
    return (depth - 2) // 6 * 9 + 2


def grid(config: BottleneckConfig) -> Grid:
    """Return the trials: a basic and a bottleneck group for each number of blocks."""
    found: dict[Key, list[TrialConfig]] = {}
    for basic in config.depths:
        for block, depth in (("basic", basic), ("bottleneck", partner(basic))):
            found[block, depth] = config.trials("cifar_resnet", depth=depth, block=block, shortcut="B")
    return found


def measure(config: BottleneckConfig, trials: Trials) -> Measurement:
    """Return the comparisons at the deepest pair, if it costs about the same."""
    deep = config.depths[-1]
    basic, bottleneck = ("basic", deep), ("bottleneck", partner(deep))
    train, test = trials.errors("train"), trials.errors("test")
    counted = costs(trials)
    _, macs = counted[bottleneck].apart(counted[basic])
    dearer = unequal(basic, bottleneck) if abs(macs) > TOLERANCE else None
    return Measurement(
        {
            "not-worse-at-equal-computation": test[bottleneck].against(test[basic], untested=dearer),
            "trains-better-at-equal-computation": train[bottleneck].against(
                train[basic], guard=False, room=True, untested=dearer
            ),
        },
        tables=[_table(trials, counted)],
        charts=[_over_blocks(config, trials)],
    )


def _table(trials: Trials, counted: Mapping[Key, Cost]) -> Table:
    train, test = _percent(trials, "train"), _percent(trials, "test")

    def row(key: Key) -> list[Value]:
        size = counted[key]
        return [label(key), key[1], size.macs, size.params, mean(train[key].values()), mean(test[key].values())]

    return TEXT.table("costs", [row(key) for key in trials])


def _over_blocks(config: BottleneckConfig, trials: Trials) -> Chart:
    error = _percent(trials, "test")
    blocks = [(depth - 2) / 2 for depth in config.depths]
    basic = [error["basic", depth].values() for depth in config.depths]
    bottleneck = [error["bottleneck", partner(depth)].values() for depth in config.depths]
    series = [TEXT.averaged("basic", blocks, basic), TEXT.averaged("bottleneck", blocks, bottleneck)]
    return TEXT.chart("over-blocks", series)


def _percent(trials: Trials, part: PartName) -> dict[Key, Values]:
    return {key: errors.map(lambda error: 100 * error) for key, errors in trials.errors(part).items()}


STUDY = Study(TEXT, CLAIMS, BottleneckConfig, grid=grid, measure=measure)
