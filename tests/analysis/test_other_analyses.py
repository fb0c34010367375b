"""Analyses of odd networks and losses, each against what can be worked out by hand."""

import math
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from torch import Tensor, nn
from torch.nn.utils import prune as pruning

import reslab
from reslab.analysis.feature_reuse import severed
from reslab.analysis.ranking import spearman
from reslab.analysis.twin import without_batchnorm
from reslab.commands import tables
from reslab.errors import UnseenError


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def images() -> Tensor:
    return torch.randn(12, 3, 6, 6, dtype=torch.float64)


LABELS = torch.arange(12) % 4


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(F.relu(x))  # type: ignore[no-any-return]


class Two(nn.Module):
    """Two blocks, with a transition between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 2, 2)
        self.b1, self.b2, self.fc = Block(4), Block(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.b2(self.down(self.b1(self.stem(x)))).mean((2, 3)))  # type: ignore[no-any-return]


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.fc = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 5)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.fc((x + self.attention(x, x, x, need_weights=False)[0]).mean(1))  # type: ignore[no-any-return]


def test_a_blocks_multiply_adds_are_its_own_and_attentions_are_counted() -> None:
    worth = reslab.block_worth(Two().double().eval(), images(), LABELS, permutations=0)
    assert worth.measures["macs"].tolist() == [36 * 4 * 4 * 9, 9 * 8 * 8 * 9]
    worth.measures["turn"].mul_(2)  # an ordinary tensor
    worth = reslab.block_worth(Attending().double().eval(), images(), LABELS, permutations=0)
    assert worth.measures["macs"].tolist() == [9 * 4 * 8 * 8 + 2 * 9 * 9 * 8]


def test_small_numbers_are_rows_of_json_in_full() -> None:
    frame = pd.DataFrame({"a": [1e-13, math.inf, math.nan], "b": [True, False, None], "c": ["x", "y", None]})
    assert tables.rows(frame) == [
        {"a": 1e-13, "b": True, "c": "x"},
        {"a": None, "b": False, "c": "y"},
        {"a": None, "b": None, "c": None},
    ]


class Dense(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, growth, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(x))], 1)


def test_cuts_of_a_layer_in_two_dense_blocks_are_undone_and_computed_weights_refused() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.Sequential(Dense(4, 2), Dense(6, 2)),
        nn.Sequential(Dense(8, 2), Dense(10, 2)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with severed(network, range(1, 2)):
        assert any(not torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            pruning.l1_unstructured(layer, "weight", amount=0.0)
    with refused(UnseenError, "computed"), severed(network, range(1, 2)):
        pass


def test_a_parameter_at_the_root_shifts_nothing_before_its_use() -> None:
    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.places, self.patches = nn.Parameter(torch.randn(9, 8)), nn.Conv2d(3, 8, 2, 2)
            self.a, self.fc, self.unused = nn.Linear(8, 8), nn.Linear(8, 5), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).transpose(1, 2) + self.places
            return self.fc((x + self.a(x).relu()).mean(1))  # type: ignore[no-any-return]

    found = reslab.covariate_shift(Placed().double(), images(), LABELS, learning_rate=1.0).layers
    assert [each.layer for each in found] == ["patches", "Placed", "a", "fc"] and found[0].change == 0


class Cosine(nn.Module):
    """Without its second block, the features are 0 and the logits 0/0."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 5)
        self.b = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(4))
        nn.init.constant_(self.stem.bias, -50.0)  # type: ignore[arg-type]  # it has one
        nn.init.zeros_(self.b[1].weight)  # type: ignore[arg-type]
        nn.init.constant_(self.b[1].bias, 60.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for block in self.b:
            h = h + block(h.tanh())
        h = F.relu(h).mean((2, 3))
        return self.fc(h / h.norm(dim=1, keepdim=True))  # type: ignore[no-any-return]


def test_pruning_takes_no_block_that_leaves_no_number_and_none_twice() -> None:
    found = reslab.prune(Cosine().double().eval(), images(), LABELS, steps=3)
    assert 1 not in found.greedy and len(set(found.greedy)) == 3 and found.losses[0].isfinite().all()

    def broken(outputs: Tensor, labels: Tensor) -> Tensor:
        loss = F.cross_entropy(outputs, labels)
        return loss if torch.allclose(outputs, whole, atol=1e-6) else loss * torch.inf

    network, x = Two().double().eval(), images()
    whole = network(x).detach()
    assert sorted(reslab.prune(network, x, LABELS, loss=broken, steps=2).greedy) == [0, 1]


def test_answers_that_are_no_numbers_are_wrong_at_every_depth() -> None:
    found = reslab.lens(Cosine().double().eval(), images(), torch.zeros(12, dtype=torch.long))
    assert found.loss[0].isnan() and found.error[0] == 1


def test_the_images_are_as_they_were() -> None:
    class Writing(Two):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(F.relu(x, inplace=True))

    x = images()
    before = x.clone()
    reslab.remove_each(Writing().double().eval(), x, LABELS)
    reslab.gradient_flow(Writing().double().eval(), x, LABELS)
    assert torch.equal(x, before)


def test_a_twin_has_no_batchnorm_wherever_the_network_keeps_it() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 5)
            self.steps = [self.conv, self.bn]

        def forward(self, x: Tensor) -> Tensor:
            for step in self.steps:
                x = step(x)
            return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]

    twin: Any = without_batchnorm(Listed())
    assert [type(step) for step in twin.steps] == [nn.Conv2d, nn.Identity] and twin.steps[1] is twin.bn
    assert isinstance(without_batchnorm(nn.BatchNorm2d(3)), nn.Identity)


def test_classes_that_are_ruled_out_leave_the_divergence_a_number() -> None:
    class Masked(Two):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).masked_fill(torch.arange(5) == 4, -torch.inf)

    network, x = Masked().double().eval(), images()
    found = reslab.block_worth(network, x, LABELS, permutations=0).measures["kl, zero"]
    seen = reslab.view(network, x)
    with torch.no_grad():
        whole, without = (logits[:, :4].log_softmax(1) for logits in (network(x), seen(x, seen.gates(off=[0]))))
    assert found[0].item() == pytest.approx((whole.exp() * (whole - without)).sum(1).mean().item())


def test_a_split_needs_no_gradient_mode_and_importance_is_as_exact_as_the_network() -> None:
    network, x = Two().double().eval(), images()
    with torch.no_grad():
        parts = reslab.split(network, x).parts
    assert torch.allclose(parts.sum(0), network(x))
    gradient = reslab.importance(network, x, LABELS).gradient
    seen, step = reslab.view(network, x), 1e-6

    def loss(gate: float) -> float:
        return F.cross_entropy(seen(x, torch.tensor([gate, 1.0], dtype=torch.float64)), LABELS).item()

    assert gradient[0].item() == pytest.approx((loss(1 + step) - loss(1 - step)) / (2 * step), rel=1e-6)
    assert spearman(torch.tensor([1.0, 2, 2]), torch.tensor([2.0, 1, 1])).value == -1


def test_statistics_of_a_batch_need_torchs_batchnorm() -> None:
    network, x = reslab.build("lowlevel/resnet18", num_classes=10, in_channels=1), torch.randn(4, 1, 32, 32)
    with refused(UnseenError, "BatchNorm"):
        reslab.loss_smoothness(network, x, torch.arange(4))
    with refused(UnseenError, "BatchNorm"):
        reslab.responses(network, x, batch_statistics=True)
    next(value for name, value in network.named_buffers() if name.endswith("running_var")).fill_(-1)
    with refused(UnseenError, "impossible statistics"):
        reslab.remove_each(network, x, torch.arange(4))
