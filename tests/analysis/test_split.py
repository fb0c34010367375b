"""What blocks say: the split against networks written out by hand, and the lens against gates."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers import refused, slow_unless, snapshot
from helpers_networks import Toy
from torch import Tensor, nn
from torchvision import models

from reslab.analysis.lens import lens
from reslab.analysis.split import split
from reslab.errors import UnseenError, WrongValueError
from reslab.networks import zoo
from reslab.residual import view


def test_the_parts_of_a_linear_network_are_products_of_its_matrices() -> None:
    """Two blocks of linear shortcuts, and a ReLU whose mask is known."""
    torch.manual_seed(1)
    stem, head = nn.Linear(5, 4).double(), nn.Linear(4, 3).double()
    shortcuts = [nn.Linear(4, 4).double(), nn.Linear(4, 4, bias=False).double()]
    branches = [nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)).double() for _ in shortcuts]
    first, second = (Toy(branch, shortcut) for branch, shortcut in zip(branches, shortcuts, strict=True))
    network = nn.Sequential(stem, first, nn.ReLU(), second, head)
    x = torch.randn(6, 5, dtype=torch.float64)
    found = split(network, x)
    with torch.no_grad():
        a = stem(x)
        one = branches[0](a)
        mask = (shortcuts[0](a) + one > 0).double()
        two = branches[1](network[:3](x))
        w, b, v, u = shortcuts[0].weight, shortcuts[0].bias, shortcuts[1].weight, head.weight
        expected = [(a @ w.T * mask) @ v.T @ u.T, (one * mask) @ v.T @ u.T, two @ u.T]
        expected.append((b * mask) @ v.T @ u.T + head.bias)
        assert torch.allclose(found.parts, torch.stack(expected), rtol=1e-9, atol=1e-12)
        assert torch.allclose(found.parts.sum(0), network(x), rtol=1e-9)
        assert torch.allclose(found.lens[-1], network(x), rtol=1e-9)
        assert torch.allclose(found.per_class, found.parts.mean(1))
        answer, second_best = network(x).topk(2, 1).values.unbind(1)
        assert torch.allclose(found.margins.sum(0), answer - second_best)
    assert found.deciding.tolist() == found.margins[1:3].argmax(0).tolist()
    assert list(found.to_frame().index) == ["stem", "1", "3", "bias"] and found.figure().axes


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "v1, A": lambda: zoo.build("cifar_resnet", depth=8),
    "v1, B": lambda: zoo.build("cifar_resnet", depth=8, shortcut="B"),
    "v1, C": lambda: zoo.build("cifar_resnet", depth=8, shortcut="C"),
    "v2": lambda: zoo.build("cifar_preresnet", depth=8),
    "torchvision": lambda: models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=10),
    "bottlenecks": lambda: models.ResNet(models.resnet.Bottleneck, [1, 2, 1, 1], num_classes=10),
}


@pytest.mark.parametrize("name", slow_unless(("v1, A", "v2"), NETWORKS))
def test_the_parts_add_up_to_the_logits(name: str) -> None:
    network = NETWORKS[name]()
    x = torch.randn(3, 3, 32, 32)
    for _ in range(2):
        network(x)
    small = sum(parameter.numel() for parameter in network.parameters()) < 1e6  # a snapshot is of Python's numbers
    before = snapshot(network) if small else None
    found = split(network, x)
    assert before is None or snapshot(network) == before
    with torch.no_grad():
        logits = network.eval()(x)
    assert (found.parts.sum(0) - found.logits).abs().max() <= 1e-10 * found.logits.abs().max()
    assert (found.logits - logits).abs().max() <= 1e-4 * logits.abs().max()
    some = split(network, x, classes=[7, 2])
    assert torch.allclose(some.parts, found.parts[..., [7, 2]])
    # the last block's part is what the classifier makes of it, where nothing but a ReLU comes between
    if name == "v1, A":
        exact = view(network.double(), x.double())
        with torch.no_grad():
            last = exact.run(x.double(), [exact.blocks[-1].name])[exact.blocks[-1].name]
            pooled = (last.branch * (last.sum > 0)).mean((2, 3))
            assert torch.allclose(found.parts[-2], pooled @ network.get_parameter("fc.weight").T)


def test_a_vision_transformer_with_its_deviations_fixed() -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=32, depth=2).eval()
    found = split(network, torch.randn(2, 3, 32, 32))
    assert len(found.blocks) == 4 and (found.parts.sum(0) - found.logits).abs().max() < 1e-10


class Squashed(nn.Module):
    """Blocks whose way to the logits is not linear."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Toy(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.block(x))


def test_what_is_not_split_is_told() -> None:
    with refused(UnseenError):
        split(Squashed(), torch.randn(2, 3))
    with refused(UnseenError):
        split(zoo.build("cifar_plain", depth=8), torch.randn(2, 3, 16, 16))
    for classes in ([0, 10], [3], [3, 3]):
        with refused(WrongValueError, 9, *classes):
            split(zoo.build("cifar_resnet", depth=8), torch.randn(2, 3, 16, 16), classes=classes)


def test_the_lens_is_the_network_with_later_gates_at_zero() -> None:
    network = zoo.build("cifar_resnet", depth=8)
    x = torch.randn(8, 3, 16, 16)
    network(x)
    network.eval()
    with torch.no_grad():
        labels = network(x).argmax(1)
        before = snapshot(network)
        found = lens(network, x, labels)
        assert snapshot(network) == before
        gated = view(network, x)
        expected = torch.stack([gated(x, (torch.arange(3) < depth).float()) for depth in range(4)])
    assert torch.allclose(found.logits, expected, rtol=1e-3, atol=1e-4)
    assert found.error[-1] == 0
    assert found.loss[-1].item() == pytest.approx(F.cross_entropy(expected[-1], labels).item(), rel=1e-3)
    for image, depth in enumerate(found.settled.tolist()):
        answers = found.logits[:, image].argmax(1).tolist()
        assert set(answers[depth:]) == {answers[-1]} and (depth == 0 or answers[depth - 1] != answers[-1])
    assert found.to_frame()["settled"].iloc[-1] == 1 and found.figure().axes


@pytest.mark.parametrize("inplace", [False, True])
def test_a_relu_may_write_over_a_layers_output(inplace: bool) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        Toy(nn.Conv2d(4, 4, 3, padding=1)),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=inplace),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
        nn.ReLU(inplace=inplace),
        nn.Linear(5, 3),
    ).eval()
    nn.init.normal_(network[2].bias)
    found = split(network, torch.randn(4, 1, 6, 6))
    assert torch.allclose(found.parts.sum(0), found.logits)
