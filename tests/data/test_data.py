"""The digits, their split, and augmentation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import refused
from hypothesis import given
from hypothesis import strategies as st

from reslab.data import Augment, digits, load_data
from reslab.data.batches import first
from reslab.data.classes import match
from reslab.data.dataset import Part
from reslab.errors import MismatchError, UnknownNameError, WrongValueError


def test_the_digits_are_whole_and_standardised() -> None:
    data = load_data("digits")
    images = data.train[0]
    assert images.mean((0, 2, 3)).abs().max() < 1e-5
    assert (images.std((0, 2, 3)) - 1).abs().max() < 1e-5
    for x, y in (data.train, data.heldout, data.test):
        assert x.dtype == torch.float32 and y.dtype == torch.int64 and len(x) == len(y)
        assert set(y.tolist()) == set(range(data.num_classes))
    assert images.shape[1] == data.in_channels


def test_the_split_of_the_digits_is_the_stated_one() -> None:
    from sklearn.datasets import load_digits

    data = load_data("digits")
    target = torch.from_numpy(load_digits().target)
    assert [len(part[1]) for part in (data.train, data.heldout, data.test)] == [1307, 163, 327]
    assert torch.equal(data.test[1], torch.stack([target[i] for i in range(1797) if i % 11 in (0, 5)]))
    assert torch.equal(data.heldout[1], target[8::11])


def test_the_digits_are_those_of_scikit_learn_whose_file_alone_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.datasets import load_digits

    table = digits._table()
    images, labels = load_digits(return_X_y=True)
    assert np.array_equal(table[:, :-1], images) and np.array_equal(table[:, -1], labels)
    monkeypatch.setattr(digits, "find_spec", lambda _: None)
    assert np.array_equal(digits._table(), table)  # of a library that keeps its file elsewhere


def test_a_few_images_are_the_first_ones() -> None:
    data = load_data("digits")
    images, labels = data.heldout
    for count in (1, 4, len(labels), 10**6):
        few, their_labels = data.sample("heldout", count)
        assert torch.equal(few, images[:count]) and torch.equal(their_labels, labels[:count])


def test_a_few_images_are_spread_over_a_part_that_comes_class_by_class() -> None:
    data = load_data("digits")
    order = data.parts["heldout"].labels.argsort(stable=True)
    data = replace(data, parts={**data.parts, "heldout": Part(*(part[order] for part in data.parts["heldout"]))})
    images, labels = data.heldout
    for count in (1, 4, 10, len(labels), 10**6):
        few, their_labels = data.sample("heldout", count)
        places = [i * len(labels) // count for i in range(count)] if count < len(labels) else slice(None)
        assert torch.equal(few, images[places]) and torch.equal(their_labels, labels[places])
    assert set(data.sample("heldout", 20)[1].tolist()) == set(range(10))


def test_labels_follow_the_names_of_classes() -> None:
    data = load_data("digits")
    names = ["ten", *reversed(data.classes)]
    matched = match(data.classes, names)
    assert matched.by == "name"
    other = data.labelled(names, matched.places)
    assert other.classes == tuple(names) and other.num_classes == 11
    for part in ("train", "heldout", "test"):
        assert [names[label] for label in other.parts[part].labels] == [
            data.classes[label] for label in data.parts[part].labels
        ]
        assert other.parts[part].images is data.parts[part].images
    with refused(MismatchError, "0, 1, 2, 3, 4 and 4 more", 9):
        match(data.classes, names[-1:1:-1])


def test_a_few_images_are_spread_over_classes_in_any_order() -> None:
    data = load_data("digits")
    order = data.parts["heldout"].labels.argsort(stable=True)
    data = replace(data, parts={**data.parts, "heldout": Part(*(part[order] for part in data.parts["heldout"]))})
    other = data.labelled(data.classes[::-1], range(9, -1, -1))
    assert torch.equal(other.sample("heldout", 20)[0], data.sample("heldout", 20)[0])


def test_a_data_set_is_shown_in_a_line() -> None:
    data = load_data("digits")
    assert repr(data).startswith(
        "Dataset digits: 10 classes; 1,307 training, 163 held-out and 327 test images, 1×8×8; "
    )
    assert repr(data.parts["test"]) == "Part of 327 images"


def test_an_unknown_data_set_suggests_the_nearest() -> None:
    with refused(UnknownNameError, "'digit'; did you mean 'digits'"):
        load_data("digit")


@given(st.integers(0, 3), st.booleans(), st.integers(0, 2**31), st.integers(1, 3), st.integers(3, 7), st.integers(3, 7))
def test_every_augmented_image_is_a_shifted_maybe_mirrored_original(
    shift: int, flip: bool, seed: int, c: int, h: int, w: int
) -> None:
    images = torch.rand(4, c, h, w) + 1
    out = Augment(shift, flip)(images, torch.Generator().manual_seed(seed))
    assert out.shape == images.shape
    for image, result in zip(images, out, strict=True):
        padded = torch.nn.functional.pad(image, (shift,) * 4)
        crops = [padded[:, y : y + h, x : x + w] for y in range(2 * shift + 1) for x in range(2 * shift + 1)]
        candidates = crops + [crop.flip(2) for crop in crops if flip]
        assert any(torch.equal(result, candidate) for candidate in candidates)


def test_images_of_a_batch_move_differently_and_the_generator_decides() -> None:
    images = torch.rand(64, 1, 8, 8)
    augment = Augment(shift=2, flip=True)
    first = augment(images, torch.Generator().manual_seed(1))
    assert torch.equal(first, augment(images, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, augment(images, torch.Generator().manual_seed(2)))
    same_image = augment(images[:1].expand(64, -1, -1, -1), torch.Generator().manual_seed(3))
    assert len({image.numpy().tobytes() for image in same_image}) > 20


def test_cutout_blanks_one_square_that_may_reach_over_the_edge() -> None:
    images = torch.ones(200, 2, 9, 9)
    out = Augment(shift=0, flip=False, cutout=4)(images, torch.Generator().manual_seed(0))
    corners = set()
    for image in out:
        assert torch.equal(image[0], image[1])
        rows, columns = (torch.nonzero((image[0] == 0).any(axis))[:, 0] for axis in (1, 0))
        height, width = len(rows), len(columns)
        assert (image[0] == 0).sum() == height * width  # a rectangle without holes
        assert 2 <= height <= 4 and 2 <= width <= 4  # at least half of it is inside
        assert height == 4 or rows[0] == 0 or rows[-1] == 8
        corners.add((int(rows[0]), int(columns[0])))
    assert len(corners) > 30


def test_the_side_of_images_of_one_size_is_kept_with_the_weights() -> None:
    digits = load_data("digits")
    assert digits.side == digits.preprocessing["size"] == 8 and digits.size is None
    narrow = {name: Part(images[..., :6], labels) for name, (images, labels) in digits.parts.items()}  # type: ignore[index]  # tensors
    assert replace(digits, parts=narrow).side is None
    assert replace(digits, parts={**digits.parts, "test": narrow["test"]}).side is None
    assert replace(digits, parts=narrow, size=4).side == 4


def test_a_whole_part_is_seen_as_its_batches_are() -> None:
    small = replace(load_data("digits"), size=4)
    assert torch.equal(small.test[0], torch.cat([images for images, _ in small.batches("test")]))
    assert small.test[0].shape[1:] == (1, 4, 4)


def test_images_of_a_loader_that_differ_in_shape_are_told() -> None:
    batches = [(torch.zeros(1, 3, height, 30), torch.zeros(1).long()) for height in (40, 50)]
    with refused(WrongValueError, "(3, 40, 30)", "(3, 50, 30)", "resize"):
        first(batches, None)


def test_labels_that_are_changed_are_changed_for_nobody_else() -> None:
    _, labels = load_data("digits").train
    before = labels.clone()
    labels.zero_()
    assert torch.equal(load_data("digits").train[1], before)
