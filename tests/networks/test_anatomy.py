"""Networks as tables, and their differences."""

import json
import re

import pytest
import torch
from helpers import reslab_here
from torch import nn

from reslab.networks import zoo
from reslab.networks.anatomy import differences, layers, stages


def test_a_tiny_network_by_hand() -> None:
    network = nn.Sequential()
    network.add_module("conv1", nn.Conv2d(3, 8, 7, 2, padding=3, bias=False))
    network.add_module("pool", nn.MaxPool2d(3, 2, padding=1))
    network.add_module("conv2", nn.Conv2d(8, 4, 3, padding=1, bias=False))
    first, pool, second = stages(network, (3, 16, 16))
    assert (first.output, first.params, first.macs, first.receptive_field) == (
        (8, 8, 8),
        3 * 8 * 49,
        3 * 8 * 49 * 64,
        7,
    )
    assert (pool.output, pool.macs, pool.receptive_field) == ((8, 4, 4), 0, 11)  # 7 + 2·2
    assert (second.macs, second.receptive_field) == (8 * 4 * 9 * 16, 19)  # 11 + 2·4
    assert network.training and not network.conv1._forward_hooks


def test_layers_are_those_that_run_with_their_shapes() -> None:
    with torch.device("meta"):
        network = zoo.build("resnet18")
    found = layers(network, (3, 224, 224))
    assert list(found)[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"] and list(found)[-1] == "fc"
    projection = found["layer2.0.downsample.0"]
    assert (projection.input, projection.output, projection.macs) == ((64, 56, 56), (128, 28, 28), 64 * 128 * 28 * 28)
    assert sum(layer.macs for layer in found.values()) == zoo.describe("resnet18").macs
    assert network.training and not network.conv1._forward_hooks


def test_resnet50_as_table_1() -> None:
    with torch.device("meta"):
        network = zoo.build("resnet50")
    rows = {row.name: row for row in stages(network, (3, 224, 224))}
    assert rows["layer3"].blocks == "6 × [1×1, 256 · 3×3, 256 · 1×1, 1024], /2"
    assert rows["layer4"].output == (2048, 7, 7)
    assert sum(row.params for row in rows.values()) == 25_557_032
    assert round(sum(row.macs for row in rows.values()) / 1e9, 3) == 3.858


def test_unlike_blocks_of_a_stage_are_told_apart() -> None:
    with torch.device("meta"):
        ablated = {row.name: row for row in stages(zoo.build("cifar_shortcut_ablation", depth=20), (3, 32, 32))}
        mobile = {row.name: row for row in stages(zoo.build("efficientnet_b0"), (3, 224, 224))}
    assert ablated["units"].blocks == (
        "3 × [3×3, 16 · 3×3, 16] + 3 × [3×3, 32 · 3×3, 32], /2 + 3 × [3×3, 64 · 3×3, 64], /2"
    )
    assert mobile["features.2"].blocks == (
        "1 × [1×1, 96 · 3×3, 96 (depthwise) · 1×1, 24], /2 + 1 × [1×1, 144 · 3×3, 144 (depthwise) · 1×1, 24]"
    )
    layers_and_blocks = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3)))
    (row,) = stages(nn.Sequential(layers_and_blocks), (3, 8, 8))
    assert row.blocks == "1 × [3×3, 8] + 1 × [1×1, 8 · 3×3, 8]"


def test_the_difference_from_torchvision_is_the_strides() -> None:
    done = reslab_here("models", "resnet50", "--diff", "torchvision/resnet50", "--json")
    record = json.loads(done.stdout)
    assert [round(network["macs"] / 1e9, 3) for network in record["networks"].values()] == [3.858, 4.089]
    assert len({network["params"] for network in record["networks"].values()}) == 1
    assert [d["layer"] for d in record["differences"]] == [
        f"layer{stage}.0.conv{n}" for stage in (2, 3, 4) for n in (1, 2)
    ]
    assert (
        "stride=(2, 2)" in record["differences"][0]["first"] and "stride=(1, 1)" in record["differences"][0]["second"]
    )
    same = reslab_here("models", "resnet50", "--stride-in", "3x3", "--diff", "torchvision/resnet50")
    assert "0 layers differ" in same.stdout


def test_the_table_fits_a_terminal_of_100_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    # without what makes letters bold
    lines = re.sub(r"\x1b\[[0-9;]*m", "", reslab_here("models", "resnet152").stdout).splitlines()
    assert max(map(len, lines)) <= 100
    assert any("36 × [1×1, 256" in line for line in lines)


def test_layers_that_only_one_network_has_are_named() -> None:
    with torch.device("meta"):
        found = differences(zoo.build("resnet20"), zoo.build("resnet32"))
    assert found[0].layer == "layer1.3.conv1" and found[0].first is None


def test_containers_are_opened_and_side_paths_left_out() -> None:
    with torch.device("meta"):
        rows = {row.name: row for row in stages(zoo.build("regnet_y_400mf"), (3, 224, 224))}
        dense = {row.name: row for row in stages(zoo.build("densenet121"), (3, 224, 224))}
    assert rows["stem"].blocks == "3×3, 32, /2" and rows["stem"].receptive_field == 3
    assert rows["trunk_output.block2"].blocks == "3 × [1×1, 104 · 3×3, 104 (13 groups) · 1×1, 104], /2"
    # jumps of 4, then twice of 8; the projection's stride is aside
    assert rows["trunk_output.block2"].receptive_field == 7 + 2 * 4 + 2 * 2 * 8
    assert dense["features.transition1"].blocks == "1×1, 128" and dense["features.transition1"].output == (128, 28, 28)
    # six 3×3 at a jump of 4, and the 2×2 average
    assert dense["features.transition1"].receptive_field == 11 + 6 * 2 * 4 + 4
    assert sum(row.params for row in dense.values()) == 7_978_856
