"""Learning rates, by hand."""

import pytest
from pydantic import ValidationError

from reslab.training.recipes import (
    FAST,
    FAST_CIFAR,
    PAPER_CIFAR,
    PAPER_CIFAR_WARMUP,
    PAPER_IMAGENET,
    RECIPES,
    OneCycle,
    Recipe,
    ScaleCrop,
    recipe_for,
)


def test_the_papers_schedule() -> None:
    rates = {step: PAPER_CIFAR.rate(step, 64_000) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)}
    assert rates == pytest.approx({0: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 63_999: 0.001})
    assert PAPER_CIFAR.total_iterations(390) == 64_000


def test_the_warm_up_ends() -> None:
    """A known reimplementation sets 0.01 for the 110-layer network once and never returns to 0.1."""
    rates = {step: PAPER_CIFAR_WARMUP.rate(step, 64_000) for step in (0, 399, 400, 401, 31_999, 32_000, 48_000)}
    assert rates == pytest.approx({0: 0.01, 399: 0.01, 400: 0.1, 401: 0.1, 31_999: 0.1, 32_000: 0.01, 48_000: 0.001})


def test_a_short_run_leaves_the_warm_up_after_a_tenth() -> None:
    rates = [PAPER_CIFAR_WARMUP.rate(step, 100) for step in (0, 9, 10, 49, 50, 75)]
    assert rates == pytest.approx([0.01, 0.01, 0.1, 0.1, 0.01, 0.001])
    # in 4,000 the whole warm-up fits
    assert [PAPER_CIFAR_WARMUP.rate(step, 4_000) for step in (399, 400)] == [0.01, 0.1]
    assert PAPER_CIFAR_WARMUP.rate(0, 9) == 0.1  # and in nine there is no room for one


def test_the_papers_imagenet_recipe() -> None:
    rates = {step: PAPER_IMAGENET.rate(step, 600_000) for step in (0, 149_999, 150_000, 299_999, 300_000, 599_999)}
    assert rates == pytest.approx({0: 0.1, 149_999: 0.1, 150_000: 0.01, 299_999: 0.01, 300_000: 0.001, 599_999: 0.001})
    images = 1_281_167  # ImageNet's training images
    assert [round(iterations * 256 / images) for iterations in (150_000, 300_000, 600_000)] == [30, 60, 120]  # epochs
    augment = PAPER_IMAGENET.augment
    assert isinstance(augment, ScaleCrop) and (augment.shorter, augment.crop, augment.colour) == ((256, 480), 224, 0.1)
    assert (PAPER_IMAGENET.batch_size, PAPER_IMAGENET.momentum, PAPER_IMAGENET.weight_decay) == (256, 0.9, 1e-4)
    assert PAPER_IMAGENET.total_iterations(5_004) == 600_000
    with pytest.raises(ValidationError, match="crop and sides"):
        ScaleCrop(shorter=(200, 480))


def test_the_milestones_move_with_the_length() -> None:
    assert [PAPER_CIFAR.rate(step, 100) for step in (49, 50, 74, 75, 99)] == pytest.approx(
        [0.1, 0.01, 0.01, 0.001, 0.001]
    )


def test_one_cycle_by_hand() -> None:
    schedule = OneCycle(peak=0.25)  # 8 steps: the top is at 2
    assert [schedule.rate(1.0, step, 8) for step in range(8)] == pytest.approx(
        [0.25, 0.75, 11 / 12, 9 / 12, 7 / 12, 5 / 12, 3 / 12, 1 / 12]
    )


def test_recipes_are_frozen_and_refuse_contradictions() -> None:
    with pytest.raises(ValidationError):
        FAST.learning_rate = 1.0  # type: ignore[misc]  # frozen
    with pytest.raises(ValidationError, match="exactly one"):
        Recipe(**{**FAST.model_dump(), "iterations": 5})
    with pytest.raises(ValidationError, match="cutout needs augment=true"):
        Recipe(**{**FAST.model_dump(), "augment": False, "cutout": 8})
    with pytest.raises(ValidationError, match="Extra inputs"):
        Recipe(**{**FAST.model_dump(), "lr": 5})
    assert all(name == recipe.name for name, recipe in RECIPES.items())


def test_fast_is_one_thing_for_the_digits_and_another_for_larger_data() -> None:
    assert recipe_for("digits", "fast") is FAST
    assert (
        recipe_for("cifar10", "fast") is recipe_for("folder:/a place", "fast") is FAST_CIFAR
        and FAST_CIFAR.name == "fast"
    )
    assert recipe_for("cifar10", "paper-cifar") is PAPER_CIFAR
