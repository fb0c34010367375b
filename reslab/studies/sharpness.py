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

from operator import attrgetter

from pydantic import Field

from reslab.experiment.config import CifarDepths, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, higher, not_higher
from reslab.experiment.trials import Grid, Trials
from reslab.measures.ruggedness import outwards_chart, surface

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


KINDS = ("plain", "resnet")


class SharpnessConfig(StudyConfig):
    """Depths of the networks, and what of the surface is measured."""

    depths: CifarDepths = Field((20, 56), min_length=2)
    images: int = Field(128, ge=1)
    directions: int = Field(8, ge=1)
    steps: int = Field(20, ge=2)
    radius: float = Field(1.0, gt=0)


def grid(config: SharpnessConfig) -> Grid:
    """Return the trials: a plain and a residual group for the first depth and the last."""
    depths = (config.depths[0], config.depths[-1])
    return {(kind, depth): config.trials(f"cifar_{kind}", depth=depth) for depth in depths for kind in KINDS}


def measure(config: SharpnessConfig, trials: Trials) -> Measurement:
    """Compare plain networks with residual ones of one depth."""
    asked = (config.images, config.directions, config.steps, config.radius)
    found = trials.look("losses around the weights", surface, *asked)

    rugged, sharp = trials.figure(found, attrgetter("ruggedness")), trials.figure(found, attrgetter("sharpness"))
    shallow, deep = config.depths[0], config.depths[-1]
    distances = [config.radius * step / config.steps for step in range(config.steps + 1)]
    return Measurement(
        {
            "shallow-networks-are-as-smooth-without-skips": rugged["plain", shallow].against(rugged["resnet", shallow]),
            "deep-networks-are-more-rugged-without-skips": rugged["plain", deep].against(
                rugged["resnet", deep], guard=False, untested=trials.diverged([(kind, deep) for kind in KINDS])
            ),
            "deep-networks-are-sharper-without-skips": sharp["plain", deep].against(sharp["resnet", deep]),
        },
        charts=[outwards_chart(TEXT, distances, found)],
    )


STUDY = Study(TEXT, CLAIMS, SharpnessConfig, grid=grid, measure=measure)
