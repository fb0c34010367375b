"""Blocks taken out for good: the network with their gates at 0, in a module of its own."""

import copy
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_refused, refused, reslab_here, snapshot
from safetensors.torch import save
from torch import Tensor, nn
from torchvision import models

from reslab import subject
from reslab.errors import MismatchError, UnknownNameError, UnseenError
from reslab.gates.without import Smaller
from reslab.networks import zoo
from reslab.networks.counting import count_macs, count_params
from reslab.residual import view
from reslab.subject import Subject
from reslab.weights import onnx
from reslab.weights.files import METADATA_KEY, WeightFile, to_bytes

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "v1, option A": lambda: zoo.build("cifar_resnet", depth=14),
    "v2": lambda: zoo.build("cifar_preresnet", depth=14),
    "in place": lambda: models.resnet18(num_classes=10),
    "bottlenecks": lambda: models.ResNet(models.resnet.Bottleneck, [1, 2, 1, 1], num_classes=10),
}


def stays(layer: str, name: str) -> bool:
    """Say whether a block's layer is its shortcut's too: v2 normalises before both sides where it changes the shape."""
    return "downsample" in layer or (name == "v2" and layer == "layer2.0.bn1")


class Extras(nn.Module):
    """Two blocks in one module, which read a buffer that is not saved and a tensor of the forward's own."""

    def __init__(self, counts: bool = False) -> None:
        super().__init__()
        self.input_shape = (3, 8, 8)
        self.stem, self.inner, self.fc = nn.Conv2d(3, 4, 1), Twice(), nn.Linear(4, 2)
        self.counts = counts
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.counts:
            self.calls = self.calls + 1
        return self.fc(self.inner(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.register_buffer("scale", torch.full((1,), 0.5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.one(x) * self.scale
        return x + self.two(x) * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None]


def test_what_is_not_in_the_state_of_a_network_is_not_in_that_of_a_smaller_one() -> None:
    network, x = Extras().eval(), torch.randn(2, 3, 8, 8)
    gated = view(network, x)
    assert [block.name for block in gated.blocks] == ["inner[0]", "inner[1]"]
    small = gated.without("inner[1]")
    assert small.state_dict().keys() == network.state_dict().keys() - {"inner.two.weight", "inner.two.bias", "calls"}
    file = WeightFile(Path("x"), {"": small.state_dict()}, {"without": ["inner[1]"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject.zoo, "outline", lambda *_: SimpleNamespace(network=network))
        (state,) = subject.whole(file, "extras", {}).sets.values()
    assert state.keys() >= {"inner.two.weight", "inner.two.bias"} and not state["inner.two.weight"].any()


def test_a_network_that_counts_in_a_buffer_of_its_own_is_not_copied_in_part() -> None:
    network, x = Extras(counts=True).eval(), torch.randn(2, 3, 8, 8)
    with refused(UnseenError, "buffers of its own"):
        view(network, x).without("inner[1]")


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_network_with_gates_at_zero_bit_for_bit_and_smaller(name: str) -> None:
    network = NETWORKS[name]()
    x = torch.randn(2, 3, 32, 32)
    network(x)  # for statistics of its own
    network.eval()
    small_enough = count_params(network) < 1e6  # a snapshot is of Python's numbers
    before = snapshot(network) if small_enough else None
    gated = view(network, x)
    gone = [gated.blocks[1].name, gated.blocks[2].name, gated.blocks[-1].name]
    small = gated.without(*gone)
    assert before is None or snapshot(network) == before
    with torch.no_grad():
        assert torch.equal(small(x), gated(x, gated.gates(off=gone)))
    branches = sum(
        parameter.numel()
        for layer, module in network.named_modules()
        for parameter in module.parameters(recurse=False)
        if any(layer.startswith(f"{block}.") for block in gone) and not stays(layer, name)
    )
    assert count_params(small) == count_params(network) - branches
    assert count_macs(small, x) < count_macs(network, x)
    state = network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in small.state_dict().items())


def test_it_trains_and_the_network_does_not() -> None:
    network = zoo.build("cifar_resnet", depth=14)
    x, y = torch.randn(4, 3, 16, 16), torch.randint(10, (4,))
    small = view(network, x).without("layer1.1", "layer2.0")
    before = snapshot(network)
    assert small.training and all(module.training for module in small.modules())
    start = small.get_parameter("fc.weight").clone()
    optimizer = torch.optim.SGD(small.parameters(), 0.1)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = F.cross_entropy(small(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and not torch.equal(small.get_parameter("fc.weight"), start)
    assert snapshot(network) == {**before, "torch": snapshot(network)["torch"]}
    assert [block.name for block in view(small.eval(), x).blocks] == ["layer1.0", "layer2.1", "layer3.0", "layer3.1"]


class Dropping(nn.Module):
    """A block that asks its mode in a function's arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x + self.two(self.one(x).relu()), 0.5, self.training)


def test_copies_pickles_and_files_keep_it_and_its_modes() -> None:
    network, x = nn.Sequential(Dropping(), Dropping(), nn.Linear(4, 2)).eval(), torch.randn(64, 4)
    small = view(network, x).without("0")
    file = io.BytesIO()
    torch.save(small, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small)), loaded):
        assert torch.equal(other(x), small(x)) and not other.training
        other.train()
        assert not torch.equal(other(x), other(x))  # dropout is at work
        assert torch.equal(other.eval()(x), small(x))


def test_what_a_branch_overwrites_of_its_shortcut_stays() -> None:
    class InPlace(nn.Module):
        """A branch that overwrites what the shortcut takes too."""

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.linear(F.relu(x, inplace=True))

    x = torch.randn(3, 4)
    network = nn.Sequential(nn.Linear(4, 4), InPlace())
    gated = view(network, x)
    assert torch.equal(gated.without("1")(x), network[0](x).relu())
    assert torch.equal(gated(x, {"1": 0}), network[0](x).relu())


def test_what_cannot_be_taken_out_is_told() -> None:
    with refused(UnseenError, "layer2.0"):
        view(zoo.build("cifar_plain", depth=8), torch.randn(2, 3, 16, 16)).without("layer2.0")
    with refused(UnknownNameError, "layer9"):
        view(zoo.build("cifar_resnet", depth=8), torch.randn(2, 3, 16, 16)).without("layer9")


@pytest.mark.parametrize("exported", [False, pytest.param(True, marks=pytest.mark.slow)])  # 10 s of torch's exporter
def test_the_command_writes_the_smaller_network_as_onnx(
    exported: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = zoo.build("cifar_resnet", depth=8).eval()
    file, out = tmp_path / "whole.safetensors", tmp_path / "small.onnx"
    file.write_bytes(to_bytes(network, "cifar_resnet", {"depth": 8}, {}))
    assert_refused(reslab_here("weights", file, "--without", "layer4.0", "--out", out), "layer4.0")
    given: list[nn.Module] = []
    if not exported:
        monkeypatch.setattr(onnx, "to_onnx", lambda network, shape: given.append(network) or b"a program")
    done = reslab_here("weights", file, "--without", "layer1.0, layer3.0", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    x = torch.randn(3, 3, 32, 32)
    small = view(network, x).without("layer1.0", "layer3.0")
    parameters = {"network": count_params(network), "written": count_params(small)}
    macs = {"network": count_macs(network, x[:1]), "written": count_macs(small, x[:1])}
    report = json.loads(done.stdout)
    assert (report["parameters"], report["macs"]) == (parameters, macs) and macs["written"] < macs["network"]
    with torch.no_grad():
        if exported:
            onnxruntime = pytest.importorskip("onnxruntime")
            session = onnxruntime.InferenceSession(out.read_bytes())
            (logits,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
            assert np.allclose(logits, small(x).numpy(), atol=1e-4)
        else:
            assert out.read_bytes() == b"a program"
            assert torch.allclose(given[0](x), small(x), atol=1e-4)


@pytest.mark.parametrize("name", ["cifar_resnet", "cifar_preresnet"])
@pytest.mark.slow  # 3 s each
def test_a_file_of_the_smaller_network_is_that_network_bit_for_bit(name: str, tmp_path: Path) -> None:
    network = zoo.build(name, depth=14, in_channels=1)
    x = torch.randn(3, 1, 32, 32)
    network(x)  # for statistics of its own
    whole, small, smaller = (tmp_path / f"{stem}.safetensors" for stem in ("whole", "small", "smaller"))
    options = {"depth": 14, "in_channels": 1}
    prepared = {"mean": [0.5], "std": [0.5], "classes": list("0123456789")}
    whole.write_bytes(to_bytes(network, name, options, prepared))
    done = reslab_here("weights", whole, "--without", "layer1.1,layer2.0", "--out", small)
    assert done.returncode == 0 and f"{count_params(network):,} -> " in done.stdout
    again = reslab_here("weights", small, "--without", "layer3.1", "--out", smaller, "--json")
    gated = view(network.eval(), x)
    for file, gone in ((small, ["layer1.1", "layer2.0"]), (smaller, ["layer1.1", "layer2.0", "layer3.1"])):
        subject = Subject.of(name, file, {})
        assert isinstance(subject.network, Smaller) and subject.options == options
        with torch.no_grad():
            assert torch.equal(subject.network.eval()(x), gated(x, gated.gates(off=gone)))
        assert file.stat().st_size < whole.stat().st_size
    assert json.loads(again.stdout)["without"] == ["layer1.1", "layer2.0", "layer3.1"]
    lens = reslab_here("analyze", "lens", name, "--weights", smaller, "--images", "4", "--json")
    assert [row["after"] for row in json.loads(lens.stdout)["rows"]] == ["stem", "layer1.0", "layer2.1", "layer3.0"]
    assert reslab_here("evaluate", name, "--weights", small, "--json").returncode == 0
    with refused(MismatchError, "layer1.1", "load_state_dict"):
        zoo.build(name, weights=small)
    state = gated.without("layer1.1").state_dict()
    for lies in ([7], "layer1.1", ["layer9.0"]):
        facts = {"model": name, "options": options, "without": lies}
        small.write_bytes(save(state, {METADATA_KEY: json.dumps(facts)}))
        assert_refused(reslab_here("weights", small))


class Square(nn.Module):
    """A block that asks, inside its branch, whether it was given a square."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if y.shape[2] != y.shape[3]:
            raise ValueError("no square")
        return x + y.relu()


def test_a_branch_that_looks_at_its_shape_goes_with_its_checks() -> None:
    gated = view(nn.Sequential(nn.Conv2d(3, 4, 1), Square(), Square()), torch.randn(2, 3, 8, 8))
    small = gated.without("1")
    assert [name for name, _ in small.named_parameters()] == ["0.weight", "0.bias", "2.conv.weight", "2.conv.bias"]
    with refused(MismatchError, [2, 3, 8, 6]):  # the other block's check is there
        small(torch.randn(2, 3, 8, 6))
    assert gated.without("1", "2")(torch.randn(2, 3, 8, 6)).shape == (2, 4, 8, 6)
