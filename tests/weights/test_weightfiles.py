"""Weights in and out."""

import json
import os
import pickle
import subprocess
import zipfile
from argparse import Namespace
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_refused, refused, reslab_here
from safetensors.torch import save, save_file
from torch import Tensor, nn
from torchvision.models import shufflenet_v2_x0_5

import reslab
from reslab.errors import (
    DamagedError,
    FailedError,
    MismatchError,
    MissingError,
    UnknownNameError,
    UserError,
    WrongValueError,
)
from reslab.networks import zoo
from reslab.networks.pretrained import pretrained
from reslab.paper.resnet_paper import cifar_resnet
from reslab.weights.files import WeightFile, read_weights, to_bytes
from reslab.weights.fitting import Head, classifier, fit
from reslab.weights.onnx import to_onnx
from reslab.weights.origins import configured
from reslab.weights.shipped import shipped


def lived_in(network: nn.Module, size: int = 16) -> nn.Module:
    """Give a network statistics that are not fresh."""
    network(torch.randn(16, 3, size, size))
    return network.eval()


def third_party(network: nn.Module) -> dict[str, object]:
    """Return weights as a known CIFAR implementation saves them."""
    names = {name: f"module.{name.replace('fc.', 'linear.')}" for name in network.state_dict()}
    return {
        "best_prec1": 91.0,
        "state_dict": {names[name]: value for name, value in network.state_dict().items() if "num_batches" not in name},
    }


def centred_logits(state: dict[str, Tensor], x: Tensor, blocks: int) -> Tensor:
    """Run the third party's network, whose option A pads zero channels on both sides, from its state dict alone."""

    def bn(x: Tensor, name: str) -> Tensor:
        parts = [state[f"module.{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts)

    x = bn(F.conv2d(x, state["module.conv1.weight"], padding=1), "bn1").relu()
    for stage in (1, 2, 3):
        for index in range(blocks):
            name = f"layer{stage}.{index}"
            stride = 2 if stage > 1 and index == 0 else 1
            y = bn(F.conv2d(x, state[f"module.{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1").relu()
            y = bn(F.conv2d(y, state[f"module.{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if stride == 2:
                quarter = y.shape[1] // 4
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
            x = (x + y).relu()
    return x.mean((2, 3)) @ state["module.linear.weight"].T + state["module.linear.bias"]


@pytest.mark.parametrize("depth", [8, 20])
def test_a_third_partys_file_with_centred_zeros_computes_the_same(tmp_path: Path, depth: int) -> None:
    content = third_party(lived_in(cifar_resnet(depth)))
    path = tmp_path / "이름은 상관없다.bin"
    torch.save(content, path)
    network = reslab.build("cifar_resnet", depth=depth, weights=path, zero_pad="centred").eval()
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        expected = centred_logits(content["state_dict"], images, (depth - 2) // 6)  # type: ignore[arg-type]  # a state dict
        assert (network(images) - expected).abs().max() < 1e-5 * expected.abs().max()
        at_the_end = reslab.build("cifar_resnet", depth=depth, weights=path, zero_pad="end").eval()
        assert (at_the_end(images) - expected).abs().max() > 1e-2 * expected.abs().max()


def test_what_tensors_cannot_tell_must_be_told(tmp_path: Path) -> None:
    torch.save(reslab.build("resnet20").state_dict(), tmp_path / "a.pt")
    torch.save(reslab.build("resnet50", num_classes=2).state_dict(), tmp_path / "b.pt")
    with refused(MissingError, "--zero-pad", "end", "centred"):
        reslab.build("resnet20", weights=tmp_path / "a.pt")
    with refused(MissingError, "--stride-in", "1x1", "3x3"):
        reslab.build("resnet50", num_classes=2, weights=tmp_path / "b.pt")
    reslab.build("resnet50", num_classes=2, stride_in="3x3", weights=tmp_path / "b.pt")


@pytest.mark.slow
def test_our_file_carries_its_facts_and_is_refused_against_them(tmp_path: Path) -> None:
    network = lived_in(reslab.build("resnet50", num_classes=2, stride_in="3x3"), 32)
    path = tmp_path / "ours.safetensors"
    path.write_bytes(
        to_bytes(network, "resnet50", {"num_classes": 2, "stride_in": "3x3"}, {"mean": [0.5], "std": [0.2]})
    )
    again = reslab.build("resnet50", num_classes=2, stride_in="3x3", weights=path).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(again(images), network(images))
    assert read_weights(path).metadata["preprocessing"]["std"] == [0.2]
    # the file brings its options
    assert torch.equal(reslab.build("resnet50", weights=path).eval()(images), network(images))
    with refused(MismatchError, "stride_in 3x3", "1x1"):
        reslab.build("resnet50", num_classes=2, stride_in="1x1", weights=path)
    with refused(MismatchError, "model resnet50", "resnet101"):
        reslab.build("resnet101", num_classes=2, weights=path)
    done = reslab_here(
        *("weights", path, "--as", "resnet50", "--mean", "0.4,0.4,0.3", "--std", "0.1,0.1,0.1"),
        *("--out", tmp_path / "again.safetensors"),
    )
    assert done.returncode == 0, done.stderr
    read = read_weights(tmp_path / "again.safetensors")
    assert read.metadata["preprocessing"] == {"mean": [0.4, 0.4, 0.3], "std": [0.1] * 3}
    assert read.options("resnet50") == {"num_classes": 2, "stride_in": "3x3"}


def test_a_file_that_is_written_again_keeps_how_images_are_prepared(tmp_path: Path) -> None:
    resnet20 = shipped()["digits", "resnet20"]
    done = reslab_here(
        "weights", resnet20, "--as", "resnet20", "--mean", "0.4", "--std", "0.1", "--out", tmp_path / "a.safetensors"
    )
    assert done.returncode == 0, done.stderr
    kept = read_weights(resnet20).metadata["preprocessing"]
    assert read_weights(tmp_path / "a.safetensors").metadata["preprocessing"] == {**kept, "mean": [0.4], "std": [0.1]}


def test_centred_zeros_are_refused_where_they_are_not_understood(tmp_path: Path) -> None:
    torch.save(reslab.build("preresnet20").state_dict(), tmp_path / "a.pt")
    with refused(MismatchError, "v1"):
        reslab.build("preresnet20", weights=tmp_path / "a.pt", zero_pad="centred")


def test_what_does_not_fit_is_refused_by_name_and_shape(tmp_path: Path) -> None:
    state = dict(reslab.build("resnet20").state_dict())
    del state["layer1.0.conv1.weight"]
    state["layer9.x"] = torch.zeros(1)
    state["fc.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "bad.pt")
    with refused(
        MismatchError, "missing: layer1.0.conv1.weight", "not in the network: layer9.x", "fc.bias", (3,), (10,)
    ):
        reslab.build("resnet20", weights=tmp_path / "bad.pt", zero_pad="end")


class Named(nn.Module):
    """A network whose layers have the given names."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(4, 4))


@pytest.mark.parametrize(
    "network",
    [
        Named("stem", "linear"),
        Named("linear", "fc"),
        Named("module"),
        nn.ModuleDict({"block": Named("shortcut", "downsample")}),
        nn.ModuleDict({"model": nn.ModuleDict({"backbone": Named("a")})}),
    ],
)
@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.", "module._orig_mod.module.", "model."])
def test_a_network_takes_its_own_weights_in_any_wrapper(tmp_path: Path, network: nn.Module, wrapper: str) -> None:
    own = network.state_dict()
    torch.save({"model": {f"{wrapper}{name}": tensor for name, tensor in own.items()}}, tmp_path / "own.pt")
    found = fit(read_weights(tmp_path / "own.pt"), network)
    assert found.state.keys() == own.keys() and all(torch.equal(found.state[name], own[name]) for name in own)
    assert bool(found.renamed) == bool(wrapper) and set(found.renamed.values()) <= own.keys()


def test_parts_that_torch_compile_wrapped_find_their_place(tmp_path: Path) -> None:
    network = nn.ModuleDict({"body": Named("a"), "head": Named("fc")})
    torch.save(
        {name.replace("body.", "body._orig_mod."): tensor for name, tensor in network.state_dict().items()},
        tmp_path / "a.pt",
    )
    assert fit(read_weights(tmp_path / "a.pt"), network).renamed.keys() == {
        "body._orig_mod.a.weight",
        "body._orig_mod.a.bias",
    }


def test_of_several_sets_the_one_taken_and_the_others_are_named(tmp_path: Path) -> None:
    network, average = Named("a"), Named("a")
    torch.save(
        {"model": network.state_dict(), "model_ema": average.state_dict(), "optimizer": {"state": {}}},
        tmp_path / "both.pt",
    )
    both = read_weights(tmp_path / "both.pt")
    found, raw = fit(both, network), fit(both, network, raw=True)
    assert torch.equal(found.state["a.weight"], average.a.weight) and torch.equal(
        raw.state["a.weight"], network.a.weight
    )
    assert "'model_ema'" in found.notes[0] and "--raw takes 'model'" in found.notes[0] and len(found.notes) == 1
    assert "'model'" in raw.notes[0] and "model_ema" in raw.notes[0]
    torch.save({"mine": network.state_dict(), "other": average.state_dict()}, tmp_path / "two.pt")
    with refused(MismatchError, tmp_path / "two.pt", "mine, other"):
        fit(read_weights(tmp_path / "two.pt"), network)
    torch.save({"model_ema": average.state_dict()}, tmp_path / "average.pt")
    with refused(MismatchError, tmp_path / "average.pt", "model_ema", "--raw"):
        fit(read_weights(tmp_path / "average.pt"), network, raw=True)


class Colour(Enum):
    RED = "red"


class Attributes(dict[str, Any]):
    """A dict of its own class, as configurations often are."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(name)


class Names(list[str]):
    """A list of its own class."""


@pytest.mark.parametrize(
    "beside",
    [
        Namespace(lr=0.1),
        np.float64(91.2),
        Path("data"),
        defaultdict(list, a=[1]),
        deque([1, 2]),
        datetime(2026, 1, 1),
        partial(torch.optim.SGD, lr=0.1),
        Colour.RED,
        Attributes(lr=0.1, depth=20),
        Names(["a", "b"]),
        Attributes(inner=Attributes(names=Names(["a"]))),
    ],
)
def test_objects_beside_the_tensors_are_left_unread_and_named(tmp_path: Path, beside: object) -> None:
    network = Named("a")
    torch.save({"state_dict": network.state_dict(), "beside": beside, "list": [beside]}, tmp_path / "checkpoint.pt")
    found = fit(read_weights(tmp_path / "checkpoint.pt"), network)
    assert torch.equal(found.state["a.weight"], network.a.weight)
    # whose class torch reads by itself in some releases, under another name in some of Python
    if not isinstance(beside, Path):
        assert any(type(beside).__name__ in note or "scalar" in note for note in found.notes)


class Tagged(Tensor):
    """A tensor of a class of its own."""


def test_sound_files_that_torch_does_not_read_are_not_called_damaged(tmp_path: Path) -> None:
    file, state = tmp_path / "a.pt", Named("a").state_dict()
    torch.save({"state_dict": state, "example": torch.zeros(3).as_subclass(Tagged)}, file)
    with refused(WrongValueError, "Tagged"):
        read_weights(file)
    torch.save({"state_dict": state}, file, pickle_protocol=4)
    with refused(WrongValueError, "pickle_protocol"):
        read_weights(file)


@pytest.mark.parametrize(("name", "write"), [("a.pth", torch.save), ("a.safetensors", save_file)])
def test_a_file_that_was_cut_off_is_told(tmp_path: Path, name: str, write: Callable[..., object]) -> None:
    file = tmp_path / name
    write({"weight": torch.randn(100, 100)}, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with refused(DamagedError, file, "incomplete"):
        read_weights(file)


def test_what_is_no_set_of_weights_is_passed_by(tmp_path: Path) -> None:
    network = Named("a")
    optimizer = torch.optim.Adam(network.parameters())
    network.a(torch.zeros(1, 4)).sum().backward()
    optimizer.step()
    content = {
        "model": {"depth": 20},
        "net": {},
        "weights_of_it": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "best": torch.tensor(0.9),
    }
    torch.save(content, tmp_path / "a.pt")
    assert list(read_weights(tmp_path / "a.pt").sets) == ["weights_of_it"]


def test_two_names_never_become_one_and_no_weights_load_in_part() -> None:
    network = cifar_resnet(8)
    state = dict(network.state_dict())
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc")}
    halves = {f"module.encoder_{which}.{name}": tensor for which in "qk" for name, tensor in body.items()}
    mixed = {**state, **{f"model.{name}": tensor for name, tensor in state.items()}}
    for given, names in (
        ({**state, "module.fc.bias": torch.zeros(10)}, "not in the network: module.fc.bias"),
        ({**state, "linear.bias": torch.zeros(10)}, "not in the network: linear.bias"),
        (body, "missing: fc.weight, fc.bias"),
        (halves, "missing: fc.weight, fc.bias"),
        (mixed, "not in the network: model.conv1.weight"),
        (cifar_resnet(8, shortcut="B").state_dict(), "not in the network: layer2.0.downsample.0.weight"),
    ):
        with refused(MismatchError, names):
            fit(WeightFile(Path("x"), {"": dict(given)}, {}), network)


def test_classes_that_keep_tensors_from_being_read_are_named(tmp_path: Path) -> None:
    for content, values in (
        ({"state_dict": Named("a").state_dict(), "beside": print}, ["print"]),
        ({"state_dict": Named("a").state_dict(), "beside": subprocess.Popen}, ["Popen"]),
        ({"state_dict": Named("a").state_dict(), "beside": os.system}, [f"{os.system.__module__}.system"]),
        (Named("a"), ["state dict", "test_weightfiles.Named"]),
    ):
        torch.save(content, tmp_path / "a.pt")
        with refused(WrongValueError, *values):
            read_weights(tmp_path / "a.pt")


def test_archives_that_torch_save_did_not_write_are_told(tmp_path: Path) -> None:
    for names, packing, kind, value in (
        (("net/data.pkl", "net/constants.pkl"), zipfile.ZIP_STORED, WrongValueError, "TorchScript"),
        (("net/data.pkl",), zipfile.ZIP_DEFLATED, WrongValueError, "compressed"),
        (("net/data.pkl",), zipfile.ZIP_STORED, DamagedError, tmp_path / "a.pt"),
    ):
        with zipfile.ZipFile(tmp_path / "a.pt", "w", packing) as archive:
            for name in names:
                archive.writestr(name, bytes(100))
        with refused(kind, value):
            read_weights(tmp_path / "a.pt")


def test_what_tools_left_is_left_out_and_named(tmp_path: Path) -> None:
    network = Named("a")
    torch.save(
        {**network.state_dict(), "total_ops": torch.zeros(1), "a.total_params": torch.zeros(1)},
        tmp_path / "profiled.pt",
    )
    assert "total_ops, a.total_params" in fit(read_weights(tmp_path / "profiled.pt"), network).notes[0]


@pytest.mark.parametrize(
    ("content", "kind", "value"),
    [
        (b"<!DOCTYPE html><html>", WrongValueError, "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", WrongValueError, "Git-LFS"),
        (b"\x89HDF\r\n\x1a\n", DamagedError, "HDF5"),
        (b"\x1f\x8b\x08", WrongValueError, "packed archive"),
        (b"\x80\x04K\x01.", WrongValueError, "int"),
        (b"", DamagedError, "empty"),
    ],
)
def test_what_is_no_weights_file_is_called_what_it_is(
    tmp_path: Path, content: bytes, kind: type[UserError], value: str
) -> None:
    (tmp_path / "weights.pt").write_bytes(content)
    with refused(kind, tmp_path / "weights.pt", value):
        read_weights(tmp_path / "weights.pt")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes among its files")
def test_a_directory_a_pipe_and_another_archive_are_no_weights_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.jpg", b"")
    os.mkfifo(tmp_path / "pipe")
    for name, kind, value in (
        ("photos.zip", WrongValueError, "a.jpg"),
        ("pipe", WrongValueError, "regular file"),
        (".", MissingError, "weights.safetensors"),
    ):
        with refused(kind, tmp_path / name, value):
            read_weights(tmp_path / name)


def test_a_runs_own_weights_bring_what_its_data_set_gave(tmp_path: Path) -> None:
    done = json.loads(
        reslab_here("train", "cifar_resnet", "--depth", "8", "--epochs", "1", "--out", tmp_path, "--json").stdout
    )
    run = Path(done["directory"])
    for weights in (run, run / "weights.safetensors"):
        network = reslab.build("cifar_resnet", weights=weights).eval()
        assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    told = reslab_here("weights", run)
    assert told.returncode == 0, told.stderr
    assert (
        "fits cifar_resnet" in told.stdout
        and "assumed, as no tensor tells it: " in told.stdout
        and "BatchNorm's eps 1e-05" in told.stdout
    )


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this ran",))


def test_files_that_could_run_code_or_are_damaged_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "torn.safetensors").write_bytes(to_bytes(nn.Linear(3, 3), "x", {})[:50])
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    kinds = {
        "evil.pt": WrongValueError,
        "evil.pkl": WrongValueError,
        "torn.safetensors": DamagedError,
        "empty.pt": DamagedError,
    }
    for name, kind in {**kinds, "none.pt": WrongValueError, "nowhere.pt": MissingError}.items():
        with refused(kind, tmp_path / name):
            read_weights(tmp_path / name)
    assert "this ran" not in capsys.readouterr().out


def test_the_command_reports_and_writes(tmp_path: Path) -> None:
    torch.save(third_party(lived_in(reslab.build("resnet20"))), tmp_path / "x.th")
    out = tmp_path / "y.safetensors"
    arguments = (
        "weights",
        tmp_path / "x.th",
        "--as",
        "resnet20",
        "--zero-pad",
        "centred",
        "--mean",
        "0.5,0.5,0.5",
        "--std",
        "0.2,0.2,0.2",
        "--out",
        out,
    )
    done = reslab_here(*arguments)
    assert done.returncode == 0 and "module.linear.weight -> fc.weight" in done.stdout
    again = reslab_here(*arguments)
    assert_refused(again, out, "--out")
    assert json.loads(reslab_here("weights", out, "--as", "resnet20", "--json").stdout)["renamed"] == {}
    assert read_weights(out).metadata["preprocessing"] == {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}


def test_torchvisions_weights_need_v15(monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(MismatchError, "resnet50", "stride_in='3x3'"):
        reslab.build("resnet50", weights="torchvision", stride_in="1x1")
    with refused(MissingError, "'resnet20'"):
        reslab.build("resnet20", weights="torchvision")

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with refused(FailedError, "resnet50", "no network"):
        reslab.build("resnet50", weights="torchvision")


def test_torchvisions_own_networks_take_their_weights_also_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, network = "torchvision/shufflenet_v2_x0_5", shufflenet_v2_x0_5()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: network.state_dict())
    found, metadata, _ = pretrained(name, "torchvision", {})
    assert torch.equal(found.state_dict()["fc.weight"], network.fc.weight)
    kept = metadata["preprocessing"]
    assert (kept["mean"], kept["std"], kept["size"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 224)
    assert kept["framing"] == {"size": 224, "resize": 256, "interpolation": "bilinear"} and len(kept["classes"]) == 1000
    assert metadata["card"]["made_for"] == {"num_classes": 1000}
    done = reslab_here("evaluate", name, "--weights", "torchvision")  # as far as the images, which are digits
    assert_refused(done, "1,000", "tench")


@pytest.mark.parametrize("name", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_timms_weights_load_and_compute_the_same(tmp_path: Path, name: str) -> None:
    network = lived_in(pytest.importorskip("timm").create_model(name, pretrained=False, num_classes=10), 64)
    torch.save(network.state_dict(), tmp_path / "timm.pth")
    options = {"stride_in": "3x3"} if name == "resnet50" else {}
    ours = reslab.build(name, num_classes=10, weights=tmp_path / "timm.pth", **options).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(images)
        assert (ours(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("words", "values"),
    [
        *((["--mean", text, "--std", "1"], ["--mean", text, "0.485,0.456,0.406"]) for text in ("0.5,half", "", "0.5,")),
        (["--mean", "0.5"], ["--mean", "--std", "both"]),
        (["--mean", "0.5", "--std", "0"], ["--mean 0.5 --std 0"]),
        (["--mean", "nan", "--std", "1"], ["--mean nan --std 1"]),
        (["--mean", "0.5", "--std", "0.5,0.5,0.5"], ["--mean", "1", "3"]),
        (["--mean", "0.5,0.5,0.5", "--std", "0.5,0.5"], ["--std", "2", "3"]),
    ],
)
def test_means_and_deviations_that_cannot_be_are_refused(tmp_path: Path, words: list[str], values: list[str]) -> None:
    torch.save(reslab.build("resnet20").state_dict(), tmp_path / "a.pt")
    command = ("weights", tmp_path / "a.pt", "--as", "resnet20", "--zero-pad", "end", *words)
    done = reslab_here(*command, "--out", tmp_path / "b.safetensors")
    assert_refused(done, *values)
    assert not (tmp_path / "b.safetensors").exists()
    assert reslab_here(*command).returncode == 2  # where nothing is written there is nothing to keep them in


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet56", "resnet50"])
@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_onnx_and_export_agree_with_torch(tmp_path: Path, name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network = lived_in(reslab.build(name), 64)
    images = torch.randn(3, 3, *network.input_shape[1:])  # type: ignore[misc]  # a shape
    with torch.no_grad():
        expected = network(images)
        exported = torch.export.export(network, (images,)).module()(images)
    assert torch.allclose(exported, expected, atol=1e-4)
    session = onnxruntime.InferenceSession(to_onnx(network, network.input_shape))  # type: ignore[arg-type]  # a shape
    for views in (images, images[:1, :, ::2, :-3]):  # of any number, and of any size
        with torch.no_grad():
            expected = network(views)
        (logits,) = session.run(None, {session.get_inputs()[0].name: views.contiguous().numpy()})
        assert np.abs(logits - expected.numpy()).max() < 1e-4 * max(1.0, expected.abs().max().item())


def test_no_file_names_a_function_to_be_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(to_bytes(nn.Linear(1, 1), "builtins:print", {"end": "this ran"}))
    done = reslab_here("weights", path)
    assert_refused(done, path, "--as")
    assert "this ran" not in done.stdout + capsys.readouterr().out


@pytest.mark.parametrize(
    ("facts", "values"),
    [
        (
            {"options": {"depth": 8, "num_classes": 10**11}},
            ["fc.weight", "(10, 64)", "(100000000000, 64)"],
        ),  # before memory is taken
        ({"options": {"depth": 8, "in_channels": 10**8}}, ["conv1.weight", "(16, 3, 3, 3)", 10**8]),
        ({"card": {"made_for": {"num_classes": 10**400}}}, ["cifar_resnet:"]),
        ({"card": {"made_for": {"num_classes": "many"}}}, ["cifar_resnet:"]),
        ({"options": {"depth": 8, "weights": "x"}}, ["'weights'"]),
        ({"options": {"depth": float("nan")}}, ["a.safetensors", "'reslab'"]),
        ({"options": {"depth": "\ud800"}}, ["a.safetensors", "'reslab'"]),
        ({"model": "\ud800"}, ["a.safetensors", "'reslab'"]),
        ({"model": "no such network"}, ["'no such network'"]),
        ({"preprocessing": {"mean": [0.5], "std": [0.5, 0.5]}}, ["a.safetensors", "'reslab'"]),
        ({"preprocessing": {"mean": [True]}}, ["a.safetensors", "'reslab'"]),
        ({"preprocessing": {"framing": [1]}}, ["a.safetensors", "'reslab'"]),
        ({"preprocessing": {"framing": {"foo": 1}}}, ["a.safetensors", "'reslab'"]),
    ],
    ids=[
        "classes",
        "channels",
        "number",
        "word",
        "file",
        "nan",
        "option",
        "surrogate",
        "name",
        "statistics",
        "truth",
        "framing",
        "keys",
    ],
)
def test_metadata_that_cannot_be_are_refused(facts: dict[str, object], values: list[object], tmp_path: Path) -> None:
    text = json.dumps({"model": "cifar_resnet", "options": {"depth": 8}, **facts})
    (tmp_path / "a.safetensors").write_bytes(save(cifar_resnet(8).state_dict(), {"reslab": text}))
    done = reslab_here("weights", tmp_path / "a.safetensors")
    assert_refused(done, *values)


@pytest.mark.parametrize(
    ("ends", "layer"),
    [
        (lambda classes: {"heads": nn.ModuleDict({"out": nn.Linear(4, classes)})}, "heads.out"),
        (lambda classes: {"5": nn.Linear(4, classes)}, "5"),
        (lambda classes: {"last": nn.Conv2d(4, classes, 1), "pool": nn.AdaptiveAvgPool2d(1)}, "last"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*left out what the network has no place for")
def test_a_networks_own_classifier_is_replaced_whatever_its_name(
    ends: Callable[[int], dict[str, nn.Module]], layer: str, tmp_path: Path
) -> None:
    def network(classes: int) -> nn.ModuleDict:
        return nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "bn": nn.BatchNorm2d(4), **ends(classes)})

    trained = network(20)
    torch.save(trained.state_dict(), tmp_path / "own.pth")
    for head in get_args(Head):
        other = network(10)
        before = {name: value.clone() for name, value in other.get_submodule(layer).state_dict().items()}
        reslab.load_weights(other, tmp_path / "own.pth", head=head)
        assert torch.equal(other.state_dict()["conv.weight"], trained.state_dict()["conv.weight"])
        now = other.get_submodule(layer).state_dict()
        assert now.keys() == (before.keys() if head == "fresh" else set())
        assert all(torch.equal(value, before[name]) for name, value in now.items())


def test_a_convolution_that_does_not_end_a_network_is_no_classifier() -> None:
    assert classifier(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))) is None
    assert classifier(nn.Sequential(nn.Conv2d(4, 4, 3))) is None and classifier(nn.ReLU()) is None


@pytest.mark.parametrize(("model", "more"), [("cifar_no_batchnorm", {}), ("cifar_short_paths", {"blocks": 1})])
def test_no_option_in_a_file_names_a_function_to_be_called(
    model: str, more: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "mark"
    (tmp_path / "theirs.py").write_text(f"open({str(mark)!r}, 'w').close()", encoding="utf-8")
    options = {"family": "theirs.py:net", "num_classes": 2, "in_channels": 1, "depth": 8, **more}
    file = tmp_path / "w.safetensors"
    file.write_bytes(to_bytes(nn.Linear(1, 1), model, options))
    assert_refused(reslab_here("weights", file), "theirs.py:net")
    assert not mark.exists()


@pytest.mark.parametrize("option", ["trust_remote_code", "revision", "_commit_hash"])
def test_no_option_in_a_file_is_one_of_loading(option: str) -> None:
    pytest.importorskip("transformers")
    with refused(UnknownNameError, option):
        zoo.build("hf:nobody/nothing", **{option: True})


class Bottleneck(nn.Module):
    """As torchvision and timm name it."""

    def __init__(self, first: int, middle: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv2d(4, 4, 1, first),
            nn.Conv2d(4, 4, 3, middle, 1),
            nn.Conv2d(4, 4, 1),
        )


def test_weights_of_one_stride_are_not_loaded_into_others_networks_of_the_other(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    for options, stride in (({}, "1x1"), ({"stride_in": "3x3"}, "3x3")):
        file.write_bytes(to_bytes(Bottleneck(1, 2), "resnet50", options))
        fitting, other = (Bottleneck(2, 1), Bottleneck(1, 2))[:: 1 if stride == "1x1" else -1]
        reslab.load_weights(fitting, file)
        with refused(MismatchError, f"stride_in {stride}"):
            reslab.load_weights(other, file)
    file.write_bytes(to_bytes(Bottleneck(1, 2), "torchvision/resnet50", {}))  # which says nothing of it
    reslab.load_weights(Bottleneck(1, 2), file)


def test_a_network_of_ones_own_of_whatever_input_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n",
        encoding="utf-8",
    )
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).state_dict(), "w.pt")
    done = reslab_here("weights", "w.pt", "--as", "net.py:make", "--out", "own.safetensors", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["macs"] == {"network": None, "written": None}


def test_tensors_that_repeat_what_a_file_holds_are_not_written_out(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    for kernel in (torch.zeros(1).expand(1, 1, 3, 4 * 10**9), torch.zeros(3)):
        torch.save({"conv1_conv.kernel": kernel}, file)
        with refused(DamagedError, file):
            read_weights(file)


def test_labels_of_a_configuration_that_are_no_texts_name_no_classes() -> None:
    assert "classes" not in configured({"id2label": {"0": 10, "1": 20}}, "config.json").preprocessing
