"""The direction of blocks, against autograd on networks written out by hand."""

import pytest
import torch
import torch.nn.functional as F
from helpers import refused, snapshot
from helpers_networks import toy_network
from torch import Tensor, nn

from reslab.analysis.direction import direction
from reslab.errors import MismatchError, UnseenError
from reslab.networks import zoo


def by_hand(network: nn.Sequential, image: Tensor, label: Tensor) -> tuple[list[float], list[float]]:
    """Return the cosines and the ratios for one image, from a gradient for each block's input."""
    cosines, ratios = [], []
    for index, block in enumerate(network):
        x = network[:index](image).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(network[index:](x), label), x)
        added = block.get_submodule("branch")(x)
        cosines.append(F.cosine_similarity(added, -gradient).item())
        ratios.append((added.norm() / x.norm()).item())
    return cosines, ratios


def test_where_a_length_is_zero_there_is_no_direction() -> None:
    network = toy_network(2)
    last = network[0].get_submodule("branch")
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(3, 3, dtype=torch.float64)
    x[1] = 0
    found = direction(network, x, torch.arange(3))
    assert found.cosine[0].isnan().all() and found.ratio[0].isnan().tolist() == [False, True, False]
    assert found.ratio[0, 0] == 0 and not found.ratio.isinf().any()


def test_the_cosines_are_those_of_autograd_image_by_image() -> None:
    network, x, y = toy_network(5), torch.randn(7, 3, dtype=torch.float64), torch.randint(3, (7,))
    found = direction(network, x, y)
    for image in range(len(x)):
        cosines, ratios = by_hand(network, x[image : image + 1], y[image : image + 1])
        assert found.cosine[:, image].tolist() == pytest.approx(cosines, rel=1e-6)
        assert found.ratio[:, image].tolist() == pytest.approx(ratios, rel=1e-9)
    assert found.mean.tolist() == pytest.approx(found.cosine.mean(1).tolist())


def test_a_step_down_the_gradient_has_cosine_one() -> None:
    """A block that adds minus the gradient at its own output, which the identity after it hands back."""

    class Descent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.step(x)

        def __init__(self) -> None:
            super().__init__()
            self.step = nn.Linear(4, 4)
            nn.init.zeros_(self.step.weight)

    block, x = Descent(), torch.randn(3, 4)
    up = torch.tensor([1.0, -2.0, 3.0, 0.5])
    with torch.no_grad():
        block.step.bias.copy_(-up)
    for sign in (1, -1):  # of the labels, which turn the loss round
        found = direction(
            nn.Sequential(block), x, torch.full((3,), sign), loss=lambda outputs, signs: (signs * (outputs @ up)).mean()
        )
        assert found.cosine[0].tolist() == pytest.approx([sign] * 3, abs=1e-6)
        assert found.to_frame()["downhill"].tolist() == [sign > 0]


@pytest.mark.parametrize("name", ["cifar_resnet", "cifar_preresnet"])
def test_it_leaves_a_network_as_it_was_and_has_no_angle_where_the_shape_changes(name: str) -> None:
    network = zoo.build(name, depth=8)
    network.train()
    images, labels = torch.randn(6, 3, 16, 16), torch.randint(10, (6,))
    before = snapshot(network)
    found = direction(network, images, labels, batch_statistics=True)
    assert snapshot(network) == before
    assert found.cosine.shape == found.ratio.shape == (3, 6)
    assert found.cosine[0].isfinite().all() and found.cosine[1:].isnan().all()
    assert (found.cosine[0].abs() <= 1 + 1e-12).all()
    assert list(found.to_frame().index) == ["layer1.0", "layer2.0", "layer3.0"]
    assert found.figure().axes


def test_a_network_without_sums_points_nowhere() -> None:
    with refused(UnseenError):
        direction(zoo.build("cifar_plain", depth=8), torch.randn(2, 3, 16, 16), torch.zeros(2, dtype=torch.int64))
    with refused(MismatchError):
        direction(toy_network(2), torch.randn(2, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.int64))


def test_a_block_that_runs_without_gradient_has_no_direction_and_the_others_have() -> None:
    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = (nn.Sequential(nn.Linear(3, 3), nn.Tanh()) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = x + self.first(x)
            return x + self.last(x)

    cosine = direction(Backbone().eval(), torch.randn(4, 3), torch.arange(4) % 3).cosine
    assert cosine[0].isnan().all() and cosine[1].isfinite().all()
