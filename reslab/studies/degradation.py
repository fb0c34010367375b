"""The degradation problem: do deeper plain networks train worse, and do shortcuts cure it? (He et al. 2015, sections 1, 4.1, 4.2)

Plain and residual CIFAR networks of growing depth, trained alike. What is compared first is *training* error: a deeper
network that overfits would have a lower one.
"""

from pydantic import Field

from reslab.claims import Claim, Comparison
from reslab.studies.study import CifarDepths, Groups, Measurement, Progress, Study, StudyConfig, by_seed
from reslab.training.loop import TrialConfig

PAPER = "He et al. 2015 (arXiv:1512.03385)"

DEEPER_PLAIN = Claim(
    id="degradation.plain-deeper-trains-worse",
    kind="statistical",
    section="degradation",
    statement={
        "ko": "지름길이 없는 평범한 신경망은 깊어지면 훈련 오류가 오히려 커진다.",
        "en": "A deeper plain network has a higher training error than a shallower one.",
    },
    source=f"{PAPER}, section 1, Fig. 1 and section 4.2, Fig. 6",
    direction="higher",
    margin=0.01,
    unit="training error",
)
NOT_OVERFITTING = Claim(
    id="degradation.not-overfitting",
    kind="statistical",
    section="degradation",
    statement={
        "ko": "이 성능 저하는 과적합이 아니다. 평범한 신경망이 깊어져도 시험 오류와 훈련 오류의 차이는 커지지 않는다.",
        "en": "The degradation is not overfitting: the gap between test and training error does not grow with a plain network's depth.",
    },
    source=f"{PAPER}, section 1",
    direction="not higher",
    margin=0.02,
    unit="test error − training error",
)
RESIDUAL_HOLDS = Claim(
    id="degradation.residual-does-not-degrade",
    kind="statistical",
    section="degradation",
    statement={
        "ko": "잔차 신경망은 깊어져도 훈련 오류가 나빠지지 않는다.",
        "en": "A deeper residual network does not have a higher training error than a shallower one.",
    },
    source=f"{PAPER}, section 4.2, Fig. 6",
    direction="not higher",
    margin=0.01,
    unit="training error",
)
RESIDUAL_TRAINS_BETTER = Claim(
    id="degradation.residual-trains-better",
    kind="statistical",
    section="degradation",
    statement={
        "ko": "같은 깊이라면(가장 깊은 쌍에서) 잔차 신경망이 평범한 신경망보다 훈련 오류가 작다.",
        "en": "At the same depth (the deepest pair), the residual network has a lower training error than the plain one.",
    },
    source=f"{PAPER}, section 4.1, Table 2 and section 4.2, Fig. 6",
    direction="lower",
    margin=0.01,
    unit="training error",
)


class DegradationConfig(StudyConfig):
    """Depths of the plain and residual networks; the first and the last are compared."""

    depths: CifarDepths = Field((20, 56), min_length=2, description="depths, each 6n+2, shallowest first")


def grid(config: DegradationConfig) -> dict[str, list[TrialConfig]]:
    """Return the trials: a plain and a residual group for each depth."""
    return {f"{kind}-{depth}": config.trials(f"cifar_{kind}", depth=depth) for depth in config.depths for kind in ("plain", "resnet")}


def measure(config: DegradationConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return the four comparisons, between the shallowest and the deepest networks."""
    shallow, deep = config.depths[0], config.depths[-1]
    train = {group: by_seed(trials, "train_error") for group, trials in groups.items()}
    test = {group: by_seed(trials, "test_error") for group, trials in groups.items()}
    gap = {group: {seed: test[group][seed] - error for seed, error in train[group].items()} for group in groups}
    return Measurement(
        [
            Comparison(DEEPER_PLAIN, train[f"plain-{deep}"], train[f"plain-{shallow}"]),
            Comparison(NOT_OVERFITTING, gap[f"plain-{deep}"], gap[f"plain-{shallow}"]),
            Comparison(RESIDUAL_HOLDS, train[f"resnet-{deep}"], train[f"resnet-{shallow}"]),
            Comparison(RESIDUAL_TRAINS_BETTER, train[f"resnet-{deep}"], train[f"plain-{deep}"]),
        ]
    )


STUDY = Study(
    name="degradation",
    title={"ko": "성능 저하 문제", "en": "The degradation problem"},
    question={
        "ko": "신경망을 더 깊게 쌓으면 왜 훈련조차 더 안 되는가? 지름길을 더하면 달라지는가?",
        "en": "Why does a deeper network fit even its training data worse, and do shortcuts change that?",
    },
    claims=(DEEPER_PLAIN, NOT_OVERFITTING, RESIDUAL_HOLDS, RESIDUAL_TRAINS_BETTER),
    config=DegradationConfig,
    presets={"default": {}, "smoke": {"depths": (8, 14), "seeds": 3, "epochs": 1}},
    grid=grid,
    measure=measure,
)
