"""CKA against its definition, and the probe against a ridge regression solved another way."""

from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import refused, snapshot
from helpers_networks import Toy, toy_network
from torch import Tensor, nn

from reslab.analysis.alike import alike, centred_grams, products
from reslab.analysis.probe import probe
from reslab.errors import MismatchError, UnseenError, WrongValueError
from reslab.networks import zoo
from reslab.residual import view


def hsic(a: Tensor, b: Tensor) -> float:
    """Return HSIC_1 as Song et al. 2012 write it (eq. 5), of two representations `[n, d]`."""
    n = len(a)
    k, m = (x @ x.T for x in (a, b))
    k, m = k - k.diag().diag(), m - m.diag().diag()
    one = torch.ones(n, dtype=a.dtype)
    value = (
        (k @ m).trace() + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    )
    return (value / (n * (n - 3))).item()


def test_it_is_the_definition_batch_by_batch() -> None:
    network, other = toy_network(3), toy_network(2)
    x = torch.randn(14, 3, dtype=torch.float64)
    before = snapshot(network), snapshot(other)
    found = alike(network, x, other=other, batch=6)  # 6, 6, and 2 that are too few
    smaller = alike(network, x[:10], other=other, batch=6)  # 6 and 4
    assert (snapshot(network), snapshot(other)) == before
    with torch.no_grad():
        ones, twos = ([net[: index + 1](x) for index in range(len(net))] for net in (network, other))
    batches = [slice(0, 6), slice(6, 12)]
    for i, a in enumerate(ones):
        for j, b in enumerate(twos):
            both, first, second = (sum(hsic(p[s], q[s]) for s in batches) for p, q in ((a, b), (a, a), (b, b)))
            assert found.cka[i, j].item() == pytest.approx(both / (first * second) ** 0.5)
            both, first, second = (
                6 * hsic(p[:6], q[:6]) + 4 * hsic(p[6:10], q[6:10]) for p, q in ((a, b), (a, a), (b, b))
            )
            assert smaller.cka[i, j].item() == pytest.approx(both / (first * second) ** 0.5)
    assert found.adjacent == pytest.approx((found.cka[1, 0] + found.cka[2, 1]).item() / 2)


def test_it_does_not_see_rotations_sizes_or_shifts_and_is_near_0_for_noise() -> None:
    torch.manual_seed(0)
    a, noise = torch.randn(400, 6, dtype=torch.float64), torch.randn(400, 50, dtype=torch.float64)
    q, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    network, x = toy_network(2), torch.randn(5, 3, dtype=torch.float64)

    def cka(*representations: Tensor) -> Tensor:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(import_module("reslab.analysis.alike"), "outputs", lambda view, x: iter(representations))
            grams, _ = centred_grams(view(network, x), x)
        pairs = products(grams, grams)
        return pairs / (pairs.diagonal()[:, None] * pairs.diagonal()).sqrt()

    found = cka(a, 3 * a @ q + 7, noise)
    assert found[0, 1].item() == pytest.approx(1) and abs(found[0, 2].item()) < 0.05


@pytest.mark.parametrize("name", ["cifar_resnet", "cifar_plain"])
def test_residual_and_plain_networks_have_a_matrix(name: str) -> None:
    network, x = zoo.build(name, depth=8), torch.randn(8, 3, 16, 16)
    network(x)
    found = alike(network, x)
    assert found.cka.diagonal().tolist() == pytest.approx([1] * 3) and torch.allclose(found.cka, found.cka.T)
    assert list(found.to_frame().columns) == ["layer1.0", "layer2.0", "layer3.0"] and found.figure().axes
    with refused(WrongValueError, 3):
        alike(network, x[:3])


def test_the_probe_is_a_ridge_regression_on_one_half() -> None:
    network, x = toy_network(2), torch.randn(40, 3, dtype=torch.float64)
    y = (x[:, 0] > 0).long()
    before = snapshot(network)
    found = probe(network, x, y, ridge=0.1, seed=5)
    assert snapshot(network) == before and found.tested == 20
    order = torch.randperm(40, generator=torch.Generator().manual_seed(5))
    fit, held = order[:20], order[20:]
    for index in range(2):
        with torch.no_grad():
            features = network[: index + 1](x)
        centred = features - features[fit].mean(0)
        penalty = 0.1 * centred[fit].square().sum(0).mean()
        rows = torch.cat([centred[fit], penalty.sqrt() * torch.eye(3, dtype=torch.float64)])  # ridge by more rows
        targets = F.one_hot(y)[fit].double()
        wanted = torch.cat([targets - targets.mean(0), torch.zeros(3, 2, dtype=torch.float64)])
        weights = torch.from_numpy(np.linalg.lstsq(rows.numpy(), wanted.numpy(), rcond=None)[0])
        answers = (centred[held] @ weights + targets.mean(0)).argmax(1)
        assert found.error[index].item() == (answers != y[held]).double().mean().item()
    assert found.to_frame()["error"].max() < 0.5 and found.figure().axes
    with refused(MismatchError):
        probe(network, x, y[:5])
    with refused(WrongValueError):
        probe(network, x, y, ridge=0)


class Mixing(nn.Sequential):
    """Two blocks that normalise by the images of their batch, in evaluation mode too."""

    def __init__(self) -> None:
        blocks = (Toy(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False))) for _ in range(2))
        super().__init__(*blocks)


def test_where_a_batch_is_mixed_it_is_one_for_the_probe_and_there_is_no_alike() -> None:
    network, x, y = Mixing().eval(), torch.randn(251, 3), torch.arange(251) % 2
    with pytest.warns(UserWarning, match="251 images are run as one batch"):
        assert probe(network, x, y).error.isfinite().all()
    with refused(UnseenError, "mini-batches"):
        alike(network, x)


@pytest.mark.parametrize("measure", [alike, probe])
def test_random_networks_are_refused(measure: Callable[..., object]) -> None:
    class Always(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.5, training=True)

    network, x, y = nn.Sequential(Toy(Always()), Toy(nn.Linear(3, 3))).eval(), torch.randn(8, 3), torch.arange(8) % 2
    with refused(UnseenError, "dropout"):
        measure(network, x, *([y] if measure is probe else []))


def test_a_probe_of_what_is_no_number_has_no_error() -> None:
    class Large(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 3e38 * 10

    network, x, y = nn.Sequential(Toy(nn.Linear(3, 3)), Toy(Large())).eval(), torch.randn(8, 3), torch.arange(8) % 2
    found = probe(network, x, y)
    assert found.error.isnan().tolist() == [False, True] and "reads 0 best" in found.figure().axes[0].get_title()
