"""Is the loss around the trained weights more rugged without skip connections? (Li et al. 2018)

Plain and residual networks of two depths, the trials of `degradation`. The loss of some training images is followed
from the trained weights outwards, along random directions in which each filter moves by as much as it is long (section
4), in evaluation mode. Two figures of each network:

- *ruggedness*: the share of the steps outwards in which the loss falls. It is 0 in a bowl of any shape, and does not
  depend on how high the loss is, so that it can be compared also where a network hardly trained, which is what Li et
  al. explain by it.
- *sharpness*: log10 of 1 + the rise of the loss at the given distance, its mean over directions. It is about minima,
  and says something where both networks have come to one.

Along a few directions a non-convex surface may look convex, and a random direction is mostly orthogonal to the few in
which the loss is sharp; both networks are measured alike.
"""

from collections.abc import Mapping
from math import log10
from statistics import fmean

from pydantic import Field

from reslab.experiment.config import CifarDepths, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, higher, not_higher
from reslab.experiment.trials import Grid, Key, Trials, Values, label
from reslab.ledger.record import Chart
from reslab.measures.ruggedness import Surface, surface

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    "Li et al. 2018 (arXiv:1712.09913)",
    "degradation",
    {
        "shallow-networks-are-as-smooth-without-skips": not_higher(
            0.05, at="section 5, Fig. 5: ResNet-20 and 20-noshort"
        ),
        "deep-networks-are-more-rugged-without-skips": higher(0.05, at="section 5, Figs. 1 and 5: ResNet-56-noshort"),
        "deep-networks-are-sharper-without-skips": higher(0.1, at="section 5, Figs. 1 and 5"),
    },
)


class SharpnessConfig(StudyConfig):
    """Depths of the networks, and what of the surface is measured."""

    depths: CifarDepths = Field((20, 56), min_length=2, description="depths, each 6n+2; the first and the last count")
    images: int = Field(128, ge=1, description="training images whose loss is followed")
    directions: int = Field(8, ge=1, description="random directions from the weights; each is followed both ways")
    steps: int = Field(20, ge=2, description="steps outwards, from the weights to the radius")
    radius: float = Field(1.0, gt=0, description="how far out, in filter norms")


def grid(config: SharpnessConfig) -> Grid:
    """Return the trials: a plain and a residual group for the first depth and the last."""
    kinds = ("plain", "resnet")
    depths = (config.depths[0], config.depths[-1])
    return {(kind, depth): config.trials(f"cifar_{kind}", depth=depth) for depth in depths for kind in kinds}


def measure(config: SharpnessConfig, trials: Trials) -> Measurement:
    """Compare plain networks with residual ones of one depth."""
    asked = (config.images, config.directions, config.steps, config.radius)
    found = trials.look("losses around the weights", surface, *asked)

    def figure(name: str) -> dict[Key, Values]:
        return {
            key: trials.of(key, {seed: getattr(one, name) for seed, one in members.items()})
            for key, members in found.items()
        }

    rugged, sharp = figure("ruggedness"), figure("sharpness")
    shallow, deep = config.depths[0], config.depths[-1]
    return Measurement(
        {
            "shallow-networks-are-as-smooth-without-skips": rugged["plain", shallow].against(rugged["resnet", shallow]),
            "deep-networks-are-more-rugged-without-skips": rugged["plain", deep].against(
                rugged["resnet", deep], guard=False
            ),
            "deep-networks-are-sharper-without-skips": sharp["plain", deep].against(sharp["resnet", deep]),
        },
        charts=[_outwards(config, found)],
    )


def _outwards(config: SharpnessConfig, found: Mapping[Key, Mapping[int, Surface]]) -> Chart:
    distances = [config.radius * step / config.steps for step in range(config.steps + 1)]
    means = {
        label(key): {
            seed: [fmean(map(_log10, at)) for at in zip(*one.losses, strict=True)] for seed, one in some.items()
        }
        for key, some in found.items()
        if some
    }
    return TEXT.chart("outwards", [TEXT.over_seeds(name, distances, by_seed) for name, by_seed in means.items()])


def _log10(loss: float) -> float:
    return log10(max(loss, 1e-6))  # of a network that knows its images by heart it underflows


STUDY = Study(TEXT, CLAIMS, SharpnessConfig, grid=grid, measure=measure)
