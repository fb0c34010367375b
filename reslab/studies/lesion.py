"""The lesion study: what does a trained network lose with some of its blocks?

Veit et al. 2016, sections 4.1 (one block), 4.2 (several) and 4.3 (exchanged); Huang et al. 2016.

Three networks of one depth, trained alike: residual, pre-activation, and residual with stochastic depth. After
training, nothing is trained again: one block is removed (its shortcut stays), k blocks at random, or pairs of blocks
of one shape are exchanged.

Veit et al. compared with a VGG network; if it had no BatchNorm, as is likely but not known, removing a layer also moved
the scale of everything after it. Here the control is a plain network with BatchNorm, and a residual one of the same
layers; a unit of the plain one is removed by putting the parameter-free shortcut in its place, so all that differs is
whether the network was trained with shortcuts. Both are shallower, as a deep plain network is not trained well enough
to have much to lose. Blocks that change the shape ("transitions") are counted apart. Errors are of the test images. A
plain network's units are not exchanged: the analysis does that in chains of residual blocks only.
"""

from collections.abc import Callable, Sequence
from statistics import fmean

from pydantic import Field

from reslab.experiment.config import CifarDepth, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, higher, lower, not_higher
from reslab.experiment.trials import Grid, Trials, label
from reslab.measures.lesions import Lesions, exchanges, largest_step, lesion_charts, lesions

TEXT = StudyText(__name__)
VEIT = "Veit et al. 2016 (arXiv:1605.06431)"
HUANG = "Huang et al. 2016 (arXiv:1603.09382)"
TRANSITIONS = "section 4.1: removing downsampling blocks has a modest impact, other blocks none"
CLAIMS = claims(
    TEXT,
    VEIT,
    "ensemble",
    {
        "one-block-costs-little": not_higher(
            0.02, at="section 4.1: no single removal but a downsampling block's has a noticeable effect"
        ),
        "k-blocks-smoothly-worse": lower(
            0.0, at="section 4.2: the error rises smoothly with the number of removed modules"
        ),
        "transitions-matter-more": higher(0.02, at=TRANSITIONS),
        "transitions-matter-more-in-v2": higher(0.02, at=TRANSITIONS),
        "plain-breaks": higher(0.2, at="section 4.1: VGG falls to chance; this control has BatchNorm"),
        "reordering-hurts-mildly": not_higher(0.05, at="section 4.3: the error rises smoothly as modules are shuffled"),
        "one-block-costs-little-in-v2": not_higher(0.02, at="section 4.1, whose networks are pre-activation ones"),
        "stochastic-depth-makes-robust": lower(
            0.05, source=f"{HUANG}, section 3, trained so; {VEIT}: it is more resilient to removal"
        ),
    },
)

RESNET, PRERESNET, STOCHASTIC, PLAIN, CONTROL = ("resnet",), ("preresnet",), ("stochastic",), ("plain",), ("control",)


class LesionConfig(StudyConfig):
    """The depths of the networks."""

    depth: CifarDepth = Field(56, ge=20)
    control: CifarDepth = 20
    images: int = Field(1000, ge=1)
    draws: int = Field(3, ge=1)


def grid(config: LesionConfig) -> Grid:
    """Return the trials: a group a kind of network, the last two of them shallower."""
    return {
        RESNET: config.trials("cifar_resnet", depth=config.depth),
        PRERESNET: config.trials("cifar_preresnet", depth=config.depth),
        STOCHASTIC: config.trials("cifar_stochastic_depth", depth=config.depth),
        PLAIN: config.trials("cifar_plain", depth=config.control),
        CONTROL: config.trials("cifar_resnet", depth=config.control),
    }


def measure(config: LesionConfig, trials: Trials) -> Measurement:
    """Compare what networks lose, each a mean over blocks or draws; two figures of one network are paired."""
    found = trials.look("removing blocks", lesions, config.images, config.draws)
    residual = [RESNET, PRERESNET, STOCHASTIC]
    exchanged = trials.look("exchanging blocks", exchanges, config.images, config.draws, keys=residual)

    figures = [trials.figure(found, figure) for figure in FIGURES]
    _, one, _, transition, half, step = figures
    swapped = trials.figure(exchanged, lambda curve: curve.rises[0])[RESNET]
    shown = [key for key in trials if found[key]]
    rows = [[TEXT.name(label(key)), *(100 * fmean(figure[key].values()) for figure in figures)] for key in shown]
    return Measurement(
        {
            "one-block-costs-little": one[RESNET].against(0.0),
            "k-blocks-smoothly-worse": step[RESNET].against(0.5),
            "transitions-matter-more": transition[RESNET].against(one[RESNET], paired=True),
            "transitions-matter-more-in-v2": transition[PRERESNET].against(one[PRERESNET], paired=True),
            "plain-breaks": one[PLAIN].against(one[CONTROL]),
            "reordering-hurts-mildly": swapped.against(0.0),
            "one-block-costs-little-in-v2": one[PRERESNET].against(0.0),
            "stochastic-depth-makes-robust": half[STOCHASTIC].against(half[RESNET]),
        },
        tables=[TEXT.table("rises", rows)],
        charts=lesion_charts(TEXT, config.control, found, exchanged) if shown else [],
    )


FIGURES: Sequence[Callable[[Lesions], float]] = (
    lambda lesion: lesion.error,
    Lesions.rise,
    lambda lesion: max(lesion.without.values()) - lesion.error,
    lambda lesion: lesion.rise(transitions=True),
    Lesions.half,
    lambda lesion: largest_step(lesion.removed),
)
"""The columns of the table."""


STUDY = Study(TEXT, CLAIMS, LesionConfig, grid=grid, measure=measure)
