"""Which way does the gradient go through a deep network, and by how much a block? Plain and residual, with and without
BatchNorm.

Measured is the L2 norm of the loss's gradient before the first block and after each, at initialisation over depth, and
through the first steps of training. (He et al. 2015, section 4.1, which finds "healthy norms"; Yang et al. 2019, who
derive that BatchNorm makes plain networks explode)
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from statistics import fmean, median, stdev

import torch
from pydantic import Field

from reslab.analysis.gradient_flow import TINY
from reslab.experiment.config import CifarDepths, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, higher, lower, not_higher
from reslab.experiment.trials import Trials, Values
from reslab.ledger.record import Chart, Reason, Series, Table, Value
from reslab.measures.flows import KINDS, Flow, Training, start, training
from reslab.progress import each

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
        "batchnorm-alone-keeps-gradients": not_higher(
            2.0, section="batchnorm", source=OPPOSITE, same_as="gradient_flow.plain-with-batchnorm-explodes"
        ),
        "skips-alone-keep-gradients": not_higher(2.0, section="residual-learning", source="the chapter"),
        "both-together-keep-gradients": not_higher(2.0),
        "gradients-reach-the-first-of-hundreds-of-layers": not_higher(
            1.0, source=f"the chapter, made definite: a norm says nothing of the {LONG_PATHS}"
        ),
        "degradation-comes-with-vanishing-gradients": lower(1.0, section="degradation", source=AGAINST),
        "residual-keeps-gradients-in-training": not_higher(2.0, source=HE_2015),
        "plain-stays-above-residual-in-training": higher(0.5, section="batchnorm", source=HEALTHY),
    },
)


class GradientFlowConfig(StudyConfig):
    """Networks at initialisation over depth, and two depths more: one to train for a while, one of
    hundreds of layers.
    """

    depths: CifarDepths = Field(
        (20, 56, 110), min_length=1, description="depths at initialisation, each 6n+2; rates are compared at the last"
    )
    trained_depths: CifarDepths = Field(
        (56,), min_length=1, max_length=1, description="depth of the networks that are trained for some steps"
    )
    hundreds: CifarDepths = Field(
        (302,), min_length=1, max_length=1, description="depth of the very deep residual network"
    )
    images: int = Field(128, ge=2, description="images in the batch at initialisation")
    steps: int = Field(60, ge=1, description="steps of SGD, batch 64, learning rate 0.05")


def measure(config: GradientFlowConfig, trials: Trials) -> Measurement:
    """Compare rates and ratios at initialisation, and ratios through training."""
    return at_initialisation(config, trials) + in_training(config, trials)


Starts = dict[tuple[str, int], dict[int, Flow]]
"""Flows at initialisation by kind, depth and seed."""

Trained = dict[str, dict[int, Training]]
"""Flows through training by kind and seed, of the networks that did not diverge."""


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
        tables=[_at_start(flows)],
        charts=[_norms(flows, config.depths[len(config.depths) // 2]), _rates(flows, config.depths)],
    )


def in_training(config: GradientFlowConfig, trials: Trials) -> Measurement:
    """Compare networks through their first steps of training; where some diverged, those that are left
    decide nothing.
    """
    (depth,) = config.trained_depths
    finite: Trained = {kind: {} for kind in KINDS}
    for kind, seed in each(list(product(KINDS, config.seed_range)), "in training", trials.progress):
        found = trials.measured(training, config.data, kind, depth, seed, config.steps)
        if found is not None:
            finite[kind][seed] = found

    def through(kind: str, of: Callable[[list[float]], float]) -> Values:
        return Values({seed: of([flow.decades for flow in found.flows]) for seed, found in finite[kind].items()})

    def diverged(*kinds: str) -> Reason | None:
        for kind in kinds:
            if gone := config.seeds - len(finite[kind]):
                return Reason(code="diverged", values={"gone": gone, "n": config.seeds, "kind": kind})
        return None

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
        tables=[_after_steps(finite, config.seeds)],
        charts=[_heat(finite, depth), _in_training(finite)],
    )


def _at_start(flows: Starts) -> Table:
    rows: list[list[Value]] = []
    for (kind, depth), by_seed in flows.items():
        ratio, growth = [flow.decades for flow in by_seed.values()], [flow.growth for flow in by_seed.values()]
        of_parameters = fmean(flow.parameter_decades for flow in by_seed.values())
        std = [stdev(values) if len(values) > 1 else None for values in (ratio, growth)]
        means = 10 ** fmean(ratio), std[0], 10**of_parameters, fmean(growth), std[1]
        rows.append([kind, depth, len(by_seed), *means])
    return TEXT.table("at-start", rows)


def _after_steps(finite: Trained, seeds: int) -> Table:
    rows: list[list[Value]] = []
    for kind, by_seed in finite.items():
        ends = [found.flows[-1] for found in by_seed.values()]
        means = [10 ** fmean(end.decades for end in ends), fmean(end.loss for end in ends)] if ends else [None, None]
        rows.append([kind, len(ends), seeds - len(ends), *means])
    return TEXT.table("after-steps", rows)


def _places(norms: Sequence[object]) -> list[float]:
    return [float(place) for place in range(len(norms))]


def _norms(flows: Starts, depth: int) -> Chart:
    series = []
    for kind in KINDS:
        shares = {
            seed: [norm / flow.backward[-1] for norm in flow.backward] for seed, flow in flows[kind, depth].items()
        }
        series.append(TEXT.over_seeds(kind, _places(next(iter(shares.values()))), shares))
    return TEXT.chart("norms", series, said={"depth": depth}, log_y=True)


def _rates(flows: Starts, depths: tuple[int, ...]) -> Chart:
    def over_depth(kind: str) -> Series:
        growths = [[flow.growth for flow in flows[kind, depth].values()] for depth in depths]
        return TEXT.averaged(kind, [float(depth) for depth in depths], growths)

    return TEXT.chart("rates", [over_depth(kind) for kind in KINDS])


def _steps(by_seed: Mapping[int, Training]) -> list[float]:
    return [float(step) for step in next(iter(by_seed.values())).steps]


def _heat(finite: Trained, depth: int) -> Chart:
    def heights(by_seed: Mapping[int, Training]) -> list[list[float]]:
        """Return log10 of the gradient's norm by place and step, mean over seeds."""
        norms = torch.tensor([[flow.backward for flow in found.flows] for found in by_seed.values()])
        return norms.double().clamp(min=TINY).log10().mean(0).T.tolist()

    drawn = {kind: (_steps(by_seed), heights(by_seed)) for kind, by_seed in finite.items() if by_seed}
    series = [Series(name=kind, x=steps, y=_places(z), z=z) for kind, (steps, z) in drawn.items()]
    return TEXT.chart("heat", series, said={"depth": depth}, kind="heatmap", arrangement="slider")


def _in_training(finite: Trained) -> Chart:
    def decades(by_seed: Mapping[int, Training]) -> dict[int, list[float]]:
        return {seed: [flow.decades for flow in found.flows] for seed, found in by_seed.items()}

    drawn = {kind: by_seed for kind, by_seed in finite.items() if by_seed}
    return TEXT.chart(
        "in-training",
        [TEXT.over_seeds(kind, _steps(by_seed), decades(by_seed)) for kind, by_seed in drawn.items()],
    )


STUDY = Study(TEXT, CLAIMS, GradientFlowConfig, grid=lambda _: {}, measure=measure)
