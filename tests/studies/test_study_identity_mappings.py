"""The study of identity mappings: what it measures, by other means, and verdicts that turn with the data."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import SEEDS, pretended, refused

from reslab.errors import WrongValueError
from reslab.executors import local
from reslab.experiment.directory import Directory
from reslab.experiment.study import run_study
from reslab.experiment.trials import Trial, label
from reslab.ledger.record import Verdict
from reslab.measures.negative_sums import Negative, negative_sums
from reslab.measures.units import snippet
from reslab.networks import zoo
from reslab.paper.resnet_paper import BasicBlock
from reslab.studies import identity_mappings
from reslab.studies.identity_mappings import NEEDED, ORDERS, SHORTCUTS, STUDY


def test_the_grid_has_every_row_and_builds() -> None:
    groups = STUDY.grid(STUDY.configure("smoke", {}))
    assert [label(key) for key in groups] == ["original", *SHORTCUTS, *ORDERS]
    for trials in groups.values():
        zoo.check(trials[0].model, **trials[0].options)


def test_the_original_is_the_network_of_2015_as_the_tables_build_it() -> None:
    networks = []
    for model in ("cifar_resnet", "cifar_activation_order"):
        torch.manual_seed(0)
        networks.append(zoo.build(model, depth=8))
    weights, others = (network.state_dict().values() for network in networks)
    assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(*(network(images) for network in networks))


def test_variants_are_named_one_or_several_or_none() -> None:
    for typed, variants in (
        ("dropout", ("dropout",)),
        (["dropout", "convolution"], ("dropout", "convolution")),
        ("none", ()),
    ):
        groups = STUDY.grid(STUDY.configure("smoke", {"variants": typed}))
        assert list(groups) == [("original",), *((name,) for name in variants)]
    with refused(WrongValueError, "variants", "'dropout'", "drpout"):
        STUDY.configure("smoke", {"variants": "drpout"})


def test_without_variants_the_last_relu_alone_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_mappings, "negative", lambda trial: Negative([0.3, 0.2], [0.2, 0.1 * trial.seed / 9]))
    config = STUDY.configure("smoke", {"seeds": SEEDS, "variants": []})
    assert list(STUDY.grid(config)) == [("original",)]
    trials = pretended("identity_mappings", tmp_path, ALIKE.__getitem__, ALIKE.__getitem__, variants=[])
    measured = STUDY.measure(config, trials)
    found = {verdict.id.partition(".")[2]: verdict for verdict in STUDY.verdicts(measured)}
    untested = {key for key, verdict in found.items() if verdict.verdict == "untested"}
    assert untested == {*(f"{name}-trains-worse" for name in SHORTCUTS), *(f"{n}-{c}" for n, c in ORDERS.items())}
    reasons = [found[key].reason for key in untested]
    assert {reason and reason.code for reason in reasons} == {"nothing-measured"}
    assert found["training-makes-the-change-rarer"].verdict == "supported" and len(measured.charts) == 1


def test_negative_sums_are_those_of_the_unit_by_hand() -> None:
    network, images = zoo.build("cifar_resnet", depth=8, in_channels=1), torch.randn(32, 1, 8, 8)
    shares = negative_sums(network, images)
    assert len(shares) == 3
    network.train()  # normalises with the batch, as `negative_sums` does
    x = F.relu(network.get_submodule("bn1")(network.get_submodule("conv1")(images)))
    unit = network.get_submodule("layer1.0")
    assert isinstance(unit, BasicBlock)
    total = x + unit.branch(x)
    assert shares[0] == pytest.approx(float((total < 0).double().mean()), abs=1e-4)
    y = unit(x)
    assert torch.equal(y[total >= 0], total[total >= 0]) and not y[total < 0].any() and torch.equal(y, F.relu(total))
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_branch_of_zero_leaves_no_negative_sum() -> None:
    network = zoo.build("cifar_resnet", depth=8, in_channels=1)
    for unit in network.modules():
        if isinstance(unit, BasicBlock):
            torch.nn.init.zeros_(unit.bn2.weight)
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
