"""The successors: torchvision's function, the papers' figures, and each paper's own law."""

import math
from collections.abc import Iterator
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from helpers import refused, slow_unless
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models

import reslab
from reslab import residual
from reslab.data import load_data
from reslab.errors import MismatchError, WrongValueError
from reslab.networks import zoo
from reslab.networks.counting import count_macs, count_params
from reslab.networks.pretrained import TORCHVISION_OPTIONS
from reslab.successors import densenet, efficientnet, regnet, resnext, wide_resnet
from reslab.weights.untold import has_stride_choice

FILES = (resnext, wide_resnet, densenet, efficientnet, regnet)
NAMES = [name for file in FILES for name in file.MODELS]
REFERENCE = {name: reference for file in FILES for name, reference in file.REFERENCE.items()}
TWINS = [name for name in NAMES if name in list_models()]
# a smallest of each, and two that depart
SMALL = ["resnext50_32x4d", "densenet121", "efficientnet_b0", "regnet_x_400mf", "regnet_y_800mf"]


def twins(name: str, **options: object) -> tuple[nn.Module, nn.Module]:
    """Return our network as torchvision's, and torchvision's with statistics that are not fresh, with the same float64
    weights.
    """
    theirs = get_model(name, weights=None, num_classes=5).double()
    with torch.device("meta"):
        ours = reslab.build(name, num_classes=5, **TORCHVISION_OPTIONS.get(name, {}), **options)
    for key, value in theirs.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 2)
    ours = ours.to_empty(device="cpu").double()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


@cache
def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return reslab.build(name)


# --- torchvision's function -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", slow_unless(SMALL, TWINS))
def test_logits_are_torchvisions(name: str) -> None:
    ours, theirs = twins(name)
    images = torch.randn(2, 3, 64, 64).double()
    with torch.no_grad():
        expected = theirs.eval()(images)
        assert (ours.eval()(images) - expected).abs().max() <= 1e-10 * expected.abs().max()


@pytest.mark.parametrize("name", slow_unless(["regnet_y_800mf"], [*SMALL, "wide_resnet50_2"]))
def test_a_training_steps_loss_gradients_and_statistics_are_torchvisions(name: str) -> None:
    """From the same RNG state, with dropout and stochastic depth as they are."""
    ours, theirs = twins(name)
    images, labels = torch.randn(4, 3, 64, 64).double(), torch.tensor([0, 1, 2, 3])
    gradients = []
    for network in (theirs, ours):
        torch.manual_seed(3)
        F.cross_entropy(network.train()(images), labels).backward()
        gradients.append({key: parameter.grad for key, parameter in network.named_parameters()})
    for key, expected in gradients[0].items():
        assert (gradients[1][key] - expected).abs().max() <= 1e-8 * expected.abs().max() + 1e-12, key
    statistics = ours.state_dict()
    for key, expected in theirs.state_dict().items():
        assert torch.allclose(statistics[key], expected, rtol=1e-10), key


@pytest.mark.parametrize("name", slow_unless(["densenet121", "regnet_y_400mf"], TWINS))
def test_layers_are_torchvisions_one_by_one(name: str) -> None:
    from reslab.networks.anatomy import differences

    with torch.device("meta"):
        ours = reslab.build(name, **TORCHVISION_OPTIONS.get(name, {}))
        theirs = zoo.build(f"torchvision/{name}")
    assert next(theirs.parameters()).is_meta and differences(ours, theirs) == []


def _their_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return get_model(name, weights=None)


@pytest.mark.parametrize(
    "name", slow_unless(["resnext50_32x4d", "densenet121", "efficientnet_b0"], [n for n in TWINS if "regnet" not in n])
)
def test_references_are_the_twins_measured(name: str) -> None:
    theirs = _their_meta(name)
    with torch.device("meta"):
        macs = count_macs(theirs, torch.empty(1, *zoo.input_shape(on_meta(name))))
    assert (count_params(theirs), macs) == REFERENCE[name][:2]


@pytest.mark.parametrize("name", TWINS)
def test_torchvisions_metadata_agree(name: str) -> None:
    """Its parameters exactly, its multiply-adds to the three digits that it gives, at the size that it evaluates at."""
    meta = next(iter(get_model_weights(name))).meta
    parameters, macs, _ = REFERENCE[name]
    options = TORCHVISION_OPTIONS.get(name, {})
    if options or name == "efficientnet_b2":
        side = 288 if name == "efficientnet_b2" else 224
        with torch.device("meta"):
            network = reslab.build(name, **options)
            parameters, macs = count_params(network), count_macs(network, torch.empty(1, 3, side, side))
    assert (parameters, round(macs / 1e9, 3)) == (meta["num_params"], meta["_ops"])


def test_torchvisions_weights_choose_torchvisions_widths_and_old_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("regnet_y_800mf", "densenet121"):
        theirs = get_model(name, weights=None).eval()
        state = {
            key.replace("norm1", "norm.1").replace("conv2", "conv.2"): value
            for key, value in theirs.state_dict().items()
        }
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, state=state, **__: state)
        ours = reslab.build(name, weights="torchvision").eval()
        with torch.no_grad():
            images = torch.randn(1, 3, 64, 64)
            assert torch.allclose(ours(images), theirs(images), rtol=1e-4, atol=1e-5)
    with refused(MismatchError, "regnet_y_800mf", "rounding='torchvision'"):
        reslab.build("regnet_y_800mf", weights="torchvision", rounding="paper")


def test_a_file_for_bottlenecks_with_one_place_for_the_stride_needs_no_telling() -> None:
    assert not has_stride_choice(on_meta("resnext50_32x4d"))
    assert has_stride_choice(on_meta("resnet50")) and has_stride_choice(on_meta("preresnet50"))
    assert has_stride_choice(zoo.build("lowlevel/resnet50")) and not has_stride_choice(on_meta("resnet18"))


# --- What all of them are held to -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "kind", "count"),
    [
        ("cifar_resnext", {"depth": 20, "cardinality": 4, "base_width": 4}, "add", 6),
        ("cifar_wide_resnet", {"depth": 16, "width": 2, "dropout": 0.3}, "add", 6),
        ("cifar_densenet", {"depth": 10, "growth_rate": 4}, "concat", 6),
        ("densenet", {"blocks": (2, 2, 3, 2), "growth_rate": 4}, "concat", 9),
        ("efficientnet_b0", {}, "add", 9),
        ("regnet_x_200mf", {}, "add", 13),
        ("regnet_y_200mf", {}, "add", 13),
        pytest.param("resnext50_32x4d", {}, "add", 16, marks=pytest.mark.slow),
        pytest.param("wide_resnet50_2", {}, "add", 16, marks=pytest.mark.slow),
        pytest.param("densenet121", {}, "concat", 58, marks=pytest.mark.slow),
    ],
)
def test_the_residual_view_finds_their_blocks(name: str, options: dict[str, object], kind: str, count: int) -> None:
    network = reslab.build(name, num_classes=3, **options)
    view = residual.view(network, torch.randn(2, 3, 32, 32))
    assert [block.kind for block in view.blocks] == [kind] * count
    assert view.is_chain == (kind == "add")


IMAGENET_DENSENETS = [name for name in densenet.MODELS if "_" not in name]


def smallest_digits(name: str) -> int:
    """Return the side of the smallest images that a network takes: digits as they are, but for DenseNets that halve
    their maps five times.
    """
    return 29 if name in IMAGENET_DENSENETS else 8


def test_smaller_images_than_29_leave_nothing_of_an_imagenet_densenets_maps() -> None:
    network = densenet.densenet((1, 1, 1, 1), 4, num_classes=3)
    assert network(torch.randn(2, 3, 29, 29)).shape == (2, 3)
    with pytest.raises(RuntimeError, match="too small"):
        network(torch.randn(2, 3, 28, 28))


ONE_OF_EACH: dict[str, dict[str, object]] = {
    "cifar_resnext": {"depth": 11, "cardinality": 4, "base_width": 4},
    "cifar_wide_resnet": {"depth": 10, "width": 2},
    "cifar_densenet": {"depth": 10, "growth_rate": 8},
    "efficientnet": {"phi": 1.0, "alpha": 0.3, "beta": 0.25},
    "regnet": {"w0": 24, "wa": 24.0, "wm": 2.5, "g": 8, "d": 6, "se_ratio": 0.25},
}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", [*ONE_OF_EACH, *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES)])
def test_each_trains_on_digits(name: str, precision: str) -> None:
    """Two epochs of eight images, a step each: every loss is finite, every weight stays so, and all but those with no
    gradient move.
    """
    images, labels = (part[:8] for part in load_data("digits").train)
    side = smallest_digits(name)
    images = F.interpolate(images, (side, side), mode="bilinear") if side > 8 else images
    network = reslab.build(name, num_classes=10, in_channels=1, **ONE_OF_EACH.get(name, {}))
    before = {key: value.clone() for key, value in network.named_parameters()}
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = F.cross_entropy(network(images), labels)
        assert math.isfinite(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for key, value in network.named_parameters():
        assert value.dtype == torch.float32 and value.isfinite().all(), key
        assert value.grad is not None and (not torch.equal(value, before[key]) or not value.grad.any()), key
    assert network(images).isfinite().all()


# --- ResNeXt ----------------------------------------------------------------------------------------------------------


@given(st.sampled_from([1, 2, 4]), st.integers(1, 3))
def test_a_grouped_bottleneck_is_a_sum_of_transformations(cardinality: int, width: int) -> None:
    """Fig. 3(a) against 3(c): Σ_i of 1×1 to `width`, 3×3, 1×1 to the output, each with its own slice of the weights."""
    block = resnext.Bottleneck(6, cardinality * width, 6, 1, cardinality).double().eval()
    x = torch.randn(2, 6, 5, 5).double()
    bn = lambda t: t / (1 + 1e-5) ** 0.5  # noqa: E731  # a formula: a fresh BatchNorm in evaluation mode
    total = torch.zeros_like(x)
    for i in range(cardinality):
        part = slice(i * width, (i + 1) * width)
        h = torch.relu(bn(F.conv2d(x, block.conv1.weight[part])))
        h = torch.relu(bn(F.conv2d(h, block.conv2.weight[part], padding=1)))
        total = total + F.conv2d(h, block.conv3.weight[:, part])
    assert torch.allclose(block(x), torch.relu(x + bn(total)), atol=1e-12)


def test_cardinality_1_is_resnet_v15() -> None:
    with torch.device("meta"):
        ours, resnet = resnext.resnext(50, 1, 64), reslab.build("resnet50", stride_in="3x3")
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in resnet.state_dict().items()
    }


def conv(inputs: int, outputs: int, kernel: int, side: int, groups: int = 1) -> tuple[int, int]:
    """Return the parameters and multiply-adds of a convolution whose output is `side`²."""
    weights = inputs // groups * outputs * kernel**2
    return weights, weights * side**2


def total(layers: Iterator[tuple[int, int]]) -> tuple[int, int]:
    parameters, macs = zip(*layers, strict=True)
    return sum(parameters), sum(macs)


def bn(channels: int) -> tuple[int, int]:
    return 2 * channels, 0


def linear(inputs: int, outputs: int) -> tuple[int, int]:
    return inputs * outputs + outputs, inputs * outputs


def cifar_resnext_layers(n: int, cardinality: int, base: int) -> Iterator[tuple[int, int]]:
    yield from (conv(3, 64, 3, 32), bn(64))
    width = 64
    for stage, side in enumerate((32, 16, 8)):
        inner, out = cardinality * base * 2**stage, 256 * 2**stage
        for index in range(n):
            before = side if index or not stage else 2 * side  # the stride is in the 3×3
            yield from (conv(width, inner, 1, before), bn(inner), conv(inner, inner, 3, side, cardinality), bn(inner))
            yield from (conv(inner, out, 1, side), bn(out))
            if index == 0:
                yield from (conv(width, out, 1, side), bn(out))
            width = out
    yield linear(width, 10)


@pytest.mark.parametrize(
    ("name", "cardinality", "millions"), [("resnext29_8x64d", 8, 34.4), ("resnext29_16x64d", 16, 68.1)]
)
def test_cifar_resnext_counts_by_closed_form(name: str, cardinality: int, millions: float) -> None:
    parameters, macs = total(cifar_resnext_layers(3, cardinality, 64))
    assert (parameters, macs) == resnext.REFERENCE[name][:2]
    assert int(parameters / 1e5) / 10 == millions  # the paper cuts 68.16 to 68.1


# --- Wide ResNets -----------------------------------------------------------------------------------------------------


def wrn_layers(n: int, k: int) -> Iterator[tuple[int, int]]:
    yield conv(3, 16, 3, 32)
    width = 16
    for out, side in ((16 * k, 32), (32 * k, 16), (64 * k, 8)):
        for _ in range(n):
            yield from (bn(width), conv(width, out, 3, side), bn(out), conv(out, out, 3, side))
            if width != out:
                yield conv(width, out, 1, side)
            width = out
    yield from (bn(width), linear(width, 10))


def test_wrn_28_10_counts_by_closed_form() -> None:
    assert total(wrn_layers(4, 10)) == wide_resnet.REFERENCE["wrn28_10"][:2]
    assert round(wide_resnet.REFERENCE["wrn28_10"][0] / 1e6, 1) == 36.5


def test_a_wide_network_is_the_papers_words() -> None:
    network = wide_resnet.cifar_wide_resnet(16, 2, dropout=0.3).double()
    images = torch.randn(4, 3, 16, 16).double()
    network(images)
    network.eval()
    x = network.conv1(images)
    for stage in (network.layer1, network.layer2, network.layer3):
        for index, block in enumerate(stage):
            a = torch.relu(block.bn1(x))
            x = (block.downsample(a) if index == 0 else x) + block.conv2(torch.relu(block.bn2(block.conv1(a))))
    logits = network.fc(torch.relu(network.bn_last(x)).mean((2, 3)))
    assert torch.allclose(network(images), logits, atol=1e-10)
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 16


def test_width_1_bottlenecks_are_resnet_v15() -> None:
    with torch.device("meta"):
        ours, resnet = wide_resnet.wide_resnet(50, 1), reslab.build("resnet50", stride_in="3x3")
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in resnet.state_dict().items()
    }


# --- DenseNet ---------------------------------------------------------------------------------------------------------


def cifar_densenet_layers(depth: int, k: int, bc: bool) -> Iterator[tuple[int, int]]:
    width = 2 * k if bc else 16
    yield conv(3, width, 3, 32)
    for block, side in enumerate((32, 16, 8)):
        for _ in range((depth - 4) // (6 if bc else 3)):
            if bc:
                yield from (bn(width), conv(width, 4 * k, 1, side), bn(4 * k), conv(4 * k, k, 3, side))
            else:
                yield from (bn(width), conv(width, k, 3, side))
            width += k
        if block < 2:
            kept = width // 2 if bc else width
            yield from (bn(width), conv(width, kept, 1, side))
            width = kept
    yield from (bn(width), linear(width, 10))


@pytest.mark.parametrize(
    ("name", "depth", "k", "bc", "millions"),
    [
        ("densenet40_12", 40, 12, False, 1.0),
        ("densenet100_12", 100, 12, False, 7.0),
        ("densenet_bc100_12", 100, 12, True, 0.8),
        ("densenet_bc190_40", 190, 40, True, 25.6),
    ],
)
def test_cifar_densenet_counts_by_closed_form(name: str, depth: int, k: int, bc: bool, millions: float) -> None:
    assert total(cifar_densenet_layers(depth, k, bc)) == densenet.REFERENCE[name][:2]
    assert round(densenet.REFERENCE[name][0] / 1e6, 1) == millions


@pytest.mark.parametrize("bottleneck", [False, True])
def test_every_layer_takes_everything_before_it(bottleneck: bool) -> None:
    """Eq. 2 with the list of all features kept, as the paper writes it: x_l = H_l([x_0, …, x_(l-1)])."""
    network = densenet.cifar_densenet(16 if bottleneck else 10, 4, bottleneck=bottleneck).double().eval()
    block = network.features.denseblock1
    features = [torch.randn(2, 16, 6, 6).double()]
    for layer in block:
        assert isinstance(layer, densenet.DenseLayer)
        features.append(layer.new(torch.cat(features, 1)))
    assert len(features) == 3 and all(f.shape[1] == 4 for f in features[1:])
    assert torch.equal(block(features[0]), torch.cat(features, 1))


def test_compression_and_growth() -> None:
    network = densenet.cifar_densenet(22, 6, bottleneck=True, compression=0.5)
    assert network.features.conv0.out_channels == 12
    assert network.features.transition1.conv.weight.shape[:2] == (15, 30)  # 12 + 3·6, halved
    assert network.classifier.in_features == (15 + 18) // 2 + 18


# --- EfficientNet -----------------------------------------------------------------------------------------------------


def test_published_coefficients_are_not_powers() -> None:
    """No φ gives them all: the depth, width and resolution of B7 would need 6.2, 7.3 and 7.0."""
    b7 = efficientnet.implied_phi(efficientnet.PUBLISHED["efficientnet_b7"])
    assert [round(phi, 1) for phi in b7] == [6.2, 7.3, 7.0]
    for name, scale in efficientnet.PUBLISHED.items():
        phis = efficientnet.implied_phi(scale)
        assert (max(phis) - min(phis) > 0.05) == (name != "efficientnet_b0"), name  # B2 comes nearest: 1, 1 and 1.07
    assert round(efficientnet.ALPHA * efficientnet.BETA**2 * efficientnet.GAMMA**2, 2) == 1.92


@given(st.floats(0, 7))
def test_compound_scaling_undoes_itself(phi: float) -> None:
    depth, width, _ = efficientnet.implied_phi(efficientnet.compound(phi))
    assert depth == pytest.approx(phi, abs=1e-9) and width == pytest.approx(phi, abs=1e-9)


def test_phi_0_is_b0_and_one_dimension_scales_alone() -> None:
    with torch.device("meta"):
        b0, wider = efficientnet.efficientnet(0), efficientnet.efficientnet(3, alpha=1, gamma=1)
    shapes = {key: value.shape for key, value in on_meta("efficientnet_b0").state_dict().items()}
    assert {key: value.shape for key, value in b0.state_dict().items()} == shapes
    assert wider.state_dict().keys() == shapes.keys() and wider.input_shape == b0.input_shape
    assert count_params(wider) > 1.5 * count_params(b0)


@pytest.mark.parametrize(("name", "millions", "billions"), [(f"efficientnet_b{i}", p, m) for i, (p, m) in enumerate(
    [(5.3, 0.39), (7.8, 0.70), (9.2, 1.0), (12, 1.8), (19, 4.2), (30, 9.9), (43, 19), (66, 37)]
)])  # fmt: skip  # a table
def test_the_papers_table_2(name: str, millions: float, billions: float) -> None:
    """To 5 %: the paper's own figures were counted otherwise in the second digit (B2 has 9.11 M, B5 10.27 G)."""
    parameters, macs, _ = efficientnet.REFERENCE[name]
    assert parameters / 1e6 == pytest.approx(millions, rel=0.03)
    assert macs / 1e9 == pytest.approx(billions, rel=0.05)


def test_stochastic_depth_drops_images_whole_and_keeps_the_mean() -> None:
    layer = efficientnet.StochasticDepth(0.8)
    ones = torch.ones(20_000, 2, 1, 1)
    out = layer.train()(ones)
    assert torch.equal(out[:, 0], out[:, 1])
    assert sorted(out.unique().tolist()) == pytest.approx([0, 1.25])
    assert out.mean().item() == pytest.approx(1, abs=0.02)
    assert layer.eval()(ones) is ones


def test_survival_falls_linearly_from_1() -> None:
    survivals = [
        module.survival
        for module in on_meta("efficientnet_b0").modules()
        if isinstance(module, efficientnet.StochasticDepth)
    ]
    assert survivals == pytest.approx([1 - 0.2 * index / 16 for index in range(16)])


# --- RegNet -----------------------------------------------------------------------------------------------------------

PYCLS = {
    "x": (
        "0.2 2.7, 0.4 5.2, 0.6 6.2, 0.8 7.3, 1.6 9.2, 3.2 15.3, 4.0 22.1, 6.5 26.2, 8.0 39.6, 12.1 46.1, 15.9 54.3, "
        "31.7 107.8"
    ),
    "y": (
        "0.2 3.2, 0.4 4.3, 0.6 6.1, 0.8 6.3, 1.6 11.2, 3.2 19.4, 4.0 20.6, 6.4 30.6, 8.0 39.2, 12.1 51.8, 15.9 83.6, "
        "32.3 145.0"
    ),
}
"""G multiply-adds and M parameters as the authors print them (facebookresearch/pycls, MODEL_ZOO.md)."""


@pytest.mark.parametrize("kind", ["x", "y"])
def test_the_authors_figures(kind: str) -> None:
    references = [reference for name, reference in regnet.REFERENCE.items() if name.startswith(f"regnet_{kind}_")]
    printed = [tuple(map(float, entry.split())) for entry in PYCLS[kind].split(",")]
    assert [(round(macs / 1e9, 1), round(parameters / 1e6, 1)) for parameters, macs, _ in references] == printed


def test_the_papers_widths_and_torchvisions() -> None:
    """Torchvision's departs in three of the fifteen networks of its that the paper has."""
    assert [width for _, width, _ in regnet.stages(regnet.X["400mf"])] == [32, 64, 160, 384]
    assert [blocks for blocks, _, _ in regnet.stages(regnet.X["400mf"])] == [1, 2, 7, 12]
    assert [width for _, width, _ in regnet.stages(regnet.X["400mf"], "torchvision")] == [32, 64, 160, 400]
    differ = {
        f"regnet_{kind}_{size}"
        for kind, designs in (("x", regnet.X), ("y", regnet.Y))
        for size, design in designs.items()
        if regnet.stages(design) != regnet.stages(design, "torchvision")
    }
    assert differ & set(TWINS) == {"regnet_x_400mf", "regnet_y_800mf", "regnet_y_8gf"}
    assert differ & set(TWINS) == {name for name, options in TORCHVISION_OPTIONS.items() if "rounding" in options}


@pytest.mark.parametrize("name", [name for name in TWINS if name.startswith("regnet")])
def test_torchvisions_rounding_is_torchvisions(name: str) -> None:
    from torchvision.models.regnet import BlockParams

    kind, size = name.removeprefix("regnet_").split("_", 1)
    w0, wa, wm, g, d = design = {"x": regnet.X, "y": regnet.Y}[kind][size]
    theirs = BlockParams.from_init_params(depth=d, w_0=w0, w_a=wa, w_m=wm, group_width=g)
    assert list(zip(theirs.depths, theirs.widths, theirs.group_widths, strict=True)) == regnet.stages(
        design, "torchvision"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("regnet")])
def test_regnet_references_are_timms_networks_measured(name: str) -> None:
    timm = pytest.importorskip("timm", reason="the oracle for the sizes and the rounding that torchvision lacks")
    kind, size = name.removeprefix("regnet_").split("_", 1)
    number, unit = float(size[:-2].replace("_", ".")), size[-2:]
    with torch.device("meta"):
        theirs = timm.create_model(f"regnet{kind}_{round(number * 10 if unit == 'gf' else number / 100):03d}")
        macs = count_macs(theirs, torch.empty(1, 3, 224, 224))
    assert (count_params(theirs), macs) == regnet.REFERENCE[name][:2]


designs = st.builds(
    regnet.Design,
    w0=st.integers(1, 40).map(lambda n: 8 * n),
    wa=st.floats(0, 200),
    wm=st.floats(1.5, 3),
    g=st.integers(1, 16).map(lambda n: 8 * n),
    d=st.integers(1, 30),
)


@given(designs)
def test_a_design_is_a_quantised_line(design: regnet.Design) -> None:
    widths = regnet.block_widths(design)
    assert (
        len(widths) == design.d
        and widths[0] == design.w0
        and widths == sorted(widths)
        and all(width % 8 == 0 for width in widths)
    )
    for j, width in enumerate(widths):  # within half a step of the line, in the logarithm, and half of 8
        line = design.w0 + design.wa * j
        assert line * design.wm**-0.5 - 4.01 <= width <= line * design.wm**0.5 + 4.01
    for rounding in ("paper", "torchvision"):
        stages = regnet.stages(design, rounding)  # type: ignore[arg-type]  # both are roundings
        assert sum(blocks for blocks, _, _ in stages) == design.d
        assert all(width % group == 0 and 1 <= group <= design.g for _, width, group in stages)


# --- Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "values"),
    [
        ("resnext", {"depth": 51, "cardinality": 32, "base_width": 4}, ["depth", "50, 101, 152", 51]),
        ("cifar_resnext", {"depth": 30, "cardinality": 8, "base_width": 64}, ["depth 30", "9n+2", 29]),
        ("wide_resnet", {"depth": 18, "width": 2}, ["depth", 50, 101, 18]),
        ("cifar_wide_resnet", {"depth": 26, "width": 10}, ["depth 26", "6n+4", 28]),
        ("cifar_densenet", {"depth": 41, "growth_rate": 12}, ["depth 41", "3n+4", 40]),
        ("cifar_densenet", {"depth": 99, "growth_rate": 12, "bottleneck": True}, ["depth 99", "6n+4", 100]),
        ("cifar_densenet", {"depth": 40, "growth_rate": 12, "compression": 0.0}, ["compression", 0.0]),
        ("regnet", {"w0": 20, "wa": 1.0, "wm": 2.0, "g": 8, "d": 3}, ["w0", 8, 20]),
        ("regnet_x_400mf", {"rounding": "up"}, ["rounding", "'paper'", "'torchvision'"]),
        ("efficientnet", {}, ["'phi'"]),
    ],
)
def test_mistakes_are_told(name: str, options: dict[str, object], values: list[object]) -> None:
    with refused(WrongValueError, name, *values):
        zoo.check(name, **options)
