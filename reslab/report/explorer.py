"""The network explorer's data: the layers of every network, from which the page computes shapes, parameters and
multiply-adds at any size.

`python -m reslab.report.explorer` measures the zoo again and writes `explorer.json`, which the page embeds: building
every network takes minutes, so a page does not. A test compares the file with the zoo.

Tables are shared: a `block` is its shortcut, the channels that leave it, and its layers; a `row` is a stage's name, its
words and its blocks, each with how often it repeats; a `design` is a list of rows. Of a network of any depth the
numbers are for n = 1, and a third number says how many more a block repeats for each n beyond.
"""

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reslab.files import Json, read_json, write_atomically
from reslab.networks.meta import shapes_only

if TYPE_CHECKING:
    from torch import nn

FILE = Path(__file__).parent / "explorer.json"

OPTIONS: dict[str, tuple[str, ...]] = {
    "block": ("basic", "bottleneck"),
    "shortcut": ("A", "B", "C"),
    "stride_in": ("1x1", "3x3"),
}
"""The options that change a network's layers, with their values; a network offers those of its builder, and only a
family offers its block.
"""

FAMILIES = ("cifar_resnet", "cifar_plain", "cifar_preresnet")
"""The families of any depth: 6n+2 with basic blocks, 9n+2 with bottlenecks."""

LAYERS_A_BLOCK = {"basic": 6, "bottleneck": 9}
"""For each n of a CIFAR design."""


def catalogue() -> Json:
    """Return the catalogue that the page embeds."""
    contents: Json = read_json(FILE)
    return contents


def measure_catalogue(names: Sequence[str]) -> Json:
    """Return the catalogue of these networks of the zoo, measured on the networks themselves."""
    tables = _Tables()
    return {"networks": {name: _network(name, tables) for name in names}, **tables.contents()}


def offered() -> list[str]:
    """Return the networks that the explorer offers: all of the zoo's names but the low-level twins, and the families of
    any depth.
    """
    from reslab.networks import zoo

    return [*FAMILIES, *(name for name in zoo.names() if not name.startswith("lowlevel/"))]


class _Tables:
    """Tables shared by designs: each distinct block, row and design once, by number."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, int]] = {"blocks": {}, "rows": {}, "designs": {}}

    def number(self, table: str, value: Any) -> int:
        """Return the value's number in a table, after adding it if it is new."""
        known = self._tables[table]
        return known.setdefault(json.dumps(value, ensure_ascii=False), len(known))

    def contents(self) -> Json:
        """Return the tables as lists."""
        return {table: [json.loads(value) for value in known] for table, known in self._tables.items()}


def _network(name: str, tables: _Tables) -> Json:
    """Return a network's image size, its options, the values that it has by default, and its designs by the values of
    its options.
    """
    from reslab.errors import UserError
    from reslab.networks import zoo

    size = {"depth": 20} if name in FAMILIES else {}
    options = {}
    for option, values in OPTIONS.items():
        if option == "block" and name not in FAMILIES:
            continue  # a named network's depth may not suit another block
        try:
            zoo.check(name, **{option: values[0]}, **size)
        except UserError:
            continue
        options[option] = values
    standard = _design(name, {}, tables)
    variants = {
        " ".join(chosen): _design(name, dict(zip(options, chosen, strict=True)), tables) if options else standard
        for chosen in itertools.product(*options.values())
    }
    default = next(chosen for chosen, design in variants.items() if design == standard)
    network = _build(name, {}, 1)
    return {
        "family": f"{zoo.family(name)}, any depth" if name in FAMILIES else zoo.family(name),
        "image": zoo.input_shape(network)[1],
        "options": options,
        "default": default,
        "designs": variants,
        **({"depths": LAYERS_A_BLOCK} if name in FAMILIES else {}),
    }


def _build(name: str, options: Json, n: int) -> "nn.Module":
    from reslab.networks import zoo

    depth: Json = {"depth": LAYERS_A_BLOCK[options.get("block", "basic")] * n + 2} if name in FAMILIES else {}
    with shapes_only():
        return zoo.build(name, **depth, **options)


def _design(name: str, options: dict[str, str], tables: _Tables) -> int:
    """Return the number of a design; of a family's, the repeats grow with n, as the designs for n = 2 and 3 say."""
    rows = _rows(_build(name, options, 2), tables)
    if name not in FAMILIES:
        return tables.number("designs", [tables.number("rows", row) for row in rows])
    growing = []
    for (title, words, two), (_, _, three) in zip(rows, _rows(_build(name, options, 3), tables), strict=True):
        assert [block for block, _ in two] == [block for block, _ in three], f"{name} is not one design at every depth"
        blocks = [[block, 2 * few - many, many - few] for (block, few), (_, many) in zip(two, three, strict=True)]
        growing.append([title, words, blocks])
    return tables.number("designs", [tables.number("rows", row) for row in growing])


def _rows(network: "nn.Module", tables: _Tables) -> list[tuple[str, str, list[list[int]]]]:
    """Return each stage's name, its words without the count of its blocks, and its blocks, runs of equal ones together;
    as they run.
    """
    from reslab.networks import anatomy, zoo

    modules = dict(anatomy.opened(network))
    rows = []
    for stage in anatomy.stages(network, zoo.input_shape(network)):
        blocks = list(_blocks(modules[stage.name]))
        numbers = (tables.number("blocks", _block(block)) for block in blocks)
        runs = [[number, len(list(run))] for number, run in itertools.groupby(numbers)]
        rows.append((stage.name, stage.blocks.removeprefix(f"{len(blocks)} × "), runs))
    return rows


def _blocks(stage: "nn.Module") -> "Iterator[nn.Module]":
    """Yield the blocks of a stage; a stage that is not a sequence of blocks is a block itself."""
    from torch import nn

    if isinstance(stage, nn.Sequential) and not any(isinstance(layer, nn.Conv2d | nn.Linear) for layer in stage):
        yield from stage
    else:
        yield stage


def _block(block: "nn.Module") -> list[Any]:
    """Return a block's shortcut and its layers, each a list of a word and numbers."""
    from torch import nn

    layers: list[list[Any]] = []
    for name, layer in block.named_modules():
        if isinstance(layer, nn.Conv2d):
            window = map(_side, (layer.kernel_size, layer.stride, layer.padding))
            layers.append(
                [_path(name), layer.in_channels, layer.out_channels, *window, layer.groups, int(layer.bias is not None)]
            )
        elif isinstance(layer, nn.BatchNorm2d):
            layers.append(["norm", layer.num_features])
        elif isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
            layers.append(["pool", *map(_side, (layer.kernel_size, layer.stride, layer.padding))])
        elif isinstance(layer, nn.Linear):
            layers.append(["linear", layer.in_features, layer.out_features, int(layer.bias is not None)])
        elif isinstance(layer, nn.AdaptiveAvgPool2d) and layer is block:
            layers.append(["global"])
        elif next(layer.parameters(recurse=False), None) is not None:
            raise TypeError(f"the explorer has no word for a {type(layer).__name__}")
    return [_shortcut(block), layers]


def _side(size: Any) -> int:
    """Return the side of a square."""
    height, width = size if isinstance(size, tuple) else (size, size)
    assert isinstance(height, int) and height == width, f"the explorer knows squares alone, not {size}"
    return height


def _path(name: str) -> str:
    """Return the input of a convolution: the main path, the block's input (side), or the mean (squeeze)."""
    parts = name.split(".")
    return "side" if {"downsample", "proj"} & set(parts) else "squeeze" if {"fc1", "fc2"} & set(parts) else "main"


def _shortcut(block: "nn.Module") -> str:
    """Return the kind of a block's shortcut: identity, padding (option A), projection, none, or concatenation."""
    from torch import nn

    shortcut = getattr(block, "downsample", getattr(block, "proj", None))
    if shortcut is None:
        return "concat" if hasattr(block, "new") else "identity" if getattr(block, "has_shortcut", False) else "none"
    if isinstance(shortcut, nn.Identity):
        return "identity"
    return "projection" if any(isinstance(layer, nn.Conv2d) for layer in shortcut.modules()) else "padding"


if __name__ == "__main__":
    write_atomically(FILE, json.dumps(measure_catalogue(offered()), ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{FILE}: {FILE.stat().st_size:,} bytes", file=sys.stderr)
