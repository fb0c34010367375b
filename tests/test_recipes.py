"""Learning rates, by hand."""

import pytest
from pydantic import ValidationError

from reslab.training.recipes import FAST, PAPER_CIFAR, PAPER_CIFAR_WARMUP, RECIPES, OneCycle, Recipe


def test_the_papers_schedule() -> None:
    rates = {step: PAPER_CIFAR.rate(step, 64_000) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)}
    assert rates == pytest.approx({0: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 63_999: 0.001})
    assert PAPER_CIFAR.total_iterations(390) == 64_000


def test_the_warm_up_ends() -> None:
    """A known reimplementation sets 0.01 for the 110-layer network once and never returns to 0.1."""
    rates = {step: PAPER_CIFAR_WARMUP.rate(step, 64_000) for step in (0, 399, 400, 401, 31_999, 32_000, 48_000)}
    assert rates == pytest.approx({0: 0.01, 399: 0.01, 400: 0.1, 401: 0.1, 31_999: 0.1, 32_000: 0.01, 48_000: 0.001})


def test_one_cycle_by_hand() -> None:
    schedule = OneCycle(peak=0.25)  # 8 steps: the top is at 2
    assert [schedule.rate(1.0, step, 8) for step in range(8)] == pytest.approx([0.25, 0.75, 11 / 12, 9 / 12, 7 / 12, 5 / 12, 3 / 12, 1 / 12])


def test_recipes_are_frozen_and_refuse_contradictions() -> None:
    with pytest.raises(ValidationError):
        FAST.learning_rate = 1.0  # type: ignore[misc]  # frozen
    with pytest.raises(ValidationError, match="exactly one"):
        Recipe(**{**FAST.model_dump(), "iterations": 5})
    with pytest.raises(ValidationError, match="Extra inputs"):
        Recipe(**{**FAST.model_dump(), "lr": 5})
    assert all(name == recipe.name for name, recipe in RECIPES.items())
