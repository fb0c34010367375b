"""The degradation problem: do deeper plain networks train worse, and do shortcuts cure it? (He et al. 2015, sections 1,
4.1, 4.2)

Plain and residual CIFAR networks of growing depth, trained alike. What is compared first is *training* error: a deeper
network that overfits would have a lower one.

That a deeper network "should be at least as good" is a construction: copy the shallow network, and set the added layers
to the identity. It is carried out here on the trained plain networks; it holds for the training error, of which the
shallow network is one solution, and says nothing of the error on other images, nor of what training finds.
"""

from collections.abc import Sequence

from pydantic import Field

from reslab.experiment.config import CifarDepths, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, exact, higher, lower, not_higher
from reslab.experiment.trials import Exactly, Grid, Trials, label
from reslab.ledger.record import Chart, Series
from reslab.measures.construction import copies
from reslab.measures.surfaces import SURFACE_IMAGES, surface

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    "He et al. 2015 (arXiv:1512.03385)",
    "degradation",
    {
        "plain-deeper-trains-worse": higher(0.01, at="section 1, Fig. 1 and section 4.2, Fig. 6"),
        "not-overfitting": not_higher(0.02, at="section 1"),
        "residual-does-not-degrade": not_higher(0.01, at="section 4.2, Fig. 6"),
        "residual-trains-better": lower(0.01, at="section 4.1, Table 2 and section 4.2, Fig. 6"),
        "deeper-contains-shallower": exact(at="section 1: the solution by construction"),
    },
)


class DegradationConfig(StudyConfig):
    """Depths of the plain and residual networks; the first and the last are compared."""

    depths: CifarDepths = Field((20, 56), min_length=2)
    surface: int = Field(5, ge=1)


def grid(config: DegradationConfig) -> Grid:
    """Return the trials: a plain and a residual group for each depth."""
    return {
        (kind, depth): config.trials(f"cifar_{kind}", depth=depth)
        for depth in config.depths
        for kind in ("plain", "resnet")
    }


def measure(config: DegradationConfig, trials: Trials) -> Measurement:
    """Compare the shallowest and the deepest networks; training itself is what is claimed, so no network has to have
    learned its task.
    """
    shallow, deep = config.depths[0], config.depths[-1]
    train, test = trials.errors("train"), trials.errors("test")
    gap = {key: test[key] - train[key] for key in trials}
    return Measurement(
        {
            "plain-deeper-trains-worse": train["plain", deep].against(train["plain", shallow], guard=False),
            "not-overfitting": gap["plain", deep].against(gap["plain", shallow], guard=False),
            "residual-does-not-degrade": train["resnet", deep].against(train["resnet", shallow], guard=False),
            "residual-trains-better": train["resnet", deep].against(train["plain", deep], guard=False, room=True),
            "deeper-contains-shallower": construct(trials, shallow, deep),
        },
        charts=[_over_depth(config, trials), *surfaces(config, trials)],
    )


def construct(trials: Trials, shallow: int, deep: int) -> Exactly:
    """Return the training errors of deep networks that contain the trained ones, and on how many training images they
    answer otherwise.
    """
    found = trials.look("adding identity layers", copies, deep, keys=[("plain", shallow)])["plain", shallow].values()
    return Exactly(
        {
            "any network": bool(found),
            "training errors": [one.error_of_deeper for one in found],
            "answers that differ": sum(one.differing for one in found),
        },
        {"any network": True, "training errors": [one.error for one in found], "answers that differ": 0},
    )


def _over_depth(config: DegradationConfig, trials: Trials) -> Chart:
    train = {key: errors.map(lambda rate: 100 * rate) for key, errors in trials.errors("train").items()}
    depths = [float(depth) for depth in config.depths]
    return TEXT.chart(
        "over-depth",
        [
            TEXT.averaged(kind, depths, [train[kind, depth].values() for depth in config.depths])
            for kind in ("plain", "resnet")
        ],
    )


def surfaces(config: DegradationConfig, trials: Trials) -> Sequence[Chart]:
    """Return the loss around the weights of the deepest pair of networks of one seed; nothing if one of every pair
    diverged.
    """
    depth = config.depths[-1]
    keys = [("plain", depth), ("resnet", depth)]
    seed = min(set.intersection(*({trial.seed for trial in trials.sound(key)} for key in keys)), default=None)
    if seed is None:
        return []
    found = trials.look("loss surfaces", surface, 2 * config.surface + 1, keys=keys, seeds=[seed])
    series = [
        Series(
            name=label(key), x=found[key][seed].coordinates, y=found[key][seed].coordinates, z=found[key][seed].heights
        )
        for key in keys
    ]
    said = {"depth": depth, "seed": seed, "images": SURFACE_IMAGES}
    return [TEXT.chart("surfaces", series, said=said, kind="contours", arrangement="panels")]


STUDY = Study(TEXT, CLAIMS, DegradationConfig, grid=grid, measure=measure)
