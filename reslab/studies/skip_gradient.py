"""What does a shortcut do to the gradient? The chapter has ∂L/∂x = ∂L/∂y × (∂F/∂x + 1), with a factor "always at least
1".

The formula is checked in float64 against autograd for each kind of block: v1 has the mask of its last ReLU, and a block
that changes the shape has W_s in place of the 1. The factor is a matrix, I + J_F: its singular values are measured
before and after training. (He et al. 2015, Eq. 1 and 2; He et al. 2016, section 2)
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, product
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reslab.analysis.jacobian import jacobian
from reslab.analysis.subject import evaluating
from reslab.experiment.config import CifarDepths, StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, exact, higher, lower
from reslab.experiment.trials import Exactly, Grid, Key, Trial, Trials, Values, label
from reslab.gates.view import view
from reslab.ledger.record import Chart, Table
from reslab.networks import zoo

HE_2015 = "He et al. 2015 (arXiv:1512.03385)"
HE_2016 = "He et al. 2016 (arXiv:1603.05027)"
AFTER_ADDITION = "Eq. 1 and the second nonlinearity after the addition"
NO_PAPER = f"follows from no paper: {HE_2016}, Eq. 5, has I + J_F, of which nothing keeps the singular values above 1"
MEASURED = "singular values of the blocks' Jacobians"

TEXT = StudyText(__name__)
CLAIMS = claims(
    TEXT,
    HE_2016,
    "gradient",
    {
        "backward-formula-holds-for-v2": exact(at="section 2, Eq. 5"),
        "v1-has-the-mask-of-its-last-relu": exact(source=f"{HE_2015}, {AFTER_ADDITION}; {HE_2016}, section 2"),
        "transitions-have-their-shortcut": exact(source=f"{HE_2015}, Eq. 2; {HE_2016}, section 3"),
        "v1-blocks-shrink-some-directions": lower(0.5, source=NO_PAPER),
        "v2-blocks-shrink-some-directions": lower(0.5, source=NO_PAPER),
        "many-directions-shrink": higher(0.25, source=MEASURED),
        "v1-blocks-lose-directions": higher(0.1, source=MEASURED),
    },
)
NOTHING = 1e-9
"""A singular value in float64 that is under this is 0."""


class SkipGradientConfig(StudyConfig):
    """Depth of the networks whose singular values are measured."""

    depths: CifarDepths = Field((20,), min_length=1, max_length=1, description="depth, 6n+2")


def grid(config: SkipGradientConfig) -> Grid:
    """Return the trials: v1 and v2."""
    (depth,) = config.depths
    return {("v1",): config.trials("cifar_resnet", depth=depth), ("v2",): config.trials("cifar_preresnet", depth=depth)}


def measure(config: SkipGradientConfig, trials: Trials) -> Measurement:
    """Return the formulas' checks, and the singular values of networks before and after training."""
    found = trials.look("singular values", spectra)

    def both(version: str, of: Callable[[Sequence[float]], float], weaker: Callable[[float, float], float]) -> Values:
        """Return, of each network, what is the weaker evidence: before or after training."""
        values = {
            seed: weaker(*(of(every(blocks)) for blocks in one.values())) for seed, one in found[version,].items()
        }
        return trials.of((version,), values)

    checks, table = formulas()
    return Measurement(
        {
            **checks,
            "v1-blocks-shrink-some-directions": both("v1", min, max).against(1.0),
            "v2-blocks-shrink-some-directions": both("v2", min, max).against(1.0),
            "many-directions-shrink": both("v2", lambda values: share_under(1.0, values), min).against(0.0),
            "v1-blocks-lose-directions": both("v1", lambda values: share_under(NOTHING, values), min).against(0.0),
        },
        tables=[table],
        charts=[_histograms(found), _in_order(found)],
    )


# --- The formula, in float64 ------------------------------------------------------------------------------------------

BLOCKS: dict[str, tuple[str, str, str]] = {
    "v2, identity": ("cifar_preresnet", "A", "layer1.1"),
    "v1, identity": ("cifar_resnet", "A", "layer1.1"),
    "v1, option A": ("cifar_resnet", "A", "layer2.0"),
    "v1, option B": ("cifar_resnet", "B", "layer2.0"),
    "v2, option A": ("cifar_preresnet", "A", "layer2.0"),
    "v2, option B": ("cifar_preresnet", "B", "layer2.0"),
}
"""A family, its shortcut option, and one of its blocks."""


class Backward:
    """One block in float64 on a random input, as after a ReLU; the gradient of the loss ⟨delta, y⟩ by autograd and by
    formula.
    """

    def __init__(self, kind: str) -> None:
        family, option, name = BLOCKS[kind]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            block: Any = zoo.build(family, depth=14, shortcut=option).get_submodule(name).double().eval()
            self.x = torch.randn(2, 16, 8, 8, dtype=torch.float64).relu().requires_grad_()
            y = block(self.x)
            self.delta = torch.randn_like(y)
        a = block.relu1(block.bn1(self.x)) if family == "cifar_preresnet" else self.x
        self.branch = block.weights(a) if family == "cifar_preresnet" else block.branch(self.x)
        self.shortcut = block.downsample(a if getattr(block, "shares_activation", False) else self.x)
        total = self.shortcut + self.branch
        self.mask = total > 0 if family == "cifar_resnet" else torch.ones_like(total)
        (self.gradient,) = torch.autograd.grad(y, self.x, self.delta)

    def pulled(self, side: Tensor, delta: Tensor) -> Tensor:
        """Return the transpose of a side's Jacobian times `delta`."""
        return torch.autograd.grad(side, self.x, delta, retain_graph=True)[0]

    @property
    def chapter_error(self) -> float | None:
        """Return the relative error of `(I + J_F)ᵀ delta`; None where the shapes do not even fit."""
        if self.delta.shape != self.x.shape:
            return None
        return self._error(self.delta + self.pulled(self.branch, self.delta))

    @property
    def full_error(self) -> float:
        """Return the relative error of `(W_s + J_F)ᵀ (m ⊙ delta)`, where W_s is I for an identity shortcut."""
        delta = self.mask * self.delta
        straight = delta if self.shortcut is self.x else self.pulled(self.shortcut, delta)
        return self._error(straight + self.pulled(self.branch, delta))

    def _error(self, found: Tensor) -> float:
        return float((found - self.gradient).norm() / self.gradient.norm())


def fits(relative_error: float | None) -> bool:
    """Say whether an error in float64 is rounding."""
    return relative_error is not None and relative_error < 1e-12


def formulas() -> tuple[dict[str, Exactly], Table]:
    """Return the exact claims' evidence, and how far each formula is from autograd."""
    made = {kind: Backward(kind) for kind in BLOCKS}
    chapter = {kind: block.chapter_error for kind, block in made.items()}
    full = {kind: block.full_error for kind, block in made.items()}
    transitions = {kind: fits(full[kind]) for kind, error in chapter.items() if error is None}
    v1 = {"without m": fits(chapter["v1, identity"]), "with m": fits(full["v1, identity"])}
    checks = {
        "backward-formula-holds-for-v2": Exactly(fits(chapter["v2, identity"]), True),
        "v1-has-the-mask-of-its-last-relu": Exactly(v1, {"without m": False, "with m": True}),
        "transitions-have-their-shortcut": Exactly(transitions, dict.fromkeys(transitions, True)),
    }
    return checks, TEXT.table("formulas", [(kind, chapter[kind], full[kind]) for kind in BLOCKS])


# --- Singular values --------------------------------------------------------------------------------------------------


Spectra = dict[str, dict[str, list[float]]]
"""All singular values of some blocks: before and after training, by the block's name."""


def spectra(trial: Trial) -> Spectra:
    """Return the singular values of a trial's network before and after training."""
    images = trial.data().sample("train", 128)[0]
    networks = {"before": trial.fresh_network(), "after": trial.network()}
    return {when: singular_values(network, images, trial.seed) for when, network in networks.items()}


def singular_values(network: nn.Module, images: Tensor, seed: int) -> dict[str, list[float]]:
    """Return all singular values at the seed's image, of 8×8, of each stage's last block if its shortcut is the
    identity, by its name.

    The statistics of BatchNorm are those of all the images, so that those of an untrained network mean something.
    """
    images = F.adaptive_avg_pool2d(images, 8)
    last = {block.stage: block for block in view(network, images[:2]).blocks}
    names = [block.name for block in last.values() if block.identity]
    image = seed % len(images)
    with evaluating(network, images):
        found = jacobian(network, images[image : image + 1], names, method="all").blocks
    return {block.name: block.values[0].tolist() for block in found if block.values is not None}


def every(blocks: Mapping[str, Sequence[float]]) -> list[float]:
    """Return the values of all blocks."""
    return list(chain.from_iterable(blocks.values()))


def share_under(limit: float, values: Sequence[float]) -> float:
    """Return the share of values that are under a limit."""
    return sum(value < limit for value in values) / len(values)


WIDTH, BINS = 0.1, 32
"""The bins of the histograms, from 0 on, so that 1 is between two of them; the last holds what is larger too."""

Found = dict[Key, dict[int, Spectra]]
"""Singular values by group and seed."""


def _histograms(found: Found) -> Chart:
    centres = [round((i + 0.5) * WIDTH, 2) for i in range(BINS)]
    series = []
    for key, when in product(filter(found.get, found), ("before", "after")):
        shares = {seed: histogram(every(one[when])) for seed, one in found[key].items()}
        series.append(TEXT.over_seeds(label((*key, when)), centres, shares))
    return TEXT.chart("singular-values", series, kind="bars", arrangement="panels", marks=[1.0])


def histogram(values: Sequence[float]) -> list[float]:
    """Return the share of values in each bin, in %."""
    bins = (torch.tensor(values, dtype=torch.float64) / WIDTH).floor().long().clamp(0, BINS - 1)
    return (100 * torch.bincount(bins, minlength=BINS).double() / len(values)).tolist()


def _in_order(found: Found) -> Chart:
    at = torch.linspace(0, 1, 21, dtype=torch.float64)
    series = []
    for (version,), by_seed in found.items():
        for name in next(iter(by_seed.values()))["after"] if by_seed else []:
            blocks = {seed: torch.tensor(one["after"][name], dtype=torch.float64) for seed, one in by_seed.items()}
            quantiles = {seed: block.quantile(at).tolist() for seed, block in blocks.items()}
            series.append(TEXT.over_seeds(f"{version}, {name}", (100 * at).tolist(), quantiles))
    return TEXT.chart("in-order", series)


STUDY = Study(
    TEXT,
    CLAIMS,
    SkipGradientConfig,
    presets={
        "default": {},
        "smoke": {"depths": (8,), "seeds": 3, "epochs": 1},
        "full": {"data": "cifar10", "depths": (56,), "epochs": 16},
    },
    grid=grid,
    measure=measure,
)
