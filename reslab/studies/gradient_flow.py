"""Which way does the gradient go through a deep network, and by how much a block? Plain and residual, with and without BatchNorm.

Measured is the L2 norm of the loss's gradient before the first block and after each, at initialisation over depth, and through the first steps of
training. (He et al. 2015, section 4.1, which finds "healthy norms"; Yang et al. 2019, who derive that BatchNorm makes plain networks explode)
"""

import math
from collections.abc import Callable
from statistics import fmean, median, stdev

import torch
from pydantic import Field
from torch import Tensor, nn

from reslab.analysis.gradient_flow import TINY, GradientFlow, TrainingFlow, gradient_flow, through_training, without_batchnorm
from reslab.data import load_data
from reslab.errors import UserError
from reslab.ledger.claim import Claim, Direction, Section, Text
from reslab.ledger.record import Chart, Reason, Series, Table
from reslab.ledger.verdict import Comparison
from reslab.networks import zoo
from reslab.studies.study import CifarDepths, Groups, Measurement, Progress, Study, StudyConfig, over_seeds

HE_2015 = "He et al. 2015 (arXiv:1512.03385), section 4.1"
YANG = "Yang et al. 2019, A Mean Field Theory of Batch Normalization (arXiv:1902.08129)"

KINDS: dict[str, tuple[str, bool]] = {
    "plain, BN": ("cifar_plain", True),
    "plain": ("cifar_plain", False),
    "residual, BN": ("cifar_resnet", True),
    "residual": ("cifar_resnet", False),
}
"""A family, and whether it keeps its BatchNorms."""


def _claim(
    name: str, section: Section, ko: str, en: str, source: str, direction: Direction, margin: float, unit: str, corrects: Text | None = None
) -> Claim:
    return Claim(f"gradient_flow.{name}", "statistical", section, {"ko": ko, "en": en}, source, direction, margin, unit, corrects=corrects)


RATE = "factor a block on the way back, at the deepest, − 1"
DECADES = "log10 of the gradient norm before the first block over that after the last"

EITHER: Text = {
    "ko": "최적화의 어려움은 vanishing/exploding gradient이다(어느 쪽인지는 말하지 않음)",
    "en": "the optimisation difficulty is vanishing or exploding gradients (which of the two is left out)",
}
PLAIN_BN_EXPLODES = _claim(
    "plain-with-batchnorm-explodes",
    "degradation",
    "초기화 상태에서, 배치 정규화를 쓴 깊은 평범한 신경망(기본 110층)의 기울기 노름은 입력 쪽으로 가면서 블록마다 10 % 넘게 커진다.",
    "At initialisation the gradient norm of a deep plain network with BatchNorm (110 layers by default) grows by over 10 % a block towards the "
    "input.",
    YANG,
    "higher",
    0.1,
    RATE,
    EITHER,
)
PLAIN_VANISHES = _claim(
    "plain-without-batchnorm-vanishes",
    "degradation",
    "초기화 상태에서, 배치 정규화가 없는 깊은 평범한 신경망(기본 110층)의 기울기 노름은 입력 쪽으로 가면서 블록마다 10 % 넘게 줄어든다.",
    "At initialisation the gradient norm of a deep plain network without BatchNorm (110 layers by default) shrinks by over 10 % a block towards the "
    "input.",
    f"the classic problem that {HE_2015}, recalls",
    "lower",
    0.1,
    RATE,
    EITHER,
)
RESIDUAL_BN_SLOW = _claim(
    "residual-with-batchnorm-grows-slowly",
    "gradient",
    "초기화 상태에서, 배치 정규화를 쓴 깊은 잔차 신경망(기본 110층)의 기울기 노름은 입력 쪽으로 가면서 블록마다 10 % 넘게 커지지는 않는다.",
    "At initialisation the gradient norm of a deep residual network with BatchNorm (110 layers by default) grows by no more than 10 % a block "
    "towards the input.",
    YANG,
    "not higher",
    0.1,
    RATE,
)
RESIDUAL_EXPLODES = _claim(
    "residual-without-batchnorm-explodes",
    "gradient",
    "초기화 상태에서, 배치 정규화가 없는 깊은 잔차 신경망(기본 110층)의 기울기 노름은 입력 쪽으로 가면서 블록마다 10 % 넘게 커진다.",
    "At initialisation the gradient norm of a deep residual network without BatchNorm (110 layers by default) grows by over 10 % a block towards the "
    "input.",
    "Zhang et al. 2019, Fixup Initialization (arXiv:1901.09321), section 2: each block adds its branch's variance to its input's",
    "higher",
    0.1,
    RATE,
)

BN_ALONE = _claim(
    "batchnorm-alone-keeps-gradients",
    "batchnorm",
    "배치 정규화만 있으면, 지름길이 없어도, 초기화 때 깊은 신경망(기본 110층)에서 첫 블록과 마지막 블록의 기울기 노름이 100배 안에 머문다.",
    "With BatchNorm alone, without shortcuts, the gradient norms at the first and last block of a deep network (110 layers by default) are within a "
    "factor of 100 at initialisation.",
    f"the chapter; {YANG} derive the opposite",
    "not higher",
    2.0,
    f"size of the {DECADES}",
    {"ko": "BN의 정규화로 gradient가 안정된다", "en": "BatchNorm's normalisation stabilises gradients"},
)
SKIP_ALONE = _claim(
    "skips-alone-keep-gradients",
    "residual-learning",
    "지름길만 있으면, 배치 정규화가 없어도, 초기화 때 깊은 신경망(기본 110층)에서 첫 블록과 마지막 블록의 기울기 노름이 100배 안에 머문다.",
    "With shortcuts alone, without BatchNorm, the gradient norms at the first and last block of a deep network (110 layers by default) are within a "
    "factor of 100 at initialisation.",
    "the chapter",
    "not higher",
    2.0,
    f"size of the {DECADES}",
    {"ko": "덧셈 연산으로 gradient가 직접 전파된다", "en": "The addition passes the gradient on directly"},
)
BOTH = _claim(
    "both-together-keep-gradients",
    "gradient",
    "지름길과 배치 정규화가 함께 있으면, 초기화 때 깊은 신경망(기본 110층)에서도 첫 블록과 마지막 블록의 기울기 노름이 100배 안에 머문다.",
    "With shortcuts and BatchNorm together the gradient norms at the first and last block of a deep network (110 layers by default) are within a "
    "factor of 100 at initialisation.",
    YANG,
    "not higher",
    2.0,
    f"size of the {DECADES}",
)
HUNDREDS = _claim(
    "gradients-reach-the-first-of-hundreds-of-layers",
    "gradient",
    "초기화 상태에서, 배치 정규화를 쓴 수백 층의 잔차 신경망에서도 첫 블록의 기울기 노름은 마지막 블록의 10분의 1보다 작지 않다"
    "(소실되지 않는다는 것일 뿐, 커지는지는 묻지 않는다).",
    "At initialisation, also in a residual network with BatchNorm of hundreds of layers the gradient norm at the first block is no less than a "
    "tenth of that at the last (it does not vanish; whether it grows is not asked).",
    "the chapter, made definite: a norm says nothing of the long paths, which Veit et al. 2016 (arXiv:1605.06431) find to carry little of it",
    "not higher",
    1.0,
    f"minus the {DECADES}",
    {
        "ko": "수백 레이어에서도 gradient가 유지되고 vanishing gradient가 해결된다",
        "en": "Gradients are kept through hundreds of layers, and vanishing gradients are solved",
    },
)
VANISHING_CAUSES = _claim(
    "degradation-comes-with-vanishing-gradients",
    "degradation",
    "배치 정규화를 쓴 평범한 신경망에서는 학습이 시작된 뒤 첫 블록의 기울기 노름이 마지막 블록의 10분의 1 아래에 머문다(걸음들의 중앙값).",
    "In a plain network with BatchNorm the gradient norm at the first block stays, once training has begun, under a tenth of that at the last "
    "(median over steps).",
    f"the chapter; {HE_2015}, argues against it",
    "lower",
    1.0,
    f"median {DECADES}, over the steps after the first",
    {
        "ko": "성능 저하는 vanishing(또는 exploding) gradient 같은 최적화의 어려움에서 온다",
        "en": "Degradation comes from an optimisation difficulty: vanishing (or exploding) gradients",
    },
)
IN_TRAINING = _claim(
    "residual-keeps-gradients-in-training",
    "gradient",
    "학습하는 동안에도 배치 정규화를 쓴 잔차 신경망의 첫 블록과 마지막 블록의 기울기 노름은 100배 안에 머문다.",
    "In training, too, the gradient norms at the first and last block of a residual network with BatchNorm stay within a factor of 100.",
    HE_2015,
    "not higher",
    2.0,
    f"largest size of the {DECADES}, over the steps",
)
STAYS_APART = _claim(
    "plain-stays-above-residual-in-training",
    "batchnorm",
    "학습이 시작된 뒤에도(마지막 걸음에서) 배치 정규화를 쓴 평범한 신경망의 기울기 노름은 입력 쪽으로 잔차 신경망보다 3배 넘게 더 부푼다.",
    "After training has begun, too (at the last step), the gradient norm of a plain network with BatchNorm grows towards the input over three times "
    "as much as a residual one's.",
    f"{HE_2015}, has healthy norms for plain networks with BatchNorm",
    "higher",
    0.5,
    f"{DECADES}, at the last step, plain − residual",
)


class GradientFlowConfig(StudyConfig):
    """Networks at initialisation over depth, and two depths more: one to train for a while, one of hundreds of layers."""

    depths: CifarDepths = Field((20, 56, 110), min_length=1, description="depths at initialisation, each 6n+2; rates are compared at the last")
    trained_depths: CifarDepths = Field((56,), min_length=1, max_length=1, description="depth of the networks that are trained for some steps")
    hundreds: CifarDepths = Field((302,), min_length=1, max_length=1, description="depth of the very deep residual network")
    images: int = Field(128, ge=2, description="images in the batch at initialisation")
    steps: int = Field(60, ge=1, description="steps of SGD, batch 64, learning rate 0.05")


def build(kind: str, depth: int, seed: int, num_classes: int, in_channels: int) -> nn.Module:
    """Return a network of one of the four kinds, in training mode, drawn from the seed."""
    family, batchnorm = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = zoo.build(family, depth=depth, num_classes=num_classes, in_channels=in_channels)
    return network if batchnorm else without_batchnorm(network)


def decades(flow: GradientFlow) -> float:
    """Return how many powers of ten the gradient's norm grows by from after the last block to before the first."""
    return math.log10(max(flow.first_over_last, TINY))


def trained_flow(network: nn.Module, images: Tensor, labels: Tensor, steps: int, seed: int) -> TrainingFlow | None:
    """Return the flow through training; None if it diverged, or a gradient of 0 left the last block."""
    try:
        flow = through_training(network, images, labels, steps=steps, every=max(1, steps // 6), seed=seed)
    except UserError:  # the weights are no longer finite: nothing else is wrong with what was measured before training
        return None
    return flow if all(math.isfinite(step.first_over_last) for step in flow.flows) else None


def measure(config: GradientFlowConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return rates and ratios at initialisation and through training, for each seed."""
    data = load_data(config.data).fitted(32)
    images, labels = data.train
    few, their_labels = data.sample("train", config.images)
    seeds, deep = config.seed_range, config.depths[-1]
    (trained_depth,), (hundreds,) = config.trained_depths, config.hundreds

    def start(kind: str, depth: int, seed: int) -> nn.Module:
        return build(kind, depth, seed, data.num_classes, data.in_channels)

    flows: dict[tuple[str, int], dict[int, GradientFlow]] = {}
    places = [(kind, depth) for kind in KINDS for depth in config.depths] + [("residual, BN", hundreds)]
    for done, (kind, depth) in enumerate(places):
        progress("at initialisation", done, len(places))
        flows[kind, depth] = {seed: gradient_flow(start(kind, depth, seed), few, their_labels) for seed in seeds}
    progress("at initialisation", len(places), len(places))
    training: dict[str, dict[int, TrainingFlow | None]] = {}
    for done, kind in enumerate(KINDS):
        progress("in training", done, len(KINDS))
        training[kind] = {seed: trained_flow(start(kind, trained_depth, seed), images, labels, config.steps, seed) for seed in seeds}
    progress("in training", len(KINDS), len(KINDS))
    finite = {kind: {seed: flow for seed, flow in by_seed.items() if flow is not None} for kind, by_seed in training.items()}

    def rate(claim: Claim, kind: str) -> Comparison:
        found = {seed: flow.growth for seed, flow in flows[kind, deep].items()}
        return Comparison(claim, found, dict.fromkeys(found, 1.0))

    def against_zero(claim: Claim, found: dict[int, float], untested: Reason | None = None) -> Comparison:
        return Comparison(claim, found, dict.fromkeys(found, 0.0), untested)

    def spread(kind: str) -> dict[int, float]:
        return {seed: abs(decades(flow)) for seed, flow in flows[kind, deep].items()}

    def through(kind: str, of: Callable[[list[float]], float]) -> dict[int, float]:
        return {seed: of([decades(step) for step in flow.flows]) for seed, flow in finite[kind].items()}

    def diverged(*kinds: str) -> Reason | None:
        """Say which networks diverged, as claims about training are not decided by those that are left."""
        gone = {kind: config.seeds - len(finite[kind]) for kind in kinds}
        reasons = (Reason(code="diverged", values={"gone": gone[kind], "n": config.seeds, "kind": kind}) for kind in kinds if gone[kind])
        return next(reasons, None)

    at_end = {kind: through(kind, lambda steps: steps[-1]) for kind in ("plain, BN", "residual, BN")}
    comparisons = [
        rate(PLAIN_BN_EXPLODES, "plain, BN"),
        rate(PLAIN_VANISHES, "plain"),
        rate(RESIDUAL_BN_SLOW, "residual, BN"),
        rate(RESIDUAL_EXPLODES, "residual"),
        against_zero(BN_ALONE, spread("plain, BN")),
        against_zero(SKIP_ALONE, spread("residual")),
        against_zero(BOTH, spread("residual, BN")),
        against_zero(HUNDREDS, {seed: -decades(flow) for seed, flow in flows["residual, BN", hundreds].items()}),
        against_zero(VANISHING_CAUSES, through("plain, BN", lambda steps: median(steps[1:])), diverged("plain, BN")),
        against_zero(IN_TRAINING, through("residual, BN", lambda steps: max(map(abs, steps))), diverged("residual, BN")),
        Comparison(STAYS_APART, at_end["plain, BN"], at_end["residual, BN"], untested=diverged(*at_end)),
    ]
    charts = [_norms(flows, config.depths[len(config.depths) // 2]), _rates(flows, config.depths), _heat(finite, trained_depth), _in_training(finite)]
    return Measurement(comparisons, tables=[_at_start(flows), _after_steps(training)], charts=charts)


def _at_start(flows: dict[tuple[str, int], dict[int, GradientFlow]]) -> Table:
    rows = []
    for (kind, depth), by_seed in flows.items():
        ratio, growth = [decades(flow) for flow in by_seed.values()], [flow.growth for flow in by_seed.values()]
        std = [stdev(values) if len(values) > 1 else None for values in (ratio, growth)]
        rows.append((kind, depth, len(by_seed), 10 ** fmean(ratio), std[0], fmean(growth), std[1]))
    return Table(
        title={"ko": "초기화 상태: 첫 블록의 기울기 노름 / 마지막 블록", "en": "At initialisation: gradient norm at the first block over the last"},
        columns=("network", "depth", "seeds", "first / last (geometric mean)", "std (decades)", "factor a block", "std"),
        rows=rows,
    )


def _after_steps(training: dict[str, dict[int, TrainingFlow | None]]) -> Table:
    rows = []
    for kind, by_seed in training.items():
        ends = [flow.flows[-1] for flow in by_seed.values() if flow is not None]
        ratio = 10 ** fmean(decades(flow) for flow in ends) if ends else None
        rows.append((kind, len(ends), len(by_seed) - len(ends), ratio, fmean(flow.loss for flow in ends) if ends else None))
    return Table(
        title={"ko": "몇 걸음 학습한 뒤", "en": "After some steps of training"},
        columns=("network", "seeds trained", "seeds diverged", "first / last (geometric mean)", "loss"),
        rows=rows,
    )


def _norms(flows: dict[tuple[str, int], dict[int, GradientFlow]], depth: int) -> Chart:
    series = []
    for kind in KINDS:
        norms = {seed: (flow.backward / flow.backward[-1]).double().tolist() for seed, flow in flows[kind, depth].items()}
        series.append(over_seeds(kind, [float(i) for i in range(len(next(iter(norms.values()))))], norms))
    return Chart(
        title={"ko": f"{depth}층 신경망의 기울기 노름, 블록마다", "en": f"Gradient norm by block, {depth} layers"},
        caption={
            "ko": "마지막 블록 뒤의 노름을 1로 놓았다. 오른쪽에서 왼쪽으로 읽으면 기울기가 거슬러 오는 길이다. "
            "왼쪽으로 가며 오르는 선은 폭발, 내리는 선은 소실이다.",
            "en": "The norm after the last block is set to 1. Read from right to left, the way that the gradient goes. "
            "A line that rises to the left explodes, one that falls vanishes.",
        },
        x={"ko": "지나온 블록", "en": "blocks passed"},
        y={"ko": "기울기 노름(마지막 = 1)", "en": "gradient norm (last = 1)"},
        series=series,
        log_y=True,
    )


def _rates(flows: dict[tuple[str, int], dict[int, GradientFlow]], depths: tuple[int, ...]) -> Chart:
    x = [float(depth) for depth in depths]
    return Chart(
        title={"ko": "깊이에 따른 블록당 배수", "en": "Factor a block by depth"},
        caption={
            "ko": "로그 노름에 맞춘 직선의 기울기. 1보다 크면 입력 쪽으로 폭발하고 작으면 소실한다. 어느 것이 1 가까이 머무는지 보라.",
            "en": "From the line fitted to the logarithms: above 1 it explodes towards the input, below 1 it vanishes. See which stays close to 1.",
        },
        x={"ko": "깊이(층)", "en": "depth (layers)"},
        y={"ko": "블록당 배수", "en": "factor a block"},
        series=[over_seeds(kind, x, {s: [flows[kind, depth][s].growth for depth in depths] for s in flows[kind, depths[0]]}) for kind in KINDS],
    )


def _heat(finite: dict[str, dict[int, TrainingFlow]], depth: int) -> Chart:
    series = []
    for kind, by_seed in finite.items():
        if not by_seed:
            continue
        norms = torch.stack([torch.stack([flow.backward for flow in run.flows], 1) for run in by_seed.values()])  # [seeds, blocks + 1, steps]
        steps = [float(step) for step in next(iter(by_seed.values())).steps]
        series.append(
            Series(name=kind, x=steps, y=[float(i) for i in range(norms.shape[1])], z=norms.double().clamp(min=TINY).log10().mean(0).tolist())
        )
    return Chart(
        title={"ko": f"학습하는 동안 {depth}층 신경망을 거슬러 오는 기울기", "en": f"The gradient's way back through {depth} layers, in training"},
        caption={
            "ko": "색은 그 자리의 기울기 노름(log10, 시드 평균)이다. 손실은 위에 있고 기울기는 아래로 흐른다. 슬라이더로 신경망들을 견주어, "
            "아래로 가며 밝아지는지(폭발) 어두워지는지(소실), 학습이 그것을 고치는지 볼 것. 발산한 실행은 뺐다.",
            "en": "The colour is the gradient's norm there (log10, mean over seeds). The loss is at the top and the gradient goes down. "
            "Move the slider over the networks: see where it gets brighter downwards (explodes) or darker (vanishes), and whether training mends it. "
            "What diverged is left out.",
        },
        x={"ko": "걸음", "en": "step"},
        y={"ko": "지나온 블록", "en": "blocks passed"},
        series=series,
        kind="heatmap",
        z={"ko": "log10(기울기 노름)", "en": "log10(gradient norm)"},
        arrangement="slider",
    )


def _in_training(finite: dict[str, dict[int, TrainingFlow]]) -> Chart:
    series = []
    for kind, by_seed in finite.items():
        if by_seed:
            steps = [float(step) for step in next(iter(by_seed.values())).steps]
            series.append(over_seeds(kind, steps, {seed: [decades(step) for step in run.flows] for seed, run in by_seed.items()}))
    return Chart(
        title={"ko": "학습하는 동안", "en": "Through training"},
        caption={
            "ko": "첫 블록과 마지막 블록의 기울기 노름의 비(log10): 0이면 그대로, 위는 폭발, 아래는 소실이다. "
            "학습이 어느 선을 얼마나 빨리 0으로 데려오는지 볼 것. 발산한 신경망은 그리지 않았다.",
            "en": "log10 of the gradient norm before the first block over that after the last: 0 is unchanged, above it explodes, "
            "below it vanishes. See which lines training brings to 0, and how soon. What diverged is not drawn.",
        },
        x={"ko": "걸음", "en": "step"},
        y={"ko": "log10(첫 블록 / 마지막 블록)", "en": "log10(first / last)"},
        series=series,
    )


STUDY = Study(
    name="gradient_flow",
    title={"ko": "기울기는 어디로 흐르나", "en": "Which way the gradient goes"},
    question={
        "ko": "깊은 신경망을 거슬러 오는 기울기는 커지는가, 사라지는가? 지름길과 배치 정규화는 각각 무엇을 바꾸는가?",
        "en": "Does the gradient grow or vanish on its way back through a deep network, and what do shortcuts and BatchNorm each change?",
    },
    claims=(
        *(PLAIN_BN_EXPLODES, PLAIN_VANISHES, RESIDUAL_BN_SLOW, RESIDUAL_EXPLODES, BN_ALONE, SKIP_ALONE, BOTH),
        *(HUNDREDS, VANISHING_CAUSES, IN_TRAINING, STAYS_APART),
    ),
    config=GradientFlowConfig,
    presets={
        "default": {},
        "smoke": {"depths": (8, 20), "trained_depths": (8,), "hundreds": (56,), "seeds": 3, "steps": 3},
        "full": {"data": "cifar10", "trained_depths": (110,), "hundreds": (1202,), "steps": 200},
    },
    grid=lambda _: {},
    measure=measure,
)
