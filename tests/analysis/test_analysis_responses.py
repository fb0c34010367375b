"""Standard deviations of layer responses."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
import torchvision
from helpers import Fails, refused, snapshot
from torch import Tensor, nn

import reslab
from reslab.analysis.responses import responses
from reslab.errors import FailedError, MismatchError, UnseenError
from reslab.residual import view


def small(name: str = "cifar_resnet") -> nn.Module:
    return reslab.build(name, depth=8, in_channels=1)


def test_a_convolution_without_batchnorm_is_measured_itself() -> None:
    network, images = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 3)), torch.randn(5, 1, 8, 8)
    first = network[0](images)
    result = responses(network, images)
    assert [layer.layer for layer in result.layers] == ["0", "2"]
    assert result.layers[0].std == pytest.approx(first.std(correction=0).item(), rel=1e-6)
    assert result.layers[1].std == pytest.approx(network[2](first.relu()).std(correction=0).item(), rel=1e-6)


def test_batchnorm_comes_before_the_measurement_and_relu_after() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    nn.init.constant_(network[1].weight, 2.0)
    (layer,) = responses(network, torch.randn(64, 1, 8, 8), batch_statistics=True).layers
    assert (layer.convolution, layer.layer) == ("0", "1")
    assert layer.std == pytest.approx(2.0, rel=1e-4)  # normalised to 1, times the weight; rectified it would be 1.17


def test_v1_is_measured_after_every_batchnorm_and_v2_also_where_the_branch_meets_the_addition() -> None:
    images = torch.randn(2, 1, 8, 8)
    v1 = [layer.layer for layer in responses(small(), images).layers]
    assert v1[:3] == ["bn1", "layer1.0.bn1", "layer1.0.bn2"] and len(v1) == 7
    v2 = {layer.convolution: layer.layer for layer in responses(small("cifar_preresnet"), images).layers}
    assert v2["layer1.0.conv1"] == "layer1.0.bn2" and v2["layer1.0.conv2"] == "layer1.0.conv2" and len(v2) == 7


def test_the_stds_are_those_of_a_forward_by_hand() -> None:
    network, images = small().eval(), torch.randn(4, 1, 8, 8)
    stds = {layer.layer: layer.std for layer in responses(network, images).layers}
    stem = network.bn1(network.conv1(images))
    block = network.get_submodule("layer1.0")
    assert stds["bn1"] == pytest.approx(stem.std(correction=0).item(), rel=1e-6)
    assert stds["layer1.0.bn2"] == pytest.approx(block.branch(F.relu(stem)).std(correction=0).item(), rel=1e-6)


def test_a_view_and_other_peoples_networks() -> None:
    network, images = small(), torch.randn(2, 1, 8, 8)
    assert responses(view(network, images), images) == responses(network, images)
    network = torchvision.models.resnet50(num_classes=10)
    result = responses(network, torch.randn(1, 3, 32, 32))
    assert len(result.layers) == 16  # the 3×3 layers; the stem is 7×7
    everything = responses(network, torch.randn(1, 3, 32, 32), kernel=None)
    assert len(everything.layers) == 53


def test_an_activation_inside_a_layer_comes_after_the_response() -> None:
    class Activated(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu()

    class Convolved(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu_()

    images, conv, own = torch.randn(8, 1, 8, 8), nn.Conv2d(1, 4, 3), Convolved(1, 4, 3)
    own.load_state_dict(conv.state_dict())
    apart, together = (
        responses(nn.Sequential(conv, bn), images, batch_statistics=True).layers[0]
        for bn in (nn.BatchNorm2d(4), Activated(4))
    )
    assert together == apart and apart.layer == "1"
    assert responses(nn.Sequential(own), images).layers == responses(nn.Sequential(conv), images).layers


def test_the_figure_and_the_table_show_themselves() -> None:
    result = responses(small(), torch.randn(2, 1, 8, 8))
    assert list(result.to_frame().columns) == ["convolution", "layer", "std"]
    top, bottom = result.figure().axes
    assert sorted(top.lines[0].get_ydata(), reverse=True) == list(bottom.lines[0].get_ydata())
    assert "std" in top.get_ylabel() and "layer" in top.get_xlabel()


@pytest.mark.parametrize("batch_statistics", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_found(fails: bool, batch_statistics: bool) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), Fails(call=3) if fails else nn.ReLU())
    network[1].eval()
    network[0].weight.requires_grad_(False)
    before = snapshot(network)
    with refused(FailedError, "RuntimeError: midway") if fails else nullcontext():
        responses(network, torch.ones(3, 1, 8, 8), batch_statistics=batch_statistics)
    assert snapshot(network) == before


def test_a_snapshot_sees_what_changes() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    before = snapshot(network)
    network[0].register_forward_hook(lambda *_: None)
    assert snapshot(network) != before
    for change in (
        network.eval,
        lambda: network[1].running_mean.add_(1),
        lambda: network[0].weight.data.add_(1),
        lambda: torch.rand(1),
    ):
        before = snapshot(network)
        change()
        assert snapshot(network) != before


def test_misuse_is_refused_in_one_line() -> None:
    with refused(MismatchError, [2, 3, 8, 8]):
        responses(small(), torch.randn(2, 3, 8, 8))
    with refused(UnseenError, "5×5", "kernel=None"):
        responses(small(), torch.randn(2, 1, 8, 8), kernel=5)
    with refused(UnseenError, "convolution"):
        responses(nn.Flatten(), torch.randn(2, 1, 8, 8), kernel=None)
    broken = small()
    nn.init.constant_(next(broken.parameters()), float("nan"))
    with refused(UnseenError, "conv1.weight", "NaN"):
        responses(broken, torch.randn(2, 1, 8, 8))


@pytest.mark.parametrize("between", [nn.ReLU, nn.Hardtanh])
def test_what_is_written_into_a_response_is_none_of_it(between: type[nn.ReLU]) -> None:
    conv, images = nn.Conv2d(1, 4, 3), torch.randn(8, 1, 8, 8)
    apart, in_place = (
        responses(nn.Sequential(conv, between(inplace=way), nn.BatchNorm2d(4)).eval(), images) for way in (False, True)
    )
    assert apart == in_place and apart.layers[0].layer == "0"


def test_each_convolution_has_its_own_batchnorm_in_whatever_order_they_run() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3)
            self.norm_a, self.norm_b = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.a(x), self.b(x)
            return self.norm_a(a) + self.norm_b(b)

    found = responses(Both().eval(), torch.randn(8, 1, 8, 8)).layers
    assert [(layer.convolution, layer.layer) for layer in found] == [("a", "norm_a"), ("b", "norm_b")]


def test_a_convolution_whose_weight_is_computed_has_its_layers_name() -> None:
    class Equalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.weight / 6, padding=1)

    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), Equalised(), nn.ReLU(), Equalised()).eval()
    found = responses(network, torch.randn(8, 1, 8, 8)).layers
    assert [layer.convolution for layer in found] == ["0", "2", "4"]
