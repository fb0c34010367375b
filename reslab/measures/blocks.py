"""The anatomy of the zoo's networks: blocks, their layers, costs and order."""

import re
from functools import cache

import torch
from torch import nn

from reslab.networks import zoo
from reslab.networks.anatomy import Layer, Operations, layers, stages
from reslab.networks.counting import count_params
from reslab.networks.meta import shapes_only

BASIC = ("resnet18", "resnet34")
BOTTLENECK = ("resnet50", "resnet101", "resnet152")
BLOCK = re.compile(r"layer\d\.\d+")

Shape = tuple[int, ...]


class Blocks:
    """A network of the zoo, built on the meta device, and its layers as they run on one image of its paper's size."""

    def __init__(self, name: str) -> None:
        with shapes_only():
            self.network = zoo.build(name).eval()
        self.params = count_params(self.network)
        self.shape = zoo.input_shape(self.network)
        self.layers = layers(self.network, self.shape)
        self.names = [path for path, _ in self.network.named_modules() if BLOCK.fullmatch(path)]

    def of(self, block: str) -> dict[str, Layer]:
        """Return a block's layers by their names within it."""
        start = f"{block}."
        return {name.removeprefix(start): layer for name, layer in self.layers.items() if name.startswith(start)}

    def main_path(self, block: str) -> dict[str, Layer]:
        """Return the same without the layers on its shortcut."""
        return {name: layer for name, layer in self.of(block).items() if "downsample" not in name}

    @property
    def depth(self) -> int:
        """Return the number of convolutions and classifiers, without those on shortcuts."""
        return len(self.layers) - len(self.projections)

    @property
    def counts(self) -> Shape:
        """Return the number of blocks of each stage."""
        return tuple(len(list(self.network.get_submodule(f"layer{stage}").children())) for stage in (1, 2, 3, 4))

    @property
    def macs(self) -> int:
        """Return the multiply-adds of the whole network."""
        return sum(layer.macs for layer in self.layers.values())

    @property
    def projections(self) -> dict[str, Layer]:
        """Return the convolutions on shortcuts, by block."""
        return {name.split(".downsample")[0]: layer for name, layer in self.layers.items() if ".downsample" in name}

    @property
    def reshaping(self) -> list[str]:
        """Return the blocks that change the shape."""
        paths = {block: [*self.main_path(block).values()] for block in self.names}
        return [block for block, path in paths.items() if path[0].input != path[-1].output]

    @property
    def strided(self) -> dict[str, list[str]]:
        """Return the convolutions of stride over 1 on each block's main path, for the blocks that have any."""
        found = {}
        for block in self.names:
            found[block] = [name for name, layer in self.main_path(block).items() if stride(layer) > 1]
        return {block: names for block, names in found.items() if names}

    @property
    def channels(self) -> dict[str, tuple[int, int, int]]:
        """Return each bottleneck's input, inner and output channels."""
        ends = {block: (self.of(block)["conv1"], self.of(block)["conv3"]) for block in self.names}
        return {block: (first.input[0], first.output[0], last.output[0]) for block, (first, last) in ends.items()}

    def macs_per_pixel(self, block: str) -> int:
        """Return the multiply-adds of a block for one pixel of its output."""
        parts = list(self.of(block).values())
        return sum(layer.macs for layer in parts) // (parts[-1].output[1] * parts[-1].output[2])

    def operations(self, block: str) -> str:
        """Return the operations in a block."""
        with Operations() as operations, torch.no_grad():
            self.network.get_submodule(block)(torch.empty(1, *self.of(block)["conv1"].input, device="meta"))
        return " ".join(operations.words)


blocks_of = cache(Blocks)
"""The blocks of a network by its name, which is built once."""


def stride(layer: Layer) -> int:
    """Return a layer's stride; 1 for a classifier."""
    return int(layer.module.stride[0]) if isinstance(layer.module, nn.Conv2d) else 1


def five() -> dict[str, Blocks]:
    """Return the five networks of the paper's Table 1."""
    return {name: blocks_of(name) for name in (*BASIC, *BOTTLENECK)}


def family() -> list[tuple[str, int, str, str, int, int]]:
    """Return the five networks with their layers, kind of block, blocks per stage, and costs."""
    kinds = {**dict.fromkeys(BASIC, "Basic"), **dict.fromkeys(BOTTLENECK, "Bottleneck")}
    found = five().items()
    return [(name, net.depth, kinds[name], str([*net.counts]), net.params, net.macs) for name, net in found]


def resnet50() -> list[tuple[str, str, str, int, int]]:
    """Return the stages of ResNet-50 with their content, output and costs."""
    net = blocks_of("resnet50")
    found = stages(net.network, net.shape)
    return [(one.name, one.blocks, "×".join(map(str, one.output)), one.params, one.macs) for one in found]


def option_a_keeps(x: torch.Tensor) -> tuple[Shape, bool, bool]:
    """Return what option A makes of `x` in resnet20: the shape, and whether it is every second pixel, then zeros."""
    y = zoo.build("resnet20").get_submodule("layer2.0.downsample")(x)
    channels = x.shape[1]
    return tuple(y.shape[1:]), torch.equal(y[:, :channels], x[:, :, ::2, ::2]), not y[:, channels:].any()
