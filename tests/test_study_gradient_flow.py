"""The study of gradient flow: its ratios by hand, opposite networks give opposite verdicts, and one small run."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from reslab import studies
from reslab.analysis.gradient_flow import GradientFlow, TrainingFlow, gradient_flow
from reslab.data import load_data
from reslab.ledger.record import Reason
from reslab.ledger.verdict import decide
from reslab.studies import gradient_flow as study_module
from reslab.studies.gradient_flow import (
    BN_ALONE,
    KINDS,
    PLAIN_BN_EXPLODES,
    PLAIN_VANISHES,
    STAYS_APART,
    TINY,
    VANISHING_CAUSES,
    build,
    decades,
    measure,
    trained_flow,
)
from reslab.studies.study import Measurement


def flow(*norms: float) -> GradientFlow:
    backward = torch.tensor(norms)
    return GradientFlow([], torch.ones(len(norms)), backward, torch.ones(len(norms) - 1), 1.0)


def test_decades_and_growth_by_hand() -> None:
    assert decades(flow(1000.0, 100.0, 10.0)) == pytest.approx(2.0) and flow(1000.0, 100.0, 10.0).growth == pytest.approx(10.0)
    assert decades(flow(0.1, 1.0)) == pytest.approx(-1.0)


def test_a_gradient_that_vanished_altogether_shrinks_at_a_finite_rate() -> None:
    flow = GradientFlow((), torch.empty(0), torch.tensor([0.0, 0.0, 1.0]), torch.empty(0), 0.0)
    assert flow.growth == pytest.approx(TINY**0.5) and decades(flow) == pytest.approx(math.log10(TINY))


def test_the_four_kinds_are_what_they_say_and_come_from_the_seed() -> None:
    made = {kind: build(kind, 8, 1, 10, 1) for kind in KINDS}
    assert [any(isinstance(m, nn.BatchNorm2d) for m in network.modules()) for network in made.values()] == ["BN" in kind for kind in KINDS]
    again, other = build("residual", 8, 1, 10, 1), build("residual", 8, 2, 10, 1)
    assert torch.equal(again.conv1.weight, made["residual"].conv1.weight)  # type: ignore[arg-type]  # tensors
    assert not torch.equal(other.conv1.weight, again.conv1.weight)  # type: ignore[arg-type]  # tensors
    assert torch.equal(made["plain, BN"].conv1.weight, made["plain"].conv1.weight)  # type: ignore[arg-type]  # tensors


def test_training_that_diverges_is_none_and_a_gradient_that_dies_counts() -> None:
    images, labels = (part[:32] for part in load_data("digits").train)
    network = build("residual", 8, 0, 10, 1)
    assert isinstance(trained_flow(build("residual, BN", 8, 0, 10, 1), images, labels, 1, 0), TrainingFlow)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 1e4
    assert trained_flow(network, images, labels, 1, 0) is None
    dead = build("plain", 8, 0, 10, 1)
    nn.init.zeros_(dead.get_submodule("layer2.0.conv1").weight)  # type: ignore[arg-type]  # a parameter
    flow = trained_flow(dead, images, labels, 1, 0)
    assert flow is not None and [decades(step) for step in flow.flows] == pytest.approx([math.log10(TINY)] * 2)
    heat = study_module._heat({"plain": {0: flow}}, 8)
    assert heat.series[0].z is not None and min(map(min, heat.series[0].z)) == pytest.approx(math.log10(TINY))


def test_where_networks_diverged_nothing_is_concluded_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "trained_flow", lambda *_: None)
    found = measure(SMALL, {}, lambda *_: None)
    reasons = {verdict.id: verdict.reason for verdict in found.verdicts()}
    assert reasons[VANISHING_CAUSES.id] == reasons[STAYS_APART.id] == Reason(code="diverged", values={"gone": 3, "n": 3, "kind": "plain, BN"})
    assert not any(chart.series for chart in found.charts[2:])


@pytest.fixture(scope="module")
def measured() -> Measurement:
    return measure(SMALL, {}, lambda *_: None)


SMALL = study_module.GradientFlowConfig(depths=(8,), trained_depths=(8,), hundreds=(14,), seeds=3, steps=1, images=16)


def test_every_claim_is_decided_and_figures_are_finite(measured: Measurement) -> None:
    assert {v.id for v in measured.verdicts()} == {claim.id for claim in studies.find("gradient_flow").claims}
    values = [y for chart in measured.charts for series in chart.series for y in series.y]
    assert values and all(map(math.isfinite, values))
    norms = measured.charts[0].series[0]
    images, labels = (part[:16] for part in load_data("digits").train)
    flows = [gradient_flow(build("plain, BN", 8, seed, 10, 1), images, labels).backward for seed in range(3)]
    expected = torch.stack([backward / backward[-1] for backward in flows]).mean(0)
    assert norms.name == "plain, BN" and list(norms.y) == pytest.approx(expected.tolist(), rel=1e-4)


def test_the_heat_map_is_of_the_gradients_through_training(measured: Measurement) -> None:
    (heat,) = (chart for chart in measured.charts if chart.kind == "heatmap")
    assert [series.name for series in heat.series] == list(KINDS) and heat.arrangement == "slider"
    images, labels = load_data("digits").fitted(32).train
    flows = [trained_flow(build("residual, BN", 8, seed, 10, 1), images, labels, 1, seed) for seed in range(3)]
    expected = [sum(flow.flows[1].backward[2].log10().item() for flow in flows if flow) / 3, heat.series[2].z[2][1]]  # type: ignore[index]  # it has z
    assert expected[0] == pytest.approx(expected[1], rel=1e-4) and list(heat.series[2].x) == [0, 1] and len(heat.series[2].y) == 4


def test_other_ratios_turn_the_verdict_round(measured: Measurement) -> None:
    evidence = next(c for c in measured.comparisons if c.claim is BN_ALONE)
    assert decide([evidence])[0].verdict == "supported"  # at 8 layers
    assert decide([replace(evidence, treatment={seed: 3 + value for seed, value in evidence.treatment.items()})])[0].verdict == "refuted"


@pytest.mark.slow  # half a minute
def test_exchanged_networks_turn_the_verdicts_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the plain networks' BatchNorms exchanged, what exploded vanishes."""
    config = SMALL.model_copy(update={"depths": (20,), "images": 64})

    def verdicts() -> list[str]:
        found = {verdict.id: verdict.verdict for verdict in decide(measure(config, {}, lambda *_: None).comparisons)}
        return [found[claim.id] for claim in (PLAIN_BN_EXPLODES, PLAIN_VANISHES)]

    assert verdicts() == ["supported", "supported"]
    monkeypatch.setattr(study_module, "KINDS", KINDS | {"plain, BN": KINDS["plain"], "plain": KINDS["plain, BN"]})
    assert verdicts() == ["refuted", "refuted"]
