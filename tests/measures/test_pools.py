"""The release's max-pool and the ordinary one: shapes and windows against their definitions, logits against a network
whose pool is written out.
"""

import pytest
import torch
from torch import Tensor, nn

import reslab
from reslab.measures.pools import logits_moved, pooled


@pytest.mark.parametrize(("pool", "padding"), [("caffe", 0), ("padded", 1)])
def test_both_pools_give_one_shape_and_begin_and_end_where_they_say(pool: str, padding: int) -> None:
    found = pooled(pool)
    windows = [[row for row in range(2 * at - padding, 2 * at - padding + 3) if 0 <= row < 112] for at in range(56)]
    assert found.input == (64, 112, 112)
    assert found.output == (64, 56, 56)
    assert (found.first, found.last) == (windows[0], windows[-1])
    assert (len(found.first), len(found.last)) == ((3, 2) if pool == "caffe" else (2, 3))


class Windows(nn.Module):
    """Caffe's max-pool, by its definition: windows begin at 0, 2, 4, … and end at the edge."""

    def forward(self, x: Tensor) -> Tensor:
        edges = nn.functional.pad(x, (0, 1, 0, 1), value=-torch.inf)
        return edges.unfold(2, 3, 2).unfold(3, 3, 2).amax((-2, -1))


@pytest.mark.slow
@torch.no_grad()
def test_logits_move_by_what_the_pool_alone_changes() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = reslab.build("resnet50").double().eval()
        image = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    ordinary = network(image)
    network.maxpool = Windows()
    moved = (network(image) - ordinary).norm() / ordinary.norm()
    assert logits_moved(3) == pytest.approx(float(moved), rel=1e-6)
    assert 0.01 < moved < 1
