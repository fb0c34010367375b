"""Is a residual network an ensemble of paths? (Veit et al. 2016; Greff et al. 2017, arXiv:1612.07771)

The gradient of n blocks is a sum over 2^n paths, each through the branch or the shortcut of every block. Two readings of that:

- *Ensemble* (Veit et al.): the paths hardly depend on one another, and the short ones do the work. A block is as good a member as any other
  of its stage; the others neither know nor mind that it is missing.
- *Iterative refinement* (Greff et al.): the blocks of a stage estimate one and the same representation, each correcting what those before
  it left. Then the later blocks *repair* the removal of an earlier one, and order matters: the early blocks come first because they do the
  coarse part, so that losing the early half of a stage costs more than losing the late half.

That removal and reordering are survived, that the mean correction is small, and that the accuracy grows from block to block, both readings
predict; so these cannot tell them apart, and are not used here. Repair is measured as the part of a removed block's output that is there
again at the end of its stage: `1 − ⟨h − h', F_i⟩ / ‖F_i‖²`, h and h' the state there with and without block i: 0 if the others do not mind, 1
if all is made good, and below 0 if they add to what is missing.

Measured on the digits, neither reading holds in its pure form: the early half of a stage is worth far more than the late half, as refinement
has it and equal members have not; but nothing is repaired, as independent members have it and refinement has not. That the short
paths carry the gradient holds, whichever reading is right.

The claims are about pre-activation networks, as Veit's were, where `h = x + ΣF` holds exactly; the table has both versions (in the first,
the ReLU after an addition also takes away part of what is missing, which counts as repaired). Lengths are compared by the norm of their
gradients; as norms do not add up to the norm of the sum, a share is of the sum of norms. Training on short paths takes longer: in a short
run its training error, which is in the table of trials, says whether it was trained at all.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby, product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reslab.analysis.paths import PathSpectrum, path_spectrum
from reslab.gates.view import Live, View, view
from reslab.ledger.claim import Claim, Text
from reslab.ledger.record import Chart, Series, Table
from reslab.ledger.verdict import Check, Comparison
from reslab.networks import zoo
from reslab.studies.study import CifarDepth, Groups, Measurement, Progress, Study, StudyConfig, Trial, by_seed, not_trained, over_seeds, sound
from reslab.training.loop import TrialConfig

VEIT = "Veit et al. 2016 (arXiv:1605.06431)"
GREFF = "Greff et al. 2017 (arXiv:1612.07771)"
CARRIED: Text = {
    "ko": "기울기가 최소 1의 경로로 직접 전파되어 수백 층에서도 유지된다",
    "en": "gradients go straight through a path of at least 1, and are kept through hundreds of layers",
}
JOINTLY: Text = {
    "ko": "일부 블록을 제거해도 성능이 유지되므로, 다양한 깊이의 경로가 함께 학습된 앙상블이다",
    "en": "since performance is kept when blocks are removed, it is an ensemble of jointly trained paths of many depths",
}

COUNT = Claim(
    id="ensemble_paths.two-to-the-n",
    kind="exact",
    section="ensemble",
    statement={
        "ko": "잔차 블록 6개의 기울기는 서로 다른 2⁶ = 64개 경로의 기울기를 더한 것과 정확히 같다.",
        "en": "The gradient of 6 residual blocks is exactly the sum of the gradients of 2⁶ = 64 different paths.",
    },
    source=f"{VEIT}, section 3",
)
SHORTER = Claim(
    id="ensemble_paths.gradient-takes-shorter-paths",
    kind="statistical",
    section="ensemble",
    statement={
        "ko": "학습된 v2 신경망에서 기울기를 나르는 경로의 평균 길이는 모든 경로의 평균인 블록 수의 절반보다 짧다(블록 수의 5 % 넘게).",
        "en": "In trained v2 networks the paths that carry the gradient are shorter than the average path, half the number of blocks, by over 5 % of "
        "that number.",
    },
    source=f"{VEIT}, section 4.3: most of the gradient of 110 layers comes from paths of 10 to 34 layers",
    direction="lower",
    margin=0.05,
    unit="mean path length / number of blocks, − ½",
)
LONG = Claim(
    id="ensemble_paths.long-paths-carry-almost-nothing",
    kind="statistical",
    section="gradient",
    statement={
        "ko": "학습된 v2 신경망에서 블록의 절반보다 많은 수를 지나는 긴 경로는 전체 경로의 절반쯤 되지만, 기울기의 10 % 미만만 나른다.",
        "en": "In trained v2 networks the paths through more than half of the blocks, about half of all paths, carry under 10 % of the gradient.",
    },
    source=f"{VEIT}, sections 4.2 and 4.3: gradients do not go through all layers; short paths carry them",
    direction="lower",
    margin=0.0,
    unit="share of the gradient, − 0.1",
    corrects=CARRIED,
)
BARE_SKIP = Claim(
    id="ensemble_paths.the-bare-skip-carries-little",
    kind="statistical",
    section="gradient",
    statement={
        "ko": "학습된 v2 신경망에서 지름길만 따라가는 단 하나의 경로는 기울기의 10 % 미만만 나른다.",
        "en": "In trained v2 networks the one path of shortcuts alone carries under 10 % of the gradient.",
    },
    source=f"{VEIT}, section 4.3: of 54 blocks, the paths that carry the gradient take 5 to 17",
    direction="lower",
    margin=0.0,
    unit="share of the gradient, − 0.1",
    corrects=CARRIED,
)
SHORT_TRAINING = Claim(
    id="ensemble_paths.short-paths-are-enough-to-train",
    kind="statistical",
    section="ensemble",
    statement={
        "ko": "걸음마다 전체 블록의 43 %만 무작위로 켜서, 짧은 경로만으로 같은 걸음 수를 학습해도 시험 오류는 2 %p 넘게 커지지 않는다.",
        "en": "Training for as many steps on short paths only, 43 % of the blocks on at random in each, raises the test error by no more than 2 "
        "points.",
    },
    source=f"{VEIT}, section 4.3: 5.96 % with 23 of 54 blocks on, 6.10 % with all",
    direction="not higher",
    margin=0.02,
    unit="test error",
    rate=True,
)
REPAIR = Claim(
    id="ensemble_paths.later-blocks-repair",
    kind="statistical",
    section="ensemble",
    statement={
        "ko": "학습된 v2 신경망에서 블록 하나를 제거하면 같은 단계의 뒤 블록들이 빠진 출력의 10 % 넘게 메운다. 곧 블록들은 서로 독립이 아니다.",
        "en": "When a block of a trained v2 network is removed, the later ones of its stage make good over 10 % of its output: blocks are not "
        "independent of one another.",
    },
    source=f"{GREFF}, section 3: the blocks of a stage refine one estimate; against {VEIT}: paths hardly depend on one another",
    direction="higher",
    margin=0.1,
    unit="part of the removed output that is there again",
    corrects=JOINTLY,
)
ORDER = Claim(
    id="ensemble_paths.early-blocks-matter-more",
    kind="statistical",
    section="ensemble",
    statement={
        "ko": "학습된 v2 신경망에서 한 단계의 앞 절반을 제거하면 뒤 절반을 제거할 때보다 "
        "시험 오류가 2 %p 넘게 더 크다. 곧 블록들은 대등한 구성원이 아니다.",
        "en": "Without the early half of a stage, a trained v2 network's test error is over 2 points higher than without the late half: blocks are "
        "no equal members.",
    },
    source=f"{GREFF}, section 3; an ensemble of the same paths ({VEIT}) loses equally many of each length either way",
    direction="higher",
    margin=0.02,
    unit="test error",
    rate=True,
    corrects=JOINTLY,
)

KINDS = {"preresnet": "pre-activation", "resnet": "residual", "short": "residual, trained on short paths"}


class EnsemblePathsConfig(StudyConfig):
    """The depth of the networks."""

    depth: CifarDepth = Field(56, ge=20, description="depth, 6n+2; from 20 on, as a stage must have two blocks of one shape")
    images: int = Field(64, ge=1, description="test images whose gradients are split by path length")


def grid(config: EnsemblePathsConfig) -> dict[str, list[TrialConfig]]:
    """Return the trials: pre-activation, residual, and residual on short paths."""
    blocks = (config.depth - 2) // 2
    return {
        "preresnet": config.trials("cifar_preresnet", depth=config.depth),
        "resnet": config.trials("cifar_resnet", depth=config.depth),
        "short": config.trials("cifar_short_paths", depth=config.depth, blocks=round(23 / 54 * blocks)),
    }


class Looked(NamedTuple):
    """What one trained network shows."""

    spectrum: PathSpectrum
    repair: float
    without_early: float  # test error without the early half of a stage's blocks, mean over stages
    without_late: float

    @property
    def relative_length(self) -> float:
        """Return the mean length of the paths that carry the gradient, over the number of blocks."""
        return self.spectrum.mean_length / (len(self.spectrum.norm) - 1)

    @property
    def long_share(self) -> float:
        """Return the share of the gradient carried by paths through more than half of the blocks."""
        blocks = len(self.spectrum.norm) - 1
        return float(self.spectrum.share[blocks // 2 + 1 :].sum())


def measure(config: EnsemblePathsConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return the exact count, and what the trained networks show."""
    trials = [trial for group in ("preresnet", "resnet") for trial in sound(groups[group])]
    found: dict[str, dict[int, Looked]] = {"preresnet": {}, "resnet": {}}
    for done, trial in enumerate(trials):
        progress("following paths", done, len(trials))
        found[trial.group][trial.config.seed] = look(trial, config.images)
    progress("following paths", len(trials), len(trials))

    def values(value: Callable[[Looked], float]) -> dict[int, float]:
        return {seed: value(looked) for seed, looked in found["preresnet"].items()}

    def than(claim: Claim, value: Callable[[Looked], float], constant: float) -> Comparison:
        return Comparison(claim, values(value), dict.fromkeys(found["preresnet"], constant), untested)

    untested = not_trained(groups, "preresnet")
    short, all_paths = (by_seed(groups[group], "test_error") for group in ("short", "resnet"))
    shown = {group: looks for group, looks in found.items() if looks}
    return Measurement(
        comparisons=[
            than(SHORTER, lambda looked: looked.relative_length, 0.5),
            than(LONG, lambda looked: looked.long_share, 0.1),
            than(BARE_SKIP, lambda looked: float(looked.spectrum.share[0]), 0.1),
            Comparison(SHORT_TRAINING, short, all_paths, untested=not_trained(groups, "resnet")),
            than(REPAIR, lambda looked: looked.repair, 0.0),
            Comparison(ORDER, values(lambda looked: looked.without_early), values(lambda looked: looked.without_late), untested),
        ],
        checks=[count_paths()],
        tables=[_table(shown)],
        charts=[_spectra(shown)] if shown else [],
    )


def look(trial: Trial, images: int) -> Looked:
    """Return what a trained network shows on the test images; the spectrum and the repair are of a few of them."""
    network, data = trial.network(), trial.data()
    (x, y), (few, their_labels) = data.test, data.sample("test", images)
    gated = view(network, x[:2])
    early, late = halves(gated)
    return Looked(path_spectrum(gated, few, their_labels), repair(gated, few), _error(gated, x, y, early), _error(gated, x, y, late))


def stages(gated: View) -> list[list[int]]:
    """Return, stage by stage, the indices of the blocks that keep the shape."""
    keeping = [index for index, block in enumerate(gated.blocks) if block.identity]
    return [list(group) for _, group in groupby(keeping, key=lambda index: gated.blocks[index].stage)]


def halves(gated: View) -> tuple[list[Tensor], list[Tensor]]:
    """Return gates `[n]` without the early half of each stage's blocks in turn, and without the late half; a middle block stays."""

    def without(removed: list[int]) -> Tensor:
        gates = torch.ones(len(gated))
        gates[removed] = 0
        return gates

    members = stages(gated)
    return [without(blocks[: len(blocks) // 2]) for blocks in members], [without(blocks[-(len(blocks) // 2) :]) for blocks in members]


AT_ONCE = 512
"""Images that go through a network together."""


def _error(gated: View, x: Tensor, y: Tensor, settings: list[Tensor]) -> float:
    with torch.no_grad():
        answers = [torch.cat([gated(some, gates).argmax(1) for some in x.split(AT_ONCE)]) for gates in settings]
    return float(torch.stack([(answer != y).double().mean() for answer in answers]).mean())


@torch.no_grad()
def repair(gated: View, images: Tensor) -> float:
    """Return the part of a removed block's output that is there again at the end of its stage.

    It is taken over all images together, and averaged over the blocks but each stage's last.
    """
    before: list[Live] = [gated.stem(images)]
    for index in range(len(gated)):
        before.append(gated.block(index, before[-1]))
    parts = []
    for blocks in stages(gated):
        end = blocks[-1] + 1
        for index in blocks[:-1]:
            _, branches = gated.sides(index, before[index])
            output = torch.stack(list(branches)).sum(0).flatten(1)  # F_i, [B, C·H·W]
            live = gated.block(index, before[index], torch.zeros(len(gated)))
            for later in range(index + 1, end):
                live = gated.block(later, live)
            missing = (before[end][0] - live[0]).flatten(1)
            parts.append(1 - (missing * output).sum() / output.square().sum())
    return float(torch.stack(parts).mean())


def each_path(gated: View, images: Tensor, labels: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield every path's length and gradient at the first block's input: the other side of each block is kept, but as a constant."""
    with torch.no_grad():
        trunk, *rest = gated.stem(images)
    start = trunk.detach().requires_grad_()
    for path in product((False, True), repeat=len(gated)):
        value = start.clone()
        for index, through in enumerate(path):
            shortcut, branches = gated.sides(index, (value, *rest))
            branch = sum(branches[1:], branches[0])
            value = shortcut.detach() + branch if through else shortcut + branch.detach()
        (gradient,) = torch.autograd.grad(F.cross_entropy(gated.head((value, *rest)), labels), start)
        yield sum(path), gradient


def count_paths(family: str = "cifar_preresnet") -> Check:
    """Return how many paths of 6 blocks have a gradient of their own, and whether they add up to the gradient and, by length, to the spectrum."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = zoo.build(family, depth=14, in_channels=1).double()
        x, y = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.arange(4)
    gated = view(network, x)
    spectrum = path_spectrum(gated, x, y).gradient
    lengths, gradients = zip(*each_path(gated, x, y), strict=True)
    by_length = torch.zeros_like(spectrum).index_add(0, torch.tensor(lengths), torch.stack(gradients))
    measured = {
        "paths": len(torch.stack(gradients).flatten(1).unique(dim=0)),
        "sum to the gradient": bool(torch.allclose(by_length.sum(0), _gradient(gated, x, y), rtol=1e-9, atol=1e-12)),
        "by length the spectrum": bool(torch.allclose(by_length, spectrum, rtol=1e-9, atol=1e-12)),
    }
    return Check(COUNT, measured, {"paths": 2 ** len(gated), "sum to the gradient": True, "by length the spectrum": True})


def _gradient(gated: View, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient at the first block's input, from autograd alone."""
    with torch.no_grad():
        trunk, *rest = gated.stem(images)
    start = trunk.detach().requires_grad_()
    live: Live = (start.clone(), *rest)
    for index in range(len(gated)):
        live = gated.block(index, live)
    (gradient,) = torch.autograd.grad(F.cross_entropy(gated.head(live), labels), start)
    return gradient


Found = Mapping[str, Mapping[int, Looked]]


def _table(found: Found) -> Table:
    figures: dict[str, Callable[[Looked], float]] = {
        "mean length (blocks)": lambda looked: looked.spectrum.mean_length,
        "over half of the blocks (%)": lambda looked: 100 * looked.long_share,
        "skips alone (%)": lambda looked: 100 * float(looked.spectrum.share[0]),
        "repaired (%)": lambda looked: 100 * looked.repair,
        "error without early halves (%)": lambda looked: 100 * looked.without_early,
        "error without late halves (%)": lambda looked: 100 * looked.without_late,
    }
    return Table(
        title={"ko": "경로와 블록 (시드 평균)", "en": "Paths and blocks (means over seeds)"},
        columns=["network", *figures],
        rows=[[KINDS[group], *(sum(map(figure, looks.values())) / len(looks) for figure in figures.values())] for group, looks in found.items()],
    )


def _spectra(found: Found) -> Chart:
    first = next(looked for looks in found.values() for looked in looks.values()).spectrum
    lengths = [float(length) for length in range(len(first.norm))]
    paths = Series(name="all paths (binomial)", x=lengths, y=[100 * count / 2 ** (len(lengths) - 1) for count in first.paths])
    carried = [
        over_seeds(f"{KINDS[group]}: gradient", lengths, {seed: (100 * looked.spectrum.share).tolist() for seed, looked in looks.items()})
        for group, looks in found.items()
    ]
    return Chart(
        title={"ko": "경로 길이에 따른 기울기", "en": "The gradient by path length"},
        caption={
            "ko": "선은 그 길이의 경로가 전체 경로 2ⁿ개에서 차지하는 몫(이항 분포), 막대는 그 경로들이 나르는 기울기의 몫(수염은 표준편차 한 배). "
            "경로는 가운데에 몰려 있다. 기울기를 나르는 막대가 그보다 얼마나 왼쪽에 있는지 볼 것.",
            "en": "The line is the share of all 2ⁿ paths that have this length (binomial), the bars the share of the gradient that those paths carry "
            "(whiskers: one standard deviation). Most paths are in the middle: see how far to the left of it the bars are.",
        },
        x={"ko": "경로 길이 (블록)", "en": "path length (blocks)"},
        y={"ko": "몫 (%)", "en": "share (%)"},
        series=[*(series.model_copy(update={"kind": "bars"}) for series in carried), paths],
    )


STUDY = Study(
    name="ensemble_paths",
    title={"ko": "경로의 앙상블인가", "en": "An ensemble of paths?"},
    question={
        "ko": "기울기는 2ⁿ개 경로 중 어떤 길이의 경로로 흐르는가? 잔차 신경망은 서로 독립인 경로의 앙상블인가, 하나의 추정을 반복해 고치는가?",
        "en": "Which of the 2ⁿ paths carry the gradient, and are they an ensemble of independent members or one estimate refined again and again?",
    },
    claims=(COUNT, SHORTER, LONG, BARE_SKIP, SHORT_TRAINING, REPAIR, ORDER),
    config=EnsemblePathsConfig,
    presets={
        "default": {},
        "smoke": {"depth": 20, "seeds": 3, "epochs": 1, "images": 16},
        "full": {"data": "cifar10", "epochs": 16, "depth": 110},
    },
    grid=grid,
    measure=measure,
)
