"""Autocorrelation of gradients along a line of inputs."""

import numpy as np
import pytest
import torch
from helpers import refused, snapshot
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

import reslab
from reslab.analysis.shattering import autocorrelation, shattering
from reslab.errors import MismatchError, UnseenError, UserError, WrongValueError
from reslab.residual import view


class Plain(nn.Sequential):
    """BN, ReLU, linear: `[B, 100] -> [B, 100]`."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm1d(100), nn.ReLU(), nn.Linear(100, 100))


class Residual(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def mlp(depth: int, block: type[nn.Module] = Plain) -> nn.Module:
    """Return one of the paper's minimal networks: layers of 100 units from one number to one, with BatchNorm, He
    initialisation.
    """
    network = nn.Sequential(
        nn.Linear(1, 100), *(block() for _ in range(depth - 1)), nn.BatchNorm1d(100), nn.ReLU(), nn.Linear(100, 1)
    )
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    nn.init.normal_(network[0].bias)
    return network.double()


LINE = torch.tensor([[-2.0], [2.0]], dtype=torch.float64)


@given(
    arrays(np.float64, st.tuples(st.integers(4, 12), st.integers(1, 3)), elements=st.floats(-10, 10, width=32)),
    st.integers(1, 3),
)
def test_it_is_one_at_lag_zero_and_never_more(series: np.ndarray, lags: int) -> None:
    values = autocorrelation(series, lags)
    assert values[0] == 1
    assert (np.abs(values) <= 1 + 1e-12).all()


def test_it_is_the_formula_on_a_series_by_hand() -> None:
    series = np.array([[1.0], [-1.0], [1.0], [-1.0]])  # alternating signs: z = series
    np.testing.assert_allclose(autocorrelation(series, 3), [1, -3 / 4, 2 / 4, -1 / 4])


def test_random_signs_are_white() -> None:
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (256, 1000))
    values = autocorrelation(signs, 15)
    expected = -(256 - np.arange(1, 16)) / (256 * 255)  # what centring leaves
    np.testing.assert_allclose(values[1:], expected, atol=4 / np.sqrt(256 * 1000))


def test_a_linear_network_has_one_gradient_and_by_convention_correlation_one() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    result = shattering(network, torch.randn(2, 1, 8, 8), logit=3)
    np.testing.assert_allclose(result.gradients, network[1].weight[3].detach().numpy()[None].repeat(256, 0), rtol=1e-6)
    assert (result.autocorrelation == 1).all()


def test_a_quadratic_has_a_gradient_that_grows_along_the_line() -> None:
    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x**2).sum(1, keepdim=True)

    result = shattering(Square(), LINE, points=5, lags=2)
    np.testing.assert_allclose(result.gradients[:, 0], [-4, -2, 0, 2, 4], atol=1e-12)
    np.testing.assert_allclose(result.autocorrelation, [1, 0.4, -0.1], atol=1e-12)  # (8+0+0+8)/40, (0-4+0)/40


def test_depth_shatters_the_gradient_of_a_plain_network_but_not_of_a_residual_one() -> None:
    """Balduzzi et al., Fig. 1: one layer is near brown noise, 24 plain layers are near white, and 50 residual ones are
    between.
    """

    def near(depth: int, block: type[nn.Module]) -> float:
        runs = [shattering(mlp(depth, block), LINE, batch_statistics=True) for _ in range(3)]
        return float(np.mean([run.autocorrelation[1] for run in runs]))

    shallow, plain, residual = near(1, Plain), near(24, Plain), near(50, Residual)
    assert shallow > 0.95 and abs(plain) < 0.2 and 0.4 < residual < 0.9


def test_chunks_are_the_whole_and_a_view_is_its_network() -> None:
    network, images = (
        reslab.build("cifar_resnet", depth=8, in_channels=1).double(),
        torch.randn(2, 1, 8, 8, dtype=torch.float64),
    )
    result = shattering(network, images, points=70, lags=3, batch_statistics=True)
    assert result.gradients.shape == (70, 64)
    np.testing.assert_array_equal(
        shattering(view(network, images), images, points=70, lags=3, batch_statistics=True).gradients, result.gradients
    )
    x = images[:1].clone().requires_grad_()
    network.eval()(x)[0, 0].backward()
    assert x.grad is not None
    stored = shattering(network, images, points=70, lags=3).gradients
    np.testing.assert_allclose(stored[0], x.grad.flatten(), rtol=1e-9, atol=1e-12)


def test_the_figure_and_the_table_show_themselves() -> None:
    result = shattering(mlp(2), LINE, points=32, lags=4)
    assert list(result.to_frame().columns) == ["lag", "gradient", "white", "brown"] and len(result.to_frame()) == 5
    (axes,) = result.figure().axes
    assert "32 points" in axes.get_xlabel() and axes.get_ylabel() == "autocorrelation"


@pytest.mark.parametrize("logit", [0, 99])
def test_the_network_is_left_as_found(logit: int) -> None:
    network, images = reslab.build("cifar_resnet", depth=8, in_channels=1), torch.randn(2, 1, 8, 8)
    network.get_submodule("layer1").eval()
    next(network.parameters()).requires_grad_(False)
    network(images).sum().backward()
    before = snapshot(network)
    try:
        with torch.no_grad():
            shattering(network, images, points=8, lags=2, logit=logit, batch_statistics=True)
    except UserError as error:
        assert logit == 99 and "logit 99" in str(error)
    assert snapshot(network) == before


def test_misuse_is_refused_in_one_line() -> None:
    with refused(WrongValueError, "images", [2, 1]):
        shattering(mlp(1), torch.zeros(2, 1))
    with refused(WrongValueError, "images", [3, 1]):
        shattering(mlp(1), torch.zeros(3, 1))
    with refused(WrongValueError, "lags", 9, 10):
        shattering(mlp(1), LINE, points=10, lags=10)
    with refused(MismatchError, [2, 1, 8, 8]):
        shattering(mlp(1), torch.randn(2, 1, 8, 8, dtype=torch.float64))
    with refused(MismatchError, "logit 0", "[B, more than 0]"):
        shattering(nn.Conv2d(1, 1, 1), torch.randn(2, 1, 8, 8))
    broken = mlp(1)
    nn.init.constant_(next(broken.parameters()), float("inf"))
    with refused(UnseenError, "0.weight", "NaN"):
        shattering(broken, LINE)
