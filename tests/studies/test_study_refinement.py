"""Which way blocks point, on networks whose answer is known."""

from pathlib import Path

import pytest
from helpers import pretended

from reslab.experiment.trials import Trial
from reslab.measures.cosines import Cosines
from reslab.studies import refinement
from reslab.studies.refinement import STUDY


def test_halves_are_of_each_stage_and_spare_the_middle() -> None:
    found = Cosines([0.0] * 5, [1.0, 9.0, 3.0, 5.0, 7.0], [3, 2])
    assert found.early_and_late == ((1 + 5) / 2, (3 + 7) / 2)


@pytest.mark.parametrize(("sign", "verdict"), [(1, "supported"), (-1, "refuted")])
def test_opposite_data_turn_the_verdicts_round(
    sign: int, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(trial: Trial, *_: object) -> Cosines:
        noise = (0.01, -0.01, 0.0)[trial.seed % 3]
        after = [sign * 0.1 + noise, sign * 0.4 + noise] * 2
        return Cosines([0.0] * 4, after, [2, 2])

    monkeypatch.setattr(refinement, "cosines", pretend)
    trials = pretended("refinement", tmp_path, lambda _: 0.0, seeds=12)
    found = STUDY.verdicts(STUDY.measure(STUDY.configure("smoke", {}), trials))
    assert {claim.verdict for claim in found} == {verdict}
    # the second and third are of one network each
    assert [claim.method for claim in found] == ["t", "paired t", "paired t"]


def test_networks_that_were_not_trained_decide_nothing(tmp_path: Path) -> None:
    trials = pretended("refinement", tmp_path, lambda _: 0.9, status="diverged")
    measured = STUDY.measure(STUDY.configure("smoke", {}), trials)
    assert {claim.reason and claim.reason.code for claim in STUDY.verdicts(measured)} == {"untrained"}
