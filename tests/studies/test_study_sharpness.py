"""The loss around trained weights, on curves whose figures are known."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import pretended
from torch import nn

from reslab.experiment.config import StudyConfig
from reslab.experiment.trials import Trial, Trials
from reslab.ledger.record import Reason
from reslab.measures.ruggedness import Surface, surface
from reslab.studies import sharpness
from reslab.studies.sharpness import STUDY


def test_a_bowl_is_not_rugged_whatever_its_height_and_a_saw_is() -> None:
    bowl = Surface([[float(step**2) for step in range(9)], [math.exp(step) for step in range(9)]])
    assert bowl.ruggedness == 0
    assert Surface([[0.0, 1.0, 0.5, 2.0, 1.0]]).ruggedness == 0.5


def test_sharpness_is_the_largest_rise_in_decades() -> None:
    assert Surface([[1.0, 100.0, 4.0], [1.0, 10.0, 0.0]]).sharpness == pytest.approx((math.log10(100) + 1) / 2)
    assert Surface([[3.0, 2.0, 1.0]]).sharpness == 0


def test_ways_begin_at_the_trained_weights_and_go_out_on_both_sides() -> None:
    class Fresh(Trial):
        def network(self) -> nn.Module:
            return self.fresh_network().eval()

    unused: Any = None
    trial = Fresh(("plain", 8), StudyConfig().trials("cifar_plain", depth=8)[0], {}, unused)
    x, y = trial.data().sample("train", 16)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(trial.network()(x), y).item()
    found = surface(trial, 16, 2, 3, 1.0)
    assert [len(way) for way in found.losses] == [4] * 4
    assert all(way[0] == pytest.approx(loss, rel=1e-5) for way in found.losses)
    assert len({way[-1] for way in found.losses}) == 4


@pytest.mark.parametrize(("as_claimed", "verdict"), [(True, "supported"), (False, "refuted")])
def test_opposite_data_turn_the_verdicts_round(
    as_claimed: bool, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deep network that is more rugged, and sharper, is the plain one, or the residual one; of shallow ones the
    other.
    """

    def pretend(trial: Trial, *_: object) -> Surface:
        kind, depth = trial.key
        rough = (kind == "plain") == (as_claimed if depth == 14 else not as_claimed)
        top = 9.0 + trial.seed % 2
        return Surface([[0.0, 5.0, 4.0, 8.0, top] if rough else [0.0, 0.1, 0.2, 0.3, 0.4]] * 2)

    monkeypatch.setattr(sharpness, "surface", pretend)
    trials = pretended("sharpness", tmp_path, lambda _: 0.0, seeds=12)
    found = STUDY.verdicts(STUDY.measure(STUDY.configure("smoke", {}), trials))
    assert {claim.verdict for claim in found} == {verdict}


def test_of_deep_networks_that_did_not_train_only_the_ruggedness_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharpness, "surface", lambda *_: Surface([[0.0, 1.0, 2.0, 3.0, 4.0]]))
    trials = pretended("sharpness", tmp_path, lambda group: 0.9 if group == "plain-14" else 0.0, seeds=12)
    found = {
        claim.id.partition(".")[2]: claim
        for claim in STUDY.verdicts(STUDY.measure(STUDY.configure("smoke", {}), trials))
    }
    sharper = found["deep-networks-are-sharper-without-skips"]
    assert sharper.reason is not None and sharper.reason.code == "untrained"
    assert found["deep-networks-are-more-rugged-without-skips"].verdict == "refuted"


def test_where_deep_networks_diverged_those_that_are_left_decide_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharpness, "surface", lambda *_: Surface([[0.0, 1.0, 2.0, 3.0, 4.0]]))
    trials = pretended("sharpness", tmp_path, lambda _: 0.0, seeds=12)
    lost = trials["plain", 14][0]
    rest = [trial for trial in trials["plain", 14] if trial is not lost]
    gone = lost._replace(result={**lost.result, "status": "diverged"})
    measured = STUDY.measure(STUDY.configure("smoke", {}), Trials({**trials, ("plain", 14): [gone, *rest]}))
    (rugged,) = [claim for claim in STUDY.verdicts(measured) if "rugged" in claim.id]
    assert rugged.reason == Reason(code="diverged", values={"gone": 1, "n": 12, "kind": "plain-14"})
