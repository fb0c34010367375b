"""Does pre-activation help, and from which depth on? The original unit (v1) against full pre-activation (v2).

He et al. 2016 (arXiv:1603.05027), Table 3, find test errors of 6.61 and 6.37 % at 110 layers, 5.93 and 5.46 at 164,
7.61 and 4.92 at 1001: the advantage grows with depth. The default's depths are those where it should not show yet.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from reslab.experiment.config import GrowingDepths, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, higher, lower, not_higher
from reslab.experiment.trials import Grid, Key, Trials, Values
from reslab.ledger.record import Chart, Reason
from reslab.training.loop import PartName

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    "He et al. 2016 (arXiv:1603.05027)",
    "identity",
    {
        "v2-is-not-worse-at-depth": not_higher(0.01, at="Table 3", rate=True, published=-0.0024),
        "v2-is-better-at-depth": lower(
            0.0, at="Table 3: by 0.24 points at 110 layers, 2.69 at 1001", rate=True, published=-0.0024, revision=2
        ),
        "v2-has-no-advantage-when-shallow": not_higher(
            0.01, at="section 4.2: the ReLU's effect is not severe with fewer layers", rate=True
        ),
        "the-advantage-grows-with-depth": higher(
            0.005, at="Table 3: from 0.24 points at 110 layers to 2.69 at 1001", rate=True, published=0.0245, revision=2
        ),
        "v2-trains-better-at-depth": lower(0.01, at="section 4.2, “ease of optimization”, for 1001 layers", rate=True),
        "v2-does-not-train-better-below-a-thousand-layers": not_higher(
            0.005,
            at="section 4.2: at 110 and 164 layers v2 has a slightly higher training loss, and a lower test error",
            rate=True,
        ),
    },
)


class PreactivationConfig(StudyConfig):
    """Depths of the v1 and v2 networks; the first and the last are compared."""

    depths: GrowingDepths = Field((20, 56), min_length=2)
    block: Literal["basic", "bottleneck"] = "basic"

    @model_validator(mode="after")
    def _depths_exist(self) -> "PreactivationConfig":
        layers = 6 if self.block == "basic" else 9
        for depth in self.depths:
            if depth < layers + 2 or depth % layers != 2:
                raise ValueError(
                    f"depth {depth} is not {layers}n+2, as the CIFAR design with {self.block} blocks needs"
                )
        return self


FAMILIES = {"v1": "cifar_resnet", "v2": "cifar_preresnet"}


def grid(config: PreactivationConfig) -> Grid:
    """Return the trials: a v1 and a v2 group for each depth."""
    keys = [(kind, depth) for depth in config.depths for kind in FAMILIES]
    return {(kind, depth): config.trials(FAMILIES[kind], depth=depth, block=config.block) for kind, depth in keys}


def measure(config: PreactivationConfig, trials: Trials) -> Measurement:
    """Return the six comparisons, and the errors over depth."""
    shallow, deep = config.depths[0], config.depths[-1]
    train, test = trials.errors("train"), trials.errors("test")
    return Measurement(
        {
            "v2-is-not-worse-at-depth": test["v2", deep].against(test["v1", deep]),
            "v2-is-better-at-depth": test["v2", deep].against(test["v1", deep]),
            "v2-has-no-advantage-when-shallow": test["v1", shallow].against(test["v2", shallow]),
            "the-advantage-grows-with-depth": advantage(test, deep).against(advantage(test, shallow)),
            "v2-trains-better-at-depth": train["v2", deep].against(train["v1", deep], guard=False, room=True),
            "v2-does-not-train-better-below-a-thousand-layers": train["v1", deep].against(
                train["v2", deep], untested=Reason(code="too-deep", values={"depth": deep}) if deep > 1000 else None
            ),
        },
        charts=[over_depth("test", config, test), over_depth("train", config, train)],
    )


def advantage(errors: Mapping[Key, Values], depth: int) -> Values:
    """Return v1's error less v2's, for the seeds that both have."""
    return errors["v1", depth] - errors["v2", depth]


def over_depth(part: PartName, config: PreactivationConfig, errors: Mapping[Key, Values]) -> Chart:
    """Return a picture of the errors of both versions by depth, each the mean of the seeds that it has."""
    depths = [float(depth) for depth in config.depths]
    columns = {kind: [errors[kind, depth].values() for depth in config.depths] for kind in FAMILIES}
    return TEXT.chart(part, [TEXT.averaged(kind, depths, columns[kind]) for kind in FAMILIES], rate=True)


STUDY = Study(TEXT, CLAIMS, PreactivationConfig, grid=grid, measure=measure)
