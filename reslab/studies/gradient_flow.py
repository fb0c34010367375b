"""Which way does the gradient go through a deep network, and by how much a block? Plain and residual, with and without
BatchNorm.

The measured quantity is the L2 norm of the loss's gradient before the first block and after each, at initialisation
over depth, and through the first steps of training. (He et al. 2015, section 4.1, which finds "healthy norms"; Yang et
al. 2019, who derive that BatchNorm makes plain networks explode)
"""

from collections.abc import Callable
from itertools import product
from statistics import median

from pydantic import Field

from reslab.experiment.config import CifarDepths, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, higher, lower, not_higher
from reslab.experiment.trials import Grid, Key, Trials, Values
from reslab.ledger.record import Reason
from reslab.measures.flows import (
    KINDS,
    Flow,
    Starts,
    Trained,
    after_steps_table,
    at_start_table,
    heat_chart,
    in_training_chart,
    norms_chart,
    rates_chart,
    start,
    training,
)
from reslab.progress import each
from reslab.training.loop import TrialConfig
from reslab.training.recipes import Steps

HE_2015 = "He et al. 2015 (arXiv:1512.03385), section 4.1"
YANG = "Yang et al. 2019, A Mean Field Theory of Batch Normalization (arXiv:1902.08129)"
FIXUP = "Zhang et al. 2019, Fixup Initialization (arXiv:1901.09321), section 2"
VARIANCE = "each block adds its branch's variance to its input's"
CLASSIC = f"the classic problem that {HE_2015}, recalls"
OPPOSITE = f"the chapter; {YANG} derive the opposite"
LONG_PATHS = "long paths, which Veit et al. 2016 (arXiv:1605.06431) find to carry little of it"
AGAINST = f"the chapter; {HE_2015}, argues against it"
HEALTHY = f"{HE_2015}, has healthy norms for plain networks with BatchNorm"

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    YANG,
    "gradient",
    {
        "plain-with-batchnorm-explodes": higher(0.1, section="degradation"),
        "plain-without-batchnorm-vanishes": lower(0.1, section="degradation", source=CLASSIC),
        "residual-with-batchnorm-grows-slowly": not_higher(0.1),
        "residual-without-batchnorm-explodes": higher(0.1, source=f"{FIXUP}: {VARIANCE}"),
        "plain-parameter-gradients-explode-too": higher(1.0, section="batchnorm", source=f"{YANG}, Theorem 9"),
        "batchnorm-alone-keeps-gradients": not_higher(2.0, section="batchnorm", source=OPPOSITE),
        "skips-alone-keep-gradients": not_higher(2.0, section="residual-learning", source="the chapter"),
        "both-together-keep-gradients": not_higher(2.0),
        "gradients-reach-the-first-of-hundreds-of-layers": not_higher(
            1.0, source=f"the chapter, made definite: a norm says nothing of the {LONG_PATHS}"
        ),
        "degradation-comes-with-vanishing-gradients": lower(1.0, section="degradation", source=AGAINST, revision=2),
        "residual-keeps-gradients-in-training": not_higher(2.0, source=HE_2015, revision=2),
        "plain-stays-above-residual-in-training": higher(0.5, section="batchnorm", source=HEALTHY, revision=2),
    },
)


STEPS = {
    "epochs": None,
    "batch_size": 64,
    "learning_rate": 0.05,
    "nesterov": False,
    "schedule": Steps(milestones=()),
    "weight_decay": 0.0,
    "augment": False,
}
"""How networks are trained that are looked at on the way."""


class GradientFlowConfig(StudyConfig):
    """Networks at initialisation over depth, and two depths more: one to train for a while, one of
    hundreds of layers.
    """

    depths: CifarDepths = Field((20, 56, 110), min_length=1)
    trained_depths: CifarDepths = Field((56,), min_length=1, max_length=1)
    hundreds: CifarDepths = Field((302,), min_length=1, max_length=1)
    images: int = Field(128, ge=2)
    steps: int = Field(60, ge=1)


def grid(config: GradientFlowConfig) -> Grid:
    """Return the trials: some steps of the four kinds, by plain SGD, with the weights kept on the way."""
    recipe = config.training().model_copy(update={**STEPS, "iterations": config.steps})
    every = max(1, config.steps // 6)
    update = {"recipe": recipe, "snapshots": (*range(every, config.steps, every), config.steps)}
    found: dict[Key, list[TrialConfig]] = {}
    for kind, (model, options) in KINDS.items():
        trials = config.trials(model, depth=config.trained_depths[0], **options)
        found[kind,] = [trial.model_copy(update=update) for trial in trials]
    return found


def measure(config: GradientFlowConfig, trials: Trials) -> Measurement:
    """Compare rates and ratios at initialisation, and ratios through training."""
    return at_initialisation(config, trials) + in_training(config, trials)


def at_initialisation(config: GradientFlowConfig, trials: Trials) -> Measurement:
    """Compare networks that are as they were drawn, at the largest depth, and one of hundreds of layers."""
    deep, (hundreds,) = config.depths[-1], config.hundreds
    flows: Starts = {place: {} for place in [*product(KINDS, config.depths), ("residual, BN", hundreds)]}
    for place, seed in each(list(product(flows, config.seed_range)), "at initialisation", trials.progress):
        flows[place][seed] = trials.measured(start, config.data, *place, seed, config.images)

    def of(kind: str, value: Callable[[Flow], float], depth: int = deep) -> Values:
        return Values({seed: value(flow) for seed, flow in flows[kind, depth].items()})

    rate = {kind: of(kind, lambda flow: flow.growth) for kind in KINDS}
    size = {kind: of(kind, lambda flow: abs(flow.decades)) for kind in KINDS}
    shrinkage = of("residual, BN", lambda flow: -flow.decades, hundreds)
    return Measurement(
        {
            "plain-with-batchnorm-explodes": rate["plain, BN"].against(1.0),
            "plain-without-batchnorm-vanishes": rate["plain"].against(1.0),
            "residual-with-batchnorm-grows-slowly": rate["residual, BN"].against(1.0),
            "residual-without-batchnorm-explodes": rate["residual"].against(1.0),
            "plain-parameter-gradients-explode-too": of("plain, BN", lambda flow: flow.parameter_decades).against(0.0),
            "batchnorm-alone-keeps-gradients": size["plain, BN"].against(0.0),
            "skips-alone-keep-gradients": size["residual"].against(0.0),
            "both-together-keep-gradients": size["residual, BN"].against(0.0),
            "gradients-reach-the-first-of-hundreds-of-layers": shrinkage.against(0.0),
        },
        tables=[at_start_table(TEXT, flows)],
        charts=[
            norms_chart(TEXT, flows, config.depths[len(config.depths) // 2]),
            rates_chart(TEXT, flows, config.depths),
        ],
    )


def in_training(config: GradientFlowConfig, trials: Trials) -> Measurement:
    """Compare networks through their first steps of training; where some diverged, those that are left
    decide nothing.
    """
    looked = trials.look("in training", training)
    finite: Trained = {}
    for kind in KINDS:
        finite[kind] = {seed: found for seed, found in looked[kind,].items() if found is not None}

    def through(kind: str, of: Callable[[list[float]], float]) -> Values:
        return Values({seed: of([flow.decades for flow in found.flows]) for seed, found in finite[kind].items()})

    def diverged(*kinds: str) -> Reason | None:
        return Reason.diverged({kind: (len(finite[kind]), len(trials[kind,])) for kind in kinds})

    middle = through("plain, BN", lambda steps: median(steps[1:]))
    most = through("residual, BN", lambda steps: max(map(abs, steps)))
    ends = {kind: through(kind, lambda steps: steps[-1]) for kind in ("plain, BN", "residual, BN")}
    return Measurement(
        {
            "degradation-comes-with-vanishing-gradients": middle.against(0.0, untested=diverged("plain, BN")),
            "residual-keeps-gradients-in-training": most.against(0.0, untested=diverged("residual, BN")),
            "plain-stays-above-residual-in-training": ends["plain, BN"].against(
                ends["residual, BN"], untested=diverged(*ends)
            ),
        },
        tables=[after_steps_table(TEXT, finite, {kind: len(trials[kind,]) for kind in KINDS})],
        charts=[heat_chart(TEXT, finite, config.trained_depths[0]), in_training_chart(TEXT, finite)],
    )


STUDY = Study(TEXT, CLAIMS, GradientFlowConfig, grid=grid, measure=measure)
