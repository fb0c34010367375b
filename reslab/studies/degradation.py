"""The degradation problem: do deeper plain networks train worse, and do shortcuts cure it? (He et al. 2015, sections 1,
4.1, 4.2)

Plain and residual CIFAR networks of growing depth, trained alike. What is compared first is *training* error: a deeper
network that overfits would have a lower one.

That a deeper network "should be at least as good" is a construction: copy the shallow network, and set the added layers
to the identity. It is carried out here on the trained plain networks; it holds for the training error, of which the
shallow network is one solution, and says nothing of the error on other images, nor of what training finds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from pydantic import Field
from torch import nn

from reslab.analysis.landscape import landscape
from reslab.experiment.config import CifarDepths, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, exact, higher, lower, not_higher
from reslab.experiment.trials import Exactly, Grid, Trial, Trials, label
from reslab.ledger.record import Chart, Series

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

    depths: CifarDepths = Field((20, 56), min_length=2, description="depths, each 6n+2, shallowest first")
    surface: int = Field(5, ge=1, description="points of the loss surfaces from the middle to each side")


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


class Copies(NamedTuple):
    """Training errors of a trained network and of the deeper one made of it, and on how many training images they
    answer otherwise.
    """

    error: float
    error_of_deeper: float
    differing: int


@torch.no_grad()
def copies(trial: Trial, depth: int) -> Copies:
    """Return how a trained plain network and one of this depth made of it answer on all training images."""
    deeper = trial._replace(
        config=trial.config.model_copy(update={"options": {**trial.config.options, "depth": depth}})
    ).fresh_network()
    given, made = trial.network(), contain(trial.network(), deeper)
    answers = [
        (given(images).argmax(1), made(images).argmax(1), labels) for images, labels in trial.data().batches("train")
    ]
    before, after, labels = (torch.cat(part) for part in zip(*answers, strict=True))
    error, of_deeper = (round((answer != labels).double().mean().item(), 6) for answer in (before, after))
    return Copies(error, of_deeper, int((before != after).sum()))


def construct(trials: Trials, shallow: int, deep: int) -> Exactly:
    """Return the training errors of deep networks that contain the trained ones, and on how many training images they
    answer otherwise.
    """
    found = trials.look("adding identity layers", copies, deep, keys=[("plain", shallow)])["plain", shallow].values()
    return Exactly(
        {
            "training errors": [one.error_of_deeper for one in found],
            "answers that differ": sum(one.differing for one in found),
        },
        {"training errors": [one.error for one in found], "answers that differ": 0},
    )


@torch.no_grad()
def contain(shallow: nn.Module, deep: nn.Module) -> nn.Module:
    """Make a deep plain network compute what a shallow one of as many stages does, in evaluation mode; return it.

    It begins every stage with the shallow one's blocks. In those that follow, both convolutions pass every channel on,
    and the BatchNorms neither shift nor scale; the ReLUs change nothing, as a stage's maps are not negative.
    """
    deep.eval().load_state_dict(shallow.state_dict(), strict=False)
    copied = dict(shallow.named_modules())
    for name, module in deep.named_modules():
        if name not in copied and isinstance(module, nn.Conv2d):
            nn.init.dirac_(module.weight)
        elif name not in copied and isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()  # weight 1, bias 0; statistics of mean 0, variance 1
            assert module.running_var is not None
            module.running_var.fill_(1 - module.eps)  # so that 1 / sqrt(variance + eps) is 1
    return deep


def _over_depth(config: DegradationConfig, trials: Trials) -> Chart:
    train = trials.errors("train")
    depths = [float(depth) for depth in config.depths]
    return TEXT.chart(
        "over-depth",
        [
            TEXT.averaged(kind, depths, [train[kind, depth].map(percent).values() for depth in config.depths])
            for kind in ("plain", "resnet")
        ],
    )


def percent(rate: float) -> float:
    """Return a rate in percent."""
    return 100 * rate


SURFACE_IMAGES = 64
LEAST, MOST = 1e-6, 1e12
"""Losses are drawn as if between these: far out they overflow, and of a network that knows its images by heart they
underflow.
"""


class Surface(NamedTuple):
    """The log10 of the loss, row by row, at each pair of coordinates."""

    coordinates: list[float]
    heights: list[list[float]]


def surface(trial: Trial, points: int) -> Surface:
    """Return the loss around a trial's trained weights."""
    images, labels = trial.data().sample("train", SURFACE_IMAGES)
    found = landscape(trial.network(), images, labels, points=points, seed=trial.seed)
    return Surface(found.coordinates.tolist(), found.losses.nan_to_num(nan=MOST).clamp(LEAST, MOST).log10().T.tolist())


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


STUDY = Study(
    TEXT,
    CLAIMS,
    DegradationConfig,
    presets={
        "default": {},
        "smoke": {"depths": (8, 14), "seeds": 3, "epochs": 1, "surface": 2},
        "full": {"data": "cifar10", "epochs": 16, "depths": (20, 32, 44, 56, 110)},
    },
    grid=grid,
    measure=measure,
)
