"""Feature reuse: weights by source and distance, and connections that are cut, against what was put into
the weights.
"""

import math

import pytest
import torch
from helpers import refused, snapshot
from torch import nn
from torchvision.models import densenet121

import reslab
from reslab.analysis.feature_reuse import dense_blocks, feature_reuse, severed
from reslab.errors import UnseenError


def tiny(**options: object) -> nn.Module:
    # three layers a block
    return reslab.build("cifar_densenet", depth=13, growth_rate=4, in_channels=1, **options).eval()


def test_blocks_are_found_from_shapes_with_what_follows_them() -> None:
    network = tiny()
    blocks = dense_blocks(network)
    assert [block.starts for block in blocks] == [(0, 16, 20, 24, 28), (0, 28, 32, 36, 40), (0, 40, 44, 48, 52)]
    assert [block.readers[-1] for block in blocks] == [
        network.features.transition1.conv,
        network.features.transition2.conv,
        network.classifier,
    ]
    assert all(len(block.readers) == 4 for block in blocks)


def test_torchvisions_and_bottlenecks_are_found_and_residual_networks_refused() -> None:
    with torch.device("meta"):
        assert [len(block.readers) - 1 for block in dense_blocks(densenet121(weights=None))] == [6, 12, 24, 16]
        assert [len(block.readers) - 1 for block in dense_blocks(reslab.build("densenet_bc100_12"))] == [16, 16, 16]
        for name in ("resnet20", "resnext29_8x64d", "efficientnet_b0", "regnet_x_200mf"):
            with refused(UnseenError, "dense"):
                dense_blocks(reslab.build(name))


def test_grouped_readers_are_refused_and_readers_without_weight_have_no_share() -> None:
    network = tiny()
    with torch.no_grad():
        network.classifier.weight.zero_()
    last = [c for c in feature_reuse(network).connections if (c.block, c.reader) == (3, 4)]
    assert all(c.weight == 0 and math.isnan(c.relative) for c in last) and feature_reuse(network).figure()

    def layer(channels: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.Conv2d(channels, 4, 1))

    with refused(UnseenError, "grouped"):
        feature_reuse(nn.Sequential(layer(8), layer(12), layer(16)))


def test_weights_come_out_as_they_were_put_in() -> None:
    """Each source's weights are ±(1 + 10·source + reader) in every reader: the mean absolute weight is that number."""
    network = tiny()
    with torch.no_grad():
        for block in dense_blocks(network):
            for reader, layer in enumerate(block.readers, start=1):
                layer.weight.copy_(torch.sign(torch.randn_like(layer.weight)))
                for source in range(reader):
                    layer.weight[:, block.starts[source] : block.starts[source + 1]] *= 1 + 10 * source + reader
    before = snapshot(network)
    reuse = feature_reuse(network)
    assert snapshot(network) == before
    assert len(reuse.connections) == 3 * (1 + 2 + 3 + 4)
    for c in reuse.connections:
        assert c.weight == 1 + 10 * c.source + c.reader and c.distance == c.reader - c.source
    # 16 channels of weight 3 and 4 of weight 13: a mean of 5
    shares = [c for c in reuse.connections if (c.block, c.reader) == (1, 2)]
    assert [c.relative for c in shares] == pytest.approx([3 / 5, 13 / 5])
    assert list(reuse.to_frame().columns) == ["block", "reader", "source", "weight", "relative", "distance"]
    assert len(reuse.figure().axes) == 6  # a heat-map and its scale, a block


def test_a_cut_connection_carries_nothing_and_is_put_back() -> None:
    network = tiny().double()
    x = torch.randn(2, 1, 8, 8).double()
    inside = torch.randn(2, 16, 8, 8).double()
    before, whole = snapshot(network), network(x)
    block, layers = network.features.denseblock1, list(network.features.denseblock1)
    with severed(network, range(2, 9)):
        features = [inside]
        for layer in layers:  # each sees the layer before alone; the third, say, nothing of the block's input
            alone = torch.cat([torch.zeros_like(f) if f is not features[-1] else f for f in features], 1)
            normed = layer.relu1(layer.norm1(torch.cat(features, 1)))
            mask = (alone != 0).double()
            features.append(layer.conv1(normed * mask))
        assert torch.allclose(block(inside), torch.cat(features, 1), atol=1e-12)
        assert not torch.allclose(network(x), whole)
    assert snapshot(network) == before and torch.equal(network(x), whole)
    with severed(network, range(9, 10)):  # longer than any
        assert torch.equal(network(x), whole)
    with pytest.raises(RuntimeError, match="midway"), severed(network, range(1, 9)):
        raise RuntimeError("midway")
    assert snapshot(network) == before


def test_nan_is_refused() -> None:
    network = tiny()
    with torch.no_grad():
        network.features.conv0.weight[0, 0, 0, 0] = torch.nan
    with refused(UnseenError, "NaN"):
        feature_reuse(network)
