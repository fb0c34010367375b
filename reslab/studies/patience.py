"""Is a deep plain network slow, or stuck? Degradation with three and with ten times the steps (He et al. 2015, section
4.1, footnote 3, where three times the iterations did not help).

The networks of `degradation`, a shallow and a deep plain one and a deep residual one, trained for longer: the
schedule is stretched with the length. If the deep plain network is only slow, its training error comes down to the
others' in the end.
"""

from typing import Annotated

from pydantic import Field, PositiveInt

from reslab.experiment.config import INCREASING, CifarDepths, StudyConfig, longer
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, higher, not_higher
from reslab.experiment.trials import Grid, Trials, label
from reslab.ledger.record import Chart

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    "He et al. 2015 (arXiv:1512.03385)",
    "degradation",
    {
        "still-worse-with-more-steps": higher(0.01, at="section 4.1, footnote 3: three times the iterations"),
        "still-worse-with-many-more-steps": higher(0.01, at="section 4.1, footnote 3, taken further"),
        "residual-is-done-by-then": not_higher(0.01, at="section 4.2, Fig. 6"),
    },
)


class PatienceConfig(StudyConfig):
    """The depths, and how much longer the networks train."""

    depths: CifarDepths = Field((20, 56), min_length=2, max_length=2)
    lengths: Annotated[tuple[PositiveInt, PositiveInt], INCREASING] = (3, 10)


def grid(config: PatienceConfig) -> Grid:
    """Return the trials: the plain networks of both depths and the deep residual one, at each length."""
    shallow, deep = config.depths
    networks = (("plain", shallow), ("plain", deep), ("resnet", deep))
    return {
        (kind, depth, times): [longer(trial, times) for trial in config.trials(f"cifar_{kind}", depth=depth)]
        for times in config.lengths
        for kind, depth in networks
    }


def measure(config: PatienceConfig, trials: Trials) -> Measurement:
    """Compare training errors at equal length; training itself is what is claimed, so no network has to have learned
    its task.
    """
    (shallow, deep), (more, many) = config.depths, config.lengths
    train = trials.errors("train")
    return Measurement(
        {
            "still-worse-with-more-steps": train["plain", deep, more].against(
                train["plain", shallow, more], guard=False
            ),
            "still-worse-with-many-more-steps": train["plain", deep, many].against(
                train["plain", shallow, many], guard=False
            ),
            "residual-is-done-by-then": train["resnet", deep, more].against(train["plain", shallow, more], guard=False),
        },
        charts=[_over_length(config, trials)],
    )


def _over_length(config: PatienceConfig, trials: Trials) -> Chart:
    train, lengths = trials.errors("train"), [float(times) for times in config.lengths]
    networks = dict.fromkeys((kind, depth) for kind, depth, _ in trials)
    return TEXT.chart(
        "over-length",
        [
            TEXT.averaged(label(key), lengths, [train[*key, times].values() for times in config.lengths])
            for key in networks
        ],
        rate=True,
    )


STUDY = Study(TEXT, CLAIMS, PatienceConfig, grid=grid, measure=measure)
