"""The studies of identity mappings and pre-activation: what they measure, by other means, and verdicts that turn with the data."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import pretended

from reslab import studies
from reslab.errors import UserError
from reslab.executors import local
from reslab.ledger.verdict import Check, check, decide
from reslab.networks import zoo
from reslab.studies import identity_mappings
from reslab.studies.directory import Directory
from reslab.studies.identity_mappings import NEEDED, ORDER_CLAIMS, SHORTCUTS, SNIPPET, negative_sums, snippet
from reslab.studies.preactivation import GROWS, NOT_WHEN_SHALLOW, advantage
from reslab.studies.study import run_study
from reslab.studies.trials import Trial


@pytest.mark.parametrize(("deep_v1", "grows"), [(0.30, "supported"), (0.10, "refuted")])
def test_the_advantage_is_a_difference_of_differences(deep_v1: float, grows: str, tmp_path: Path) -> None:
    errors = {"v1-8": 0.2, "v2-8": 0.2, "v1-14": deep_v1, "v2-14": 0.10}
    study = studies.find("preactivation")
    measurement = study.measure(
        study.configure("smoke", {}), pretended("preactivation", tmp_path, lambda _: 0.0, errors.__getitem__), lambda *_: None
    )
    verdicts = {verdict.id: verdict for verdict in measurement.verdicts()}
    assert verdicts.keys() == {claim.id for claim in study.claims}
    assert verdicts[GROWS.id].verdict == grows and verdicts[GROWS.id].effect == pytest.approx(deep_v1 - 0.10)
    assert verdicts[NOT_WHEN_SHALLOW.id].verdict == "supported"
    assert [series.name for series in measurement.charts[0].series] == ["v1", "v2"]
    assert list(measurement.charts[0].series[0].y) == pytest.approx([0.2, deep_v1])


def test_a_seed_that_is_lost_on_one_side_is_left_out() -> None:
    assert advantage({"v1-8": {0: 0.5, 1: 0.25}, "v2-8": {1: 0.125, 2: 0.1}}, 8) == {1: 0.125}


def test_depths_that_the_blocks_cannot_have_are_refused() -> None:
    study = studies.find("preactivation")
    assert study.configure("default", {"block": "bottleneck", "depths": (20, 1001)}).depths == (20, 1001)  # type: ignore[attr-defined]  # its config
    for settings, message in [({"depths": (20, 1001)}, "1001 is not 6n"), ({"block": "bottleneck", "depths": (26, 56)}, "26 is not 9n")]:
        with pytest.raises(UserError, match=message):
            study.configure("default", settings)


def test_the_grid_has_every_row_and_builds() -> None:
    groups = studies.find("identity_mappings").grid(studies.find("identity_mappings").configure("smoke", {}))
    assert list(groups) == ["original", *SHORTCUTS, *ORDER_CLAIMS]
    for trials in groups.values():
        zoo.check(trials[0].model, **trials[0].options)


def test_negative_sums_are_those_of_the_unit_by_hand() -> None:
    network, images = zoo.build("cifar_activation_order", depth=8, in_channels=1), torch.randn(32, 1, 8, 8)
    shares = negative_sums(network, images)
    assert len(shares) == 3
    network.train()  # normalises with the batch, as `negative_sums` does
    x = network.get_submodule("stem")(images)
    unit = network.get_submodule("units")[0]  # type: ignore[index]  # a Sequential
    total = x + unit.branch(x)
    assert shares[0] == pytest.approx(float((total < 0).double().mean()), abs=1e-4)
    y = unit(x)
    assert torch.equal(y[total >= 0], total[total >= 0]) and not y[total < 0].any() and torch.equal(y, F.relu(total))
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_branch_of_zero_leaves_no_negative_sum() -> None:
    network = zoo.build("cifar_activation_order", depth=8, in_channels=1)
    for unit in network.get_submodule("units"):  # type: ignore[attr-defined]  # a Sequential
        torch.nn.init.zeros_(unit.branch[-1].weight)
    assert negative_sums(network, torch.randn(8, 1, 8, 8)) == [0, 0, 0]


def test_v2_has_what_the_snippet_has_not() -> None:
    assert check(Check(SNIPPET, snippet(), NEEDED)).verdict == "supported"
    assert check(Check(SNIPPET, NEEDED | {"shared activation": []}, NEEDED)).verdict == "refuted"


def test_a_better_variant_refutes_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = dict.fromkeys(["original", *SHORTCUTS, *ORDER_CLAIMS], 0.2) | {"convolution": 0.1, "dropout": 0.5, "bn-after-addition": 0.1}
    study = studies.find("identity_mappings")
    groups = pretended("identity_mappings", tmp_path, errors.__getitem__, errors.__getitem__)
    monkeypatch.setattr(Trial, "network", Trial.fresh_network)  # nothing was trained
    measurement = study.measure(study.configure("smoke", {}), groups, lambda *_: None)
    verdicts = {verdict.id.removeprefix("identity_mappings."): verdict.verdict for verdict in measurement.verdicts()}
    assert len(verdicts) == len(study.claims)
    assert verdicts["convolution-trains-worse"] == verdicts["bn-after-addition-is-worse"] == "refuted"
    assert verdicts["dropout-trains-worse"] == verdicts["full-pre-activation-is-not-worse"] == "supported"
    assert verdicts["training-makes-the-change-rarer"] == "refuted"  # before is after
    relu = next(c for c in measurement.comparisons if c.claim is identity_mappings.LESS_AFTER_TRAINING)
    assert decide([replace(relu, treatment={seed: share / 2 for seed, share in relu.control.items()})])[0].verdict == "supported"


@pytest.mark.slow  # trains thirty small networks
@pytest.mark.parametrize("name", ["identity_mappings", "preactivation"])
def test_a_smoke_run_decides_every_claim(name: str, tmp_path: Path) -> None:
    study = studies.find(name)
    config = study.configure("smoke", {})
    record = run_study(study, config, Directory(tmp_path).prepare(study), local(1), lambda *_: None, lambda *_: None).record
    assert len(record.claims) == len(study.claims) and len(record.charts) >= 2
