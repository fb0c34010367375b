"""The gated view: what it finds, that it is the network bit for bit, and what it refuses."""

import copy
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from helpers_networks import Toy, linear, toy_network
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision import models

from reslab.errors import MismatchError, UnknownNameError, UnseenError, UserError, WrongValueError
from reslab.networks import zoo
from reslab.residual import option_a, view
from reslab.state import preserve

FAST = [
    "resnet20",
    "plain20",
    "preresnet20",
    "preresnet18",
    "torchvision/resnet18",
    "torchvision/mobilenet_v3_small",
]
OTHERS = [
    *(
        f"torchvision/{name}"
        for name in (
            "resnet50",
            "resnext50_32x4d",
            "wide_resnet50_2",
            "regnet_x_400mf",
            "regnet_y_400mf",
            "efficientnet_b0",
            "efficientnet_v2_s",
        )
    ),
    *(
        f"torchvision/{name}"
        for name in (
            "densenet121",
            "mobilenet_v2",
            "mnasnet0_5",
            "convnext_tiny",
            "swin_t",
            "swin_v2_t",
            "shufflenet_v2_x0_5",
        )
    ),
    *(
        f"timm/{name}"
        for name in (
            "resnet18",
            "seresnet50",
            "resnetv2_50",
            "regnety_002",
            "efficientnet_b0",
            "densenet121",
            "dla34",
            "dpn48b",
        )
    ),
    *(
        f"timm/{name}"
        for name in (
            "vit_tiny_patch16_224",
            "mixer_s32_224",
            "nfnet_f0",
            "xcit_nano_12_p16_224",
            "poolformer_s12",
            "ghostnet_050",
        )
    ),
]


def output(module: nn.Module, *inputs: Tensor) -> list[Tensor]:
    """Return all tensors of an output, with the random generator and the buffers as before."""
    torch.manual_seed(1)
    with preserve(module), torch.no_grad():
        return [leaf for leaf in torch.utils._pytree.tree_leaves(module(*inputs)) if isinstance(leaf, Tensor)]


def assert_bit_for_bit(network: nn.Module, images: Tensor) -> None:
    """Trace in evaluation mode; compare in both modes and with every second module in the other."""
    gated = view(network.eval(), images)
    ones = torch.ones(len(gated), dtype=torch.float64)
    for mode in ("eval", "train", "mixed"):
        network.train(mode != "eval")
        if mode == "mixed":
            for index, module in enumerate(network.modules()):
                module.training = index % 2 == 0
        expected = output(network, images)
        for got in (output(gated, images), output(gated, images, ones)):
            assert len(got) == len(expected) > 0
            assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(got, expected, strict=True)), mode


def images_for(name: str, network: nn.Module) -> Tensor:
    size = (
        network.default_cfg["input_size"][-1]
        if name.startswith("timm/")
        else 64
        if name.startswith("torchvision/")
        else 32
    )  # type: ignore[index,union-attr]  # timm is untyped
    return torch.randn(2, 3, size, size)


@pytest.mark.parametrize("name", FAST)
def test_the_view_is_the_network_bit_for_bit(name: str) -> None:
    network = zoo.build(name)
    assert_bit_for_bit(network, images_for(name, network))


@pytest.mark.slow  # minutes: every other family
@pytest.mark.parametrize("name", [*OTHERS, *(name for name in zoo.names() if name not in FAST)])
def test_every_other_network_too(name: str) -> None:
    network = zoo.build(name)
    assert_bit_for_bit(network, images_for(name, network))


def test_the_view_of_a_small_densenet_is_the_network_bit_for_bit() -> None:
    assert_bit_for_bit(models.DenseNet(8, (2, 3, 2), 16, num_classes=10), torch.randn(2, 3, 32, 32))


def test_a_vision_transformer_has_two_blocks_a_layer() -> None:
    network = models.VisionTransformer(32, 8, 2, 2, 16, 32, dropout=0.1)
    assert_bit_for_bit(network, torch.randn(2, 3, 32, 32))
    names = [block.name for block in view(network, torch.randn(2, 3, 32, 32)).blocks]
    assert names == [f"encoder.layers.encoder_layer_{layer}[{half}]" for layer in (0, 1) for half in (0, 1)]


def test_blocks_have_names_stages_kinds_and_shortcuts() -> None:
    blocks = view(zoo.build("resnet20"), torch.randn(1, 3, 32, 32)).blocks
    assert [block.name for block in blocks] == [f"layer{stage}.{index}" for stage in (1, 2, 3) for index in range(3)]
    assert {block.stage for block in blocks} == {"layer1", "layer2", "layer3"}
    assert [block.name for block in blocks if not block.identity] == ["layer2.0", "layer3.0"]
    dense = view(models.densenet121(), torch.randn(1, 3, 32, 32)).blocks
    assert len(dense) == 6 + 12 + 24 + 16 and {block.kind for block in dense} == {"concat"}
    assert (dense[0].name, dense[-1].name) == ("features.denseblock1.denselayer1", "features.denseblock4.denselayer16")
    plain = view(zoo.build("plain20"), torch.randn(1, 3, 32, 32)).blocks
    assert {block.kind for block in plain} == {"unit"} and plain[-1].name == "layer3.2"


# --- Toys -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-2, 2), min_size=4, max_size=4), st.integers(0, 2**16))
@settings(max_examples=20)
def test_gates_scale_the_branches(values: list[float], seed: int) -> None:
    torch.manual_seed(seed)
    network, x = toy_network(4), torch.randn(2, 3, dtype=torch.float64)
    expected = x
    for block, gate in zip(network, values, strict=True):
        expected = block.shortcut(expected) + gate * block.branch(expected)  # type: ignore[operator]  # Toy's
    got = view(network, x)(x, torch.tensor(values, dtype=torch.float64))
    assert torch.allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_every_image_can_have_gates_of_its_own() -> None:
    network, x = zoo.build("resnet20").eval(), torch.randn(3, 3, 32, 32)
    gated = view(network, x)
    gates = torch.rand(len(gated), 3)
    together = gated(x, gates)
    alone = torch.cat([gated(x[[index]], gates[:, index]) for index in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_removal_by_a_gate_is_removal_by_rewriting() -> None:
    network, x = zoo.build("resnet20").eval(), torch.randn(2, 3, 32, 32)
    gated = view(network, x)
    for index, block in enumerate(gated.blocks):
        by_hand = copy.deepcopy(network)
        parent, _, name = block.name.rpartition(".")
        module = by_hand.get_submodule(block.name)
        setattr(by_hand.get_submodule(parent), name, nn.Sequential(module.downsample, nn.ReLU()))
        gates = torch.ones(len(gated))
        gates[index] = 0
        assert torch.allclose(gated(x, gates), by_hand(x), atol=1e-6)


def test_a_unit_at_gate_0_is_the_option_a_shortcut() -> None:
    network, x = zoo.build("plain20").eval(), torch.randn(2, 3, 32, 32)
    gated = view(network, x)
    for index, unit in enumerate(gated.blocks):
        by_hand = copy.deepcopy(network)
        original = network.get_submodule(unit.name)

        class Bridge(nn.Module):
            def forward(self, x: Tensor, original: nn.Module = original) -> Tensor:
                return option_a(x, original(x))

        parent, _, name = unit.name.rpartition(".")
        setattr(by_hand.get_submodule(parent), name, Bridge())
        gates = torch.ones(len(gated))
        gates[index] = 0
        assert torch.equal(gated(x, gates), by_hand(x))


def test_units_one_after_another_are_removed_together() -> None:
    network, x = zoo.build("plain20").eval(), torch.randn(2, 3, 32, 32)
    gated = view(network, x)
    gates = torch.ones(9)
    gates[1:3] = 0  # layer1.1 and layer1.2, which keep their input's shape: nothing is left of them
    by_hand = copy.deepcopy(network)
    by_hand.layer1 = nn.Sequential(network.layer1[0])
    assert torch.equal(gated(x, gates), by_hand(x))


def test_option_a_strides_and_appends_zero_channels() -> None:
    x = torch.randn(1, 2, 5, 5)
    out = option_a(x, torch.empty(1, 4, 3, 3))
    assert torch.equal(out[:, :2], x[..., ::2, ::2]) and not out[:, 2:].any()
    with refused(MismatchError, [1, 2, 5, 5], [1, 1, 5, 5]):
        option_a(x, torch.empty(1, 1, 5, 5))


def test_the_gate_gradient_is_a_finite_difference() -> None:
    network, x = zoo.build("resnet20").double().eval(), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    gated, y = view(network, x), torch.tensor([1, 2])
    gates = torch.ones(len(gated), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(gated(x, gates), y), gates)
    with torch.no_grad():
        for index in (0, 4, 8):
            step = torch.zeros_like(gates)
            step[index] = 1e-6
            difference = (
                F.cross_entropy(gated(x, gates + step), y) - F.cross_entropy(gated(x, gates - step), y)
            ) / 2e-6
            assert torch.isclose(gradient[index], difference, rtol=1e-5)


def test_in_place_additions_and_sums_of_three() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f, self.g, self.act = linear(), nn.Sequential(linear(), linear()), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            out = self.f(x)
            out += x
            out = self.act(out)
            return out + self.f(out) + self.g(out)  # type: ignore[no-any-return]  # modules return Any

    network, x = Sums(), torch.randn(2, 3, dtype=torch.float64)
    gated = view(network, x)
    assert [block.identity for block in gated.blocks] == [True, True]
    assert torch.equal(gated(x), network(x))
    assert torch.equal(gated(x, torch.zeros(2)), x.relu())


class Sum(nn.Module):
    """A block whose sum is written in some way, of its input, a branch, and the branch's first half."""

    def __init__(self, written: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.written = linear(), nn.Sequential(nn.Tanh(), linear()), written

    def forward(self, x: Tensor) -> Tensor:
        half = self.first(x)
        return self.written(x, self.second(half), half)


@pytest.mark.parametrize(
    ("written", "removed"),
    [
        (lambda x, f, _: torch.add(input=x, other=f), 1),
        (lambda x, f, _: torch.add(x, f, alpha=0.5), 1),
        (lambda x, f, _: sum([x, f]), 1),
        (lambda x, f, _: f.add_(x), 1),
        (lambda x, f, _: x - f, 1),
        (lambda x, f, _: f.sub(x), -1),
        (lambda x, f, half: x + f - half, 1),
        (lambda x, f, _: torch.stack([x, f]).sum(0), 1),
        (lambda x, f, half: torch.sum(torch.stack((x, f, half), dim=-1), dim=-1), 1),
        (lambda x, f, _: torch.stack([x, f], 1).mean(dim=1), 0.5),
    ],
)
def test_a_sum_in_any_spelling_is_a_block(written: Callable[[Tensor, Tensor, Tensor], Tensor], removed: float) -> None:
    network, x = nn.Sequential(linear(), Sum(written)), torch.randn(2, 3, dtype=torch.float64)
    gated = view(network, x)
    assert [(block.name, block.kind, block.identity) for block in gated.blocks] == [("1", "add", True)]
    assert torch.equal(gated(x), network(x)) and torch.equal(gated(x, torch.zeros(1)), removed * network[0](x))
    try:  # what is not just the shortcut plus the branches has no sides
        shortcut, branches = gated.sides(0, gated.stem(x))
    except UserError as error:
        assert "is not a plain sum" in str(error)
    else:
        assert torch.allclose(sum(branches, shortcut), network(x))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (lambda x, f, _: torch.stack([x, f]).sum(1), "stack"),
        (lambda x, f, _: torch.lerp(x, f, 0.5), "lerp"),
        (lambda x, f, _: torch.addcmul(x, f, torch.ones_like(f)), "addcmul"),
        (lambda x, f, half: half + x.tanh(), "add"),
    ],
)
def test_a_skip_in_which_no_branch_is_seen_is_named(
    written: Callable[[Tensor, Tensor, Tensor], Tensor], name: str
) -> None:
    x = torch.randn(2, 3, dtype=torch.float64)
    with refused(UnseenError, 1, name):
        view(nn.Sequential(linear(), Sum(written), nn.Flatten(0), nn.Unflatten(0, (-1, 3))), x)
    network = nn.Sequential(linear(), Sum(written), nn.Flatten(0), nn.Unflatten(0, (-1, 3)), Toy(linear()))
    gated = view(network, x)
    assert [block.name for block in gated.blocks] == ["4"] and torch.equal(gated(x), network(x))
    (skip,) = gated.not_split
    assert skip.where == "1" and name in skip.why
    assert copy.deepcopy(gated).not_split == gated.not_split


def test_the_search_goes_on_inside_sides_that_cannot_be_told_apart() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.left, self.right = linear(), Toy(linear()), Toy(linear())

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return (self.left(x) + self.right(x)) / 2  # type: ignore[no-any-return]  # modules return Any

    network, x = Heads(), torch.randn(2, 3, dtype=torch.float64)
    gated = view(network, x)
    assert [block.name for block in gated.blocks] == ["left", "right"]
    assert [skip.where for skip in gated.not_split] == [""] and not gated.is_chain
    h = network.stem(x)
    assert torch.equal(gated(x, torch.tensor([0.0, 1.0])), (h + network.right(h)) / 2)


def test_a_value_less_its_own_mean_is_no_block() -> None:
    class Centred(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    x = torch.randn(2, 3, dtype=torch.float64)
    assert [block.name for block in view(nn.Sequential(Centred(), Toy(linear())), x).blocks] == ["1"]


# --- An ordinary module -----------------------------------------------------------------------------------------------


class Skipping(nn.Module):
    """Two residual blocks, with something else than their sum carried past them to the end."""

    def __init__(self, carried: Callable[[Tensor], object], join: Callable[..., Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.carried, self.join = linear(), linear(), carried, join

    def forward(self, x: Tensor) -> Tensor:
        carried = self.carried(x)
        x = x + self.first(x)
        return self.join(x + self.second(x), carried)


def test_what_is_live_between_blocks_is_the_sum_and_what_else_is_used_later() -> None:
    x = torch.randn(2, 3, dtype=torch.float64)
    sized = Skipping(lambda x: x.shape[0], lambda y, size: y.reshape(size, -1, 1))
    gated = view(sized, x)
    live = gated.stem(x)
    assert gated.is_chain and live.stream is x and live.rest == ()  # the size is read after the first cut
    live = gated.block(0, live)
    assert torch.equal(live.stream, x + sized.first(x)) and live.rest == (2,)

    long = Skipping(lambda x: x.relu(), lambda y, skip: y * skip)  # a skip past both blocks
    gated = view(long, x)
    live = gated.block(0, gated.stem(x))
    (rest,) = live.rest
    assert not gated.is_chain and {live.stream.sum().item(), rest.sum().item()} == {
        x.relu().sum().item(),
        (x + long.first(x)).sum().item(),
    }
    assert torch.equal(gated.head(gated.block(1, live)), long(x))


def test_it_shares_parameters_and_copies_and_pickles() -> None:
    network, x = zoo.build("resnet20").eval(), torch.randn(2, 3, 32, 32)
    gated = view(network, x)
    assert {id(p) for p in gated.parameters()} == {id(p) for p in network.parameters()}
    gates = torch.rand(len(gated))
    for twin in (pickle.loads(pickle.dumps(gated)), copy.deepcopy(gated)):
        assert twin.blocks == gated.blocks and torch.equal(twin(x, gates), gated(x, gates))
        assert not {id(p) for p in twin.parameters()} & {id(p) for p in network.parameters()}


def test_it_runs_under_autocast() -> None:
    network, x = zoo.build("resnet20").eval(), torch.randn(2, 3, 32, 32)
    gated = view(network, x)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gated(x, torch.ones(len(gated))), network(x))


@pytest.mark.slow
def test_it_compiles() -> None:
    network, x = zoo.build("cifar_resnet", depth=8).eval(), torch.randn(2, 3, 16, 16)
    gated = view(network, x)
    gates = torch.rand(len(gated))
    compiled = torch.compile(gated, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(x, gates), gated(x, gates), rtol=1e-5)


def test_it_runs_in_distributed_data_parallel(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        network, x = zoo.build("cifar_resnet", depth=8), torch.randn(2, 3, 16, 16)
        gated = view(network, x)
        parallel = nn.parallel.DistributedDataParallel(gated)
        parallel(x, torch.ones(len(gated))).sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
    finally:
        torch.distributed.destroy_process_group()


def test_wrappers_are_seen_through_and_torchscript_is_named() -> None:
    network, x = zoo.build("cifar_resnet", depth=8).eval(), torch.randn(2, 3, 16, 16)
    wrapped: list[nn.Module] = [nn.DataParallel(network), torch.compile(network, backend="eager")]  # type: ignore[list-item]  # a module, too
    for each in wrapped:
        assert view(each, x).network is network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is an old way
        traced = torch.jit.trace(network, x)
    with refused(UnseenError, "TorchScript"):
        view(traced, x)


def test_a_hook_that_the_view_would_pass_by_is_refused_and_one_on_a_layer_acts() -> None:
    network, x = zoo.build("cifar_resnet", depth=8).eval(), torch.randn(2, 3, 16, 16)
    gated, seen = view(network, x), []
    on_layer = network.get_submodule("layer2.0.conv1").register_forward_hook(lambda *_: seen.append("layer"))
    gated(x)
    assert seen == ["layer"]
    on_block = network.get_submodule("layer2.0").register_forward_hook(lambda *_: seen.append("block"))
    for use in (lambda: gated(x), lambda: view(network, x)):
        with refused(UnseenError, "layer2.0 (BasicBlock)", "hook"):
            use()
    on_block.remove()
    assert torch.equal(gated(x), network(x)) and "block" not in seen
    on_layer.remove()


def test_what_a_forward_keeps_on_its_network_is_no_trace() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.features = nn.Sequential(linear(), Toy(linear())), []

        def forward(self, x: Tensor) -> Tensor:
            self.newest = self.network(x)
            self.features.append(self.newest)
            return self.newest

    network, x = Keeps(), torch.randn(2, 3, dtype=torch.float64)
    view(network, x)
    assert not hasattr(network, "newest") and network.features == []


# --- What cannot be seen through --------------------------------------------------------------------------------------


class Looks(nn.Module):
    """A block whose forward looks at a value, which no trace can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.relu = nn.Sequential(linear(), nn.Tanh(), linear()), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            return x
        return self.relu(x + self.branch(x))  # type: ignore[no-any-return]  # modules return Any


class Drops(nn.Module):
    """A block that takes another way in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(linear(), nn.Tanh(), linear())

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x + 0.5 * self.branch(x)  # type: ignore[no-any-return]  # modules return Any
        return x + self.branch(x)  # type: ignore[no-any-return]  # modules return Any


X = torch.randn(4, 3, dtype=torch.float64)


def test_a_block_that_branches_on_its_mode_is_seen_in_both() -> None:
    network = nn.Sequential(linear(), Drops(), Drops())
    assert_bit_for_bit(network, X)
    assert [block.name for block in view(network, X).blocks] == ["1", "2"]


class Statistics(nn.Module):
    """A block that divides by a running mean of squares, which it keeps in a way of its own."""

    def __init__(self, keep: Callable[["Statistics", Tensor], None]) -> None:
        super().__init__()
        self.f, self.keep = linear(), keep
        self.register_buffer("square", torch.ones(3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.keep(self, x.square().mean(0))
        return x + self.f(x) * (self.square + 1e-5).rsqrt()  # type: ignore[no-any-return]  # modules return Any


def assigning(block: Statistics, new: Tensor) -> None:
    block.square = 0.9 * block.square + 0.1 * new


def adding(block: Statistics, new: Tensor) -> None:
    block.square += new


@pytest.mark.parametrize("keep", [assigning, adding, lambda block, new: block.square.lerp_(new, 0.1)])
def test_what_a_forward_computes_of_its_buffers_follows_them(keep: Callable[[Statistics, Tensor], None]) -> None:
    network = nn.Sequential(Statistics(keep), Statistics(keep))
    gated, twin = view(network, X), copy.deepcopy(network)
    for mode in (True, True, False):
        assert torch.equal(gated.train(mode)(X), twin.train(mode)(X))
        assert torch.equal(network[1].square, twin[1].square)
    network.load_state_dict(nn.Sequential(Statistics(keep), Statistics(keep)).state_dict())
    assert torch.equal(gated(X), network(X)) and len(gated) == 2


def test_functional_dropout_follows_the_mode() -> None:
    class Dropout(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = linear()

        def forward(self, x: Tensor) -> Tensor:
            return x + F.dropout(self.f(x), 0.5, self.training)  # type: ignore[no-any-return]  # modules return Any

    assert_bit_for_bit(nn.Sequential(Dropout(), Dropout()), X)


def test_a_hidden_addition_is_named_and_can_be_declared() -> None:
    network = nn.Sequential(linear(), Looks())
    with refused(UnseenError, "1 (Looks)", 'blocks={"1": ("branch", "shortcut")}') as told:
        view(network, X)
    assert re.search(r"test_residual\.py:\d+", str(told.value))
    with refused(MismatchError, '("branch", "shortcut", "relu")'):
        view(network, X, blocks={"1": ("branch", None)})
    gated = view(network, X, blocks={"1": ("branch", None, "relu")})
    assert [block.name for block in gated.blocks] == ["1"]
    assert torch.allclose(gated(X), network(X))
    assert torch.equal(gated(X, torch.zeros(1)), network[0](X).relu())
    assert torch.equal(pickle.loads(pickle.dumps(gated))(X), gated(X))


@pytest.mark.parametrize(
    ("network", "values"),
    [
        (lambda: nn.Sequential(linear(), nn.ReLU(), linear()), ["blocks", "skip"]),
        (lambda: Toy(linear(), linear()), ["the network itself", "add", 1]),
        (lambda: nn.Sequential(Toy(linear(), linear())), ["add", 1, 'blocks={"0":']),
        (lambda: Looks(), ["the network (Looks)"]),
    ],
)
def test_what_cannot_be_told_is_refused_and_never_guessed(
    network: Callable[[], nn.Module], values: list[object]
) -> None:
    with refused(UnseenError, *values) as caught:
        view(network(), X)
    assert "\n" not in str(caught.value)


def test_random_numbers_outside_a_leaf_are_refused() -> None:
    class Lottery(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = linear()

        def forward(self, x: Tensor) -> Tensor:
            return x + self.f(x) * torch.rand(1).item()  # type: ignore[no-any-return]  # modules return Any

    with refused(UnseenError, "self.training"):
        view(nn.Sequential(Lottery()), X)


class Sign(torch.autograd.Function):
    """The sign, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Apart(Sign):
    """The same, in torch's newer spelling."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:  # type: ignore[override]  # as torch takes it
        return x.sign()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass


class Reversed(Sign):
    """The identity, with the gradient reversed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


class Signs(nn.Module):
    def __init__(self, function: type[Sign]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(x)  # type: ignore[no-any-return]  # untyped


class Stored(nn.Module):
    """As torch's tutorial has it: `apply` is looked up once."""

    def __init__(self, function: type[Sign]) -> None:
        super().__init__()
        self.act = function.apply

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)  # type: ignore[no-any-return,no-untyped-call]  # untyped


class Recomputing(nn.Module):
    """What saves memory by computing its values again for the backward pass."""

    def __init__(self, inside: nn.Module, *, reentrant: bool) -> None:
        super().__init__()
        self.inside, self.reentrant = inside, reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inside, x, use_reentrant=self.reentrant)  # type: ignore[no-any-return]  # untyped


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch's own, of its checkpoints
@pytest.mark.parametrize(
    "middle",
    [
        lambda: Signs(Sign),
        lambda: Signs(Apart),
        lambda: Signs(Reversed),
        lambda: Stored(Sign),
        lambda: Stored(Reversed),
        lambda: Recomputing(linear(), reentrant=True),
        lambda: Recomputing(linear(), reentrant=False),
    ],
)
def test_a_gradient_of_ones_own_is_kept(middle: Callable[[], nn.Module]) -> None:
    network = nn.Sequential(*(Toy(nn.Sequential(linear(), middle(), linear())) for _ in range(2)))
    gated = view(network, X)
    gradients = []
    for module in (network, gated):
        network.zero_grad()
        x = X.clone().requires_grad_()
        module(x).square().sum().backward()
        gradients.append([leaf.grad for leaf in (x, *network.parameters())])
    assert len(gated) == 2 and all(map(torch.equal, *gradients))


def test_a_network_that_is_a_function_of_its_own_gradient_is_refused() -> None:
    class Whole(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + Sign.apply(x)  # type: ignore[no-any-return]  # untyped

    with refused(UnseenError, "the network (Whole)", "autograd.Function"):
        view(Whole(), X)


@pytest.mark.parametrize(
    ("declared", "kind", "values"),
    [
        ({"7": ("branch", None)}, UnknownNameError, ["'7'"]),
        ({"1": ("branch",)}, WrongValueError, ["'1'", ("branch",)]),
        ({"1": ("brunch", None)}, UnknownNameError, ["'1'", "'brunch'"]),
    ],
)
def test_declarations_are_checked(
    declared: dict[str, tuple[str | None, ...]], kind: type[UserError], values: list[object]
) -> None:
    with refused(kind, *values):
        view(nn.Sequential(linear(), Looks()), X, blocks=declared)


def test_gates_and_examples_that_do_not_fit_are_refused() -> None:
    network, x = zoo.build("resnet20"), torch.randn(2, 3, 32, 32)
    gated = view(network, x)
    for gates in (torch.ones(8), torch.ones(9, 3), torch.ones(2, 9)):
        with refused(MismatchError, list(gates.shape), [9], [9, 2]):
            gated(x, gates)
    with refused(WrongValueError, [9], [9, 2]):
        gated(x, torch.ones(9, dtype=torch.int64))
    with refused(MismatchError, [2, 5, 32, 32]):
        view(network, torch.randn(2, 5, 32, 32))


def test_viewing_leaves_the_network_as_it_was() -> None:
    network = zoo.build("resnet20")
    network.layer1.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    state = torch.get_rng_state()
    view(network, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state) and modes == [module.training for module in network.modules()]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks for module in network.modules()
    )


@pytest.mark.parametrize("in_training", [True, False])
def test_a_network_with_other_blocks_in_another_mode_is_refused_there(in_training: bool) -> None:
    class Either(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches, self.more = nn.ModuleList(linear() for _ in range(2)), linear()

        def forward(self, x: Tensor) -> Tensor:
            for branch in self.branches:
                x = x + branch(x)
            more = self.training if in_training else not self.training
            return x + self.more(x) if more else x

    network, x = Either().eval(), torch.randn(5, 3, dtype=torch.float64)
    gated = view(network, x)
    assert torch.equal(gated(x), network(x))
    network.train()
    with refused(UnseenError, "other blocks in training mode"):
        gated(x)


def test_a_hook_on_a_block_in_a_bare_module_acts_in_a_view_too_or_is_refused() -> None:
    class Holding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mid = nn.Module()
            self.mid.one, self.mid.two = Toy(linear()), Toy(linear())

        def forward(self, x: Tensor) -> Tensor:
            return self.mid.two(self.mid.one(x))  # type: ignore[operator,no-any-return]  # both are modules

    network, x, fired = Holding().eval(), torch.randn(5, 3, dtype=torch.float64), list[int]()
    gated = view(network, x)
    network.get_submodule("mid.one").register_forward_hook(lambda *_: fired.append(1))
    with refused(UnseenError, "hook"):
        gated(x)
