"""What makes a trial of one's own network, data and loss another one."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset

from reslab.api.identity import digest
from reslab.api.own import OwnData


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


WEIGHT = torch.tensor([1.0, 2.0, 3.0])


def weighed(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels, weight=WEIGHT)


def closed_over(smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda outputs, labels: F.cross_entropy(outputs, labels, label_smoothing=smoothing)


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
        lambda: partial(F.cross_entropy, label_smoothing=0.1),
        lambda: partial(F.cross_entropy, label_smoothing=0.2),
        nn.CrossEntropyLoss,
        lambda: nn.CrossEntropyLoss(label_smoothing=0.9),
        lambda: nn.CrossEntropyLoss(weight=torch.ones(3)),
        lambda: nn.CrossEntropyLoss(weight=2 * torch.ones(3)),
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


def test_what_a_function_refers_to_and_training_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(weighed)
    monkeypatch.setitem(globals(), "WEIGHT", 2 * WEIGHT)
    assert digest(weighed) != before
    assert digest(Scaled().eval()) == digest(Scaled())


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
