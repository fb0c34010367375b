"""Forwards that decide on shapes, wrapped and exported networks, and what networks take and give."""

import copy
import math
import pickle
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from helpers_forks import done as forked
from helpers_networks import Toy, linear
from torch import Tensor, fx, nn

from reslab.analysis.gradient_flow import gradient_flow
from reslab.errors import MismatchError, UnseenError
from reslab.gates.inputs import Inputs
from reslab.networks import zoo
from reslab.residual import tensors_of, view


class Tokens(nn.Module):
    """A network of images `[B, 3, H, W]` whose way depends on their shape in every way that a forward may write."""

    def __init__(self, ask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.ask, self.block = ask, Toy(linear())

    def forward(self, x: Tensor) -> Tensor:
        x = self.ask(x.double()).flatten(2).transpose(1, 2)  # [B, H·W, 3]
        return self.block(x)  # type: ignore[no-any-return]  # modules return Any


def raising(x: Tensor) -> Tensor:
    if x.shape[-1] % 4:
        raise ValueError("the width must be a multiple of 4")
    return x


def padding(x: Tensor) -> Tensor:
    *_, height, width = x.shape
    if (extra := -width % 4) > 0 or height == width:
        x = F.pad(x, (0, extra))
    return x


def rooting(x: Tensor) -> Tensor:
    side = int(math.sqrt(x.flatten(2).size(-1)))
    return x.reshape(x.shape[0], x.shape[1], side, -1)


def counting(x: Tensor) -> Tensor:
    rows = [x[:, :, row] for row in range(x.shape[2])]
    return torch.stack(rows[: len(rows) // 2 * 2], dim=2)


def making(x: Tensor) -> Tensor:
    mask = torch.zeros(x.size(0), 1, *x.shape[2:], dtype=x.dtype, device=x.device)
    return x + mask + torch.arange(x.shape[-1], device=x.device)


def typing(x: Tensor) -> Tensor:
    if x.ndim == 3 or len(x.shape) == 3 or x.dtype == torch.float16:
        x = x[None]
    return x


@pytest.mark.parametrize("ask", [raising, padding, rooting, counting, making, typing])
def test_a_forward_that_decides_on_shapes_is_followed_for_any_batch(ask: Callable[[Tensor], Tensor]) -> None:
    network = Tokens(ask)
    gated = view(network, torch.randn(2, 3, 4, 4))
    assert [block.name for block in gated.blocks] == ["block"] and gated.is_chain and gated.not_split == ()
    for twin in (gated, pickle.loads(pickle.dumps(gated)), copy.deepcopy(gated).train()):
        for batch in (1, 2, 5):
            x = torch.randn(batch, 3, 4, 4)
            assert torch.equal(twin(x), network(x)) and torch.equal(twin(x, torch.ones(1)), network(x))


@pytest.mark.parametrize(
    ("ask", "shape"),
    [(raising, (2, 3, 4, 6)), (padding, (2, 3, 4, 7)), (rooting, (2, 3, 9, 9)), (counting, (2, 3, 6, 4))],
)
def test_what_was_decided_is_checked_again(ask: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
    gated = view(Tokens(ask), torch.randn(2, 3, 4, 4))
    with refused(MismatchError, [2, 3, 4, 4], list(shape)) as told:
        gated(torch.randn(shape))
    (line,) = re.findall(r"test_following\.py:(\d+)", str(told.value))
    assert 0 <= int(line) - ask.__code__.co_firstlineno < 5 and "\n" not in str(told.value)


def test_another_shape_that_goes_the_same_way_is_taken() -> None:
    network = Tokens(raising)
    gated, x = view(network, torch.randn(2, 3, 4, 4)), torch.randn(3, 3, 8, 12)
    assert torch.equal(gated(x), network(x))


def test_a_number_in_a_tensor_is_not_followed() -> None:
    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, : int(x.sum().item()) * 0 + 3]

    network, x = nn.Sequential(Counts(), Toy(linear())), torch.randn(2, 3, dtype=torch.float64)
    gated = view(network, x)
    assert [block.name for block in gated.blocks] == ["1"] and torch.equal(gated(x), network(x))
    with refused(UnseenError, "the network (Counts)"):
        view(Counts(), x)


# --- What networks take and give --------------------------------------------------------------------------------------


class Given(NamedTuple):
    logits: Tensor
    hidden: Tensor | None


class Language(nn.Module):
    """Two blocks over embedded tokens, of which a mask leaves some out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place, self.first, self.second = nn.Embedding(7, 3), nn.Embedding(5, 3), linear(), linear()
        self.double()

    def forward(self, ids: Tensor, mask: Tensor, places: Tensor | None = None) -> Given:
        x = self.embed(ids) if places is None else self.embed(ids) + self.place(places)
        bias = (1 - mask.to(x.dtype))[..., None] * -9
        x = x + torch.softmax(self.first(x) + bias, 1)
        x = x + torch.softmax(self.second(x) + bias, 1)
        return Given(x.mean(1), x)


IDS = torch.tensor([[1, 2, 3], [6, 0, 0]])
MASK = torch.tensor([[1, 1, 1], [1, 0, 0]])


@pytest.mark.parametrize(
    "example",
    [
        {"ids": IDS, "mask": MASK},
        {"mask": MASK, "ids": IDS},
        (IDS, MASK),
        {"ids": IDS, "mask": MASK, "places": torch.tensor([[0, 1, 2]])},
    ],
)
def test_several_inputs_are_given_by_name_or_in_a_tuple(example: dict[str, Tensor] | tuple[Tensor, ...]) -> None:
    network = Language()
    gated = view(network, example)
    expected = network(**example) if isinstance(example, dict) else network(*example)
    got = gated(example, torch.ones(2))
    assert [block.name for block in gated.blocks] == ["first", "second"] and gated.not_split == ()
    assert type(got) is Given and all(map(torch.equal, got, expected))
    alone = gated(example, torch.zeros(2, 2))
    assert torch.equal(alone.hidden, network.embed(IDS) + (network.place(example["places"]) if len(example) > 2 else 0))


@pytest.mark.parametrize("shape", [(2, 3), (2, 5, 3), (2, 4, 5, 3), (2, 2, 2, 2, 3)])
def test_tables_sequences_images_and_volumes_are_taken(shape: tuple[int, ...]) -> None:
    network, x = nn.Sequential(Toy(linear()), Toy(linear())), torch.randn(shape, dtype=torch.float64)
    gated = view(network, x)
    assert len(gated) == 2 and torch.equal(gated(x, torch.ones(2, 2)), network(x))


def test_a_dict_that_is_one_argument_and_an_output_in_a_dict() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Toy(linear())

        def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"out": self.block(batch["x"])}

    network, example = Reads(), {"x": torch.randn(2, 3, dtype=torch.float64)}
    gated = view(network, example)
    assert torch.equal(gated(example)["out"], network(example)["out"]) and len(gated) == 1


def test_a_dict_that_is_one_argument_is_asked_as_one() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.fc = Toy(linear()), nn.Linear(3, 2).double()

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return self.fc(self.block(batch.get("x") * batch["scale"]))  # type: ignore[no-any-return]

    network, x = Asks(), torch.randn(2, 3, dtype=torch.float64)
    given = {"x": x, "scale": torch.full((2, 1), 2.0, dtype=torch.float64)}
    assert len(view(network, given)) == 1
    assert gradient_flow(network, given, torch.tensor([0, 1])).loss == pytest.approx(
        nn.functional.cross_entropy(network(given), torch.tensor([0, 1])).item()
    )
    parts = Inputs({"x": x})
    assert list(parts) == ["x"] and "x" in parts and {**parts}.keys() == {"x"} and len(parts) == 2


TOKENS = {"bos_token_id": 0, "eos_token_id": 0}


def huggings(kind: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a tiny network of transformers, and what it takes."""
    import transformers

    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    if kind == "vit":
        vit = transformers.ViTConfig(**small, image_size=16, patch_size=8, num_labels=4)
        return transformers.ViTForImageClassification(vit).eval(), {"pixel_values": torch.randn(2, 3, 16, 16)}
    if kind == "resnet":
        resnet = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[8, 16], depths=[1, 2])
        return transformers.ResNetForImageClassification(resnet).eval(), {"pixel_values": torch.randn(2, 3, 32, 32)}
    if kind.startswith("gpt2"):
        gpt2 = transformers.GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=20, n_positions=8, **TOKENS)
        gpt2.use_cache = kind.endswith("cache")
        return transformers.GPT2LMHeadModel(gpt2).eval(), {"input_ids": IDS}
    bert = transformers.BertConfig(**small, vocab_size=20, max_position_embeddings=8)
    return transformers.BertForSequenceClassification(bert).eval(), {"input_ids": IDS, "attention_mask": MASK}


@pytest.mark.parametrize(("kind", "blocks"), [("vit", 4), ("resnet", 3), ("bert", 4), ("gpt2", 4)])
def test_hugging_faces_networks_give_their_own_outputs(kind: str, blocks: int) -> None:
    network, example = huggings(kind)
    gated = view(network, example)
    with torch.no_grad():
        expected, got = network(**example), gated(example)
    assert len(gated) == blocks and gated.is_chain and gated.not_split == ()
    assert type(got) is type(expected) and torch.equal(got.logits, expected.logits)
    assert not torch.equal(gated(example, torch.zeros(blocks)).logits, got.logits)


def test_a_cache_for_generating_is_refused_by_what_turns_it_off() -> None:
    with refused(UnseenError, "DynamicCache", "network.config.use_cache = False"):
        view(*huggings("gpt2 with a cache"))


# --- Wrappers ---------------------------------------------------------------------------------------------------------


def exported(network: nn.Module, x: Tensor) -> object:
    return torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},))


def inside(wrap: Callable[[nn.Module], nn.Module]) -> Callable[[nn.Module, Tensor], object]:
    def wrapped(network: nn.Module, x: Tensor) -> object:
        twin = copy.deepcopy(network)
        for name, stage in list(twin.named_children()):
            if isinstance(stage, nn.Sequential):
                setattr(twin, name, wrap(stage))
        return twin

    return wrapped


def compiled_in_place(network: nn.Module, x: Tensor) -> object:
    twin = copy.deepcopy(network)
    twin.layer1.compile(backend="eager")  # type: ignore[operator]  # a module
    return twin


@pytest.mark.parametrize(
    "wrap",
    [
        exported,
        inside(nn.DataParallel),
        inside(lambda stage: torch.compile(stage, backend="eager")),  # type: ignore[arg-type,return-value]
        compiled_in_place,
    ],
)
def test_wrapped_and_exported_networks_are_seen_through(wrap: Callable[[nn.Module, Tensor], object]) -> None:
    network, x = zoo.build("cifar_resnet", depth=8).eval(), torch.randn(2, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        gated = view(wrap(network, x), x)
        with torch.no_grad():
            assert torch.allclose(gated(x), network(x), atol=1e-5)
            gates = torch.tensor([1.0, 0.0, 1.0])
            assert torch.allclose(gated(x, gates), view(network, x)(x, gates), atol=1e-5)
    assert [block.kind for block in gated.blocks] == ["add"] * 3
    assert [block.name.split(".")[0] for block in gated.blocks] == ["layer1", "layer2", "layer3"]


def test_several_outputs_are_compared_one_by_one() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Toy(linear())

        def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
            return self.block(x), [x]

    network, x = Two(), torch.randn(2, 3, dtype=torch.float64)
    assert all(map(torch.equal, tensors_of(view(network, x)(x)), tensors_of(network(x))))


def test_a_value_assigned_in_place_is_part_of_the_flow() -> None:
    class Assigns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = linear()

        def forward(self, x: Tensor) -> Tensor:
            y = self.f(x)
            y[:, 1:] += x[:, 1:].tanh()
            return x + y

    network, x = Assigns(), torch.randn(2, 3, dtype=torch.float64)
    gated = view(network, x)
    assert len(gated) == 1 and torch.equal(gated(x), network(x)) and torch.equal(gated(x, torch.zeros(1)), x)
    sides = gated.sides(0, gated.stem(x))
    assert torch.equal(sides.shortcut + sides.branches[0], network(x))


class Places(nn.Module):
    """Gives a number per column of what it is given, whatever that holds; other numbers in training."""

    def forward(self, x: Tensor) -> Tensor:
        places = self.shown(torch.arange(x.shape[1], dtype=x.dtype))
        if self.training:
            places = places + 1
        return places

    def shown(self, places: Tensor) -> Tensor:
        return places


class Unopened(Places):
    def shown(self, places: Tensor) -> Tensor:
        return torch.vmap(torch.sin)(places)  # which is for tensors only


class Placed(nn.Module):
    """Gives every block the places of its input."""

    def __init__(self, places: nn.Module) -> None:
        super().__init__()
        self.places, self.blocks = places, nn.ModuleList(nn.Linear(6, 6) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        places = self.places(x)
        for block in self.blocks:
            x = x + block(x * places)
        return x


@pytest.mark.parametrize("places", [Places(), Unopened()])
def test_what_is_made_of_a_shape_in_a_module_is_no_second_path(places: nn.Module) -> None:
    network, x = Placed(places).eval(), torch.randn(2, 6)
    made = view(network, x)
    assert len(made) == 3  # also where it seems to be a value that leads past all blocks
    for training in (False, True):
        network.train(training)
        assert torch.equal(made.train(training)(x), network(x))


@fx.wrap
def shifted(x: Tensor, by: list[int]) -> Tensor:
    """Return a map rolled by as much of `by` as is inside it, for which it writes into the list."""
    by[0] %= x.shape[2]
    return x.roll(by, (2, 3))


def test_a_function_that_writes_into_a_list_gets_one_of_its_own() -> None:
    class Shifting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x + shifted(self.conv(x), [10, 1])

    network = Shifting()
    x = torch.randn(2, 3, 8, 8)
    made = view(network, x)
    assert len(made) == 1 and torch.equal(made(x), network(x))
    assert torch.equal(made.run(x).output, network(x))


def test_a_plain_network_of_layers_alone_has_those_as_units_that_can_be_removed() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 5, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)
    )
    gated = view(network, x := torch.randn(2, 3, 32, 32))
    assert [(unit.name, unit.kind) for unit in gated.blocks] == [
        ("2", "unit"),
        ("4", "unit"),
    ]
    h = network[0](x).relu()
    assert torch.equal(gated(x, torch.zeros(2)), F.pad(h, (0, 0, 0, 0, 0, 4)).relu())


class OfFour(nn.Module):
    """A plain network that takes four images and no other number."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.units(x).reshape(4, -1)  # type: ignore[no-any-return]  # modules return Any


def test_the_units_of_a_network_that_takes_one_number_of_images_are_found() -> None:
    """Shapes are looked up with two images, and where that cannot be, without content."""
    x = torch.randn(4, 3, 4, 4)
    network = OfFour()
    gated = view(network, x)
    assert len(gated) == 3 and torch.equal(gated(x), network(x))


def test_a_view_does_not_import_torchs_compiler(tmp_path: Path) -> None:
    """It takes seconds, and analyses of residual and of plain networks do without."""
    done = forked(tmp_path, view_without_the_compiler)
    assert done.returncode == 0, done.stderr


def view_without_the_compiler() -> None:
    sys.modules["torch._dynamo"] = None  # type: ignore[assignment]  # importing it raises ImportError from here on
    for name in ("cifar_resnet", "cifar_plain"):
        network = zoo.build(name, depth=8, in_channels=1)
        assert len(view(network, torch.randn(2, 1, 8, 8))) == 3


def test_a_forward_that_was_compiled_is_seen_as_it_was_written() -> None:
    network, images = zoo.build("cifar_resnet", depth=8).eval(), torch.randn(2, 3, 16, 16)
    network.forward = torch.compile(network.forward, backend="eager")  # type: ignore[method-assign]  # as users do
    assert [block.name for block in view(network, images).blocks] == ["layer1.0", "layer2.0", "layer3.0"]


class Output(dict[str, Tensor]):
    """An output in a class of its own, which is read by name or by place, as Hugging Face's are."""

    def __getitem__(self, key: Any) -> Tensor:
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)

    @property
    def hidden(self) -> Tensor:
        return self["hidden"]


@pytest.mark.parametrize("read", [lambda output: output[0], lambda output: output.hidden], ids=["place", "name"])
def test_what_a_module_that_cannot_be_traced_returns_is_of_its_class(read: Callable[[Output], Tensor]) -> None:
    class Opaque(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = linear()

        def forward(self, x: Tensor) -> Output:
            return Output(hidden=self.layer(x if x.sum() < 1e9 else -x))

    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Opaque(), Opaque()

        def forward(self, x: Tensor) -> Tensor:
            x = x + read(self.first(x))
            return x + read(self.second(x))

    network, x = Reading().eval(), torch.randn(4, 3, dtype=torch.float64)
    gated = view(network, x)
    assert [block.name for block in gated.blocks] == ["first", "second"] and torch.equal(gated(x), network(x))


def test_a_forward_that_passes_the_number_of_images_on_is_followed_for_any() -> None:
    class Classed(nn.Module):
        """A transformer's beginning: one vector that is learned, in front of every sequence."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Parameter(torch.randn(1, 1, 3, dtype=torch.float64))
            self.blocks = nn.Sequential(Toy(linear()), Toy(linear()))

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([self.first.expand(len(x), -1, -1), x], 1)
            return self.blocks(x)[:, 0]  # type: ignore[no-any-return]  # modules return Any

    network = Classed()
    gated, x = view(network, torch.randn(2, 4, 3).double()), torch.randn(5, 4, 3).double()
    assert len(gated) == 2 and torch.equal(gated(x), network(x))
    assert len([1, 2]) == 2 and type(len) is type(abs)  # Python's own again


def encoder(*, norm_first: bool = False, batch_first: bool = True, nested: bool = False) -> nn.TransformerEncoder:
    shape = {"d_model": 4, "nhead": 2, "dim_feedforward": 8, "norm_first": norm_first, "batch_first": batch_first}
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(**shape).double(), 2, enable_nested_tensor=nested)


class Encoding(nn.Module):
    """A classifier of sequences `[B, T, 4]`, or `[T, B, 4]`, around torch's own transformer."""

    def __init__(self, inner: nn.TransformerEncoder, mask: Callable[[Tensor], Tensor | None]) -> None:
        super().__init__()
        self.inner, self.mask, self.fc = inner, mask, nn.Linear(4, 3).double()

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        x = self.inner(x, mask=self.mask(x), src_key_padding_mask=padding)
        return self.fc(x.mean(1))  # type: ignore[no-any-return]  # modules return Any


SEQUENCES = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "mask",
    [
        lambda _: None,
        lambda _: torch.ones(5, 5, dtype=torch.bool).triu(1),
        lambda x: nn.Transformer.generate_square_subsequent_mask(x.size(1), dtype=torch.float64),
    ],
)
@pytest.mark.parametrize("norm_first", [False, True])
def test_torchs_own_transformer_encoder_has_two_blocks_a_layer(
    norm_first: bool, mask: Callable[[Tensor], Tensor | None]
) -> None:
    network = Encoding(encoder(norm_first=norm_first), mask)
    gated, fast = view(network, SEQUENCES), torch.backends.mha.get_fastpath_enabled()
    assert [block.name for block in gated.blocks] == [
        f"inner.layers.{layer}[{part}]" for layer in "01" for part in "01"
    ]
    assert gated.is_chain and not gated.not_split and fast
    for training in (False, True):
        network.train(training)
        outs = []
        for module in (network, gated):
            torch.manual_seed(0)  # of dropout
            outs.append(module(SEQUENCES))
        assert torch.equal(*outs)
    with torch.no_grad():  # where torch runs a layer as one kernel
        assert torch.allclose(network.eval()(SEQUENCES), gated(SEQUENCES))
        if norm_first:  # in which nothing else is between the blocks
            assert torch.allclose(gated(SEQUENCES, torch.zeros(4)), network.fc(SEQUENCES.mean(1)))
    found = gradient_flow(network, SEQUENCES, torch.tensor([0, 1]))
    assert len(found.to_frame()) == 4


@pytest.mark.parametrize(
    ("network", "example", "blocks"),
    [
        (nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).double(), SEQUENCES, 2),
        (Encoding(encoder(batch_first=False), lambda _: None), SEQUENCES, 4),
        (nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 8).double(), 2), (SEQUENCES, SEQUENCES), 6),
        (nn.Transformer(4, 2, 1, 1, 8, batch_first=True).double(), (SEQUENCES, SEQUENCES), 4),  # two flows meet
    ],
)
def test_torchs_other_transformers_have_their_blocks(network: nn.Module, example: Any, blocks: int) -> None:
    gated = view(network.eval(), example)
    inputs = example if isinstance(example, tuple) else (example,)
    assert len(gated) == blocks and torch.equal(gated(example), network(*inputs))


def test_padding_that_torchs_own_encoder_leaves_out_is_told_and_none_where_it_does_not() -> None:
    padded = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with refused(UnseenError, "padded", "enable_nested_tensor=False"):
        view(Encoding(encoder(nested=True), lambda _: None), (SEQUENCES, padded))
    network = Encoding(encoder(), lambda _: None).eval()
    gated = view(network, (SEQUENCES, padded))
    assert len(gated) == 4 and torch.equal(gated((SEQUENCES, padded)), network(SEQUENCES, padded))
