"""The study of identity mappings: what it measures, by other means, and verdicts that turn with the data."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import SEEDS, pretended

from reslab.executors import local
from reslab.experiment.directory import Directory
from reslab.experiment.study import run_study
from reslab.experiment.trials import Trial, label
from reslab.ledger.record import Verdict
from reslab.measures.negative_sums import Negative, negative_sums
from reslab.measures.units import snippet
from reslab.networks import zoo
from reslab.studies import identity_mappings
from reslab.studies.identity_mappings import NEEDED, ORDERS, SHORTCUTS, STUDY


def test_the_grid_has_every_row_and_builds() -> None:
    groups = STUDY.grid(STUDY.configure("smoke", {}))
    assert [label(key) for key in groups] == ["original", *SHORTCUTS, *ORDERS]
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
    assert snippet() == NEEDED


def verdicts(path: Path, errors: dict[str, float], train_errors: dict[str, float] | None = None) -> dict[str, Verdict]:
    """Return the verdicts, by the claim's key, on networks that are said to have ended with these errors."""
    trials = pretended("identity_mappings", path, (train_errors or errors).__getitem__, errors.__getitem__)
    return {
        verdict.id.partition(".")[2]: verdict
        for verdict in STUDY.verdicts(STUDY.measure(STUDY.configure("smoke", {"seeds": SEEDS}), trials))
    }


ALIKE = dict.fromkeys(["original", *SHORTCUTS, *ORDERS], 0.1)


@pytest.mark.slow  # 2 s
def test_a_better_variant_refutes_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trial, "network", Trial.fresh_network)  # nothing was trained
    found = verdicts(tmp_path, ALIKE | {"convolution": 0.05, "dropout": 0.5, "bn-after-addition": 0.05})
    assert len(found) == len(STUDY.claims)
    decided = {key: verdict.verdict for key, verdict in found.items()}
    assert decided["convolution-trains-worse"] == decided["bn-after-addition-is-worse"] == "refuted"
    assert decided["dropout-trains-worse"] == decided["full-pre-activation-is-not-worse"] == "supported"
    assert decided["training-makes-the-change-rarer"] == "refuted"  # before is after


@pytest.mark.slow
def test_a_variant_that_hardly_trains_is_worse_and_an_original_that_does_not_tests_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trial, "network", Trial.fresh_network)
    apart = verdicts(tmp_path, ALIKE | {"dropout": 0.9, "bn-after-addition": 0.9})
    assert apart["dropout-trains-worse"].verdict == "supported"
    reason = apart["bn-after-addition-is-worse"].reason  # of which the test errors are compared
    assert reason is not None and reason.code == "untrained" and reason.values["errors"] == {"bn-after-addition": 0.9}
    untrained = verdicts(tmp_path, ALIKE | {"original": 0.9})
    assert {verdict.verdict for verdict in untrained.values() if verdict.kind == "statistical"} == {"untested"}


def test_half_the_share_of_negative_sums_is_rarer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(trial: Trial) -> Negative:
        shares = [0.1 + 0.01 * trial.seed, 0.2]
        return Negative(shares, [share / 2 for share in shares])

    monkeypatch.setattr(identity_mappings, "negative", pretend)
    found = verdicts(tmp_path, ALIKE)
    assert found["training-makes-the-change-rarer"].effect == pytest.approx(-(0.1 + 0.01 * (SEEDS - 1) / 2 + 0.2) / 4)
    assert (
        found["training-makes-the-change-rarer"].verdict
        == found["the-last-relu-rarely-changes-the-sum"].verdict
        == "supported"
    )


@pytest.mark.slow  # trains thirty small networks
def test_a_smoke_run_decides_every_claim(tmp_path: Path) -> None:
    record = run_study(STUDY, STUDY.configure("smoke", {}), Directory(tmp_path).prepare(STUDY), local(1)).record
    assert len(record.claims) == len(STUDY.claims) and len(record.charts) == 3
