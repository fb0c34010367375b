"""The lesion study: what does a trained network lose with some of its blocks? (Veit et al. 2016, section 4.1; Huang et al. 2016)

Three networks of one depth, trained alike: residual, pre-activation, and residual with stochastic depth. After training, nothing is
trained again: one block is removed (its shortcut stays), k blocks at random, or pairs of blocks of one shape are exchanged.

Veit et al. compared with VGG, which has no BatchNorm, so that removing a layer also moved the scale of everything after it. Here the control is
a plain network with BatchNorm, and a residual one of the same layers; a unit of the plain one is removed by putting the parameter-free shortcut
in its place, so all that differs is whether the network was trained with shortcuts. Both are shallower, as a deep plain network is not trained
well enough to have much to lose. Blocks that change the shape ("transitions") are counted apart. Errors are of the test images. A plain
network's units are not exchanged: the analysis does that in chains of residual blocks only.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from reslab.analysis.removal import Damage, Removals, remove_each, remove_random, reorder
from reslab.ledger.claim import Claim, Text
from reslab.ledger.record import Band, Chart, Series, Table
from reslab.ledger.verdict import Comparison
from reslab.networks.variants import RandomBlocks
from reslab.studies.study import CifarDepth, Groups, Measurement, Progress, Study, StudyConfig, Trial, averaged, not_trained, sound
from reslab.training.loop import TrialConfig

VEIT = "Veit et al. 2016 (arXiv:1605.06431)"
CHAPTER: Text = {"ko": "학습 후 일부 블록을 제거해도 성능이 유지된다", "en": "performance is kept when some blocks are removed after training"}

ONE_BLOCK = Claim(
    id="lesion.one-block-costs-little",
    kind="statistical",
    section="ensemble",
    statement={
        "ko": "학습된 잔차 신경망에서 모양을 바꾸지 않는 블록 하나를 제거하면 시험 오류는 평균 2 %p 넘게 커지지 않는다.",
        "en": "Removing one block that keeps the shape from a trained residual network raises the test error by no more than 2 points on average.",
    },
    source=f"{VEIT}, section 4.1: no single removal but a downsampling block's has a noticeable effect",
    direction="not higher",
    margin=0.02,
    unit="test error",
    rate=True,
    corrects=CHAPTER,
)
SMOOTHLY = Claim(
    id="lesion.k-blocks-smoothly-worse",
    kind="statistical",
    section="ensemble",
    statement={
        "ko": "블록을 무작위로 더 많이 제거할수록 성능은 서서히 나빠진다. 제거하는 수를 한 눈금 늘릴 때 오류 증가의 절반 이상이 한꺼번에 일어나는 "
        "절벽은 없다.",
        "en": "With more blocks removed at random, performance gets gradually worse: no step to the next number of them makes half of the error's "
        "whole rise.",
    },
    source=f"{VEIT}, section 4.1: the error rises smoothly with the number of removed modules",
    direction="lower",
    margin=0.0,
    unit="largest step's share of the rise of the test error, − ½",
    corrects=CHAPTER,
)


def _transitions(name: str, ko: str, en: str) -> Claim:
    return Claim(
        id=f"lesion.transitions-matter-more{name}",
        kind="statistical",
        section="ensemble",
        statement={
            "ko": f"{ko} 신경망에서 모양을 바꾸는 블록을 제거하면 다른 블록을 제거할 때보다 시험 오류가 2 %p 넘게 더 커진다.",
            "en": f"In a {en} network, removing a block that changes the shape raises the test error by over 2 points more than removing another.",
        },
        source=f"{VEIT}, section 4.1: removing downsampling blocks has a modest impact, other blocks none",
        direction="higher",
        margin=0.02,
        unit="rise of the test error",
        rate=True,
        corrects=CHAPTER,
    )


TRANSITIONS = _transitions("", "v1", "v1")
TRANSITIONS_V2 = _transitions("-in-v2", "사전 활성화(v2)", "pre-activation (v2)")
PLAIN_BREAKS = Claim(
    id="lesion.plain-breaks",
    kind="statistical",
    section="ensemble",
    statement={
        "ko": "배치 정규화가 있는 평범한 신경망에서 층 두 개짜리 단위 하나를 제거하면, 같은 깊이(기본 20층)의 잔차 신경망에서 제거할 때보다 "
        "시험 오류가 20 %p 넘게 더 커진다.",
        "en": "Removing one unit of two layers from a plain network with BatchNorm raises the test error by over 20 points more than from a residual "
        "network of the same depth (20 by default).",
    },
    source=f"{VEIT}, section 4.1: VGG falls to chance; it had no BatchNorm, this control has",
    direction="higher",
    margin=0.2,
    unit="rise of the test error",
    rate=True,
)
REORDERING = Claim(
    id="lesion.reordering-hurts-mildly",
    kind="statistical",
    section="ensemble",
    statement={
        "ko": "잔차 신경망에서 모양이 같은 블록 한 쌍의 순서를 바꾸어도 시험 오류는 평균 5 %p 넘게 커지지 않는다.",
        "en": "Exchanging one pair of a residual network's blocks of one shape raises the test error by no more than 5 points on average.",
    },
    source=f"{VEIT}, section 4.1: the error rises smoothly as modules are shuffled",
    direction="not higher",
    margin=0.05,
    unit="test error",
    rate=True,
)
PREACTIVATION = Claim(
    id="lesion.one-block-costs-little-in-v2",
    kind="statistical",
    section="ensemble",
    statement={
        "ko": "사전 활성화 신경망에서도 모양을 바꾸지 않는 블록 하나를 제거하면 시험 오류는 평균 2 %p 넘게 커지지 않는다.",
        "en": "In a pre-activation network too, removing one block that keeps the shape raises the test error by no more than 2 points on average.",
    },
    source=f"{VEIT}, section 4.1, whose networks are pre-activation ones",
    direction="not higher",
    margin=0.02,
    unit="test error",
    rate=True,
)
STOCHASTIC_DEPTH = Claim(
    id="lesion.stochastic-depth-makes-robust",
    kind="statistical",
    section="ensemble",
    statement={
        "ko": "확률적 깊이로 학습한 신경망은 블록의 약 절반을 제거했을 때 보통으로 학습한 신경망보다 시험 오류가 5 %p 넘게 덜 커진다.",
        "en": "Trained with stochastic depth, a network loses over 5 points less with about half of its blocks removed than trained as usual.",
    },
    source=f"Huang et al. 2016 (arXiv:1603.09382), section 3, trained so; {VEIT}: it is more resilient to removal",
    direction="lower",
    margin=0.05,
    unit="rise of the test error",
    rate=True,
)

TEST_ERROR: Text = {"ko": "시험 오류 (%)", "en": "test error (%)"}
KINDS = {
    "resnet": "residual",
    "preresnet": "pre-activation",
    "stochastic": "residual, stochastic depth",
    "plain": "plain control, with BatchNorm",
    "control": "residual control",
}
"""The groups; the last two are shallower."""


class LesionConfig(StudyConfig):
    """The depths of the networks."""

    depth: CifarDepth = Field(56, ge=20, description="depth, 6n+2; from 20 on, as two blocks of one shape must be there to be exchanged")
    control: CifarDepth = Field(20, description="depth of the plain network and of the residual one beside it; small enough for both to train")
    images: int = Field(1000, ge=1, description="test images whose errors are counted; some fifty passes over them for each network")
    draws: int = Field(3, ge=1, description="random choices of the blocks to remove or exchange, for each number")


def grid(config: LesionConfig) -> dict[str, list[TrialConfig]]:
    """Return the trials: a group a kind of network."""
    return {
        "resnet": config.trials("cifar_resnet", depth=config.depth),
        "preresnet": config.trials("cifar_preresnet", depth=config.depth),
        "stochastic": config.trials("cifar_stochastic_depth", depth=config.depth),
        "plain": config.trials("cifar_plain", depth=config.control),
        "control": config.trials("cifar_resnet", depth=config.control),
    }


class Lesions(NamedTuple):
    """What one trained network loses."""

    each: Removals
    some: Damage
    exchanged: Damage | None  # None for the controls

    def rise(self, transitions: bool = False) -> float:
        """Return the mean rise of the error with one block removed, of those that keep the shape or those that change it."""
        rises = [
            error - self.each.error
            for block, error in zip(self.each.blocks, self.each.without.tolist(), strict=True)
            if changes(block.name) == transitions
        ]
        return sum(rises) / len(rises)

    def half(self) -> float:
        """Return the rise of the error with about half of the blocks removed."""
        n = len(self.each.blocks)
        middle = min(range(len(self.some.amounts)), key=lambda index: abs(self.some.amounts[index] - n / 2))
        return float(self.some.errors[middle].mean()) - self.some.error


def changes(block: str) -> bool:
    """Say whether a block of a CIFAR network changes the shape: the first of every stage but the first."""
    return block.endswith(".0") and not block.endswith("layer1.0")


def largest_step(damage: Damage) -> float:
    """Return the largest rise of the mean error from one amount to the next, as a share of the range of the curve; 0 for a flat one."""
    curve = _curve(damage)
    span = float(curve.max() - curve.min())
    return float(curve.diff().max()) / span if span else 0.0


def lesions(trial: Trial, images: Tensor, labels: Tensor, draws: int) -> Lesions:
    """Return what a trained network loses on these images."""
    network, seed = whole(trial), trial.config.seed
    return Lesions(
        remove_each(network, images, labels),
        remove_random(network, images, labels, draws=draws, seed=seed),
        reorder(network, images, labels, draws=draws, seed=seed) if trial.group not in ("plain", "control") else None,
    )


def whole(trial: Trial) -> nn.Module:
    """Return a trial's trained network in evaluation mode, also where it was trained with random blocks."""
    network = trial.network()
    return network.network if isinstance(network, RandomBlocks) else network


def measure(config: LesionConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return the comparisons, each a mean over blocks or draws of one network, paired by seed."""
    trials = [trial for members in groups.values() for trial in sound(members)]
    found: dict[str, dict[int, Lesions]] = {group: {} for group in groups}
    images, labels = groups["resnet"][0].data().sample("test", config.images)
    for done, trial in enumerate(trials):
        progress("removing blocks", done, len(trials))
        found[trial.group][trial.config.seed] = lesions(trial, images, labels, config.draws)
    progress("removing blocks", len(trials), len(trials))

    def values(group: str, value: Callable[[Lesions], float]) -> dict[int, float]:
        return {seed: value(lesion) for seed, lesion in found[group].items()}

    def comparison(claim: Claim, treatment: dict[int, float], control: dict[int, float], *trained: str) -> Comparison:
        return Comparison(claim, treatment, control, untested=not_trained(groups, *trained))

    rise, transition, half = (
        {group: values(group, of) for group in groups} for of in (Lesions.rise, lambda lesion: lesion.rise(transitions=True), Lesions.half)
    )
    nothing = {group: dict.fromkeys(found[group], 0.0) for group in groups}
    shown = {group: lesions for group, lesions in found.items() if lesions}
    return Measurement(
        [
            comparison(ONE_BLOCK, rise["resnet"], nothing["resnet"], "resnet"),
            comparison(SMOOTHLY, values("resnet", lambda lesion: largest_step(lesion.some)), dict.fromkeys(found["resnet"], 0.5), "resnet"),
            comparison(TRANSITIONS, transition["resnet"], rise["resnet"], "resnet"),
            comparison(TRANSITIONS_V2, transition["preresnet"], rise["preresnet"], "preresnet"),
            comparison(PLAIN_BREAKS, rise["plain"], rise["control"], "plain", "control"),
            comparison(REORDERING, values("resnet", one_exchange), nothing["resnet"], "resnet"),
            comparison(PREACTIVATION, rise["preresnet"], nothing["preresnet"], "preresnet"),
            comparison(STOCHASTIC_DEPTH, half["stochastic"], half["resnet"], "stochastic", "resnet"),
        ],
        tables=[_table(shown)],
        charts=[_each(shown, config.control), *_damages(shown)] if shown else [],
    )


def one_exchange(lesion: Lesions) -> float:
    """Return the mean rise of the error with one pair of blocks exchanged."""
    assert lesion.exchanged is not None  # asked of residual networks only
    return float(lesion.exchanged.errors[0].mean()) - lesion.exchanged.error


Found = Mapping[str, Mapping[int, Lesions]]


def _table(found: Found) -> Table:
    figures: Sequence[Callable[[Lesions], float]] = (
        lambda lesion: lesion.each.error,
        Lesions.rise,
        lambda lesion: float(lesion.each.without.max()) - lesion.each.error,
        lambda lesion: lesion.rise(transitions=True),
        Lesions.half,
        lambda lesion: largest_step(lesion.some),
    )
    return Table(
        title={
            "ko": "시험 오류와, 블록을 제거할 때의 증가 (%p, 시드 평균)",
            "en": "Test error and its rise without blocks (points, mean over seeds)",
        },
        columns=["network", "whole (%)", "one block", "worst block", "one transition", "half of the blocks", "largest step (% of the rise)"],
        rows=[[KINDS[group], *(100 * sum(map(figure, lesions.values())) / len(lesions) for figure in figures)] for group, lesions in found.items()],
    )


def _each(found: Found, control: int) -> Chart:
    blocks = max(map(_names, found.values()), key=len)  # the controls have fewer
    stages = [list(names) for _, names in groupby(blocks, key=lambda name: name.split(".")[0])]
    return Chart(
        title={"ko": "블록 하나를 제거했을 때", "en": "One block removed"},
        caption={
            "ko": "제거한 블록별 시험 오류(수염은 표준편차 한 배), 맨 왼쪽은 아무것도 제거하지 않았을 때. 회색 띠가 한 단계이고, "
            f"모양을 바꾸는 블록에는 ▼와 점선이 있다. 두 대조군은 {control}층이라 막대가 없는 자리는 블록이 없는 자리다. "
            "지름길로 학습한 신경망에서는 어느 블록의 막대가 높은지, 평범한 신경망에서는 어떤지 볼 것.",
            "en": "Test error without each block (whiskers: one standard deviation); at the far left nothing is removed. A grey band is a stage; "
            f"▼ and a dotted line mark the blocks that change the shape. The two controls have {control} layers: where a bar is missing, there is "
            "no such block. See which blocks cost much in the networks that were trained with shortcuts, and which in the plain one.",
        },
        x={"ko": "제거한 블록", "en": "removed block"},
        y=TEST_ERROR,
        series=[
            _series(group, ["–", *_names(lesions)], [_with_none(lesion.each) for lesion in lesions.values()]) for group, lesions in found.items()
        ],
        kind="bars",
        arrangement="panels",
        bands=[
            Band(name={"ko": f"{number}단계", "en": f"stage {number}"}, first=names[0], last=names[-1])
            for number, names in enumerate(stages, start=1)
        ],
        marks=[name for name in blocks if changes(name)],
    )


def _names(lesions: Mapping[int, Lesions]) -> list[str]:
    return [block.name for block in next(iter(lesions.values())).each.blocks]


def _with_none(each: Removals) -> Tensor:
    """Return the error of the whole network, then that without each block."""
    return torch.cat([torch.tensor([each.error]), each.without.cpu()])


def _damages(found: Found) -> list[Chart]:
    some = {group: [lesion.some for lesion in lesions.values()] for group, lesions in found.items()}
    exchanged = {group: [lesion.exchanged for lesion in lesions.values() if lesion.exchanged] for group, lesions in found.items()}
    removal = Chart(
        title={"ko": "블록 여러 개를 무작위로 제거했을 때", "en": "k blocks removed at random"},
        caption={
            "ko": "제거한 블록 수에 따른 시험 오류. 서서히 오르는 곡선과 절벽을 견주어 볼 것.",
            "en": "Test error over the number of removed blocks: compare a gradual rise with a cliff.",
        },
        x={"ko": "제거한 블록 수", "en": "blocks removed"},
        y=TEST_ERROR,
        series=[_damage(group, damages) for group, damages in some.items()],
    )
    order = Chart(
        title={"ko": "블록의 순서를 바꾸었을 때", "en": "Blocks exchanged"},
        caption={
            "ko": "같은 단계의 블록 두 개를 무작위로 맞바꾼 횟수에 따른 시험 오류. 선이 얼마나 가파르게 오르는지 견주어 볼 것.",
            "en": "Test error over the number of random exchanges of two blocks of one stage. Compare how steeply the lines rise.",
        },
        x={"ko": "맞바꾼 횟수", "en": "exchanges"},
        y=TEST_ERROR,
        series=[_damage(group, damages) for group, damages in exchanged.items() if damages],
    )
    return [removal, order]


def _damage(group: str, damages: Sequence[Damage]) -> Series:
    return _series(group, [0.0, *map(float, damages[0].amounts)], [_curve(damage) for damage in damages])


def _curve(damage: Damage) -> Tensor:
    """Return the mean error over draws at no damage and at each amount."""
    return torch.cat([torch.tensor([damage.error]), damage.errors.mean(1)])


def _series(group: str, x: Sequence[float] | Sequence[str], errors: Sequence[Tensor]) -> Series:
    """Return the mean over seeds of error rates, in %."""
    return averaged(KINDS[group], x, (100 * torch.stack(list(errors)).double()).T.tolist())


STUDY = Study(
    name="lesion",
    title={"ko": "블록 제거 실험", "en": "The lesion study"},
    question={
        "ko": "학습이 끝난 신경망에서 블록을 빼거나 순서를 바꾸면 무엇을 잃는가? 지름길 없이 학습한 신경망은 어떤가?",
        "en": "What does a trained network lose when blocks are removed or exchanged, and what does one trained without shortcuts lose?",
    },
    claims=(ONE_BLOCK, SMOOTHLY, TRANSITIONS, TRANSITIONS_V2, PLAIN_BREAKS, REORDERING, PREACTIVATION, STOCHASTIC_DEPTH),
    config=LesionConfig,
    presets={
        "default": {},
        "smoke": {"depth": 20, "control": 14, "seeds": 3, "epochs": 1, "draws": 2},
        "full": {"data": "cifar10", "epochs": 16, "depth": 110},
    },
    grid=grid,
    measure=measure,
)
