"""What is asked for in words and numbers is what is done, or is told: options, networks without tables, differences."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_refused, refused, reslab_here
from torch import nn

import reslab
from reslab.analysis.inference import fast_view
from reslab.errors import FailedError, MismatchError, UserError, WrongValueError
from reslab.networks import anatomy, zoo
from reslab.networks.counting import count_macs, count_params
from reslab.pytorch_lowlevel import resnet_lowlevel


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"view": "tencrop"}, "ten-crop"),
        ({"batchnorm": "true_average"}, "true-average"),
        ({"part": "tests"}, "test"),
        ({"size": "8"}, "size"),
        ({"size": 0}, "size"),
        ({"zero_pad": "centered"}, "centred"),
    ],
)
def test_words_of_evaluation_that_are_none_are_told(asked: dict[str, Any], told: str) -> None:
    with refused(WrongValueError, told):
        reslab.evaluate("resnet20", "digits", data="digits", **asked)


def test_words_of_weights_parts_and_precisions_that_are_none_are_told(tmp_path: Path) -> None:
    network, data = reslab.build("resnet20", weights="digits").eval(), reslab.load_data("digits")
    torch.save(network.state_dict(), tmp_path / "d20.pt")
    options = {"weights": tmp_path / "d20.pt", "num_classes": 10, "in_channels": 1}
    with refused(WrongValueError, "centred"):
        reslab.build("resnet20", zero_pad="centered", **options)  # type: ignore[arg-type]  # as a user may
    with refused(WrongValueError, "fresh"):
        reslab.build("resnet20", weights="digits", head="banana")  # type: ignore[arg-type]
    with refused(WrongValueError, "zero_pad"):
        reslab.train("resnet20", "digits", start=tmp_path / "d20.pt", zero_pad="centered", out=tmp_path)  # type: ignore[arg-type]
    with refused(WrongValueError, "heldout"):
        data.part("tests")  # type: ignore[arg-type]
    images, _ = data.sample("test", 2)
    for precision in ("fp32", "16", 32):
        with refused(WrongValueError, "bf16"):
            fast_view(reslab.view(network, images), images, precision)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet20", {"num_classes": 0}),
        ("resnet20", {"in_channels": 0}),
        ("resnet20", {"num_classes": "abc"}),
        ("resnet20", {"stride_in": "5x5"}),
        ("preresnet18", {"stride_in": "x"}),
        ("lowlevel/resnet50", {"stride_in": "banana"}),
        ("cifar_wide_resnet", {"depth": 10, "width": 0}),
        ("cifar_wide_resnet", {"depth": 10, "width": 1, "dropout": float("nan")}),
        ("cifar_stochastic_depth", {"depth": 8, "num_classes": 4, "in_channels": 1, "survival": 0}),
        ("cifar_stochastic_depth", {"depth": 8, "num_classes": 4, "in_channels": 1, "survival": 2}),
        ("cifar_short_paths", {"depth": 8, "num_classes": 4, "in_channels": 1, "blocks": -1}),
        ("cifar_short_paths", {"depth": 8, "num_classes": 4, "in_channels": 1, "blocks": 99}),
        ("efficientnet_b0", {"survival": -1}),
        ("densenet", {"blocks": (2, 2), "compression": 3.0}),
        ("densenet", {"blocks": ()}),
        ("cifar_shortcut_ablation", {"depth": 8, "kind": "dropout", "drop": 1.5}),
    ],
)
def test_options_that_are_no_network_are_told_before_anything_is_trained(name: str, options: dict[str, Any]) -> None:
    with refused(UserError, name):
        reslab.build(name, **options)


def test_whole_numbers_of_any_kind_are_counts() -> None:
    network: Any = reslab.build("resnet20", num_classes=np.int64(7))
    assert network.fc.out_features == 7
    with refused(WrongValueError, "width"):
        reslab.build("cifar_wide_resnet", depth=10, width=1.5)


def test_networks_with_random_blocks_are_pickled_and_have_their_tables() -> None:
    for name, more in (("cifar_stochastic_depth", {}), ("cifar_short_paths", {"blocks": 2})):
        network = reslab.build(name, depth=8, num_classes=4, in_channels=1, **more).eval()
        again = pickle.loads(pickle.dumps(network))
        image = torch.randn(2, 1, 32, 32)
        assert torch.equal(again(image), network(image))
        table = anatomy.table(name, network, zoo.input_shape(network))
        assert table.macs == count_macs(network, image[:1]) > 0 and len(table.stages) > 3
        assert sum(row.params for row in table.stages) == table.params == count_params(network)


class Listed(nn.Module):
    """Blocks in a list, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.scale = nn.Parameter(torch.ones(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.fc(x.mean((2, 3)) @ self.scale)  # type: ignore[no-any-return]


def test_every_multiply_add_is_in_a_row_and_a_layer_at_its_own_place() -> None:
    rows = {row.name: row for row in anatomy.stages(Listed(), (3, 8, 8))}
    assert rows["fc"].macs == 20 and rows["blocks.2"].macs == 64 * 4 * 4 * 9 and rows["blocks.2"].receptive_field == 9
    assert (rows["…"].params, rows["…"].macs) == (16, 16)
    low = reslab.build("lowlevel/resnet18")
    assert anatomy.table("low", low, (3, 224, 224)).macs == 1_814_073_344


def test_a_forward_that_raises_anything_is_told_and_a_network_may_have_no_parameters() -> None:
    class Raising(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("of another size")

    with refused(MismatchError, "AssertionError: of another size"):
        anatomy.table("x", Raising(1, 1), (3, 8, 8))
    assert anatomy.table("x", nn.Sequential(nn.Identity()), (3, 8, 8)).macs == 0


def test_receptive_fields_know_dilation_and_leave_out_shortcuts() -> None:
    plain, mixed = (
        anatomy.stages(reslab.build("cifar_shortcut_ablation", depth=20, **kind), (3, 32, 32))
        for kind in ({}, {"kind": "convolution"})
    )
    assert [{row.name: row.receptive_field for row in rows}["last"] for rows in (plain, mixed)] == [81, 81]
    dilated = nn.Sequential(nn.Conv2d(3, 3, 3, dilation=4), nn.Conv2d(3, 3, 3))
    assert [row.receptive_field for row in anatomy.stages(dilated, (3, 32, 32))] == [9, 11]


@pytest.mark.parametrize(
    ("name", "last", "field"),
    [
        ("resnet50", "layer4", 483),  # then the pool, which sees the whole image
        ("preresnet18", "bn_last", 435),
        ("torchvision/vgg11", "features.20", 150),
        ("torchvision/vit_b_16", "conv_proj", 16),  # then tokens that mix
        ("torchvision/shufflenet_v2_x0_5", "maxpool", 7),  # then branches beside each other, both with a stride
        ("torchvision/squeezenet1_1", "features.2", 7),  # then convolutions beside each other
        ("lowlevel/resnet18", None, None),  # whose layers are no modules
    ],
)
def test_receptive_fields_are_told_while_layers_are_one_after_another(
    name: str, last: str | None, field: int | None
) -> None:
    with torch.device("meta"):
        network = zoo.build(name)
    fields = {row.name: row.receptive_field for row in anatomy.stages(network, (3, 224, 224))}
    known = [stage for stage, seen in fields.items() if seen is not None]
    assert known == list(fields)[: len(known)] and (known[-1] if known else None) == last
    assert last is None or fields[last] == field


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("resnet20",), "plain20"),
        (("resnet50", "--pool", "caffe"), "resnet50"),
        (("efficientnet_b0", "--survival", "0.5"), "efficientnet_b0"),
        (("lowlevel/resnet50", "--stride-in", "3x3"), "lowlevel/resnet50"),
    ],
)
def test_networks_that_differ_in_what_has_no_parameters_differ(first: tuple[str, ...], second: str) -> None:
    done = reslab_here("models", *first, "--diff", second)
    assert done.returncode == 0 and "same layer by layer" not in done.stdout
    if first[0] == second:
        assert f"{second} (default)" in done.stdout


def test_what_a_shortcut_multiplies_is_a_difference() -> None:
    networks = (reslab.build("cifar_shortcut_ablation", depth=20, shortcut_scale=scale) for scale in (0.5, 1.0))
    found = anatomy.differences(*networks)
    assert len(found) == 9 and found[0].first == "Scaling(shortcut=0.5, branch=1)"


def test_level_2_says_what_torch_says_of_one_value_per_channel() -> None:
    network = reslab.build("lowlevel/resnet18", num_classes=7).train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(torch.randn(1, 3, 32, 32))
    parameters, statistics = resnet_lowlevel.initialise(50, generator=torch.Generator(), num_classes=3)
    with pytest.raises(ValueError, match="stride_in"):
        resnet_lowlevel.forward(parameters, statistics, torch.randn(1, 3, 64, 64), stride_in="1X1")


def test_a_factorys_loader_and_loss_are_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "def n(): return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 10))\n"
        "def loader(): return {'network': n(), 'loader': 5}\n"
        "def loss(): return {'network': n(), 'loss': 'x'}\n",
        encoding="utf-8",
    )
    for which in ("loader", "loss"):
        assert_refused(reslab_here("analyze", "smoothness", f"{file}:{which}", "--images", "8"), which)


def test_a_factory_that_reads_numbers_is_trained_and_looked_at(tmp_path: Path) -> None:
    """Its outline cannot be of shapes alone, and moves no random generator."""
    file = tmp_path / "reading_net.py"
    file.write_text(
        "import torch\n"
        "from torch import nn\n"
        "def net(num_classes=10, in_channels=1):\n"
        "    drops = [nn.Dropout(rate.item()) for rate in torch.linspace(0, 0.5, 2)]\n"
        "    return nn.Sequential(nn.Flatten(), *drops, nn.Linear(in_channels * 64, num_classes))\n",
        encoding="utf-8",
    )
    name = f"{file}:net"
    before = torch.get_rng_state()
    zoo.check(name, num_classes=7)
    assert torch.equal(torch.get_rng_state(), before)
    with refused(FailedError, "num_clases"):
        zoo.check(name, num_clases=7)
    run = reslab.train(name, settings={"iterations": 2, "batch_size": 64}, out=tmp_path)
    assert torch.equal(
        reslab.build(name, weights=run.weights).state_dict()["3.bias"], run.network().state_dict()["3.bias"]
    )


@pytest.mark.parametrize("larger", [nn.Upsample(scale_factor=2), nn.ConvTranspose2d(4, 4, 2, 2)])
def test_behind_a_layer_that_enlarges_no_receptive_field_is_told(larger: nn.Module) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), larger, nn.Conv2d(4, 4, 3, padding=1))
    first, *_, last = anatomy.stages(network, (3, 24, 24))
    assert first.receptive_field == 3 and last.receptive_field is None
