"""A network whose own forward decides on values is viewed by a part: it stays the network, bit for bit, and its gates
are the part's.
"""

import copy
import pickle
from typing import Any

import pytest
import torch
from helpers import refused
from torch import Tensor, nn

from reslab.analysis.direction import direction
from reslab.analysis.jacobian import jacobian
from reslab.analysis.paths import path_spectrum
from reslab.analysis.removal import importance, remove_each, remove_random
from reslab.analysis.split import split
from reslab.analysis.worth import block_worth
from reslab.errors import UnseenError
from reslab.gates.making import view
from reslab.gates.parts import PartView

X = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(6)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bn(self.conv(x)).relu()


class Followed(nn.Module):
    """Prepares images, runs a body, and takes another head by the body's values."""

    def __init__(self) -> None:
        super().__init__()
        self.prepare = nn.Conv2d(3, 4, 1)
        self.body = nn.Sequential(Block(), Block(), Block())
        self.heads = nn.ModuleList(nn.Linear(4, 10) for _ in range(2))

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        maps = self.body(self.prepare(x))
        return self.heads[self.place(maps)](maps.mean((2, 3)))

    def place(self, maps: Tensor) -> int:
        return 0


class Deciding(Followed):
    """The same, by a way that only the values tell."""

    def place(self, maps: Tensor) -> int:
        return 0 if maps.abs().sum() > -1 else 1


def both() -> tuple[Deciding, Followed]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, followed = Deciding(), Followed()
        for batchnorm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
            nn.init.normal_(batchnorm.weight)
    followed.load_state_dict(network.state_dict())
    return network.eval(), followed.eval()


@torch.no_grad()
def test_a_part_is_gated_as_in_a_network_that_is_seen_whole() -> None:
    network, followed = both()
    made, whole = view(network, X), view(followed, X)
    assert isinstance(made, PartView) and not isinstance(whole, PartView)
    assert [block.name for block in made.blocks] == [block.name for block in whole.blocks]
    assert made.is_chain and [skip.where for skip in made.not_split] == [""]
    assert torch.equal(made(X), network(X))
    for gates in (torch.tensor([0.0, 1.0, 0.5]), torch.rand(3, 6), {"body.1": 0.0}):
        assert torch.equal(made(X, gates), whole(X, gates))
    assert torch.equal(made(X, replace={"body.2": "mean"}), whole(X, replace={"body.2": "mean"}))
    assert torch.equal(made.run(X)["body.1"].sum, whole.run(X)["body.1"].sum)
    assert torch.equal(made.run(X).output, network(X))
    assert made.parameters_of(1) == list(network.body[1].parameters())
    assert "forward" not in vars(network.body)


class Around(nn.Module):
    """Has a network that decides on values as its part, and decides on them too."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * (1.0 if x.abs().sum() > -1 else 2.0)


@torch.no_grad()
def test_a_part_of_a_part_is_gated_as_the_part_alone() -> None:
    network, _ = both()
    made, inner = view(Around(network).eval(), X), view(network, X)
    assert [block.name for block in made.blocks] == [f"inner.{block.name}" for block in inner.blocks]
    assert [skip.where for skip in made.not_split] == ["", "inner"]
    gates = torch.rand(3, 6)
    assert torch.equal(made(X, gates), inner(X, gates))
    assert torch.equal(made.run(X, gates=gates)["inner.body.1"].sum, inner.run(X, gates=gates)["body.1"].sum)
    live = made.stem(X)
    for index in range(len(made)):
        live = made.block(index, live, gates)
    assert torch.equal(made.head(live), inner(X, gates))
    assert not any("forward" in vars(module) for module in made.modules())


def test_training_mode_counts_statistics_once() -> None:
    network, _ = both()
    twin = copy.deepcopy(network)
    made = view(network, X)
    made.train(), twin.train()
    assert torch.equal(made(X), twin(X))
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in network.state_dict().items())
    with refused(UnseenError, "evaluation mode"):
        made.stem(X)


@pytest.mark.parametrize("remake", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_it_copies_and_pickles(remake: Any) -> None:
    made = view(both()[0], X)
    again = remake(made)
    assert torch.equal(again(X, {"body.0": 0.0}), made(X, {"body.0": 0.0}))
    nn.init.zeros_(again.network.body[0].bn.weight)
    assert not torch.equal(again(X), made(X))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no faster copy")
def test_block_by_block_it_is_analysed_as_a_network_that_is_seen_whole() -> None:
    network, followed = both()
    for analysis, kwargs in ((remove_each, {}), (remove_random, {"draws": 1}), (importance, {}), (path_spectrum, {})):
        got, want = (analysis(one, X, Y, **kwargs).to_frame() for one in (network, followed))
        numbers = want.select_dtypes("number").columns
        torch.testing.assert_close(torch.tensor(got[numbers].values), torch.tensor(want[numbers].values))
    got, want = (block_worth(one, X, Y, permutations=1) for one in (network, followed))
    for name, value in want.measures.items():
        torch.testing.assert_close(got.measures[name], value, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_what_needs_the_graph_of_the_whole_is_refused() -> None:
    network, _ = both()
    made = view(network, X)
    for needs in (lambda: direction(network, X, Y), lambda: split(network, X), lambda: made.without("body.0")):
        with refused(UnseenError, "body"):
            needs()


class Nothing(Deciding):
    """No part of it has blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())


def test_where_no_part_has_blocks_the_network_is_refused() -> None:
    with refused(UnseenError, "Nothing"):
        view(Nothing(), X)


class Twice(Deciding):
    """It runs its body twice."""

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        maps = self.body(self.body(self.prepare(x)))
        return self.heads[self.place(maps)](maps.mean((2, 3)))


def test_a_part_that_runs_twice_is_not_gated() -> None:
    with refused(UnseenError, "Twice"):
        view(Twice(), X)


class Chosen(nn.Module):
    """It adds what it takes, by a way that only the values tell."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.tanh() if x.abs().sum() > -1 else x


class Hiding(Followed):
    """All that is left in its graph is a skip that is hidden; its body is seen by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Chosen(), Block())
        self.place_of = Chosen()

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        maps = self.place_of(self.body(self.prepare(x)))
        return self.heads[0](maps.mean((2, 3)))


def test_a_hidden_skip_stands_beside_the_blocks_that_are_seen() -> None:
    made = view(Hiding(), X)
    assert [block.name for block in made.blocks] == ["body.1"]
    assert {skip.where for skip in made.not_split} == {"body.0", "place_of"}


class Projecting(nn.Module):
    """A block that looks at its values, with a projection."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(width, out, 1)
        self.branch = nn.Sequential(nn.Conv2d(width, out, 3, padding=1), nn.ReLU(), nn.Conv2d(out, out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        if x.isnan().any():
            raise ValueError("not finite")
        return (self.down(x) + self.branch(x)).relu()


def test_a_network_whose_skips_are_hidden_is_not_taken_for_a_plain_one() -> None:
    with refused(UnseenError, "cannot see through"):
        view(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Projecting(4, 4), Projecting(4, 8)).eval(), X)


def test_a_plain_stem_does_not_stand_for_a_body_of_blocks() -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
            self.body = nn.Sequential(Block(), Block(), Block())

        def forward(self, x: Tensor) -> Tensor:
            if x.isnan().any():
                raise ValueError("not finite")
            return self.body(self.stem(x)).mean((2, 3))  # type: ignore[no-any-return]  # modules return Any

    assert [block.name for block in view(Careful().eval(), X).blocks] == ["body.0", "body.1", "body.2"]


def test_jacobians_of_a_parts_blocks_are_those_of_the_whole() -> None:
    network, followed = both()
    got, want = (jacobian(one, X[:1], "body.1").blocks[0] for one in (network, followed))
    assert got.name == want.name and got.values is not None and want.values is not None
    assert torch.allclose(got.values, want.values)
