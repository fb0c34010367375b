"""Is a residual network an ensemble of paths? (Veit et al. 2016; Greff et al. 2017, arXiv:1612.07771)

The gradient of n blocks is a sum over 2^n paths, each through the branch or the shortcut of every block. Two readings
of that:

- *Ensemble* (Veit et al.): the paths hardly depend on one another, and the short ones do the work. A block is as good
  a member as any other of its stage; the others neither know nor mind that it is missing.
- *Iterative refinement* (Greff et al.): the blocks of a stage estimate one and the same representation, each
  correcting what those before it left. Then the later blocks *repair* the removal of an earlier one, and order
  matters: the early blocks come first because they do the coarse part, so that losing the early half of a stage costs
  more than losing the late half.

That removal and reordering are survived, that the mean correction is small, and that the accuracy grows from block to
block, both readings predict; so these cannot tell them apart, and are not used here. Repair is measured as the part of
a removed block's output that is restored at the end of its stage: `1 − ⟨h − h', F_i⟩ / ‖F_i‖²`, h and h' the state
there with and without block i: 0 if the others do not mind, 1 if all is made good, and below 0 if they add to what is
missing.

Measured on the digits, neither reading holds in its pure form: the early half of a stage is worth far more than the
late half, as refinement predicts and equal members do not; but nothing is repaired, as independent members predict and
refinement does not. That the short paths carry the gradient holds, whichever reading is right.

The claims are about pre-activation networks, as Veit's were, where `h = x + ΣF` holds exactly; the table has both
versions (in the first, the ReLU after an addition also takes away part of what is missing, which counts as repaired).
Lengths are compared by the norm of their gradients; as norms do not add up to the norm of the sum, a share is of the
sum of norms. What is removed is larger early in a stage of v2; the rise of the error is taken per size of what is
removed. Training on short paths takes longer, so that both sides of that comparison are trained for long; where it did
not train the network, nothing is concluded of it.
"""

from collections.abc import Callable, Sequence
from statistics import fmean

from pydantic import Field

from reslab.experiment.config import CifarDepth, StudyConfig, longer
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, exact, higher, lower, not_higher
from reslab.experiment.trials import Exactly, Grid, Trials, label
from reslab.measures.members import Looked, look, spectra_chart
from reslab.measures.paths import count_paths

TEXT = StudyText(__name__)
VEIT = "Veit et al. 2016 (arXiv:1605.06431)"
REFINED = "Greff et al. 2017 (arXiv:1612.07771), section 3"
ONE_ESTIMATE, APART = "the blocks of a stage refine one estimate", "paths hardly depend on one another"
EITHER_WAY = f"an ensemble of the same paths ({VEIT}) loses equally many of each length either way"
CLAIMS = claims(
    TEXT,
    VEIT,
    "ensemble",
    {
        "two-to-the-n": exact(at="section 3"),
        "gradient-takes-shorter-paths": lower(
            0.05, at="section 5: most of the gradient of 110 layers comes from paths of 10 to 34 layers"
        ),
        "long-paths-carry-almost-nothing": lower(
            0.0, section="gradient", at="section 5: gradients do not go through all layers; short paths carry them"
        ),
        "the-bare-skip-carries-little": lower(
            0.0, section="gradient", at="section 5: of 54 blocks, the paths that carry the gradient take 5 to 17"
        ),
        "short-paths-are-enough-to-train": not_higher(
            0.02, at="section 5: 5.96 % with 23 of 54 blocks on, 6.10 % with all", published=-0.0014, revision=2
        ),
        "later-blocks-repair": higher(0.1, source=f"{REFINED}: {ONE_ESTIMATE}; against {VEIT}: {APART}"),
        "early-blocks-matter-more": higher(0.02, source=f"{REFINED}; {EITHER_WAY}", revision=2),
    },
)
PRERESNET, RESNET, SHORT, LONG = ("preresnet",), ("resnet",), ("short",), ("preresnet", "long")


class EnsemblePathsConfig(StudyConfig):
    """The depth of the networks."""

    depth: CifarDepth = Field(56, ge=20)
    patience: int = Field(6, ge=1)
    images: int = Field(64, ge=1)


def grid(config: EnsemblePathsConfig) -> Grid:
    """Return the trials: pre-activation, residual, and pre-activation trained for long: on short paths, and whole."""
    blocks = (config.depth - 2) // 2
    short = config.trials(
        "cifar_short_paths", depth=config.depth, family="cifar_preresnet", scaled=False, blocks=round(23 / 54 * blocks)
    )
    whole = config.trials("cifar_preresnet", depth=config.depth)
    return {
        PRERESNET: whole,
        RESNET: config.trials("cifar_resnet", depth=config.depth),
        SHORT: [longer(trial, config.patience) for trial in short],
        LONG: [longer(trial, config.patience) for trial in whole],
    }


def measure(config: EnsemblePathsConfig, trials: Trials) -> Measurement:
    """Count the paths exactly, and compare what the trained networks show."""
    found = trials.look("following paths", look, config.images, keys=[PRERESNET, RESNET])
    test = trials.errors("test")
    blocks = (config.depth - 2) // 2
    figures = [trials.figure(found, figure) for figure in FIGURES]
    length, long, bare, repaired, early, late = (figure[PRERESNET] for figure in figures)
    shown = [key for key in found if found[key]]
    means = {key: [fmean(figure[key].values()) for figure in figures] for key in shown}
    rows = [
        [TEXT.name(label(key)), blocks_passed, *(100 * share for share in rest)]
        for key, (blocks_passed, *rest) in means.items()
    ]
    return Measurement(
        {
            "two-to-the-n": Exactly(trials.measured(count_paths), COUNTED),
            "gradient-takes-shorter-paths": length.map(lambda mean: mean / blocks).against(0.5),
            "long-paths-carry-almost-nothing": long.against(0.1),
            "the-bare-skip-carries-little": bare.against(0.1),
            "short-paths-are-enough-to-train": test[SHORT].against(test[LONG]),
            "later-blocks-repair": repaired.against(0.0),
            "early-blocks-matter-more": early.against(late, paired=True),
        },
        tables=[TEXT.table("paths", rows)],
        charts=[spectra_chart(TEXT, blocks, {label(key): list(found[key].values()) for key in shown})] if shown else [],
    )


COUNTED = {"paths": 2**6, "sum to the gradient": True, "by length the spectrum": True}


FIGURES: Sequence[Callable[[Looked], float]] = (
    lambda looked: looked.mean_length,
    lambda looked: looked.long_share,
    lambda looked: looked.share[0],
    lambda looked: looked.repair,
    lambda looked: looked.early,
    lambda looked: looked.late,
)
"""The columns of the table, which shows all but the first in percent."""


STUDY = Study(TEXT, CLAIMS, EnsemblePathsConfig, grid=grid, measure=measure)
