"""The study of residual learning: its algebra, what it measures by other means, and verdicts that turn."""

from pathlib import Path

import pytest
import torch
from helpers import pretended
from torch import Tensor

from reslab.executors import local
from reslab.experiment.directory import Directory
from reslab.experiment.study import run_study
from reslab.experiment.text import StudyText
from reslab.experiment.trials import Key, Trial
from reslab.measures.residuals import Residuals, changes
from reslab.networks import zoo
from reslab.studies import residual_learning
from reslab.studies.residual_learning import STUDY, algebra


def test_the_algebra_is_as_claimed() -> None:
    assert [found.measured for found in algebra().values()] == [found.expected for found in algebra().values()]


def test_changes_are_those_of_hooks() -> None:
    network, images = zoo.build("cifar_resnet", depth=14, in_channels=1), torch.randn(16, 1, 8, 8)
    measured, found = changes(network, images), []

    def note(block: torch.nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        x = inputs[0]
        found.append(float((block.branch(x).square().mean() / x.square().mean()).sqrt()))  # type: ignore[operator]  # a BasicBlock

    for name in ("layer1.0", "layer1.1", "layer2.1", "layer3.1"):
        network.get_submodule(name).register_forward_hook(note)
    network.train()  # normalises with the batch, as `changes` does
    with torch.no_grad():
        network(images)
    assert measured == pytest.approx(found, rel=1e-4)


def test_over_seeds_by_hand() -> None:
    text = StudyText(residual_learning.__name__)
    series = text.over_seeds("a", [0.0, 1.0], {0: [1.0, 2.0], 3: [3.0, 2.0]})
    assert series.name == "a" and list(series.y) == [2.0, 2.0] and series.spread == pytest.approx([2**0.5, 0.0])
    assert text.over_seeds("a", [0.0], {0: [1.0]}).spread is None


@pytest.mark.parametrize(("deep", "plain", "shrinks"), [(0.3, 0.8, "supported"), (0.9, 0.6, "refuted")])
def test_sides_are_those_that_the_claims_name(
    deep: float, plain: float, shrinks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pretended networks: the shallow one responds with 0.7, its plain twin more or less; residuals begin at 0.6."""
    response: dict[Key, float] = {("resnet", 8): 0.7, ("resnet", 14): deep, ("plain", 8): plain}

    def stds(trial: Trial) -> list[float]:
        return [response[trial.key] + 0.001 * trial.seed] * 3

    def residuals(trial: Trial) -> Residuals:
        return Residuals([0.6, 0.6], [deep + 0.001 * trial.seed, deep])

    monkeypatch.setattr(residual_learning, "stds", stds)
    monkeypatch.setattr(residual_learning, "residuals", residuals)
    measured = STUDY.measure(STUDY.configure("smoke", {}), pretended("residual_learning", tmp_path, lambda _: 0.0))
    found = {
        verdict.id.partition(".")[2]: verdict for verdict in STUDY.verdicts(measured) if verdict.kind == "statistical"
    }
    assert {verdict.verdict for verdict in found.values()} == {shrinks}
    effects = {
        "responses-are-smaller-than-plain": 0.7 - plain,
        "deeper-networks-respond-less": deep - 0.7,
        "a-block-changes-its-input-little": deep - 1,
        "training-makes-the-change-smaller": deep - 0.6,
    }
    assert {key: verdict.effect for key, verdict in found.items()} == pytest.approx(effects, abs=0.01)
    assert [series.name for series in measured.charts[0].series] == ["resnet-8", "resnet-14", "plain-8"]


@pytest.mark.slow  # trains nine small networks
def test_a_smoke_run_decides_every_claim(tmp_path: Path) -> None:
    record = run_study(STUDY, STUDY.configure("smoke", {}), Directory(tmp_path).prepare(STUDY), local(1)).record
    assert len(record.claims) == len(STUDY.claims) and len(record.charts) == 2
