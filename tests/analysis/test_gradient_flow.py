"""Gradient flow, and the tour of torchvision's code."""

import pytest
import torch
import torch.nn.functional as F
from helpers import refused
from helpers_networks import Toy
from torch import Tensor, nn

from reslab.analysis.gradient_flow import gradient_flow, through_training, torchvision_tour, without_batchnorm
from reslab.data import load_data
from reslab.errors import FailedError, UnseenError, WrongValueError
from reslab.networks import zoo
from reslab.residual import view
from reslab.stories import gradient_flow as story


def digits(count: int) -> tuple[Tensor, Tensor]:
    images, labels = load_data("digits").train
    return images[:count], labels[:count]


class Named(nn.Module):
    """A network whose images come by name, as Hugging Face's do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.network(pixel_values)


def test_images_may_come_by_name() -> None:
    network, (images, labels) = zoo.build("cifar_resnet", depth=8, in_channels=1), digits(4)
    found = gradient_flow(Named(network), {"pixel_values": images}, labels)
    assert torch.equal(found.parameters, gradient_flow(network, images, labels).parameters)


@pytest.mark.parametrize("name", ["cifar_resnet", "cifar_plain", "cifar_preresnet"])
def test_norms_are_those_of_autograd(name: str) -> None:
    network, (images, labels) = zoo.build(name, depth=8, in_channels=1), digits(16)
    flow = gradient_flow(network, images, labels)
    inputs: list[Tensor] = []
    hooks = [
        network.get_submodule(block.name).register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        for block in flow.blocks
    ]
    loss = F.cross_entropy(network(images), labels)
    for hook in hooks:
        hook.remove()
    (first,) = torch.autograd.grad(loss, inputs[0], retain_graph=True)
    loss.backward()
    assert flow.loss == pytest.approx(loss.item())
    assert float(flow.backward[0]) == pytest.approx(float(first.norm()), rel=1e-5)
    assert float(flow.forward[0]) == pytest.approx(inputs[0].square().mean().sqrt().item(), rel=1e-5)
    for block, norm in zip(flow.blocks, flow.parameters, strict=True):
        gradients = [
            parameter.grad for parameter in network.get_submodule(block.name).parameters() if parameter.grad is not None
        ]
        # a v2 block that changes shape shares its first activation: it belongs to no side
        if name != "cifar_preresnet":
            assert float(norm) == pytest.approx(float(torch.stack([g.norm() for g in gradients]).norm()), rel=1e-5)
    assert len(flow.to_frame()) == len(flow.blocks) and flow.figure()


@pytest.mark.slow  # 7 s
def test_which_way_the_gradient_goes(capsys: pytest.CaptureFixture[str]) -> None:
    """Plain with BatchNorm explodes, without it vanishes; residual with BatchNorm does neither."""
    images, labels = digits(128)
    ratios = {}
    for label, (family, batchnorm) in story.ROWS.items():
        torch.manual_seed(0)
        network = zoo.build(family, depth=56, in_channels=1)
        ratios[label] = gradient_flow(
            network if batchnorm else without_batchnorm(network), images, labels
        ).first_over_last
    assert ratios["plain, BatchNorm"] > 500 and ratios["plain, no BatchNorm"] < 1e-3
    assert 3 < ratios["residual, BatchNorm"] < 100 < ratios["residual, no BatchNorm"]
    story.main(depths=(8,))
    assert "residual, no BatchNorm" in capsys.readouterr().out


def test_through_training_trains_what_is_not_frozen_or_a_wholly_frozen_network() -> None:
    network = zoo.build("cifar_resnet", depth=8, in_channels=1)
    images, labels = torch.randn(8, 1, 8, 8), torch.arange(8)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    whole = through_training(network, images, labels, steps=1)
    network.fc.requires_grad_()
    head = through_training(network, images, labels, steps=1)
    network.requires_grad_()
    assert whole.flows[-1].loss == through_training(network, images, labels, steps=1).flows[-1].loss
    assert whole.flows[0].loss == head.flows[0].loss and whole.flows[-1].loss != head.flows[-1].loss


def test_under_inference_mode_gradients_are_measured_as_anywhere() -> None:
    network = zoo.build("cifar_resnet", depth=8, in_channels=1).eval()
    labels = torch.arange(4)
    with torch.inference_mode():
        images = torch.randn(4, 1, 8, 8)
        found = gradient_flow(network, images, labels)
    again = gradient_flow(network, images.clone(), labels)
    assert found.to_frame().equals(again.to_frame())


def test_blocks_that_run_without_gradients_have_none() -> None:
    class Frozen(nn.Module):
        """A backbone of three blocks of which nothing comes back, and a block behind it."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.last = nn.Sequential(*(Toy(nn.Linear(3, 3)) for _ in range(3))), Toy(nn.Linear(3, 3))

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.backbone(x)
            return self.last(x)  # type: ignore[no-any-return]

    found = gradient_flow(Frozen(), torch.randn(4, 3), torch.arange(4) % 3)
    assert (found.backward > 0).tolist() == [False, False, False, False, True]
    assert (found.parameters > 0).tolist() == [False, False, False, True]


def test_gradients_that_are_next_to_nothing_are_not_nothing() -> None:
    network = nn.Sequential(*(Toy(nn.Linear(3, 3)) for _ in range(2)))
    x, y = torch.randn(4, 3), torch.arange(4) % 3
    flow = gradient_flow(network, x, y)
    tiny = gradient_flow(network, x, y, loss=lambda outputs, labels: F.cross_entropy(outputs, labels) * 1e-25)
    assert torch.allclose(tiny.backward / 1e-25, flow.backward, rtol=1e-4)
    assert tiny.growth == pytest.approx(flow.growth, rel=1e-4)


def test_training_is_followed_through_the_blocks_that_a_view_declares() -> None:
    class Looks(Toy):
        """A block that looks at its values, so that its addition cannot be traced."""

        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 1e9 else super().forward(x)

    network = nn.Sequential(Looks(nn.Linear(3, 3)), Looks(nn.Linear(3, 3)))
    x, y = torch.randn(4, 3), torch.arange(4) % 3
    declared = view(network, x, blocks={"0": ("branch", None), "1": ("branch", None)})
    flow = through_training(declared, x, y, steps=1, every=1)
    assert [(block.name, block.kind) for block in flow.flows[1].blocks] == [("0", "add"), ("1", "add")]
    with refused(UnseenError, "declare it"):
        through_training(network, x, y, steps=1, every=1)


def test_through_training_leaves_the_network_and_measures_its_copy() -> None:
    network, (images, labels) = zoo.build("cifar_resnet", depth=8, in_channels=1), digits(64)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    flow = through_training(network, images, labels, steps=5, every=2)
    assert list(flow.steps) == [0, 2, 4, 5] and flow.flows[-1].loss < flow.flows[0].loss
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert flow.to_frame().shape == (4, 3) and flow.figure()
    with refused(WrongValueError, "0, 10 and 64"):
        through_training(network, images, labels, steps=0)


def test_the_network_is_left_as_it_was_also_after_an_error() -> None:
    network, (images, labels) = zoo.build("cifar_resnet", depth=8, in_channels=1), digits(8)
    network.layer1.eval()
    network.fc.weight.grad = torch.ones_like(network.fc.weight)
    network.conv1.weight.requires_grad_(False)
    buffers = [buffer.clone() for buffer in network.buffers()]
    modes, rng = [module.training for module in network.modules()], torch.get_rng_state()

    def broken(*_: Tensor) -> Tensor:
        raise RuntimeError("broken loss")

    gradient_flow(network, images, labels)
    with refused(FailedError, "RuntimeError: broken loss"):
        gradient_flow(network, images, labels, loss=broken)
    assert all(torch.equal(a, b) for a, b in zip(buffers, network.buffers(), strict=True))
    assert modes == [module.training for module in network.modules()] and torch.equal(rng, torch.get_rng_state())
    assert (
        torch.equal(network.fc.weight.grad, torch.ones_like(network.fc.weight))
        and not network.conv1.weight.requires_grad
    )
    assert sum(parameter.grad is not None for parameter in network.parameters()) == 1


def test_without_batchnorm_is_a_copy() -> None:
    network = zoo.build("cifar_resnet", depth=8)
    assert not [m for m in without_batchnorm(network).modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


def test_the_tour_follows_the_installed_source() -> None:
    tour = torchvision_tour()
    assert len(tour.stops) == 7 and all(stop.lines for stop in tour.stops)
    assert any("identity" in line for _, line in tour.stops[0].lines)
    assert tour.stops[1].numbers == {"stride of conv1": 1, "stride of conv2": 2}
    assert "잔차 덧셈" in tour.text("ko") and "residual addition" in tour.text("en")
    assert len(tour.to_frame()) == 7 and tour.figure()


def test_a_training_that_diverges_ends_the_flows_and_says_so() -> None:
    network = nn.Sequential(*(Toy(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))) for _ in range(2)))
    with pytest.warns(UserWarning, match=r"training diverged after step \d, where the flows end"):
        found = through_training(network, torch.randn(8, 4), torch.arange(8) % 3, steps=3, every=1, learning_rate=1e30)
    assert 1 <= len(found.flows) < 4


def test_no_step_is_taken_after_the_last_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, told = [], list[tuple[int, int]]()
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, *given: steps.append(step(self, *given)))
    network, images, labels = zoo.build("cifar_resnet", depth=8), torch.randn(4, 3, 8, 8), torch.arange(4)
    found = through_training(
        network, images, labels, steps=2, batch_size=4, progress=lambda what, *given: told.append(given[:2])
    )
    assert len(steps) == 2 and list(found.steps) == [0, 2] and told[-1] == (2, 2)
