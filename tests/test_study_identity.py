"""The studies of identity mappings and pre-activation: what they measure, by other means, and verdicts that turn with the data."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import pretended

from reslab import studies
from reslab.executors import local
from reslab.ledger.verdict import Check, check, decide
from reslab.networks import zoo
from reslab.studies import identity_mappings
from reslab.studies.identity_mappings import NEEDED, ORDER_CLAIMS, SHORTCUTS, SNIPPET, negative_sums, snippet
from reslab.studies.study import Directory, Trial, run_study


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
    assert check(Check(SNIPPET, snippet(), NEEDED)).decision == "supported"
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
def test_a_smoke_run_decides_every_claim(tmp_path: Path) -> None:
    study = studies.find("identity_mappings")
    config = study.configure("smoke", {})
    record = run_study(study, config, Directory(tmp_path).prepare(study), local(1), lambda *_: None).record
    assert len(record["claims"]) == len(study.claims) and len(record["charts"]) >= 2
