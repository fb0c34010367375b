"""What blocks are worth, against brute force: lesions one by one, Shapley over all subsets, greedy removal by hand."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import refused, snapshot
from helpers_networks import Toy, toy_network
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor, nn

from reslab.analysis import lesions as lesioning
from reslab.analysis.lesions import lesions
from reslab.analysis.pruning import prune
from reslab.analysis.ranking import spearman
from reslab.analysis.shapley import shapley
from reslab.analysis.worth import block_worth
from reslab.errors import MismatchError, UnknownNameError, UnseenError, WrongValueError
from reslab.networks import zoo
from reslab.networks.counting import count_macs
from reslab.residual import View, view

N = 4


@pytest.fixture(scope="module")
def toy() -> tuple[nn.Sequential, Tensor, Tensor, View]:
    torch.manual_seed(3)
    network = toy_network(N)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    return network, x, y, view(network, x)


def loss_with(network: nn.Sequential, x: Tensor, y: Tensor, on: set[int]) -> float:
    """Return the loss of the network with the branches of some blocks only."""
    with torch.no_grad():
        for index, block in enumerate(network):
            branch = block.get_submodule("branch")(x) if index in on else 0
            x = block.get_submodule("shortcut")(x) + branch
        return F.cross_entropy(x, y).item()


def test_each_lesion_is_the_network_run_with_another_value(toy: tuple[nn.Sequential, Tensor, Tensor, View]) -> None:
    network, x, y, gated = toy
    before = snapshot(network)

    def surest(outputs: Tensor, _: Tensor) -> Tensor:
        return outputs.max(1).values.mean()

    pair, labels = x[:2], y[:2]  # each of the two is the other's other
    found = lesions(gated, pair, labels, metric=surest)
    assert found.whole.loss.item() == pytest.approx(F.cross_entropy(network(pair), labels).item())
    with torch.no_grad():
        whole = gated(pair).log_softmax(1)
        for index in range(N):
            branch = gated.run(pair)[str(index)].branch
            values = {"zero": torch.zeros_like(branch), "mean": branch.mean(0), "resample": branch.flip(0)}
            for kind, value in values.items():
                outputs = gated(pair, replace={index: value})
                read = found.without[kind]  # type: ignore[index]  # a kind
                assert read.loss[index].item() == pytest.approx(F.cross_entropy(outputs, labels).item())
                assert read.error[index].item() == (outputs.argmax(1) != labels).double().mean().item()
                divergence = (whole.exp() * (whole - outputs.log_softmax(1))).sum(1).mean()
                assert read.kl[index].item() == pytest.approx(divergence.item(), abs=1e-12)
                assert read.metric[index].item() == pytest.approx(surest(outputs, labels).item())
    assert snapshot(network) == before


def test_the_mean_is_over_all_batches_and_everyone_gets_another(
    toy: tuple[nn.Sequential, Tensor, Tensor, View], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, x, y, gated = toy
    whole = lesions(gated, x, y, kinds=["mean"]).without["mean"]
    monkeypatch.setattr("reslab.analysis.sweeping.BATCH", 3)
    assert lesions(gated, x, y, kinds=["mean"]).without["mean"].loss.tolist() == pytest.approx(whole.loss.tolist())
    monkeypatch.setattr("reslab.analysis.sweeping.BATCH", 5)  # which would leave the sixth alone
    assert lesions(gated, x, y, kinds=["resample"]).without["resample"].loss.isfinite().all()
    for count in (2, 3, 10):
        circle = lesioning._circle(count, torch.Generator().manual_seed(count)).tolist()
        assert sorted(circle) == list(range(count)) and all(place != other for place, other in enumerate(circle))
    with refused(UnknownNameError, "median"):
        lesions(gated, x, y, kinds=["median"])  # type: ignore[list-item]  # what is tested
    with refused(WrongValueError):
        lesions(gated, x[:1], y[:1])


def test_shapley_values_are_those_over_all_subsets(toy: tuple[nn.Sequential, Tensor, Tensor, View]) -> None:
    network, x, y, gated = toy
    exact = []
    for block in range(N):
        others = [other for other in range(N) if other != block]
        value = 0.0
        for size in range(N):
            weight = math.factorial(size) * math.factorial(N - 1 - size) / math.factorial(N)
            for chosen in combinations(others, size):
                on = set(chosen)
                value += weight * (loss_with(network, x, y, on) - loss_with(network, x, y, on | {block}))
        exact.append(value)
    found = shapley(gated, x, y, permutations=100)
    assert found.none == pytest.approx(loss_with(network, x, y, set()))
    assert found.whole == pytest.approx(loss_with(network, x, y, set(range(N))))
    assert found.values.sum().item() == pytest.approx(found.none - found.whole)
    assert ((found.values - torch.tensor(exact)).abs() < 4 * found.standard_error + 1e-9).all()
    assert (found.standard_error > 0).all() and found.figure().axes
    assert shapley(gated, x, y, permutations=1).standard_error.isnan().all()


def test_greedy_removal_ranks_again_and_one_shot_does_not(toy: tuple[nn.Sequential, Tensor, Tensor, View]) -> None:
    network, x, y, gated = toy
    left, losses = set(range(N)), [loss_with(network, x, y, set(range(N)))]
    ranked = sorted(left, key=lambda block: loss_with(network, x, y, left - {block}))
    order = []
    for _ in range(N - 1):
        order.append(min(left, key=lambda block: loss_with(network, x, y, left - {block})))
        left = left - {order[-1]}
        losses.append(loss_with(network, x, y, left))
    found = prune(gated, x, y, steps=N - 1)
    assert list(found.greedy) == order and list(found.once) == ranked[: N - 1]
    assert found.losses[0].tolist() == pytest.approx(losses)
    once = [loss_with(network, x, y, set(range(N)) - set(ranked[:gone])) for gone in range(N)]
    assert found.losses[1].tolist() == pytest.approx(once)
    assert found.to_frame()["greedy"].tolist() == ["", *map(str, order)] and found.figure().axes
    with refused(WrongValueError, N + 1):
        prune(gated, x, y, steps=N + 1)


def test_the_table_holds_every_measure(toy: tuple[nn.Sequential, Tensor, Tensor, View]) -> None:
    network, x, y, gated = toy
    before = snapshot(network)
    found = block_worth(network, x, y, permutations=4)
    assert snapshot(network) == before
    gates = torch.ones(N, requires_grad=True)
    (slope,) = torch.autograd.grad(F.cross_entropy(gated(x, gates), y), gates)
    assert found.measures["first order"].tolist() == pytest.approx((-slope).tolist(), rel=1e-5, abs=1e-7)
    whole = loss_with(network, x, y, set(range(N)))
    zero = [loss_with(network, x, y, set(range(N)) - {block}) - whole for block in range(N)]
    assert found.measures["loss, zero"].tolist() == pytest.approx(zero)
    stream = gated.run(x)
    for index, values in enumerate(stream.values()):
        turn = (1 - F.cosine_similarity(values.input, values.sum)).mean().item()
        ratio = (values.branch.norm(dim=1) / values.input.norm(dim=1)).mean().item()
        assert found.measures["turn"][index].item() == pytest.approx(turn)
        assert found.measures["ratio"][index].item() == pytest.approx(ratio)
    assert found.measures["macs"].tolist() == found.measures["parameters"].tolist() == [18, 27, 18, 27]
    ranks = found.agreement()
    assert ranks["loss, mean"].value == pytest.approx(found.mean_agreement)
    assert "shapley" in ranks and "shapley error" not in ranks
    assert list(found.to_frame().index) == ["0", "1", "2", "3"] and len(found.figure().axes) == 2


def test_networks_that_change_shape_overwrite_and_have_more_than_blocks() -> None:
    network = zoo.build("cifar_resnet", depth=8)
    x, y = torch.randn(4, 3, 16, 16), torch.randint(10, (4,))
    found = block_worth(network, x, y, permutations=0, metric=lambda outputs, _: outputs.mean())
    assert found.measures["turn"].isfinite().tolist() == [True, False, False]
    assert "shapley" not in found.measures and "metric, resample" in found.measures
    head = 64 * 10 + 9 * 3 * 16 * 16 * 16
    assert found.measures["macs"].sum().item() == count_macs(network, x[:1]) - head


def test_a_loss_of_ones_own_and_what_does_not_fit(toy: tuple[nn.Sequential, Tensor, Tensor, View]) -> None:
    _, x, y, gated = toy
    found = block_worth(gated, x, x, permutations=2, loss=F.mse_loss)
    assert found.measures["error, zero"].isnan().all() and found.measures["loss, zero"].isfinite().all()
    with refused(MismatchError):
        block_worth(gated, x, y[:3])
    with refused(UnseenError):
        block_worth(nn.Linear(3, 3), x.float(), y)


def test_multiply_adds_are_those_of_one_image_also_where_none_is_taken_alone() -> None:
    def network(track: bool) -> nn.Sequential:
        blocks = (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=track)) for _ in range(2))
        return nn.Sequential(*(Toy(block) for block in blocks)).eval()

    x, y = torch.randn(6, 3), torch.arange(6) % 3
    tracked, batchwise = (block_worth(network(track), x, y).measures["macs"] for track in (True, False))
    assert tracked.tolist() == batchwise.tolist() == [9, 9]


values = st.lists(st.integers(-3, 3), min_size=4, max_size=12)


@given(values, st.integers(0, 1000))
def test_the_rank_correlation_is_scipys(numbers: list[int], seed: int) -> None:
    others = np.random.default_rng(seed).integers(-3, 4, len(numbers))
    found = spearman(torch.tensor(numbers), torch.tensor(others))
    if len(set(numbers)) == 1 or len(set(others.tolist())) == 1:
        assert math.isnan(found.value)
    else:
        assert found.value == pytest.approx(spearmanr(numbers, others).statistic)
        assert -1 < found.low < found.high < 1


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    truth = 6 / math.pi * math.asin(0.7 / 2)  # Spearman's of normal values with correlation 0.7
    held = 0
    for _ in range(400):
        pairs = generator.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 15)
        found = spearman(torch.tensor(pairs[:, 0]), torch.tensor(pairs[:, 1]))
        held += found.low <= truth <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_pairs_without_a_number_are_left_out_and_few_are_not_certain() -> None:
    a, b = torch.tensor([1.0, 2, torch.nan, 3, 4, 5]), torch.tensor([1.0, 2, 3, 3, 4, 5])
    found = spearman(a, b)
    assert found.pairs == 5 and found.value == pytest.approx(1) and found.low < 0.9
    assert math.isnan(spearman(a[:2], b[:2]).low)
