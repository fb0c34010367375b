"""Views of images: the paper's single view and its augmentation for ImageNet."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers import refused
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Generator

from reslab.data import ScaleCrop
from reslab.data.images import LONGEST, Framing, measure, resize_shorter, single_view
from reslab.errors import WrongValueError

SPREAD = ((0.06, 0.05, 0.04), (0.05, 0.06, 0.05), (0.04, 0.05, 0.07))


def image(h: int, w: int, channels: int = 3) -> torch.Tensor:
    return torch.randint(256, (channels, h, w), dtype=torch.uint8)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 50))
def test_the_shorter_side_is_as_asked_and_proportions_are_kept(h: int, w: int, side: int) -> None:
    height, width = resize_shorter(image(h, w), side).shape[1:]
    assert min(height, width) == side
    assert max(height, width) == pytest.approx(side * min(LONGEST, max(h, w) / min(h, w)), abs=1)


@pytest.mark.parametrize("shape", [(3, 1, 501), (3, 501, 1), (1, 2, 90)])
def test_of_a_strip_of_pixels_the_middle_is_resized(shape: tuple[int, int, int]) -> None:
    """All of it would be a thousand times the square that a network sees."""
    strip = image(*shape[1:], channels=shape[0])
    start = (max(shape) - LONGEST * min(shape[1:])) // 2
    middle = strip.narrow(1 if shape[1] > shape[2] else 2, start, LONGEST * min(shape[1:]))
    assert torch.equal(resize_shorter(strip, 9), resize_shorter(middle, 9))
    assert single_view(strip, 224).shape == (shape[0], 224, 224)
    (crop,) = ScaleCrop((256, 480), 224, 0.0, SPREAD if shape[0] == 3 else ((0.05,),))(
        [strip], 255.0, Generator().manual_seed(0)
    )
    assert crop.shape == (shape[0], 224, 224)


def test_resizing_agrees_with_pillow() -> None:
    original = image(50, 80)
    for side in (20, 97):
        resized = resize_shorter(original, side)
        pillow = Image.fromarray(original.permute(1, 2, 0).numpy()).resize(
            resized.shape[:0:-1], Image.Resampling.BILINEAR
        )
        assert (resized.permute(1, 2, 0).int() - torch.from_numpy(np.array(pillow)).int()).abs().max() <= 1


def test_the_single_view() -> None:
    assert single_view(image(300, 400), 224).shape == (3, 224, 224)
    same = image(32, 32)
    assert single_view(same, 32) is same
    of_256 = image(256, 300)
    assert torch.equal(single_view(of_256, 224), of_256[:, 16:240, 38:262])
    assert single_view(image(5, 4), 224).shape == (3, 224, 224)  # small images grow


@given(st.integers(6, 9), st.integers(6, 9), st.integers(0, 2**31))
def test_every_crop_is_a_window_of_its_resized_image_maybe_mirrored(h: int, w: int, seed: int) -> None:
    images = [image(h, w), image(w, h)]
    crops = ScaleCrop((6, 8), 5, 0.0, SPREAD)(images, 255.0, Generator().manual_seed(seed))
    assert crops.shape == (2, 3, 5, 5)
    for original, crop in zip(images, crops, strict=True):
        resized = [resize_shorter(original, side).float() / 255 for side in (6, 7, 8)]
        windows = [
            x[:, i : i + 5, j : j + 5] for x in resized for i in range(x.shape[1] - 4) for j in range(x.shape[2] - 4)
        ]
        assert any(torch.equal(crop, window) or torch.equal(crop, window.flip(2)) for window in windows)


def test_images_of_a_batch_are_cropped_differently_and_the_generator_decides() -> None:
    augment = ScaleCrop((6, 12), 5, 0.1, SPREAD)
    images = [image(8, 10)] * 64
    first = augment(images, 255.0, Generator().manual_seed(1))
    assert torch.equal(first, augment(images, 255.0, Generator().manual_seed(1)))
    assert not torch.equal(first, augment(images, 255.0, Generator().manual_seed(2)))
    assert len({crop.numpy().tobytes() for crop in first}) == 64


def test_every_place_and_both_mirrors_are_reached() -> None:
    """A crop that can never touch the last row or column is a known mistake."""
    original = torch.arange(36, dtype=torch.uint8).view(1, 6, 6)
    crops = ScaleCrop((6, 6), 5, 0.0, ((0.05,),))([original] * 200, 1.0, Generator().manual_seed(0))
    assert {(int(crop[0, 0].min()), bool(crop[0, 0, 0] > crop[0, 0, -1])) for crop in crops} == {
        (i, m) for i in (0, 1, 6, 7) for m in (False, True)
    }


def test_colours_move_along_the_principal_components() -> None:
    """Σ aᵢ λᵢ pᵢ with a = Pᵀ z, component by component, is what the product with the covariance gives."""
    covariance = torch.tensor(SPREAD)
    shifts = ScaleCrop((6, 6), 5, 0.1, SPREAD).colours(500, Generator().manual_seed(5))
    variances, components = torch.linalg.eigh(covariance)
    a = 0.1 * torch.randn(500, 3, generator=Generator().manual_seed(5)) @ components
    assert torch.allclose(shifts, sum(a[:, i, None] * variances[i] * components[:, i] for i in range(3)), atol=1e-6)  # type: ignore[arg-type]  # not 0
    assert a.std(0).div(0.1).sub(1).abs().max() < 0.1  # each multiple keeps the standard deviation


def test_the_colour_shift_is_one_for_all_pixels_of_an_image() -> None:
    grey = torch.full((3, 6, 6), 100, dtype=torch.uint8)
    crops = ScaleCrop((6, 6), 5, 0.1, SPREAD)([grey] * 4, 255.0, Generator().manual_seed(0)) - 100 / 255
    assert crops.flatten(2).std(2).max() < 1e-6 and crops[:, :, 0, 0].unique(dim=0).shape[0] == 4


@given(st.integers(1, 3), st.integers(2, 5))
def test_statistics_are_of_all_pixels(channels: int, n: int) -> None:
    images = torch.randint(256, (n, channels, 4, 3), dtype=torch.uint8)
    flat = images.double().div(255).transpose(0, 1).flatten(1)
    found = measure(images)
    assert found.mean == pytest.approx(flat.mean(1).tolist()) and found.std == pytest.approx(
        flat.std(1, correction=0).tolist()
    )
    assert torch.tensor(found.covariance).double().sub(flat.cov(correction=0)).abs().max() < 1e-6


@pytest.mark.parametrize("settings", [{"resize": 200_000}, {"size": 0}, {"interpolation": "foo"}])
def test_a_framing_that_cannot_be_is_refused(settings: dict[str, Any]) -> None:
    with refused(WrongValueError):
        Framing(**{"size": 224, "resize": 256, **settings})
