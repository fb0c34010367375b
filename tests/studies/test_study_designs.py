"""The successors' designs: their laws against brute force, and the checks on the networks themselves."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reslab.experiment.config import StudyConfig
from reslab.experiment.trials import Trials
from reslab.measures import laws
from reslab.networks import literature, zoo
from reslab.studies import designs
from reslab.successors import efficientnet


def blocks_of(slope: float, wm: float, depth: int) -> list[int]:
    """Return the blocks per stage of a quantised line, counted block by block; a stage may be empty."""
    steps = [round(math.log(1 + slope * j) / math.log(wm)) for j in range(depth)]
    return [steps.count(stage) for stage in range(max(steps) + 1)]


@given(st.floats(0.05, 1.5), st.floats(1.5, 3), st.integers(4, 40), st.floats(0.1, 0.9), st.floats(0.02, 0.5))
def test_slopes_are_those_that_give_the_blocks_and_no_others(
    slope: float, wm: float, depth: int, inside: float, outside: float
) -> None:
    blocks = blocks_of(slope, wm, depth)
    found = laws.slopes(blocks, wm)
    assert found is not None
    low, high = found
    assert low * (1 - 1e-9) <= slope <= high * (1 + 1e-9)
    if low > 0 and math.isfinite(high):
        assert blocks_of(low + inside * (high - low), wm, depth) == blocks
        assert blocks_of(low * (1 - outside), wm, depth) != blocks != blocks_of(high * (1 + outside), wm, depth)


def test_every_published_slope_is_in_its_range_and_no_resnet_has_one() -> None:
    for design in laws.DESIGNS.values():
        low, high = laws.wa_range(design)
        assert low <= design.wa < high
    assert not any(laws.slopes(blocks, 2.0) for blocks in laws.RESNETS.values())
    # two of sixteen blocks a stage off
    assert laws.nearest_blocks((3, 4, 6, 3), 2.0)[1] == pytest.approx(math.log(2) * 2 / 16)
    assert laws.nearest_blocks(blocks_of(0.5, 2.0, 16), 2.0)[1] == 0


@given(st.floats(0, 7))
def test_a_scale_that_follows_a_phi_agrees_with_it(phi: float) -> None:
    exact = efficientnet.compound(phi)
    scale = efficientnet.Scale(
        round(exact.width, 1), round(exact.depth, 1), 4 * round(224 * efficientnet.GAMMA**phi / 4), 0.2
    )
    found = laws.agreeing_phi(scale)
    assert found is not None and found[0] - 1e-9 <= phi <= found[1] + 1e-9


def test_the_published_scales_follow_none_from_b3_on() -> None:
    assert [name[-2:] for name, scale in efficientnet.PUBLISHED.items() if laws.agreeing_phi(scale)] == [
        "b0",
        "b1",
        "b2",
    ]


def test_a_resnext_block_is_the_sum_of_as_many_paths_as_its_cardinality_and_of_no_other_number() -> None:
    block = zoo.build("cifar_resnext", depth=11, cardinality=4, base_width=2).double().eval().get_submodule("layer1.0")
    x = torch.randn(2, 64, 5, 5).double()
    assert torch.allclose(block(x), laws.sum_of_paths(block, x, 4), rtol=1e-10)
    with pytest.raises(RuntimeError):  # each path would want more inputs than a group has
        laws.sum_of_paths(block, x, 2)


def test_connections_are_counted_on_the_network() -> None:
    assert laws.connections("densenet_bc100_12") == (3 * 16 * 17 // 2, 48 * 49 // 2)


@pytest.mark.slow
def test_what_is_counted_is_as_claimed_and_one_source_disputes_another() -> None:
    verdicts = {claim.id: claim.verdict for claim in designs.STUDY.verdicts(designs.measure(StudyConfig(), Trials({})))}
    disputed = verdicts.pop("designs.scaling-resolution-pays")
    assert disputed == "inconclusive" and set(verdicts.values()) == {"supported"} and len(verdicts) == 11


def test_resnexts_printed_errors_are_the_sources_and_over_resnet101s_wherever_one_source_has_both() -> None:
    (claim,) = (claim for claim in designs.CLAIMS if claim.id == "designs.resnext50-does-not-quite-reach-resnet101")
    assert isinstance(claim.finding, dict)
    both = [printed for printed in literature.IMAGENET if {"resnext50_32x4d", "resnet101"} <= printed.errors.keys()]
    pairs = [(printed.errors["resnext50_32x4d"], printed.errors["resnet101"], printed.who) for printed in both]
    assert all(resnext > resnet for resnext, resnet, _ in pairs)
    said = (f"{resnext:.1f} against {resnet:.1f} % top-1 ({who})" for resnext, resnet, who in pairs)
    assert claim.finding["en"] == "; ".join(said)
    assert all(f"{resnext:.1f} 대 {resnet:.1f} %({who})" in claim.finding["ko"] for resnext, resnet, who in pairs)
