"""Does a dense network reuse features? The weight that each layer gives to each earlier one (Huang et al. 2017, section
5 and Fig. 5).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from reslab.analysis.result import Result, new_figure
from reslab.analysis.subject import careful, check_weights
from reslab.errors import UnseenError, worded
from reslab.sending import widened

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class DenseBlock(NamedTuple):
    """A dense block: the layers that read its features, and the channels of each source.

    `readers` are the first convolution of each layer, and then the convolution or classifier that follows the block.
    `starts` are the first channel of the block's input (source 0) and of each layer's output (sources 1, 2, …); the
    last entry is the end of the last source.
    """

    readers: tuple[nn.Conv2d | nn.Linear, ...]
    starts: tuple[int, ...]


def dense_blocks(network: nn.Module) -> list[DenseBlock]:
    """Return the dense blocks of a network, found from shapes: modules in which each child's input is the previous
    child's input and output together.

    Raises:
        UserError: if there are none, or a reader is a grouped convolution.
    """
    readers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    found = []
    for module in network.modules():
        layers = [[part for part in child.modules() if isinstance(part, nn.Conv2d)] for child in module.children()]
        if len(layers) < 2 or not all(layers):
            continue
        taken = [convolutions[0].in_channels for convolutions in layers]
        added = [convolutions[-1].out_channels for convolutions in layers]
        if all(after == before + new for (before, after), new in zip(pairwise(taken), added, strict=False)):
            starts = (0, *taken, taken[-1] + added[-1])
            after_block = readers[readers.index(layers[-1][-1]) + 1 :]
            following = [reader for reader in after_block if inputs(reader) == starts[-1]][:1]
            found.append(DenseBlock((*(convolutions[0] for convolutions in layers), *following), starts))
    if not found:
        raise UnseenError(*worded("no-dense-blocks"))
    if any(isinstance(reader, nn.Conv2d) and reader.groups > 1 for block in found for reader in block.readers):
        raise UnseenError(*worded("grouped-dense-layer"))
    return found


def inputs(reader: nn.Conv2d | nn.Linear) -> int:
    """Return the number of channels that a layer takes."""
    return reader.in_channels if isinstance(reader, nn.Conv2d) else reader.in_features


class Connection(NamedTuple):
    """The weight that a reader gives to a source: the mean absolute weight of its channels, and the same relative to
    the reader's mean.
    """

    block: int  # from 1
    reader: int  # from 1; the number of layers plus 1 is the layer after the block
    source: int  # 0: the block's input
    weight: float
    relative: float  # 1 if the reader's weight were spread evenly; NaN if it has none

    @property
    def distance(self) -> int:
        """Return how many layers back the source is; 1 is the layer before."""
        return self.reader - self.source


@dataclass(frozen=True)
class FeatureReuse(Result):
    """The connections of a network's dense blocks, reader by reader."""

    connections: tuple[Connection, ...]

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per connection."""
        import pandas as pd

        return pd.DataFrame([{**c._asdict(), "distance": c.distance} for c in self.connections])

    def figure(self) -> "Figure":
        """Plot a heat map per block, as Fig. 5: a column per reader, a row per source."""
        blocks = sorted({c.block for c in self.connections})
        figure = new_figure(width=3.5 * len(blocks))
        for axes, block in zip(figure.subplots(1, len(blocks), squeeze=False)[0], blocks, strict=True):
            cells = [c for c in self.connections if c.block == block]
            grid = torch.full((1 + max(c.source for c in cells), max(c.reader for c in cells)), torch.nan, device="cpu")
            for c in cells:
                grid[c.source, c.reader - 1] = c.relative
            image = axes.imshow(
                grid.numpy(), cmap="viridis", extent=(0.5, grid.shape[1] + 0.5, grid.shape[0] - 0.5, -0.5)
            )
            axes.set(xlabel="reader", ylabel="source (0: the block's input)", title=f"dense block {block}")
            figure.colorbar(image, ax=axes, label="|weight| / the reader's mean")
        return figure


@careful
def feature_reuse(network: nn.Module) -> FeatureReuse:
    """Return the mean absolute weight from each source to each reader of each dense block: over outputs, the source's
    channels and kernel.

    The paper takes it as a surrogate for how much the reader depends on the source. The scales of the reader's
    BatchNorm are not counted. Cutting connections with `severed` measures the dependence itself.

    Raises:
        UserError: if the network has NaN weights or no dense blocks.
    """
    check_weights(network)
    found = []
    for number, block in enumerate(dense_blocks(network), start=1):
        for reader, layer in enumerate(block.readers, start=1):
            channels = widened(layer.weight.detach()).abs().transpose(0, 1).flatten(1).mean(1)  # [in]
            for source, (start, end) in enumerate(pairwise(block.starts[: reader + 1])):
                weight = channels[start:end].mean().item()
                mean = channels.mean().item()
                found.append(Connection(number, reader, source, weight, weight / mean if mean else math.nan))
    return FeatureReuse(tuple(found))


@contextmanager
def severed(network: nn.Module, distances: range) -> Iterator[None]:
    """Cut every connection of these lengths: its weights are 0 inside the block, and restored on exit, also after an
    error.

    Raises:
        UserError: if the network has no dense blocks, or the weights of a layer in one are computed from others.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for block in dense_blocks(network):
                for reader, layer in enumerate(block.readers, start=1):
                    if "weight" not in layer._parameters:
                        raise UnseenError(*worded("weight-is-computed", name=type(layer).__name__))
                    kept.append((layer.weight, layer.weight.detach().clone()))
                    for source, (start, end) in enumerate(pairwise(block.starts[: reader + 1])):
                        if reader - source in distances:
                            layer.weight[:, start:end] = 0
        yield
    finally:
        with torch.no_grad():
            for weight, value in reversed(kept):  # a layer may be in two blocks, and be cut twice
                weight.copy_(value)
