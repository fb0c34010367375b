"""Winograd's convolution against torch's."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from reslab.speedrun import winograd as module
from reslab.speedrun.winograd import FastConvolutions, direct, winograd

Convolution = Callable[[Tensor, Tensor, int], Tensor]


def outcomes(convolution: Convolution, x: Tensor, weight: Tensor, padding: int, pull: Tensor) -> list[Tensor]:
    """Return the convolution, and the gradients of both tensors."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = convolution(x, weight, padding)
    return [y.detach(), *torch.autograd.grad(y, (x, weight), pull)]


@given(
    b=st.integers(1, 3),
    c=st.integers(1, 4),
    o=st.integers(1, 4),
    h=st.integers(1, 13),
    w=st.integers(1, 13),
    padding=st.sampled_from([0, 1]),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    seed=st.integers(0, 99),
)
def test_it_is_the_convolution_of_any_size_and_so_are_its_gradients(
    b: int, c: int, o: int, h: int, w: int, padding: int, layout: torch.memory_format, seed: int
) -> None:
    drawn, border = torch.Generator().manual_seed(seed), 2 - 2 * padding
    shapes = ((b, c, h + border, w + border), (o, c, 3, 3), (b, o, h, w))
    x, weight, pull = (
        torch.randn(*shape, generator=drawn, dtype=torch.double).contiguous(memory_format=layout) for shape in shapes
    )
    for got, expected in zip(*(outcomes(each, x, weight, padding, pull) for each in (winograd, direct)), strict=True):
        assert got.shape == expected.shape
        assert torch.allclose(got, expected, atol=1e-11)


def test_its_gradients_have_gradients() -> None:
    torch.manual_seed(0)
    x, weight = (torch.randn(*shape, dtype=torch.double, requires_grad=True) for shape in ((1, 2, 5, 3), (2, 2, 3, 3)))
    assert torch.autograd.gradgradcheck(winograd, (x, weight, 1))


def test_in_float32_its_error_is_some_1e_5_of_the_largest_value() -> None:
    """Direct convolution's is some 1e-7."""
    torch.manual_seed(0)
    x, weight, pull = torch.randn(8, 64, 15, 15), torch.randn(256, 64, 3, 3), torch.randn(8, 256, 15, 15)
    exact = outcomes(direct, x.double(), weight.double(), 1, pull.double())
    for got, expected in zip(outcomes(winograd, x, weight, 1, pull), exact, strict=True):
        assert got.dtype == torch.float32
        assert (got - expected).abs().max() < 2e-5 * expected.abs().max()


def noted(function: Convolution, used: list[Tensor]) -> Convolution:
    """Return the function, which notes the weights that it is called with."""

    def noting(x: Tensor, weight: Tensor, padding: int) -> Tensor:
        used.append(weight)
        return function(x, weight, padding)

    return noting


def test_only_the_convolutions_that_it_suits_are_replaced_and_only_while_it_is_entered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[Tensor] = []
    monkeypatch.setattr(module, "seconds", lambda convolution, *_: float(convolution is direct))
    monkeypatch.setattr(module, "winograd", noted(winograd, used))
    torch.manual_seed(0)
    x = torch.randn(2, 64, 5, 5).contiguous(memory_format=torch.channels_last)
    wide, bare = (nn.Conv2d(64, 256, 3, padding=padding, bias=False) for padding in (1, 0))
    others = [
        nn.Conv2d(64, 256, 3, padding=1),
        nn.Conv2d(64, 256, 3, padding=(0, 1), bias=False),
        nn.Conv2d(64, 256, 3, padding=2, bias=False),
        nn.Conv2d(64, 256, 3, padding=1, stride=2, bias=False),
        nn.Conv2d(64, 256, 3, padding=1, dilation=2, bias=False),
        nn.Conv2d(64, 1024, 3, padding=1, groups=2, bias=False),
        nn.Conv2d(64, 256, 5, padding=1, bias=False),
        nn.Conv2d(64, 256, 3, padding="same", bias=False),
    ]
    expected = [layer(x) for layer in others]
    with FastConvolutions():
        y, inner = wide(x), bare(x)
        assert all(torch.equal(layer(x), before) for layer, before in zip(others, expected, strict=True))
        with torch.autocast("cpu", torch.bfloat16):
            assert wide(x).dtype == torch.bfloat16
        F.conv2d(x.double(), wide.weight.double(), padding=1)
    assert torch.equal(wide(x), direct(x, wide.weight, 1))
    assert len(used) == 2 and used[0] is wide.weight and used[1] is bare.weight
    for got, layer, padding in ((y, wide, 1), (inner, bare, 0)):
        assert got.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(got, direct(x, layer.weight, padding), atol=1e-4)


@pytest.mark.parametrize("slow", ["winograd", "direct"])
def test_the_slower_way_is_not_taken_after_one_trial_for_each_size(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Tensor] = []
    monkeypatch.setattr(module, "winograd", noted(winograd, used))
    timed: list[torch.Size] = []

    def seconds(convolution: Convolution, x: Tensor, weight: Tensor, padding: int) -> float:
        timed.append(x.shape)
        return 2.0 if (convolution is direct) == (slow == "direct") else 1.0

    monkeypatch.setattr(module, "seconds", seconds)
    layers = [nn.Conv2d(4, 4, 3, padding=padding, bias=False) for padding in (0, 1)]
    with FastConvolutions():
        for layer, side in ((0, 5), (0, 5), (0, 6), (1, 5), (0, 5), (1, 5)):
            layers[layer](torch.randn(100, 4, side, side))
    assert timed == [(64, 4, 5, 5)] * 2 + [(64, 4, 6, 6)] * 2 + [(64, 4, 5, 5)] * 2
    assert len(used) == (6 if slow == "direct" else 0)


@pytest.mark.parametrize("needed", [True, False])
def test_a_trial_is_of_the_gradients_that_are_needed_and_leaves_none(needed: bool) -> None:
    x, weight = torch.randn(2, 3, 5, 5).requires_grad_(needed), nn.Parameter(torch.randn(4, 3, 3, 3))
    pulled: list[str] = []

    def noting(x: Tensor, weight: Tensor, padding: int) -> Tensor:
        if x.requires_grad:
            x.register_hook(lambda _: pulled.append("x"))
        weight.register_hook(lambda _: pulled.append("weight"))
        return winograd(x, weight, padding)

    with torch.no_grad():
        module.seconds(noting, x, weight, 1)
    assert pulled.count("x") == (3 if needed else 0) and pulled.count("weight") == 3  # hooks of both rounds
    assert x.grad is None and weight.grad is None
