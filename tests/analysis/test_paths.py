"""The exact path spectrum, against all 2^n paths one by one and against autograd."""

from collections.abc import Callable
from itertools import product
from math import comb
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from helpers_networks import toy_network
from torch import Tensor, nn

from reslab.analysis.inference import faster
from reslab.analysis.paths import PathSpectrum, SampledPaths, path_spectrum, sample_paths
from reslab.errors import MismatchError, UnseenError, WrongValueError
from reslab.networks import zoo
from reslab.residual import View, view
from reslab.state import preserve


def gradient_at_first_block(gated: View, x: Tensor, y: Tensor) -> Tensor:
    """Return autograd's gradient of the mean cross-entropy at the first block's input."""
    with preserve(gated.network):
        live = gated.stem(x)
        first = live.stream.detach().requires_grad_()
        live = live._replace(stream=first.clone())
        for index in range(len(gated)):
            live = gated.block(index, live)
        (gradient,) = torch.autograd.grad(F.cross_entropy(gated.head(live), y), first)
    return gradient


def brute_force(network: nn.Sequential, x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient by length from Jacobians multiplied along each of the 2^n paths, for one image."""
    inputs = [x]
    for block in network:
        inputs.append(block(inputs[-1]))
    sides = []
    for block, value in zip(network, inputs, strict=False):
        functions = (block.shortcut, block.branch)
        sides.append([torch.func.jacrev(lambda v, f=f: f(v[None])[0])(value[0]) for f in functions])  # type: ignore[misc]  # f is bound
    end = inputs[-1].detach().requires_grad_()
    (delta,) = torch.autograd.grad(F.cross_entropy(end, y), end)
    by_length = torch.zeros(len(network) + 1, *x.shape, dtype=x.dtype)
    for path in product((0, 1), repeat=len(network)):
        g = delta[0]
        for sides_of_block, choice in zip(reversed(sides), reversed(path), strict=True):
            g = sides_of_block[choice].T @ g
        by_length[sum(path), 0] += g
    return by_length


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_the_spectrum_is_all_paths_one_by_one(n: int) -> None:
    torch.manual_seed(n)
    network, x, y = toy_network(n), torch.randn(1, 3, dtype=torch.float64), torch.tensor([2])
    spectrum = path_spectrum(network, x, y)
    expected = brute_force(network, x, y)
    assert torch.allclose(spectrum.gradient, expected, rtol=1e-10, atol=1e-12)
    assert torch.allclose(spectrum.norm, expected.flatten(2).norm(dim=2).mean(1), rtol=1e-10)
    assert spectrum.paths == [comb(n, k) for k in range(n + 1)]
    assert float(spectrum.share.sum()) == pytest.approx(1)


class Wrapped(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.network(x)}


@pytest.mark.parametrize("in_place", [False, True])
def test_a_network_may_end_with_an_addition(in_place: bool) -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = nn.ModuleList(block.branch for block in toy_network(3))  # type: ignore[misc]  # Toy's

        def forward(self, x: Tensor) -> Tensor:
            x = x.clone()
            for branch in self.branches:
                if in_place:
                    x += branch(x)
                else:
                    x = x + branch(x)
            return x

    network, x, y = Loop(), torch.randn(2, 3, dtype=torch.float64), torch.tensor([0, 2])
    spectrum = path_spectrum(network, x, y)
    given = value = x.clone().requires_grad_()
    for branch in network.branches:  # autograd itself refuses the network that adds in place
        value = value + branch(value)
    (expected,) = torch.autograd.grad(F.cross_entropy(value, y), given)
    assert torch.allclose(spectrum.gradient.sum(0), expected, rtol=1e-10)
    assert [block.name for block in view(network, x).blocks] == ["branches.0", "branches.1", "branches.2"]
    with refused(UnseenError, "dict"):
        path_spectrum(Wrapped(network), x, y)


@pytest.mark.parametrize(
    ("training", "name"),
    [
        (False, "resnet20"),
        (True, "preresnet20"),
        *(
            pytest.param(training, name, marks=pytest.mark.slow)
            for training, name in (
                *((True, "resnet20"), (False, "preresnet20")),
                *((False, "torchvision/resnet18"), (True, "torchvision/resnet18")),
                *product(
                    (False, True), ("resnet56", "preresnet56", "resnet110", "preresnet110", "torchvision/resnet50")
                ),
            )
        ),
    ],
)
def test_the_lengths_add_up_to_the_gradient(training: bool, name: str) -> None:
    torch.manual_seed(0)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        network, x, y = (
            zoo.build(name).to(dtype).train(training),
            torch.randn(2, 3, 32, 32, dtype=dtype),
            torch.tensor([3, 5]),
        )
        gated = view(network, x)
        if (
            not training and dtype == torch.float32
        ):  # as measured: by a copy, in which some ReLU may round the other way
            gated = faster(gated, x) or gated
        expected = gradient_at_first_block(gated, x, y)
        spectrum = path_spectrum(network, x, y)
        assert spectrum.gradient.shape == (len(view(network, x)) + 1, *expected.shape)
        assert (spectrum.gradient.sum(0) - expected).norm() <= tolerance * expected.norm()


def test_the_only_paths_of_length_0_and_n_are_sampled_exactly() -> None:
    network, x, y = toy_network(4), torch.randn(1, 3, dtype=torch.float64), torch.tensor([0])
    spectrum = path_spectrum(network, x, y)
    sampled = sample_paths(network, x, y, lengths=[0, 4], draws=1)
    assert torch.allclose(sampled.norm, spectrum.norm[[0, 4]])  # there is but one path of each of these lengths


def test_sampling_every_path_of_length_1_gives_their_mean() -> None:
    torch.manual_seed(0)
    network, x, y = toy_network(3), torch.randn(1, 3, dtype=torch.float64), torch.tensor([1])
    sampled = sample_paths(network, x, y, lengths=[1], draws=600, seed=3)
    exact = path_spectrum(network, x, y)
    assert float(sampled.total[0]) >= float(exact.norm[1])  # the triangle inequality, with room for the sampling
    assert sampled.paths == [3]
    assert torch.equal(sample_paths(network, x, y, lengths=[1], draws=600, seed=3).norm, sampled.norm)


def test_the_figures_ticks_are_whole_lengths() -> None:
    lengths, ones = range(8), torch.ones(8)
    for result in (PathSpectrum(ones, ones), SampledPaths(lengths, ones, [1] * 8)):
        assert all(tick == round(tick) for axes in result.figure().axes for tick in axes.get_xticks())


def test_results_show_themselves() -> None:
    network, x, y = toy_network(3), torch.randn(1, 3, dtype=torch.float64), torch.tensor([1])
    for result in (path_spectrum(network, x, y), sample_paths(network, x, y, draws=2)):
        assert len(result.to_frame()) == 4 and "<svg" in result._repr_html_()


def test_nonsense_is_refused_in_one_line() -> None:
    network, x, y = toy_network(3), torch.randn(2, 3, dtype=torch.float64), torch.tensor([1, 2])
    with refused(MismatchError, "labels", [2], [1]):
        path_spectrum(network, x, y[:1])
    with refused(WrongValueError, "lengths", 3, [4]):
        sample_paths(network, x, y, lengths=[4])
    with refused(MismatchError, "[B, 4 or more]", [2, 3]):
        path_spectrum(network, x, torch.tensor([1, 3]))
    for wrong in (network, view(network, x)):
        with refused(MismatchError, [2, 5]) as caught:
            path_spectrum(wrong, torch.randn(2, 5, dtype=torch.float64), y)
        assert "\n" not in str(caught.value)
    images = torch.randn(2, 3, 32, 32)
    with refused(UnseenError, "unit"):
        path_spectrum(zoo.build("plain20"), images, y)
    spoiled = zoo.build("resnet20")
    with torch.no_grad():
        spoiled.conv1.weight[0] = torch.nan
    with refused(UnseenError, "conv1.weight", "NaN"):
        path_spectrum(spoiled, images, y)


@pytest.mark.parametrize("measure", [path_spectrum, sample_paths])
def test_norms_whose_squares_vanish_in_float32_are_measured(measure: Callable[..., Any]) -> None:
    network, x, y = toy_network(2).float(), torch.randn(4, 3), torch.arange(4) % 3
    whole, faint = (
        measure(network, x, y, loss=lambda outputs, labels, scale=scale: F.cross_entropy(outputs, labels) * scale).norm
        for scale in (1.0, 1e-25)
    )
    assert torch.allclose(faint.double() / 1e-25, whole.double(), rtol=1e-3)


def test_paths_through_a_shortcut_without_gradient_carry_none() -> None:
    class Stopped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(nn.Linear(3, 3), nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            return x.detach() + self.branch(x)

    network, y = nn.Sequential(Stopped(), Stopped()).double().eval(), torch.arange(4) % 3
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(F.cross_entropy(network(x), y), x)
    found = path_spectrum(network, x.detach(), y).gradient
    assert not found[:-1].any() and torch.allclose(found[-1], expected)
    assert not sample_paths(network, x.detach(), y, lengths=[0], draws=1).norm.any()
