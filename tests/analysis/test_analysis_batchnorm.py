"""Smoothness of the loss and the shift of layers' inputs, with and without BatchNorm."""

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
import torchvision
from helpers import Fails, refused, snapshot
from torch import Tensor, nn

import reslab
from reslab.analysis.batchnorm import covariate_shift, loss_smoothness, without_batchnorm
from reslab.errors import FailedError, MismatchError, UnknownNameError, UnseenError, UserError, WrongValueError
from reslab.residual import view

IMAGES = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 3, 4, 9])


def small(name: str = "cifar_resnet") -> nn.Module:
    return reslab.build(name, depth=8, in_channels=1)


class Point(nn.Module):
    """A network whose output is its parameter, so that the loss can be any function of it."""

    def __init__(self, start: list[float]) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.place * x.new_ones(())


ONE = (torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64))


def test_a_quadratic_has_its_own_curvature_at_every_step() -> None:
    """L = c/2 · ‖θ‖²: the gradient is cθ, its change over the distance c, and a step of s gives (1 - sc)²
    of the loss.
    """
    c = 3.0
    result = loss_smoothness(
        Point([1.0, -2.0]), *ONE, learning_rate=0.1, loss=lambda out, _: c / 2 * out.square().sum()
    )
    assert result.beta == pytest.approx(c, rel=1e-12)
    assert result.gradient_norm == pytest.approx(c * math.sqrt(5))
    torch.testing.assert_close(result.losses, result.loss * (1 - c * result.step) ** 2)
    assert result.predictiveness == pytest.approx(0.4 * c * c * math.sqrt(5))
    assert result.loss_range == (result.losses.min().item(), result.losses.max().item())


def test_a_quadratic_of_two_curvatures_has_what_its_gradient_sees() -> None:
    hessian = torch.diag(torch.tensor([1.0, 10.0], dtype=torch.float64))
    result = loss_smoothness(Point([1.0, 1.0]), *ONE, loss=lambda out, _: out @ hessian @ out / 2)
    gradient = hessian.sum(1)
    assert result.beta == pytest.approx(((hessian @ gradient).norm() / gradient.norm()).item(), rel=1e-12)


def test_the_shift_of_two_linear_layers_is_the_formula() -> None:
    """L = y²/2, y = b·a·x for numbers: G_b = y·a·x; after a's step it is (b·a'·x)·(a'·x)."""
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    a, b, x, rate = 2.0, 0.5, 1.5, 0.1
    nn.init.constant_(network[0].weight, a)
    nn.init.constant_(network[1].weight, b)
    result = covariate_shift(
        network, torch.full((1, 1), x).double(), ONE[1], learning_rate=rate, loss=lambda out, _: out.square().sum() / 2
    )
    first, second = result.layers
    moved = a - rate * b * a * x * b * x
    assert (first.layer, first.change) == ("0", 0) and first.cosine == pytest.approx(1)
    assert second.gradient_norm == pytest.approx(b * a * a * x * x)
    assert second.change == pytest.approx(b * a * a * x * x - b * moved * moved * x * x)


def test_the_shift_is_that_of_an_update_by_hand() -> None:
    network = small().double().train()
    images, name, rate = IMAGES.double(), "layer2.0.conv1", 0.05
    result = {layer.layer: layer for layer in covariate_shift(network, images, LABELS, learning_rate=rate).layers}
    twin = copy.deepcopy(network)
    F.cross_entropy(twin(images), LABELS).backward()
    before = twin.get_parameter(f"{name}.weight").grad
    assert before is not None
    with torch.no_grad():
        for path, parameter in twin.named_parameters():
            if path.startswith(("conv1", "bn1", "layer1")):
                parameter -= rate * parameter.grad  # type: ignore[operator]  # it has one
    after = torch.autograd.grad(F.cross_entropy(twin(images), LABELS), twin.get_parameter(f"{name}.weight"))[0]
    assert result[name].change == pytest.approx((before - after).norm().item(), rel=1e-9)
    assert result[name].cosine == pytest.approx(
        F.cosine_similarity(before.flatten(), after.flatten(), dim=0).item(), rel=1e-9
    )
    assert next(iter(result)) == "conv1" and list(result)[-1] == "fc" and result["conv1"].change == 0
    (chosen,) = covariate_shift(network, images, LABELS, learning_rate=rate, layers=[name]).layers
    assert chosen == result[name]


def test_the_losses_are_those_of_steps_by_hand_with_statistics_of_the_batch() -> None:
    network = small().double().eval()
    images = IMAGES.double()
    result = loss_smoothness(network, images, LABELS, multiples=[2.0])
    network.train()
    loss = F.cross_entropy(network(images), LABELS)
    loss.backward()
    assert result.loss == pytest.approx(loss.item(), rel=1e-12)
    torch.optim.SGD(network.parameters(), lr=0.2).step()
    assert result.losses.item() == pytest.approx(F.cross_entropy(network(images), LABELS).item(), rel=1e-10)


def test_parameters_that_do_not_train_do_not_move() -> None:
    network = small().requires_grad_(False)
    network.get_submodule("fc").requires_grad_(True)
    assert [layer.layer for layer in covariate_shift(network, IMAGES, LABELS).layers] == ["fc"]
    fc = loss_smoothness(network, IMAGES, LABELS)
    assert fc.gradient_norm < loss_smoothness(network.requires_grad_(True), IMAGES, LABELS).gradient_norm


def test_without_batchnorm_is_a_copy_with_identities() -> None:
    network = small()
    before = snapshot(network)
    bare = without_batchnorm(network)
    assert snapshot(network) == before
    assert not any(isinstance(module, nn.BatchNorm2d) for module in bare.modules())
    assert isinstance(bare.get_submodule("layer1.0.bn1"), nn.Identity) and type(bare) is type(network)
    torch.testing.assert_close(
        bare.eval()(IMAGES), network.eval()(IMAGES), rtol=1e-3, atol=1e-3
    )  # new BatchNorms in evaluation mode only divide by √(1 + eps)
    assert bare.conv1.weight is not network.conv1.weight
    assert without_batchnorm(view(network, IMAGES)).conv1.weight.equal(network.conv1.weight)


@pytest.mark.slow
def test_other_peoples_networks() -> None:
    network, images = torchvision.models.mobilenet_v2(num_classes=10), torch.randn(6, 3, 32, 32)
    assert loss_smoothness(network, images, LABELS, multiples=[1.0]).beta > 0
    shift = covariate_shift(network, images, LABELS, layers=["features.0.0", "classifier.1"])
    assert [layer.change > 0 for layer in shift.layers] == [False, True]
    assert loss_smoothness(without_batchnorm(network), images, LABELS, multiples=[1.0]).beta > 0


def test_the_figures_and_the_tables_show_themselves() -> None:
    smooth, shift = loss_smoothness(small(), IMAGES, LABELS), covariate_shift(small(), IMAGES, LABELS)
    assert (
        list(smooth.to_frame().columns) == ["step", "loss", "gradient_change", "change_over_distance"]
        and len(smooth.to_frame()) == 8
    )
    assert (
        list(shift.to_frame().columns) == ["layer", "gradient_norm", "change", "cosine"] and len(shift.to_frame()) == 8
    )
    for figure, panels in ((smooth.figure(), 3), (shift.figure(), 2)):
        assert len(figure.axes) == panels and all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)


@pytest.mark.parametrize("analysis", [loss_smoothness, covariate_shift])
@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_found(analysis: Callable[..., object], fails: bool) -> None:
    network = small()
    network.relu = Fails(call=5) if fails else nn.ReLU()
    network.get_submodule("layer1").eval()
    next(network.parameters()).requires_grad_(False)
    network(IMAGES).sum().backward()
    before = snapshot(network)
    with torch.no_grad(), refused(FailedError, "RuntimeError: midway") if fails else nullcontext():
        analysis(network, IMAGES, LABELS)
    assert snapshot(network) == before


@pytest.mark.parametrize("analysis", [loss_smoothness, covariate_shift])
def test_misuse_is_refused_in_one_line(analysis: Callable[..., object]) -> None:
    def refuse(
        kind: type[UserError], values: list[object], network: nn.Module, *batch: Tensor, **settings: object
    ) -> None:
        with refused(kind, *values):
            analysis(network, *(batch or (IMAGES, LABELS)), **settings)

    refuse(MismatchError, ["labels", [6], [5]], small(), IMAGES, LABELS[:5])
    refuse(MismatchError, ["[B, 11 or more]", [6, 10]], small(), IMAGES, LABELS + 1)
    refuse(MismatchError, [[6, 3, 8, 8]], small(), IMAGES.expand(6, 3, 8, 8), LABELS)
    refuse(WrongValueError, [0.0], small(), learning_rate=0.0)
    refuse(UnseenError, ["requires_grad"], small().requires_grad_(False))
    broken = small()
    nn.init.constant_(next(broken.parameters()), float("nan"))
    refuse(UnseenError, ["conv1.weight", "NaN"], broken)


def test_misuse_of_one_is_refused_in_one_line() -> None:
    with refused(UnseenError, "zero"):
        loss_smoothness(Point([0.0]), *ONE, loss=lambda out, _: out.square().sum())
    with refused(UnknownNameError, "'layer9'", "conv1, layer1.0.conv1"):
        covariate_shift(small(), IMAGES, LABELS, layers=["layer9"])
    with refused(UnseenError, "BatchNorm"):
        without_batchnorm(nn.Linear(1, 1))

    class OwnNorm(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).relu()

    with refused(UnseenError, "1", "OwnNorm"):
        without_batchnorm(nn.Sequential(nn.Conv2d(1, 2, 3), OwnNorm(2)))
