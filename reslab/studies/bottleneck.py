"""Bottlenecks: more layers for the same computation, and what they are worth (He et al. 2015, sections 3.4 and 4.1, Fig. 5)

A bottleneck (1×1 to a quarter of the channels, 3×3, 1×1 back) has three layers where a basic block has two. CIFAR networks with n blocks a
stage, basic (6n+2 layers) and bottleneck (9n+2 layers, four times the channels between blocks), both with projections where the shape
changes, so that the blocks alone differ. Multiply-adds and parameters are in the table: from n = 9 on (56 and 83 layers) they agree within 2 %;
with fewer blocks the bottlenecks cost more, since their projections are wider.
"""

from collections.abc import Mapping
from dataclasses import replace
from statistics import mean

from pydantic import Field

from reslab.ledger.claim import Claim
from reslab.ledger.record import Chart, Table
from reslab.ledger.verdict import Citation, Comparison
from reslab.studies.costs import TOLERANCE, Cost, cost, unequal
from reslab.studies.study import CifarDepths, Groups, Measurement, Progress, Study, StudyConfig, averaged, by_seed, not_trained
from reslab.training.loop import TrialConfig

PAPER = "He et al. 2015 (arXiv:1512.03385)"

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
    rate=True,
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
    rate=True,
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
    """Return the comparisons at the deepest pair, and what the papers found on larger data."""
    deep = config.depths[-1]
    basic, bottleneck = f"basic-{deep}", f"bottleneck-{partner(deep)}"
    costs = {group: cost(trials[0].config) for group, trials in groups.items()}
    _, macs = costs[bottleneck].apart(costs[basic])
    dearer = unequal(basic, bottleneck) if abs(macs) > TOLERANCE else None
    train, test = ({group: by_seed(groups[group], f"{part}_error") for group in (basic, bottleneck)} for part in ("train", "test"))
    better = Comparison(BETTER, train[bottleneck], train[basic], room=True)
    return Measurement(
        comparisons=[
            Comparison(NOT_WORSE, test[bottleneck], test[basic], untested=dearer or not_trained(groups, basic)),
            replace(better, untested=dearer or better.untested),
        ],
        citations=[
            Citation(
                IMAGENET,
                "supported",
                "22.85 % top-1 error at 3.8 G multiply-adds (ResNet-50) against 24.52 % at 3.6 G (ResNet-34, option B too), 10 crops",
            ),
            Citation(CIFAR, "supported", "5.93 % (ResNet-164) against 6.61 % (ResNet-110), original units, both with 1.7 M parameters"),
        ],
        tables=[_table(groups, costs)],
        charts=[_chart(config, groups)],
    )


def _table(groups: Groups, costs: Mapping[str, Cost]) -> Table:
    rows: list[list[str | int | float | None]] = []
    for group, trials in groups.items():
        errors = [100 * mean(by_seed(trials, f"{part}_error").values()) for part in ("train", "test")]
        rows.append([group, int(group.partition("-")[2]), costs[group].macs, costs[group].params, *errors])
    return Table(
        title={"ko": "계산량과 오류 (시드 평균)", "en": "Computation and errors (means over seeds)"},
        columns=["network", "layers", "MACs", "parameters", "training error (%)", "test error (%)"],
        rows=rows,
    )


def _chart(config: BottleneckConfig, groups: Groups) -> Chart:
    series = []
    for kind, depths in (("basic", config.depths), ("bottleneck", [partner(depth) for depth in config.depths])):
        errors = [[100 * error for error in by_seed(groups[f"{kind}-{depth}"], "test_error").values()] for depth in depths]
        series.append(averaged(kind, [(depth - 2) / 2 for depth in config.depths], errors))
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
    claims=(NOT_WORSE, BETTER, IMAGENET, CIFAR),
    config=BottleneckConfig,
    presets={
        "default": {},
        "smoke": {"depths": (8,), "seeds": 3, "epochs": 1},
        "full": {"data": "cifar10", "epochs": 16, "depths": (20, 56, 110)},
    },
    grid=grid,
    measure=measure,
)
