"""The study of patience: longer recipes, and the sides that its claims name."""

from pathlib import Path

import pytest
from helpers import pretended, refused

from reslab.errors import WrongValueError
from reslab.experiment.config import StudyConfig, longer
from reslab.studies.patience import STUDY


def test_a_recipe_is_stretched_in_whatever_it_counts() -> None:
    (trial, *_) = StudyConfig(data="digits", epochs=3).trials("cifar_plain", depth=8)
    assert longer(trial, 4).recipe == trial.recipe.model_copy(update={"epochs": 12})
    steps = trial.model_copy(update={"recipe": trial.recipe.model_copy(update={"epochs": None, "iterations": 50})})
    assert longer(steps, 3).recipe.iterations == 150 and longer(steps, 3).recipe.epochs is None
    assert longer(trial, 1) == trial


def test_each_length_is_trained_and_compared_by_itself() -> None:
    grid = STUDY.grid(STUDY.configure("default", {"seeds": 2}))
    lengths = {key: {trial.recipe.epochs for trial in trials} for key, trials in grid.items()}
    assert set(lengths) == {
        (*network, times) for network in (("plain", 20), ("plain", 56), ("resnet", 56)) for times in (3, 10)
    }
    assert {times: lengths["plain", 56, times] for times in (3, 10)} == {3: {21}, 10: {70}}


@pytest.mark.parametrize("lengths", [[10, 3], [3, 3]])
def test_the_second_length_is_the_longer_one(lengths: list[int]) -> None:
    with refused(WrongValueError, "lengths", "increasing", "3"):
        STUDY.configure("default", {"lengths": lengths})


@pytest.mark.parametrize(("late", "stuck"), [(0.3, "supported"), (0.0, "refuted")])
def test_stuck_is_what_is_still_worse_in_the_end(late: float, stuck: str, tmp_path: Path) -> None:
    errors = {"plain-14-1": 0.4, "plain-14-2": late}
    trials = pretended("patience", tmp_path, lambda group: errors.get(group, 0.0))
    verdicts = STUDY.verdicts(STUDY.measure(STUDY.configure("smoke", {}), trials))
    found = {verdict.id.partition(".")[2]: verdict for verdict in verdicts}
    assert found["still-worse-with-more-steps"].verdict == "supported"
    assert found["still-worse-with-many-more-steps"].verdict == stuck
    assert found["still-worse-with-many-more-steps"].effect == pytest.approx(late)
    assert found["residual-is-done-by-then"].verdict == "supported"
