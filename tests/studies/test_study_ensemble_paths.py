"""What the ensemble study computes, on networks whose answer is known."""

from math import comb
from pathlib import Path

import pytest
import torch
from helpers import SEEDS, pretended
from torch import Tensor, nn

from reslab.analysis.paths import PathSpectrum
from reslab.executors import local
from reslab.experiment.directory import Directory
from reslab.experiment.study import run_study
from reslab.experiment.trials import Trial
from reslab.measures.members import Looked, halves, long_share
from reslab.measures.paths import count_paths, each_path
from reslab.measures.repair import repair, stages
from reslab.networks import zoo
from reslab.residual import view
from reslab.studies import ensemble_paths
from reslab.studies.ensemble_paths import STUDY


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
    ids=[
        "a block that ignores its input repairs nothing",
        "one that goes to its target repairs all",
        "a quarter of the way",
        "away from it",
    ],
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
    assert count_paths(family) == {"paths": 64, "sum to the gradient": True, "by length the spectrum": True}


def test_a_path_of_length_0_takes_no_branch() -> None:
    network, x = nn.Sequential(Block(2.0, 0.0), Block(3.0, 0.0)), torch.randn(1, 3)
    lengths, gradients = zip(*each_path(view(network, x), x, torch.tensor([1])), strict=True)
    assert lengths == (0, 1, 1, 2)
    for gradient, factor in zip(gradients, (1, 3, 2, 6), strict=True):
        assert torch.allclose(gradient, factor * gradients[0], rtol=1e-5)


@pytest.mark.parametrize(("n", "long"), [(5, 0.5), (6, 22 / 64)])
def test_a_gradient_in_proportion_to_the_paths_has_their_mean_length(n: int, long: float) -> None:
    norm = torch.tensor([float(comb(n, length)) for length in range(n + 1)])
    spectrum = PathSpectrum(torch.zeros(n + 1, 1, 3), norm)
    assert spectrum.mean_length / n == pytest.approx(0.5) and long_share(spectrum) == pytest.approx(long)


@pytest.mark.parametrize(("sign", "verdict"), [(1, "supported"), (-1, "refuted")])
def test_opposite_data_turn_the_verdicts_round(
    sign: int, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pretended networks: of nine blocks, with little or much of the gradient on short paths."""

    def pretend(trial: Trial, *_: object) -> Looked:
        noise = (0.01, -0.01, 0.0)[trial.seed % 3]
        low, high = 0.05 + noise, 0.6 + noise
        short, long = (low, high) if sign > 0 else (high, low)
        return Looked(
            [short, *[(1 - short) / 9] * 9], 9 * (0.3 if sign > 0 else 0.7), short, sign * 0.4 + noise, long, short
        )

    monkeypatch.setattr(ensemble_paths, "look", pretend)
    test_error = {"short": 0.1, "preresnet-long": 0.1 if sign > 0 else 0.05, "resnet": 0.1, "preresnet": 0.1}
    trials = pretended("ensemble_paths", tmp_path, lambda _: 0.0, test_error.__getitem__)
    found = STUDY.verdicts(STUDY.measure(STUDY.configure("smoke", {"seeds": SEEDS}), trials))
    assert {claim.verdict for claim in found if claim.kind == "statistical"} == {verdict}


def test_networks_that_short_paths_did_not_train_decide_nothing(tmp_path: Path) -> None:
    trials = pretended("ensemble_paths", tmp_path, lambda group: 0.9 if group == "short" else 0.0, status="diverged")
    found = {
        claim.id.partition(".")[2]: claim
        for claim in STUDY.verdicts(STUDY.measure(STUDY.configure("smoke", {"seeds": SEEDS}), trials))
    }
    short = found["short-paths-are-enough-to-train"]
    assert short.verdict == "untested" and short.reason is not None and short.reason.code == "untrained"
    assert short.reason.values["errors"] == {"short": 0.9}


@pytest.mark.slow  # trains nine networks
def test_smoke(tmp_path: Path) -> None:
    config = STUDY.configure("smoke", {})
    done = run_study(STUDY, config, Directory(tmp_path).prepare(STUDY), local(1))
    again = run_study(STUDY, config, Directory(tmp_path), local(1))
    assert not done.failures and done.record == again.record
