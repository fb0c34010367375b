"""The study of pre-activation: verdicts that turn with the data, and depths that its blocks can have."""

from pathlib import Path

import pytest
from helpers import pretended, refused

from reslab.errors import WrongValueError
from reslab.executors import local
from reslab.experiment.directory import Directory
from reslab.experiment.study import run_study
from reslab.experiment.trials import Trials, Values
from reslab.studies.preactivation import STUDY, advantage, over_depth


@pytest.mark.parametrize(("deep_v1", "grows"), [(0.30, "supported"), (0.10, "refuted")])
def test_the_advantage_is_a_difference_of_differences(deep_v1: float, grows: str, tmp_path: Path) -> None:
    errors = {"v1-8": 0.2, "v2-8": 0.2, "v1-14": deep_v1, "v2-14": 0.10}
    trials = pretended("preactivation", tmp_path, lambda _: 0.0, errors.__getitem__)
    measured = STUDY.measure(STUDY.configure("smoke", {}), trials)
    verdicts = {verdict.id.removeprefix("preactivation."): verdict for verdict in STUDY.verdicts(measured)}
    decided = verdicts["the-advantage-grows-with-depth"]
    assert decided.verdict == grows and decided.effect == pytest.approx(deep_v1 - 0.10)
    assert verdicts["v2-has-no-advantage-when-shallow"].verdict == "supported"
    assert [series.name for series in measured.charts[0].series] == ["v1", "v2"]
    assert list(measured.charts[0].series[0].y) == pytest.approx([0.2, deep_v1])


def test_seeds_that_a_depth_lost_leave_its_others_in_the_picture() -> None:
    errors = {("v1", 8): {0: 0.1, 1: 0.3}, ("v1", 14): {1: 0.2}, ("v2", 8): {0: 0.1}, ("v2", 14): {1: 0.4}}
    found = over_depth("test", STUDY.configure("smoke", {}), {key: Values(each) for key, each in errors.items()})
    assert [series.y for series in found.series] == [[pytest.approx(0.2), 0.2], [0.1, 0.4]]


@pytest.mark.parametrize("untrained", ["v1-8", "v2-8", "v1-14", "v2-14"])
def test_every_network_that_a_test_error_comes_from_has_to_be_trained(untrained: str, tmp_path: Path) -> None:
    trials = pretended("preactivation", tmp_path, lambda group: 0.9 if group == untrained else 0.0)
    verdicts = STUDY.verdicts(STUDY.measure(STUDY.configure("smoke", {}), trials))
    found = {v.id.removeprefix("preactivation.") for v in verdicts if v.reason and v.reason.code == "untrained"}
    deep = {
        "v2-is-not-worse-at-depth",
        "v2-is-better-at-depth",
        "v2-does-not-train-better-below-a-thousand-layers",
    }
    compared = deep if untrained.endswith("14") else {"v2-has-no-advantage-when-shallow"}
    assert found == {"the-advantage-grows-with-depth", *compared}


@pytest.mark.parametrize(("v1", "verdict"), [(0.002, "supported"), (0.1, "refuted")])
def test_v2_trains_no_better_where_v1_trains_as_well(v1: float, verdict: str, tmp_path: Path) -> None:
    trials = pretended("preactivation", tmp_path, lambda group: v1 if group == "v1-14" else 0.0)
    (found,) = (
        claim
        for claim in STUDY.verdicts(STUDY.measure(STUDY.configure("smoke", {}), trials))
        if claim.id == "preactivation.v2-does-not-train-better-below-a-thousand-layers"
    )
    assert found.verdict == verdict and found.effect == pytest.approx(v1)


def test_of_a_thousand_layers_nothing_is_said_that_is_claimed_of_fewer(tmp_path: Path) -> None:
    depths = {8: 20, 14: 1001}
    given = pretended("preactivation", tmp_path, lambda _: 0.0)
    trials = Trials({(kind, depths[int(depth)]): members for (kind, depth), members in given.items()})
    config = STUDY.configure("default", {"block": "bottleneck", "depths": tuple(depths.values())})
    codes = {claim.id.partition(".")[2]: claim.reason for claim in STUDY.verdicts(STUDY.measure(config, trials))}
    too_deep = {key for key, reason in codes.items() if reason and reason.code == "too-deep"}
    assert too_deep == {"v2-does-not-train-better-below-a-thousand-layers"}


def test_a_seed_that_is_lost_on_one_side_is_left_out() -> None:
    v1, v2 = Values({0: 0.5, 1: 0.25}), Values({1: 0.125, 2: 0.1})
    assert advantage({("v1", 8): v1, ("v2", 8): v2}, 8) == {1: 0.125}


def test_depths_that_the_blocks_cannot_have_are_refused() -> None:
    bottlenecks = STUDY.configure("default", {"block": "bottleneck", "depths": (20, 1001)})
    assert bottlenecks.depths == (20, 1001)  # type: ignore[attr-defined]  # its config
    wrong: list[tuple[dict[str, object], int]] = [
        ({"depths": (20, 1001)}, 1001),
        ({"block": "bottleneck", "depths": (26, 56)}, 26),
    ]
    for settings, depth in wrong:
        with refused(WrongValueError, depth):
            STUDY.configure("default", settings)


@pytest.mark.slow  # trains twelve small networks
def test_a_smoke_run_decides_every_claim(tmp_path: Path) -> None:
    config = STUDY.configure("smoke", {})
    record = run_study(STUDY, config, Directory(tmp_path).prepare(STUDY), local(1)).record
    assert len(record.claims) == len(STUDY.claims) and len(record.charts) == 2
