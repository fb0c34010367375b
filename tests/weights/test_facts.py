"""What no tensor tells: strides, padding, averages, who trained a file, and files that cannot be read or written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_refused, refused, reslab_here
from safetensors import safe_open
from torch import Tensor, nn

import reslab
from reslab.errors import FailedError, MismatchError, UnusableError, UserError
from reslab.networks import zoo
from reslab.state import in_mode
from reslab.weights import untold
from reslab.weights.files import read_weights, to_bytes
from reslab.weights.fitting import fit
from reslab.weights.onnx import to_onnx
from reslab.weights.origins import CAFFE_IMAGES, understood


def test_networks_of_the_zoo_stride_where_their_files_are_said_to() -> None:
    for name in ("resnet50", "preresnet50", "preresnet164", "resnext29_8x64d", "resnext50_32x4d", "wide_resnet50_2"):
        with torch.device("meta"):
            found = untold.strides(zoo.build(name))
        assert found == {untold.usual_stride(name)}, name


@pytest.mark.parametrize("name", ["cifar_resnext", "resnet50"])
def test_our_own_file_is_loaded_into_the_network_that_it_is_of(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_classes": 2}
    if name == "cifar_resnext":
        options |= {"depth": 11, "cardinality": 2, "base_width": 4}
    network = zoo.build(name, **options)
    file = tmp_path / "a.safetensors"
    file.write_bytes(to_bytes(network, name, options))
    assert not reslab.load_weights(zoo.build(name, **options), file).renamed
    assert read_weights(file).network == name


class Wrapped(nn.Module):
    """A layer, and what keeps what no tensor holds."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 3)

    def get_extra_state(self) -> dict[str, int]:
        """Return a count."""
        return {"calls": 3}

    def set_extra_state(self, state: Any) -> None:
        """Take a count."""


def of(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in state.items()}


def saved(tmp_path: Path, content: object) -> Any:
    torch.save(content, tmp_path / "a.pt")
    return read_weights(tmp_path / "a.pt")


def test_names_that_all_begin_as_an_averages_are_an_average(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2, 3))
    for content in ({"state_dict": of(network.state_dict(), "ema_model")}, of(network.state_dict(), "ema")):
        file = saved(tmp_path, content)
        with refused(MismatchError, "--raw"):
            fit(file, network, raw=True)
        assert not fit(file, network).notes
    own = nn.ModuleDict({"ema": nn.Linear(2, 3)})  # a network of its own with this name
    assert not fit(saved(tmp_path, own.state_dict()), own, raw=True).notes


def test_a_teacher_is_an_average_beside_its_student_alone(tmp_path: Path) -> None:
    network, other = nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 3))
    two = {"state_dict": {**of(network.state_dict(), "model"), **of(other.state_dict(), "teacher")}}
    with refused(MismatchError, "state_dict.model", "state_dict.teacher"):
        fit(saved(tmp_path, two), network)
    dino = {"student": network.state_dict(), "teacher": other.state_dict()}
    found = fit(saved(tmp_path, dino), network)
    assert torch.equal(found.state["0.weight"], other[0].weight)
    assert torch.equal(fit(saved(tmp_path, dino), network, raw=True).state["0.weight"], network[0].weight)
    assert torch.equal(
        fit(saved(tmp_path, {"teacher": other.state_dict()}), network, raw=True).state["0.weight"], other[0].weight
    )


def test_what_is_no_tensor_is_left_out_of_a_file_and_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="_extra_state"):
        content = to_bytes(Wrapped(), "x.py:net", {})
    (tmp_path / "a.safetensors").write_bytes(content)
    assert fit(read_weights(tmp_path / "a.safetensors"), Wrapped()).added == ("_extra_state",)


def test_a_network_that_onnx_cannot_hold_is_told_in_a_line() -> None:
    class Deciding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if x.mean() > 0 else x

    with refused(FailedError, "Deciding", "ONNX"):
        to_onnx(Deciding(), (3, 8, 8))


def test_a_frozen_script_has_no_mode_and_is_given_none() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    with pytest.warns(FutureWarning, match="deprecated"):
        frozen = torch.jit.freeze(torch.jit.script(network))
    with in_mode(frozen, training=False):
        assert frozen(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 6, 6)
    assert not hasattr(frozen, "training")


def test_padding_is_asked_for_wherever_it_stands_and_only_there(tmp_path: Path) -> None:
    plain, ablated = zoo.build("resnet18", num_classes=2), zoo.build("cifar_activation_order", depth=8)
    torch.save(plain.state_dict(), tmp_path / "plain.pt")
    torch.save(ablated.state_dict(), tmp_path / "ablated.pt")
    with refused(MismatchError, "resnet18", "pads"):
        reslab.build("resnet18", weights=tmp_path / "plain.pt", num_classes=2, zero_pad="centred")
    with refused(UserError, "--zero-pad"):
        reslab.build("cifar_activation_order", depth=8, weights=tmp_path / "ablated.pt")
    with refused(MismatchError, "v1"):
        reslab.build("cifar_activation_order", depth=8, weights=tmp_path / "ablated.pt", zero_pad="centred")
    reslab.build("cifar_activation_order", depth=8, weights=tmp_path / "ablated.pt", zero_pad="end")


def caffe2(width: int, inside: int, more: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that a Caffe2 file of a ResNet is known by."""
    return {
        "conv1_w": torch.randn(4, 3, 7, 7),
        "res_conv1_bn_s": torch.ones(4),
        "res_conv1_bn_b": torch.zeros(4),
        "res2_0_branch2a_w": torch.randn(width, 4, 1, 1),
        "res2_0_branch2b_w": torch.randn(width, inside, 3, 3),
        **more,
    }


def test_a_caffe2_file_is_msras_if_its_convolutions_are(tmp_path: Path) -> None:
    own = {"res_conv1_bn_rm": torch.ones(4), "res_conv1_bn_riv": torch.ones(4)}
    _, msra = understood(caffe2(8, 8, {}), tmp_path / "R-50.pkl")
    assert (msra.options["stride_in"], msra.preprocessing, msra.eps) == ("1x1", CAFFE_IMAGES, 0.0)
    state, grouped = understood(given := caffe2(8, 2, own), tmp_path / "X-101.pkl")
    assert (grouped.options, grouped.preprocessing, grouped.eps) == ({}, {}, None)
    assert torch.equal(state["conv1_w"], given["conv1_w"].flip(1)) and "blue" in grouped.notes[0]


def test_a_file_without_permission_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(to_bytes(nn.Linear(2, 2), "x.py:net", {}))
    real: Callable[..., Any] = Path.open

    def closed(path: Path, *args: Any, **named: Any) -> Any:
        if path == file:
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **named)

    monkeypatch.setattr(Path, "open", closed)
    with refused(UnusableError, file, "Permission denied"):
        read_weights(file)


def test_means_of_other_images_are_refused(tmp_path: Path) -> None:
    torch.save(zoo.build("resnet20").state_dict(), tmp_path / "a.pt")
    words = ("weights", tmp_path / "a.pt", "--as", "resnet20", "--zero-pad", "end", "--out", tmp_path / "a.safetensors")
    done = reslab_here(*words, "--mean", "123.68,116.779,103.939", "--std", "1,1,1")
    assert_refused(done, "255")
    assert not (tmp_path / "a.safetensors").exists()
    assert reslab_here(*words, "--mean", "0.4,0.5,0.5", "--std", "0.2,0.2,0.2").returncode == 0
    with safe_open(tmp_path / "a.safetensors", framework="pt") as opened:
        assert "0.4" in opened.metadata()["reslab"]
