"""What the BatchNorm study computes, on networks and errors whose answer is known."""

from math import log10
from pathlib import Path

import pytest
import torch
from helpers import tiny_trial
from test_study_ensemble_paths import Block
from torch import Tensor, nn

from reslab import studies, zoo
from reslab.analysis.batchnorm import CovariateShift, LayerShift, without_batchnorm
from reslab.claims import Comparison, decide
from reslab.executors import local, run_trial
from reslab.runs import Run
from reslab.studies import batchnorm_role
from reslab.studies.batchnorm_role import EXPLODES, RATE, SHIFT, along_first_epoch, best_rate, branch_share, largest_usable, turned
from reslab.studies.study import Directory, Trial, run_study


def test_the_largest_usable_rate_of_each_seed() -> None:
    errors = {0.01: {0: 0.4, 1: 0.9, 2: 0.9}, 0.1: {0: 0.1, 1: 0.49, 2: 0.5}, 1.0: {0: 0.3, 1: 0.9, 2: 1.0}}
    assert largest_usable(errors) == pytest.approx({0: 0, 1: -1, 2: log10(0.001)})


def test_the_best_rate_is_of_the_mean() -> None:
    assert best_rate({0.01: {0: 0.3, 1: 0.3}, 0.1: {0: 0.0, 1: 0.5}, 1.0: {0: 0.25, 1: 0.25}}) == 0.1


def test_the_branch_share_is_that_of_squares() -> None:
    network = nn.Sequential(Block(0.5, 0.0), Block(2.0, 0.0))
    assert branch_share(network, torch.randn(4, 3)) == pytest.approx((0.2 + 0.8) / 2)


def test_batchnorm_makes_the_branch_smaller() -> None:
    torch.manual_seed(0)
    network, images = zoo.build("cifar_preresnet", depth=32, in_channels=1), torch.randn(16, 1, 8, 8)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert branch_share(network, images) < branch_share(without_batchnorm(network), images)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_gradient_that_overflowed_has_turned_by_a_right_angle(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = tuple(LayerShift("layer", 1.0, 1.0, cosine) for cosine in (1.0, 0.5, float("nan")))
    monkeypatch.setattr(batchnorm_role, "covariate_shift", lambda *_, **__: CovariateShift(layers, 0.1))
    assert turned(nn.Identity(), torch.zeros(1), torch.zeros(1), 0.1) == pytest.approx(0.75)  # the first layer has none before it


def test_the_first_epoch_is_replayed_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_trial(epochs=1)
    trial = Trial("with", config, run_trial(config, tmp_path), Run(tmp_path, config))
    seen: list[dict[str, Tensor]] = []

    def record(network: nn.Module, *_: object) -> float:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return 0.0

    monkeypatch.setattr(batchnorm_role, "turned", record)
    files = {path: path.stat().st_mtime_ns for path in trial.run.path.iterdir()}
    along_first_epoch(trial)
    trained = trial.network().state_dict()
    assert len(seen) == 4 and all(torch.equal(value, trained[name]) for name, value in seen[-1].items())
    assert not torch.equal(seen[0]["fc.weight"], trained["fc.weight"])
    assert {path: path.stat().st_mtime_ns for path in trial.run.path.iterdir()} == files


def test_opposite_data_turn_the_verdicts_round() -> None:
    def verdicts(sign: float) -> list[str]:
        effects = {seed: 2 * sign + noise for seed, noise in enumerate([0.01, -0.01, 0.0, 0.02, -0.02])}
        return [
            verdict.decision for verdict in decide([Comparison(claim, effects, dict.fromkeys(effects, 0.0)) for claim in (RATE, EXPLODES, SHIFT)])
        ]

    assert verdicts(1) == ["supported", "supported", "refuted"] and verdicts(-1) == ["refuted", "refuted", "supported"]


@pytest.mark.slow  # trains twelve networks
def test_smoke(tmp_path: Path) -> None:
    study = studies.find("batchnorm_role")
    config = study.configure("smoke", {})
    done = run_study(study, config, Directory(tmp_path).prepare(study), local(1), lambda *_: None, lambda *_: None)
    again = run_study(study, config, Directory(tmp_path), local(1), lambda *_: None, lambda *_: None)
    assert not done.failures and done.record == again.record
