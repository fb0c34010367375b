"""Does pre-activation help, and from which depth on? The original unit (v1) against full pre-activation (v2) as depth grows.

He et al. 2016 (arXiv:1603.05027), Table 3, find test errors of 6.61 and 6.37 % at 110 layers, 5.93 and 5.46 at 164, 7.61 and 4.92 at 1001: the
advantage grows with depth. The default's depths are those where it should not show yet.
"""

from typing import Literal

from pydantic import Field, model_validator

from reslab.ledger.claim import Claim
from reslab.ledger.record import Chart
from reslab.ledger.verdict import Comparison
from reslab.studies.study import Groups, GrowingDepths, Measurement, Progress, Study, StudyConfig, by_seed, not_trained, over_seeds
from reslab.training.loop import TrialConfig

PAPER = "He et al. 2016 (arXiv:1603.05027)"

NOT_WORSE = Claim(
    id="preactivation.v2-is-not-worse-at-depth",
    kind="statistical",
    section="identity",
    statement={
        "ko": "가장 깊은 신경망에서 v2의 시험 오류는 v1보다 뚜렷이 크지 않다.",
        "en": "In the deepest networks v2 does not have a notably higher test error than v1.",
    },
    source=f"{PAPER}, Table 3",
    direction="not higher",
    margin=0.01,
    unit="test error, v2 − v1",
    rate=True,
)
BETTER = Claim(
    id="preactivation.v2-is-better-at-depth",
    kind="statistical",
    section="identity",
    statement={
        "ko": "가장 깊은 신경망에서 v2의 시험 오류는 v1보다 뚜렷이 작다.",
        "en": "In the deepest networks v2 has a notably lower test error than v1.",
    },
    source=f"{PAPER}, Table 3: by 0.24 points at 110 layers, 2.69 at 1001",
    direction="lower",
    margin=0.01,
    unit="test error, v2 − v1",
    rate=True,
)
NOT_WHEN_SHALLOW = Claim(
    id="preactivation.v2-has-no-advantage-when-shallow",
    kind="statistical",
    section="identity",
    statement={
        "ko": "가장 얕은 신경망에서는 v2가 v1보다 뚜렷이 나을 것이 없다.",
        "en": "In the shallowest networks v2 has no notable advantage over v1.",
    },
    source=f"{PAPER}, section 4.2: the ReLU's effect is not severe with fewer layers",
    direction="not higher",
    margin=0.01,
    unit="test error, v1 − v2",
    rate=True,
)
GROWS = Claim(
    id="preactivation.the-advantage-grows-with-depth",
    kind="statistical",
    section="identity",
    statement={
        "ko": "v1에 대한 v2의 이점은 가장 얕은 신경망보다 가장 깊은 신경망에서 뚜렷이 크다.",
        "en": "The advantage of v2 over v1 is notably larger in the deepest networks than in the shallowest.",
    },
    source=f"{PAPER}, Table 3",
    direction="higher",
    margin=0.01,
    unit="test error, (v1 − v2) at the deepest less the same at the shallowest",
    rate=True,
)
EASIER_TO_TRAIN = Claim(
    id="preactivation.v2-trains-better-at-depth",
    kind="statistical",
    section="identity",
    statement={
        "ko": "가장 깊은 신경망에서 v2의 훈련 오류는 v1보다 뚜렷이 작다.",
        "en": "In the deepest networks v2 has a notably lower training error than v1.",
    },
    source=f"{PAPER}, section 4.2, “ease of optimization”, for 1001 layers",
    direction="lower",
    margin=0.01,
    unit="training error, v2 − v1",
    rate=True,
)


class PreactivationConfig(StudyConfig):
    """Depths of the v1 and v2 networks; the first and the last are compared."""

    depths: GrowingDepths = Field((20, 56), min_length=2, description="depths, shallowest first: 6n+2 basic, 9n+2 bottleneck")
    block: Literal["basic", "bottleneck"] = Field("basic", description="block of all networks; the paper's 164 and 1001 are bottlenecks")

    @model_validator(mode="after")
    def _depths_exist(self) -> "PreactivationConfig":
        layers = 6 if self.block == "basic" else 9
        for depth in self.depths:
            if depth < layers + 2 or depth % layers != 2:
                raise ValueError(f"depth {depth} is not {layers}n+2, as the CIFAR design with {self.block} blocks needs")
        return self


FAMILIES = {"v1": "cifar_resnet", "v2": "cifar_preresnet"}


def grid(config: PreactivationConfig) -> dict[str, list[TrialConfig]]:
    """Return the trials: a v1 and a v2 group for each depth."""
    return {f"{kind}-{depth}": config.trials(family, depth=depth, block=config.block) for depth in config.depths for kind, family in FAMILIES.items()}


def measure(config: PreactivationConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return the five comparisons, and the errors over depth."""
    shallow, deep = config.depths[0], config.depths[-1]
    test = {group: by_seed(trials, "test_error") for group, trials in groups.items()}
    train = {group: by_seed(trials, "train_error") for group, trials in groups.items()}
    charts = [
        Chart(
            title={"ko": f"깊이에 따른 {ko} 오류", "en": f"{en.capitalize()} error by depth"},
            caption={
                "ko": "v2의 선이 v1의 선 아래로 점점 벌어지면 사전 활성화의 이점이 깊이와 함께 커지는 것이다. "
                "아래에 있는 선이 낫고, 띠(표준편차 한 배)가 겹치면 차이를 말하기 어렵다.",
                "en": "Where v2's line falls away below v1's, the advantage of pre-activation grows with depth. "
                "The lower line is better; where the bands (one standard deviation) overlap, little can be said.",
            },
            x={"ko": "깊이(층)", "en": "depth (layers)"},
            y={"ko": f"{ko} 오류", "en": f"{en} error"},
            rate=True,
            series=[over_seeds(kind, [float(depth) for depth in config.depths], _by_depth(kind, config.depths, errors)) for kind in FAMILIES],
        )
        for ko, en, errors in (("시험", "test", test), ("훈련", "training", train))
    ]
    return Measurement(
        [
            Comparison(NOT_WORSE, test[f"v2-{deep}"], test[f"v1-{deep}"], untested=not_trained(groups, f"v1-{deep}")),
            Comparison(BETTER, test[f"v2-{deep}"], test[f"v1-{deep}"], untested=not_trained(groups, f"v1-{deep}")),
            Comparison(NOT_WHEN_SHALLOW, test[f"v1-{shallow}"], test[f"v2-{shallow}"], untested=not_trained(groups, f"v2-{shallow}")),
            Comparison(GROWS, advantage(test, deep), advantage(test, shallow), untested=not_trained(groups, f"v1-{shallow}", f"v2-{shallow}")),
            Comparison(EASIER_TO_TRAIN, train[f"v2-{deep}"], train[f"v1-{deep}"], room=True),
        ],
        charts=charts,
    )


def advantage(errors: dict[str, dict[int, float]], depth: int) -> dict[int, float]:
    """Return v1's error less v2's, for the seeds that both have."""
    v1, v2 = errors[f"v1-{depth}"], errors[f"v2-{depth}"]
    return {seed: v1[seed] - v2[seed] for seed in v1.keys() & v2.keys()}


def _by_depth(kind: str, depths: tuple[int, ...], errors: dict[str, dict[int, float]]) -> dict[int, list[float]]:
    """Return a kind's error at every depth, for the seeds that finished at all of them."""
    found = [errors[f"{kind}-{depth}"] for depth in depths]
    return {seed: [at[seed] for at in found] for seed in found[0] if all(seed in at for at in found)}


STUDY = Study(
    name="preactivation",
    title={"ko": "사전 활성화는 언제 이로운가", "en": "When pre-activation helps"},
    question={
        "ko": "v2의 사전 활성화는 v1보다 나은가, 그렇다면 어느 깊이부터인가?",
        "en": "Is v2's pre-activation better than v1, and from which depth on?",
    },
    claims=(NOT_WORSE, BETTER, NOT_WHEN_SHALLOW, GROWS, EASIER_TO_TRAIN),
    config=PreactivationConfig,
    presets={
        "default": {},
        "smoke": {"depths": (8, 14), "seeds": 3, "epochs": 1},
        "full": {"data": "cifar10", "epochs": 16, "block": "bottleneck", "depths": (56, 164, 1001)},
    },
    grid=grid,
    measure=measure,
)
