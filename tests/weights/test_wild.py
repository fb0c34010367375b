"""Weights as they are found: one file per source, in its own names, against the source's own network."""

import json
import pickle
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_refused, refused, reslab_here
from helpers_images import image_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50
from wild import AVERAGED, WITH_CLASSIFIER, WITHOUT_CLASSIFIER, State, half, keras, msra, other

import reslab
from reslab.errors import DamagedError, MismatchError, MissingError, UserError, WrongValueError
from reslab.networks.zoo import told_by
from reslab.paper.resnet_paper import cifar_resnet
from reslab.weights import numpyfiles
from reslab.weights.files import WeightFile, read_weights, to_bytes
from reslab.weights.fitting import Fit, fit
from reslab.weights.names import WRAPPERS
from reslab.weights.origins import Facts, configured, understood

Files = Callable[[Any], Path]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A small network with torchvision's names, with statistics that are not fresh."""
    torch.manual_seed(0)
    return lived_in(cifar_resnet(8, shortcut="B"))


def lived_in(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        network(torch.randn(8, 3, 64, 64))
    return network.eval()


SMALL: dict[str, Any] = {"depth": 8, "shortcut": "B"}


@pytest.fixture
def file(tmp_path: Path) -> Files:
    def write(content: Any) -> Path:
        torch.save(content, tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    return write


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def alike(ours: nn.Module, expected: Tensor, images: Tensor = IMAGES, tolerance: float = 1e-5) -> bool:
    with torch.no_grad():
        return bool((ours.eval()(images) - expected).abs().max() <= tolerance * expected.abs().max())


@pytest.mark.parametrize("source", WITH_CLASSIFIER)
@pytest.mark.filterwarnings("ignore")  # of what was left out or chosen
def test_a_sources_file_gives_the_sources_logits(source: str, network: nn.Module, file: Files) -> None:
    with torch.no_grad():
        expected = network(IMAGES)
    path = file(WITH_CLASSIFIER[source](network.state_dict()))
    assert alike(reslab.build("cifar_resnet", weights=path, **SMALL), expected)


@pytest.mark.filterwarnings("ignore")  # of what was chosen
def test_torchvisions_own_logits_come_out_of_its_training_scripts_file(file: Files) -> None:
    network = lived_in(resnet18(num_classes=10))
    with torch.no_grad():
        expected = network(IMAGES)
    path = file(WITH_CLASSIFIER["torchvision-references"](network.state_dict()))
    assert alike(reslab.build("resnet18", num_classes=10, weights=path), expected)


@pytest.mark.parametrize("source", AVERAGED)
def test_the_average_is_taken_and_said_and_raw_takes_the_weights(source: str, network: nn.Module, file: Files) -> None:
    read = read_weights(file(WITH_CLASSIFIER[source](network.state_dict())))
    average, raw = fit(read, network), fit(read, network, raw=True)
    assert torch.equal(average.state["conv1.weight"], network.state_dict()["conv1.weight"])
    assert torch.equal(raw.state["conv1.weight"], other(network.state_dict())["conv1.weight"])
    assert any("--raw" in note for note in average.notes) and not any("--raw" in note for note in raw.notes)


@pytest.mark.parametrize("source", WITHOUT_CLASSIFIER)
@pytest.mark.filterwarnings("ignore")  # of what was left out or chosen
def test_a_file_without_a_classifier_gives_the_sources_features(source: str, network: nn.Module, file: Files) -> None:
    path = file(WITHOUT_CLASSIFIER[source](network.state_dict()))
    with refused(MismatchError, "fc", "--head fresh", "--head none"):
        reslab.build("cifar_resnet", weights=path, **SMALL)
    features: list[Tensor] = []
    handle = network.get_submodule("avgpool").register_forward_hook(lambda *given: features.append(given[2].flatten(1)))
    with torch.no_grad():
        network(IMAGES)
    handle.remove()
    assert alike(reslab.build("cifar_resnet", weights=path, head="none", **SMALL), features[0])
    fresh = reslab.build("cifar_resnet", num_classes=7, weights=path, head="fresh", **SMALL).eval()
    with torch.no_grad():
        assert alike(fresh, fresh.fc(features[0]))  # type: ignore[operator]  # a layer


@pytest.mark.filterwarnings("ignore")  # of what was left out
def test_the_report_names_what_became_of_every_tensor(network: nn.Module, file: Files) -> None:
    for source, make in {**WITH_CLASSIFIER, **WITHOUT_CLASSIFIER}.items():
        read = read_weights(file(make(network.state_dict())))
        found = fit(read, network, head="fresh" if source in WITHOUT_CLASSIFIER else None)
        taken = next(state for state in read.sets.values() if accounted(state, found))
        assert set(found.state) == set(network.state_dict()), source
        assert len(set(taken) - set(found.dropped)) + len(found.added) == len(found.state), source


def accounted(state: State, found: Fit) -> bool:
    """Say whether every name of a set is kept, renamed or dropped by a fit."""
    return all(name in found.renamed or name in found.dropped or name in found.state for name in state)


@pytest.mark.filterwarnings("ignore")  # of what was left out
def test_the_command_says_what_was_renamed_dropped_added_and_converted(network: nn.Module, file: Files) -> None:
    path = file(half(WITHOUT_CLASSIFIER["swav"](network.state_dict())))
    command = ("weights", path, "--as", "cifar_resnet", "--depth", "8", "--shortcut", "B", "--head", "fresh")
    halves = sum(tensor.is_floating_point() for name, tensor in network.state_dict().items() if "fc" not in name)
    report = json.loads(reslab_here(*command, "--json").stdout)
    assert report["renamed"]["module.conv1.weight"] == "conv1.weight"
    assert "module.prototypes.weight" in report["dropped"] and set(report["added"]) == {"fc.weight", "fc.bias"}
    assert report["converted"] == {"float16 to float32": halves}
    done = reslab_here(*command)
    assert done.returncode == 0
    for line in (
        "dropped module.prototypes.weight",
        "added fc.weight, freshly drawn",
        f"{halves} tensors converted from",
    ):
        assert line in done.stdout


def test_other_classes_and_channels_are_said(network: nn.Module, file: Files) -> None:
    path = file(network.state_dict())
    with refused(MismatchError, "fc.weight", "--num-classes 10", "--head fresh"):
        reslab.build("cifar_resnet", num_classes=7, weights=path, **SMALL)
    with refused(MismatchError, "conv1.weight is (16, 3, 3, 3)"):
        reslab.build("cifar_resnet", in_channels=1, weights=path, **SMALL)


def test_numbers_that_no_network_has_are_said() -> None:
    network = cifar_resnet(8)
    for name, value in (("bn1.running_var", float("nan")), ("bn1.running_var", -1.0), ("fc.bias", float("inf"))):
        state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
        state[name][0] = value
        assert any(name in note for note in fit(WeightFile(Path("x"), {"": state}, {}), network).notes)


def test_numbers_too_large_for_the_network_are_said(tmp_path: Path) -> None:
    network = nn.Linear(2, 3)
    torch.save({"weight": torch.full((3, 2), 1e6), "bias": torch.zeros(3)}, tmp_path / "w.pt")
    assert not reslab.load_weights(network, tmp_path / "w.pt").notes
    with pytest.warns(UserWarning, match="too large"):
        (note,) = reslab.load_weights(network.half(), tmp_path / "w.pt").notes
    assert "weight" in note and "bias" not in note


class Tied(nn.Module):
    """A network with one matrix under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.out = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False)
        self.out.weight = self.embed.weight


class Counting(Tied):
    """One with something besides tensors in its state."""

    calls = 0

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": self.calls}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.calls = state["calls"]


def test_different_tensors_for_one_are_refused(tmp_path: Path) -> None:
    network = Tied()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    torch.save(state, tmp_path / "same.pt")
    assert reslab.load_weights(Tied(), tmp_path / "same.pt").dropped == ()
    torch.save(state | {"out.weight": state["out.weight"] + 1}, tmp_path / "apart.pt")
    with refused(MismatchError, "embed.weight = out.weight"):
        reslab.load_weights(network, tmp_path / "apart.pt")


def test_a_network_takes_the_weights_that_it_gave(tmp_path: Path) -> None:
    network, tied, counting = Tied(), Tied(), Counting()
    save_model(network, tmp_path / "w.safetensors")  # which keeps one of the two names
    assert reslab.load_weights(tied, tmp_path / "w.safetensors").added == ()
    counting.calls = 3
    torch.save(Counting().state_dict() | network.state_dict(), tmp_path / "w.pt")
    assert reslab.load_weights(counting, tmp_path / "w.pt").added == ("_extra_state",)
    assert counting.calls == 3
    for loaded in (tied, counting):
        assert torch.equal(loaded.out.weight, network.out.weight) and loaded.out.weight is loaded.embed.weight
        assert torch.equal(loaded.mix.weight, network.mix.weight)


@pytest.mark.parametrize(
    "make", [lambda: nn.LazyLinear(3), lambda: nn.LazyBatchNorm1d(), lambda: nn.Linear(2, 3, device="meta")]
)
def test_a_network_without_weights_takes_none(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "w.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of lazy layers
        network = make()
    with refused(WrongValueError):
        reslab.load_weights(network, tmp_path / "w.pt")


def test_labels_need_a_classifier(tmp_path: Path) -> None:
    trained = cifar_resnet(8, in_channels=1)
    path = tmp_path / "a.pt"
    torch.save(
        {"module.backbone." + name: value for name, value in trained.state_dict().items() if "fc" not in name}, path
    )
    words = ("cifar_resnet", "--depth", "8", "--weights", path, "--zero-pad", "end", "--images", "2")
    assert_refused(reslab_here("analyze", "removal", *words, "--head", "none"), "removal", "jacobian", "responses")
    assert_refused(reslab_here("analyze", "jacobian", *words), "fc", "--head fresh")
    done = reslab_here("analyze", "responses", *words, "--head", "none", "--json")
    assert done.returncode == 0 and len(json.loads(done.stdout)["rows"]) > 0
    chance = reslab_here("analyze", "removal", *words, "--head", "fresh", "--json")
    assert chance.returncode == 0 and json.loads(chance.stdout)["untrained"] and "UNTRAINED" in chance.stderr


@pytest.mark.filterwarnings("ignore:.* left out what the network has no place for")
def test_with_another_head_the_classes_of_the_files_own_bind_nobody(tmp_path: Path) -> None:
    trained, fresh = tmp_path / "trained.safetensors", tmp_path / "fresh.safetensors"
    kept = {"mean": [0.5] * 3, "std": [0.2] * 3, "size": 32, "classes": list("0123456789"), "data": "folder:x"}
    trained.write_bytes(to_bytes(cifar_resnet(8), "cifar_resnet", {"depth": 8}, kept))
    data = ("--data", f"folder:{image_folder(tmp_path / 'x', [(32, 32)])}", "--images", "4")
    words = ("cifar_resnet", "--depth", "8", "--weights", trained)
    assert reslab_here("analyze", "responses", *words, "--head", "none", *data).returncode == 0
    done = reslab_here("weights", trained, "--head", "fresh", "--num-classes", "3", "--out", fresh)
    assert done.returncode == 0 and "classes" not in read_weights(fresh).metadata["preprocessing"]


# --- Hugging Face: the network itself, and its configuration ----------------------------------------------------------


@pytest.mark.parametrize("fact", [{"hidden_act": "gelu"}, {"downsample_in_first_stage": True}])
@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_what_a_configuration_says_of_the_network_is_told(kind: str, fact: dict[str, Any]) -> None:
    facts = configured({"model_type": "resnet", "layer_type": kind, **fact}, "config.json")
    assert fact.items() <= facts.options.items()
    usual = configured({"model_type": "resnet", "layer_type": kind, "hidden_act": "relu"}, "config.json")
    assert usual.options.keys() <= {"stride_in"} and not usual.preprocessing
    labelled = configured({"layer_type": kind, "id2label": {"0": "dog", "1": "cat"}}, "config.json")
    assert labelled.preprocessing == {"classes": ["dog", "cat"]}
    fresh = configured({"layer_type": kind, "id2label": {0: "LABEL_0", 1: "LABEL_1"}}, "config.json")
    assert not fresh.preprocessing


def test_a_network_of_another_activation_is_no_resnet_of_the_labs(tmp_path: Path) -> None:
    weights = WeightFile(tmp_path, {"": cifar_resnet(8).state_dict()}, {}, (), Facts({"hidden_act": "gelu"}))
    with refused(MismatchError, "hidden_act gelu", "cifar_resnet"):
        told_by(weights, "cifar_resnet")


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.filterwarnings("ignore")  # of what the configuration says
def test_hugging_faces_configuration_answers_where_the_stride_is(first: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(downsample_in_bottleneck=first, num_labels=10)
    network = transformers.ResNetForImageClassification(config)
    with torch.no_grad():
        network(torch.randn(8, 3, 64, 64))
        expected = network.eval()(IMAGES).logits
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    with refused(MissingError, "--stride-in"):
        reslab.build("resnet50", num_classes=10, weights=tmp_path)
    config.to_json_file(tmp_path / "config.json")
    assert alike(reslab.build("resnet50", num_classes=10, weights=tmp_path), expected)
    with refused(MismatchError, "stride_in", "1x1", "3x3"):
        reslab.build("resnet50", num_classes=10, weights=tmp_path, stride_in="3x3" if first else "1x1")
    (tmp_path / "config.json").write_text("[1]", encoding="utf-8")
    with refused(DamagedError, "config.json"):
        reslab.build("resnet50", num_classes=10, weights=tmp_path)


# --- The authors' own -------------------------------------------------------------------------------------------------

MEANS = (123.68, 116.779, 103.939)


@pytest.fixture(scope="module")
def bottlenecks() -> nn.Module:
    """A ResNet-50 for two classes, with statistics that are not fresh."""
    torch.manual_seed(0)
    return lived_in(resnet50(num_classes=2))


Layer = Callable[[Tensor, str], Tensor]


def released(x: Tensor, conv: Callable[[Tensor, str, int, int], Tensor], norm: Layer, pool: Layer) -> Tensor:
    """Return the features of a ResNet-50 of the release: the stride is in the first 1×1."""
    x = pool(norm(conv(x, "conv1", 2, 3), "bn1").relu(), "")
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            shortcut = x
            if block == 0:
                shortcut = norm(conv(x, f"{name}.downsample.0", stride, 0), f"{name}.downsample.1")
            y = norm(conv(x, f"{name}.conv1", stride, 0), f"{name}.bn1").relu()
            y = norm(conv(y, f"{name}.conv2", 1, 1), f"{name}.bn2").relu()
            x = (shortcut + norm(conv(y, f"{name}.conv3", 1, 0), f"{name}.bn3")).relu()
    return x.mean((2, 3))


def pixels(seed: int = 2) -> Tensor:
    """Return two images, red first, from 0 to 255."""
    return torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(seed)).float()


def caffes(images: Tensor) -> Tensor:
    """Return images as Caffe's networks take them: blue first, less the means."""
    return (images - torch.tensor(MEANS).view(3, 1, 1)).flip(1)


def prepared(images: Tensor, read: WeightFile) -> Tensor:
    """Return images from 0 to 1, standardised as the file says."""
    mean, std = (torch.tensor(read.metadata["preprocessing"][key]).view(3, 1, 1) for key in ("mean", "std"))
    return (images / 255 - mean) / std


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of what was made of the file
def test_keras_own_file_gives_its_logits(bottlenecks: nn.Module, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    arrays = keras(bottlenecks.state_dict())
    with h5py.File(tmp_path / "resnet50.h5", "w") as made:
        for place, array in arrays.items():
            made[place] = array

    def conv(x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        layer = keras_layer(name)
        kernel, bias = (torch.from_numpy(arrays[f"{layer}/{layer}/{kind}:0"]) for kind in ("kernel", "bias"))
        return F.conv2d(F.pad(x, (padding,) * 4), kernel.permute(3, 2, 0, 1), bias, stride)

    def norm(x: Tensor, name: str) -> Tensor:
        layer = keras_layer(name)
        kinds = ("moving_mean", "moving_variance", "gamma", "beta")
        return F.batch_norm(x, *(torch.from_numpy(arrays[f"{layer}/{layer}/{kind}:0"]) for kind in kinds), eps=1.001e-5)

    def pool(x: Tensor, _: str) -> Tensor:  # ZeroPadding2D, then MaxPooling2D
        return F.max_pool2d(F.pad(x, (1,) * 4), 3, 2)

    images = pixels()
    features = released(caffes(images), conv, norm, pool)
    kernel, bias = (torch.from_numpy(arrays[f"predictions/predictions/{kind}:0"]) for kind in ("kernel", "bias"))
    path = tmp_path / "resnet50.h5"
    ours = reslab.build("resnet50", num_classes=2, weights=path)
    assert alike(ours, features @ kernel + bias, prepared(images, read_weights(path)), 1e-4)
    with refused(MismatchError, "stride_in", "1x1", "3x3"):
        reslab.build("resnet50", num_classes=2, weights=path, stride_in="3x3")
    # written as this lab's, it carries its facts
    out = tmp_path / "ours.safetensors"
    done = reslab_here("weights", path, "--as", "resnet50", "--num-classes", "2", "--out", out)
    assert done.returncode == 0, done.stderr
    assert alike(
        reslab.build("resnet50", weights=out), features @ kernel + bias, prepared(images, read_weights(out)), 1e-4
    )


def keras_layer(name: str) -> str:
    """Return Keras' name of a layer of torchvision's."""
    if name in ("conv1", "bn1"):
        return {"conv1": "conv1_conv", "bn1": "conv1_bn"}[name]
    stage, block, *part = name.removeprefix("layer").split(".")
    number = 0 if part[0] == "downsample" else int(part[0][-1])
    kind = "conv" if part[0].startswith("conv") or part[-1] == "0" else "bn"
    return f"conv{int(stage) + 1}_block{int(block) + 1}_{number}_{kind}"


@pytest.mark.slow  # networks of 50 layers
@pytest.mark.filterwarnings("ignore")  # of what was made of the file
def test_msras_pickle_gives_the_releases_logits(bottlenecks: nn.Module, tmp_path: Path) -> None:
    arrays = msra(bottlenecks.state_dict())
    path = tmp_path / "R-50.pkl"
    momenta = {f"{name}_momentum": np.zeros(3, np.float32) for name in arrays}
    path.write_bytes(pickle.dumps({"blobs": {**arrays, **momenta}, "cfg": "MODEL: …"}, 2))

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(arrays[name])

    def layer(name: str) -> str:
        if name in ("conv1", "bn1"):
            return {"conv1": "conv1", "bn1": "res_conv1"}[name]
        stage, block, *part = name.removeprefix("layer").split(".")
        branch = "branch1" if part[0] == "downsample" else f"branch2{'abc'[int(part[0][-1]) - 1]}"
        return f"res{int(stage) + 1}_{block}_{branch}"

    def conv(x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        bias = tensor("conv1_b") if name == "conv1" else None
        return F.conv2d(x, tensor(f"{layer(name)}_w"), bias, stride, padding)

    def norm(x: Tensor, name: str) -> Tensor:
        scale, shift = (tensor(f"{layer(name)}_bn_{kind}").view(-1, 1, 1) for kind in "sb")
        return x * scale + shift

    images = pixels()
    features = released(caffes(images), conv, norm, lambda x, _: caffe_pool(x))
    expected = features @ tensor("fc1000_w").T + tensor("fc1000_b")
    read = read_weights(path)
    ours = reslab.build("resnet50", num_classes=2, weights=path)
    assert alike(ours, expected, prepared(images, read), 1e-4)
    padded = reslab.build("resnet50", num_classes=2, weights=path, pool="padded")
    assert not alike(padded, expected, prepared(images, read), 1e-3)
    with pytest.warns(UserWarning, match="pool caffe, and the network's is padded"):
        reslab.load_weights(padded, path)


@pytest.mark.parametrize("source", [keras, msra])
@pytest.mark.parametrize("depth", [101, pytest.param(152, marks=pytest.mark.slow)])
def test_the_deeper_releases_have_this_labs_tensors(
    source: Callable[[State], dict[str, np.ndarray]], depth: int
) -> None:
    with torch.device("meta"):
        network = reslab.build(f"resnet{depth}")
    network.to_empty(device="cpu")
    # each is one number, seen as often as the shape says
    shapes = {name: value.shape for name, value in network.state_dict().items() if "num_batches" not in name}
    state = {name: torch.tensor(float(place)).expand(shape) for place, (name, shape) in enumerate(shapes.items())}
    arrays = {".".join(place.removesuffix(":0").split("/")[-2:]): array for place, array in source(state).items()}
    read, facts = understood({name: torch.from_numpy(array) for name, array in arrays.items()}, Path("x"))
    assert facts.options["stride_in"] == "1x1"
    found = fit(WeightFile(Path("x"), {"": read}, {}), network)
    assert found.dropped == () and all("num_batches" in name for name in found.added)
    kept = [name for name in state if "running" not in name]  # means take in biases, and MSRA's files have neither
    assert all(torch.equal(found.state[name], state[name]) for name in kept)


def caffe_pool(x: Tensor) -> Tensor:
    """Return Caffe's 3×3 / 2 max-pool by its definition: windows begin at 0, 2, 4, … inside, and end at the edge."""
    rows, columns = (range(0, -(-(size - 3) // 2) * 2 + 1, 2) for size in x.shape[2:])
    return torch.stack(
        [torch.stack([x[:, :, i : i + 3, j : j + 3].amax((2, 3)) for j in columns], -1) for i in rows], -2
    )


# --- Hostile files ----------------------------------------------------------------------------------------------------


class Runs:
    """Runs code where it is unpickled without care."""

    def __init__(self, what: Callable[..., Any], *args: object) -> None:
        self.what, self.args = what, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.what, self.args


def pickled(content: Any, protocol: int = 2) -> bytes:
    return pickle.dumps(content, protocol)


ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i4", "i8"])
def test_a_pickle_of_arrays_is_read_as_numpy_reads_it(protocol: int, kind: str, tmp_path: Path) -> None:
    arrays = {
        "rows": ARRAY.astype(kind),
        "columns": np.asfortranarray(np.arange(24).reshape(2, 3, 4).astype(kind)),
        "none": np.zeros((0, 3), kind),
        "one": np.array(3, kind),
    }
    (tmp_path / "a.pkl").write_bytes(pickled({"blobs": {**arrays, "of numpy": np.float64(3)}}, protocol))
    (state,) = read_weights(tmp_path / "a.pkl").sets.values()
    assert state.keys() == arrays.keys()
    assert all(
        np.array_equal(state[name].numpy(), array) and state[name].numpy().dtype == kind
        for name, array in arrays.items()
    )


def fake_array(shape: tuple[int, ...], data: object, code: str = "f4", order: str = "<") -> bytes:
    """Return a pickle of {"x": an array} that says of itself what it likes."""
    kind = Runs(np.dtype, code)

    class Array:
        def __reduce__(self) -> Any:
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, shape, kind, False, data)

    return pickled({"x": Array(), "order": order})


@pytest.mark.parametrize(
    ("content", "kind", "values"),
    [
        (pickled({"x": ARRAY, "y": Runs(print, "this ran")}), WrongValueError, ["print"]),
        (pickled({"x": ARRAY, "y": Runs(exec, "print('this ran')")}), WrongValueError, ["exec"]),
        (pickled({"x": ARRAY, "y": Runs(np.load, "x")}), WrongValueError, ["numpy.load"]),
        (pickled({"x": np.array(["a"], object)}), DamagedError, []),
        (pickled({"x": ARRAY.astype(">f4")}), DamagedError, []),
        (fake_array((10**12,), b"1234"), DamagedError, []),
        (fake_array((-1,), b""), DamagedError, []),
        (fake_array((1,), "\u20ac"), DamagedError, []),
        (fake_array((1,), [1.0]), DamagedError, []),
        (fake_array((1,), b"1234", "O"), DamagedError, []),
        (pickled({"x": ARRAY})[:-5], DamagedError, []),
        (b"\x80\x02cnumpy\ndtype\n}(X\x01\x00\x00\x00aK\x01ub.", DamagedError, []),  # sets an attribute of a class
        (b"\x80\x02cnumpy\ndtype\nN}X\x05\x00\x00\x00_makeNs\x86b.", DamagedError, []),
        (b"\x80\x02}r\xff\xff\xff\x7f.", WrongValueError, []),  # which has C's reader allot gigabytes
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", DamagedError, []),  # bytes that are not there
    ],
)
def test_hostile_pickles_are_refused_and_run_nothing(
    content: bytes, kind: type[Exception], values: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    with refused(kind, tmp_path / "a.pkl", *values):  # type: ignore[arg-type]  # a kind of mistake
        read_weights(tmp_path / "a.pkl")
    assert "this ran" not in capsys.readouterr().out


def test_arrays_that_share_their_bytes_are_no_way_to_more_memory(tmp_path: Path) -> None:
    data = np.zeros(1000, np.float32)
    (tmp_path / "a.pkl").write_bytes(pickled({f"x{number}": data[:] for number in range(2)}))
    read_weights(tmp_path / "a.pkl")
    (tmp_path / "a.pkl").write_bytes(pickled(dict.fromkeys(map(str, range(100)), data)))
    with refused(DamagedError, tmp_path / "a.pkl"):
        read_weights(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("data", "copy"),
    [
        (b"X" + (10**5).to_bytes(4, "little"), b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R0"),
        (b"\x96" + (10**5).to_bytes(8, "little"), b"cnumpy._core.numeric\n_frombuffer\n(h\x00NNNtR0"),
    ],
    ids=["text", "bytearray"],
)
def test_bytes_that_are_copied_again_and_again_are_no_way_to_more_memory(
    data: bytes, copy: bytes, tmp_path: Path
) -> None:
    """A copy of a hundred thousand bytes takes some forty in the file."""
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + data + bytes(10**5) + b"q\x000" + 10 * copy + b"}.")
    with refused(DamagedError, tmp_path / "a.pkl", "more bytes than the file"):
        read_weights(tmp_path / "a.pkl")


def test_a_number_of_bytes_is_not_bytes(tmp_path: Path) -> None:
    copy = b"cnumpy._core.numeric\n_frombuffer\n(J\xff\xff\xff\x7fNNNtR"  # two thousand million zeros
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + copy + b".")
    with refused(DamagedError, tmp_path / "a.pkl", "other than bytes"):
        read_weights(tmp_path / "a.pkl")


def test_hdf5_is_read_within_its_own_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py")
    monkeypatch.setattr(numpyfiles, "MOST_OBJECTS", 500)
    path, secret = tmp_path / "a.h5", tmp_path / "secret.h5"
    with h5py.File(secret, "w") as made:
        made["x"] = ARRAY
    makers: dict[str, Callable[[Any], object]] = {
        "a bomb": lambda made: made.create_dataset("a/kernel:0", (10**6, 10**6), "f4", chunks=True),
        "a packed bomb": lambda made: made.create_dataset("a/kernel:0", data=np.zeros(10**6, "f4"), compression="gzip"),
        "another file's bytes": lambda made: made.create_dataset(
            "a/kernel:0", (4,), "f4", external=[(str(secret), 0, 16)]
        ),
        "a view of another file": lambda made: made.create_virtual_dataset("a/kernel:0", view_of(h5py, secret)),
        "words": lambda made: made.create_dataset("a/kernel:0", data=["a"]),
        "the same twice": lambda made: [made.create_dataset(f"{top}/a/kernel:0", data=ARRAY) for top in "xy"],
        "only a way out": lambda made: made.__setitem__("a", h5py.ExternalLink(str(secret), "/")),
        "only a way round": lambda made: made.__setitem__("a", h5py.SoftLink("/")),
        "itself": lambda made: made.__setitem__("a", made["/"]),
    }
    for what, make in makers.items():
        with h5py.File(path, "w") as made:
            make(made)
        with pytest.raises((DamagedError, WrongValueError)) as told:
            read_weights(path)
        assert str(path) in str(told.value), what


def view_of(h5py: Any, path: Path) -> Any:
    layout = h5py.VirtualLayout((2, 3), "f4")
    layout[:] = h5py.VirtualSource(path, "x", (2, 3))
    return layout


def test_keras_needs_h5py_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with refused(MissingError, tmp_path / "a.h5", "h5py", "'reslab[keras]'"):
        read_weights(tmp_path / "a.h5")


def _wrapped(word: str) -> Callable[[State], State]:
    return lambda state: {re.sub(r"^(layer\d\.\d)\.", rf"\1.{word}.", name): each for name, each in state.items()}


@pytest.mark.parametrize(
    "changed",
    [
        _wrapped("_fsdp_wrapped_module"),
        _wrapped("_checkpoint_wrapped_module"),
        lambda state: {name: each[None] if name.endswith("tracked") else each for name, each in state.items()},
        lambda state: {**state, "epoch": 3, "args": None},
    ],
)
def test_what_tools_leave_around_a_state_is_taken_away(changed: Callable[[State], State], tmp_path: Path) -> None:
    network, loaded = cifar_resnet(8), cifar_resnet(8)
    torch.save(changed(network.state_dict()), tmp_path / "w.pt")
    reslab.load_weights(loaded, tmp_path / "w.pt", zero_pad="end")
    assert all(torch.equal(each, loaded.state_dict()[name]) for name, each in network.state_dict().items())


def test_weights_of_an_own_network_are_its_own_and_a_refusal_leaves_the_classifier(tmp_path: Path) -> None:
    network, other = nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 3))
    (tmp_path / "w.safetensors").write_bytes(to_bytes(network, "own:Sequential", {}))
    reslab.load_weights(other, tmp_path / "w.safetensors")
    assert torch.equal(other[0].weight, network[0].weight)
    torch.save({"b.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with refused(MismatchError):
        reslab.load_weights(other, tmp_path / "other.pt", head="none")
    assert isinstance(other[0], nn.Linear)
    padded = reslab.build("cifar_preresnet", depth=8)
    torch.save(padded.state_dict(), tmp_path / "v2.pt")
    with refused(MismatchError, "v1"):
        reslab.load_weights(padded, tmp_path / "v2.pt", zero_pad="centred", head="none")
    assert isinstance(padded.fc, nn.Linear)


def test_a_list_of_shards_is_told_from_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {}}', encoding="utf-8")
    with refused(UserError, "JSON"):
        reslab.load_weights(cifar_resnet(8), tmp_path / "model.safetensors.index.json")


WORDS = st.lists(st.sampled_from([*WRAPPERS, "other"]), max_size=5)


@given(words=WORDS, nested=st.lists(st.sampled_from(["state_dict", "model", "x"]), max_size=3), head=st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_nesting_of_wrappers_leads_to_the_same_weights(words: list[str], nested: list[str], head: bool) -> None:
    network = cifar_resnet(8)
    state = {name: value for name, value in network.state_dict().items() if head or not name.startswith("fc.")}
    wrapped = {".".join([*words, name]): value for name, value in state.items()}
    weights = WeightFile(Path("x"), {".".join(nested): wrapped}, {})
    found = fit(weights, network, head=None if head else "fresh")
    assert all(found.state[name] is value for name, value in state.items())
    assert found.dropped == () and set(found.added) == (set() if head else {"fc.weight", "fc.bias"})
    assert found.renamed == ({} if not words else {f"{'.'.join(words)}.{name}": name for name in state})
