"""What does BatchNorm do for a residual network? The four things that the chapter credits it with, each measured.

1. *Less internal covariate shift.* "How Does Batch Normalization Help Optimization?" (Santurkar et al. 2018,
   arXiv:1805.11604) finds no less of it, and a smoother loss instead. Both, and how far the layers' inputs drift, are
   measured where the two have come down to the same losses, for a step of one rate that both can use: else the larger
   step, or how far each has learned, would be what is measured. (Their networks are VGG and linear ones, without
   shortcuts; these are residual.)
2. *Larger learning rates.* The same network at many rates, with and without. "Understanding Batch Normalization"
   (Bjorck et al. 2018, arXiv:1806.02375): the larger rate is the mechanism; at the rate that the other network can
   use, BatchNorm gains little.
3. *Regularisation by the noise of batch statistics.* The gap between test and training error, with and without, and at
   a small and a large batch (where the noise of the gradient changes as well).
4. *Stable gradients.* At initialisation: "A Mean Field Theory of Batch Normalization" (Yang et al. 2019,
   arXiv:1902.08129) derives that without shortcuts they explode. "Batch Normalization Biases Residual Blocks Towards
   the Identity Function in Deep Networks" (De & Smith 2020, arXiv:2002.10444): with shortcuts, BatchNorm makes the
   branch small beside the shortcut.

"The best rate" is chosen per seed, by that seed's error on held-out images: the choice is part of what each run is,
and its noise is in the interval. The networks without BatchNorm have the initial weights of their twins, and nothing
else in BatchNorm's place.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise, product
from math import log10
from statistics import mean
from typing import Annotated, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from reslab.experiment.config import INCREASING, CifarDepth, CifarDepths, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, cited, claims, higher, lower, not_higher
from reslab.experiment.trials import Grid, Key, Trials, Values, label
from reslab.ledger.record import Reason, Series, Value
from reslab.measures.descent import LEVELS, Look, descent, early_loss
from reslab.measures.rates import best_rates, beyond, chosen, largest_usable
from reslab.measures.twins import FAMILIES, twins
from reslab.progress import each
from reslab.training.loop import TrialConfig

SANTURKAR = "Santurkar et al. 2018 (arXiv:1805.11604)"
BJORCK = "Bjorck et al. 2018 (arXiv:1806.02375)"
DE_SMITH = "De & Smith 2020 (arXiv:2002.10444)"
CAUSE = "the larger rates are the cause of the faster convergence and the better generalisation"

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    "Ioffe & Szegedy 2015 (arXiv:1502.03167)",
    "batchnorm",
    {
        "no-less-covariate-shift": not_higher(0.3, revision=2, source=f"{SANTURKAR}, section 2.2"),
        "steadier-layer-inputs": lower(
            0.3, revision=2, at="section 2: the change of the inputs' distribution in training"
        ),
        "smoother-loss": lower(0.3, revision=2, source=f"{SANTURKAR}, section 3.1, Fig. 4"),
        "larger-usable-rate": higher(0.3, source=f"{BJORCK}, abstract: BatchNorm primarily enables larger rates"),
        "the-larger-rate-is-the-mechanism": not_higher(0.02, revision=2, source=f"{BJORCK}, abstract: {CAUSE}"),
        "converges-faster": lower(0.3, revision=2, at=f"abstract; {BJORCK}, abstract"),
        "smaller-gap": lower(0.01, revision=2, at="section 3.4"),
        "small-batches-regularise": lower(0.01, at="section 3.4"),
        "stabilises-residual-gradients": lower(0.5, source=f"{DE_SMITH}, abstract"),
        "plain-gradients-explode": higher(1.0, source="Yang et al. 2019 (arXiv:1902.08129)"),
        "scales-the-branch-down": lower(0.1, source=f"{DE_SMITH}, abstract"),
        "large-rates-gain-little-at-small-batches": cited(source=f"{DE_SMITH}, abstract"),
    },
)

KINDS = ("with", "without")


class BatchnormRoleConfig(StudyConfig):
    """Depths, learning rates and batch sizes."""

    depth: CifarDepth = 20
    depths: CifarDepths = Field((20, 56), min_length=1)
    rates: Annotated[tuple[PositiveFloat, ...], INCREASING] = Field(
        (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0), min_length=2
    )
    step: PositiveFloat = 0.01
    batches: Annotated[tuple[PositiveInt, PositiveInt], INCREASING] = (16, 128)

    @model_validator(mode="after")
    def _step_is_trained(self) -> Self:
        if self.step not in self.rates:
            raise ValueError(f"step must be one of the rates, got {self.step:g}")
        return self


def grid(config: BatchnormRoleConfig) -> Grid:
    """Return the trials: each rate with and without BatchNorm, and each batch size with it."""
    ours = config.trials("cifar_resnet", depth=config.depth)
    kinds = {"with": ours, "without": config.trials("cifar_no_batchnorm", depth=config.depth, family="cifar_resnet")}
    places = product(KINDS, config.rates)
    rates: Grid = {(kind, "rate", rate): changed(kinds[kind], learning_rate=rate) for kind, rate in places}
    batches: Grid = {("with", "batch", size): changed(ours, batch_size=size) for size in config.batches}
    return {**rates, **batches}


def changed(trials: Iterable[TrialConfig], **settings: float) -> list[TrialConfig]:
    """Return trials with some of their recipe's settings changed."""
    return [trial.model_copy(update={"recipe": trial.recipe.model_copy(update=settings)}) for trial in trials]


def measure(config: BatchnormRoleConfig, trials: Trials) -> Measurement:
    """Compare what each can reach, the two at the same losses, and the two at initialisation."""
    return at_best(config, trials) + on_the_way(config, trials) + at_initialisation(config, trials)


def at_best(config: BatchnormRoleConfig, trials: Trials) -> Measurement:
    """Compare errors and losses at each seed's best rates, over all rates, and of two sizes of batches."""
    heldout, train, test = (trials.errors(part) for part in ("heldout", "train", "test"))
    gap = {key: test[key] - train[key] for key in trials}
    loss = {key: trials.value(key, early_loss) for key in trials}
    best = {kind: best_rates(each_rate(config, heldout, kind)) for kind in KINDS}
    by_rate = {kind: each_rate(config, train, kind) for kind in KINDS}
    limit = {kind: largest_usable(errors) for kind, errors in by_rate.items()}
    small, large = config.batches

    def at(kind: str, of: Mapping[Key, Values], rates: Mapping[int, float]) -> Values:
        return chosen(each_rate(config, of, kind), rates)

    tested, gaps, losses = ({kind: at(kind, of, best[kind]) for kind in KINDS} for of in (test, gap, loss))
    epochs = max(len(list(trial.run.metrics())) for trial in trials["with", "rate", config.rates[0]])
    means: list[list[Value]] = []
    for kind in KINDS:
        rates = ", ".join(f"{rate:g}" for rate in sorted(set(best[kind].values())))
        averages = [mean(of[kind].values()) if of[kind] else None for of in (tested, gaps, losses)]
        means.append([kind, rates, *averages])
    return Measurement(
        {
            "larger-usable-rate": limit["with"].against(
                limit["without"],
                untested=beyond(config.rates, limit),
                resolution=max(log10(after / before) for before, after in pairwise(config.rates)),
            ),
            "the-larger-rate-is-the-mechanism": tested["without"].against(at("with", test, best["without"])),
            "converges-faster": losses["with"].against(
                losses["without"], guard=False, untested=None if epochs > 1 else Reason(code="one-epoch")
            ),
            "smaller-gap": gaps["with"].against(gaps["without"]),
            "small-batches-regularise": gap["with", "batch", small].against(gap["with", "batch", large]),
        },
        tables=[TEXT.table("at-best", means)],
        charts=[TEXT.chart("rates", [over_rates(*line) for line in by_rate.items()], log_x=True, rate=True)],
    )


def on_the_way(config: BatchnormRoleConfig, trials: Trials) -> Measurement:
    """Compare what a step of the one rate does where the losses of both have come to the same levels."""
    keys = [(kind, "rate", config.step) for kind in KINDS]
    looks = trials.look("training again", descent, config.step, keys=keys)
    every = all(len(found) == len(trials[key]) and None not in found.values() for key, found in looks.items())
    unseen = None if every else Reason(code="too-little-learned")
    turned, beta, drift = (seen(looks, name) for name in Look._fields)
    said = {"rate": f"{config.step:g}", "levels": ", ".join(f"{100 * level:g} %" for level in LEVELS)}
    means = [[kind, *(mean(of[kind].values()) if of[kind] else None for of in (turned, beta, drift))] for kind in KINDS]
    return Measurement(
        {
            "no-less-covariate-shift": turned["without"].against(turned["with"], untested=unseen),
            "steadier-layer-inputs": drift["with"].against(drift["without"], untested=unseen),
            "smoother-loss": beta["with"].against(beta["without"], untested=unseen),
        },
        tables=[TEXT.table("on-the-way", means, said=said)],
    )


def seen(looks: Mapping[Key, Mapping[int, Look | None]], name: str) -> dict[str, Values]:
    """Return one of the things that were looked for: by kind and seed, of the networks that learned enough."""
    found: dict[str, Values] = {}
    for (kind, *_), by_seed in looks.items():
        found[str(kind)] = Values({seed: getattr(look, name) for seed, look in by_seed.items() if look is not None})
    return found


def at_initialisation(config: BatchnormRoleConfig, trials: Trials) -> Measurement:
    """Compare gradients and branches before training, where the same weights are with BatchNorm and without."""
    found: dict[Key, Values] = {}
    networks = list(product(config.depths, config.seed_range, FAMILIES))
    for depth, seed, network in each(networks, "gradients at initialisation", trials.progress):
        for kind, value in trials.measured(twins, config.data, network, depth, seed).items():
            found.setdefault((network, kind, depth), Values({}))[seed] = value
    deep, depths = config.depths[-1], [float(depth) for depth in config.depths]
    off = {kind: found["residual", kind, deep].map(abs) for kind in KINDS}
    series = []
    for pair in product(("residual", "plain"), KINDS):
        ratios = [found[*pair, depth].values() for depth in config.depths]
        series.append(TEXT.averaged(label(pair), depths, ratios))
    return Measurement(
        {
            "stabilises-residual-gradients": off["with"].against(off["without"]),
            "plain-gradients-explode": found["plain", "with", deep].against(0.0),
            "scales-the-branch-down": found["branch", "with", deep].against(found["branch", "without", deep]),
        },
        charts=[TEXT.chart("gradients", series)],
    )


def each_rate(config: BatchnormRoleConfig, errors: Mapping[Key, Values], kind: str) -> dict[float, Values]:
    """Return the errors of one kind by rate."""
    return {rate: errors[kind, "rate", rate] for rate in config.rates}


def over_rates(kind: str, errors: Mapping[float, Values]) -> Series:
    """Return a line of the errors over the rates."""
    return TEXT.averaged(kind, list(errors), [by_seed.values() for by_seed in errors.values()])


STUDY = Study(TEXT, CLAIMS, BatchnormRoleConfig, grid=grid, measure=measure)
