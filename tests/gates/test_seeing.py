"""What a view sees, and keeps, of forwards as people write them."""

import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from helpers_networks import Toy, linear
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization
from torchvision import models

import reslab
from reslab.errors import MismatchError, UnseenError
from reslab.networks import anatomy
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


class Encoder(nn.Module):
    """Layers of attention over embedded tokens, of which those of number 0 are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc = nn.Embedding(9, 8), nn.Linear(8, 2)
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(3))
        self.attentions = nn.ModuleList(nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(3))
        self.steps = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, ids: Tensor) -> Tensor:
        mask = ids == 0
        x = self.embed(ids)
        for norm, attention, step in zip(self.norms, self.attentions, self.steps, strict=True):
            h = norm(x)
            x = x + attention(h, h, h, key_padding_mask=mask, need_weights=False)[0]
            x = x + step(x).relu()
        return self.fc(x.masked_fill(mask[..., None], 0).mean(1))  # type: ignore[no-any-return]


def test_a_mask_that_is_computed_from_the_input_passes_beside_the_blocks() -> None:
    network, ids = Encoder().eval(), torch.tensor([[1, 2, 0], [3, 0, 0]])
    gated = view(network, ids)
    assert len(gated) == 6 and all(block.identity for block in gated.blocks) and gated.is_chain


def test_every_block_is_seen_where_each_takes_the_first_value_too() -> None:
    class Conditioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(6, 3, bias=False, dtype=torch.float64) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            first = x.tanh()
            for layer in self.layers:
                x = x + layer(torch.cat([x, first], 1))
            return x

    network = Conditioned()
    gated = view(network, X)
    assert len(gated) == 4 and all(block.identity for block in gated.blocks)
    first, x = X.tanh(), X
    for index in (0, 1, 3):
        x = x + network.layers[index](torch.cat([x, first], 1))
    assert torch.equal(gated(X, {2: 0}), x)
    assert [len(gated.parameters_of(index)) for index in range(4)] == [1] * 4


def test_a_network_of_comparisons_alone_has_its_blocks() -> None:
    class Spiking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(linear() for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = (x > 0).to(x.dtype)
            for layer in self.layers:
                x = ((x + layer(x)) > 0.5).to(x.dtype)
            return x

    assert len(view(Spiking(), X)) == 3


def test_parameters_of_dense_layers_are_their_own() -> None:
    network = models.DenseNet(4, (2, 3), 8, num_classes=5).eval()
    gated = view(network, torch.randn(2, 3, 32, 32))
    for index, block in enumerate(gated.blocks):
        own = {id(parameter) for parameter in network.get_submodule(block.name).parameters()}
        assert {id(parameter) for parameter in gated.parameters_of(index)} == own
    assert gated.to_frame()["parameters"].sum() == sum(map(Tensor.numel, network.parameters()))
    (images, labels) = torch.randn(4, 3, 32, 32), torch.arange(4)
    found = reslab.block_worth(network, images, labels).to_frame()["macs"]
    layers = anatomy.layers(network, (3, 32, 32))
    for name, macs in found.items():
        assert macs == sum(layer.macs for path, layer in layers.items() if path.startswith(f"{name}."))


def test_what_has_no_samples_in_front_is_kept_whole() -> None:
    class Mixing(nn.Module):
        """Takes values, a time, and a matrix over their places."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(linear() for _ in range(2))

        def forward(self, x: Tensor, t: Tensor, mix: Tensor) -> Tensor:
            for layer in self.layers:
                x = x + t * (mix @ layer(x))
            return x

    class Listed(nn.Module):
        """Takes a list of images of several sizes."""

        def __init__(self) -> None:
            super().__init__()
            self.block = Toy(nn.Conv2d(3, 3, 1))

        def forward(self, images: list[Tensor]) -> Tensor:
            size = max(image.shape[-1] for image in images)
            return self.block(torch.stack([F.pad(image, (0, size - image.shape[-1])) for image in images]))  # type: ignore[no-any-return]

    x = torch.randn(3, 5, 3, dtype=torch.float64)
    mixed = view(Mixing(), (x, torch.tensor(0.5).double(), torch.eye(5, dtype=torch.float64)))
    assert len(mixed) == 2 and mixed.example[0].shape == (2, 5, 3) and mixed.example[2].shape == (5, 5)
    assert len(mixed.to_frame()) == 4 and mixed.without("layers.0")
    listed = view(Listed(), [torch.randn(3, 4, side) for side in (4, 6)])
    assert listed.to_frame().loc["block", "gives"] == "3×4×6"


def test_plain_networks_may_have_several_heads() -> None:
    class Layer(nn.Sequential):
        pass

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*(Layer(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()) for _ in range(3)))
            self.one, self.other = Head(), Head()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.layers(x)
            return self.one(x), self.other(x)

    gated = view(Plain(), torch.randn(2, 4, 8, 8))
    assert [block.name for block in gated.blocks] == ["layers.0", "layers.1", "layers.2"]


def test_complex_outputs_are_compared() -> None:
    class Spectrum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Toy(linear())

        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.rfft(self.block(x))

    network = Spectrum()
    gated = view(network, X)
    assert torch.equal(gated(X), network(X)) and torch.equal(gated.without("block")(X), torch.fft.rfft(X))


class Penalised(nn.Module):
    """Three blocks, and the mean size of what they add, summed up in some way."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.branches = how, nn.ModuleList(linear() for _ in range(3))
        self.penalty: Tensor | int = 0

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        penalty = self.penalty = 0 if self.how == "from 0" else torch.zeros((), dtype=x.dtype)
        for branch in self.branches:
            out = branch(x)
            if self.how == "in place":
                self.penalty += out.abs().mean()
            else:
                penalty = penalty + out.abs().mean()
            x = x + out
        return x if self.how == "in place" else (x, penalty)  # type: ignore[return-value]  # a tensor by now


@pytest.mark.parametrize("how", ["from 0", "from a tensor", "in place"])
def test_a_penalty_that_is_summed_up_is_no_block_and_is_that_of_the_run(how: str) -> None:
    network = Penalised(how).eval()
    gated = view(network, X)
    assert [block.name for block in gated.blocks] == ["branches.0", "branches.1", "branches.2"]
    network(X)
    own = network.penalty
    for _ in range(2):
        gated(X)
        assert how != "in place" or torch.allclose(torch.as_tensor(network.penalty), torch.as_tensor(own))


def test_a_penalty_that_is_written_into_may_be_an_output() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = linear(), linear()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            penalty, out = torch.zeros((), dtype=x.dtype), self.first(x)
            penalty += out.abs().mean()
            x = x + out
            return x + self.second(x), penalty

    network = InPlace().eval()
    gated = view(network, X)
    for _ in range(2):
        assert all(map(torch.equal, gated(X), network(X)))


class Making(nn.Module):
    """Two stages of two blocks, and a module made in the forward."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.first, self.second = (nn.Sequential(*(self.block() for _ in range(2))) for _ in range(2))

    def block(self) -> nn.Module:
        return Toy(nn.Sequential(Applied() if self.where == "in a branch" else nn.Tanh(), linear()))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.second[:2](x) if self.where == "a slice" else self.second(x)
        return nn.Softmax(1)(x) if self.where == "at the end" else x


class Applied(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.Tanh()(x)  # type: ignore[no-any-return]  # modules return Any


@pytest.mark.parametrize("where", ["at the end", "in a branch", "a slice"])
def test_a_module_that_is_made_in_a_forward_hides_no_block(where: str) -> None:
    network = Making(where).eval()
    gated = view(network, X)
    assert [block.kind for block in gated.blocks] == ["add"] * 4 and torch.equal(gated(X), network(X))


def test_losses_that_a_forward_puts_into_a_list_are_those_of_the_run() -> None:
    class Losing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = nn.ModuleList(linear() for _ in range(2))
            self.losses: list[Tensor] = []

        def forward(self, x: Tensor) -> Tensor:
            self.losses = []
            for branch in self.branches:
                out = branch(x)
                self.losses.append(out.square().mean())
                x = x + out
            return x

    network = Losing().eval()
    gated = view(network, X)
    network(X)
    own = [loss.item() for loss in network.losses]
    network(2 * X)
    gated(X)
    assert [loss.item() for loss in network.losses] == pytest.approx(own)
    assert all(loss.requires_grad for loss in network.losses)


def test_an_image_with_a_masks_name_in_its_own_is_followed_as_one() -> None:
    class Inpainting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = linear(), linear()

        def forward(self, masked_image: Tensor, mask: Tensor | None = None) -> Tensor:
            x = masked_image + self.a(masked_image)
            x = x + self.b(x)
            return x if mask is None else x * mask

    network = Inpainting().eval()
    given = {"masked_image": X, "mask": (X > 0).double()}
    for example in (given, {"masked_image": X}):
        gated = view(network, example)
        assert [block.name for block in gated.blocks] == ["a", "b"] and gated.is_chain
        with torch.no_grad():
            first = X + network.a(X)
        assert torch.equal(gated.run(example)["a"].sum, first)


def test_a_clone_of_x_is_x() -> None:
    class Cloning(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = linear(), linear()

        def forward(self, x: Tensor) -> Tensor:
            identity = x.clone()
            x = self.a(x) + identity
            return x.clone() + self.b(x)

    gated = view(Cloning().eval(), X)
    assert [(block.name, block.identity) for block in gated.blocks] == [("a", True), ("b", True)]


def test_the_blocks_of_another_head_are_none_of_the_outputs() -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(Toy(linear()), Toy(linear()))
            self.box, self.label = nn.Sequential(Toy(linear()), Toy(linear())), linear()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            x = self.body(x)
            return {"logits": self.label(x), "boxes": self.box(x)}

    network, x = Detector(), torch.randn(4, 3, dtype=torch.float64)
    gated = view(network, x, output="logits")
    assert [block.name for block in gated.blocks] == ["body.0", "body.1"] and gated.is_chain
    assert len(view(network, x)) == 4


class Branching(nn.Module):
    """A sum whose later terms are computed from its earlier ones."""

    def __init__(self, total: Callable[..., Tensor]) -> None:
        super().__init__()
        self.f, self.g, self.h, self.total = linear(), linear(), linear(), total

    def forward(self, x: Tensor) -> Tensor:
        return self.total(x, self.f, self.g, self.h)


def _from_a_branch(x: Tensor, f: nn.Module, g: nn.Module, h: nn.Module) -> Tensor:
    a, b = f(x), g(x)
    return x + a + b + h(a)  # type: ignore[no-any-return]  # modules return Any


def _from_both(x: Tensor, f: nn.Module, g: nn.Module, h: nn.Module) -> Tensor:
    a, b = f(x), g(x)
    return h(b) + (h(a) + (x + a + b))  # type: ignore[no-any-return]  # modules return Any


def _twice(x: Tensor, f: nn.Module, g: nn.Module, h: nn.Module) -> Tensor:
    a = f(x)
    return a + (x + a) + h(g(a))  # type: ignore[no-any-return]  # modules return Any


@pytest.mark.parametrize("total", [_from_a_branch, _from_both, _twice])
def test_a_gate_is_on_every_term_of_a_sum_and_on_nothing_that_comes_from_one(total: Callable[..., Tensor]) -> None:
    block = Branching(total)
    network = nn.Sequential(linear(), block)
    gated = view(network, X)
    before = network[0](X)
    added = block(before) - before
    assert len(gated) == 1
    for gate in (0.0, 0.25, 1.0):
        torch.testing.assert_close(gated(X, torch.full((1,), gate)), before + gate * added)
    torch.testing.assert_close(gated.without(gated.blocks[0].name)(X), before)


def test_a_path_that_was_chosen_by_a_buffer_is_checked_in_every_run() -> None:
    class Scheduled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.branch = linear(), linear()
            self.register_buffer("step", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            scale = 1.0 if self.step / 100 > 0.5 else 0.1
            return x + scale * self.branch(x)  # type: ignore[no-any-return]  # modules return Any

    network = Scheduled()
    gated = view(network, X)
    network.get_buffer("step").fill_(20)
    assert torch.equal(gated(X), network(X))
    network.get_buffer("step").fill_(90)
    with refused(MismatchError, "buffer", "make the view again"):
        gated(X)
    assert torch.equal(view(network, X)(X), network(X))


def test_an_input_that_a_forward_asks_for_its_class_is_not_ignored() -> None:
    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = linear()

        def forward(self, x: Tensor, mask: Tensor | None = None, unused: Tensor | None = None) -> Tensor:
            x = 1 * x
            if isinstance(mask, Tensor):
                x = x * mask
            return x + self.branch(x)  # type: ignore[no-any-return]  # modules return Any

    ones = torch.ones(4, 1, dtype=torch.float64)
    for mask in (ones, ones.bool(), ones.long()):
        with refused(UnseenError, "'mask'", "isinstance"):
            view(Asking(), {"x": X, "mask": mask})
    assert len(view(Asking(), {"x": X, "unused": ones})) == 1


class Optional(nn.Module):
    """A network with an input that may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = linear()

    def forward(self, x: Tensor, mask: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
        y = self.branch(x)
        if mask is not None:
            y = y * mask
        return x + y * (1 if scale is None else scale)  # type: ignore[no-any-return]  # modules return Any


def test_an_input_may_be_none_as_it_was_in_the_example() -> None:
    network, scale = Optional(), torch.full((1,), 0.5, dtype=torch.float64)
    for example in ((X, None, scale), {"x": X, "mask": None, "scale": scale}):
        gated = view(network, example)
        assert len(gated) == 1 and torch.equal(gated(example), network(X, None, scale))
    with refused(MismatchError, "'mask'", "None"):
        gated({"x": X, "mask": scale, "scale": scale})


def test_one_block_may_be_turned_off_by_its_number() -> None:
    gated = view(Toy(linear()), X)
    assert torch.equal(gated.gates(off=0), gated.gates(off=[0])) and [*gated.run(X, 0)] == [gated.blocks[0].name]


def test_the_images_of_a_list_are_counted() -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block = nn.Conv2d(3, 4, 3, padding=1), Toy(nn.Conv2d(4, 4, 3, padding=1))

        def forward(self, images: list[Tensor]) -> Tensor:
            return self.block(self.stem(torch.stack(images)))  # type: ignore[no-any-return]  # modules return Any

    images = [torch.randn(3, 5, 5), torch.randn(3, 5, 5)]
    network = Detector()
    gated = view(network, images)
    gates = torch.tensor([[0.0, 1.0]])
    before = network.stem(torch.stack(images))
    whole = torch.stack([before[0], network.block(before)[1]])
    torch.testing.assert_close(gated(images, gates), whole)


def test_a_mask_of_as_many_tokens_as_there_are_samples_is_kept_whole() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Linear(3, 3)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return x + mask @ self.branch(x)  # type: ignore[no-any-return]  # modules return Any

    example = torch.randn(4, 4, 3), torch.eye(4)
    gated = view(Masked(), example)
    assert gated.without(gated.blocks[0].name)(example).equal(example[0])


def test_a_smaller_network_with_an_output_of_a_class_is_pickled() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8
    )
    network = transformers.BertModel(config, add_pooling_layer=False).eval()
    batch = {"input_ids": torch.arange(10).reshape(2, 5)}
    gated = view(network, batch)
    smaller = gated.without(gated.blocks[0].name)
    again = pickle.loads(pickle.dumps(smaller))
    assert torch.equal(again(batch).last_hidden_state, smaller(batch).last_hidden_state)
    assert type(again(batch)) is type(network(**batch))
