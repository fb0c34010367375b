"""Why should a residual be easier to learn? (He et al. 2015, sections 3.1 and 4.2)

That F = H − x, and that F = 0 makes a block the identity, is checked in float64. That residuals are small is measured
on networks before and after training: the layers' responses, as in the paper's Fig. 7, and the size of F over that of
x.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from pydantic import Field

from reslab.experiment.config import CifarDepths, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, exact, lower
from reslab.experiment.trials import Exactly, Grid, Key, Trials, label
from reslab.ledger.record import Chart
from reslab.measures.residuals import adds_up, block_of, residuals, stds, zero_branch
from reslab.state import draws_apart

TEXT = StudyText(__name__)
HE_2015 = "He et al. 2015 (arXiv:1512.03385)"
CLOSER_TO_ZERO = "section 4.2: “residual functions might be generally closer to zero than the non-residual functions”"
CLAIMS = claims(
    TEXT,
    HE_2015,
    "residual-learning",
    {
        "f-is-h-minus-x": exact(at="section 3.1; its block is section 3.2, Eq. 1"),
        "identity-is-a-branch-of-zero": exact(at="section 1: “it would be easier to push the residual to zero”"),
        "v2-blocks-add-up": exact(section="identity", source="He et al. 2016 (arXiv:1603.05027), section 2, Eq. 4"),
        "responses-are-smaller-than-plain": lower(0.05, at="section 4.2, Fig. 7", revision=2),
        "deeper-networks-respond-less": lower(0.05, at="section 4.2, Fig. 7"),
        "a-block-changes-its-input-little": lower(0.25, at=CLOSER_TO_ZERO),
        "training-makes-the-change-smaller": lower(
            0.05, source=f"follows from {HE_2015}, section 3.1, if the optimal functions are close to the identity"
        ),
    },
)


class ResidualLearningConfig(StudyConfig):
    """Depths of the networks; the first and the last are compared."""

    depths: CifarDepths = Field((20, 56), min_length=2)


def grid(config: ResidualLearningConfig) -> Grid:
    """Return the trials: residual networks of the first and the last depth, and the plain twin of the first, which
    trains.
    """
    groups = (("resnet", config.depths[0]), ("resnet", config.depths[-1]), ("plain", config.depths[0]))
    return {(kind, depth): config.trials(f"cifar_{kind}", depth=depth) for kind, depth in groups}


def measure(config: ResidualLearningConfig, trials: Trials) -> Measurement:
    """Check the algebra, and compare the layers' responses, and the residuals' sizes before and after training."""
    shallow, residual, plain = trials
    layers = trials.look("responses", stds)
    sizes = trials.look("sizes of residuals", residuals, keys=[residual])[residual]
    strength = trials.figure(layers, fmean)
    size_before, size_after = (
        trials.of(residual, {seed: fmean(found[when]) for seed, found in sizes.items()}) for when in (0, 1)
    )
    return Measurement(
        {
            **algebra(),
            "responses-are-smaller-than-plain": strength[shallow].against(strength[plain]),
            "deeper-networks-respond-less": strength[residual].against(strength[shallow]),
            "a-block-changes-its-input-little": size_after.against(1.0),
            "training-makes-the-change-smaller": size_after.against(size_before, paired=True),
        },
        charts=[_responses(layers), TEXT.before_and_after("changes", sizes)],
    )


def algebra() -> dict[str, Exactly]:
    """Return what the exact claims say, measured."""
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with draws_apart(), torch.no_grad():
        v2 = block_of("cifar_preresnet")
        residual = v2.weights(v2.relu1(v2.bn1(x)))
        difference = float(((v2(x) - x) - residual).abs().max() / residual.abs().max())
        zeros = {
            "v2": torch.equal(zero_branch("cifar_preresnet", x), x),
            "v1, x ≥ 0": torch.equal(zero_branch("cifar_resnet", x.relu()), x.relu()),
            "v1": torch.equal(zero_branch("cifar_resnet", x), x),
            "plain": torch.equal(zero_branch("cifar_plain", x), x),
        }
        sums = {"v2": adds_up("cifar_preresnet", x), "v1": adds_up("cifar_resnet", x.relu())}
    return {
        "f-is-h-minus-x": Exactly(difference < 1e-12, True),
        "identity-is-a-branch-of-zero": Exactly(zeros, {"v2": True, "v1, x ≥ 0": True, "v1": False, "plain": False}),
        "v2-blocks-add-up": Exactly(sums, {"v2": True, "v1": False}),
    }


def _responses(layers: Mapping[Key, Mapping[int, Sequence[float]]]) -> Chart:
    length = {key: len(next(iter(found.values()))) for key, found in layers.items() if found}
    places = {key: [100 * i / (n - 1) for i in range(n)] for key, n in length.items()}
    return TEXT.chart("responses", [TEXT.over_seeds(label(key), places[key], layers[key]) for key in places])


STUDY = Study(TEXT, CLAIMS, ResidualLearningConfig, grid=grid, measure=measure)
