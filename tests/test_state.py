"""A network's state comes back as it was found, whatever was done to it meanwhile."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import refused, snapshot
from helpers_networks import Toy
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm

from reslab.errors import UnseenError
from reslab.networks import anatomy, zoo
from reslab.networks.counting import count_macs
from reslab.residual import view
from reslab.state import LARGE, copied, draws_apart, in_mode, preserve, whole_float32
from reslab.training.batchnorm import true_average
from reslab.training.evaluation import evaluate


class Keeps(nn.Module):
    """Keeps what it computed: in an attribute, a list, and a dict of lists."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.newest: Tensor | None = None
        self.all: list[Tensor] = []
        self.by_name: dict[str, list[Tensor]] = {"out": []}
        self.count = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        self.newest = self.layer(x)
        self.all.append(self.newest)
        self.by_name["out"].append(self.newest)
        self.count += 1
        return self.newest


def test_draws_apart_change_none_that_follow_and_no_gpu_is_started_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)  # of which torch itself would warn
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("a GPU was started"))
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with draws_apart():
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)


def test_the_seed_that_waits_for_a_gpu_is_the_one_from_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    seeds: list[int] = []
    torch.manual_seed(5)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    with draws_apart():
        torch.manual_seed(0)
    assert seeds[-1] == 5
    seeds.clear()
    with draws_apart():
        torch.rand(5)
    assert not seeds  # where nothing was seeded, a GPU's own seed waits on


def test_what_a_forward_keeps_is_as_before() -> None:
    network, x = Keeps(), torch.randn(2, 3)
    with preserve(network):
        network(x)
        network.another = nn.Linear(3, 3)  # type: ignore[assignment]  # an attribute that is new
        network.layer.register_forward_hook(lambda *_: None)
    assert network.newest is None and network.all == [] and network.by_name == {"out": []} and network.count == 0
    assert not hasattr(network, "another") and not network.layer._forward_hooks
    network(x)
    kept = network.newest
    with pytest.raises(RuntimeError, match="midway"), preserve(network):
        network(x)
        raise RuntimeError("midway")
    assert network.newest is kept and len(network.all) == len(network.by_name["out"]) == 1 and network.count == 1


def test_what_is_no_forwards_memory_is_not_put_back() -> None:
    class Memory:
        def __init__(self, size: int) -> None:
            self.tensor, self.calls = torch.zeros(size), 0

    class Images(torch.utils.data.Dataset[Tensor]):
        calls = 0

    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small, self.large, self.images = Memory(4), Memory(LARGE // 4 + 1), Images()

        def forward(self, x: Tensor) -> Tensor:
            for each in (self.small, self.large, self.images):
                each.calls += 1
            return x

    network = Remembering()
    with preserve(network):
        network(torch.zeros(1))
    assert [each.calls for each in (network.small, network.large, network.images)] == [0, 1, 1]


def test_a_backward_pass_that_waits_is_not_broken() -> None:
    network, x = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval(), torch.randn(4, 3)
    loss = network(x).sum()  # its graph holds the running statistics
    with preserve(network):
        network.train()(x)
        assert network[1].running_mean.any()
    loss.backward()
    assert not network[1].running_mean.any() and not network.training


class MaxNorm(nn.Linear):
    """A layer that limits its weights before it uses them."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = torch.renorm(self.weight.data, 2, 0, maxnorm=0.1)
        return super().forward(x)


def test_a_parameter_that_is_given_other_data_has_its_own_again() -> None:
    network, x = nn.Sequential(Toy(MaxNorm(3, 3)), Toy(MaxNorm(3, 3))), torch.randn(4, 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    gated = view(network, x)
    with preserve(network):
        expected = network(x)
    assert len(gated) == 2 and all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(gated(x), expected)


MEASURES = {
    "count_macs": lambda network, x, _: count_macs(network, x),
    "stages": lambda network, *_: anatomy.stages(network, (3, 8, 8)),
    "layers": lambda network, *_: anatomy.layers(network, (3, 8, 8)),
    "evaluate": lambda network, x, y: evaluate(network, [(x, y)]),
    "true_average": lambda network, x, y: true_average(network, [(x, y)]),
}


@pytest.mark.parametrize("name", MEASURES)
def test_measuring_leaves_every_parts_mode(name: str) -> None:
    network = zoo.build("cifar_resnet", depth=8).train()
    network.layer1.eval()  # frozen, as fine-tuning does
    before = [module.training for module in network.modules()]
    MEASURES[name](network, torch.randn(4, 3, 8, 8), torch.arange(4))
    assert [module.training for module in network.modules()] == before
    with pytest.raises(RuntimeError, match="midway"), in_mode(network, training=False):
        raise RuntimeError("midway")
    assert [module.training for module in network.modules()] == before


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
        spectral_norm,
        parametrizations.weight_norm,
    ],
)
def test_networks_that_keep_what_they_compute_are_copied(change: object) -> None:
    network, x = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), torch.randn(2, 3)
    change(network[0])  # type: ignore[operator]  # one of the above
    network.eval()(x)
    before = snapshot(network)
    twin = copied(network)
    assert torch.equal(twin(x), network(x)) and snapshot(network) == before
    assert not {id(parameter) for parameter in twin.parameters()} & {
        id(parameter) for parameter in network.parameters()
    }


def test_what_cannot_be_copied_is_told_in_one_line() -> None:
    network = nn.Linear(3, 3)
    network.file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # type: ignore[assignment]  # which Python does not copy
    with refused(UnseenError, "Linear", "TextIOWrapper"):
        copied(network)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script. is deprecated")
def test_a_scripted_part_has_its_mode_and_statistics_again() -> None:
    network = nn.Sequential(nn.Linear(3, 3), torch.jit.script(nn.Sequential(nn.BatchNorm1d(3), nn.Dropout())))
    before = [buffer.clone() for buffer in network.buffers()]
    for trains in (True, False):
        network.train(trains)
        with preserve(network):
            network.train(not trains)
            network.train()(torch.randn(4, 3))
        assert all(module.training == trains for module in network.modules())
        assert all(map(torch.equal, before, network.buffers()))


@pytest.mark.parametrize("newer", [False, True])
def test_convolutions_in_whole_float32_are_as_before_afterwards(newer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they were set apart from recurrences, of which torch's older switch cannot be read."""
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    if newer and not hasattr(cudnn, "conv"):
        pytest.skip("this torch has the older switch alone")
    before = cudnn.conv.fp32_precision if newer else cudnn.allow_tf32
    try:
        if newer:
            cudnn.conv.fp32_precision = "ieee" if before != "ieee" else "tf32"
        set_to = cudnn.conv.fp32_precision if newer else cudnn.allow_tf32
        with whole_float32():
            assert (cudnn.conv.fp32_precision == "ieee") if newer else not cudnn.allow_tf32
        assert set_to == (cudnn.conv.fp32_precision if newer else cudnn.allow_tf32)
    finally:
        if newer:
            cudnn.conv.fp32_precision = before


class Holds(nn.Module):
    """Writes into a tensor in a tuple, and into an array of NumPy's."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = (torch.zeros(4), (torch.zeros(2), "text"))
        self.usage = np.zeros(3)

    def forward(self, x: Tensor) -> Tensor:
        self.hidden[0].add_(1)
        self.hidden[1][0].add_(1)  # type: ignore[union-attr]
        self.usage[0] += 1
        return x


def test_tensors_in_tuples_and_arrays_are_put_back_too() -> None:
    network = Holds()
    hidden, usage = network.hidden, network.usage
    with preserve(network):
        network(torch.zeros(1))
        assert network.hidden[0].sum() == 4 and network.usage[0] == 1
    assert network.hidden is hidden and network.usage is usage
    assert not hidden[0].any() and not hidden[1][0].any() and not usage.any()  # type: ignore[union-attr]


@pytest.mark.parametrize("newer", [False, True])
def test_tensorfloat_is_left_out_of_products_too(newer: bool) -> None:
    """In a process of its own, as torch tells no longer which switch was used."""
    used = "matmul.fp32_precision = 'tf32'" if newer else "matmul.allow_tf32 = True"
    found = "matmul.fp32_precision" if newer else "matmul.allow_tf32"
    code = f"""
import torch
from reslab.state import whole_float32
torch.cuda.is_initialized = lambda: True
matmul = torch.backends.cuda.matmul
{used}
before = {found}
with whole_float32():
    assert {found} != before
assert {found} == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)
