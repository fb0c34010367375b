"""What the ensemble study computes, on networks whose answer is known."""

from math import comb
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reslab import studies
from reslab.analysis.paths import PathSpectrum
from reslab.executors import local
from reslab.ledger.verdict import Comparison, decide
from reslab.networks import zoo
from reslab.residual import view
from reslab.studies.directory import Directory
from reslab.studies.ensemble_paths import ORDER, REPAIR, Looked, count_paths, each_path, halves, repair, stages
from reslab.studies.study import run_study


class Block(nn.Module):
    """x + scale · x + shift."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.branch = nn.Linear(3, 3)
        with torch.no_grad():
            self.branch.weight.copy_(scale * torch.eye(3))
            self.branch.bias.fill_(shift)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


@pytest.mark.parametrize(
    ("later", "expected"),
    [((0.0, 5.0), 0.0), ((-1.0, 2.0), 1.0), ((-0.25, 0.0), 0.25), ((0.5, 0.0), -0.5)],
    ids=["a block that ignores its input repairs nothing", "one that goes to its target repairs all", "a quarter of the way", "away from it"],
)
def test_repair_is_what_comes_back(later: tuple[float, float], expected: float) -> None:
    network, x = nn.Sequential(Block(0.7, 0.3), Block(*later)), torch.randn(5, 3)
    assert repair(view(network, x), x) == pytest.approx(expected, abs=1e-5)


def test_halves_of_a_stage_spare_transitions_and_the_middle() -> None:
    gated = view(zoo.build("cifar_preresnet", depth=20, in_channels=1).eval(), torch.zeros(2, 1, 8, 8))
    assert stages(gated) == [[0, 1, 2], [4, 5], [7, 8]]
    early, late = halves(gated)
    assert [(gates == 0).nonzero()[:, 0].tolist() for gates in early] == [[0], [4], [7]]
    assert [(gates == 0).nonzero()[:, 0].tolist() for gates in late] == [[2], [5], [8]]


@pytest.mark.parametrize("family", ["cifar_preresnet", "cifar_resnet"])
def test_every_path_is_counted(family: str) -> None:
    check = count_paths(family)
    assert check.measured == check.expected and check.expected["paths"] == 64


def test_a_path_of_length_0_takes_no_branch() -> None:
    network, x = nn.Sequential(Block(2.0, 0.0), Block(3.0, 0.0)), torch.randn(1, 3)
    lengths, gradients = zip(*each_path(view(network, x), x, torch.tensor([1])), strict=True)
    assert lengths == (0, 1, 1, 2)
    for gradient, factor in zip(gradients, (1, 3, 2, 6), strict=True):
        assert torch.allclose(gradient, factor * gradients[0], rtol=1e-5)


@pytest.mark.parametrize(("n", "long"), [(5, 0.5), (6, 22 / 64)])
def test_a_gradient_in_proportion_to_the_paths_has_their_mean_length(n: int, long: float) -> None:
    norm = torch.tensor([float(comb(n, length)) for length in range(n + 1)])
    looked = Looked(PathSpectrum(torch.zeros(n + 1, 1, 3), norm), 0.0, 0.0, 0.0)
    assert looked.relative_length == pytest.approx(0.5) and looked.long_share == pytest.approx(long)


def test_opposite_data_turn_the_verdicts_round() -> None:
    def verdicts(sign: float) -> list[str]:
        noise = dict(enumerate([0.01, -0.01, 0.0, 0.02, -0.02]))
        effects = {seed: sign * 0.4 + value for seed, value in noise.items()}
        nothing = dict.fromkeys(noise, 0.0)
        return [verdict.verdict for verdict in decide([Comparison(claim, effects, nothing) for claim in (REPAIR, ORDER)])]

    assert verdicts(1) == ["supported"] * 2 and verdicts(-1) == ["refuted"] * 2


@pytest.mark.slow  # trains nine networks
def test_smoke(tmp_path: Path) -> None:
    study = studies.find("ensemble_paths")
    config = study.configure("smoke", {})
    done = run_study(study, config, Directory(tmp_path).prepare(study), local(1), lambda *_: None)
    again = run_study(study, config, Directory(tmp_path), local(1), lambda *_: None)
    assert not done.failures and done.record == again.record
