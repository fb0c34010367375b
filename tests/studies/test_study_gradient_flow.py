"""The study of gradient flow: its ratios by hand, opposite networks give opposite verdicts, and one small run."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from helpers import SEEDS, refused
from torch import nn

from reslab.analysis.gradient_flow import TINY, GradientFlow, gradient_flow
from reslab.data import load_data
from reslab.errors import MissingError
from reslab.executors import local
from reslab.experiment.directory import Directory
from reslab.experiment.study import Measurement, run_study
from reslab.experiment.trials import Trial, Trials
from reslab.ledger.record import Reason, Verdict
from reslab.measures import flows
from reslab.measures.flows import KINDS, Flow, Training, build, heat_chart, plain, training
from reslab.report.records import read_study
from reslab.runs import Run
from reslab.studies import gradient_flow as study_module
from reslab.studies.gradient_flow import STUDY, TEXT, GradientFlowConfig, measure
from reslab.training.loop import generator


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


def looked(kind: str, spoil: Callable[[nn.Module], None]) -> Training | None:
    """Return what is seen of a network through one step of training that began with weights of this making."""
    network = build(kind, 8, 0, 10, 1)
    spoil(network)
    data = load_data("digits").fitted(32)
    (config,) = SMALL.model_copy(update={"seeds": 1}).trials("cifar_plain", depth=8)
    trial = SimpleNamespace(
        config=config.model_copy(update={"snapshots": (1,)}),
        data=lambda: data,
        fresh_network=lambda: network,
        network=lambda step: network,
    )
    return training(cast(Trial, trial))


def test_weights_that_are_not_finite_are_none_and_a_gradient_that_dies_counts() -> None:
    def nothing(network: nn.Module) -> None:
        """Leave it as it is."""

    @torch.no_grad()
    def huge(network: nn.Module) -> None:
        for parameter in network.parameters():
            parameter *= 1e30

    def dead(network: nn.Module) -> None:
        nn.init.zeros_(network.get_submodule("layer2.0.conv1").weight)  # type: ignore[arg-type]  # a parameter

    found = looked("residual, BN", nothing)
    assert found is not None and found.steps == [0, 1] and found.flows[0] == found.flows[1]
    assert looked("residual", huge) is None
    found = looked("plain", dead)
    assert found is not None and [flow.decades for flow in found.flows] == pytest.approx([math.log10(TINY)] * 2)
    heat = heat_chart(TEXT, {"plain": {0: found}}, 8)
    assert heat.series[0].z is not None and min(map(min, heat.series[0].z)) == pytest.approx(math.log10(TINY))


SMALL = GradientFlowConfig(depths=(8,), trained_depths=(8,), hundreds=(14,), seeds=1, steps=2, images=16)


def verdicts(measured: Measurement) -> Mapping[str, Verdict]:
    """Return the verdicts by the claims' keys."""
    return {verdict.id.partition(".")[2]: verdict for verdict in STUDY.verdicts(measured)}


def pretended_trials(status: str, seeds: int, tmp_path: Path) -> Trials:
    """Return the study's trials as if they had ended so."""
    grid = STUDY.grid(SMALL.model_copy(update={"seeds": seeds}))
    result = {"status": status, "train_error": 0.9, "test_error": 0.9}
    return Trials({key: [Trial(key, one, result, Run(tmp_path, one)) for one in some] for key, some in grid.items()})


FLOWS = {"plain, BN": (1000.0, 1.3), "plain": (0.001, 0.7), "residual, BN": (2.0, 1.01), "residual": (1e6, 2.0)}
"""What is pretended of each kind: the ratio of the first norm to the last, and the factor per block."""


def pretend_start(data: str, kind: str, depth: int, seed: int, images: int) -> Flow:
    """Return the flow of a pretended network, of which that of hundreds of layers has a ratio of its own."""
    ratio, growth = (0.5, 1.0) if depth == 14 else FLOWS[kind]
    return Flow([ratio, 1.0], growth, math.log10(ratio), math.log10(ratio) / 2, 0.0)


def test_where_networks_diverged_nothing_is_concluded_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "start", pretend_start)
    found = measure(SMALL, pretended_trials("diverged", SMALL.seeds, tmp_path))
    gone = Reason(code="diverged", values={"gone": SMALL.seeds, "n": SMALL.seeds, "kind": "plain, BN"})
    for key in ("degradation-comes-with-vanishing-gradients", "plain-stays-above-residual-in-training"):
        assert verdicts(found)[key].reason == gone
    assert not any(chart.series for chart in found.charts[2:])


def test_a_trial_that_did_not_finish_is_not_taken_for_one_that_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_module, "start", pretend_start)
    ended = pretended_trials("diverged", 3, tmp_path)
    found = measure(SMALL.model_copy(update={"seeds": 3}), Trials({key: ended[key][1:] for key in ended}))
    gone = Reason(code="diverged", values={"gone": 2, "n": 2, "kind": "plain, BN"})
    assert verdicts(found)["plain-stays-above-residual-in-training"].reason == gone
    assert [row[1:3] for row in found.tables[-1].rows] == [[0, 2]] * 4


def test_weights_that_are_lost_are_not_taken_for_a_network_that_diverged() -> None:
    class Lost(Trial):
        def network(self, step: int | None = None) -> nn.Module:
            raise MissingError(f"the weights of step {step} are not there")

    unused = cast(Run, None)
    (config,) = SMALL.model_copy(update={"seeds": 1}).trials("cifar_plain", depth=8)
    with refused(MissingError, "step 2"):
        training(Lost(("plain",), config.model_copy(update={"snapshots": (2,)}), {}, unused))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    """Return the directory of a small study that was run."""
    found = Directory(tmp_path_factory.mktemp("flow")).prepare(STUDY)
    run_study(STUDY, SMALL, found, local(1))
    return found


@pytest.mark.slow  # 4 s
def test_every_claim_is_decided_and_figures_are_finite(directory: Directory) -> None:
    record = read_study(directory.path)
    assert {verdict.id for verdict in record.claims} == {claim.id for claim in STUDY.claims}
    values = [y for chart in record.charts for series in chart.series for y in series.y]
    assert values and all(map(math.isfinite, values))
    norms = record.charts[0].series[0]
    images, labels = (part[:16] for part in load_data("digits").train)
    flows = [gradient_flow(build("plain, BN", 8, seed, 10, 1), images, labels).backward for seed in range(SMALL.seeds)]
    expected = torch.stack([backward / backward[-1] for backward in flows]).mean(0)
    assert norms.name == "plain, BN" and list(norms.y) == pytest.approx(expected.tolist(), rel=1e-3)


def test_the_heat_map_is_of_the_gradients_through_training(directory: Directory) -> None:
    """Trained by hand here: two steps of SGD with momentum on the trial's own batches."""
    (heat,) = (chart for chart in read_study(directory.path).charts if chart.kind == "heatmap")
    assert [series.name for series in heat.series] == list(KINDS) and heat.arrangement == "slider"
    assert list(heat.series[2].x) == [0, 1, 2] and len(heat.series[2].y) == 4
    images, labels = load_data("digits").fitted(32).train
    seen = []
    for seed in range(SMALL.seeds):
        network = build("residual, BN", 8, seed, 10, 1)
        order = torch.randperm(len(labels), generator=generator(seed, "order", 0))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        for step in range(2):
            batch = order[64 * step : 64 * (step + 1)]
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
        seen.append(gradient_flow(network, *load_data("digits").fitted(32).sample("train", 64)).backward[2].log10())
    expected = float(sum(seen)) / SMALL.seeds
    assert heat.series[2].z is not None and heat.series[2].z[2][2] == pytest.approx(expected, abs=0.01)


def test_sides_are_those_that_the_claims_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretended networks, of which training lowers every ratio tenfold a step."""

    def pretend_training(trial: Trial) -> Training | None:
        ratios = [FLOWS[str(trial.key[0])][0] * 0.1**step for step in range(4)]
        return Training([0, 1, 2, 3], [Flow([ratio, 1.0], 1.0, math.log10(ratio), 0.0, 0.0) for ratio in ratios])

    monkeypatch.setattr(study_module, "start", pretend_start)
    monkeypatch.setattr(study_module, "training", pretend_training)
    trials = pretended_trials("finished", SEEDS, tmp_path)
    found = verdicts(measure(SMALL.model_copy(update={"seeds": SEEDS}), trials))
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
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = directory.record.read_bytes()
    # seeds; at initialisation, of hundreds of layers
    assert len(list((directory.path / "measured").iterdir())) == SMALL.seeds * (4 + 1)
    assert len(list(directory.trials.glob("*/weights-[12].safetensors"))) == SMALL.seeds * 4 * 2
    assert len(list(directory.trials.glob("*/measured-training-*.json"))) == SMALL.seeds * 4
    monkeypatch.setattr(flows, "build", lambda *_: pytest.fail("a network was made again"))
    monkeypatch.setattr(flows, "gradient_flow", lambda *_: pytest.fail("a network was looked at again"))
    run_study(STUDY, SMALL, directory, local(1))
    assert directory.record.read_bytes() == first


@pytest.mark.slow  # half a minute
def test_exchanged_networks_turn_the_verdicts_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the plain networks' BatchNorms exchanged, what exploded vanishes."""
    config = SMALL.model_copy(update={"depths": (20,), "seeds": 3, "images": 64})

    def decided() -> list[str | None]:
        found = verdicts(measure(config, pretended_trials("diverged", 3, tmp_path)))
        return [found[key].verdict for key in ("plain-with-batchnorm-explodes", "plain-without-batchnorm-vanishes")]

    assert decided() == ["supported", "supported"]
    monkeypatch.setattr(flows, "KINDS", KINDS | {"plain, BN": KINDS["plain"], "plain": KINDS["plain, BN"]})
    assert decided() == ["refuted", "refuted"]
