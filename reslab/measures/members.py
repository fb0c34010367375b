"""Are a trained network's blocks members of an ensemble? The gradient carried by its paths, and whether later blocks
repair the removal of earlier ones.
"""

from collections.abc import Mapping, Sequence
from math import comb
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from reslab.analysis.paths import PathSpectrum, path_spectrum
from reslab.experiment.text import StudyText
from reslab.experiment.trials import Trial
from reslab.gates.making import view
from reslab.gates.view import View
from reslab.ledger.record import Chart, Series
from reslab.measures.repair import repair, stages


class Looked(NamedTuple):
    """Measurements of one trained network."""

    share: list[float]  # of the gradient, by path length
    mean_length: float
    long_share: float  # of paths through more than half of the blocks
    repair: float
    early: float  # rise of the test error without the early half of a stage's blocks per size of it, mean over stages
    late: float


def look(trial: Trial, images: int) -> Looked:
    """Return the measurements of a trained network on the test images; the spectrum and the repair use a few of
    them.
    """
    network, data = trial.network(), trial.data()
    (x, y), (few, their_labels) = data.test, data.sample("test", images)
    gated = view(network, x[:2])
    spectrum = path_spectrum(gated, few, their_labels)
    whole = _error(gated, x, y, torch.ones(len(gated)))

    def rise(half: list[Tensor]) -> float:
        return fmean((_error(gated, x, y, gates) - whole) / _size(gated, few, gates) for gates in half)

    early, late = map(rise, halves(gated))
    return Looked(
        spectrum.share.tolist(),
        spectrum.mean_length,
        long_share(spectrum),
        repair(gated, few),
        early,
        late,
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


@torch.no_grad()
def _error(gated: View, x: Tensor, y: Tensor, gates: Tensor) -> float:
    answers = torch.cat([gated(some, gates).argmax(1) for some in x.split(AT_ONCE)])
    return float((answers != y).double().mean())


@torch.no_grad()
def _size(gated: View, x: Tensor, gates: Tensor) -> float:
    """Return the norm of the sum of the removed branches in the whole network, relative to that of the stream after the
    last block of their stage.
    """
    removed = (gates == 0).nonzero()[:, 0].tolist()
    stage = gated.blocks[removed[0]].stage
    live, added = gated.stem(x), torch.zeros(())
    end = live.stream
    for index, block in enumerate(gated.blocks):
        if index in removed:
            _, branches = gated.sides(index, live)
            added = added + torch.stack(list(branches)).sum(0)
        live = gated.block(index, live)
        end = live.stream if block.stage == stage else end
    return float(added.norm() / end.norm())


def spectra_chart(text: StudyText, blocks: int, found: Mapping[str, Sequence[Looked]]) -> Chart:
    """Return the gradient carried by paths of each length, by kind of network, beside the number of paths."""
    lengths = [float(length) for length in range(blocks + 1)]
    carried = {
        kind: 100 * torch.tensor([looked.share for looked in looks], dtype=torch.float64)
        for kind, looks in found.items()
    }
    bars = [
        text.averaged(f"{kind}-gradient", lengths, shares.T.tolist(), kind="bars") for kind, shares in carried.items()
    ]
    paths = Series(
        name=text.name("all-paths"),
        x=lengths,
        y=[100 * comb(blocks, length) / 2**blocks for length in range(blocks + 1)],
    )
    return text.chart("spectra", [*bars, paths])
