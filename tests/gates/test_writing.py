"""Operations in place: what a forward writes into is the same in a view, in its parts, and in what is measured."""

import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from helpers_networks import Toy, linear
from torch import Tensor, nn

from reslab.analysis.paths import path_spectrum
from reslab.errors import UnseenError
from reslab.gates.checks import same
from reslab.residual import view

X = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0])


class Writing(nn.Module):
    """A block whose branch writes into a value, without using what that returns."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.second, self.relu = linear(6), linear(6), nn.ReLU(inplace=True)
        self.scale = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        out = self.first(x)
        match self.how:
            case "function":
                F.relu(out, inplace=True)
            case "module":
                self.relu(out)
            case "method":
                out.relu_()
            case "scale":
                out.mul_(self.scale)
            case "a part":
                out[:, :3].mul_(2)
            case "an item":
                out[:, 3:] = 0
            case "the whole of a part":
                half = out[:, :3]
                out.relu_()
                out = F.pad(half, (0, 3))
        return x + self.second(out)


class Added(nn.Module):
    """A block that adds in place, and then the rectifier as its module has it."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.relu = nn.Sequential(linear(6), nn.Tanh(), linear(6)), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.branch(x)
        out.add_(x)
        self.relu(out)
        return out  # type: ignore[no-any-return]  # modules return Any


HOWS = ["function", "module", "method", "scale", "a part", "an item", "the whole of a part"]


@pytest.mark.parametrize("blocks", [*(lambda how=how: Writing(how) for how in HOWS), Added], ids=[*HOWS, "addition"])
def test_what_is_written_into_is_written_in_every_part(blocks: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(linear(6), blocks(), blocks(), linear(6)).eval()
    gated = view(network, X)
    assert [block.name for block in gated.blocks] == ["1", "2"] and torch.equal(gated(X), network(X))
    recorded = gated.run(X)
    live = gated.stem(X)
    for index, block in enumerate(recorded.values()):
        live = live._replace(stream=live.stream.clone())
        shortcut, branches = gated.sides(index, live._replace(stream=live.stream.clone()))
        live = gated.block(index, live)
        assert torch.allclose(block.shortcut + block.branch, block.sum)
        assert torch.allclose(sum(branches, shortcut), block.sum)
    middle = network[0](X)
    assert torch.allclose(recorded["1"].input, middle)
    if isinstance(network[1], Added):
        middle = middle.relu()
    assert torch.allclose(gated.run(X, gates={"1": 0})["2"].input, middle)


@pytest.mark.parametrize("how", HOWS)
def test_the_gradient_of_all_paths_is_the_networks(how: str) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(linear(6), Writing(how), Writing(how), linear(6)).eval()
    before = network[0](X).detach().requires_grad_()
    (expected,) = torch.autograd.grad(F.cross_entropy(network[1:](before), LABELS), before)
    found = path_spectrum(network, X, LABELS)
    assert torch.allclose(found.gradient.sum(0), expected)


def test_a_gate_on_a_sum_in_place_reaches_what_follows() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(linear(6), nn.Tanh(), linear(6))

        def forward(self, x: Tensor) -> Tensor:
            out = self.branch(x)
            out.add_(x)
            return out  # type: ignore[no-any-return]  # modules return Any

    network = nn.Sequential(linear(6), Sum(), linear(6))
    assert torch.allclose(view(network, X)(X, {"1": 0}), network[2](network[0](X)))


def test_what_is_written_into_without_gradients_is_left_to_its_module() -> None:
    class Halved(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out = 1 * x
            with torch.no_grad():
                out.mul_(0.5)  # the gradient stays that of 1
            return out

    network = nn.Sequential(*(Toy(nn.Sequential(linear(6), Halved(), linear(6))) for _ in range(2)))
    gated = view(network, X)
    assert len(gated) == 2
    for parameter in network.parameters():
        parameter.grad = None
    gradients = []
    for module in (network, gated):
        network.zero_grad()
        module(X).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(map(torch.equal, *gradients))

    class Outside(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out = 1 * x
            with torch.no_grad():
                out.mul_(0.5)
            return out + x

    with refused(UnseenError, "torch.no_grad"):
        view(Outside(), X)


def test_what_is_made_without_gradients_may_be_written_into_without() -> None:
    class Frozen(nn.Module):
        """A backbone that is not trained, as it is often used."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(linear(6), nn.ReLU(inplace=True), linear(6), nn.ReLU(inplace=True))
            self.blocks = nn.Sequential(Toy(linear(6)), Toy(linear(6)))

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                features = self.backbone(x)
                mask = torch.ones_like(features)
                mask[:, 0] = 0
                features.mul_(mask)
            return self.blocks(features)  # type: ignore[no-any-return]  # modules return Any

    network = Frozen()
    gated = view(network, X)
    assert [block.name for block in gated.blocks] == ["blocks.0", "blocks.1"]
    gradients = []
    for module in (network, gated):
        network.zero_grad()
        module(X).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert gradients[0][0] is None is gradients[1][0]
    assert all(map(torch.equal, gradients[0][2:], gradients[1][2:]))


def test_two_masks_joined_are_a_third() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = linear(6), linear(6)

        def forward(self, x: Tensor) -> Tensor:
            low, high = x < 1, x > -1
            between, either = low & high, low | high
            x = x + self.first(x * between)
            return x + self.second(x * low * either)

    network = Masked()
    gated = view(network, torch.full_like(X, 0.5))  # where none of them differ
    assert torch.equal(gated(X), network(X))


def test_a_buffer_that_is_written_into_is_read_as_written() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(6, dtype=torch.float64))
            self.branch = nn.Sequential(linear(6), nn.Tanh(), linear(6))

        def forward(self, x: Tensor) -> Tensor:
            out = self.branch(x)
            self.mean.copy_(out.mean(0))
            return x + (out - self.mean)

    network = nn.Sequential(linear(6), Centred(), linear(6)).eval()
    gated = view(network, X)
    assert [block.name for block in gated.blocks] == ["1"]
    live = gated.stem(X)
    (branch,) = gated.sides(0, live).branches
    assert torch.allclose(branch.mean(0), torch.zeros(6, dtype=torch.float64), atol=1e-12)


def test_a_layer_that_bounds_its_weights_runs_in_a_view_and_has_its_gradient() -> None:
    class NonNegative(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.weight.clamp_(min=0)
            return super().forward(x)

    network = nn.Sequential(*(Toy(nn.Sequential(linear(6), NonNegative(6, 6).double())) for _ in range(2)))
    gated, found = view(network, X), list[list[Tensor | None]]()
    for module in (network, gated):
        network.zero_grad()
        module(X).square().sum().backward()
        found.append([None if parameter.grad is None else parameter.grad.clone() for parameter in network.parameters()])
    assert all(one is not None and torch.equal(one, other) for one, other in zip(*found, strict=True))  # type: ignore[arg-type]


class Bounded(nn.Module):
    """A network that bounds the weights of its own head before it uses them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*(Toy(nn.Sequential(linear(6), nn.Tanh())) for _ in range(2)))
        self.head = linear(6)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.head.weight.clamp_(min=0)
        return self.head(self.body(x))  # type: ignore[no-any-return]  # modules return Any


def test_a_network_that_bounds_its_own_weights_runs_in_a_view_and_has_its_gradient() -> None:
    network = Bounded()
    gated, weight, found = view(network, X), network.head.weight.detach().clone(), []
    for module in (network, gated):
        with torch.no_grad():
            network.head.weight.copy_(weight)
        network.zero_grad()
        out = module(X)
        out.square().sum().backward()
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        found.append([out.detach(), network.head.weight.detach().clone(), *(each.clone() for each in gradients)])
    assert len(found[0]) == 2 + len(list(network.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_copy_that_follows_by_momentum_is_written_once_in_a_run_of_a_view() -> None:
    class Followed(nn.Module):
        """A network with a momentum encoder, as in He et al. 2020 (Momentum Contrast)."""

        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Sequential(Toy(linear(6)), Toy(linear(6)))
            self.key = linear(6).requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.key.weight.mul_(0.9).add_(self.query[1].branch.weight, alpha=0.1)
            return self.query(x) + 0 * self.key(x)  # type: ignore[no-any-return]  # modules return Any

    network = Followed()
    gated = view(network, X)
    before = network.key.weight.clone()
    gated(X)
    once = 0.9 * before + 0.1 * network.query[1].branch.weight.detach()
    assert torch.allclose(network.key.weight, once, atol=1e-12)


def test_a_tensor_that_a_forward_assigns_anew_is_no_trace() -> None:
    class Seen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch, self.seen = linear(6), torch.zeros(6, dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            self.seen = self.seen + x.detach().mean(0)
            return x + self.branch(x)  # type: ignore[no-any-return]  # modules return Any

    network = nn.Sequential(Seen(), Seen())
    gated = view(network, X)
    assert torch.equal(network[0].seen, torch.zeros(6, dtype=torch.float64))  # type: ignore[arg-type]
    assert torch.equal(gated(X), network(X))


class Positional(nn.Module):
    """Writes into what it was given, as its second argument says."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear(6)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(F.relu(x, True))
        return x + out  # type: ignore[no-any-return]


def test_inplace_may_be_said_by_place() -> None:
    network = nn.Sequential(linear(6), Positional(), Positional()).eval()
    gated = view(network, X)
    assert torch.equal(gated(X), network(X))
    for block in gated.blocks:
        found = gated.run(X)[block.name]
        assert torch.equal(found.shortcut + found.branch, found.sum)


def test_nan_and_infinity_are_like_themselves_alone() -> None:
    values = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, torch.finfo().max])
    for place, one in enumerate(values):
        assert [same(one, other) for other in values] == [place == other for other in range(len(values))]
