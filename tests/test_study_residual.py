"""The study of residual learning: its algebra against oracles, and one run."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from reslab import studies
from reslab.executors import local
from reslab.ledger.verdict import check
from reslab.networks import zoo
from reslab.studies.residual_learning import algebra, changes
from reslab.studies.study import Directory, over_seeds, run_study


def test_the_algebra_is_as_claimed() -> None:
    assert {check(evidence).verdict for evidence in algebra()} == {"supported"}


def test_changes_are_those_of_hooks() -> None:
    network, images = zoo.build("cifar_resnet", depth=14, in_channels=1), torch.randn(16, 1, 8, 8)
    measured, found = changes(network, images), []

    def note(block: torch.nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        x = inputs[0]
        found.append(float((block.branch(x).square().mean() / x.square().mean()).sqrt()))  # type: ignore[operator]  # a BasicBlock

    for name in ("layer1.0", "layer1.1", "layer2.1", "layer3.1"):
        network.get_submodule(name).register_forward_hook(note)
    network.train()  # normalises with the batch, as `changes` does
    with torch.no_grad():
        network(images)
    assert measured == pytest.approx(found, rel=1e-4)


def test_over_seeds_by_hand() -> None:
    series = over_seeds("a", [0.0, 1.0], {0: [1.0, 2.0], 3: [3.0, 2.0]})
    assert list(series.y) == [2.0, 2.0] and series.spread == pytest.approx([2**0.5, 0.0])
    assert over_seeds("a", [0.0], {0: [1.0]}).spread is None


@pytest.mark.slow  # trains small networks
def test_a_smoke_run_decides_every_claim(tmp_path: Path) -> None:
    study = studies.find("residual_learning")
    config = study.configure("smoke", {})
    record = run_study(study, config, Directory(tmp_path).prepare(study), local(1), lambda *_: None).record
    assert len(record["claims"]) == len(study.claims) and record["charts"]
