"""A study of somebody's own: a claim that seeds decide."""

from reslab.experiment.config import StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, higher
from reslab.experiment.trials import Grid, Trials

TEXT = StudyText(__name__)
CLAIMS = claims(TEXT, "my notes", None, {"it-errs": higher(0.0)})


class OwnConfig(StudyConfig):
    """A setting that is true or false, as any study may have."""

    flag: bool = True


def grid(config: OwnConfig) -> Grid:
    """Return the trials: one group."""
    return {("plain", 8): config.trials("cifar_plain", depth=8)}


def measure(config: OwnConfig, trials: Trials) -> Measurement:
    """Compare the test error with nothing."""
    return Measurement({"it-errs": trials.errors("test")["plain", 8].against(0.0, guard=False)})


STUDY = Study(TEXT, CLAIMS, OwnConfig, grid=grid, measure=measure)
