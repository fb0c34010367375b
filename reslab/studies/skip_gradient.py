"""What does a shortcut do to the gradient? The chapter has ∂L/∂x = ∂L/∂y × (∂F/∂x + 1), with a factor "always at least 1".

The formula is checked in float64 against autograd for each kind of block: v1 has the mask of its last ReLU, and a block that changes the shape
has W_s in place of the 1. The factor is a matrix, I + J_F: its singular values are measured before and after training.
(He et al. 2015, Eq. 1 and 2; He et al. 2016, section 2)
"""

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reslab.analysis.jacobian import jacobian
from reslab.analysis.subject import evaluating
from reslab.gates.view import view
from reslab.ledger.claim import Claim, Text
from reslab.ledger.record import Chart, Table
from reslab.ledger.verdict import Check, Comparison
from reslab.networks import zoo
from reslab.studies.study import CifarDepths, Groups, Measurement, Progress, Study, StudyConfig, not_trained, over_seeds, sound
from reslab.training.loop import TrialConfig

HE_2015 = "He et al. 2015 (arXiv:1512.03385)"
HE_2016 = "He et al. 2016 (arXiv:1603.05027)"
FORMULA_V2 = Claim(
    id="skip_gradient.backward-formula-holds-for-v2",
    kind="exact",
    section="gradient",
    statement={
        "ko": "항등 지름길이 있는 v2 블록에서 ∂L/∂x = (I + J_F)ᵀ ∂L/∂y이다.",
        "en": "In a v2 block with an identity shortcut, ∂L/∂x = (I + J_F)ᵀ ∂L/∂y.",
    },
    source=f"{HE_2016}, section 2, Eq. 5",
)
FORMULA_V1 = Claim(
    id="skip_gradient.v1-has-the-mask-of-its-last-relu",
    kind="exact",
    section="gradient",
    statement={
        "ko": "v1 블록에서는 마지막 ReLU의 마스크가 먼저 곱해진다. ∂L/∂x = (I + J_F)ᵀ (m ⊙ ∂L/∂y), m은 x + F > 0인 자리에서 1이고 나머지는 0이다.",
        "en": "In a v1 block the mask of the last ReLU comes first: ∂L/∂x = (I + J_F)ᵀ (m ⊙ ∂L/∂y), with m = 1 where x + F > 0 and 0 elsewhere.",
    },
    source=f"{HE_2015}, Eq. 1 and the second nonlinearity after the addition; {HE_2016}, section 2",
    corrects={"ko": "∂L/∂x = ∂L/∂y × (∂F/∂x + 1)", "en": "∂L/∂x = ∂L/∂y × (∂F/∂x + 1)"},
)
FORMULA_TRANSITION = Claim(
    id="skip_gradient.transitions-have-their-shortcut",
    kind="exact",
    section="gradient",
    statement={
        "ko": "모양이 바뀌는 블록에서는 I 자리에 지름길의 W_s가 온다. 0으로 채우는 A안도 투영하는 B안도 그렇다.",
        "en": "Where the shape changes, the shortcut's W_s stands in the place of I: with option A, zero padding, as with option B, projection.",
    },
    source=f"{HE_2015}, Eq. 2; {HE_2016}, section 3",
    corrects={"ko": "∂L/∂x = ∂L/∂y × (∂F/∂x + 1)", "en": "∂L/∂x = ∂L/∂y × (∂F/∂x + 1)"},
)

ALWAYS_ONE: Text = {"ko": "∂F/∂x + 1은 항상 1 이상이다", "en": "∂F/∂x + 1 is always at least 1"}


def _shrinks(kind: str, jacobian: str) -> Claim:
    return Claim(
        id=f"skip_gradient.{kind}-blocks-shrink-some-directions",
        kind="statistical",
        section="gradient",
        statement={
            "ko": f"{kind} 블록의 {jacobian}는 수가 아니라 행렬이고, 학습 전에도 후에도 가장 작은 특잇값이 1보다 훨씬 작은 블록이 있다.",
            "en": f"A {kind} block's {jacobian} is a matrix; before as after training the smallest singular value of some block is far below 1.",
        },
        source=f"follows from no paper: {HE_2016}, Eq. 5, has I + J_F, of which nothing keeps the singular values above 1",
        direction="lower",
        margin=0.5,
        unit="smallest singular value − 1",
        corrects=ALWAYS_ONE,
    )


SHRINKS = {"v1": _shrinks("v1", "m ⊙ (I + J_F)"), "v2": _shrinks("v2", "I + J_F")}
MANY_SHRINK = Claim(
    id="skip_gradient.many-directions-shrink",
    kind="statistical",
    section="gradient",
    statement={
        "ko": "학습 전에도 후에도 v2 블록의 특잇값 가운데 4분의 1이 넘게 1보다 작다.",
        "en": "Before as after training, more than a quarter of a v2 block's singular values are below 1.",
    },
    source="singular values of the blocks' Jacobians",
    direction="higher",
    margin=0.25,
    unit="share of singular values below 1",
    corrects=ALWAYS_ONE,
)
LOST = Claim(
    id="skip_gradient.v1-blocks-lose-directions",
    kind="statistical",
    section="gradient",
    statement={
        "ko": "학습 전에도 후에도 v1 블록의 특잇값 가운데 10분의 1이 넘게 0이다. 마지막 ReLU가 막아, 그 방향으로는 아무것도 전해지지 않는다.",
        "en": "Before as after training, over a tenth of a v1 block's singular values are 0: the last ReLU lets nothing of those directions through.",
    },
    source="singular values of the blocks' Jacobians",
    direction="higher",
    margin=0.1,
    unit="share of singular values that are 0",
    corrects=ALWAYS_ONE,
)
NOTHING = 1e-9
"""A singular value in float64 that is under this is 0."""


class SkipGradientConfig(StudyConfig):
    """Depth of the networks whose singular values are measured."""

    depths: CifarDepths = Field((20,), min_length=1, max_length=1, description="depth, 6n+2")


def grid(config: SkipGradientConfig) -> dict[str, list[TrialConfig]]:
    """Return the trials: v1 and v2."""
    (depth,) = config.depths
    return {"v1": config.trials("cifar_resnet", depth=depth), "v2": config.trials("cifar_preresnet", depth=depth)}


# --- The formula, in float64 ------------------------------------------------------------------------------------------

BLOCKS: dict[str, tuple[str, str, str]] = {
    "v2, identity": ("cifar_preresnet", "A", "layer1.1"),
    "v1, identity": ("cifar_resnet", "A", "layer1.1"),
    "v1, option A": ("cifar_resnet", "A", "layer2.0"),
    "v1, option B": ("cifar_resnet", "B", "layer2.0"),
    "v2, option A": ("cifar_preresnet", "A", "layer2.0"),
    "v2, option B": ("cifar_preresnet", "B", "layer2.0"),
}
"""A family, its shortcut option, and one of its blocks."""


class Backward:
    """One block in float64 on a random input, as v1 has after a ReLU; the gradient of the loss ⟨delta, y⟩ by autograd and by formula."""

    def __init__(self, kind: str) -> None:
        family, option, name = BLOCKS[kind]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            block: Any = zoo.build(family, depth=14, shortcut=option).get_submodule(name).double().eval()
            self.x = torch.randn(2, 16, 8, 8, dtype=torch.float64).relu().requires_grad_()
            y = block(self.x)
            self.delta = torch.randn_like(y)
        a = block.relu1(block.bn1(self.x)) if family == "cifar_preresnet" else self.x
        self.branch = block.weights(a) if family == "cifar_preresnet" else block.branch(self.x)
        self.shortcut = block.downsample(a if getattr(block, "shares_activation", False) else self.x)
        total = self.shortcut + self.branch
        self.mask = total > 0 if family == "cifar_resnet" else torch.ones_like(total)
        (self.gradient,) = torch.autograd.grad(y, self.x, self.delta)

    def pulled(self, side: Tensor, delta: Tensor) -> Tensor:
        """Return the transpose of a side's Jacobian times `delta`."""
        return torch.autograd.grad(side, self.x, delta, retain_graph=True)[0]

    @property
    def chapter_error(self) -> float | None:
        """Return the relative error of `(I + J_F)ᵀ delta`; None where the shapes do not even fit."""
        if self.delta.shape != self.x.shape:
            return None
        return self._error(self.delta + self.pulled(self.branch, self.delta))

    @property
    def full_error(self) -> float:
        """Return the relative error of `(W_s + J_F)ᵀ (m ⊙ delta)`, where W_s is I for an identity shortcut."""
        delta = self.mask * self.delta
        straight = delta if self.shortcut is self.x else self.pulled(self.shortcut, delta)
        return self._error(straight + self.pulled(self.branch, delta))

    def _error(self, found: Tensor) -> float:
        return float((found - self.gradient).norm() / self.gradient.norm())


def fits(relative_error: float | None) -> bool:
    """Say whether an error in float64 is rounding."""
    return relative_error is not None and relative_error < 1e-12


def formulas() -> tuple[list[Check], Table]:
    """Return the exact claims' checks, and how far each formula is from autograd."""
    found = {kind: Backward(kind) for kind in BLOCKS}
    v2, v1 = found["v2, identity"], found["v1, identity"]
    transitions = {kind: fits(block.full_error) for kind, block in found.items() if "option" in kind}
    checks = [
        Check(FORMULA_V2, fits(v2.chapter_error), True),
        Check(FORMULA_V1, {"without m": fits(v1.chapter_error), "with m": fits(v1.full_error)}, {"without m": False, "with m": True}),
        Check(FORMULA_TRANSITION, transitions, dict.fromkeys(transitions, True)),
    ]
    table = Table(
        title={"ko": "역전파 공식과 autograd의 상대 오차(float64)", "en": "Relative error of the backward formulas against autograd (float64)"},
        columns=("block", "(I + J_F)ᵀ δ", "(W_s + J_F)ᵀ (m ⊙ δ)"),
        rows=[(kind, block.chapter_error, block.full_error) for kind, block in found.items()],
    )
    return checks, table


# --- Singular values --------------------------------------------------------------------------------------------------


def singular_values(network: nn.Module, images: Tensor, seed: int) -> dict[str, Tensor]:
    """Return, by the block's name, all singular values of the last block of each stage that has an identity shortcut, at the seed's image of 8×8.

    The statistics of BatchNorm are those of all the images, so that a network that is not trained has some that mean something.
    """
    images = F.adaptive_avg_pool2d(images, 8)
    last = {block.stage: block for block in view(network, images[:2]).blocks}
    names = [block.name for block in last.values() if block.identity]
    image = seed % len(images)
    with evaluating(network, images):
        found = jacobian(network, images[image : image + 1], names, method="all").blocks
    return {block.name: block.values[0] for block in found if block.values is not None}


def share_under(limit: float, values: dict[int, Tensor]) -> dict[int, float]:
    """Return the share of each seed's values that are under a limit."""
    return {seed: float((v < limit).double().mean()) for seed, v in values.items()}


def measure(config: SkipGradientConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return the formulas' checks, and the singular values of networks before and after training."""
    images = groups["v1"][0].data().sample("train", 128)[0]
    trials = [trial for members in groups.values() for trial in sound(members)]
    values: dict[str, dict[int, Tensor]] = {f"{kind}, {when}": {} for kind in groups for when in ("before", "after")}
    trained: dict[str, dict[int, Tensor]] = {}
    smallest: dict[str, dict[int, float]] = {kind: {} for kind in groups}
    for done, trial in enumerate(trials):
        progress("singular values", done, len(trials))
        kind, seed = trial.group, trial.config.seed
        found = {"before": singular_values(trial.fresh_network(), images, seed), "after": singular_values(trial.network(), images, seed)}
        smallest[kind][seed] = max(float(min(block.min() for block in blocks.values())) for blocks in found.values())
        for when, blocks in found.items():
            values[f"{kind}, {when}"][seed] = torch.cat(list(blocks.values()))
        for name, block in found["after"].items():
            trained.setdefault(f"{kind}, {name}", {})[seed] = block
    progress("singular values", len(trials), len(trials))
    below, lost = ({name: share_under(limit, by_seed) for name, by_seed in values.items()} for limit in (1.0, NOTHING))
    least = {seed: min(share, below["v2, after"][seed]) for seed, share in below["v2, before"].items()}
    least_lost = {seed: min(share, lost["v1, after"][seed]) for seed, share in lost["v1, before"].items()}
    checks, table = formulas()
    comparisons = [
        *(Comparison(SHRINKS[kind], smallest[kind], dict.fromkeys(smallest[kind], 1.0), untested=not_trained(groups, kind)) for kind in SHRINKS),
        Comparison(MANY_SHRINK, least, dict.fromkeys(least, 0.0), untested=not_trained(groups, "v2")),
        Comparison(LOST, least_lost, dict.fromkeys(least_lost, 0.0), untested=not_trained(groups, "v1")),
    ]
    return Measurement(comparisons, checks, tables=[table], charts=[_histograms(values), _sorted(trained)])


WIDTH, BINS = 0.1, 32
"""The bins of the histograms, from 0 on, so that 1 is between two of them; the last holds what is larger too."""


def _histograms(values: dict[str, dict[int, Tensor]]) -> Chart:
    centres = [round((i + 0.5) * WIDTH, 2) for i in range(BINS)]
    return Chart(
        title={"ko": "블록의 특잇값 분포", "en": "The distribution of blocks' singular values"},
        caption={
            "ko": "블록의 야코비안이 입력의 작은 변화를 늘이는 배수. 점선이 1이고, 그 왼쪽의 막대는 모두 줄어드는 방향이다. "
            "v1에서는 마지막 ReLU가 막은 방향이 0에 쌓인다. 점선 왼쪽에 얼마나 있는지 볼 것. 마지막 막대에는 더 큰 값도 들어 있다.",
            "en": "By how much a block's Jacobian stretches a small change of its input. The dotted line is 1; all bars to its left are directions "
            "that shrink. In v1 the directions that the last ReLU blocks pile up at 0. See how much is to the left of the line. "
            "The last bar also holds all larger values.",
        },
        x={"ko": "특잇값", "en": "singular value"},
        y={"ko": "특잇값의 몫 (%)", "en": "share of singular values (%)"},
        series=[over_seeds(name, centres, {seed: histogram(v) for seed, v in by_seed.items()}) for name, by_seed in values.items() if by_seed],
        kind="bars",
        arrangement="panels",
        marks=[1.0],
    )


def histogram(values: Tensor) -> list[float]:
    """Return the share of values in each bin, in %."""
    bins = (values.double() / WIDTH).floor().long().clamp(0, BINS - 1)
    return (100 * torch.bincount(bins, minlength=BINS).double() / len(values)).tolist()


def _sorted(trained: dict[str, dict[int, Tensor]]) -> Chart:
    at = torch.linspace(0, 1, 21, dtype=torch.float64)
    return Chart(
        title={"ko": "블록마다 크기순으로 늘어놓은 특잇값, 학습 후", "en": "Singular values of each block in order, after training"},
        caption={
            "ko": "각 단계의 마지막 블록을 v1과 v2에서 견주었다. 선이 1보다 낮은 동안은 줄어드는 방향이다. v1의 선이 얼마나 오래 0에 머무는지, "
            "단계에 따라 다른지 볼 것.",
            "en": "The last block of each stage, v1 against v2. As long as a line is below 1 its directions shrink. See how long v1's lines stay "
            "at 0, and whether that differs from stage to stage.",
        },
        x={"ko": "작은 쪽에서 본 순위(%)", "en": "rank from the smallest (%)"},
        y={"ko": "특잇값", "en": "singular value"},
        series=[
            over_seeds(name, (100 * at).tolist(), {seed: v.double().quantile(at).tolist() for seed, v in by_seed.items()})
            for name, by_seed in trained.items()
        ],
    )


STUDY = Study(
    name="skip_gradient",
    title={"ko": "지름길의 기울기", "en": "The gradient of the shortcut"},
    question={
        "ko": "지름길은 기울기를 정말 1배 이상으로 전하는가?",
        "en": "Does the shortcut really pass the gradient on with a factor of at least 1?",
    },
    claims=(FORMULA_V2, FORMULA_V1, FORMULA_TRANSITION, *SHRINKS.values(), MANY_SHRINK, LOST),
    config=SkipGradientConfig,
    presets={
        "default": {},
        "smoke": {"depths": (8,), "seeds": 3, "epochs": 1},
        "full": {"data": "cifar10", "depths": (56,), "epochs": 16},
    },
    grid=grid,
    measure=measure,
)
