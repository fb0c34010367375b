"""What does BatchNorm do for a residual network? The four things that the chapter credits it with, each measured.

1. *Less internal covariate shift.* "How Does Batch Normalization Help Optimization?" (Santurkar et al. 2018, arXiv:1805.11604) finds no
   less of it, and a smoother loss instead. Both, and how far the layers' inputs drift, are measured where the two have come down to the same
   losses, for a step of the same rate, the one that is best without BatchNorm: else the larger step, or how far each has learned, would be
   what is measured.
2. *Larger learning rates.* The same network at many rates, with and without. "Understanding Batch Normalization" (Bjorck et al. 2018,
   arXiv:1806.02375): the larger rate is the mechanism; at the rate that the other network can use, BatchNorm gains little.
3. *Regularisation by the noise of batch statistics.* The gap between test and training error, with and without, and at a small and a large batch
   (where the noise of the gradient changes as well).
4. *Stable gradients.* At initialisation: "A Mean Field Theory of Batch Normalization" (Yang et al. 2019, arXiv:1902.08129) derives that without
   shortcuts they explode. "Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep Networks" (De & Smith 2020,
   arXiv:2002.10444): with shortcuts, BatchNorm makes the branch small beside the shortcut.

The networks without BatchNorm have the initial weights of their twins, and nothing else in BatchNorm's place.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf, log10
from statistics import mean

import torch
from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from torch import Tensor, nn

from reslab.analysis.batchnorm import without_batchnorm
from reslab.analysis.gradient_flow import gradient_flow
from reslab.data import load_data
from reslab.errors import DamagedError
from reslab.gates.view import view
from reslab.ledger.claim import Claim
from reslab.ledger.record import Chart, Reason, Table
from reslab.ledger.verdict import Citation, Comparison
from reslab.networks import zoo
from reslab.state import preserve
from reslab.studies.descent import LEVELS, Look, bounded_log10, descent
from reslab.studies.gradient_flow import decades
from reslab.studies.study import CifarDepth, CifarDepths, Groups, Measurement, Progress, Study, StudyConfig, Trial, averaged, by_seed, not_trained
from reslab.training.loop import TrialConfig, generator

SANTURKAR = "Santurkar et al. 2018 (arXiv:1805.11604)"
BJORCK = "Bjorck et al. 2018 (arXiv:1806.02375)"
DE_SMITH = "De & Smith 2020 (arXiv:2002.10444)"

SHIFT = Claim(
    id="batchnorm_role.no-less-covariate-shift",
    kind="statistical",
    section="batchnorm",
    statement={
        "ko": "손실이 같은 곳에서 같은 학습률로 한 걸음 갈 때, 배치 정규화는 내부 공변량 변화(앞 층들이 갱신되면 층의 기울기가 돌아가는 정도, "
        "1 − 코사인)를 절반보다 작게 줄이지 않는다.",
        "en": "Where the loss is the same, and for a step of the same learning rate, BatchNorm does not bring internal covariate shift (how far an "
        "update of the layers before turns a layer's gradient, 1 − cosine) to under half.",
    },
    source=f"{SANTURKAR}, section 2.2",
    direction="not higher",
    margin=0.3,
    unit="log10 (1 − cosine), without − with BatchNorm",
    corrects={"ko": "배치 정규화는 내부 공변량 변화를 감소시킨다", "en": "BatchNorm reduces internal covariate shift"},
)
STEADIER = Claim(
    id="batchnorm_role.steadier-layer-inputs",
    kind="statistical",
    section="batchnorm",
    statement={
        "ko": "손실이 같은 곳에서 같은 학습률로 한 걸음 갈 때, 합성곱에 들어오는 값의 채널 평균(표준편차 단위)이 움직이는 거리는 "
        "배치 정규화가 있으면 없을 때의 절반보다 작다.",
        "en": "Where the loss is the same, and for a step of the same learning rate, the channel means of what enters convolutions (in standard "
        "deviations) drift less than half as far with BatchNorm as without.",
    },
    source="Ioffe & Szegedy 2015 (arXiv:1502.03167), section 2: the change of the inputs' distribution in training",
    direction="lower",
    margin=0.3,
    unit="log10 of the drift",
)
SMOOTHER = Claim(
    id="batchnorm_role.smoother-loss",
    kind="statistical",
    section="batchnorm",
    statement={
        "ko": "손실이 같은 곳에서, 움직인 거리에 대한 기울기의 변화(β)는 배치 정규화가 있으면 없을 때의 절반보다 작다. 곧 손실이 더 매끄럽다.",
        "en": "Where the loss is the same, the gradient changes less than half as much per distance moved (β) with BatchNorm as without: the loss "
        "is smoother.",
    },
    source=f"{SANTURKAR}, section 3.1, Fig. 4",
    direction="lower",
    margin=0.3,
    unit="log10 β",
)
RATE = Claim(
    id="batchnorm_role.larger-usable-rate",
    kind="statistical",
    section="batchnorm",
    statement={
        "ko": "배치 정규화가 있으면 쓸 수 있는(훈련 오류가 50 % 아래로 내려가는) 가장 큰 학습률이 두 배 넘게 크다.",
        "en": "With BatchNorm, the largest usable learning rate, one that brings the training error under 50 %, is over twice as large.",
    },
    source=f"{BJORCK}, abstract: BatchNorm primarily enables larger rates",
    direction="higher",
    margin=0.3,
    unit="log10 of the learning rate",
)
MECHANISM = Claim(
    id="batchnorm_role.the-larger-rate-is-the-mechanism",
    kind="statistical",
    section="batchnorm",
    statement={
        "ko": "배치 정규화가 없는 신경망에 가장 좋은 학습률을 둘 다에 쓰면, 배치 정규화가 없어도 시험 오류가 2 %p 넘게 크지 않다.",
        "en": "With both at the rate that is best without BatchNorm, the network without it has a test error higher by no more than 2 points.",
    },
    source=f"{BJORCK}, abstract: the larger rates are the cause of the faster convergence and the better generalisation",
    direction="not higher",
    margin=0.02,
    unit="test error",
    rate=True,
    corrects={"ko": "학습률 증가와 규제는 서로 다른 두 효과이다", "en": "the larger rate and the regularisation are two separate effects"},
)
FASTER = Claim(
    id="batchnorm_role.converges-faster",
    kind="statistical",
    section="batchnorm",
    statement={
        "ko": "각자 가장 좋은 학습률에서, 둘째 에포크의 훈련 손실은 배치 정규화가 있으면 없을 때의 절반보다 작다. 곧 더 빨리 수렴한다.",
        "en": "Each at its best rate, the network with BatchNorm has under half of the other's training loss in the second epoch: it is faster.",
    },
    source=f"Ioffe & Szegedy 2015 (arXiv:1502.03167), abstract; {BJORCK}, abstract",
    direction="lower",
    margin=0.3,
    unit="log10 of the training loss",
)
REGULARISES = Claim(
    id="batchnorm_role.smaller-gap",
    kind="statistical",
    section="batchnorm",
    statement={
        "ko": "각자 가장 좋은 학습률에서, 배치 정규화가 있으면 시험 오류와 훈련 오류의 차이가 1 %p 넘게 작다.",
        "en": "Each at its best rate, the network with BatchNorm has a gap between test and training error smaller by over 1 point.",
    },
    source="Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3.4",
    direction="lower",
    margin=0.01,
    unit="test error − training error",
    rate=True,
)
NOISE = Claim(
    id="batchnorm_role.small-batches-regularise",
    kind="statistical",
    section="batchnorm",
    statement={
        "ko": "배치 정규화가 있는 신경망을 작은 미니배치로 학습하면 시험 오류와 훈련 오류의 차이가 1 %p 넘게 작다(원인은 묻지 않는다. "
        "배치가 작으면 통계의 노이즈와 함께 기울기의 노이즈와 걸음 수도 커진다).",
        "en": "With BatchNorm, small batches make the gap between test and training error smaller by over 1 point (whatever the cause: not only the "
        "statistics' noise grows, but that of gradients, and the number of steps).",
    },
    source="Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3.4",
    direction="lower",
    margin=0.01,
    unit="test error − training error",
    rate=True,
)
STABLE = Claim(
    id="batchnorm_role.stabilises-residual-gradients",
    kind="statistical",
    section="batchnorm",
    statement={
        "ko": "지름길이 있는 깊은 신경망(기본 56층)에서는, 초기화 때 첫 블록과 마지막 블록의 기울기 크기의 비가 배치 정규화가 있으면 없을 때보다 "
        "3배 넘게 1에 가깝다.",
        "en": "With shortcuts, the ratio of a deep network's gradient at the first block to that at the last (56 layers by default) is over a factor "
        "of 3 closer to 1 with BatchNorm than without, at initialisation.",
    },
    source=f"{DE_SMITH}, abstract",
    direction="lower",
    margin=0.5,
    unit="|log10 (norm at the first block / at the last)|",
)
EXPLODES = Claim(
    id="batchnorm_role.plain-gradients-explode",
    kind="statistical",
    section="batchnorm",
    statement={
        "ko": "지름길이 없는 깊은 신경망(기본 56층)에서는 배치 정규화가 있어도 기울기가 안정되지 않고, 첫 블록까지 되돌아오며 10배 넘게 "
        "폭발한다(초기화 때).",
        "en": "Without shortcuts, BatchNorm does not stabilise a deep network's gradient (56 layers by default): on its way back to the first "
        "block it grows over tenfold at initialisation.",
    },
    source="Yang et al. 2019 (arXiv:1902.08129)",
    direction="higher",
    margin=1.0,
    unit="log10 (norm at the first block / at the last)",
    corrects={"ko": "배치 정규화는 정규화로 기울기를 안정시킨다", "en": "BatchNorm stabilises gradients by normalising"},
)
BRANCH = Claim(
    id="batchnorm_role.scales-the-branch-down",
    kind="statistical",
    section="batchnorm",
    statement={
        "ko": "깊은 v2 신경망(기본 56층)에서 배치 정규화가 있으면, 초기화 때 블록의 합에서 가지가 차지하는 몫이 0.1 넘게 작아 블록이 "
        "항등 함수에 가깝다.",
        "en": "In deep v2 networks (56 layers by default), the branch's share of a block's sum at initialisation is smaller by over 0.1 with "
        "BatchNorm: blocks are nearer to the identity.",
    },
    source=f"{DE_SMITH}, abstract",
    direction="lower",
    margin=0.1,
    unit="‖F(x)‖² / (‖x‖² + ‖F(x)‖²)",
)
SMALL_BATCH = Claim(
    id="batchnorm_role.large-rates-gain-little-at-small-batches",
    kind="cited",
    section="batchnorm",
    statement={
        "ko": "배치 정규화가 허용하는 큰 학습률의 이득은 계산 조건에 달려 있으며, 배치가 작으면 거의 없다.",
        "en": "What is gained by the larger learning rates that BatchNorm allows depends on the compute regime, and is little at small batches.",
    },
    source=f"{DE_SMITH}, abstract",
    corrects={"ko": "학습률 증가로 더 빨리 수렴한다", "en": "the larger rate means faster convergence"},
)

USABLE_ERROR = 0.5
LEVELS_SAID = ", ".join(f"{100 * level:g} %" for level in LEVELS)


class BatchnormRoleConfig(StudyConfig):
    """Depths, learning rates and batch sizes."""

    depth: CifarDepth = Field(20, description="depth of the residual networks that are trained")
    depths: CifarDepths = Field((20, 56), min_length=1, description="depths at initialisation; the claims are about the deepest")
    rates: tuple[PositiveFloat, ...] = Field(
        (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0), min_length=2, description="learning rates, smallest first"
    )
    batches: tuple[PositiveInt, PositiveInt] = Field((16, 128), description="the small and the large batch")

    @field_validator("rates", "batches")
    @classmethod
    def _growing(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if list(values) != sorted(set(values)):
            raise ValueError(f"must grow, got {', '.join(f'{value:g}' for value in values)}")
        return values


def grid(config: BatchnormRoleConfig) -> dict[str, list[TrialConfig]]:
    """Return the trials: each rate with and without BatchNorm, and each batch size with it."""
    kinds = {
        "with": config.trials("cifar_resnet", depth=config.depth),
        "without": config.trials("cifar_no_batchnorm", depth=config.depth, family="cifar_resnet"),
    }

    def changed(kind: str, **settings: float) -> list[TrialConfig]:
        return [trial.model_copy(update={"recipe": trial.recipe.model_copy(update=settings)}) for trial in kinds[kind]]

    rates = {f"{kind}, rate {rate:g}": changed(kind, learning_rate=rate) for kind in kinds for rate in config.rates}
    return rates | {f"with, batch {size}": changed("with", batch_size=size) for size in config.batches}


def measure(config: BatchnormRoleConfig, groups: Groups, progress: Progress) -> Measurement:
    """Return the eleven comparisons and the citation."""
    train, test, heldout = ({group: by_seed(trials, f"{part}_error") for group, trials in groups.items()} for part in ("train", "test", "heldout"))
    gaps = {group: {seed: error - train[group][seed] for seed, error in errors.items()} for group, errors in test.items()}
    best = {kind: best_rate({rate: heldout[f"{kind}, rate {rate:g}"] for rate in config.rates}) for kind in ("with", "without")}
    usable = {kind: {rate: train[f"{kind}, rate {rate:g}"] for rate in config.rates} for kind in best}
    chosen = {kind: f"{kind}, rate {rate:g}" for kind, rate in best.items()}
    loss = {kind: {trial.config.seed: early_loss(trial) for trial in groups[group]} for kind, group in chosen.items()}
    epochs = max(len(list(trial.run.metrics())) for trial in groups[chosen["with"]])
    shared = {kind: f"{kind}, rate {best['without']:g}" for kind in best}
    looks = {kind: _looks(groups[group], best["without"], kind, progress) for kind, group in shared.items()}
    unseen = Reason(code="too-little-learned") if None in [look for kind in looks.values() for look in kind.values()] else None
    turned, beta, drift = (
        {kind: {seed: getattr(look, name) for seed, look in found.items() if look} for kind, found in looks.items()} for name in Look._fields
    )
    start = at_initialisation(config, progress)
    deep = config.depths[-1]
    off = {kind: {seed: abs(ratio) for seed, ratio in start[f"residual, {kind}", deep].items()} for kind in best}
    small, large = config.batches
    by_batch = [f"with, batch {size}" for size in config.batches]
    limit = {kind: largest_usable(errors) for kind, errors in usable.items()}
    grid_step = max(log10(after / before) for before, after in pairwise(sorted(config.rates)))
    columns = {"test error": test, "test − training error": gaps}
    at_best = {name: {kind: values[group] for kind, group in chosen.items()} for name, values in columns.items()}
    return Measurement(
        comparisons=[
            Comparison(SHIFT, turned["without"], turned["with"], untested=unseen),
            Comparison(STEADIER, drift["with"], drift["without"], untested=unseen),
            Comparison(SMOOTHER, beta["with"], beta["without"], untested=unseen),
            Comparison(RATE, limit["with"], limit["without"], untested=beyond(config.rates, limit), resolution=grid_step),
            Comparison(MECHANISM, test[chosen["without"]], test[shared["with"]], untested=not_trained(groups, chosen["without"], shared["with"])),
            Comparison(FASTER, loss["with"], loss["without"], untested=None if epochs > 1 else Reason(code="one-epoch")),
            Comparison(REGULARISES, gaps[chosen["with"]], gaps[chosen["without"]], untested=not_trained(groups, *chosen.values())),
            Comparison(NOISE, gaps[f"with, batch {small}"], gaps[f"with, batch {large}"], untested=not_trained(groups, *by_batch)),
            Comparison(STABLE, off["with"], off["without"]),
            Comparison(EXPLODES, start["plain, with", deep], dict.fromkeys(start["plain, with", deep], 0.0)),
            Comparison(BRANCH, start["branch, with", deep], start["branch, without", deep]),
        ],
        citations=[Citation(SMALL_BATCH, "supported", "larger rates help in some compute regimes only, and hardly when the batch is small")],
        tables=[_at_best(best, at_best | {"log10 loss, epoch 2": loss}), _on_the_way(best["without"], turned, beta, drift)],
        charts=[_rates(config, usable), _gradients(config, start)],
    )


def best_rate(errors: Mapping[float, Mapping[int, float]]) -> float:
    """Return the rate with the lowest error, averaged over seeds; the first of two that are equal."""
    return min(errors, key=lambda rate: mean(errors[rate].values()))


def largest_usable(errors: Mapping[float, Mapping[int, float]]) -> dict[int, float]:
    """Return log10 of the largest rate of each seed whose training error is under one half; one step below the smallest where there is none."""
    rates = sorted(errors)
    below = rates[0] ** 2 / rates[1]
    seeds = set.intersection(*(set(by_rate) for by_rate in errors.values()))
    return {seed: log10(max([rate for rate in rates if errors[rate][seed] < USABLE_ERROR], default=below)) for seed in sorted(seeds)}


def beyond(rates: Sequence[float], limit: Mapping[str, Mapping[int, float]]) -> Reason | None:
    """Return why limits read off a grid of rates, smallest first, cannot be compared: some may lie outside it; None if all lie inside."""
    smallest, largest = log10(rates[0]), log10(rates[-1])
    outside = [kind for kind, limits in limit.items() if not all(smallest <= value < largest for value in limits.values())]
    return Reason(code="outside-grid", values={"kinds": outside}) if outside else None


def early_loss(trial: Trial) -> float:
    """Return log10 of the mean training loss of the second epoch, or of the last of a run that ended sooner.

    Raises:
        DamagedError: if no epoch is on record.
    """
    losses = [line["loss"] for line in trial.run.metrics()][:2]
    if not losses:
        raise DamagedError(f"{trial.run.path} has no metrics of any epoch, though it finished; move it away and run again")
    return bounded_log10(inf if losses[-1] is None else losses[-1])


def _looks(trials: Sequence[Trial], rate: float, kind: str, progress: Progress) -> dict[int, Look | None]:
    """Return what each seed's network shows on its way down."""
    found = {}
    for done, trial in enumerate(trials, start=1):
        found[trial.config.seed] = descent(trial, rate)
        progress(f"training again {kind} BatchNorm", done, len(trials))
    return found


def at_initialisation(config: BatchnormRoleConfig, progress: Progress) -> dict[tuple[str, int], dict[int, float]]:
    """Return, by kind and depth, each seed's log10 of the gradient's norm at the first over the last block, and the branch's share."""
    data = load_data(config.data)
    found: dict[tuple[str, int], dict[int, float]] = {}
    for done, depth in enumerate(config.depths):
        progress("gradients at initialisation", done, len(config.depths))
        for seed in config.seed_range:
            images, labels = data.fitted(32).training_batch(torch.randperm(len(data.labels), generator=generator(seed, "order", 0))[:64], None)
            for name, family in (("residual", "cifar_resnet"), ("plain", "cifar_plain"), ("branch", "cifar_preresnet")):
                with torch.random.fork_rng():
                    torch.manual_seed(seed)
                    network = zoo.build(family, depth=depth, num_classes=data.num_classes, in_channels=data.in_channels)
                for kind, twin in (("with", network), ("without", without_batchnorm(network))):
                    value = branch_share(twin, images) if name == "branch" else decades(gradient_flow(twin, images, labels))
                    found.setdefault((f"{name}, {kind}", depth), {})[seed] = value
    progress("gradients at initialisation", len(config.depths), len(config.depths))
    return found


@torch.no_grad()
def branch_share(network: nn.Module, images: Tensor) -> float:
    """Return ‖F(x)‖² / (‖shortcut(x)‖² + ‖F(x)‖²), the mean over blocks, in the network's current mode."""
    gated = view(network, images[:2])
    shares = []
    with preserve(network):
        live = gated.stem(images)
        for index in range(len(gated)):
            shortcut, branches = gated.sides(index, live)
            branch = torch.stack(list(branches)).sum(0).square().sum()
            shares.append(float(branch / (branch + shortcut.square().sum())))
            live = gated.block(index, live)
    return mean(shares)


def _at_best(best: Mapping[str, float], columns: Mapping[str, Mapping[str, Mapping[int, float]]]) -> Table:
    return Table(
        title={"ko": "각자 가장 좋은 학습률에서 (시드 평균)", "en": "Each at its best learning rate (means over seeds)"},
        columns=["BatchNorm", "best rate", *columns],
        rows=[[kind, rate, *(mean(values[kind].values()) for values in columns.values())] for kind, rate in best.items()],
    )


def _on_the_way(rate: float, *seen: Mapping[str, Mapping[int, float]]) -> Table:
    return Table(
        title={
            "ko": f"훈련 손실이 무작위로 찍을 때의 {LEVELS_SAID}에 이르렀을 때 학습률 {rate:g}의 한 걸음 (평균)",
            "en": f"A step of rate {rate:g} where the training loss has come to {LEVELS_SAID} of a guess's (means)",
        },
        columns=["BatchNorm", "log10 (1 − cosine)", "log10 β", "log10 of the drift"],
        rows=[[kind, *(mean(values[kind].values()) if values[kind] else None for values in seen)] for kind in ("with", "without")],
    )


def _rates(config: BatchnormRoleConfig, usable: Mapping[str, Mapping[float, Mapping[int, float]]]) -> Chart:
    return Chart(
        title={"ko": "쓸 수 있는 학습률", "en": "Usable learning rates"},
        caption={
            "ko": "학습률에 따른 훈련 오류. 오른쪽에서 곡선이 어디서 무너지는지 견주어 볼 것.",
            "en": "Training error over the learning rate: compare where, to the right, the curves break down.",
        },
        x={"ko": "학습률", "en": "learning rate"},
        y={"ko": "훈련 오류", "en": "training error"},
        series=[averaged(f"{kind} BatchNorm", config.rates, [by_seed.values() for by_seed in errors.values()]) for kind, errors in usable.items()],
        log_x=True,
        rate=True,
    )


def _gradients(config: BatchnormRoleConfig, start: Mapping[tuple[str, int], Mapping[int, float]]) -> Chart:
    names = [f"{name}, {kind}" for name in ("residual", "plain") for kind in ("with", "without")]
    depths = [float(depth) for depth in config.depths]
    return Chart(
        title={"ko": "초기화 때 기울기의 폭발과 소실", "en": "Gradients at initialisation: exploding and vanishing"},
        caption={
            "ko": "첫 블록의 기울기 크기를 마지막 블록의 것으로 나눈 값의 상용로그. 0이면 안정, 위는 폭발, 아래는 소실.",
            "en": "log10 of the gradient's norm at the first block over that at the last: 0 is stable, above it explodes, below it vanishes.",
        },
        x={"ko": "깊이 (층)", "en": "depth (layers)"},
        y={"ko": "log10 비", "en": "log10 of the ratio"},
        series=[averaged(f"{name} BatchNorm", depths, [start[name, depth].values() for depth in config.depths]) for name in names],
    )


STUDY = Study(
    name="batchnorm_role",
    title={"ko": "배치 정규화의 역할", "en": "The role of BatchNorm"},
    question={
        "ko": "배치 정규화는 실제로 무엇을 바꾸는가: 입력 분포, 학습률, 규제, 기울기?",
        "en": "What does BatchNorm really change: input distributions, learning rates, regularisation, gradients?",
    },
    claims=(SHIFT, STEADIER, SMOOTHER, RATE, MECHANISM, FASTER, REGULARISES, NOISE, STABLE, EXPLODES, BRANCH, SMALL_BATCH),
    config=BatchnormRoleConfig,
    presets={
        "default": {},
        "smoke": {"depth": 8, "depths": (8, 14), "seeds": 2, "epochs": 1, "rates": (0.01, 0.1)},
        "full": {"data": "cifar10", "epochs": 16, "depth": 20, "depths": (20, 56, 110)},
    },
    grid=grid,
    measure=measure,
)
