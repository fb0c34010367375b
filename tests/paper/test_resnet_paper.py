"""The 2015 paper's networks: analytic answers on tiny networks, and peers' defects."""

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import reslab
from reslab.errors import WrongValueError
from reslab.paper import resnet_paper
from reslab.paper.resnet_paper import (
    BasicBlock,
    PlainBlock,
    ZeroPad,
    cifar_plain,
    cifar_preresnet,
    cifar_resnet,
    cifar_stages,
)


def identity_convolutions(block: BasicBlock, scale: float) -> None:
    """Make the first convolution the identity and the second `scale` times it; BatchNorm passes values through."""
    for conv, value in ((block.conv1, 1.0), (block.conv2, scale)):
        nn.init.dirac_(conv.weight)
        conv.weight.data *= value
    for bn in (block.bn1, block.bn2):
        bn.eps = 0.0


def test_a_hand_made_block() -> None:
    """With F(x) = 3 relu(x): y = relu(x + 3 relu(x)), and dy/dx = 1 + 3 where x > 0, 0 elsewhere."""
    block = BasicBlock(1, 1, stride=1, shortcut="A").eval()
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


@pytest.mark.slow
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
        assert 6 * cifar_stages(depth, "basic")[0][0] + 2 == depth
    else:
        with pytest.raises(ValueError, match="is not 6n\\+2"):
            cifar_stages(depth, "basic")


def test_state_dict_names_are_torchvisions() -> None:
    from torchvision.models import ResNet as TorchvisionResNet
    from torchvision.models.resnet import BasicBlock as TorchvisionBlock

    theirs = set(TorchvisionResNet(TorchvisionBlock, [3, 3, 3, 3]).state_dict())
    assert set(cifar_resnet(20).state_dict()) <= theirs


def test_named_networks_are_attributes() -> None:
    assert isinstance(resnet_paper.resnet20(num_classes=4), nn.Module)
    with pytest.raises(AttributeError):
        resnet_paper.resnet21  # noqa: B018  # the access is what is tested


# --- ImageNet, options, versions --------------------------------------------------------------------------------------


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("depth", "a", "b", "c"),
    [(18, 11_515_688, 11_689_512, 12_043_816), (34, 21_623_848, 21_797_672, 22_716_840)],
)
def test_options_cost_what_they_cost(depth: int, a: int, b: int, c: int) -> None:
    with torch.device("meta"):
        assert [parameters(reslab.build(f"resnet{depth}", shortcut=option)) for option in "ABC"] == [a, b, c]
        assert parameters(reslab.build(f"plain{depth}")) == a


@pytest.mark.parametrize(
    ("depth", "option_b"),
    [
        *((20, 272_474), (32, 466_906), (44, 661_338), (56, 855_770), (110, 1_730_714)),
        pytest.param(1202, 19_424_026, marks=pytest.mark.slow),
    ],
)
def test_option_b_is_reachable(depth: int, option_b: int) -> None:
    """In a known reimplementation it is not."""
    with torch.device("meta"):
        assert parameters(cifar_resnet(depth, shortcut="B")) == option_b


@pytest.mark.parametrize(
    ("name", "v1", "v15"),
    [
        ("resnet50", 3.858, 4.089),
        ("resnet101", 7.570, 7.801),
        pytest.param("resnet152", 11.282, 11.514, marks=pytest.mark.slow),
    ],
)
def test_v1_and_v15_differ_in_cost_alone(name: str, v1: float, v15: float) -> None:
    from reslab.networks.counting import count_macs

    with torch.device("meta"):
        images = torch.empty(1, 3, 224, 224)
        networks = {stride_in: reslab.build(name, stride_in=stride_in) for stride_in in ("1x1", "3x3")}
        assert [round(count_macs(network, images) / 1e9, 3) for network in networks.values()] == [v1, v15]
    assert len({parameters(network) for network in networks.values()}) == 1


@pytest.mark.parametrize("depth", [18, 34, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (50, 101, 152))])
def test_v15_is_torchvisions_network(depth: int) -> None:
    theirs = getattr(torchvision.models, f"resnet{depth}")()
    ours = reslab.build(f"resnet{depth}", stride_in="3x3")
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.eval()(images)
        assert (ours.eval()(images) - expected).abs().max() <= 1e-5 * expected.abs().max()
        if depth >= 50:
            v1 = reslab.build(f"resnet{depth}")
            v1.load_state_dict(theirs.state_dict(), strict=True)
            assert (v1.eval()(images) - expected).abs().max() > 1e-3 * expected.abs().max()


def test_the_chapters_table_of_parameters_and_the_shapes_of_resnet50() -> None:
    with torch.device("meta"):
        millions = {
            depth: round(parameters(reslab.build(f"resnet{depth}")) / 1e6, 1) for depth in (18, 34, 50, 101, 152)
        }
        network = reslab.build("resnet50")
        shapes = {}
        for name in ("maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool"):
            network.get_submodule(name).register_forward_hook(
                lambda _m, _x, y, name=name: shapes.update({name: tuple(y.shape[1:])})
            )
        network(torch.empty(1, 3, 224, 224))
    assert millions == {18: 11.7, 34: 21.8, 50: 25.6, 101: 44.5, 152: 60.2}
    assert shapes == {
        "maxpool": (64, 56, 56),
        "layer1": (256, 56, 56),
        "layer2": (512, 28, 28),
        "layer3": (1024, 14, 14),
        "layer4": (2048, 7, 7),
        "avgpool": (2048, 1, 1),
    }


def v2_written_out(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run a v2 network's own layers in one straight line, as the 2016 paper words it."""
    relu = torch.relu
    x = relu(network.bn1(network.conv1(x)))  # type: ignore[operator]
    x = network.maxpool(x)  # type: ignore[operator]
    first = True
    for number in range(1, 5):
        for unit in getattr(network, f"layer{number}", ()):
            a = x if first else relu(unit.bn1(x))
            shortcut = unit.downsample(a) if not isinstance(unit.downsample, nn.Identity) else x
            h = unit.conv2(relu(unit.bn2(unit.conv1(a))))
            if hasattr(unit, "conv3"):
                h = unit.conv3(relu(unit.bn3(h)))
            x, first = shortcut + h, False
    x = relu(network.bn_last(x))  # type: ignore[operator]
    return network.fc(x.mean((2, 3)))  # type: ignore[operator]


@pytest.mark.parametrize(
    "name", ["preresnet20", "preresnet18", pytest.param("preresnet164", marks=pytest.mark.slow), "preresnet50"]
)
def test_v2_is_the_papers_words(name: str) -> None:
    network = reslab.build(name).double()
    images = torch.randn(4, 3, 32, 32).double()
    network(images)
    network.eval()
    with torch.no_grad():
        assert torch.allclose(network(images), v2_written_out(network, images), rtol=1e-10, atol=1e-10)


def test_v2_counts_by_closed_form() -> None:
    """Parameters of the pre-activation bottleneck network of 9n+2 layers, from section 4.1 and the appendix alone."""

    def count(n: int) -> int:
        total = 3 * 16 * 9 + 2 * 16  # stem and its BatchNorm, which the first unit shares
        width = 16
        for inner in (16, 32, 64):
            out = 4 * inner
            for index in range(n):
                total += 0 if width == 16 else 2 * width  # the unit's first BatchNorm
                total += width * inner + 9 * inner * inner + inner * out + 4 * inner
                total += width * out if index == 0 else 0  # projection, without BatchNorm
                width = out
        return total + 2 * 256 + 256 * 10 + 10

    assert (count(18), count(111)) == (1_703_258, 10_327_706)
    with torch.device("meta"):
        for n in (1, 2, 5):
            assert parameters(cifar_preresnet(9 * n + 2, block="bottleneck")) == count(n)


def test_v2s_last_sum_is_activated_and_its_first_activation_shared() -> None:
    """Known reimplementations leave out the final BatchNorm and ReLU."""
    network = cifar_preresnet(8)
    seen = {}
    network.avgpool.register_forward_pre_hook(lambda _, args: seen.update(last=args[0]))
    network(torch.randn(4, 3, 16, 16))
    assert (seen["last"] >= 0).all() and (seen["last"] == 0).any()
    assert not [name for name in network.state_dict() if name.startswith("layer1.0.bn1")]
    assert "layer2.0.bn1.weight" in network.state_dict()


def test_options_that_do_not_exist_are_refused() -> None:
    for options, message in [({"shortcut": "D"}, "no shortcut option 'D'"), ({"stride_in": "2x2"}, "must be '1x1'")]:
        with pytest.raises(ValueError, match=message):
            reslab.build("resnet50", **options)
    with pytest.raises(ValueError, match="depth 21 is not 9n\\+2"):
        reslab.build("cifar_preresnet", depth=21, block="bottleneck")
    with pytest.raises(ValueError, match="must be 'basic' or 'bottleneck'"):
        reslab.build("cifar_resnet", depth=20, block="wide")


@pytest.mark.slow  # 8 s
def test_the_story_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from reslab.stories.paper import main

    main()
    printed = capsys.readouterr().out
    for text in ("11,689,512", "19,421,274", "3, 8, 36, 3", "reslab study shortcuts"):
        assert text in printed


def test_an_imagenet_network_with_the_cifar_stem_sees_small_images_whole() -> None:
    network = reslab.build("resnet18", stem="cifar", num_classes=10).eval()
    assert network.input_shape == (3, 32, 32)
    maps = network.layer1(network.maxpool(network.bn1(network.conv1(torch.zeros(1, 3, 32, 32)))))
    assert maps.shape == (1, 64, 32, 32)
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_173_962  # as kuangliu's pytorch-cifar
    for options in ({"stem": "small"}, {"stem": "cifar", "pool": "caffe"}):
        with pytest.raises(WrongValueError):
            reslab.build("resnet18", **options)
