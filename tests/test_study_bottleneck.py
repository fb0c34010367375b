"""What is equal in the pairs of the bottleneck study."""

from pathlib import Path

import pytest
import torch

from reslab import studies
from reslab.executors import local
from reslab.networks import zoo
from reslab.networks.counting import count_macs, count_params
from reslab.studies.bottleneck import partner
from reslab.studies.directory import Directory
from reslab.studies.study import run_study


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


@pytest.mark.slow  # trains six networks
def test_smoke(tmp_path: Path) -> None:
    study = studies.find("bottleneck")
    done = run_study(study, study.configure("smoke", {}), Directory(tmp_path).prepare(study), local(1), lambda *_: None)
    assert not done.failures
    assert [row[2:4] for row in done.record.tables[0].rows] == [[763_520, 77_754], [1_060_352, 127_354]]
