"""Registry-wide: every network of the zoo."""

import json
import re
from functools import cache

import pytest
import torch
from helpers import refused, slow_unless
from torch import nn

import reslab
from reslab.errors import UnknownNameError, WrongValueError
from reslab.networks import catalogue, zoo
from reslab.networks.counting import FlopCounter, count_macs

NAMES = zoo.names()
OF_MODULES = [name for name in NAMES if not name.startswith("lowlevel/")]  # Level 2 has no module but the adapter
LATER = [
    name
    for name in NAMES
    if zoo.family(name) in ("densenet", "efficientnet", "regnet", "resnext", "wide_resnet", "wrn")
]
# of the later ones
SMALL = ("densenet121", "densenet_bc100_12", "efficientnet_b0", "regnet_x_200mf", "regnet_y_200mf", "resnext50_32x4d")
DEEPER = (
    "lowlevel/resnet34",
    "lowlevel/resnet101",
    "lowlevel/resnet152",
    "resnet101",
    "resnet152",
    "resnet1202",
    "preresnet101",
    "preresnet152",
    "preresnet200",
    "preresnet1001",
)  # by the code of shallower ones
LONGER = [name for name in NAMES if name in DEEPER or (name in LATER and name not in SMALL)]
WITH_SQUEEZE = ("efficientnet", "regnet")


def some_slow(names: list[str]) -> list[object]:
    """Return the names with those marked slow whose code is another's."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in LONGER else name for name in names]


@cache
def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return zoo.build(name)


@pytest.mark.parametrize("name", some_slow(NAMES))
def test_parameters_and_multiply_adds_are_the_references(name: str) -> None:
    description = zoo.describe(name)
    assert (description.params, description.macs) == description.reference[:2]
    assert description.reference.source


AS_SHALLOWER = (
    *("resnet34", "plain34", "preresnet34", "resnet50", "preresnet50"),
    *("resnet110", "plain110", "preresnet110", "preresnet164"),
)


@pytest.mark.parametrize(
    "name", slow_unless(set(NAMES) - {*LONGER, *AS_SHALLOWER}, [name for name in NAMES if name != "resnet1202"])
)
def test_forward_and_gradients_are_finite(name: str) -> None:
    network = zoo.build(name, num_classes=7, in_channels=2)
    # some of CIFAR's later ones take 10 G multiply-adds at 32
    side = 8 if name in LATER and zoo.input_shape(network)[1] == 32 else 32
    logits = network(torch.randn(2, 2, side, side))
    assert logits.shape == (2, 7)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    for parameter in network.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", some_slow(OF_MODULES))
def test_no_activation_is_shared_or_in_place(name: str) -> None:
    """In-place or shared activations corrupt captured branch outputs and break hooks."""
    activations = [
        module
        for _, module in on_meta(name).named_modules(remove_duplicate=False)
        if isinstance(module, nn.ReLU | nn.SiLU)
    ]
    assert len(activations) == len(set(map(id, activations))) > 0
    assert not any(activation.inplace for activation in activations)


@pytest.mark.parametrize("name", some_slow(OF_MODULES))
def test_no_convolution_before_a_batchnorm_has_a_bias(name: str) -> None:
    """The two layers of a squeeze-and-excitation have one, and no BatchNorm."""
    network = on_meta(name)
    biased = [key for key, m in network.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    squeezes = {key.rpartition(".")[0] for key in biased if key.endswith((".fc1", ".fc2"))}
    assert len(biased) == 2 * len(squeezes)
    assert not squeezes or zoo.family(name) in WITH_SQUEEZE
    assert not [
        key
        for squeeze in squeezes
        for key, m in network.get_submodule(squeeze).named_modules()
        if isinstance(m, nn.BatchNorm2d)
    ]


@pytest.mark.parametrize(
    "name", some_slow([name for name in OF_MODULES if zoo.family(name) not in ("efficientnet", "regnet")])
)  # whose names say no depth
def test_names_mean_what_they_say(name: str) -> None:
    """Depth counts the layers with weights on the main path: "resnet110" is 110, not 164. "wrn28" counts convolutions,
    shortcuts' included.
    """
    layers = [
        key
        for key, m in on_meta(name).named_modules()
        if isinstance(m, nn.Conv2d | nn.Linear) and "downsample" not in key
    ]
    convolutions = [key for key, m in on_meta(name).named_modules() if isinstance(m, nn.Conv2d)]
    depth = re.search(r"\d+", name)
    assert depth is not None and len(convolutions if zoo.family(name) == "wrn" else layers) == int(depth[0])


def test_mistakes_are_told_in_one_line() -> None:
    with refused(UnknownNameError, "'resnet57'; did you mean 'resnet56'"):
        zoo.build("resnet57")
    with refused(WrongValueError, "cifar_resnet", 21, "6n+2"):
        zoo.build("cifar_resnet", depth=21)
    with refused(UnknownNameError, "resnet20", "'num_clases'; did you mean 'num_classes'"):
        zoo.build("resnet20", num_clases=3)
    with refused(WrongValueError, "cifar_plain", "'depth'"):
        zoo.build("cifar_plain")


def test_a_name_declared_twice_is_refused() -> None:
    known = {"a": nn.Identity}
    with pytest.raises(ValueError, match=r"other.py declares \['a'\]"):
        zoo.add_models(known, {"a": nn.Identity}, "other.py")


def test_counting_leaves_the_mode_alone() -> None:
    network = nn.Conv2d(2, 3, 3)
    assert network.training
    # 3×3 positions, 3 outputs of 2·9 multiply-adds
    assert count_macs(network, torch.randn(1, 2, 5, 5)) == 3 * 3 * 3 * 2 * 9
    assert network.training


@pytest.mark.parametrize("name", ["efficientnet_b0", "regnet_y_200mf", "resnet20"])
@pytest.mark.parametrize("training", [False, True])
def test_counting_without_values_counts_what_counting_with_them_does(name: str, training: bool) -> None:
    counts = []
    for device in ("meta", "cpu"):
        with torch.device(device):
            network, images = zoo.build(name, num_classes=3).train(training), torch.empty(2, 3, 32, 32)
            with FlopCounter() as counter, torch.no_grad():
                assert network(images).shape == (2, 3)
            counts.append(counter.macs)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize(
    ("model", "options", "name"),
    [
        ("resnet20", {}, "resnet20"),
        ("cifar_resnet", {"depth": 56}, "resnet56"),
        ("cifar_preresnet", {"depth": 164, "block": "bottleneck"}, "preresnet164"),
        ("cifar_resnet", {"depth": 26}, None),
        ("cifar_resnet", {"depth": 56, "shortcut": "B"}, None),
        ("resnet20", {"shortcut": "B"}, None),
        ("reslab.studies.variants:stochastic_depth", {"depth": 20}, None),
    ],
)
def test_a_network_of_a_family_has_the_name_that_the_catalogue_gives_it(
    model: str, options: dict[str, object], name: str | None
) -> None:
    assert zoo.named(model, options) == name


def test_torchvisions_regnets_have_shapes_without_memory() -> None:
    network = zoo.outline("torchvision/regnet_y_400mf", {"num_classes": 10**9}).network
    assert all(parameter.is_meta for parameter in network.parameters())
    shapes = {name: tensor.shape for name, tensor in zoo.build("torchvision/regnet_y_400mf").state_dict().items()}
    assert {name: tensor.shape for name, tensor in network.state_dict().items()} == {
        **shapes,
        "fc.weight": (10**9, 440),
        "fc.bias": (10**9,),
    }


def test_untrained_networks_download_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with torch.device("meta"):
        zoo.fresh("torchvision/lraspp_mobilenet_v3_large", {})
    for name, option in (
        ("torchvision/lraspp_mobilenet_v3_large", "weights_backbone"),
        ("torchvision/resnet18", "weights"),
    ):
        with refused(UnknownNameError, name, f"'{option}'"):
            zoo.fresh(name, {option: "DEFAULT"})


@pytest.mark.parametrize("option", ["pretrained", "pretrained_cfg", "checkpoint_path"])
def test_no_option_of_timms_names_trained_weights(option: str) -> None:
    pytest.importorskip("timm")
    with refused(UnknownNameError, "timm/resnet18", f"'{option}'"):
        zoo.fresh("timm/resnet18", {option: "x"})


def test_what_is_no_name_is_told() -> None:
    with refused(WrongValueError, "weights='resnet20.safetensors'"):
        zoo.build("resnet20.safetensors")
    with refused(WrongValueError, "Linear"):
        zoo.build(nn.Linear(1, 1))  # type: ignore[arg-type]  # the mistake that is meant
    with refused(UnknownNameError, "torchvison", "did you mean 'torchvision'"):
        zoo.build("resnet50", weights="torchvison")
    with refused(WrongValueError, "OrderedDict", "load_state_dict"):
        zoo.build("resnet20", weights=nn.Linear(1, 1).state_dict())  # type: ignore[arg-type]  # the mistake that is meant


def test_what_is_kept_of_the_networks_is_of_their_files_as_they_are() -> None:
    kept = json.loads(catalogue.FILE.read_text(encoding="utf-8"))
    assert {file: of["digest"] for file, of in kept.items()} == {
        file: catalogue.digest(file) for file in catalogue.model_files()
    }, "python -m reslab.networks.catalogue"


@pytest.mark.slow
def test_what_is_known_of_the_networks_is_what_they_are() -> None:
    """Figures are the references, which the networks are measured against above."""
    known = catalogue.known()
    assert list(known.networks) == zoo.names()
    assert known.families == {name: zoo.required_options(name) for name in zoo.families()}
    for name, described in known.networks.items():
        assert described.reference == zoo.reference(name) and described[2:4] == described.reference[:2]
        assert described.input == zoo.input_shape(on_meta(name)) or name in LONGER


def test_what_has_changed_since_is_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    file, kept = "paper/identity_mappings.py", json.loads(catalogue.FILE.read_text(encoding="utf-8"))
    changed = {**kept, file: {**kept[file], "digest": "another"}}
    monkeypatch.setattr(json, "loads", lambda _: changed)
    monkeypatch.setattr(catalogue, "measured", lambda file: {"networks": {}, "families": {file: []}})
    assert catalogue.known.__wrapped__().families[file] == []


def test_networks_are_listed_by_a_pattern() -> None:
    assert reslab.list_models("plain?8") == ["plain18"]
    assert reslab.list_models() == zoo.names()
    with refused(UnknownNameError, "'resnt18'; did you mean 'resnet18'"):
        reslab.list_models("resnt18")
