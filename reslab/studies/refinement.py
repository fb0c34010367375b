"""Does a block take a step down the loss's gradient? (Jastrzębski et al. 2018)

The paper's argument: h + F(h) has the loss L(h) + F(h) · ∂L/∂h + …, so that training makes F(h) point along -∂L/∂h;
each block then refines the features as a step of gradient descent would. Here it is the cosine of F(h) with -∂L/∂h,
image by image, on test images and averaged over them, for each block that keeps the shape. Networks are pre-activation
ones, where h is the sum itself.

It speaks to "ensemble or refinement" (`ensemble_paths`): members that do not depend on one another need not point down
the gradient that the later ones make. A random direction has a cosine of 0, and of 1/√d in size for d features, here
256 to 1,024 of them.
"""

from collections.abc import Callable, Sequence
from statistics import fmean

from pydantic import Field

from reslab.experiment.config import CifarDepth, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, higher
from reslab.experiment.trials import Grid, Trials
from reslab.measures.cosines import Cosines, cosines

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    "Jastrzębski et al. 2018 (arXiv:1710.04773)",
    "ensemble",
    {
        "blocks-go-down-the-gradient": higher(0.03, at="section 3: blocks move features along the negative gradient"),
        "training-turns-blocks-down-the-gradient": higher(0.03, at="section 3"),
        "later-blocks-more-than-early-ones": higher(
            0.03, at="section 4: lower blocks learn representations, higher ones refine them"
        ),
    },
)
PRERESNET = ("preresnet",)


class RefinementConfig(StudyConfig):
    """The network, and the images."""

    depth: CifarDepth = Field(56, ge=20)
    images: int = Field(256, ge=1)


def grid(config: RefinementConfig) -> Grid:
    """Return the trials: the pre-activation network."""
    return {PRERESNET: config.trials("cifar_preresnet", depth=config.depth)}


def measure(config: RefinementConfig, trials: Trials) -> Measurement:
    """Compare the blocks' cosines with 0, with those before training, and late ones with early ones."""
    found = trials.look("cosines with the gradient", cosines, config.images)
    before, after, early, late = (trials.figure(found, figure)[PRERESNET] for figure in FIGURES)
    return Measurement(
        {
            "blocks-go-down-the-gradient": after.against(0.0),
            "training-turns-blocks-down-the-gradient": after.against(before, paired=True),
            "later-blocks-more-than-early-ones": late.against(early, paired=True),
        },
        charts=[TEXT.before_and_after("cosines", found[PRERESNET])],
    )


FIGURES: Sequence[Callable[[Cosines], float]] = (
    lambda one: fmean(one.before),
    lambda one: fmean(one.after),
    lambda one: one.early_and_late[0],
    lambda one: one.early_and_late[1],
)


STUDY = Study(TEXT, CLAIMS, RefinementConfig, grid=grid, measure=measure)
