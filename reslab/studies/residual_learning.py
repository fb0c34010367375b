"""Why should a residual be easier to learn? (He et al. 2015, sections 3.1 and 4.2)

That F = H − x, and that F = 0 makes a block the identity, is checked in float64. That residuals are small is measured on networks before and
after training: the layers' responses, as in the paper's Fig. 7, and the size of F over that of x.
"""

from statistics import fmean
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from reslab.analysis.responses import responses
from reslab.analysis.subject import evaluating
from reslab.gates.view import view
from reslab.ledger.claim import Claim, Text
from reslab.ledger.record import Chart
from reslab.ledger.verdict import Check, Comparison
from reslab.networks import zoo
from reslab.studies.study import CifarDepths, Groups, Measurement, Progress, Study, StudyConfig, not_trained, over_seeds, sound
from reslab.training.loop import TrialConfig

HE_2015 = "He et al. 2015 (arXiv:1512.03385)"

RESIDUAL = Claim(
    id="residual_learning.f-is-h-minus-x",
    kind="exact",
    section="residual-learning",
    statement={
        "ko": "항등 지름길이 있는 블록의 출력 H(x)에서 입력 x를 빼면 가지의 값 F(x)이다(v2 블록, 반올림 오차 안에서).",
        "en": "The output H(x) of a block with an identity shortcut less its input x is what the branch gives, F(x) (v2 blocks, up to rounding).",
    },
    source=f"{HE_2015}, section 3.1, Eq. 1",
    corrects={
        "ko": "네트워크가 H(x)를 학습한다(블록마다의 이야기라는 말이 없음)",
        "en": "the network learns H(x) (that this is about each block is left out)",
    },
)
IDENTITY_IS_EASY = Claim(
    id="residual_learning.identity-is-a-branch-of-zero",
    kind="exact",
    section="residual-learning",
    statement={
        "ko": "가지가 0이면 v2 블록은 모든 입력에서, v1 블록은 x ≥ 0인 입력에서 항등 사상이다. 그렇게 가지가 0일 때 평범한 블록은 0을 낸다.",
        "en": "With a branch of zero a v2 block is the identity for every input, and a v1 block for inputs x ≥ 0; a plain block then gives 0.",
    },
    source=f"{HE_2015}, section 1: “it would be easier to push the residual to zero”",
)
ADDS_UP = Claim(
    id="residual_learning.v2-blocks-add-up",
    kind="exact",
    section="identity",
    statement={
        "ko": "모양을 바꾸지 않는 v2 블록을 이으면, 마지막 출력은 첫 입력에 모든 가지의 값을 더한 것이다. "
        "v1에서는 블록마다 있는 마지막 ReLU 때문에 그렇지 않다.",
        "en": "Through v2 blocks that keep the shape, the last output is the first input plus what all branches give; in v1 it is not, because of "
        "the last ReLU of each block.",
    },
    source="He et al. 2016 (arXiv:1603.05027), section 2, Eq. 4",
)
EASIER: Text = {"ko": "작은 변화는 큰 변화보다 학습하기 쉽다", "en": "Small changes are easier to learn than large ones"}
SMALLER_THAN_PLAIN = Claim(
    id="residual_learning.responses-are-smaller-than-plain",
    kind="statistical",
    section="residual-learning",
    statement={
        "ko": "학습된 잔차 신경망의 층 응답(BN 뒤의 표준편차)은 같은 깊이의 평범한 신경망보다 작다.",
        "en": "The layers' responses (standard deviation after BN) are smaller in a trained residual network than in a plain one of the same depth.",
    },
    source=f"{HE_2015}, section 4.2, Fig. 7",
    direction="lower",
    margin=0.05,
    unit="mean standard deviation of the responses",
    corrects=EASIER,
)
SMALLER_WHEN_DEEPER = Claim(
    id="residual_learning.deeper-networks-respond-less",
    kind="statistical",
    section="residual-learning",
    statement={
        "ko": "더 깊은 잔차 신경망의 층 응답은 덜 깊은 것보다 뚜렷이 작다.",
        "en": "The layers' responses are notably smaller in a deeper residual network than in a shallower one.",
    },
    source=f"{HE_2015}, section 4.2, Fig. 7",
    direction="lower",
    margin=0.05,
    unit="mean standard deviation of the responses",
)
SMALL_CHANGE = Claim(
    id="residual_learning.a-block-changes-its-input-little",
    kind="statistical",
    section="residual-learning",
    statement={
        "ko": "학습된 v1 블록의 F(x)는 평균해서 x보다 뚜렷이 작다.",
        "en": "In trained v1 blocks F(x) is, on average, notably smaller than x.",
    },
    source=f"{HE_2015}, section 4.2: “residual functions might be generally closer to zero than the non-residual functions”",
    direction="lower",
    margin=0.25,
    unit="rms of F over rms of x − 1",
    corrects=EASIER,
)
TRAINING_SHRINKS = Claim(
    id="residual_learning.training-makes-the-change-smaller",
    kind="statistical",
    section="residual-learning",
    statement={
        "ko": "학습은 F(x)를 x에 견주어 더 작게 만든다.",
        "en": "Training makes F(x) smaller in proportion to x.",
    },
    source=f"follows from {HE_2015}, section 3.1, if the optimal functions are close to the identity",
    direction="lower",
    margin=0.05,
    unit="rms of F over rms of x, after − before",
)


class ResidualLearningConfig(StudyConfig):
    """Depths of the networks; the first and the last are compared."""

    depths: CifarDepths = Field((20, 56), min_length=2, description="depths, each 6n+2, shallowest first")


def grid(config: ResidualLearningConfig) -> dict[str, list[TrialConfig]]:
    """Return the trials: residual networks of the first and the last depth, and the plain twin of the last."""
    shallow, deep = config.depths[0], config.depths[-1]
    return {
        f"resnet-{shallow}": config.trials("cifar_resnet", depth=shallow),
        f"resnet-{deep}": config.trials("cifar_resnet", depth=deep),
        f"plain-{deep}": config.trials("cifar_plain", depth=deep),
    }


def block_of(family: str) -> Any:
    """Return a block with an identity shortcut, in float64 and evaluation mode."""
    torch.manual_seed(0)
    return zoo.build(family, depth=14).get_submodule("layer1.1").double().eval()


def zero_branch(family: str, x: Tensor) -> Tensor:
    """Return what a block makes of `x` when its branch's last layer is zero."""
    block = block_of(family)
    nn.init.zeros_((block.conv2 if family == "cifar_preresnet" else block.bn2).weight)
    return block(x)


def adds_up(family: str, x: Tensor) -> bool:
    """Say whether two blocks in a row give their input plus the values of both branches."""
    network = zoo.build(family, depth=20).double().eval()
    live, total = x, x
    for name in ("layer1.1", "layer1.2"):
        block: Any = network.get_submodule(name)
        total = total + (block.weights(block.relu1(block.bn1(live))) if family == "cifar_preresnet" else block.branch(live))
        live = block(live)
    return torch.allclose(live, total, rtol=1e-12, atol=1e-12)


def algebra() -> list[Check]:
    """Return the exact claims' checks."""
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(), torch.no_grad():
        v2 = block_of("cifar_preresnet")
        residual = v2.weights(v2.relu1(v2.bn1(x)))
        difference = float(((v2(x) - x) - residual).abs().max() / residual.abs().max())
        zeros = {
            "v2": torch.equal(zero_branch("cifar_preresnet", x), x),
            "v1, x ≥ 0": torch.equal(zero_branch("cifar_resnet", x.relu()), x.relu()),
            "v1": torch.equal(zero_branch("cifar_resnet", x), x),
            "plain": torch.equal(zero_branch("cifar_plain", x), x),
        }
        sums = {"v2": adds_up("cifar_preresnet", x), "v1": adds_up("cifar_resnet", x.relu())}
    identities = {"v2": True, "v1, x ≥ 0": True, "v1": False, "plain": False}
    return [Check(RESIDUAL, difference < 1e-12, True), Check(IDENTITY_IS_EASY, zeros, identities), Check(ADDS_UP, sums, {"v2": True, "v1": False})]


@torch.no_grad()
def changes(network: nn.Module, images: Tensor) -> list[float]:
    """Return the root mean square of F over that of x for each block with an identity shortcut, normalised by the images' statistics."""
    seen = view(network, images[:2])
    found = []
    with evaluating(network, images):
        live = seen.stem(images)
        for index, block in enumerate(seen.blocks):
            if block.identity:
                shortcut, (branch,) = seen.sides(index, live)
                found.append(float((branch.square().mean() / shortcut.square().mean()).sqrt()))
            live = seen.block(index, live)
    return found


def measure(config: ResidualLearningConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return the algebra, the layers' responses, and the sizes of the residuals before and after training."""
    shallow, residual, plain = f"resnet-{config.depths[0]}", f"resnet-{config.depths[-1]}", f"plain-{config.depths[-1]}"
    images = groups[residual][0].data().sample("train", 128)[0]
    trials = [trial for members in groups.values() for trial in sound(members)]
    layers: dict[str, dict[int, list[float]]] = {group: {} for group in groups}
    before: dict[int, list[float]] = {}
    after: dict[int, list[float]] = {}
    for done, trial in enumerate(trials):
        progress("responses", done, len(trials))
        layers[trial.group][trial.config.seed] = [layer.std for layer in responses(trial.network(), images).layers]
        if trial.group == residual:
            before[trial.config.seed] = changes(trial.fresh_network(), images)
            after[trial.config.seed] = changes(trial.network(), images)
    progress("responses", len(trials), len(trials))
    strength = {group: {seed: fmean(stds) for seed, stds in by_seed.items()} for group, by_seed in layers.items()}
    after_mean, before_mean = ({seed: fmean(ratios) for seed, ratios in found.items()} for found in (after, before))

    comparisons = [
        Comparison(SMALLER_THAN_PLAIN, strength[residual], strength[plain], not_trained(groups, residual, plain)),
        Comparison(SMALLER_WHEN_DEEPER, strength[residual], strength[shallow], not_trained(groups, residual, shallow)),
        Comparison(SMALL_CHANGE, after_mean, dict.fromkeys(after_mean, 1.0), not_trained(groups, residual)),
        Comparison(TRAINING_SHRINKS, after_mean, before_mean, not_trained(groups, residual)),
    ]
    return Measurement(comparisons, algebra(), charts=[_response_chart(layers), _change_chart(before, after)])


def _response_chart(layers: dict[str, dict[int, list[float]]]) -> Chart:
    layers = {group: by_seed for group, by_seed in layers.items() if by_seed}
    length = {group: len(next(iter(by_seed.values()))) for group, by_seed in layers.items()}
    return Chart(
        title={"ko": "층의 응답", "en": "The layers' responses"},
        caption={
            "ko": "3×3 합성곱의 BN 뒤 표준편차. 논문의 그림 7처럼 잔차 신경망이 평범한 신경망보다 작은지 보라.",
            "en": "Standard deviation of each 3×3 convolution after its BN. See whether residual networks lie lower, as in the paper's Fig. 7.",
        },
        x={"ko": "신경망 안에서의 위치(%)", "en": "place in the network (%)"},
        y={"ko": "표준편차", "en": "standard deviation"},
        series=[over_seeds(group, [100 * i / (length[group] - 1) for i in range(length[group])], by_seed) for group, by_seed in layers.items()],
    )


def _change_chart(before: dict[int, list[float]], after: dict[int, list[float]]) -> Chart:
    places = [float(i) for i in range(1, len(next(iter(after.values()), [])) + 1)]
    return Chart(
        title={"ko": "블록은 입력을 얼마나 바꾸나", "en": "How much a block changes its input"},
        caption={
            "ko": "가장 깊은 v1 신경망에서 항등 지름길 블록마다 F의 크기를 x의 크기로 나눈 것. 학습하기 전부터 1보다 작은 블록이 많다. "
            "학습하기 전과 뒤를 견주어 볼 것.",
            "en": "The size of F over that of x, for each block with an identity shortcut of the deepest v1. Many are below 1 before any training. "
            "Compare before and after training.",
        },
        x={"ko": "항등 지름길 블록", "en": "block with an identity shortcut"},
        y={"ko": "rms(F) / rms(x)", "en": "rms(F) / rms(x)"},
        series=[over_seeds("before training", places, before), over_seeds("after training", places, after)],
    )


STUDY = Study(
    name="residual_learning",
    title={"ko": "잔차 학습", "en": "Residual learning"},
    question={
        "ko": "잔차를 배우는 것은 왜 쉬운가? 학습된 잔차는 정말 작은가?",
        "en": "Why should a residual be easier to learn, and are learned residuals really small?",
    },
    claims=(*(RESIDUAL, IDENTITY_IS_EASY, ADDS_UP, SMALLER_THAN_PLAIN, SMALLER_WHEN_DEEPER, SMALL_CHANGE, TRAINING_SHRINKS),),
    config=ResidualLearningConfig,
    presets={
        "default": {},
        "smoke": {"depths": (8, 14), "seeds": 3, "epochs": 1},
        "full": {"data": "cifar10", "depths": (20, 56, 110), "epochs": 16},
    },
    grid=grid,
    measure=measure,
)
