"""Networks that give several outputs or take several inputs: every analysis of them is that of the one output and
input that count, and says what it needs.
"""

import copy
import inspect
import re
import tomllib
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from test_analysis_subject import Block, X, Y, tower
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from reslab.analysis import NEEDS, Analysis, analyses, declared
from reslab.analysis.declared import BESIDE
from reslab.analysis.gradient_flow import gradient_flow
from reslab.analysis.removal import remove_each
from reslab.analysis.shattering import shattering
from reslab.errors import MismatchError, UnknownNameError, UnseenError, UserError, WrongValueError
from reslab.gates.making import view


@dataclass
class Own:
    """Outputs in a class of a network's own."""

    logits: Tensor
    maps: Tensor


pytree.register_pytree_node(Own, lambda own: ([own.logits, own.maps], None), lambda parts, _: Own(*parts))
Named = namedtuple("Named", ["maps", "logits"])  # as networks have it


class One(nn.Module):
    """A tower that takes images and gives logits."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = tower(Block(), Block(), Block())
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.both(x)[0]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = x
        for layer in self.layers[:-3].children():
            maps = layer(maps)
        logits = maps
        for layer in self.layers[-3:].children():
            logits = layer(logits)
        return logits, maps


class Several(One):
    """The same, which takes images and weights of them, and gives logits and maps."""

    def __init__(self, kind: Callable[[Tensor, Tensor], Any] = lambda logits, maps: {"maps": maps, "logits": logits}):
        super().__init__()
        self.kind = kind

    def forward(self, pixels: Tensor, weights: Tensor, flag: bool = True) -> Any:
        return self.kind(*self.both(pixels * weights))


KINDS: dict[str, tuple[Callable[[Tensor, Tensor], Any], str | int]] = {
    "dict": (lambda logits, maps: {"maps": maps, "logits": logits}, "logits"),
    "dict by place": (lambda logits, maps: {"maps": maps, "logits": logits}, 1),
    "tuple": (lambda logits, maps: (logits, maps), 0),
    "named tuple": (lambda logits, maps: Named(maps, logits), "logits"),
    "own": (Own, "logits"),
}
WEIGHTS = torch.ones(6, 1, 1, 1)


SETTINGS: dict[str, dict[str, Any]] = {
    "training-flow": {"steps": 1, "batch_size": 4},
    "sampled-paths": {"lengths": [1], "draws": 1},
    "random-removal": {"counts": [1], "draws": 1},
    "reorder": {"swaps": [1], "draws": 1},
    "jacobian": {"method": "extreme", "steps": 1},
    "responses": {"kernel": None},
    "shattering": {"points": 4, "lags": 1},
    "landscape": {"points": 3, "dimensions": 1},
    "smoothness": {"multiples": [1.0]},
    "worth": {"permutations": 1},
    "shapley": {"permutations": 1},
    "prune": {"steps": 1},
    "split": {"classes": [0, 1]},
}
KNOWN = {each.name: each for each in analyses().values() if "network" in each.parameters}


def analysed(name: str, network: nn.Module, images: Any, **output: Any) -> pd.DataFrame:
    """Return an analysis's table."""
    labels = {"labels": Y} if "labels" in KNOWN[name].parameters else {}
    result = KNOWN[name].load()(network, images, **labels, **SETTINGS.get(name, {}), **output)
    return result.to_frame().reset_index()


def assert_same(got: pd.DataFrame, want: pd.DataFrame) -> None:
    numbers = want.select_dtypes("number").columns
    words = want.columns.difference(numbers)
    pd.testing.assert_frame_equal(got[words], want[words])
    pd.testing.assert_frame_equal(got[numbers], want[numbers], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", sorted(KNOWN.keys() - {"shattering"}))
def test_an_analysis_of_one_output_of_several_inputs_is_that_of_the_network_of_one(name: str) -> None:
    plain, network = One(), Several()
    inputs = {"pixels": X, "weights": WEIGHTS, "flag": True}
    assert_same(analysed(name, network, inputs, output="logits"), analysed(name, plain, X))


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("name", ["removal", "smoothness"])  # by blocks, and by the network itself
def test_an_output_is_named_in_whatever_holds_it(name: str, kind: str) -> None:
    make, output = KINDS[kind]
    plain, network = One(), Several(make)
    assert_same(analysed(name, network, (X, WEIGHTS), output=output), analysed(name, plain, X))


def test_a_view_gives_the_output_that_it_was_made_for() -> None:
    plain, network = One(), Several()
    inputs = {"pixels": X, "weights": WEIGHTS}
    made = view(network, inputs, output="logits")
    assert torch.equal(made(inputs), network(**inputs)["logits"])
    assert [block.name for block in made.blocks] == ["layers.1", "layers.2", "layers.3"]
    copied = copy.deepcopy(made)
    assert torch.equal(copied(inputs), made(inputs))
    assert torch.equal(made.without("layers.1")(inputs), made(inputs, {"layers.1": 0}))
    want = remove_each(plain, X, Y)
    for seen in (made, view(network, inputs)):
        assert remove_each(seen, inputs, Y, output="logits").without.tolist() == want.without.tolist()
    assert remove_each(made, inputs, Y).without.tolist() == want.without.tolist()


class Tokens(nn.Module):
    """Token ids and a mask to a class, with residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.layers = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU()) for _ in range(3))
        self.head = nn.Linear(8, 6)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        x = self.embedding(input_ids)
        for layer in self.layers:
            x = x + layer(x)
        kept = attention_mask.unsqueeze(-1).to(x.dtype)
        return {"logits": self.head((x * kept).sum(1) / kept.sum(1).clamp_min(1)), "hidden": x}


@pytest.mark.parametrize("name", sorted(KNOWN.keys() - {"shattering", "responses"}))
def test_token_ids_and_their_mask_are_analysed(name: str) -> None:
    torch.manual_seed(0)
    network = Tokens()
    inputs = {"input_ids": torch.randint(20, (6, 5)), "attention_mask": torch.tensor([[1, 1, 1, 0, 0]] * 6)}
    assert len(analysed(name, network, inputs, output="logits"))


@pytest.mark.parametrize("name", [each.name for each in KNOWN.values() if "loss" in each.parameters])
def test_an_own_loss_is_used(name: str) -> None:
    """A loss that is no cross-entropy, of labels that are no classes where the analysis asks for none."""
    calls: list[Tensor] = []

    def own(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(outputs)
        wanted = F.one_hot(targets, 10).float() if targets.dim() == 1 else targets
        return F.mse_loss(outputs, wanted)

    found = analysed(name, One(), X, loss=own)
    assert calls
    with pytest.raises(AssertionError):
        assert_same(found, analysed(name, One(), X))
    if "logits" not in KNOWN[name].needs:
        images, labels, settings = X, torch.rand(6, 10), SETTINGS.get(name, {})
        assert len(KNOWN[name].load()(One(), images, labels, loss=own, **settings).to_frame())


# --- What does not apply ----------------------------------------------------------------------------------------------


def test_an_output_that_is_not_there_is_refused_with_those_that_are() -> None:
    inputs = {"pixels": X, "weights": WEIGHTS}
    with refused(UnknownNameError, "maps, logits"):
        remove_each(Several(), inputs, Y, output="logit")
    with refused(UnknownNameError):
        remove_each(Several(), inputs, Y, output=2)
    with refused(UnknownNameError):
        remove_each(tower(Block()), X, Y, output="logits")


def test_logits_that_nobody_named_are_asked_for_with_the_outputs_that_there_are() -> None:
    with refused(UnseenError, "maps, logits"):
        remove_each(Several(), {"pixels": X, "weights": WEIGHTS}, Y)


def test_inputs_of_different_batches_are_refused() -> None:
    with refused(WrongValueError):
        remove_each(Several(), (X, WEIGHTS[:2]), Y, output="logits")
    with refused(WrongValueError):
        remove_each(Several(), {"flag": True}, Y, output="logits")


def test_inputs_that_the_network_does_not_take_are_refused() -> None:
    with refused(MismatchError):
        remove_each(tower(Block()), {"pixel_values": X}, Y)


class Wide(nn.Module):
    """Blocks that are no chain: the second takes the first's branch too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = (nn.Conv2d(size, 4, 3, padding=1) for size in (1, 4, 4))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        first = x + self.one(x)
        return self.head(torch.cat([first, x + self.two(x)], 1))


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def maps() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), Block(), Block())


LACKING: dict[str, Callable[[], nn.Module]] = {
    "blocks": linear,
    "no dense layers": linear,
    "sums": linear,
    "chain": Wide,
    "convolutions": linear,
    "logits": maps,
}


@pytest.mark.parametrize(
    ("name", "need"), [(name, need) for name, each in KNOWN.items() for need in each.needs if need in LACKING]
)
def test_what_an_analysis_needs_it_asks_for_in_one_line(name: str, need: str) -> None:
    with refused(UserError):
        analysed(name, LACKING[need](), X[:2] if name == "shattering" else X)


def test_a_line_lies_between_two_images() -> None:
    with refused(WrongValueError):
        shattering(Several(), (X[:2], WEIGHTS[:2]), output="logits")
    with refused(WrongValueError):
        shattering(tower(Block()), (X[:2] > 0).long())


def test_every_need_is_one_of_some_analysis_and_every_docstring_says_its_own() -> None:
    assert {need for each in KNOWN.values() for need in each.needs} == NEEDS.keys()
    for each in analyses().values():
        assert (each.load().__doc__ or "").split("\n\n")[1].strip() == each.needed
        assert ("labels" in each.needed) == ("labels" in each.parameters)
        if each.name in KNOWN:
            assert inspect.signature(each.load()).parameters["output"].default is None


def test_what_is_needed_is_said_in_one_line() -> None:
    assert Analysis("m", "f", "n", "s", ("network", "images", "labels"), ("logits",)).needed == (
        f"Needs {NEEDS['logits']}; labels."
    )
    assert Analysis("m", "f", "n", "s", ()).needed == "Needs nothing."


def test_every_analysis_and_need_has_its_korean_and_no_other() -> None:
    words = tomllib.loads(Path(declared.__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    assert words["shows"].keys() == {each.name for each in analyses().values()}
    assert words["needs"].keys() == NEEDS.keys() | BESIDE.keys()
    for each in analyses().values():
        shows, needs = each.in_korean()
        assert all(re.search("[가-힣]", text) for text in (shows, needs)) and needs.count("[") == each.needed.count("[")


class Deep(nn.Module):
    """Two blocks; in training, a second classifier after the first."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc, self.aux = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        first = x + self.a(x.relu())
        logits = self.fc(first + self.b(first.relu()))
        return (logits, self.aux(first)) if self.training else logits


def test_of_outputs_that_come_in_training_mode_alone_the_first_is_chosen() -> None:
    network, x, y = Deep().train(), torch.randn(6, 8), torch.arange(6)
    found = gradient_flow(network, x, y, output=0)
    assert found.loss == pytest.approx(F.cross_entropy(network(x)[0], y).item())
    assert gradient_flow(network.eval(), x, y, output=0).loss == pytest.approx(F.cross_entropy(network(x), y).item())
    with refused(UnknownNameError, "'logits'"):
        gradient_flow(network, x, y, output="logits")
