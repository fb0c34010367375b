"""Shortcut options: none, A, B and C compared (He et al. 2015, sections 3.3 and 4.1, Table 3).

The chapter sets zero padding against projection. Four networks of each depth, trained alike; B and C cost parameters
that A does not.
"""

from pydantic import Field

from reslab.experiment.config import CifarDepths, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, lower, not_higher
from reslab.experiment.trials import Grid, Key, Trials
from reslab.training.loop import TrialConfig

TEXT = StudyText(__name__)
TABLE = "He et al. 2015 (arXiv:1512.03385), section 4.1, Table 3"
AT_DEPTH = "He et al. 2016 (arXiv:1603.05027), section 3.1: poor with many units (110 layers: 12.22, not 6.61 %)"
CLAIMS = claims(
    TEXT,
    TABLE,
    "shortcuts",
    {
        "identity-beats-none": lower(0.01, same_as="degradation.residual-trains-better"),
        "zero-padding-is-not-worse-than-projection": not_higher(
            0.01,
            published=0.0051,
            source=f"{TABLE}: 25.03, 24.52 and 24.19 % top-1 for A, B and C: “projection shortcuts are not essential”",
        ),
        "projecting-everywhere-is-not-better": not_higher(
            0.01, source=f"{TABLE}: C gains 0.33 points at 34 layers; {AT_DEPTH}", published=0.0033
        ),
    },
)


class ShortcutsConfig(StudyConfig):
    """Depths of the networks; the claims compare at the deepest."""

    depths: CifarDepths = Field((20, 56), min_length=1)


def grid(config: ShortcutsConfig) -> Grid:
    """Return the trials: a group for each depth and option."""
    groups: dict[Key, list[TrialConfig]] = {}
    for depth in config.depths:
        groups["none", depth] = config.trials("cifar_plain", depth=depth)
        groups |= {(option, depth): config.trials("cifar_resnet", depth=depth, shortcut=option) for option in "ABC"}
    return groups


def measure(config: ShortcutsConfig, trials: Trials) -> Measurement:
    """Return the three comparisons at the deepest networks."""
    deep = config.depths[-1]
    train, test = trials.errors("train"), trials.errors("test")
    return Measurement(
        {
            "identity-beats-none": train["A", deep].against(train["none", deep], guard=False, room=True),
            "zero-padding-is-not-worse-than-projection": test["A", deep].against(test["B", deep]),
            "projecting-everywhere-is-not-better": test["B", deep].against(test["C", deep]),
        }
    )


STUDY = Study(TEXT, CLAIMS, ShortcutsConfig, grid=grid, measure=measure)
