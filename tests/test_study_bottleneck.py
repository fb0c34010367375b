"""What the bottleneck study reads off the networks, and that another network turns its verdicts round."""

from pathlib import Path

import pytest
import torch

from reslab import studies, zoo
from reslab.claims import check
from reslab.studies.bottleneck import block_checks, partner, stage_checks
from reslab.studies.study import Directory, run_study


def decisions(**options: str) -> dict[str, str]:
    with torch.device("meta"):
        resnet34, resnet50 = zoo.build("resnet34"), zoo.build("resnet50", **options)
    verdicts = [check(evidence) for evidence in (*block_checks(resnet34, resnet50), *stage_checks(resnet50))]
    return {verdict.claim.id.removeprefix("bottleneck."): verdict.decision for verdict in verdicts}


def test_the_papers_network_is_as_claimed() -> None:
    assert set(decisions().values()) == {"supported"} and len(decisions()) == 5


@pytest.mark.parametrize("options", [{"stride_in": "3x3"}, {"shortcut": "A"}])
def test_v15_has_its_strides_elsewhere_and_option_a_no_projections(options: dict[str, str]) -> None:
    assert [claim for claim, decision in decisions(**options).items() if decision == "refuted"] == ["strides-of-resnet-50"]


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
            figures.append((zoo.count_macs(network, torch.empty(1, 1, 8, 8)), zoo.count_params(network)))
    (macs, params), (other_macs, other_params) = figures
    assert abs(other_macs / macs - 1) < 0.02 and abs(other_params / params - 1) < 0.02


@pytest.mark.slow  # trains six networks
def test_smoke(tmp_path: Path) -> None:
    study = studies.find("bottleneck")
    done = run_study(study, study.configure("smoke", {}), Directory(tmp_path).prepare(study), 1, lambda *_: None, lambda *_: None)
    assert not done.failures
    assert [row[2:4] for row in done.record["tables"][0]["rows"]] == [[763_520, 77_754], [1_060_352, 127_354]]
