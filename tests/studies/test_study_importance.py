"""How measures of a block's importance agree, on networks whose answer is known."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from helpers import pretended

from reslab.analysis.alike import alike
from reslab.data import load_data
from reslab.experiment.trials import Trial
from reslab.measures.importance import Importance, neighbours
from reslab.measures.importance import importance as measured
from reslab.networks import zoo
from reslab.studies import importance
from reslab.studies.importance import STUDY


@pytest.mark.parametrize(("agreement", "verdict"), [(0.9, "supported"), (-0.9, "refuted")])
def test_opposite_data_turn_the_verdicts_round(
    agreement: float, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noise(trial: Trial) -> float:
        return (0.01, -0.01, 0.0)[trial.seed % 3]

    def ranked(trial: Trial, *_: object) -> Importance:
        found = dict.fromkeys(("turn", "first order", "loss, mean"), agreement + noise(trial))
        return Importance(found, {"layer1.0": 0.1, "layer1.1": 0.2}, {"layer1.0": 1.0, "layer1.1": 2.0})

    def near(trial: Trial, *_: object) -> list[float]:
        return [0.5 + noise(trial) + (agreement / 2 if trial.key != ("plain",) else 0.0)] * 3

    monkeypatch.setattr(importance, "importance", ranked)
    monkeypatch.setattr(importance, "neighbours", near)
    trials = pretended("importance", tmp_path, lambda _: 0.0, seeds=12)
    found = STUDY.verdicts(STUDY.measure(STUDY.configure("smoke", {}), trials))
    assert {claim.verdict for claim in found} == {verdict}


def test_what_is_measured_is_of_the_blocks_that_keep_the_shape() -> None:
    torch.manual_seed(0)
    network = zoo.build("cifar_resnet", depth=14, in_channels=1).eval()
    data = load_data("digits").fitted(32)
    trial = cast(Trial, SimpleNamespace(network=lambda: network, data=lambda: data))
    images, _ = data.sample("test", 16)

    found = measured(trial, 16)
    same = ["layer1.0", "layer1.1", "layer2.1", "layer3.1"]
    assert list(found.turn) == list(found.rise) == same
    assert found.agreement["loss, mean"] <= 1
    near = neighbours(trial, 16)
    assert len(near) == 5
    assert sum(near) / 5 == pytest.approx(alike(network, images).adjacent, abs=1e-5)

    ends: list[torch.Tensor] = []
    block = network.get_submodule("layer1.0")
    block.register_forward_pre_hook(lambda _, inputs: ends.append(inputs[0].clone()))
    block.register_forward_hook(lambda _, inputs, output: ends.append(output.clone()))
    network(images)
    cosine = torch.nn.functional.cosine_similarity(*(end.flatten(1) for end in ends)).mean().item()
    assert found.turn["layer1.0"] == pytest.approx(1 - cosine, abs=1e-5)


def test_networks_that_were_not_trained_decide_nothing(tmp_path: Path) -> None:
    trials = pretended("importance", tmp_path, lambda _: 0.9, status="diverged")
    measured = STUDY.measure(STUDY.configure("smoke", {}), trials)
    assert {claim.reason and claim.reason.code for claim in STUDY.verdicts(measured)} == {"untrained"}
