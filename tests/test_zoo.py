"""Registry-wide: every network of the zoo."""

import pytest
import torch
from torch import nn

from reslab import zoo
from reslab.errors import UserError

NAMES = zoo.names()
OF_MODULES = [name for name in NAMES if not name.startswith("lowlevel/")]  # Level 2 has no module but the adapter


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_multiply_adds_are_the_references(name: str) -> None:
    description = zoo.describe(name)
    assert (description.params, description.macs) == description.reference[:2]
    assert description.reference.source


@pytest.mark.parametrize("name", [name for name in NAMES if name != "resnet1202"])
def test_forward_and_gradients_are_finite(name: str) -> None:
    network = zoo.build(name, num_classes=7, in_channels=2)
    logits = network(torch.randn(2, 2, 32, 32))
    assert logits.shape == (2, 7)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    for parameter in network.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", OF_MODULES)
def test_no_relu_is_shared_or_in_place(name: str) -> None:
    """In-place or shared ReLUs corrupt captured branch outputs and break hooks."""
    with torch.device("meta"):
        network = zoo.build(name)
    relus = [module for _, module in network.named_modules(remove_duplicate=False) if isinstance(module, nn.ReLU)]
    assert len(relus) == len(set(map(id, relus))) > 0
    assert not any(relu.inplace for relu in relus)


@pytest.mark.parametrize("name", OF_MODULES)
def test_no_convolution_before_a_batchnorm_has_a_bias(name: str) -> None:
    with torch.device("meta"):
        assert not [key for key, m in zoo.build(name).named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]


def test_names_mean_what_they_say() -> None:
    """Depth counts the layers with weights on the main path: "resnet110" is 110, not 164."""
    for name in OF_MODULES:
        with torch.device("meta"):
            network = zoo.build(name)
        layers = [key for key, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "downsample" not in key]
        assert len(layers) == int("".join(filter(str.isdigit, name)))


def test_mistakes_are_told_in_one_line() -> None:
    with pytest.raises(UserError, match="no network 'resnet57'; did you mean 'resnet5"):
        zoo.build("resnet57")
    with pytest.raises(UserError, match="depth 21 is not 6n\\+2"):
        zoo.build("cifar_resnet", depth=21)
    with pytest.raises(UserError, match="no option 'num_clases'; did you mean 'num_classes'"):
        zoo.build("resnet20", num_clases=3)
    with pytest.raises(UserError, match="missing a required argument: 'depth'"):
        zoo.build("cifar_plain")


def test_a_name_declared_twice_is_refused() -> None:
    known = {"a": nn.Identity}
    with pytest.raises(ValueError, match=r"other.py declares \['a'\]"):
        zoo.add_models(known, {"a": nn.Identity}, "other.py")


def test_counting_leaves_the_mode_alone() -> None:
    network = nn.Conv2d(2, 3, 3)
    assert network.training
    assert zoo.count_macs(network, torch.randn(1, 2, 5, 5)) == 3 * 3 * 3 * 2 * 9  # 3×3 positions, 3 outputs of 2·9 multiply-adds
    assert network.training
