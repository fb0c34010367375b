"""Trained networks of others by name, from caches as their libraries leave them, and without a network."""

import json
import re
import shutil
import socket
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from helpers import assert_refused, refused, reslab_here
from helpers_images import image_folder, write_image
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config
from torch import nn
from torchvision.models import ResNet18_Weights, get_model, list_models, resnet18
from torchvision.transforms.v2.functional import pil_to_tensor

import reslab
from reslab.api.planning import start_from
from reslab.data.classes import match, synsets
from reslab.data.images import Framing
from reslab.errors import FailedError, MismatchError, MissingError, UnknownNameError
from reslab.networks import zoo
from reslab.networks.pretrained import Pretrained, _is_same, pretrained
from reslab.weights.untold import strides

HOPPER, JUNCO = 311, 13
"""Two of ImageNet's classes: n02226429, grasshopper; n01534433, junco."""


HUGGING_FACE = pytest.mark.skipif(find_spec("transformers") is None, reason="the hf extra is not installed")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the tests from the network and from the user's caches."""

    def nothing(*_: object, **__: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    monkeypatch.setattr(socket.socket, "connect", nothing)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("time.sleep", lambda _: None)  # between tries
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def says(network: nn.Module, layer: str, label: int) -> nn.Module:
    """Return the network, made to say this class of whatever it sees."""
    last = network.get_submodule(layer)
    with torch.no_grad():
        last.weight.zero_()  # type: ignore[union-attr,operator]  # a linear layer
        last.bias.zero_()[label] = 3.0  # type: ignore[union-attr,operator,index]  # likewise
    return network.eval()


def hub_cache(root: Path, repository: str, files: dict[str, Callable[[Path], object]]) -> None:
    """Write a repository as huggingface_hub caches it: a reference, and a snapshot."""
    place = root / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    for name, write in files.items():
        write(snapshot / name)


def torchvisions_cache(root: Path, network: nn.Module) -> None:
    place = root / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    torch.save(network.state_dict(), place / ResNet18_Weights.DEFAULT.url.rpartition("/")[2])


def imagenet_folder(root: Path, names: tuple[str, ...]) -> Path:
    """Write a `val` part alone, of two images a class."""
    image_folder(root, [(40, 30), (30, 50)], classes=names)
    shutil.rmtree(root / "train")
    (root / "test").rename(root / "val")
    return root


@pytest.mark.filterwarnings("default::UserWarning")  # which the command line tells
@pytest.mark.parametrize("names", [("n01534433", "n02226429"), ("junco", "Grasshopper"), ("snowbird", "hopper")])
def test_a_subset_of_imagenet_measures_a_network_of_a_thousand_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Offline, from torchvision's cache: right on the grasshoppers alone, by synset, name or synonym."""
    torchvisions_cache(tmp_path, says(resnet18(), "fc", HOPPER))
    root = imagenet_folder(tmp_path / "imagenet", names)
    words = ("evaluate", "torchvision/resnet18", "--weights", "torchvision:IMAGENET1K_V1", "--data", f"folder:{root}")
    if "hopper" in names:  # torchvision has one name a class
        assert_refused(reslab_here(*words), "snowbird", "hopper", "1,000")
        return
    done = reslab_here(*words, "--json")
    assert done.returncode == 0, done.stderr
    by = "synset" if names[0][1] == "0" else "name"
    assert re.search(f"2 of the 1000 classes .* matched by {by}", done.stderr)
    found = json.loads(done.stdout)
    assert (found["top1_error"], found["images"], len(found["classes"])) == (0.5, 4, 1000)
    how = found["preprocessing"]
    assert (how["from"], how["mean"], how["size"]) == ("weights", [0.485, 0.456, 0.406], 224)
    assert how["framing"] == {"size": 224, "resize": 256, "interpolation": "bilinear", "squashed": False}
    predicted = reslab_here(
        "predict", words[1], root / "val" / names[0] / "00.png", "--weights", "torchvision", "--json"
    )
    (one,) = json.loads(predicted.stdout)
    assert len(one["classes"]) == 5 and one["classes"][0]["class"] == "grasshopper"
    share = float(np.exp(3) / (np.exp(3) + 999))
    assert one["classes"][0]["probability"] == pytest.approx(share, rel=1e-4)


@pytest.mark.filterwarnings("ignore::EncodingWarning")  # the libraries open their own files so
@pytest.mark.filterwarnings("default::UserWarning")  # which the command line tells
@pytest.mark.slow  # 3 s
def test_timms_and_hugging_faces_caches_are_used_offline(tmp_path: Path) -> None:
    theirs = says(timm.create_model("resnet18.a1_in1k"), "fc", HOPPER)
    hub_cache(
        tmp_path, "timm/resnet18.a1_in1k", {"model.safetensors": lambda path: save_file(theirs.state_dict(), path)}
    )
    found = pretrained("timm/resnet18.a1_in1k", "pretrained", {})
    for name, value in theirs.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], value)
    kept = found.metadata["preprocessing"]
    assert kept["framing"] == {"size": 224, "resize": 235, "interpolation": "bicubic", "squashed": False}  # 224 / 0.95
    assert kept["classes"][HOPPER] == "grasshopper, hopper" and match(["snowbird"], kept["classes"]).places == [JUNCO]
    with refused(MismatchError, "num_classes"):
        pretrained("timm/resnet18.a1_in1k", "pretrained", {"num_classes": 10})

    pytest.importorskip("transformers")
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

    names = {0: "tench, Tinca tinca", 1: "goldfish", 2: "junco, snowbird"}
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label=names,
        label2id={name: label for label, name in names.items()},
    )
    network = says(ResNetForImageClassification(config), "classifier.1", 2)
    images = ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875)

    def write(path: Path) -> None:
        network.save_pretrained(path.parent)
        images.save_pretrained(path.parent)

    hub_cache(tmp_path, "lab/tiny-resnet", {"config.json": write})
    root = imagenet_folder(tmp_path / "birds", ("goldfish", "snowbird"))
    words = ("evaluate", "hf:lab/tiny-resnet", "--weights", "pretrained", "--data", f"folder:{root}", "--json")
    done = reslab_here(*words)
    assert done.returncode == 0, done.stderr
    assert re.search("2 of the 3 classes .* matched by name without regard", done.stderr)
    record = json.loads(done.stdout)
    assert record["top1_error"] == 0.5
    assert record["preprocessing"]["framing"] == {
        "size": 64,
        "resize": 73,
        "interpolation": "bicubic",
        "squashed": False,
    }
    done = reslab_here(*words, "--view", "ten-crop")  # which resizes images in its own way
    assert done.returncode == 0 and json.loads(done.stdout)["preprocessing"]["framing"] is None, done.stderr
    built = reslab.build("hf:lab/tiny-resnet", weights="pretrained")
    assert torch.equal(built.get_submodule("classifier.1").bias, network.classifier[1].bias)  # type: ignore[arg-type]  # a parameter
    assert isinstance(reslab.build("hf:lab/tiny-resnet"), ResNetForImageClassification)  # untrained, of its config
    pixels = pil_to_tensor(Image.open(root / "val" / "goldfish" / "00.png"))
    theirs_seen = images(pixels, return_tensors="pt")["pixel_values"][0]
    ours = Framing(**record["preprocessing"]["framing"])(pixels)
    mean, std = (torch.tensor(record["preprocessing"][key])[:, None, None] for key in ("mean", "std"))
    assert (
        (ours / 255 - mean) / std - theirs_seen
    ).abs().max() <= 1.01 / 255 / std.min()  # rounded by torch, by Pillow


@pytest.mark.filterwarnings("ignore::EncodingWarning")  # the libraries open their own files so
@pytest.mark.slow
@HUGGING_FACE
@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # of classes that are matched
def test_a_trained_networks_name_is_a_name_of_weights(tmp_path: Path) -> None:
    """Hugging Face's and timm's, in this lab's networks: what tensors cannot tell, the configuration does."""
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config = ResNetConfig(id2label={0: "tench", 1: "goldfish", 2: "junco"}, num_labels=3)
    theirs = ResNetForImageClassification(config).eval()

    def write(path: Path) -> None:
        theirs.save_pretrained(path.parent)
        ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875).save_pretrained(path.parent)

    hub_cache(tmp_path, "lab/resnet-50", {"config.json": write})
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = theirs(images).logits
        for model in ("resnet50", "hf:lab/resnet-50"):
            answer = reslab.build(model, weights="hf:lab/resnet-50").eval()(images)
            torch.testing.assert_close(getattr(answer, "logits", answer), want, rtol=1e-3, atol=1e-3)
    with refused(MismatchError, "1x1"):
        reslab.build("resnet50", weights="hf:lab/resnet-50", stride_in="1x1")

    root = imagenet_folder(tmp_path / "birds", ("goldfish", "junco"))
    words = ("--data", f"folder:{root}", "--part", "test", "--json")
    for model in ("resnet50", "hf:lab/resnet-50"):
        done = reslab_here("analyze", "responses", model, "--weights", "hf:lab/resnet-50", *words, "--images", "2")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["weights"] == "hf:lab/resnet-50"
    done = reslab_here("analyze", "importance", "hf:lab/resnet-50", "--weights", "pretrained", *words, "--images", "2")
    assert done.returncode == 0 and len(json.loads(done.stdout)["rows"]) == 16, done.stderr


@HUGGING_FACE
@pytest.mark.filterwarnings("default::UserWarning")  # which the command line tells
def test_a_network_of_hugging_faces_is_trained_and_fine_tuned(tmp_path: Path) -> None:
    from transformers import ResNetConfig

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    hub_cache(tmp_path, "lab/tiny", {"config.json": lambda path: config.save_pretrained(path.parent)})
    image_folder(tmp_path / "images", [(40, 30), (30, 50)], classes=("a", "b"))
    words = ("--data", f"folder:{tmp_path / 'images'}", "--epochs", "1", "--out", str(tmp_path / "runs"), "--json")
    done = reslab_here("train", "hf:lab/tiny", *words)
    assert done.returncode == 0, done.stderr
    trained = json.loads(done.stdout)
    weights = Path(trained["directory"]) / "weights.safetensors"
    evaluated = reslab_here("evaluate", "hf:lab/tiny", "--weights", weights, *words[:2], "--json")
    assert json.loads(evaluated.stdout)["top1_error"] == trained["result"]["test_error"]
    tuned = reslab_here("train", "hf:lab/tiny", *words, "--from", weights)
    assert tuned.returncode == 0 and json.loads(tuned.stdout)["directory"] != trained["directory"], tuned.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*left out what the network has no place for")
def test_a_trained_network_by_name_is_what_a_trial_starts_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    theirs = says(resnet18(), "fc", HOPPER)
    torchvisions_cache(tmp_path, theirs)
    start = start_from("torchvision", "resnet18", None, {})
    assert start.file is not None and start.file.is_relative_to(tmp_path / "cache")
    assert start_from("torchvision", "resnet18", None, {}) == start
    network = reslab.build("resnet18", weights=start.file, num_classes=7, head="fresh")
    assert torch.equal(network.get_submodule("layer4.1.conv2").weight, theirs.layer4[1].conv2.weight)  # type: ignore[arg-type]  # a parameter
    assert network.get_submodule("fc").weight.shape == (7, 512)  # type: ignore[union-attr]  # likewise
    with refused(FailedError, "cache"):
        start_from("pretrained", "timm/resnet18.a1_in1k", None, {})


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("torchvision/resnet18", "torchvision"),
        ("resnet18", "torchvision:IMAGENET1K_V1"),
        ("timm/resnet18.a1_in1k", "pretrained"),
        pytest.param("hf:microsoft/resnet-50", "pretrained", marks=HUGGING_FACE),
        pytest.param("resnet50", "hf:microsoft/resnet-50", marks=HUGGING_FACE),
    ],
)
def test_without_network_and_cache_it_is_one_line(tmp_path: Path, model: str, weights: str) -> None:
    image = tmp_path / "a.png"
    write_image(image, (8, 8))
    named = weights if weights.startswith("hf:") else model
    assert_refused(reslab_here("predict", model, image, "--weights", weights), named, "cache")


def test_names_that_are_not_there_are_told() -> None:
    with refused(UnknownNameError, "'IMAGENET1K_V3'", "'IMAGENET1K_V2'"):
        reslab.build("resnet50", weights="torchvision:IMAGENET1K_V3")
    with refused(UnknownNameError, "resnet18.a2_in2k"):
        reslab.build("timm/resnet18.a2_in2k", weights="pretrained")
    with refused(MissingError, "resnet20"):
        reslab.build("resnet20", weights="pretrained")


@HUGGING_FACE
def test_an_untrained_network_needs_its_configuration() -> None:
    with refused(FailedError, "hf:lab/none"):
        reslab.build("hf:lab/none")


OF_EACH_KIND = ("lraspp_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_fpn", "ssdlite320_mobilenet_v3_large")


@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
@pytest.mark.parametrize(
    "name",
    [
        name if name in OF_EACH_KIND else pytest.param(name, marks=pytest.mark.slow)
        for name in list_models()
        if "resnet50" in name or "mobilenet_v3_large" in name or "ssd" in name
    ],
)
def test_what_is_untrained_fetches_nothing(name: str) -> None:
    """Nor does a segmentation network's or a detector's backbone: there is no network here to fetch it from."""
    zoo.check(f"torchvision/{name}")


@pytest.mark.parametrize("shape", [(300, 400), (500, 331), (40, 30), (224, 224)])
@pytest.mark.parametrize(
    "name", ["resnet18.a1_in1k", "convnext_tiny.fb_in22k_ft_in1k_384", "vit_tiny_patch16_224.augreg_in21k_ft_in1k"]
)
def test_images_are_framed_as_the_source_frames_them(shape: tuple[int, int], name: str) -> None:
    pixels = torch.randint(256, (3, *shape), dtype=torch.uint8)
    wants = resolve_model_data_config(None, pretrained_cfg=asdict(timm.get_pretrained_cfg(name)))
    theirs = create_transform(**wants, normalize=False)(Image.fromarray(pixels.permute(1, 2, 0).numpy()))
    size = wants["input_size"][1]
    ours = Framing(size, int(size / wants["crop_pct"]), wants["interpolation"], wants["crop_mode"] == "squash")
    assert torch.equal(ours(pixels), theirs)


def test_a_framing_of_another_size_is_in_proportion() -> None:
    assert Framing(224, 256).at(112) == Framing(112, 128)
    assert Framing(224, 224, squashed=True).at(64)(torch.zeros(3, 9, 40, dtype=torch.uint8)).shape == (3, 64, 64)


def test_classes_are_matched_by_the_strictest_way_that_finds_them() -> None:
    labels = ["crane", "crane, machine", "Cardigan, corgi", "cardigan", "great_white shark"]
    assert match(["crane", "Cardigan", "GREAT-white_Shark"], labels).places == [0, 2, 4]
    assert match(["Cardigan Corgi", "x"], ["x", "cardigan corgi"]).places == [1, 0]
    for names, words in (
        (["unheard"], ["unheard"]),
        (["tub"], ["tub"]),
        (["bath tub", "bath_tub"], ["bath tub", "bath_tub"]),
        (["n01440764"], ["n01440764"]),
    ):
        with refused(MismatchError, *words):
            match(names, ["bath tub, tub", "vat, tub"])


def test_synsets_are_in_the_order_of_their_numbers() -> None:
    known = synsets()
    assert (
        len(known) == 1000 and known == sorted(known) and known[HOPPER] == "n02226429" and known[JUNCO] == "n01534433"
    )


def test_a_network_of_torchvisions_is_the_same_with_its_own_weights(tmp_path: Path) -> None:
    network: Any = get_model("resnet18").eval()
    torchvisions_cache(tmp_path, network)
    x = torch.randn(2, 3, 64, 64)
    for name in ("resnet18", "torchvision/resnet18"):
        assert torch.allclose(reslab.build(name, weights="torchvision").eval()(x), network(x), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "torchvision/resnet18"])
def test_published_weights_get_the_head_that_is_asked_for(tmp_path: Path, name: str) -> None:
    network: Any = resnet18()
    torchvisions_cache(tmp_path, network)
    for classes in (1000, 7):
        fresh: Any = reslab.build(name, weights="torchvision", head="fresh", num_classes=classes)
        assert fresh.fc.weight.shape == (classes, 512)
        assert not torch.equal(fresh.fc.weight[0], network.fc.weight[0])
        assert torch.equal(fresh.layer4[1].conv2.weight, network.layer4[1].conv2.weight)
    assert reslab.build(name, weights="torchvision", head="none").eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 512)
    with refused(MismatchError, "num_classes" if "/" in name else "fc.weight"):
        reslab.build(name, weights="torchvision", num_classes=7)


def tiny_config(**options: Any) -> Any:
    """Return the configuration of a small ResNet of Hugging Face."""
    from transformers import ResNetConfig

    return ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **options)


@HUGGING_FACE
def test_options_that_a_configuration_does_not_know_are_told(tmp_path: Path) -> None:
    tiny_config().save_pretrained(tmp_path)
    name = f"hf:{tmp_path}"
    for option, meant in (("hiden_act", "'hidden_act'"), ("num_clases", "'num_classes'")):
        with refused(UnknownNameError, f"'{option}'", meant):
            zoo.fresh(name, {"in_channels": 3, "num_classes": 10, option: "gelu"})
    network: Any = reslab.build(name, hidden_act="gelu", in_channels=1, num_classes=7)
    assert network.config.hidden_act == "gelu" and network(torch.zeros(1, 1, 32, 32)).logits.shape == (1, 7)


@HUGGING_FACE
@pytest.mark.parametrize(
    ("kind", "settings", "known"),
    [
        ("ViT", {"size": {"height": 64, "width": 64}}, True),
        ("ConvNext", {"size": {"shortest_edge": 64}, "crop_pct": 0.875}, True),
        ("Levit", {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}, True),
        ("PoolFormer", {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}, False),
        ("EfficientNet", {"size": {"height": 64, "width": 64}, "include_top": True}, True),
        ("EfficientNet", {"size": {"height": 64, "width": 64}, "rescale_offset": True}, False),
        ("MobileViT", {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}, False),  # blue first
        ("Bit", {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}, True),
    ],
)
def test_images_are_prepared_as_their_processor_does_or_not_at_all(
    kind: str, settings: dict[str, Any], known: bool, tmp_path: Path
) -> None:
    import transformers

    made = transformers.ResNetForImageClassification(tiny_config(id2label={0: "tench", 1: "goldfish"}))
    made.save_pretrained(tmp_path)
    getattr(transformers, f"{kind}ImageProcessor")(**settings).save_pretrained(tmp_path)
    if known:
        assert pretrained(f"hf:{tmp_path}", "pretrained", {}).metadata["preprocessing"]["size"] == 64
    else:
        with refused(MismatchError, f"{kind}ImageProcessor"):
            pretrained(f"hf:{tmp_path}", "pretrained", {})


def test_networks_of_the_same_tensors_are_told_apart_by_what_they_compute() -> None:
    first, other = (reslab.build("resnet50", num_classes=2, stride_in=stride) for stride in ("1x1", "3x3"))
    other.load_state_dict(first.state_dict())
    trained = Pretrained(first, {"preprocessing": {"size": 64}}, {})
    assert _is_same(first, trained) and not _is_same(other, trained)
    assert strides(first) == {"1x1"} and first.training


@HUGGING_FACE
def test_weights_that_are_kept_in_half_precision_are_float32(tmp_path: Path) -> None:
    from transformers import ConvNextImageProcessor, ResNetForImageClassification

    half = ResNetForImageClassification(tiny_config(id2label={0: "tench", 1: "goldfish"})).half()
    half.save_pretrained(tmp_path)
    ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875).save_pretrained(tmp_path)
    name = f"hf:{tmp_path}"
    for weights in (None, "pretrained"):
        network: Any = reslab.build(name, weights=weights)
        assert {value.dtype for value in network.parameters()} == {torch.float32}
        assert network(torch.zeros(1, 3, 32, 32)).logits.dtype == torch.float32
    assert torch.equal(network.classifier[1].weight, half.classifier[1].weight.float())
    fresh: Any = reslab.build(name, weights="pretrained", head="fresh", num_classes=7)
    assert fresh(torch.zeros(1, 3, 32, 32)).logits.shape == (1, 7)


@HUGGING_FACE
def test_no_network_that_is_looked_at_has_a_part_of_trained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the library would download, of configurations that ask for it."""
    import transformers

    from reslab.networks import support

    config = SimpleNamespace(architectures=None, use_pretrained_backbone=True)
    seen: list[bool] = []

    def build(given: SimpleNamespace) -> None:
        seen.append(given.use_pretrained_backbone)
        raise KeyboardInterrupt

    monkeypatch.setattr(transformers.AutoConfig, "for_model", lambda kind: config)
    monkeypatch.setattr(transformers.AutoModel, "from_config", build)
    with pytest.raises(KeyboardInterrupt):
        support._huggings("detr")
    assert seen == [False]
