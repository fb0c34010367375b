"""Filter-normalised loss surfaces."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
import torchvision
from helpers import Fails, refused, snapshot
from torch import Tensor, nn

import reslab
from reslab.analysis.landscape import Landscape, filter_normalised, landscape
from reslab.errors import FailedError, MismatchError, UnseenError, WrongValueError
from reslab.residual import view

IMAGES = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 3, 4, 9])


def small() -> nn.Module:
    return reslab.build("cifar_resnet", depth=8, in_channels=1)


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("batch_statistics", [False, True])
def test_the_centre_is_the_plain_loss_exactly(dimensions: int, batch_statistics: bool) -> None:
    network = small().eval()
    result = landscape(network, IMAGES, LABELS, dimensions=dimensions, points=3, batch_statistics=batch_statistics)  # type: ignore[arg-type]  # parametrised
    with torch.no_grad():
        assert result.centre == F.cross_entropy(network.train(batch_statistics)(IMAGES), LABELS).item()
    assert result.losses.shape == (3,) * dimensions


def test_a_direction_has_the_norms_of_the_filters_and_leaves_biases_and_batchnorm_alone() -> None:
    network = small()
    with torch.no_grad():
        network.conv1.weight[3] = 0
    direction = filter_normalised(network, torch.Generator().manual_seed(0))
    for name, weight in network.named_parameters():
        if weight.dim() > 1:
            torch.testing.assert_close(direction[name].flatten(1).norm(dim=1), weight.detach().flatten(1).norm(dim=1))
            assert not torch.equal(direction[name], weight)
        else:
            assert not direction[name].any()


def test_the_surface_is_the_loss_at_weights_moved_by_hand() -> None:
    network = small().double().eval()
    images = IMAGES.double()
    result = landscape(network, images, LABELS, points=3, radius=0.5, seed=7)
    generator = torch.Generator().manual_seed(7)
    first, second = filter_normalised(network, generator), filter_normalised(network, generator)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(parameter + 0.5 * first[name] - 0.5 * second[name])
        assert result.losses[2, 0].item() == pytest.approx(F.cross_entropy(network(images), LABELS).item(), rel=1e-12)
    assert result.coordinates.tolist() == [-0.5, 0, 0.5]


def test_rescaled_filters_before_batchnorm_have_the_same_landscape() -> None:
    """What filter normalisation is for (Li et al., section 4): the surface does not depend on the scale of
    the weights.
    """
    network = small().double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-30

    def surface() -> Tensor:
        return landscape(network, IMAGES.double(), LABELS, dimensions=1, points=5, batch_statistics=True).losses

    expected = surface()
    with torch.no_grad():
        network.get_submodule("layer1.0.conv1").weight.mul_(
            torch.linspace(0.5, 20, 16, dtype=torch.float64).reshape(-1, 1, 1, 1)
        )
    torch.testing.assert_close(surface(), expected, rtol=1e-9, atol=0)


def test_seeds_choose_the_directions() -> None:
    network = small()
    one, again, other = (
        landscape(network, IMAGES, LABELS, dimensions=1, points=3, seed=seed).losses for seed in (0, 0, 1)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_a_view_and_other_peoples_networks() -> None:
    network = small()
    seen = view(network, IMAGES)
    arguments = {"dimensions": 1, "points": 3}
    assert torch.equal(
        landscape(seen, IMAGES, LABELS, **arguments).losses, landscape(network, IMAGES, LABELS, **arguments).losses
    )  # type: ignore[arg-type]  # by name
    result = landscape(
        torchvision.models.resnet18(num_classes=10), torch.randn(6, 3, 32, 32), LABELS, dimensions=1, points=3
    )
    assert result.losses.isfinite().all()


def test_the_figure_and_the_table_show_themselves() -> None:
    line = landscape(small(), IMAGES, LABELS, dimensions=1, points=3)
    assert list(line.to_frame().columns) == ["a", "loss"]
    assert line.figure().axes[0].get_ylabel() == "loss (cross-entropy: nats)"
    plane = landscape(small(), IMAGES, LABELS, points=3)
    frame = plane.to_frame()
    assert frame[(frame["a"] == 1) & (frame["b"] == -1)]["loss"].item() == plane.losses[2, 0]
    assert len(plane.figure().axes) == 2  # and the colour bar
    assert "<svg" in plane._repr_html_()


@pytest.mark.parametrize(
    ("greatest", "colours"), [(40.0, "loss (cross-entropy: nats)"), (60.0, "log10 of the loss (cross-entropy: nats)")]
)
def test_the_colours_of_a_surface_are_logarithmic_over_two_decades(greatest: float, colours: str) -> None:
    losses = torch.tensor([[1.0, 2.0, 3.0], [1.0, 0.5, 1.0], [4.0, float("nan"), greatest]])
    surface = Landscape(torch.tensor([-1.0, 0.0, 1.0]), losses, seed=0).figure()
    assert surface.axes[1].get_ylabel() == colours


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_found(fails: bool) -> None:
    network = small()
    network.relu = Fails(call=4) if fails else nn.ReLU()
    network.get_submodule("layer1").eval()
    next(network.parameters()).requires_grad_(False)
    network(IMAGES).sum().backward()
    before = snapshot(network)
    with refused(FailedError, "RuntimeError: midway") if fails else nullcontext():
        landscape(network, IMAGES, LABELS, points=3, batch_statistics=True)
    assert snapshot(network) == before


def test_misuse_is_refused_in_one_line() -> None:
    network = small()
    with refused(WrongValueError, "points", 3, 4):
        landscape(network, IMAGES, LABELS, points=4)
    with refused(WrongValueError, "dimensions", 3):
        landscape(network, IMAGES, LABELS, dimensions=3)  # type: ignore[arg-type]  # what is refused
    with refused(WrongValueError, "radius", 0):
        landscape(network, IMAGES, LABELS, radius=0)
    with refused(MismatchError, "labels", [6], [5]):
        landscape(network, IMAGES, LABELS[:5], points=3)
    with refused(MismatchError, "[B, 11 or more]", [6, 10]):
        landscape(network, IMAGES, LABELS + 1, points=3)
    with refused(MismatchError, [6, 3, 8, 8]):
        landscape(network, IMAGES.expand(6, 3, 8, 8), LABELS, points=3)
    nn.init.constant_(next(network.parameters()), float("nan"))
    with refused(UnseenError, "conv1.weight", "NaN"):
        landscape(network, IMAGES, LABELS, points=3)


def test_only_filters_move_each_by_its_norm() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.up, self.bn = nn.Conv2d(2, 4, 3), nn.ConvTranspose2d(4, 6, 2, groups=2), nn.BatchNorm2d(6)
            self.scale, self.positions, self.embed = (
                nn.Parameter(torch.ones(6, 1, 1)),
                nn.Parameter(torch.ones(1, 5, 6)),
                nn.Embedding(3, 6),
            )

    network = Scaled()
    direction = filter_normalised(network, torch.Generator().manual_seed(0))
    assert {name for name, step in direction.items() if step.any()} == {"conv.weight", "up.weight"}
    up, step = network.up.weight.detach(), direction["up.weight"]
    # a transposed convolution's inputs come first, and each group of them makes half of the outputs
    for output in range(6):
        group, place = divmod(output, 3)
        inputs = slice(2 * group, 2 * group + 2)
        assert torch.isclose(up[inputs, place].norm(), step[inputs, place].norm(), rtol=1e-5)
    with refused(UnseenError, "filters"):
        filter_normalised(nn.BatchNorm2d(3), torch.Generator())
