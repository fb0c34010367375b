"""Analyses of networks that are no stack of residual blocks over images: masks, tokens, long skips, own outputs."""

import copy
import logging
import queue
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from helpers_networks import Toy
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

import reslab
from reslab.analysis.landscape import filter_normalised
from reslab.analysis.lesions import lesions
from reslab.analysis.subject import answers_alone
from reslab.analysis.sweeping import batches
from reslab.errors import MismatchError, UnseenError, UserError, WrongValueError
from reslab.networks import anatomy, counting, zoo
from reslab.state import preserve


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Words(nn.Module):
    """Blocks that read a mask, which changes between them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc = nn.Linear(6, 8), nn.Linear(8, 4)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x) * mask[:, :, None]
            mask = mask * 0.1
        return self.fc((x * mask[:, :, None]).mean(1))  # type: ignore[no-any-return]


def test_a_mask_beside_the_stream_is_as_each_block_has_it() -> None:
    network, labels = Words().eval(), torch.arange(8) % 4
    images = {"x": torch.randn(8, 5, 6), "mask": (torch.rand(8, 5) > 0.3).float()}
    found = reslab.path_spectrum(network, images, labels)  # type: ignore[arg-type]  # its arguments by name
    inputs: list[Tensor] = []
    handle = network.embed.register_forward_hook(lambda *given: inputs.append(given[2]))
    loss = F.cross_entropy(network(**images), labels)
    handle.remove()
    (gradient,) = torch.autograd.grad(loss, inputs)
    assert torch.allclose(found.gradient.sum(0), gradient, atol=1e-7)
    assert reslab.alike(network, images).cka.isfinite().all()  # type: ignore[arg-type]
    assert reslab.probe(network, images, labels).error.isfinite().all()  # type: ignore[arg-type]
    one = reslab.jacobian(network, {name: each[:1] for name, each in images.items()})  # type: ignore[arg-type]
    several = reslab.jacobian(network, images)  # type: ignore[arg-type]
    assert all(
        torch.allclose(a.largest, b.largest[:1], rtol=1e-4) for a, b in zip(one.blocks, several.blocks, strict=True)
    )


class Conditional(nn.Module):
    """A block that takes the time beside its images."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.embed = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(5, 4)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x) + self.embed(time)))  # type: ignore[no-any-return]


class Diffusing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.time, self.stem, self.fc = nn.Linear(2, 5), nn.Linear(3, 4), nn.Linear(4, 3)
        self.blocks = nn.ModuleList(Conditional() for _ in range(2))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        time = torch.relu(self.time(time))
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, time)
        return self.fc(x)  # type: ignore[no-any-return]


def test_blocks_of_a_second_input_are_given_it() -> None:
    network, images, labels = Diffusing().eval(), (torch.randn(12, 3), torch.randn(12, 2)), torch.arange(12) % 3
    with torch.no_grad():
        time, taken = torch.relu(network.time(images[1])), network.stem(images[0])
        given = network.blocks[0](taken, time)
        jacobians = [
            torch.autograd.functional.jacobian(lambda x, at=at: network.blocks[0](x, at), x)
            for x, at in zip(taken, time, strict=True)
        ]
    found = reslab.jacobian(network, images)
    assert torch.allclose(
        found.blocks[0].largest.float(), torch.stack([torch.linalg.matrix_norm(each, 2) for each in jacobians])
    )
    worth = reslab.block_worth(network, images, labels, permutations=0).measures
    turn = 1 - F.cosine_similarity(taken, given).mean()
    assert torch.isclose(worth["turn"][0].float(), turn, rtol=1e-4) and worth["macs"].tolist() == [52, 52]
    assert worth["parameters"].tolist() == [sum(map(Tensor.numel, block.parameters())) for block in network.blocks]
    for measure in (lambda: reslab.alike(network, images).cka, lambda: reslab.probe(network, images, labels).error):
        assert measure().isfinite().all()


def test_a_value_of_as_many_tokens_as_there_are_images_is_of_no_image() -> None:
    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.fc = nn.ModuleList(nn.Linear(4, 4) for _ in range(2)), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            mask = x.new_ones(x.shape[1], x.shape[1]).tril()
            for layer in self.mix:
                x = x + mask @ layer(x)
            return self.fc(x.mean(1))  # type: ignore[no-any-return]

    network, x = Causal().eval(), torch.randn(5, 5, 4)
    alone = [reslab.jacobian(network, x[place : place + 1]).blocks for place in range(5)]
    for index, block in enumerate(reslab.jacobian(network, x).blocks):
        assert torch.allclose(block.largest, torch.cat([blocks[index].largest for blocks in alone]))


class LongSkip(nn.Module):
    """A U-Net of three blocks: the first one's sum is used again at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(8, 4)
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        a = x + self.a(F.relu(x))
        low = F.max_pool2d(a, 2)
        low = low + self.b(F.relu(low))
        low = low + self.c(F.relu(low))
        return self.fc(torch.cat([F.interpolate(low, scale_factor=2), a], 1).mean((2, 3)))  # type: ignore[no-any-return]


def test_gradient_flow_follows_the_sums_where_earlier_ones_are_used_again() -> None:
    network, images, labels = LongSkip().eval(), torch.randn(6, 3, 8, 8), torch.arange(6) % 4
    seen = reslab.view(network, images)
    sums = [each.sum.square().mean().sqrt() for each in seen.run(images).values()]
    assert torch.allclose(reslab.gradient_flow(network, images, labels).forward[1:], torch.stack(sums))
    assert [shape.split("×")[0] for shape in seen.to_frame()["gives"][:-1]] == ["4"] * 4


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(16), nn.MultiheadAttention(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.attention(y, y, y, need_weights=False)[0]  # type: ignore[no-any-return]


class TokensFirst(nn.Module):
    """A transformer of four tokens, which come before the images."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.layers = nn.Conv2d(3, 16, 4, 4), nn.Sequential(Attending(), Attending())
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(self.patches(x).flatten(2).permute(2, 0, 1)).mean(0))  # type: ignore[no-any-return]


@pytest.mark.parametrize("count", [2, 4, 6])
def test_where_tokens_come_first_nothing_is_taken_for_one_image(count: int) -> None:
    network, images = TokensFirst().eval(), torch.randn(count, 3, 8, 8)
    seen = reslab.view(network, images)
    assert torch.equal(seen(images, torch.ones(2)), network(images))
    with refused(UnseenError, "batch_first"):
        seen(images, torch.ones(2, count))
    with refused(UnseenError, "batch_first"):
        seen(images, replace={0: "mean"})
    labels = torch.arange(count) % 10
    for measure in (
        lambda: reslab.jacobian(network, images),
        lambda: reslab.direction(network, images, labels),
        lambda: reslab.alike(network, images.repeat(2, 1, 1, 1)),
        lambda: reslab.path_spectrum(network, images, labels),
        lambda: reslab.sample_paths(network, images, labels),
        lambda: lesions(network, images, labels, kinds=["mean"]),
        lambda: lesions(network, images, labels, kinds=["zero", "resample"]),
    ):
        with refused(UnseenError, "batch_first"):
            measure()
    assert lesions(network, images, labels, kinds=["zero"]).without["zero"].loss.isfinite().all()


class Tokens(nn.Module):
    """A network of layers of one kind over twelve tokens, in a list of its own or without one."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.first, self.second = layers
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block in (self.first, self.second):
            out = block(x)
            x = x + (out[0] if isinstance(block, nn.RNNBase) else out)
        return self.fc(x.mean(1))  # type: ignore[no-any-return]


class Lists(nn.Module):
    """One whose layers are in lists of the network itself, so that no block is a module."""

    def __init__(self) -> None:
        super().__init__()
        self.norms, self.layers = (nn.ModuleList(make(16) for _ in range(2)) for make in (nn.LayerNorm, square))
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + layer(norm(x)) * 0.5
        return self.fc(x.mean(1))  # type: ignore[no-any-return]


def square(width: int) -> nn.Linear:
    return nn.Linear(width, width)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tokens(*(nn.Sequential(nn.LayerNorm(16), square(16)) for _ in range(2))),
        lambda: Tokens(*(nn.LSTM(16, 16, batch_first=True) for _ in range(2))),
        lambda: Tokens(*(nn.GRU(16, 8, batch_first=True, bidirectional=True) for _ in range(2))),
        Lists,
    ],
)
def test_a_probe_of_tokens_averages_over_tokens(make: Callable[[], nn.Module]) -> None:
    labels = torch.arange(200) % 4
    x = 0.3 * torch.randn(200, 12, 16) + torch.randn(4, 16)[labels][:, None]
    x = x - x.mean(2, keepdim=True)  # so that an average over the features tells nothing
    assert reslab.probe(make().eval(), x, labels).error.max() < 0.05


def test_an_activation_in_place_between_blocks_works_once() -> None:
    class Block(nn.Module):
        def __init__(self, *, inplace: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.act = nn.Conv2d(4, 4, 3, padding=1), nn.SiLU(inplace=inplace)

        def forward(self, x: Tensor) -> Tensor:
            return self.act(x + self.conv(x))  # type: ignore[no-any-return]

    images = torch.randn(2, 4, 4, 4)
    there, apart = (
        reslab.jacobian(nn.Sequential(*(Block(inplace=way) for _ in range(3))).eval(), images) for way in (True, False)
    )
    for one, other in zip(there.blocks, apart.blocks, strict=True):
        assert torch.allclose(one.largest, other.largest)


def test_a_network_that_writes_into_its_images_gets_others_each_time() -> None:
    class Normalising(nn.Module):
        def __init__(self, network: nn.Module, *, in_place: bool) -> None:
            super().__init__()
            self.network, self.in_place = network, in_place

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x.sub_(0.5).div_(0.25) if self.in_place else (x - 0.5) / 0.25)  # type: ignore[no-any-return]

    network, images, labels = zoo.build("cifar_resnet", depth=8), torch.rand(8, 3, 8, 8), torch.arange(8) % 4
    writing, pure = (Normalising(network, in_place=way).eval() for way in (True, False))
    before = images.clone()
    for measure in (
        lambda network: reslab.responses(network, images).to_frame()["std"].tolist(),
        lambda network: reslab.lens(network, images, labels).logits.flatten().tolist(),
        lambda network: reslab.gradient_flow(network, images, labels).backward.tolist(),
        lambda network: reslab.alike(pure, images, other=network).cka.flatten().tolist(),
        lambda network: copy.deepcopy(reslab.view(network, images))(images).flatten().tolist(),
        lambda network: reslab.remove_each(reslab.view(network, images), images, labels).without.tolist(),
    ):
        assert measure(writing) == measure(pure)
        assert torch.equal(images, before)


@dataclass
class Output:
    logits: Tensor


def test_outputs_of_an_own_class_are_compared() -> None:
    class Drawing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Output:
            x = self.net[0](x)
            x = x + F.dropout(self.net[1](x), 0.5, training=True)
            return Output(self.fc(x.mean((2, 3))))

    def loss(outputs: Output, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs.logits, labels)

    with refused(UserError):
        reslab.shapley(Drawing(), torch.randn(8, 3, 4, 4), torch.arange(8) % 4, loss=loss, permutations=1)


def test_blocks_of_two_widths_in_one_sequence_are_not_exchanged() -> None:
    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(width, width, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.conv(F.relu(x))  # type: ignore[no-any-return]

    parts = [*(Block(4) for _ in range(3)), nn.Conv2d(4, 8, 1), *(Block(8) for _ in range(3))]
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Sequential(*parts), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    found = reslab.reorder(network.eval(), torch.randn(8, 3, 4, 4), torch.arange(8) % 4, swaps=[4], draws=5)
    assert found.errors.isfinite().all()


class Keeping(nn.Module):
    """A network that keeps things on itself in whatever way, and draws by its own generators."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.kept, self.last, self.sums = SimpleNamespace(h=None), deque[Tensor](maxlen=1), {"n": torch.zeros(1)}
        self.own, self.numpys = torch.Generator().manual_seed(1), np.random.default_rng(1)

    def forward(self, x: Tensor) -> Tensor:
        self.kept.h = x
        self.last.append(x)
        self.sums["n"] += 1
        np.random.rand()  # as many networks draw
        self.numpys.random()
        torch.rand(1, generator=self.own)
        return x + self.fc(x)  # type: ignore[no-any-return]


def test_what_a_network_keeps_on_objects_of_its_own_is_as_it_was() -> None:
    network, x = Keeping(), torch.randn(2, 4)
    first = network.sums["n"]
    before = np.random.get_state()[1], network.own.get_state(), network.numpys.bit_generator.state
    with preserve(network):
        network(x)
        assert network.kept.h is x and network.sums["n"] == 1
    assert network.kept.h is None and not network.last and network.sums["n"] is first and first == 0
    after = np.random.get_state()[1], network.own.get_state(), network.numpys.bit_generator.state
    assert np.array_equal(before[0], after[0]) and torch.equal(before[1], after[1]) and before[2] == after[2]


def test_what_is_somebody_elses_is_left_alone() -> None:
    """An optimiser, a logger, a queue and a data set that a network holds."""

    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.optimizer = torch.optim.Adam(self.parameters())
            self.log, self.queue = logging.getLogger("held"), queue.Queue[int]()
            self.by_weight = {self.fc.weight: 1, self.fc.bias: 2}

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc(x)  # type: ignore[no-any-return]

    network, x = nn.Sequential(Held(), Held()), torch.randn(3, 4)
    network(x).sum().backward()
    for held in network:
        held.optimizer.step()  # type: ignore[union-attr, operator]  # it has one
    first: Any = network[0]
    first.queue.put(1)
    with preserve(network):
        first.queue.get()
    assert first.queue.empty() and len(reslab.view(network, x)) == 2


def test_draws_of_numpy_in_a_forward_are_not_one_constant_for_ever() -> None:
    class Depth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.a(x)
            return x + np.random.rand() * self.b(x)  # type: ignore[no-any-return]

    with refused(UnseenError):
        reslab.view(Depth(), torch.randn(2, 3, 4, 4))


class Pool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.both = nn.Parameter(torch.randn(16)), nn.Bilinear(4, 5, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.query + self.both(x[..., :4], x[..., 4:9]).sum(-1)  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.rnn(x)[0]  # type: ignore[no-any-return]  # modules return Any


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Bilinear(8, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.both(x, x)  # type: ignore[no-any-return]  # modules return Any


@pytest.mark.parametrize("kind", [Recurrent, Bilinear])
def test_a_blocks_multiply_adds_are_counted_as_a_networks(kind: type[nn.Module]) -> None:
    network, x = nn.Sequential(kind(), kind(), nn.Flatten(), nn.Linear(40, 3)).eval(), torch.randn(12, 5, 8)
    found = reslab.block_worth(network, x, torch.arange(12) % 3, permutations=0)
    assert found.measures["macs"].tolist() == [counting.count_macs(block, x[:1]) for block in network[:2]]


def test_multiply_adds_are_counted_in_any_mode_of_any_layer() -> None:
    network, images = reslab.build("cifar_resnet", depth=8), torch.randn(1, 3, 32, 32)
    plain = counting.count_macs(network, images)
    with torch.inference_mode():
        assert counting.count_macs(network, images) == plain > 0
    assert counting.count_macs(nn.LSTM(8, 16), torch.randn(5, 1, 8)) == 5 * 4 * 16 * (8 + 16)
    assert counting.count_macs(Pool(), torch.randn(1, 32, 16)) == 32 * 16 + 32 * 4 * 5 * 6

    class Products(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.addbmm(x.new_zeros(3, 6), x, x.new_ones(5, 4, 6))

    assert counting.count_macs(Products(), torch.randn(5, 3, 4)) == 5 * 3 * 4 * 6

    class Drawing(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + torch.rand(4))

    network = Drawing(4, 4)
    before = torch.get_rng_state()
    assert counting.count_macs(network, torch.zeros(1, 4)) == 16
    assert torch.equal(before, torch.get_rng_state())


def test_each_layer_has_its_own_multiply_adds() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv, self.fc = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for _ in range(3):
                x = self.conv(input=x)
            return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]

    found = anatomy.layers(Loop().half(), (3, 8, 8))
    assert found["fc"].macs == 80 and found["conv"].macs == 3 * 64 * 8 * 8 * 9 and found["conv"].input == (8, 8, 8)
    up = nn.Sequential(nn.ConvTranspose2d(3, 4, 2, 2), nn.Conv2d(4, 2, 1))
    assert anatomy.layers(up, (3, 8, 8))["1"].macs == 16 * 16 * 4 * 2


def test_what_a_forward_computes_without_gradient_has_none_in_the_view() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 10)
            self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.stem(x)
                x = x + self.blocks[0](F.relu(x))
            x = x + self.blocks[1](F.relu(x))
            return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]

    network, images, labels = Frozen().eval(), torch.randn(8, 3, 8, 8), torch.arange(8)
    first, second = reslab.gradient_flow(network, images, labels).parameters
    assert first == 0 and second > 0
    with torch.no_grad():
        seen = reslab.view(network, images)
    seen(images, torch.ones(2)).sum().backward()
    assert network.stem.weight.grad is None and network.blocks[1].weight.grad is not None
    assert [block.identity for block in seen.blocks] == [True, True]

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.fc = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                h = self.rnn(x)
            h = h[0]
            h = h + self.fc(h)
            return h.mean(1)

    recurrent, x = Recurrent().eval(), torch.randn(3, 5, 4)
    reslab.view(recurrent, x)(x).sum().backward()
    assert recurrent.rnn.weight_ih_l0.grad is None


def test_layers_are_told_by_the_weights_that_run() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, weight=self.weight, padding=1)

    images = torch.randn(4, 3, 8, 8)
    found = reslab.responses(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Own()).eval(), images)
    assert [each.convolution for each in found.layers] == ["0", "2"]

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(self.conv(3 * self.bn(self.conv(x))))  # type: ignore[no-any-return]

    with refused(UnseenError, "more than once"):
        reslab.responses(Twice(), images, batch_statistics=True)
    frozen = nn.Sequential(nn.Conv2d(3, 8, 3), FrozenBatchNorm2d(8))
    assert len(reslab.responses(frozen, images, batch_statistics=True).layers) == 1


def test_a_layer_that_another_runs_is_one_of_those_that_shift() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.attention = nn.Linear(16, 16), nn.MultiheadAttention(16, 2, batch_first=True)
            self.fc, self.unused = nn.Linear(16, 10), nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x)
            return self.fc((x + self.attention(x, x, x, need_weights=False)[0]).mean(1))  # type: ignore[no-any-return]

    found = reslab.covariate_shift(Attention(), torch.randn(8, 5, 16), torch.arange(8))
    assert [each.layer for each in found.layers] == ["embed", "attention", "attention.out_proj", "fc"]


def test_hooks_of_a_wrapper_are_not_skipped() -> None:
    network = nn.DataParallel(reslab.build("cifar_resnet", depth=8, num_classes=10).eval())
    network.register_forward_hook(lambda module, inputs, out: 2 * out)
    with refused(UnseenError, "wrapper"):
        reslab.view(network, torch.randn(2, 3, 32, 32))


def test_images_that_look_alike_have_no_likeness() -> None:
    network, images = reslab.build("resnet20", weights="digits"), reslab.load_data("digits").sample("test", 1)[0]
    assert reslab.alike(network, images.repeat(8, 1, 1, 1)).cka.isnan().all()


def test_classes_that_are_ruled_out_do_not_make_an_answer_wrong() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.fc(x).mean()
            return torch.cat([self.fc(x), torch.full((len(x), 2), -torch.inf)], 1)

    network, x = Masked(), torch.randn(12, 4)
    answers = torch.cat([network(each[None]).argmax(1) for each in x])
    assert (
        reslab.evaluate(network, data=[(each[None], answer[None]) for each, answer in zip(x, answers, strict=True)])[
            "top1_error"
        ]
        == 0.0
    )


def test_filters_of_a_parametrised_layer_are_its_outputs() -> None:
    layer = nn.ConvTranspose2d(3, 5, 2)
    network = nn.Sequential(nn.utils.parametrizations.weight_norm(layer), nn.RMSNorm((3, 4)))
    direction = filter_normalised(network, torch.Generator().manual_seed(0))
    moved = direction["0.parametrizations.weight.original1"]
    own = dict(network.named_parameters())["0.parametrizations.weight.original1"]
    norms = [each.detach().transpose(0, 1).flatten(1).norm(dim=1) for each in (moved, own)]
    assert torch.allclose(*norms) and not direction["1.weight"].any()


def test_float16_signals_do_not_overflow() -> None:
    network = nn.Sequential(Toy(nn.Linear(4, 4)), Toy(nn.Linear(4, 4)), nn.Linear(4, 3)).half()
    found = reslab.gradient_flow(network, 1000 * torch.ones(2, 4).half(), torch.tensor([0, 1]))
    assert found.forward.isfinite().all()


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"gates": {0: None}}, WrongValueError),
        ({"gates": {0: "off"}}, WrongValueError),
        ({"replace": {0: lambda branch: 0}}, WrongValueError),
        ({"gates": torch.ones(9, 3)}, MismatchError),
    ],
)
def test_gates_and_replacements_that_are_none_are_told(asked: dict[str, Any], kind: type[UserError]) -> None:
    images, _ = reslab.load_data("digits").sample("test", 2)
    seen = reslab.view(reslab.build("resnet20", weights="digits").eval(), images)
    with refused(kind):
        seen(images, **asked)


class Store:
    """What a network keeps to be looked at later."""

    def __init__(self) -> None:
        self.features: Tensor | None = None


class Stores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.store = nn.Linear(8, 8), Store()

    def forward(self, x: Tensor) -> Tensor:
        self.store.features = x + self.layer(x)
        return self.store.features


def test_what_a_forward_keeps_on_an_object_of_its_own_is_as_before() -> None:
    network = Stores().eval()
    reslab.view(network, torch.randn(2, 8))
    assert network.store.features is None


class Parallel(nn.Module):
    """Two streams, whose branches are both begun before the first addition."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.f, self.g = (nn.Linear(4, 4) for _ in range(3))
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        a, b = x.relu(), x.tanh()
        branches = self.f(a), self.g(b)
        a, b = a + branches[0], b + branches[1]
        return self.fc(torch.cat([a, b], 1))  # type: ignore[no-any-return]


def test_a_branch_that_was_begun_before_another_block_ended_is_its_own_blocks() -> None:
    network, x = Parallel().eval(), torch.randn(1, 4)
    assert reslab.view(network, x).parameters_of(1) == [*network.g.parameters()]
    for block, layer in zip(reslab.jacobian(network, x).blocks, (network.f, network.g), strict=True):
        exact = torch.linalg.svdvals(torch.eye(4, dtype=torch.float64) + layer.weight.double())
        assert block.values is not None and torch.allclose(block.values[0], exact)


class Scaled(Parallel):
    """A branch that was begun early takes what is gone by then."""

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:  # type: ignore[override]
        x = self.stem(x)
        a, b = x.relu(), x.tanh()
        branches = self.f(a), self.g(b) * self.stem(scale)
        a, b = a + branches[0], b + branches[1]
        return self.fc(torch.cat([a, b], 1))  # type: ignore[no-any-return]


def test_what_an_early_branch_takes_of_another_input_may_be_gone() -> None:
    images = {"x": torch.randn(6, 4), "scale": torch.randn(6, 4)}
    assert reslab.alike(Scaled().eval(), images).cka.isfinite().all()  # type: ignore[arg-type]


class OwnNorm(nn.Module):
    """Keeps the deviation in place of the variance."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.register_buffer(name, torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            setattr(self, self.name, x.detach().std((0, 2, 3)))
        return x / getattr(self, self.name)[:, None, None]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["running_std", "moving_var"])
def test_a_normalisation_of_ones_own_is_not_given_a_batchs_statistics(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), OwnNorm(name)).eval()
    images = torch.randn(4, 3, 8, 8)
    with refused(UnseenError, "1"):
        reslab.responses(network, images, batch_statistics=True)
    assert torch.equal(network.get_buffer(f"1.{name}"), torch.ones(4))
    reslab.responses(network, images)


def test_hooks_of_layers_act_on_gradients_by_path_length() -> None:
    branch = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), Toy(branch, after=nn.ReLU()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_full_backward_hook(lambda module, given, _: (2 * given[0],))
        elif isinstance(module, nn.Conv2d):
            module.register_full_backward_hook(lambda *_: None)
    found = reslab.path_spectrum(network, images, labels)
    before = network[0](images).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(network[1:](before), labels), before)
    assert torch.allclose(found.gradient.sum(0), gradient, atol=1e-7)


class Jitters(nn.Module):
    """Writes into the images, in training mode alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(1.1) if self.training else x


def test_images_stay_as_they_are_where_training_alone_writes_into_them() -> None:
    network = nn.Sequential(Jitters(), Toy(nn.Linear(4, 4)), Toy(nn.Linear(4, 4))).train()
    images, labels = torch.randn(4, 4), torch.arange(4)
    kept = images.clone()
    reslab.importance(network, images, labels)
    reslab.gradient_flow(network, images, labels)
    assert torch.equal(images, kept)


class OfADict(nn.Module):
    """Takes one argument, a dict; or its image alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, batch: Any) -> Tensor:
        return self.conv(batch["image"] if isinstance(batch, dict) else batch).mean((2, 3))  # type: ignore[no-any-return]


def test_a_network_of_one_dict_is_given_the_dict() -> None:
    network, images = OfADict().eval(), torch.randn(2, 3, 8, 8)
    by_name, alone = (reslab.responses(network, given).to_frame() for given in ({"image": images}, images))  # type: ignore[arg-type]
    assert by_name.equals(alone)


class Careful(nn.Module):
    """Refuses what no image has, and may subtract the batch's mean."""

    def __init__(self, *, mixes: bool) -> None:
        super().__init__()
        self.fc, self.mixes = nn.Linear(16, 3), mixes

    def forward(self, x: Tensor) -> Tensor:
        if (x < 0).any():
            raise ValueError("images are between 0 and 1")
        return self.fc((x - x.mean(0) if self.mixes else x).flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("mixes", [False, True])
def test_a_network_that_refuses_other_values_is_asked_with_some_of_its_own(mixes: bool) -> None:
    assert answers_alone(Careful(mixes=mixes).eval(), torch.rand(3, 1, 4, 4)) is not mixes


def test_a_mask_that_is_added_may_be_minus_infinity() -> None:
    class Added(Words):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return super().forward(x, mask.exp())

    images = {"x": torch.randn(8, 5, 6), "mask": torch.zeros(8, 5)}
    images["mask"][:, 3:] = -torch.inf
    found = reslab.path_spectrum(Added().eval(), images, torch.arange(8) % 4)  # type: ignore[arg-type]
    assert found.norm.isfinite().all()
    images["x"][0, 0, 0] = torch.nan
    with refused(WrongValueError, "NaN"):
        reslab.path_spectrum(Added().eval(), images, torch.arange(8) % 4)  # type: ignore[arg-type]


def test_blocks_may_be_numbered_by_numpy() -> None:
    network, x = nn.Sequential(Toy(nn.Linear(4, 4)), Toy(nn.Linear(4, 4))).eval(), torch.randn(2, 4)
    gated = reslab.view(network, x)
    assert torch.equal(gated(x, {np.argmax([0, 1]): 0.0}), gated(x, {1: 0.0}))
    for which in (np.float64(1), True, np.int64(2)):
        with refused(UserError, "no block"):
            gated(x, {which: 0.0})


def test_the_last_image_of_a_batch_of_one_is_not_replaced_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(Toy(nn.Linear(4, 4)), Toy(nn.Linear(4, 4))).eval()
    sizes: list[int] = []

    def counted(images: Tensor, labels: Tensor, batch: int) -> Any:
        for each in batches(images, labels, batch):
            sizes.append(len(each[1]))
            yield each

    monkeypatch.setattr("reslab.analysis.lesions.prepared", lambda view, *_: (view, 5))
    monkeypatch.setattr("reslab.analysis.lesions.batches", counted)
    lesions(network, torch.randn(21, 4), torch.arange(21) % 4, kinds=["resample"])
    assert sizes == [3] * 7


MEASURED: dict[str, Callable[..., Any]] = {
    "remove_each": reslab.remove_each,
    "remove_random": partial(reslab.remove_random, draws=2),
    "importance": reslab.importance,
    "gradient_flow": reslab.gradient_flow,
    "path_spectrum": reslab.path_spectrum,
    "block_worth": partial(reslab.block_worth, permutations=2),
    "direction": reslab.direction,
    "jacobian": lambda network, x, y: reslab.jacobian(network, x),
    "split": lambda network, x, y: reslab.split(network, x),
}


@pytest.mark.parametrize("name", MEASURED)
def test_what_is_measured_is_the_same_where_torch_makes_tensors_elsewhere(name: str) -> None:
    network = nn.Sequential(*(Toy(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))) for _ in range(3))).eval()
    x, y = torch.randn(6, 4), torch.arange(6) % 4
    expected = MEASURED[name](network, x, y).to_frame()
    with torch.device("meta"):
        found = MEASURED[name](network, x, y).to_frame()
    pd.testing.assert_frame_equal(found, expected)
