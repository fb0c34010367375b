"""The successors at equal cost: do cardinality, dense connections and compound scaling beat depth and width?

ResNeXt (Xie et al. 2017), DenseNet (Huang et al. 2017) and EfficientNet (Tan & Le 2019), in networks small enough to train here. ResNeXt's rivals
match it in parameters and multiply-adds, EfficientNet's in multiply-adds, as in the papers.

What small images cannot show is the third of EfficientNet's dimensions, resolution: 8×8 digits hold no finer detail that larger copies would
show, and five halvings make the cost jump where a side passes a power of two. Depth and width are scaled here, images stay as they are.
"""

from collections.abc import Mapping
from statistics import mean

from pydantic import Field

from reslab.ledger.claim import Claim
from reslab.ledger.record import Table
from reslab.ledger.verdict import Check, Comparison
from reslab.studies.costs import TOLERANCE, Cost, cost, cost_charts, cost_tables, unequal
from reslab.studies.reuse import Reuse, input_and_rest, reuse_charts, reuse_of, reuse_tables
from reslab.studies.study import Groups, Measurement, Progress, Study, StudyConfig, by_seed, not_trained, sound
from reslab.training.loop import TrialConfig

RESNEXT = "Xie et al. 2017 (arXiv:1611.05431)"
DENSENET = "Huang et al. 2017 (arXiv:1608.06993), section 5 and Fig. 5"
EFFICIENTNET = "Tan & Le 2019 (arXiv:1905.11946)"

CARDINALITY_OVER_DEPTH = Claim(
    id="successors.cardinality-beats-depth",
    kind="statistical",
    section="successors",
    statement={
        "ko": "매개변수와 연산량이 같을 때, 카디널리티를 늘린 신경망(ResNeXt)의 시험 오류가 더 깊은 ResNet보다 작다.",
        "en": "At equal parameters and multiply-adds, a network with more cardinality (ResNeXt) has a lower test error than a deeper ResNet.",
    },
    source=f"{RESNEXT}, Table 4: 20.4 % for cardinality against 21.7 % for depth (ImageNet, twice the cost of ResNet-101)",
    direction="lower",
    margin=0.005,  # half a point: what the paper's CIFAR-10 networks gain over the best before them (Table 7: 3.65 against 4.17 %)
    unit="test error",
    rate=True,
)
CARDINALITY_OVER_WIDTH = Claim(
    id="successors.cardinality-beats-width",
    kind="statistical",
    section="successors",
    statement={
        "ko": "매개변수와 연산량이 같을 때, 카디널리티를 늘린 신경망(ResNeXt)의 시험 오류가 더 넓은 ResNet보다 작다.",
        "en": "At equal parameters and multiply-adds, a network with more cardinality (ResNeXt) has a lower test error than a wider ResNet.",
    },
    source=f"{RESNEXT}, Table 4: 20.4 % for cardinality against 21.3 % for width (ImageNet, twice the cost of ResNet-101), and Fig. 7",
    direction="lower",
    margin=0.005,
    unit="test error",
    rate=True,
)
COMPOUND_OVER_DEPTH = Claim(
    id="successors.compound-scaling-beats-depth",
    kind="statistical",
    section="successors",
    statement={
        "ko": "연산량이 같을 때, 깊이와 너비를 함께 늘린 EfficientNet의 시험 오류가 깊이만 늘린 것보다 작다.",
        "en": "At equal multiply-adds, an EfficientNet scaled in depth and width together has a lower test error than one scaled in depth alone.",
    },
    source=f"{EFFICIENTNET}, Table 7: 81.1 % against 79.0 % correct (ImageNet, and resolution scaled too)",
    direction="lower",
    margin=0.005,
    unit="test error",
    rate=True,
)
COMPOUND_OVER_WIDTH = Claim(
    id="successors.compound-scaling-beats-width",
    kind="statistical",
    section="successors",
    statement={
        "ko": "연산량이 같을 때, 깊이와 너비를 함께 늘린 EfficientNet의 시험 오류가 너비만 늘린 것보다 작다.",
        "en": "At equal multiply-adds, an EfficientNet scaled in depth and width together has a lower test error than one scaled in width alone.",
    },
    source=f"{EFFICIENTNET}, Table 7: 81.1 % against 78.9 % correct (ImageNet, and resolution scaled too)",
    direction="lower",
    margin=0.005,
    unit="test error",
    rate=True,
)
OLD_FEATURES_USED = Claim(
    id="successors.dense-networks-use-old-features",
    kind="statistical",
    section="successors",
    statement={
        "ko": "학습된 DenseNet에서 밀집 블록의 절반보다 멀리 거슬러 가는 연결을 모두 끊으면 시험 오류가 커진다. 오래된 특징도 쓰인다.",
        "en": "Cutting a trained DenseNet's connections that reach back over more than half a block raises the test error: old features are used.",
    },
    source=f"{DENSENET}: features of very early layers are directly used by deep layers throughout the same block",
    direction="higher",
    margin=0.05,
    unit="test error, BatchNorm statistics taken anew",
    rate=True,
)
BLOCK_INPUT_LEAST = Claim(
    id="successors.dense-layers-read-the-block-input-least",
    kind="statistical",
    section="successors",
    statement={
        "ko": "학습된 DenseNet의 둘째 블록부터, 층은 블록의 입력(전이층의 출력)에 같은 블록의 다른 특징보다 뚜렷이 작은 가중치를 준다.",
        "en": "From a trained DenseNet's second block on, layers give the block's input (the transition's output) notably less weight than the "
        "block's own features.",
    },
    source=f"{DENSENET}: the least weight goes to the outputs of the transition layer",
    direction="lower",
    margin=0.05,
    unit="mean absolute weight over the layer's mean, of the input − of the own features",
    corrects={"ko": "DenseNet은 feature reuse를 극대화한다", "en": "DenseNet maximises feature reuse"},
)
EQUAL_COST = Claim(
    id="successors.rivals-cost-the-same",
    kind="exact",
    section="successors",
    statement={
        "ko": f"비교한 신경망들의 비용은 {TOLERANCE:.0%} 안에서 같다(ResNeXt는 매개변수와 연산량, EfficientNet은 연산량).",
        "en": f"The networks compared cost the same within {TOLERANCE:.0%} (parameters and multiply-adds; EfficientNet's, multiply-adds).",
    },
    source="counted on the networks themselves, for one image of the data set",
)


class SuccessorsConfig(StudyConfig):
    """The networks: ResNeXt templates (layers, cardinality, bottleneck width), EfficientNets (depth, width, as multiples of B0's), a DenseNet."""

    cardinality: tuple[int, int, int] = Field((11, 8, 4), description="the ResNeXt")
    deeper: tuple[int, int, int] = Field((20, 1, 14), description="its deeper rival, a ResNet")
    wider: tuple[int, int, int] = Field((11, 1, 24), description="its wider rival, a ResNet")
    compound: tuple[float, float] = Field((0.432, 0.726), description="the EfficientNet scaled in both, from (0.3, 0.6) by 1.2² and 1.1²")
    compound_deeper: tuple[float, float] = Field((0.69, 0.6), description="its rival scaled in depth alone")
    compound_wider: tuple[float, float] = Field((0.3, 0.75), description="its rival scaled in width alone")
    dense_depth: int = Field(22, description="layers of the DenseNet, 3n+4")
    growth_rate: int = Field(12, ge=1, description="channels that each layer of the DenseNet adds")


RIVALS = {"resnext": ("resnet-deeper", "resnet-wider"), "efficientnet-compound": ("efficientnet-deeper", "efficientnet-wider")}


def grid(config: SuccessorsConfig) -> dict[str, list[TrialConfig]]:
    """Return the trials: three networks for cardinality, three for compound scaling, and a DenseNet."""

    def resnext(template: tuple[int, int, int]) -> list[TrialConfig]:
        depth, cardinality, width = template
        return config.trials("cifar_resnext", depth=depth, cardinality=cardinality, base_width=width)

    def efficientnet(scale: tuple[float, float]) -> list[TrialConfig]:
        depth, width = scale  # few epochs: nothing is dropped
        return config.trials("efficientnet", phi=1.0, alpha=depth, beta=width, gamma=1.0, survival=1.0, dropout=0.0)

    return {
        "resnext": resnext(config.cardinality),
        "resnet-deeper": resnext(config.deeper),
        "resnet-wider": resnext(config.wider),
        "efficientnet-compound": efficientnet(config.compound),
        "efficientnet-deeper": efficientnet(config.compound_deeper),
        "efficientnet-wider": efficientnet(config.compound_wider),
        "densenet": config.trials("cifar_densenet", depth=config.dense_depth, growth_rate=config.growth_rate),
    }


def dearer(costs: Mapping[str, Cost]) -> list[str]:
    """Return the rivals that do not cost what their network does: ResNeXt's in parameters and multiply-adds, EfficientNet's in multiply-adds."""
    found = []
    for network, rivals in RIVALS.items():
        for rival in rivals:
            params, macs = costs[rival].apart(costs[network])
            if abs(macs) > TOLERANCE or (network == "resnext" and abs(params) > TOLERANCE):
                found.append(rival)
    return found


def measure(config: SuccessorsConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return the comparisons at equal cost, what DenseNet's connections carry, and the whole zoo's costs."""
    error = {group: by_seed(trials, "test_error") for group, trials in groups.items()}
    costs = {group: cost(trials[0].config) for group, trials in groups.items()}
    reuses: dict[int, Reuse] = {}
    trials = sound(groups["densenet"])
    for done, trial in enumerate(trials):
        progress("cutting connections", done, len(trials))
        reuses[trial.config.seed] = reuse_of(trial)
    progress("cutting connections", len(trials), len(trials))
    others = dearer(costs)

    def beats(claim: Claim, network: str, rival: str) -> Comparison:
        reason = unequal(network, rival) if rival in others else not_trained(groups, rival)
        return Comparison(claim, error[network], error[rival], untested=reason)

    untrained = not_trained(groups, "densenet")
    weights = {seed: input_and_rest(reuse.trained) for seed, reuse in reuses.items()}
    return Measurement(
        comparisons=[
            beats(CARDINALITY_OVER_DEPTH, "resnext", "resnet-deeper"),
            beats(CARDINALITY_OVER_WIDTH, "resnext", "resnet-wider"),
            beats(COMPOUND_OVER_DEPTH, "efficientnet-compound", "efficientnet-deeper"),
            beats(COMPOUND_OVER_WIDTH, "efficientnet-compound", "efficientnet-wider"),
            Comparison(OLD_FEATURES_USED, {s: r.old_cut for s, r in reuses.items()}, {s: r.errors[0] for s, r in reuses.items()}, untrained),
            Comparison(BLOCK_INPUT_LEAST, {s: w[0] for s, w in weights.items()}, {s: w[1] for s, w in weights.items()}, untrained),
        ],
        checks=[Check(EQUAL_COST, not others, True)],
        tables=[equal_cost_table(groups, costs), *reuse_tables(list(reuses.values())), *cost_tables()],
        charts=[*reuse_charts(list(reuses.values())), *cost_charts()],
    )


def equal_cost_table(groups: Groups, costs: Mapping[str, Cost]) -> Table:
    """Return the costs and errors of the networks compared, and how far each rival's costs are from its network's."""
    against = {rival: network for network, rivals in RIVALS.items() for rival in rivals}

    def row(group: str) -> list[str | int | float | None]:
        mine, theirs = costs[group], costs[against.get(group, group)]
        apart = [f"{100 * share:+.1f} %" if group in against else None for share in mine.apart(theirs)]
        train, test = (100 * mean(by_seed(groups[group], f"{part}_error").values()) for part in ("train", "test"))
        return [group, mine.params, apart[0], mine.macs, apart[1], train, test]

    return Table(
        title={"ko": "같은 비용의 신경망들", "en": "Networks of equal cost"},
        columns=["network", "parameters", "apart", "multiply-adds", "apart", "training error (%)", "test error (%)"],
        rows=[row(group) for group in groups],
    )


STUDY = Study(
    name="successors",
    title={"ko": "ResNet의 후속 신경망, 같은 비용으로", "en": "ResNet's successors, at equal cost"},
    question={
        "ko": "같은 비용이라면 카디널리티, 밀집 연결, 복합 스케일링이 깊이나 너비보다 나은가?",
        "en": "At equal cost, do cardinality, dense connections and compound scaling beat depth and width?",
    },
    claims=(
        CARDINALITY_OVER_DEPTH,
        CARDINALITY_OVER_WIDTH,
        COMPOUND_OVER_DEPTH,
        COMPOUND_OVER_WIDTH,
        OLD_FEATURES_USED,
        BLOCK_INPUT_LEAST,
        EQUAL_COST,
    ),
    config=SuccessorsConfig,
    presets={
        "default": {},
        "smoke": {
            "seeds": 2,
            "epochs": 1,
            "cardinality": (11, 4, 2),
            "deeper": (20, 1, 4),
            "wider": (11, 1, 8),
            "compound": (0.3, 0.25),
            "compound_deeper": (0.6, 0.2),
            "compound_wider": (0.2, 0.3),
            "dense_depth": 13,
            "growth_rate": 4,
        },
        "full": {
            "data": "cifar10",
            "epochs": 16,
            "cardinality": (20, 8, 4),
            "deeper": (29, 1, 17),
            "wider": (20, 1, 24),
            "compound": (0.72, 0.65),
            "compound_deeper": (1.05, 0.5),
            "compound_wider": (0.5, 0.82),
            "dense_depth": 40,
        },
    },
    grid=grid,
    measure=measure,
)
