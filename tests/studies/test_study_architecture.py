"""The studies that train nothing: the architecture, counted, and the history, looked up."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from reslab.executors import local
from reslab.experiment.config import StudyConfig
from reslab.experiment.directory import Directory
from reslab.experiment.study import Measurement, Study, run_study
from reslab.experiment.trials import Exactly, Trials
from reslab.measures.blocks import Blocks, five, option_a_keeps, stride
from reslab.networks import zoo
from reslab.networks.anatomy import Operations
from reslab.report.page import write_report
from reslab.studies import architecture, history


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where what is counted is kept."""
    return tmp_path_factory.mktemp("counted")


@pytest.fixture(scope="module")
def measured(place: Path) -> Measurement:
    return architecture.measure(StudyConfig(), Trials({}, kept_in=place))


@pytest.mark.parametrize(
    ("study", "shown"),
    [(architecture.STUDY, "25,557,032"), (history.STUDY, "7.61 %")],
)
@pytest.mark.slow  # 7 s
def test_every_count_is_as_claimed_and_the_report_shows_it(
    study: Study, shown: str, measured: Measurement, tmp_path: Path
) -> None:
    counted = replace(study, measure=lambda *_: measured) if study is architecture.STUDY else study
    directory = Directory(tmp_path / study.name).prepare(counted)
    record = run_study(counted, study.configure("smoke", {}), directory, local(1)).record
    assert {claim.verdict for claim in record.claims} == {"supported"} and not record.trials
    page = write_report([directory.path], tmp_path / "report.html").read_text(encoding="utf-8")
    assert shown in page and study.text.title["ko"] in page


@pytest.mark.slow  # 7 s
def test_what_is_counted_is_kept(measured: Measurement, place: Path) -> None:
    """The second time it is read, and is the same."""
    kept = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    again = architecture.measure(StudyConfig(), Trials({}, kept_in=place))
    assert measured == again and len(kept) > 20
    assert kept == {path: path.stat().st_mtime_ns for path in place.iterdir()}


def test_other_networks_are_counted_as_what_they_are() -> None:
    """The same instruments on torchvision's networks, whose stride is elsewhere, and on a v2 network, whose order is
    another.
    """
    v15 = Blocks("torchvision/resnet50")
    assert set(v15.strided) == {"layer2.0", "layer3.0", "layer4.0"} and v15.strided["layer2.0"] == ["conv2"]
    assert v15.operations("layer1.1") == Blocks("resnet50").operations("layer1.1")
    assert Blocks("preresnet18").operations("layer1.1") == "BN ReLU 3×3 BN ReLU 3×3 +"
    assert Blocks("plain18").operations("layer1.1") == "3×3 BN ReLU 3×3 BN ReLU"
    assert not Blocks("plain18").projections
    net = torchvision.models.resnet18()
    assert [stride(layer) for layer in Blocks("resnet18").projections.values()] == [
        block[0].downsample[0].stride[0] for block in (net.layer2, net.layer3, net.layer4)
    ]


def test_a_basic_pixel_costs_what_arithmetic_says() -> None:
    net = Blocks("resnet18")
    assert net.macs_per_pixel("layer1.0") == 2 * 9 * 64 * 64
    assert net.macs_per_pixel("layer2.0") == 9 * 64 * 128 + 9 * 128 * 128 + 64 * 128


def test_option_a_is_not_the_padding_alone() -> None:
    x = torch.randn(2, 16, 8, 8)
    assert option_a_keeps(x) == ((32, 4, 4), True, True)
    assert nn.functional.pad(x, (0, 0, 0, 0, 0, 16)).shape[2:] == (8, 8), "which could not be added to a 4×4 branch"


def test_operations_are_written_down_in_order() -> None:
    block = nn.Sequential(nn.Conv2d(1, 2, (3, 1)), nn.BatchNorm2d(2), nn.ReLU()).eval()
    with Operations() as operations, torch.no_grad():
        block(torch.randn(1, 1, 4, 4)) + 1
    assert operations.words == ["3×1", "BN", "ReLU", "+"]


def test_a_wrong_count_would_be_refuted(measured: Measurement) -> None:
    parameters = measured.evidence["parameters"]
    assert isinstance(parameters, Exactly)
    assert parameters.measured == [f"{zoo.describe(name).params / 1e6:.1f}M" for name in five()]
    wrong = {**measured.evidence, "parameters": replace(parameters, measured=["11.7M"] * 5)}
    verdicts = {claim.id: claim.verdict for claim in architecture.STUDY.verdicts(Measurement(wrong))}
    assert [id for id, verdict in verdicts.items() if verdict == "refuted"] == ["architecture.parameters"]
