"""Is the identity easier to learn as a residual of zero? (He et al. 2015, section 3.1)

"If the optimal function is closer to an identity mapping than to a zero mapping, it should be easier for the solver to
find the perturbations with reference to an identity mapping, than to learn the function as a new one": a conjecture in
the paper, and a small experiment here. One block of the zoo, plain or residual, of two 3×3 convolutions with BatchNorm,
is to give back its input x, or something near it; x are rectified random numbers, as between blocks. What is counted is
the steps of SGD to a given loss, at the learning rate, of several, that takes each block fewest. The functions:

- the identity: x;
- near the identity: relu(x + ε g(x)), with g a fixed random convolution whose values are about as large as x;
- near zero: relu(ε g(x)). There the plain block should have the advantage, or the first two say nothing of identities.

A function is learned at half of the error of a block that has learned nothing: that gives zeros or, near the identity,
where the change to x is what is asked for, x itself. In the first revision it was learned at an error of a tenth of x's
variance, and ε was 0.1: the change added less, so that the second function was the first, and the third asked for
little but to give little.

That one block learns sooner says nothing of a network of fifty: see `degradation`.
"""

from math import log2

from pydantic import Field

from reslab.experiment.config import StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, higher, lower
from reslab.experiment.trials import Against, Trials, Values
from reslab.ledger.record import Reason
from reslab.measures.courses import BLOCKS, FUNCTIONS, Best, course, course_chart, course_table, steps
from reslab.progress import each

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    "He et al. 2015 (arXiv:1512.03385)",
    "residual-learning",
    {
        "identity-in-fewer-steps": lower(1.0, revision=2, at="section 3.1, a conjecture"),
        "near-identity-in-fewer-steps": lower(1.0, revision=2, at="section 3.1, a conjecture"),
        "near-zero-in-more-steps": higher(
            0.5, revision=2, at="section 3.1: “closer to an identity mapping than to a zero mapping”"
        ),
    },
)


class LearningIdentityConfig(StudyConfig):
    """The functions, and when one counts as learned."""

    perturbation: float = Field(0.5, gt=0)
    level: float = Field(0.5, gt=0, lt=1)
    rates: tuple[float, ...] = Field((0.01, 0.03, 0.1, 0.3, 1.0), min_length=1)
    most: int = Field(2000, ge=1)


def measure(config: LearningIdentityConfig, trials: Trials) -> Measurement:
    """Compare the steps of both blocks; one that did not learn a function counts with the most steps there are, and
    where none did, nothing is concluded.
    """
    asked = (config.perturbation, config.level, config.most)
    best: Best = {(block, function): {} for function in FUNCTIONS for block in BLOCKS}
    for block, function in each(list(best), "learning", trials.progress):
        for seed in config.seed_range:
            courses = [trials.measured(course, block, function, rate, *asked, seed) for rate in config.rates]
            best[block, function][seed] = min(courses, key=lambda one: steps(one, config.most))
    taken = {
        key: Values({seed: log2(steps(one, config.most)) for seed, one in found.items()}) for key, found in best.items()
    }

    def compared(function: str) -> Against:
        learned = any(one.reached for block in BLOCKS for one in best[block, function].values())
        unseen = None if learned else Reason(code="too-little-learned")
        return taken["residual", function].against(taken["plain", function], untested=unseen)

    return Measurement(
        {
            "identity-in-fewer-steps": compared("identity"),
            "near-identity-in-fewer-steps": compared("near-identity"),
            "near-zero-in-more-steps": compared("near-zero"),
        },
        tables=[course_table(TEXT, best, config.most)],
        charts=[course_chart(TEXT, best)],
    )


STUDY = Study(TEXT, CLAIMS, LearningIdentityConfig, grid=lambda _: {}, measure=measure)
