"""The deeper network that contains a shallower one."""

import torch
from torch import Tensor, nn

from reslab import zoo
from reslab.studies.degradation import contain


def trained(family: str, depth: int) -> tuple[nn.Module, Tensor]:
    """Return a network with statistics and BatchNorm parameters of its own, and images."""
    torch.manual_seed(depth)
    network, images = zoo.build(family, depth=depth, in_channels=1), torch.randn(32, 1, 8, 8)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.uniform_(-1, 1)
        for _ in range(5):
            network(images)
    return network.eval(), images


def test_the_deep_network_computes_what_the_shallow_one_does_and_could_do_more() -> None:
    shallow, images = trained("cifar_plain", 8)
    before = {name: value.clone() for name, value in shallow.state_dict().items()}
    deep = contain(shallow, zoo.build("cifar_plain", depth=26, in_channels=1))
    with torch.no_grad():
        assert torch.allclose(deep(images), shallow(images), rtol=1e-5, atol=1e-5)
        assert all(torch.equal(value, before[name]) for name, value in shallow.state_dict().items())
        deep.get_submodule("layer2.3.conv1").weight.mul_(-1)  # type: ignore[union-attr, operator]  # a convolution's
        assert not torch.allclose(deep(images), shallow(images), rtol=1e-2)


def test_without_the_right_variance_the_layers_would_not_be_the_identity() -> None:
    shallow, images = trained("cifar_plain", 8)
    deep = contain(shallow, zoo.build("cifar_plain", depth=26, in_channels=1)).double()
    with torch.no_grad():
        exact = shallow.double()(images.double())
        assert (deep(images.double()) - exact).abs().max() < 1e-5 * exact.abs().max()
        for name, module in deep.named_modules():
            if isinstance(module, nn.BatchNorm2d) and name not in dict(shallow.named_modules()):
                module.running_var.fill_(1.1)  # type: ignore[union-attr]  # it tracks
        assert (deep(images.double()) - exact).abs().max() > 0.1 * exact.abs().max()
