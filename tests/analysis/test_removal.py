"""Removal and exchange of blocks, against evaluation the plain way."""

import numpy as np
import pytest
import torch
from helpers import refused
from helpers_networks import Toy
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from torch import Tensor, nn

from reslab.analysis.inference import FastView, fast_view
from reslab.analysis.removal import importance, kendall_tau, remove_each, remove_random, reorder
from reslab.errors import MismatchError, UnseenError, WrongValueError
from reslab.networks import zoo
from reslab.residual import view


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network with statistics of its own, images, and its own answers as labels."""
    torch.manual_seed(0)
    network, images = zoo.build("cifar_resnet", depth=20, in_channels=1), torch.randn(300, 1, 8, 8)
    for _ in range(5):
        network(images)
    with torch.no_grad():
        return network, images, network.eval()(images).argmax(1)


def error(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) != labels).double().mean())


def test_the_sweep_is_the_plain_loop(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, images, labels = trained
    gated = view(network, images)
    result = remove_each(network, images, labels)
    with torch.no_grad():
        expected = [error(gated(images, 1 - torch.eye(9)[index]), labels) for index in range(9)]
    assert result.error == 0 and max(expected) > 0.1
    # an image at a boundary may fall either way
    assert result.without.tolist() == pytest.approx(expected, abs=1.01 / 300)
    assert list(result.to_frame().index) == [block.name for block in gated.blocks] and result.figure()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("torchvision/resnet18", {}, marks=pytest.mark.slow),
        pytest.param("torchvision/densenet121", {}, marks=pytest.mark.slow),
        ("cifar_plain", {"depth": 8}),
        ("cifar_preresnet", {"depth": 8}),
    ],
)
def test_the_fast_copy_answers_as_the_network(name: str, options: dict[str, int]) -> None:
    network, images = zoo.build(name, **options), torch.randn(4, 3, 32, 32)
    for _ in range(3):
        network(images)
    network.eval()
    with torch.no_grad():
        fast = fast_view(view(network, images), images)
        assert isinstance(fast, FastView) and (fast(images) - network(images)).norm() <= 1e-4 * network(images).norm()
        bf16 = fast_view(view(network, images), images, "bf16")
        assert isinstance(bf16, FastView) and bf16(images).dtype == torch.bfloat16
        assert (bf16(images).float() - network(images)).norm() <= 0.1 * network(images).norm()


class Folded(nn.Module):
    """A block whose shortcut is shorter than its branch, but longer once the branch's BatchNorms are folded."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(3, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Conv2d(3, 3, 3, padding=1),
            nn.BatchNorm2d(3),
        )
        self.shortcut = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x.mT.contiguous().mT) + self.branch(x)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:no faster copy")
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_fast_copy_gates_the_networks_branches(place: int) -> None:
    torch.manual_seed(0)
    blocks = [Folded() if index == place else Toy(nn.Conv2d(3, 3, 1)) for index in range(3)]
    network, images = nn.Sequential(*blocks).eval(), torch.randn(4, 3, 4, 4)
    gated = view(network, images)
    with torch.no_grad():
        fast = fast_view(gated, images)
        for gates in 1 - torch.eye(3):
            assert torch.allclose(fast(images, gates), gated(images, gates), atol=1e-5)


@pytest.mark.slow  # 2 s
def test_removing_none_and_all(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, images, labels = trained
    result = remove_random(network, images, labels, counts=np.array([0, 9]), draws=2)  # type: ignore[arg-type]  # also
    assert result.error == 0 and not result.errors[0].any()
    with torch.no_grad():
        everything = error(view(network, images)(images, torch.zeros(9)), labels)
    assert result.errors[1].tolist() == pytest.approx([everything] * 2, abs=1.01 / 300)
    assert list(result.to_frame().index) == [0, 9] and result.figure()


def test_exchanging_no_pair_changes_nothing_and_one_pair_is_two_blocks_swapped(
    trained: tuple[nn.Module, Tensor, Tensor],
) -> None:
    network, images, labels = trained
    result = reorder(network, images, labels, swaps=[0, 1, 4], draws=3)
    assert not result.errors[0].any() and result.correlation is not None
    assert torch.equal(result.correlation[0], torch.ones(3)) and (result.correlation[1] < 1).all()
    assert list(result.to_frame().columns) == ["error", "std", "kendall_tau"] and result.figure()


@given(st.permutations(list(range(7))))
def test_kendalls_tau_is_scipys(order: list[int]) -> None:
    assert kendall_tau(order) == pytest.approx(kendalltau(range(7), order).statistic)


def test_importance_is_the_gradient_of_the_gates(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, images, labels = trained
    found = importance(network, images[:8], labels[:8])
    gates = torch.ones(9, requires_grad=True)
    torch.nn.functional.cross_entropy(view(network, images)(images[:8], gates), labels[:8]).backward()
    assert torch.allclose(found.gradient, gates.grad) and len(found.to_frame()) == 9 and found.figure()
    network.zero_grad(set_to_none=True)


def test_nonsense_is_refused(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, images, labels = trained
    with refused(MismatchError, "labels", [len(images)], [5]):
        remove_each(network, images, labels[:5])
    with refused(WrongValueError, "counts", 9, [10]):
        remove_random(network, images, labels, counts=[10])
    with refused(UnseenError, "two"):
        reorder(zoo.build("cifar_resnet", depth=8, in_channels=1), images, labels, swaps=[1])
    with refused(UnseenError, "chain"):
        reorder(zoo.build("cifar_plain", depth=20, in_channels=1), images, labels, swaps=[1])


def test_a_block_is_not_exchanged_with_one_before_a_pool() -> None:
    blocks = [Toy(nn.Conv2d(4, 4, 3, padding=1)) for _ in range(4)]
    ends = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    stem = nn.Conv2d(3, 4, 3, padding=1)
    network = nn.Sequential(stem, *blocks[:2], nn.MaxPool2d(2), *blocks[2:], *ends).eval()
    sizes = set[int]()
    blocks[3].register_forward_pre_hook(lambda _, inputs: sizes.add(inputs[0].shape[-1]))
    with refused(UnseenError):  # no two blocks of one place are left
        reorder(network, torch.randn(16, 3, 8, 8), torch.arange(16) % 10, swaps=[1], draws=4)
    assert sizes <= {4}


def test_blocks_that_look_at_their_shapes_are_exchanged_too() -> None:
    class Looking(Toy):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.shape[1] > 3 else x

    torch.manual_seed(0)
    blocks = [Toy(nn.Sequential(nn.Linear(4, 4), nn.Tanh())) for _ in range(3)]
    lookers = [Looking(block.branch) for block in blocks]
    images, labels = torch.randn(8, 5, 3), torch.arange(8) % 5
    stem, ends = nn.Linear(3, 4), (nn.Flatten(), nn.Linear(20, 5))
    plain, looking = (nn.Sequential(stem, *each, *ends).eval() for each in (blocks, lookers))
    found = [reorder(network, images, labels, swaps=[1, 2], draws=4).to_frame() for network in (plain, looking)]
    assert found[0].equals(found[1])
