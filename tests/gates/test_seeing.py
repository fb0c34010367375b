"""What a view sees, and keeps, of forwards as people write them."""

import pickle

import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from helpers_networks import Toy, linear
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from reslab.errors import MismatchError, UnseenError
from reslab.residual import view

X = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_a_mask_of_ones_in_the_shape_of_the_input_is_no_second_path() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = nn.ModuleList(linear() for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            mask = torch.ones_like(x[:, :1])
            for branch in self.branches:
                x = x + branch(x * mask)
            return x

    assert len(view(Masked(), X)) == 4


class Either(nn.Module):
    """Layers that are called in another way in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(linear(), nn.Tanh(), linear(), nn.Tanh(), linear())

    def forward(self, x: Tensor) -> Tensor:
        return 1 * self.layers(x) if self.training else self.layers(x)  # type: ignore[no-any-return]  # modules return Any


def test_a_branch_that_cannot_be_traced_counts_as_the_layers_in_it() -> None:
    shortcut = nn.Sequential(linear(), linear())
    network = nn.Sequential(linear(), Toy(Either(), shortcut)).eval()
    assert torch.allclose(view(network, X)(X, {"1": 0}), shortcut(network[0](X)))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch, self.gamma = linear(), nn.Parameter(torch.ones((), dtype=torch.float64))
        self.penalty: Tensor | None = None
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        out = self.gamma * self.branch(x)
        self.penalty, self.kept = out.square().mean(), [x, out]
        return x + out


class Positive(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x)


def test_a_block_with_a_parametrization_is_a_block() -> None:
    network = nn.Sequential(Scaled(), Scaled(), Scaled())
    register_parametrization(network[1], "gamma", Positive())
    gated = view(network, X)
    assert [block.name for block in gated.blocks] == ["0", "1", "2"]
    assert [len(gated.parameters_of(index)) for index in range(3)] == [2, 2, 2]


def test_what_a_forward_leaves_on_its_module_is_left_by_the_view_too() -> None:
    network = nn.Sequential(Scaled(), Scaled())
    gated = view(network, X)
    assert network[0].penalty is None and network[0].kept == []
    gates = torch.ones(2, requires_grad=True)
    gated(X, gates)
    penalty = network[1].penalty
    assert isinstance(penalty, Tensor) and torch.equal(network[0].kept[0], X)
    (gradient,) = torch.autograd.grad(penalty, gates)
    assert gradient[0] != 0 and gradient[1] == 0  # its own branch is measured before the gate
    network(X)
    assert torch.equal(penalty, network[1].penalty)


def test_a_network_without_a_block_is_made_of_copies_whatever_forwards_assign() -> None:
    class Assigning(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(Scaled(), Scaled())
            self.taken: object = None

        def forward(self, x: Tensor) -> Tensor:
            self.taken = {"x": x, "of no graph": torch.Generator}
            self.first = x
            return self.blocks(x)  # type: ignore[no-any-return]  # modules return Any

    network = Assigning()
    small = view(network, X).without("blocks.0")
    assert [name for name, _ in small.named_parameters()] == ["blocks.1.gamma", "blocks.1.branch.weight"]
    assert not {*network.parameters()} & {*small.parameters()}
    assert torch.equal(small(X), network.blocks[1](X))


def test_a_part_that_turns_autocast_off_is_not_run_under_it() -> None:
    class Whole(nn.Module):
        def __init__(self, on: bool) -> None:
            super().__init__()
            self.branch, self.on = nn.Linear(3, 3), on

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.on):
                return x + self.branch(x)  # type: ignore[no-any-return]  # modules return Any

    x = X.float()
    network = nn.Sequential(nn.Linear(3, 3), Whole(on=False))
    gated = view(network, x)
    assert torch.equal(gated(x), network(x))
    with torch.autocast("cpu", torch.bfloat16), refused(MismatchError, "autocast", __file__):
        gated(x)
    with refused(UnseenError, "autocast"):
        view(nn.Sequential(nn.Linear(3, 3), Whole(on=True)), x)


def test_gates_by_name_are_as_exact_as_a_tensor() -> None:
    network = nn.Sequential(linear(), Toy(linear(), nn.Identity()))
    gated = view(network, X)
    step = 1e-8
    up, down = (gated(X, {"1": 1 + one}).sum() for one in (step, -step))
    slope = network[1].branch(network[0](X)).sum()
    assert ((up - down) / (2 * step)).item() == pytest.approx(slope.item(), rel=1e-6)


def test_a_view_holds_two_images_of_its_example_and_no_more() -> None:
    images = torch.randn(5_000, 3, dtype=torch.float64)
    gated = view(nn.Sequential(linear(), Toy(linear(), nn.Identity())), images)
    assert len(pickle.dumps(gated)) < images.nbytes / 2
