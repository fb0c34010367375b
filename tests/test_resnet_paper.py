"""The 2015 paper's networks: analytic answers on tiny networks, and peers' defects."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from reslab.paper import resnet_paper
from reslab.paper.resnet_paper import BasicBlock, PlainBlock, ZeroPad, blocks_per_stage, cifar_plain, cifar_resnet


def identity_convolutions(block: BasicBlock, scale: float) -> None:
    """Make the first convolution the identity and the second `scale` times it; BatchNorm passes values through."""
    for conv, value in ((block.conv1, 1.0), (block.conv2, scale)):
        nn.init.dirac_(conv.weight)
        conv.weight.data *= value
    for bn in (block.bn1, block.bn2):
        bn.eps = 0.0


def test_a_hand_made_block() -> None:
    """With F(x) = 3 relu(x): y = relu(x + 3 relu(x)), and dy/dx = 1 + 3 where x > 0, 0 elsewhere."""
    block = BasicBlock(1, 1, stride=1).eval()
    identity_convolutions(block, 3.0)
    x = torch.tensor([[[[1.0, -2.0], [0.5, 4.0]]]], requires_grad=True)
    y = block(x)
    assert torch.equal(y, torch.tensor([[[[4.0, 0.0], [2.0, 16.0]]]]))
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.tensor([[[[4.0, 0.0], [4.0, 4.0]]]]))


def test_the_plain_block_is_the_branch_alone() -> None:
    block = PlainBlock(1, 1, stride=1).eval()
    identity_convolutions(block, 3.0)
    assert torch.equal(block(torch.tensor([[[[1.0, -2.0]]]])), torch.tensor([[[[3.0, 0.0]]]]))


def test_a_hand_made_one_block_network() -> None:
    """Stem and classifier as the identity, one block a stage with a zero branch: the logit is the mean of the input."""
    network = cifar_resnet(8, num_classes=1, in_channels=1).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    nn.init.zeros_(network.conv1.weight)
    network.conv1.weight.data[0, 0, 1, 1] = 1.0
    for layer in (network.layer1, network.layer2, network.layer3):
        nn.init.zeros_(layer[0].conv2.weight)
    nn.init.zeros_(network.fc.weight)
    network.fc.weight.data[0, 0] = 1.0
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    # Option A subsamples twice by 2: what is left are the pixels at rows and columns 0 and 4, that is 0, 4, 32, 36
    assert network(x).item() == (0 + 4 + 32 + 36) / 4


def test_option_a_strides_and_appends_zeros_at_the_end() -> None:
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    y = ZeroPad(2, 5, 2)(x)
    assert y.shape == (1, 5, 2, 2)
    assert torch.equal(y[:, :2], x[:, :, ::2, ::2])
    assert not y[:, 2:].any()


def test_maps_shrink_and_channels_grow_stage_by_stage() -> None:
    """A known reimplementation inverts the stride test, so that every stage after the first stays at one size."""
    network = cifar_resnet(20)
    x = network.relu(network.bn1(network.conv1(torch.randn(1, 3, 32, 32))))
    shapes = []
    for layer in (network.layer1, network.layer2, network.layer3):
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_the_stem_has_a_relu_and_the_last_sum_is_activated() -> None:
    network = cifar_resnet(8)
    seen = {}
    network.layer1.register_forward_pre_hook(lambda _, args: seen.update(stem=args[0]))
    network.avgpool.register_forward_pre_hook(lambda _, args: seen.update(last=args[0]))
    network(torch.randn(4, 3, 16, 16))
    assert all((value >= 0).all() and (value == 0).any() for value in seen.values())


def test_he_initialisation_is_fan_out() -> None:
    network = cifar_resnet(20)
    weight = network.layer2[0].conv1.weight  # 16 -> 32 channels, 3×3: fan_out is 288, fan_in 144
    assert weight.std().item() == pytest.approx((2 / 288) ** 0.5, rel=0.05)
    assert not network.fc.bias.any()


@given(st.integers(1, 12))
def test_any_depth_6n_plus_2_has_the_layers_it_says(n: int) -> None:
    with torch.device("meta"):
        residual, plain = cifar_resnet(6 * n + 2), cifar_plain(6 * n + 2)
    for network in (residual, plain):
        assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in network.modules()) == 6 * n + 2
    assert {k: v.shape for k, v in residual.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}


@given(st.integers(-10, 2000))
def test_other_depths_are_refused_with_the_nearest(depth: int) -> None:
    if depth >= 8 and depth % 6 == 2:
        assert 6 * blocks_per_stage(depth) + 2 == depth
    else:
        with pytest.raises(ValueError, match="is not 6n\\+2"):
            blocks_per_stage(depth)


def test_state_dict_names_are_torchvisions() -> None:
    from torchvision.models import ResNet as TorchvisionResNet
    from torchvision.models.resnet import BasicBlock as TorchvisionBlock

    theirs = set(TorchvisionResNet(TorchvisionBlock, [3, 3, 3, 3]).state_dict())
    assert set(cifar_resnet(20).state_dict()) <= theirs


def test_named_networks_are_attributes() -> None:
    assert isinstance(resnet_paper.resnet20(num_classes=4), nn.Module)
    with pytest.raises(AttributeError):
        resnet_paper.resnet21  # noqa: B018  # the access is what is tested
