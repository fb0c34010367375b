"""The degradation problem: do deeper plain networks train worse, and do shortcuts cure it? (He et al. 2015, sections 1, 4.1, 4.2)

Plain and residual CIFAR networks of growing depth, trained alike. What is compared first is *training* error: a deeper
network that overfits would have a lower one.

That a deeper network "should be at least as good" is a construction: copy the shallow network, and set the added layers to the identity. It
is carried out here on the trained plain networks; it holds for the training error, of which the shallow network is one solution, and says
nothing of the error on other images, nor of what training finds.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import nn

from reslab.analysis.landscape import landscape
from reslab.ledger.claim import Claim
from reslab.ledger.record import Chart, Series
from reslab.ledger.verdict import Check, Comparison
from reslab.files import Json
from reslab.studies.study import CifarDepths, Groups, Measurement, Progress, Study, StudyConfig, Trial, averaged, by_seed
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
    rate=True,
    corrects={
        "ko": "네트워크가 깊어지면 오히려 성능이 떨어진다(어떤 네트워크의 어떤 오류인지는 말하지 않음)",
        "en": "a network gets worse when it is made deeper (of which kind, and on which images, is left out)",
    },
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
    rate=True,
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
    rate=True,
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
    rate=True,
)

CONTAINS = Claim(
    id="degradation.deeper-contains-shallower",
    kind="exact",
    section="degradation",
    statement={
        "ko": "학습된 얕은 평범한 신경망에 항등 층을 더해 만든 가장 깊은 신경망은, 모든 훈련 영상에 똑같이 답하므로 훈련 오류가 얕은 것과 같다.",
        "en": "Made of the trained shallow one and identity layers, the deepest plain network has the same answers, and so the same training error.",
    },
    source=f"{PAPER}, section 1: the solution by construction",
    corrects={
        "ko": "더 깊은 네트워크는 이상적으로 얕은 네트워크보다 나쁘지 않다",
        "en": "ideally, a deeper network is at least as good as a shallower one",
    },
)


class DegradationConfig(StudyConfig):
    """Depths of the plain and residual networks; the first and the last are compared."""

    depths: CifarDepths = Field((20, 56), min_length=2, description="depths, each 6n+2, shallowest first")
    surface: int = Field(5, ge=1, description="points of the loss surfaces from the middle to each side")


def grid(config: DegradationConfig) -> dict[str, list[TrialConfig]]:
    """Return the trials: a plain and a residual group for each depth."""
    return {f"{kind}-{depth}": config.trials(f"cifar_{kind}", depth=depth) for depth in config.depths for kind in ("plain", "resnet")}


def measure(config: DegradationConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return the four comparisons between the shallowest and the deepest networks, and the construction."""
    shallow, deep = config.depths[0], config.depths[-1]
    train = {group: by_seed(trials, "train_error") for group, trials in groups.items()}
    test = {group: by_seed(trials, "test_error") for group, trials in groups.items()}
    gap = {group: {seed: test[group][seed] - error for seed, error in train[group].items()} for group in groups}
    return Measurement(
        [
            Comparison(DEEPER_PLAIN, train[f"plain-{deep}"], train[f"plain-{shallow}"]),
            Comparison(NOT_OVERFITTING, gap[f"plain-{deep}"], gap[f"plain-{shallow}"]),
            Comparison(RESIDUAL_HOLDS, train[f"resnet-{deep}"], train[f"resnet-{shallow}"]),
            Comparison(RESIDUAL_TRAINS_BETTER, train[f"resnet-{deep}"], train[f"plain-{deep}"], room=True),
        ],
        [construct(groups[f"plain-{shallow}"], groups[f"plain-{deep}"][0], progress)],
        charts=[_chart(config, groups), *surfaces(config, groups, progress)],
    )


@torch.no_grad()
def construct(trials: Sequence[Trial], deep: Trial, progress: Progress) -> Check:
    """Return the training errors of deep networks that contain the trained ones, and on how many training images they answer otherwise."""
    expected: Json = {"training errors": [], "answers that differ": 0}
    measured: Json = {"training errors": [], "answers that differ": 0}
    for done, trial in enumerate(trials, start=1):
        given, made = trial.network(), contain(trial.network(), deep.fresh_network())
        answers = [(given(images).argmax(1), made(images).argmax(1), labels) for images, labels in trial.data().batches("train")]
        before, after, labels = (torch.cat(part) for part in zip(*answers, strict=True))
        expected["training errors"].append(round((before != labels).double().mean().item(), 6))
        measured["training errors"].append(round((after != labels).double().mean().item(), 6))
        measured["answers that differ"] += int((before != after).sum())
        progress("adding identity layers", done, len(trials))
    return Check(CONTAINS, measured, expected)


@torch.no_grad()
def contain(shallow: nn.Module, deep: nn.Module) -> nn.Module:
    """Make a deep plain network compute what a shallow one of as many stages does, in evaluation mode; return it.

    It begins every stage with the shallow one's blocks. In those that follow, both convolutions pass every channel on, and the BatchNorms
    neither shift nor scale; the ReLUs change nothing, as a stage's maps are not negative.
    """
    deep.eval().load_state_dict(shallow.state_dict(), strict=False)
    copied = dict(shallow.named_modules())
    for name, module in deep.named_modules():
        if name not in copied and isinstance(module, nn.Conv2d):
            nn.init.dirac_(module.weight)
        elif name not in copied and isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()  # weight 1, bias 0; statistics of mean 0, variance 1
            assert module.running_var is not None
            module.running_var.fill_(1 - module.eps)  # so that 1 / sqrt(variance + eps) is 1
    return deep


def _chart(config: DegradationConfig, groups: Groups) -> Chart:
    series = []
    for kind in ("plain", "resnet"):
        errors = [[100 * error for error in by_seed(groups[f"{kind}-{depth}"], "train_error").values()] for depth in config.depths]
        series.append(averaged(kind, [float(depth) for depth in config.depths], errors))
    return Chart(
        title={"ko": "깊이에 따른 훈련 오류", "en": "Training error over depth"},
        caption={
            "ko": "점은 시드 평균, 띠는 표준편차 한 배. 평범한 신경망은 깊어지면 훈련 오류가 커지는지, 잔차 신경망은 어떤지 견주어 볼 것.",
            "en": "Points are means over seeds, the band one standard deviation. Compare how the training error goes with depth, for plain and for "
            "residual networks.",
        },
        x={"ko": "깊이 (층)", "en": "depth (layers)"},
        y={"ko": "훈련 오류 (%)", "en": "training error (%)"},
        series=series,
    )


SURFACE_IMAGES = 64
LEAST, MOST = 1e-6, 1e12
"""Losses are drawn as if between these: far out they overflow, and of a network that knows its images by heart they underflow."""


def surfaces(config: DegradationConfig, groups: Groups, progress: Progress) -> list[Chart]:
    """Return the loss around the weights of the deepest pair of networks of one seed; nothing if one of every pair diverged."""
    depth = config.depths[-1]
    kinds = ("plain", "resnet")
    finished = [{trial.config.seed: trial for trial in groups[f"{kind}-{depth}"] if trial.result["status"] != "diverged"} for kind in kinds]
    seed = min(finished[0].keys() & finished[1].keys(), default=None)
    if seed is None:
        return []
    series = []
    for done, (kind, trials) in enumerate(zip(kinds, finished, strict=True), start=1):
        images, labels = trials[seed].data().sample("train", SURFACE_IMAGES)
        surface = landscape(trials[seed].network(), images, labels, points=2 * config.surface + 1, seed=seed)
        heights = surface.losses.nan_to_num(nan=MOST).clamp(LEAST, MOST).log10()
        at = surface.coordinates.tolist()
        series.append(Series(name=f"{kind}-{depth}", x=at, y=at, z=heights.T.tolist()))
        progress("loss surfaces", done, len(kinds))
    chart = Chart(
        title={"ko": f"손실 곡면, 학습된 {depth}층 신경망", "en": f"Loss surfaces of trained networks of {depth} layers"},
        caption={
            "ko": f"가운데가 학습된 가중치(시드 {seed})이고, 거기서 두 무작위 방향으로 움직였을 때의 손실이다"
            f"(훈련 영상 {SURFACE_IMAGES}장, log10, 두 그림의 색은 같은 눈금; Li et al. 2018의 방법). "
            "등고선이 얼마나 고른지, 가운데의 골이 얼마나 깊고 넓은지, 벽이 얼마나 높은지 견주어 볼 것.",
            "en": f"In the middle are the trained weights (seed {seed}), around them the loss when they move in two random directions "
            f"({SURFACE_IMAGES} training images, log10, one colour scale for both; the method of Li et al. 2018). "
            "Compare how regular the contours are, how deep and wide the valley in the middle is, and how high the walls.",
        },
        x={"ko": "첫 방향 (필터 노름)", "en": "first direction (filter norms)"},
        y={"ko": "둘째 방향 (필터 노름)", "en": "second direction (filter norms)"},
        series=series,
        kind="contours",
        z={"ko": "log10(교차 엔트로피)", "en": "log10(cross-entropy)"},
        arrangement="panels",
    )
    return [chart]


STUDY = Study(
    name="degradation",
    title={"ko": "성능 저하 문제", "en": "The degradation problem"},
    question={
        "ko": "신경망을 더 깊게 쌓으면 왜 훈련조차 더 안 되는가? 지름길을 더하면 달라지는가?",
        "en": "Why does a deeper network fit even its training data worse, and do shortcuts change that?",
    },
    claims=(DEEPER_PLAIN, NOT_OVERFITTING, RESIDUAL_HOLDS, RESIDUAL_TRAINS_BETTER, CONTAINS),
    config=DegradationConfig,
    presets={
        "default": {},
        "smoke": {"depths": (8, 14), "seeds": 3, "epochs": 1, "surface": 2},
        "full": {"data": "cifar10", "epochs": 16, "depths": (20, 32, 44, 56, 110)},
    },
    grid=grid,
    measure=measure,
)
