"""What is made faster, against the network itself: gates one by one, whatever the network is made of."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from helpers import refused, snapshot
from helpers_networks import Toy
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, weight_norm

from reslab.analysis.lens import lens
from reslab.analysis.lesions import lesions
from reslab.analysis.pruning import prune as prune_blocks
from reslab.analysis.removal import remove_each
from reslab.analysis.shapley import shapley
from reslab.analysis.split import split
from reslab.errors import UnseenError
from reslab.residual import view

WIDTH, CLASSES, IMAGES = 4, 3, 6


def branch(dims: int, **settings: bool) -> nn.Sequential:
    conv, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dims - 2]
    return nn.Sequential(
        conv(WIDTH, WIDTH, 3, padding=1, bias=False),
        norm(WIDTH, **settings),
        nn.ReLU(inplace=True),
        conv(WIDTH, WIDTH, 3, padding=1),
    )


def blocks(*branches: nn.Module, dims: int = 2) -> nn.Sequential:
    """Return a residual network of these branches, with a ReLU that writes to where the sum is."""
    conv, pool = ((nn.Conv2d, nn.AdaptiveAvgPool2d(1)), (nn.Conv3d, nn.AdaptiveAvgPool3d(1)))[dims - 2]
    made = [Toy(each, after=nn.ReLU(inplace=True)) for each in branches]
    return nn.Sequential(conv(2, WIDTH, 3, padding=1), *made, pool, nn.Flatten(), nn.Linear(WIDTH, CLASSES))


def ordinary() -> nn.Module:
    return blocks(branch(2), branch(2), branch(2))


def shared() -> nn.Module:
    one = branch(2)
    return blocks(one, branch(2), one)


def sharing_one_parameter() -> nn.Module:
    network = blocks(branch(2), branch(2), branch(2))
    for index in (2, 3):
        network.get_submodule(f"{index}.branch.0").weight = network.get_parameter("1.branch.0.weight")
    return network


def pruned() -> nn.Module:
    network = ordinary()
    for index in (1, 2, 3):
        prune.l1_unstructured(network.get_submodule(f"{index}.branch.0"), "weight", 0.5)
    return network


def weight_normed() -> nn.Module:
    network = ordinary()
    for index in (1, 2, 3):
        parametrizations.weight_norm(network.get_submodule(f"{index}.branch.0"))
    return network


def weight_normed_by_a_hook() -> nn.Module:
    network = ordinary()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for index in (1, 2, 3):
            weight_norm(network.get_submodule(f"{index}.branch.0"))
    return network


def without_statistics() -> nn.Module:
    return blocks(*(branch(2, track_running_stats=False) for _ in range(3)))


def volumes() -> nn.Module:
    return blocks(branch(3), branch(3), branch(3), dims=3)


class Kind(NamedTuple):
    make: Callable[[], nn.Module]
    dtype: torch.dtype = torch.float32
    fast: bool = True  # whether a copy that is faster answers as the network
    rounding: float = 1e-4


KINDS = {
    "ordinary": Kind(ordinary),
    "shared weights": Kind(shared),
    "one parameter": Kind(sharing_one_parameter, fast=False),
    "pruned": Kind(pruned),
    "weight-normed": Kind(weight_normed),
    "weight-normed by a hook": Kind(weight_normed_by_a_hook),
    "BatchNorm without statistics": Kind(without_statistics),
    "3-D": Kind(volumes, fast=False),
    "double": Kind(ordinary, torch.float64),
    "half": Kind(ordinary, torch.float16, fast=False, rounding=2e-2),
    "bfloat16": Kind(ordinary, torch.bfloat16, fast=False, rounding=1e-1),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_sweep_is_the_network_with_its_gates_set_or_says_that_it_is_slow(name: str) -> None:
    kind = KINDS[name]
    torch.manual_seed(0)
    network, x = kind.make(), 3 * torch.randn(IMAGES, 2, *((6, 6, 6) if name == "3-D" else (6, 6)))
    y = torch.arange(IMAGES) % CLASSES
    with torch.no_grad():
        for _ in range(3):  # for statistics of its own
            network(x)
    network, x = network.to(kind.dtype).eval(), x.to(kind.dtype)
    before = snapshot(network)
    gated = view(network, x)
    with torch.no_grad():
        without = torch.stack([gated(x, 1 - torch.eye(3)[index]) for index in range(3)]).float()
        only = torch.stack([gated(x, (torch.arange(3) < depth).float()) for depth in range(4)]).float()
        whole = network(x).float()
    assert ((without - whole).norm(dim=(1, 2)) > 0.02 * whole.norm()).all()  # every block does something
    losses = torch.stack([F.cross_entropy(logits, y) for logits in without]).double()
    close = partial(torch.allclose, rtol=kind.rounding, atol=kind.rounding * whole.abs().max().item())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert close(lesions(gated, x, y, kinds=["zero"]).without["zero"].loss, losses)
        assert bool(told) != kind.fast
        assert close(lens(gated, x, y).logits, only)
        assert close(prune_blocks(gated, x, y, steps=1).losses[0, 1], losses.min())
        gains = shapley(gated, x, y, permutations=2).values.sum()
        assert close(gains, F.cross_entropy(only[0], y).double() - F.cross_entropy(whole, y).double())
        if kind.rounding < 1e-3:  # an answer may turn on the rounding otherwise
            errors = [(logits.argmax(1) != y).double().mean().item() for logits in without]
            assert remove_each(gated, x, y).without.tolist() == pytest.approx(errors)
    if "without" in name:
        with refused(UnseenError):
            split(gated, x)
    else:
        parts = split(gated, x)
        assert close(parts.logits.float(), whole) and torch.allclose(parts.parts.sum(0), parts.logits)
    assert snapshot(network) == before


def test_the_mean_of_a_block_of_two_branches_is_added_once() -> None:
    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f, self.g = (nn.Sequential(nn.Linear(3, 3), nn.Tanh()) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.f(x) + self.g(x)  # type: ignore[no-any-return]  # modules return Any

    network, x, y = nn.Sequential(Parallel(), Parallel()).eval(), torch.randn(8, 3), torch.arange(8) % 3
    with torch.no_grad():
        expected = F.cross_entropy(network[1](x + (network[0](x) - x).mean(0)), y)
    found = lesions(network, x, y, kinds=["mean"]).without["mean"].loss
    assert torch.isclose(found[0].float(), expected)
