"""Singular values of blocks' Jacobians."""

from importlib import import_module

import pytest
import torch
import torchvision
from helpers import refused, slow_unless, snapshot
from torch import Tensor, nn

import reslab
from reslab.analysis.jacobian import dense_jacobian, extremes, jacobian
from reslab.analysis.subject import evaluating
from reslab.errors import FailedError, MismatchError, UnknownNameError, UnseenError, WrongValueError
from reslab.residual import view


class LinearBlocks(nn.Module):
    """`x + W x`, then `x + V x`: the Jacobians are I + W and I + V."""

    def __init__(self, n: int = 6) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(n, n, dtype=torch.float64), nn.Linear(n, n, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.first(x)
        return x + self.second(x)


def small(name: str = "cifar_resnet") -> nn.Module:
    return reslab.build(name, depth=8, in_channels=1)


def test_a_linear_block_has_the_singular_values_of_its_matrix() -> None:
    network = LinearBlocks()
    result = jacobian(network, torch.randn(3, 6, dtype=torch.float64))
    for block, layer in zip(result.blocks, (network.first, network.second), strict=True):
        expected = torch.linalg.svdvals(torch.eye(6, dtype=torch.float64) + layer.weight.detach())
        assert block.identity and block.values is not None
        torch.testing.assert_close(block.values, expected.expand(3, 6), rtol=1e-12, atol=1e-12)


def test_the_dense_jacobian_is_that_of_finite_differences() -> None:
    network = small().double().eval()
    seen = view(network, torch.randn(2, 1, 4, 4, dtype=torch.float64))
    x = torch.randn(16 * 16, dtype=torch.float64)

    def block(x: Tensor) -> Tensor:
        return seen.module(0, x.reshape(1, 16, 4, 4)).flatten()

    dense = dense_jacobian(block, x)
    with torch.no_grad():
        h = 1e-6
        differences = torch.stack(
            [(block(x + h * e) - block(x - h * e)) / (2 * h) for e in torch.eye(len(x), dtype=torch.float64)], 1
        )
    torch.testing.assert_close(dense, differences, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", slow_unless(["cifar_preresnet"], ["cifar_resnet", "cifar_preresnet"]))
def test_the_extremes_are_those_of_all_values(name: str) -> None:
    network, images = small(name), torch.randn(1, 1, 4, 4)
    every = jacobian(network, images, ["layer2.0", "layer3.0"], method="all")
    extreme = jacobian(network, images, ["layer2.0", "layer3.0"], method="extreme", steps=300)
    for a, b in zip(every.blocks, extreme.blocks, strict=True):
        torch.testing.assert_close(b.largest, a.largest, rtol=1e-9, atol=0)
        torch.testing.assert_close(b.smallest, a.smallest, rtol=0, atol=1e-9)
        torch.testing.assert_close(b.zero_rows, a.zero_rows)
        assert b.values is None and b.below_one is None and b.converged(1e-6).all()


@pytest.mark.parametrize(("m", "n"), [(30, 20), (20, 30)])
def test_few_steps_give_honest_bounds_and_residuals(m: int, n: int) -> None:
    matrix = torch.randn(m, n, dtype=torch.float64)
    true = torch.linalg.svdvals(matrix)
    largest, smallest, largest_residual, smallest_residual, _ = extremes(
        lambda x: matrix @ x, torch.zeros(n, dtype=torch.float64), 5, 0
    )
    assert largest <= true[0] and smallest >= true[-1]
    assert (true - largest).abs().min() <= largest_residual
    assert (true - smallest).abs().min() <= smallest_residual
    assert smallest_residual > 1e-3, "five steps cannot have converged, and the result must say so"


def test_zero_rows_make_the_smallest_value_zero_at_once() -> None:
    matrix = torch.randn(8, 8, dtype=torch.float64)
    matrix[3] = 0
    _, smallest, _, residual, zero_rows = extremes(lambda x: matrix @ x, torch.zeros(8, dtype=torch.float64), 2, 0)
    assert (smallest, residual, zero_rows) == (0, 0, 1 / 8)
    largest, smallest, residual, _, _ = extremes(lambda x: matrix @ x, torch.zeros(8, dtype=torch.float64), 1, 0)
    assert largest > 0 and residual > 0 and smallest == 0  # of the one value, the largest is known by one step too


def test_a_v2_block_is_the_identity_plus_its_branch() -> None:
    network = small("cifar_preresnet").double().eval()
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    seen = view(network, images)
    index = next(i for i, block in enumerate(seen.blocks) if block.identity)
    live = seen.stem(images[:1])

    def branch(x: Tensor) -> Tensor:
        return seen.sides(index, live._replace(stream=x.reshape(1, 16, 4, 4))).branches[0].flatten()

    x = seen.input(index, live).flatten()
    expected = torch.linalg.svdvals(torch.eye(len(x), dtype=torch.float64) + dense_jacobian(branch, x))
    values = jacobian(network, images, [seen.blocks[index].name]).blocks[0].values
    assert values is not None
    torch.testing.assert_close(values[0], expected, rtol=1e-10, atol=1e-10)


def test_a_block_stretches_by_less_than_one_too() -> None:
    """The chapter's "always at least 1" is refuted by one block of each kind."""
    for name, zeros in (("cifar_resnet", True), ("cifar_preresnet", False)):
        block = jacobian(small(name), torch.randn(2, 1, 4, 4)).blocks[0]
        assert block.smallest.max() < 0.1 and block.largest.min() > 1 and block.below_one is not None
        assert 0.2 < block.below_one.min() < 0.8
        assert bool((block.zero_rows > 0.2).all()) == zeros


def test_statistics_of_the_batch_normalise_as_training_does() -> None:
    network, images = small().double(), 5 + torch.randn(4, 1, 4, 4, dtype=torch.float64)
    with evaluating(network, images), torch.no_grad():
        constants = network(images)
    torch.testing.assert_close(constants, network.train()(images), rtol=1e-10, atol=1e-10)
    stored, batch = (
        jacobian(network, images, ["layer1.0"], method="extreme", steps=20, batch_statistics=given).blocks[0].largest
        for given in (False, True)
    )
    assert (stored - batch).abs().min() > 0.1


def test_other_peoples_networks_and_small_images() -> None:
    network = torchvision.models.resnet18(num_classes=10)  # its ReLUs work in place
    result = jacobian(network, torch.randn(1, 3, 32, 32), method="extreme", steps=3)
    assert len(result.blocks) == 8
    frame = result.to_frame()
    assert list(frame["block"]) == [block.name for block in result.blocks]
    assert frame["below_one"].isna().all() and (frame["largest"] >= frame["smallest"]).all()


def test_a_block_that_is_called_again_has_its_last_relu_each_time() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block = nn.Conv2d(1, 4, 3, padding=1), torchvision.models.resnet.BasicBlock(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for _ in range(3):
                x = self.block(x)
            return x  # type: ignore[no-any-return]  # modules return Any

    torch.manual_seed(0)
    network, x = Recurrent().eval(), torch.randn(1, 1, 5, 5)
    found = jacobian(network, x)
    passed = network.stem(x)
    for block in found.blocks:
        passed = network.block(passed)
        assert block.zero_rows.item() == pytest.approx((passed == 0).double().mean().item()) != 0


def test_the_figure_and_the_table_show_themselves() -> None:
    result = jacobian(small(), torch.randn(2, 1, 4, 4))
    assert len(result.to_frame()) == 3 * 2
    (axes,) = result.figure().axes
    assert "singular" in axes.get_ylabel() and axes.get_xlabel() == "block"
    assert "<svg" in result._repr_html_()


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_found(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small()
    network.get_submodule("layer1").eval()
    next(network.parameters()).requires_grad_(False)
    network(torch.randn(2, 1, 8, 8)).sum().backward()
    before = snapshot(network)
    if fails:
        monkeypatch.setattr(import_module("reslab.analysis.jacobian"), "jacrev", lambda *_, **__: 1 / 0)
        with refused(FailedError, "ZeroDivisionError"):
            jacobian(network, torch.randn(2, 1, 4, 4, generator=torch.Generator()), batch_statistics=True)
    else:
        jacobian(network, torch.ones(2, 1, 4, 4), batch_statistics=True)
    assert snapshot(network) == before


def test_misuse_is_refused_in_one_line() -> None:
    images = torch.randn(2, 1, 4, 4)
    with refused(MismatchError, [2, 3, 4, 4]):
        jacobian(small(), torch.randn(2, 3, 4, 4))
    with refused(UnknownNameError, "'layer9'; did you mean"):
        jacobian(small(), images, ["layer9"])
    with refused(UnseenError, "blocks", "skip"):
        jacobian(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), images)
    with refused(UnknownNameError, "'some'", '"auto", "all"'):
        jacobian(small(), images, method="some")  # type: ignore[arg-type]  # what is refused
    with refused(WrongValueError, "steps", 0):
        jacobian(small(), images, steps=0)
    attention = torchvision.models.VisionTransformer(
        image_size=8, patch_size=4, num_layers=1, num_heads=1, hidden_dim=8, mlp_dim=8
    )
    with refused(UnseenError, 'method="all"'):
        jacobian(attention, torch.randn(1, 3, 8, 8), method="extreme", dtype=torch.float32)
    broken = small()
    nn.init.constant_(next(broken.parameters()), float("nan"))
    with refused(UnseenError, "conv1.weight", "NaN"):
        jacobian(broken, images)
