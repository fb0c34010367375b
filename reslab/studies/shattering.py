"""Shattered gradients: does the gradient at one input say anything of the gradient at another? (Balduzzi et al. 2017)

All networks are as they were drawn, with He's initial weights. Two things are measured:

- *Along a line.* Networks of one number, 200 units per layer, at 256 inputs from -2 to 2 (sections 1 and 2, Fig. 1):
  the autocorrelation of the gradient. White noise has none, brown noise almost 1. CIFAR networks, on a line between two
  images, are measured alike.
- *Between inputs that have nothing in common.* The paper's laws are about inputs of which every unit is active for both
  in a quarter of the pairs (section 3): independent Gaussian ones, and here 200 of them. The correlation is to be 1/2^L
  in a plain network, (3/4)^L in a residual one without BatchNorm, and to fall as 1/√L in one with it.

A plain network's units are centred by BatchNorm, as in the paper's figure; without it all inputs become alike with
depth. In `residual without BatchNorm` nothing is centred: there two inputs are active together in more than a quarter
of the units as soon as they have passed the first, so that the law is a lower bound. With BatchNorm the variance of the
sum grows by the centred variance of a branch, 1 - 1/π of what the law takes it for, which makes the exponent
1 / (2 (1 - 1/π)) = 0.73 for very wide and deep networks.
"""

from itertools import product
from math import log
from typing import Self

from pydantic import Field, model_validator

from reslab.experiment.config import CifarDepth, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, higher, lower, not_higher
from reslab.experiment.trials import Trials, Values
from reslab.measures.rectifiers import FLOOR, Curves, along_the_line, between_images, correlation, decay_charts
from reslab.progress import each

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    "Balduzzi et al. 2017 (arXiv:1702.08591)",
    "degradation",
    {
        "plain-gradients-become-white-noise": not_higher(0.1, at="section 2, Fig. 1: 24 layers"),
        "skips-keep-gradients-correlated": higher(0.2, at="section 2, Fig. 1: 50 layers, branches scaled by 0.1"),
        "convolutions-shatter-too": higher(0.2, at="abstract: fully connected networks and convolutional ones"),
        "plain-correlation-halves-per-layer": not_higher(0.1, at="section 3, theorem 1: 1/2^L"),
        "residual-correlation-loses-a-quarter-per-block": not_higher(0.1, at="section 3, theorem 2: (3/4)^L"),
        "batchnorm-makes-the-decay-sublinear": lower(0.1, at="abstract: “sublinearly”"),
        "with-batchnorm-as-one-over-root-depth": not_higher(0.1, at="section 3, theorem 3: 1/√L"),
    },
)


class ShatteringConfig(StudyConfig):
    """Depths and width of the networks."""

    width: int = Field(200, ge=2)
    points: int = Field(256, ge=16)
    plain: int = Field(24, ge=1)
    residual: int = Field(50, ge=1)
    depth: CifarDepth = 56
    layers: int = Field(6, ge=1)
    far: int = Field(48, ge=2)

    @model_validator(mode="after")
    def _far_is_farther(self) -> Self:
        if self.layers >= self.far:
            raise ValueError(f"far must be more than layers ({self.layers}), got {self.far}")
        return self


SMALL_SCALE = 0.1
"""β, by which the branches of Fig. 1's residual network are scaled."""
KINDS = ("plain", "residual", "residual-bn")


def lines(config: ShatteringConfig, trials: Trials) -> Curves:
    """Return the autocorrelations of fully connected and of convolutional networks."""
    found: Curves = {"plain": {}, "residual": {}, "conv-plain": {}, "conv-residual": {}}
    on, images = (config.width, config.points), (config.depth, config.data, config.points)
    for seed in each(config.seed_range, "gradients along lines", trials.progress):
        found["plain"][seed] = trials.measured(along_the_line, config.plain, "plain", 1.0, *on, seed)
        found["residual"][seed] = trials.measured(
            along_the_line, config.residual, "residual-bn", SMALL_SCALE, *on, seed
        )
        for kind, family in (("conv-plain", "cifar_plain"), ("conv-residual", "cifar_resnet")):
            found[kind][seed] = trials.measured(between_images, family, *images, seed)
    return found


def correlations(config: ShatteringConfig, trials: Trials) -> Curves:
    """Return the correlations of each kind of network by seed, one for each of `depths`."""
    found: Curves = {kind: {} for kind in KINDS}
    for kind, seed in each(list(product(KINDS, config.seed_range)), "correlations", trials.progress):
        found[kind][seed] = [trials.measured(correlation, kind, n, config.width, seed) for n in depths(config)]
    return found


def depths(config: ShatteringConfig) -> list[int]:
    """Return the depths at which correlations are measured: doublings up to `layers` and on to `far`, and these."""
    doubled = [2**k for k in range(config.far.bit_length()) if 2**k < config.far]
    return sorted({*doubled, config.layers, config.far})


def measure(config: ShatteringConfig, trials: Trials) -> Measurement:
    """Compare autocorrelations at lag 1 with one another, and rates of decay with the paper's laws."""
    acf, by_depth, places = lines(config, trials), correlations(config, trials), depths(config)
    next_to = {kind: Values({seed: lags[1] for seed, lags in by_seed.items()}) for kind, by_seed in acf.items()}
    near, far = places.index(config.layers), places.index(config.far)

    def rate(kind: str) -> Values:  # of the correlation's logarithm, per layer
        return Values({seed: -log(max(c[near], FLOOR)) / config.layers for seed, c in by_depth[kind].items()})

    with_bn = by_depth["residual-bn"].items()
    ratio = log(config.far / config.layers)
    exponent = Values({seed: log(max(c[near], FLOOR) / max(c[far], FLOOR)) / ratio for seed, c in with_bn})
    return Measurement(
        {
            "plain-gradients-become-white-noise": next_to["plain"].against(0.0),
            "skips-keep-gradients-correlated": next_to["residual"].against(next_to["plain"]),
            "convolutions-shatter-too": next_to["conv-residual"].against(next_to["conv-plain"]),
            "plain-correlation-halves-per-layer": off(rate("plain"), log(2)).against(0.0),
            "residual-correlation-loses-a-quarter-per-block": off(rate("residual"), log(4 / 3)).against(0.0),
            "batchnorm-makes-the-decay-sublinear": exponent.against(1.0),
            "with-batchnorm-as-one-over-root-depth": off(exponent, 0.5).against(0.0),
        },
        charts=decay_charts(TEXT, acf, places, by_depth),
    )


def off(values: Values, law: float) -> Values:
    """Return how far values are from a law, as a part of it."""
    return values.map(lambda value: abs(value / law - 1))


STUDY = Study(TEXT, CLAIMS, ShatteringConfig, grid=lambda _: {}, measure=measure)
