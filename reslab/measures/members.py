"""What a trained network's paths carry, and whether its blocks repair one another: members of an ensemble, or not."""

from typing import NamedTuple

import torch
from torch import Tensor

from reslab.analysis.paths import PathSpectrum, path_spectrum
from reslab.experiment.trials import Trial
from reslab.gates.view import View, view
from reslab.measures.repair import repair, stages


class Looked(NamedTuple):
    """What one trained network shows."""

    share: list[float]  # of the gradient, by path length
    mean_length: float
    long_share: float  # of paths through more than half of the blocks
    repair: float
    without_early: float  # test error without the early half of a stage's blocks, mean over stages
    without_late: float


def look(trial: Trial, images: int) -> Looked:
    """Return what a trained network shows on the test images; the spectrum and the repair are of a few of them."""
    network, data = trial.network(), trial.data()
    (x, y), (few, their_labels) = data.test, data.sample("test", images)
    gated = view(network, x[:2])
    spectrum = path_spectrum(gated, few, their_labels)
    early, late = halves(gated)
    return Looked(
        spectrum.share.tolist(),
        spectrum.mean_length,
        long_share(spectrum),
        repair(gated, few),
        _error(gated, x, y, early),
        _error(gated, x, y, late),
    )


def long_share(spectrum: PathSpectrum) -> float:
    """Return the share of the gradient carried by paths through more than half of the blocks."""
    blocks = len(spectrum.norm) - 1
    return float(spectrum.share[blocks // 2 + 1 :].sum())


def halves(gated: View) -> tuple[list[Tensor], list[Tensor]]:
    """Return gates `[n]` without the early half of each stage in turn, and without the late half; a middle
    block stays.
    """

    def without(removed: list[int]) -> Tensor:
        gates = torch.ones(len(gated))
        gates[removed] = 0
        return gates

    members = stages(gated)
    return [without(blocks[: len(blocks) // 2]) for blocks in members], [
        without(blocks[-(len(blocks) // 2) :]) for blocks in members
    ]


AT_ONCE = 512
"""Images that go through a network together."""


def _error(gated: View, x: Tensor, y: Tensor, settings: list[Tensor]) -> float:
    with torch.no_grad():
        answers = [torch.cat([gated(some, gates).argmax(1) for some in x.split(AT_ONCE)]) for gates in settings]
    return float(torch.stack([(answer != y).double().mean() for answer in answers]).mean())
