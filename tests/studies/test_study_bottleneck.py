"""What is equal in the pairs of the bottleneck study."""

from pathlib import Path

import pytest
import torch
from helpers import pretended

from reslab.executors import local
from reslab.experiment.directory import Directory
from reslab.experiment.study import run_study
from reslab.networks import zoo
from reslab.networks.counting import count_macs, count_params
from reslab.studies.bottleneck import STUDY, partner


@pytest.mark.parametrize(("basic", "bottleneck"), [(8, 11), (20, 29), (56, 83), (110, 164)])
def test_partners_have_as_many_blocks(basic: int, bottleneck: int) -> None:
    assert partner(basic) == bottleneck
    counts = []
    for block, depth in (("basic", basic), ("bottleneck", bottleneck)):
        with torch.device("meta"):
            network = zoo.build("cifar_resnet", depth=depth, block=block)
        counts.append([len(network.get_submodule(f"layer{number}")) for number in (1, 2, 3)])  # type: ignore[arg-type]  # nn.Sequential has a length
    assert counts[0] == counts[1]


def test_from_56_layers_on_the_pair_agrees_in_computation_and_parameters() -> None:
    figures = []
    for block, depth in (("basic", 56), ("bottleneck", partner(56))):
        with torch.device("meta"):
            network = zoo.build("cifar_resnet", depth=depth, block=block, shortcut="B", in_channels=1)
            figures.append((count_macs(network, torch.empty(1, 1, 8, 8)), count_params(network)))
    (macs, params), (other_macs, other_params) = figures
    assert abs(other_macs / macs - 1) < 0.02 and abs(other_params / params - 1) < 0.02


def test_pairs_of_other_cost_decide_nothing_whatever_they_learned(tmp_path: Path) -> None:
    trials = pretended("bottleneck", tmp_path, lambda _: 0.0)
    verdicts = STUDY.verdicts(STUDY.measure(STUDY.configure("smoke", {}), trials))
    reasons = [verdict.reason for verdict in verdicts if verdict.kind == "statistical"]
    assert [reason and reason.code for reason in reasons] == ["unequal-costs"] * 2
    assert all(reason and reason.values["networks"] == ["basic-8", "bottleneck-11"] for reason in reasons)


@pytest.mark.slow  # trains six networks
def test_smoke(tmp_path: Path) -> None:
    done = run_study(STUDY, STUDY.configure("smoke", {}), Directory(tmp_path).prepare(STUDY), local(1))
    assert not done.failures
    assert [row[2:4] for row in done.record.tables[0].rows] == [[763_520, 77_754], [1_060_352, 127_354]]
