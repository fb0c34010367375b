"""What does a shortcut do to the gradient? The chapter has ∂L/∂x = ∂L/∂y × (∂F/∂x + 1), with a factor "always at least
1".

The formula is checked in float64 against autograd for each kind of block: v1 has the mask of its last ReLU, and a block
that changes the shape has W_s in place of the 1, or in v2 W_s J_a, as its shortcut sees the activated input a. The
factor is a matrix, I + J_F: its singular values are measured before and after training, and whether the loss's own
gradient is among what they shorten. (He et al. 2015, Eq. 1 and 2; He et al. 2016, section 2)
"""

from collections.abc import Callable

from pydantic import Field

from reslab.experiment.config import CifarDepths, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, exact, higher, not_higher
from reslab.experiment.trials import Exactly, Grid, Trials, Values
from reslab.ledger.record import Table
from reslab.measures.backward import BLOCKS, Backward, rounding
from reslab.measures.directions import IMAGES, Look, direction_charts, every, looks, share_under

HE_2015 = "He et al. 2015 (arXiv:1512.03385)"
HE_2016 = "He et al. 2016 (arXiv:1603.05027)"
AFTER_ADDITION = "Eq. 1 and the second nonlinearity after the addition"
NO_PAPER = f"follows from no paper: {HE_2016}, Eq. 5, has I + J_F, of which nothing keeps the singular values above 1"
MEASURED = "singular values of the blocks' Jacobians"
OWN_GRADIENT = f"follows from no paper: {HE_2016}, section 2, has that the gradient does not vanish, not that it grows"

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    HE_2016,
    "gradient",
    {
        "backward-formula-holds-for-v2": exact(at="section 2, Eq. 5"),
        "v1-has-the-mask-of-its-last-relu": exact(source=f"{HE_2015}, {AFTER_ADDITION}; {HE_2016}, section 2"),
        "transitions-have-their-shortcut": exact(
            source=f"{HE_2015}, Eq. 2; {HE_2016}, section 4.1 and appendix", revision=2
        ),
        "v1-blocks-shrink-some-directions": higher(0.01, source=NO_PAPER, revision=2),
        "v2-blocks-shrink-some-directions": higher(0.01, source=NO_PAPER, revision=2),
        "many-directions-shrink": higher(0.25, source=MEASURED),
        "v1-blocks-lose-directions": higher(0.1, source=MEASURED),
        "the-gradient-itself-seldom-shrinks": not_higher(0.1, source=OWN_GRADIENT),
    },
)
NOTHING = 1e-9
"""A singular value in float64 that is under this is 0."""
HALF = 0.5
"""A direction whose singular value is under this is shrunk to less than half."""


class SkipGradientConfig(StudyConfig):
    """Depth of the networks whose singular values are measured."""

    depths: CifarDepths = Field((20,), min_length=1, max_length=1)


def grid(config: SkipGradientConfig) -> Grid:
    """Return the trials: v1 and v2."""
    (depth,) = config.depths
    return {("v1",): config.trials("cifar_resnet", depth=depth), ("v2",): config.trials("cifar_preresnet", depth=depth)}


def measure(config: SkipGradientConfig, trials: Trials) -> Measurement:
    """Return the formulas' checks, and the singular values of networks before and after training."""
    found = trials.look("singular values", looks)

    def weaker(version: str, of: Callable[[Look], float], of_both: Callable[[float, float], float] = min) -> Values:
        """Return, of each network, what is the weaker evidence: before or after training."""
        values = {seed: of_both(of(one["before"]), of(one["after"])) for seed, one in found[version,].items()}
        return trials.of((version,), values)

    def in_every_block(look: Look) -> float:
        return min(share_under(HALF, values) for values in look.values.values())

    checks, table = formulas()
    return Measurement(
        {
            **checks,
            "v1-blocks-shrink-some-directions": weaker("v1", in_every_block).against(0.0),
            "v2-blocks-shrink-some-directions": weaker("v2", in_every_block).against(0.0),
            "many-directions-shrink": weaker("v2", lambda look: share_under(1.0, every(look))).against(0.0),
            "v1-blocks-lose-directions": weaker("v1", lambda look: share_under(NOTHING, every(look))).against(0.0),
            "the-gradient-itself-seldom-shrinks": weaker("v2", lambda look: look.shortened, max).against(
                0.0, resolution=1 / IMAGES
            ),
        },
        tables=[table],
        charts=direction_charts(TEXT, found),
    )


def formulas() -> tuple[dict[str, Exactly], Table]:
    """Return the exact claims' evidence, and how far each formula is from autograd."""
    errors = {kind: Backward(kind).errors for kind in BLOCKS}
    found = {kind: (rounding(one.chapter), rounding(one.bare), rounding(one.full)) for kind, one in errors.items()}
    v1 = dict(zip(("without m", "with m"), found["v1, identity"], strict=False))
    transitions = {kind: {"W_s": found[kind][1], "W_s J_a": found[kind][2]} for kind in found if "option" in kind}
    checks = {
        "backward-formula-holds-for-v2": Exactly(found["v2, identity"][0], True),
        "v1-has-the-mask-of-its-last-relu": Exactly(v1, {"without m": False, "with m": True}),
        "transitions-have-their-shortcut": Exactly(
            transitions, {kind: {"W_s": kind.startswith("v1"), "W_s J_a": True} for kind in transitions}
        ),
    }
    return checks, TEXT.table("formulas", [(kind, *one) for kind, one in errors.items()])


STUDY = Study(TEXT, CLAIMS, SkipGradientConfig, grid=grid, measure=measure)
