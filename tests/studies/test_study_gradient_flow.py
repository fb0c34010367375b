"""The study of gradient flow: its ratios by hand, opposite networks give opposite verdicts, and one small run."""

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from helpers import SEEDS
from torch import nn

from reslab.analysis.gradient_flow import TINY, GradientFlow, TrainingFlow, gradient_flow
from reslab.data import load_data
from reslab.executors import local
from reslab.experiment.directory import Directory
from reslab.experiment.study import Measurement, run_study
from reslab.experiment.trials import Trials
from reslab.ledger.record import Reason, Verdict
from reslab.measures import flows
from reslab.measures.flows import KINDS, Flow, Training, build, plain, trained_flow
from reslab.studies import gradient_flow as study_module
from reslab.studies.gradient_flow import STUDY, GradientFlowConfig, measure

NO_TRIALS = Trials({})


def flow(*norms: float) -> GradientFlow:
    backward = torch.tensor(norms)
    return GradientFlow([], torch.ones(len(norms)), backward, torch.ones(len(norms) - 1), 1.0)


def test_decades_and_growth_by_hand() -> None:
    assert flow(1000.0, 100.0, 10.0).decades == pytest.approx(2.0) and flow(
        1000.0, 100.0, 10.0
    ).growth == pytest.approx(10.0)
    assert flow(0.1, 1.0).decades == pytest.approx(-1.0)
    assert plain(flow(4.0, 2.0, 1.0)) == Flow(
        [4.0, 2.0, 1.0], pytest.approx(2.0), pytest.approx(math.log10(4)), 0.0, 1.0
    )


def test_parameters_gradients_explode_as_the_signals_do() -> None:
    """Where each layer multiplies by one number, they do so by the same factors: measured by autograd."""
    images, labels = (part[:16] for part in load_data("digits").fitted(32).train)
    network = build("plain, BN", 20, 0, 10, 1)
    found = plain(gradient_flow(network, images, labels))
    nn.functional.cross_entropy(network(images), labels).backward()
    first, last = (
        torch.cat([p.grad.flatten() for p in network.get_submodule(block).parameters() if p.grad is not None]).norm()
        for block in ("layer1.0", "layer3.2")
    )
    assert found.parameter_decades == pytest.approx(math.log10(first / last), rel=1e-3)
    assert 0 < found.parameter_decades < found.decades


def test_a_gradient_that_vanished_altogether_shrinks_at_a_finite_rate() -> None:
    flow = GradientFlow((), torch.empty(0), torch.tensor([0.0, 0.0, 1.0]), torch.empty(0), 0.0)
    assert flow.growth == pytest.approx(TINY**0.5) and flow.decades == pytest.approx(math.log10(TINY))


def test_the_four_kinds_are_what_they_say_and_come_from_the_seed() -> None:
    made = {kind: build(kind, 8, 1, 10, 1) for kind in KINDS}
    assert [any(isinstance(m, nn.BatchNorm2d) for m in network.modules()) for network in made.values()] == [
        "BN" in kind for kind in KINDS
    ]
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
    assert flow is not None and [step.decades for step in flow.flows] == pytest.approx([math.log10(TINY)] * 2)
    heat = study_module._heat({"plain": {0: Training(list(flow.steps), [plain(step) for step in flow.flows])}}, 8)
    assert heat.series[0].z is not None and min(map(min, heat.series[0].z)) == pytest.approx(math.log10(TINY))


SMALL = GradientFlowConfig(depths=(8,), trained_depths=(8,), hundreds=(14,), seeds=3, steps=1, images=16)


def verdicts(measured: Measurement) -> Mapping[str, Verdict]:
    """Return the verdicts by the claims' keys."""
    return {verdict.id.partition(".")[2]: verdict for verdict in STUDY.verdicts(measured)}


def test_where_networks_diverged_nothing_is_concluded_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "trained_flow", lambda *_: None)
    found = measure(SMALL, NO_TRIALS)
    gone = Reason(code="diverged", values={"gone": 3, "n": 3, "kind": "plain, BN"})
    for key in ("degradation-comes-with-vanishing-gradients", "plain-stays-above-residual-in-training"):
        assert verdicts(found)[key].reason == gone
    assert not any(chart.series for chart in found.charts[2:])


@pytest.fixture(scope="module")
def measured() -> Measurement:
    return measure(SMALL, NO_TRIALS)


def test_every_claim_is_decided_and_figures_are_finite(measured: Measurement) -> None:
    assert {verdict.id for verdict in STUDY.verdicts(measured)} == {claim.id for claim in STUDY.claims}
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
    assert (
        expected[0] == pytest.approx(expected[1], rel=1e-4)
        and list(heat.series[2].x) == [0, 1]
        and len(heat.series[2].y) == 4
    )


FLOWS = {"plain, BN": (1000.0, 1.3), "plain": (0.001, 0.7), "residual, BN": (2.0, 1.01), "residual": (1e6, 2.0)}
"""What is pretended of each kind: the ratio of the first norm to the last, and the factor per block."""


def test_sides_are_those_that_the_claims_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretended networks, of which that of hundreds of layers has a ratio of its own, and training lowers every ratio
    tenfold a step.
    """

    def pretend_start(data: str, kind: str, depth: int, seed: int, images: int) -> Flow:
        ratio, growth = (0.5, 1.0) if depth == 14 else FLOWS[kind]
        return Flow([ratio, 1.0], growth, math.log10(ratio), math.log10(ratio) / 2, 0.0)

    def pretend_training(data: str, kind: str, depth: int, seed: int, steps: int) -> Training | None:
        ratios = [FLOWS[kind][0] * 0.1**step for step in range(4)]
        return Training([0, 1, 2, 3], [Flow([ratio, 1.0], 1.0, math.log10(ratio), 0.0, 0.0) for ratio in ratios])

    monkeypatch.setattr(study_module, "start", pretend_start)
    monkeypatch.setattr(study_module, "training", pretend_training)
    found = verdicts(measure(SMALL.model_copy(update={"seeds": SEEDS}), NO_TRIALS))
    two = math.log10(2)
    effects = {
        "plain-with-batchnorm-explodes": 0.3,
        "plain-without-batchnorm-vanishes": -0.3,
        "residual-with-batchnorm-grows-slowly": 0.01,
        "residual-without-batchnorm-explodes": 1,
        "plain-parameter-gradients-explode-too": 1.5,
        "batchnorm-alone-keeps-gradients": 3,
        "skips-alone-keep-gradients": 6,
        "both-together-keep-gradients": two,
        "gradients-reach-the-first-of-hundreds-of-layers": two,
        "degradation-comes-with-vanishing-gradients": 1,  # the median of 2, 1, 0: without the first, of 3
        "residual-keeps-gradients-in-training": 3 - two,
        "plain-stays-above-residual-in-training": 3 - two,
    }
    assert {key: verdict.effect for key, verdict in found.items()} == pytest.approx(effects)
    assert [key for key, verdict in found.items() if verdict.verdict == "refuted"] == [
        "batchnorm-alone-keeps-gradients",
        "skips-alone-keep-gradients",
        "degradation-comes-with-vanishing-gradients",
        "residual-keeps-gradients-in-training",
    ]


def test_every_network_is_looked_at_once_and_what_was_seen_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Directory(tmp_path).prepare(STUDY)
    first = run_study(STUDY, SMALL, directory, local(1)).record
    # seeds; at initialisation, of hundreds of layers, in training
    assert len(list((tmp_path / "measured").iterdir())) == 3 * (4 + 1 + 4)
    monkeypatch.setattr(flows, "build", lambda *_: pytest.fail("a network was made again"))
    assert run_study(STUDY, SMALL, directory, local(1)).record == first


@pytest.mark.slow  # half a minute
def test_exchanged_networks_turn_the_verdicts_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the plain networks' BatchNorms exchanged, what exploded vanishes."""
    config = SMALL.model_copy(update={"depths": (20,), "images": 64})

    def decided() -> list[str | None]:
        found = verdicts(measure(config, NO_TRIALS))
        return [found[key].verdict for key in ("plain-with-batchnorm-explodes", "plain-without-batchnorm-vanishes")]

    assert decided() == ["supported", "supported"]
    monkeypatch.setattr(flows, "KINDS", KINDS | {"plain, BN": KINDS["plain"], "plain": KINDS["plain, BN"]})
    assert decided() == ["refuted", "refuted"]
