"""What one asks of a view by name: its stream, replaced branches, gates; against networks run by hand."""

import copy
import pickle

import pytest
import torch
from helpers import refused, snapshot
from helpers_networks import linear, toy_network
from torch import Tensor, nn
from torchvision import models

from reslab.errors import MismatchError, UnknownNameError, WrongValueError
from reslab.networks import zoo
from reslab.residual import View, view


def toy(n: int = 4) -> tuple[nn.Sequential, Tensor, View]:
    network, x = toy_network(n), torch.randn(5, 3, dtype=torch.float64)
    return network, x, view(network, x)


def by_hand(network: nn.Sequential, x: Tensor, instead: dict[int, Tensor]) -> Tensor:
    """Run the toy network with some branches' values given."""
    for index, block in enumerate(network):
        branch = instead.get(index, block.get_submodule("branch")(x))
        x = block.get_submodule("shortcut")(x) + branch
    return x


def test_the_stream_is_what_the_blocks_take_add_and_give() -> None:
    network, x, gated = toy()
    stream = gated.run(x)
    assert torch.equal(stream.output, network(x)) and list(stream) == ["0", "1", "2", "3"]
    for index, block in enumerate(network):
        taken, shortcut, branch, total = stream[str(index)]
        assert torch.equal(taken, network[:index](x))
        assert torch.equal(shortcut, block.get_submodule("shortcut")(taken))
        assert torch.equal(branch, block.get_submodule("branch")(taken))
        assert torch.equal(total, network[: index + 1](x)) and torch.equal(total, shortcut + branch)


@pytest.mark.parametrize("make", [models.resnet18, lambda: zoo.build("preresnet20")])
def test_what_is_kept_is_not_overwritten_in_place(make: object) -> None:
    """torchvision adds in place, and its ReLUs overwrite the sums."""
    assert callable(make)
    network = make().eval()
    x = torch.randn(2, 3, 64, 64)
    gated = view(network, x)
    names = [block.name for block in gated.blocks]
    with torch.no_grad():
        stream = gated.run(x, [names[-1], 0])
        assert list(stream) == [names[0], names[-1]]
        assert torch.equal(stream.output, network(x))
        for value in stream.values():
            assert torch.equal(value.sum, value.shortcut + value.branch) and (value.sum < 0).any()


def test_a_branch_is_replaced_by_its_mean_a_value_other_images_or_a_function() -> None:
    network, x, gated = toy()
    others = torch.randn(5, 3, dtype=torch.float64) + 1
    own, theirs = gated.run(x)["2"].branch, gated.run(others)["2"].branch
    value = torch.randn(5, 3, dtype=torch.float64)
    mean = own.mean(0, keepdim=True).expand(5, 3)
    assert torch.allclose(gated(x, replace={"2": "mean"}), by_hand(network, x, {2: mean}))
    assert torch.allclose(gated(x, replace={2: value}), by_hand(network, x, {2: value}))
    assert torch.allclose(gated(x, replace={2: value[0]}), by_hand(network, x, {2: value[:1].expand(5, 3)}))
    assert torch.allclose(gated(x, replace={"2": lambda branch: branch.flip(0)}), by_hand(network, x, {2: own.flip(0)}))
    # where branch and images have one shape, a tensor is the branch's value
    assert torch.allclose(gated(x, replace={"2": theirs}), by_hand(network, x, {2: theirs}))
    both = gated.run(x, gates={2: 0.5}, replace={"2": value, "0": "mean"})
    assert torch.allclose(both.output, gated(x, {2: 0.5}, {"2": value, "0": "mean"}))
    first = gated.run(x)["0"].branch.mean(0, keepdim=True).expand(5, 3)
    assert torch.allclose(both.output, by_hand(network, x, {0: first, 2: value / 2}))


def test_the_branch_that_other_images_have_and_the_dtype_of_the_network() -> None:
    network = models.resnet18(num_classes=5).eval()
    x, others = torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64)
    gated = view(network, x)
    with torch.no_grad():
        theirs = gated.run(others, ["layer2.1"])["layer2.1"].branch
        expected = gated(x, replace={"layer2.1": theirs.double()})
        kept = theirs.clone()
        assert torch.equal(gated(x, replace={"layer2.1": others}), expected)
        assert torch.equal(theirs, kept) and not torch.equal(expected, network(x))
        one = gated.run(others[:1], ["layer2.1"])["layer2.1"].branch
        assert torch.allclose(gated(x, replace={"layer2.1": others[:1]}), gated(x, replace={"layer2.1": one}))


class Parallel(nn.Module):
    """A block of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = nn.Sequential(linear(), nn.Tanh()), nn.Sequential(linear(), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x) + self.g(x)  # type: ignore[no-any-return]  # modules return Any


def test_one_value_replaces_all_branches_of_a_block() -> None:
    network, x = nn.Sequential(Parallel(), Parallel()), torch.randn(5, 3, dtype=torch.float64)
    gated, others = view(network, x), torch.randn(5, 3, dtype=torch.float64)
    own = gated.run(x)["0"].branch
    assert torch.allclose(own, network[0](x) - x) and torch.allclose(gated(x, replace={0: own}), network(x))
    assert torch.allclose(gated(x, replace={0: others}), network[1](x + others))
    assert torch.allclose(gated(x, replace={0: others[0]}), network[1](x + others[0]))
    assert torch.allclose(gated(x, replace={0: "mean"}), network[1](x + own.mean(0)))
    assert torch.allclose(gated(x, replace={0: lambda branch: branch.flip(0)}), network[1](x + own.flip(0)))


def test_gates_by_name_and_off() -> None:
    _, x, gated = toy()
    expected = torch.tensor([1.0, 0.0, 1.0, 1.0])
    assert torch.equal(gated.gates(off=["1"]), expected) and gated.index("1") == 1
    assert torch.equal(gated(x, {"1": 0}), gated(x, expected))
    assert torch.equal(
        gated(x, {1: torch.zeros(5), "3": 2}), gated(x, torch.tensor([[1], [0], [1], [2.0]]).expand(4, 5))
    )
    gate = torch.tensor(1.0, requires_grad=True)
    gated(x, {"2": gate}).sum().backward()
    assert gate.grad is not None and gate.grad != 0


def test_a_unit_of_a_plain_network_is_replaced_and_recorded() -> None:
    network = zoo.build("cifar_plain", depth=8).eval()
    x = torch.randn(3, 3, 16, 16)
    gated = view(network, x)
    with torch.no_grad():
        stream = gated.run(x)
        name = gated.blocks[1].name
        assert torch.equal(stream.output, network(x))
        mean = stream[name].branch.mean(0, keepdim=True)
        assert torch.equal(gated(x, replace={name: "mean"}), gated(x, replace={name: mean}))


def test_what_cannot_be_asked_is_told() -> None:
    _, x, gated = toy()
    for which in ("layer9", 4, -1, True):
        with refused(UnknownNameError, which):
            gated(x, replace={which: "mean"})
        with refused(UnknownNameError, which):
            gated.run(x, [which])
    with refused(WrongValueError, "median"):
        gated(x, replace={"1": "median"})  # type: ignore[dict-item]  # what is tested
    with refused(MismatchError, "[4, 3]"):
        gated(x, replace={"1": torch.zeros(4, 3, dtype=torch.float64)})
    with refused(MismatchError, "[4]"):
        gated(x, {"1": torch.ones(4), "2": torch.ones(5)})


def test_a_view_shows_a_row_a_block_also_when_it_comes_out_of_a_pickle() -> None:
    network = zoo.build("cifar_resnet", depth=8).eval()
    x = torch.randn(1, 3, 32, 32)
    before = snapshot(network)
    gated = view(network, x)
    assert snapshot(network) == before
    _, _, *rows = repr(gated).splitlines()
    assert [row.split()[0] for row in rows] == [block.name for block in gated.blocks]
    parameters = sum(parameter.numel() for parameter in network.get_submodule("layer1.0").parameters())
    assert rows[0].split() == ["layer1.0", "add", "identity", "16×32×32", f"{parameters:,}"]
    assert repr(copy.deepcopy(gated)) == repr(pickle.loads(pickle.dumps(gated))) == repr(gated)
