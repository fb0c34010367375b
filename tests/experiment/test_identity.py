"""What makes a trial of one's own network, data and loss another one."""

import copy
import importlib
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.prune import l1_unstructured
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset, default_collate

from reslab.api.own import OwnData
from reslab.experiment.identity import digest


class Scaled(nn.Module):
    def __init__(self, scale: float = 1.0, act: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.scale, self.act = nn.Linear(4, 3), scale, act
        self.itself = (self,)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.act(self.fc(x))


class Otherwise(Scaled):
    def forward(self, x: Tensor) -> Tensor:
        return self.scale - self.act(self.fc(x))


def frozen() -> nn.Module:
    network = Scaled()
    network.fc.requires_grad_(False)
    return network


@dataclass(slots=True)
class Rate:
    rate: float


@dataclass(slots=True)
class Steps(Rate):
    steps: int = 3


class Named:
    __slots__ = "rate"

    def __init__(self, rate: float) -> None:
        self.rate = rate


WEIGHT = torch.tensor([1.0, 2.0, 3.0])


def weighed(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels, weight=WEIGHT)


def closed_over(smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda outputs, labels: F.cross_entropy(outputs, labels, label_smoothing=smoothing)


def once_more(x: Tensor) -> Tensor:
    return x + 1


def twice_more(x: Tensor) -> Tensor:
    return x + 2


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "make",
    [
        Scaled,
        Otherwise,
        frozen,
        lambda: Scaled(2.0),
        lambda: Scaled(act=F.gelu),
        lambda: Scaled(act=lambda z: -3 * z),
        lambda: nn.Sequential(Scaled()),
        lambda: F.cross_entropy,
        lambda: weighed,
        lambda: closed_over(0.1),
        lambda: closed_over(0.2),
        lambda: lambda o, y: F.multi_margin_loss(o, y),
        lambda: cache(closed_over(0.3)),
        lambda: cache(closed_over(0.4)),
        lambda: cached_property(lambda network: network.scale),
        lambda: cached_property(lambda network: -network.scale),
        lambda: torch.jit.script(once_more),
        lambda: torch.jit.script(twice_more),
        lambda: partial(F.cross_entropy, label_smoothing=0.1),
        lambda: partial(F.cross_entropy, label_smoothing=0.2),
        nn.CrossEntropyLoss,
        lambda: nn.CrossEntropyLoss(label_smoothing=0.9),
        lambda: nn.CrossEntropyLoss(weight=torch.ones(3)),
        lambda: nn.CrossEntropyLoss(weight=2 * torch.ones(3)),
        lambda: Steps(0.1),
        lambda: Steps(0.9),
        lambda: Named(0.1),
        lambda: Named(0.9),
        lambda: [[1], [2]],
        lambda: [[1, 2]],
        lambda: {"a", "b"},
        lambda: torch.float16,
        lambda: torch.ones(3),
        lambda: torch.ones(1, 3),
    ],
)
def test_a_digest_is_the_same_for_the_same_and_for_nothing_else(make: Any, others: dict[str, int]) -> None:
    found = digest(make())
    assert found == digest(make())
    assert others.setdefault(found, len(others)) == len(others) - 1


@pytest.fixture(scope="module")
def others() -> dict[str, int]:
    """The digests so far."""
    return {}


class Weighted(nn.Module):
    """A loss whose setting is public or private, of any kind, and set in any function but its forward."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.setup(settings)

    def setup(self, settings: dict[str, Any]) -> None:
        for name, value in settings.items():
            setattr(self, name, value)
        self.by_helper = settings

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs, labels)


class Assigned(Scaled):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.rescale(scale)

    def rescale(self, scale: float) -> None:
        self.scale = scale


def halved(*given: Any) -> None:
    """A hook."""


def doubled(*given: Any) -> None:
    """Another."""
    halved(*given)


def hooked(kind: str, hook: Callable[..., Any]) -> nn.Module:
    network = Scaled()
    part: Any = network.fc.weight if kind == "register_hook" else network.fc
    getattr(part, kind)(hook)
    return network


@pytest.mark.parametrize(
    "make",
    [
        lambda: Weighted(weight=[1.0, 1.0]),
        lambda: Weighted(weight=[1.0, 50.0]),
        lambda: Weighted(weight=torch.tensor([1.0, 1.0])),
        lambda: Weighted(weight=torch.tensor([1.0, 50.0])),
        lambda: Weighted(weight=np.ones(2)),
        lambda: Weighted(weight={"of": 1.0}),
        lambda: Weighted(weight={"of": 2.0}),
        lambda: Weighted(_gamma=1.0),
        lambda: Weighted(_gamma=2.0),
        lambda: Assigned(1.0),
        lambda: Assigned(2.0),
        *(
            partial(hooked, kind, hook)
            for kind in ("register_forward_hook", "register_forward_pre_hook", "register_hook")
            for hook in (halved, doubled)
        ),
    ],
)
def test_every_setting_and_hook_of_a_module_counts(make: Any, others: dict[str, int]) -> None:
    test_a_digest_is_the_same_for_the_same_and_for_nothing_else(make, others)


class Remembers(nn.Module):
    """A network that leaves things on itself, and on its parts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.norm = nn.Linear(4, 3), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
        self._seen, self.mean = 0, torch.zeros(3)
        self.found: dict[str, Any] = {}
        self.log: list[int] = []
        self.fc.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, given: Any, outputs: Tensor) -> None:
        module.last = outputs.detach()

    def count(self) -> None:
        self._seen += 1
        self.found.setdefault("counts", []).append(self._seen)

    def forward(self, x: Tensor) -> Tensor:
        self.count()
        y = self.fc(x)
        self.found["y"] = y.detach()
        self.log.append(len(y))
        self.mean.add_(y.detach().mean(0))
        self.norm.given = y.detach()
        return self.norm(y)


def test_what_a_forward_or_a_hook_leaves_does_not_count() -> None:
    network, kept = Remembers(), {}

    def keep(module: nn.Module, given: Any, outputs: Tensor) -> None:
        kept["outputs"] = outputs.detach()

    network.norm.register_forward_hook(keep)
    before = digest(network)
    network(torch.randn(2, 4))
    assert network._seen == 1 and network.log == [2] and kept and digest(network) == before
    pruned = l1_unstructured(nn.Linear(4, 3), "weight", 0.5)
    before = digest(pruned)
    pruned(torch.randn(2, 4))
    assert digest(pruned) == before


def test_what_a_function_refers_to_and_training_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(weighed)
    monkeypatch.setitem(globals(), "WEIGHT", 2 * WEIGHT)
    assert digest(weighed) != before
    assert digest(Scaled().eval()) == digest(Scaled())


def test_what_is_read_of_ones_own_module_counts_and_what_is_not_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name, text in (
        ("one", "def focal(x): return 2 * x"),
        ("two", "def focal(x): return 2 * x\n\n\ndef other(x): return x"),
        ("three", "def focal(x): return 3 * x"),
    ):
        folder = tmp_path / name / "my_losses"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("from my_losses import losses", encoding="utf-8")
        (folder / "losses.py").write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path / name)
        for module in [module for module in sys.modules if module.startswith("my_losses")]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(globals(), "my_losses", importlib.import_module("my_losses"))
        found.append(digest(by_a_module))
    assert found[0] == found[1] != found[2]


def by_a_module(x: Tensor) -> Any:
    return my_losses.losses.focal(x)  # type: ignore[name-defined]  # which the test makes


class Drawn(Dataset[Any]):
    """Images that draw, and labels."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        return torch.rand(3), self.labels[place]


def test_data_are_told_apart_by_all_of_their_tensors_and_by_many_items_of_others() -> None:
    x, y = torch.randn(1000, 3), torch.arange(1000) % 3
    one, many, reordered = y.clone(), y.clone(), y.flip(0)
    one[1], many[100:200] = (one[1] + 1) % 3, 0
    pairs = [(x, y), (x, one), (x, many), (x + 1, y), (x, y[:, None]), (x, y.int())]
    sets = [TensorDataset(x, y), Drawn(y), Drawn(many), Drawn(reordered), Subset(Drawn(y), range(500))]
    sets.append(Subset(Drawn(y), range(1, 501)))
    found = [OwnData.of((each, (x, y))).digest() for each in [*pairs, *sets]]
    assert found[0] == found[len(pairs)] and len(set(found)) == len(found) - 1
    assert found == [OwnData.of((each, (x, y))).digest() for each in [*pairs, *sets]]


class Held(Dataset[Any]):
    """Labels in whatever it holds them, of images that are always the same."""

    def __init__(self, **held: Any) -> None:
        vars(self).update(held)
        self.read: list[int] = []

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        self.read.append(place)
        return torch.zeros(3), 0


class Parity(Held):
    """Labels that it computes."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return torch.zeros(3), int(place % 100 < 5 * self.shift)


def test_data_are_told_apart_by_any_label_that_they_hold() -> None:
    labels = np.zeros(1000, dtype=np.int64)
    other = labels.copy()
    other[1] = 1
    kinds: list[Callable[[np.ndarray], Any]] = [
        lambda y: Held(labels=y),
        lambda y: Held(_targets=y.tolist()),
        lambda y: Held(samples=[(Path(f"{number}.png"), int(label)) for number, label in enumerate(y)]),
        lambda y: Held(table=pd.DataFrame({"name": [f"{number}.png" for number in range(len(y))], "label": y})),
        lambda y: Held(inner=TensorDataset(torch.from_numpy(y))),
        lambda y: ConcatDataset([TensorDataset(torch.zeros(1000, 3), torch.from_numpy(y))] * 10),
        lambda y: Parity(int(y.sum())),
    ]
    pair = torch.randn(40, 3), torch.arange(40) % 3
    for make in kinds:
        first, second = make(labels), make(other)
        found = [OwnData.of((each, pair)).digest() for each in (first, second, first, make(labels))]
        assert found[0] != found[1] and found[0] == found[2] == found[3]


class Late(Parity):
    """Labels that it computes, of which one is another, at a place that is seen only where a thousand are looked at."""

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        few, many = ({number * (len(self) - 1) // (count - 1) for number in range(count)} for count in (64, 1000))
        return torch.zeros(3), int(place == min(many - few) and self.shift)


@pytest.mark.parametrize(
    "make",
    [
        lambda inner: inner,
        lambda inner: Subset(inner, range(10_000)),
        lambda inner: ConcatDataset([inner]),
        lambda inner: Inside(inner=inner),
    ],
)
def test_as_many_items_are_looked_at_within_others_where_no_label_can_be_read(make: Callable[[Any], Any]) -> None:
    pair = torch.randn(40, 3), torch.arange(40) % 3
    first, second = (OwnData.of((make(Late(shift)), pair)).digest() for shift in (0, 1))
    assert first != second


class Inside(Held):
    """The items of another data set."""

    inner: Any

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        item: tuple[Tensor, int] = self.inner[place]
        return item


def test_data_are_told_apart_by_what_collates_them() -> None:
    """Which may mix the items of a batch, so that none of them shows it alone."""

    def rolled(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        images, labels = default_collate(items)
        return (images + images.roll(1, 0)) / 2, labels

    images = TensorDataset(torch.randn(40, 3), torch.arange(40) % 3)
    plain, mixed = DataLoader(images, 8), DataLoader(images, 8, collate_fn=rolled)
    pairs = ((plain, plain), (mixed, plain), (plain, mixed), (images, images))
    found = [OwnData.of(loaders).digest() for loaders in pairs]
    assert len({*found}) == 3 and found[0] == found[3]


SCRIPT = """
import random, re, sys
from copy import deepcopy
from dataclasses import dataclass
import numpy as np, torch, torch.nn.functional as F
from torch import nn
from reslab.experiment.identity import digest

@dataclass
class Settings:
    names: frozenset = frozenset({"a", "b", "c"})
    act: object = F.relu

class Net(nn.Module):
    factor = FACTOR
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.settings, self.calls = deepcopy(nn.Linear(4, 3)), Settings(), 0
        self.kinds = ({F.relu, F.gelu}, frozenset({frozenset({"x"}), frozenset({"y"})}))
    @property
    def scale(self): return self.factor
    def forward(self, x):
        self.calls += 1
        self.last = x
        return [self.scale * re.sub("a", "b", "a").count("b") * self.fc(y) for y in (x,)][0]

network = Net()
first = digest(network)
re.compile(f"{random.random()}")
network(torch.randn(2, 4))
assert digest(network) == first, "a call changed it"
print(first)
"""


@pytest.mark.parametrize("factor", ["1.0", "-5.0"])
def test_a_digest_is_the_same_in_every_process_and_knows_values_of_the_class(
    factor: str, others: dict[str, int], tmp_path: Path
) -> None:
    file = tmp_path / "script.py"
    file.write_text(SCRIPT.replace("FACTOR", factor), encoding="utf-8")
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, file], env=environment, capture_output=True, check=True)
        found.add(done.stdout.decode())
    assert len(found) == 1
    assert others.setdefault(found.pop(), len(others)) == len(others) - 1


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_what_has_no_bytes_or_text_of_its_own_has_a_digest() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError

    def empty() -> Callable[[], int]:
        def inner() -> int:
            return later  # it is filled below, or never

        if False:
            later = 1
        return inner

    sparse = torch.eye(3).to_sparse()
    values = [sparse, sparse.to_sparse_csr(), torch.ones(2, device="meta"), torch.ones(2, dtype=torch.cfloat).conj()]
    found = [digest(each) for each in (*values, Silent(), empty())]
    assert len(set(found)) == len(found) and found[0] == digest(torch.eye(3).to_sparse())
    assert digest(2 * torch.eye(3).to_sparse()) != found[0]


def test_libraries_count_by_name_and_two_parts_are_not_three() -> None:
    assert digest(copy.deepcopy) == digest(copy.deepcopy) != digest(copy.copy)
    pair = torch.randn(40, 3), torch.arange(40) % 3
    assert OwnData.of((pair, pair)).digest() != OwnData.of((pair, pair, pair)).digest()


class Augmented(Drawn):
    """Images drawn by Python and NumPy."""

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        return torch.tensor([random.random(), np.random.rand()]), self.labels[place]


def test_data_that_are_drawn_by_any_generator_are_known_again_and_change_none() -> None:
    data, other = Augmented(torch.arange(100) % 3), (torch.randn(40, 3), torch.arange(40) % 3)
    random.seed(3)
    expected = random.random()
    random.seed(3)
    first = OwnData.of((data, other)).digest()
    assert random.random() == expected and OwnData.of((data, other)).digest() == first
