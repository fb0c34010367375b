"""Image folders: what is read, what is cached, what is refused."""

import errno
import os
import shutil
import struct
import unicodedata
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import refused
from helpers_fuzz import watchdog
from helpers_images import image_folder, write_image
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from reslab.data import Augment, cache, canonical, decoding, folder, load_data
from reslab.data.dataset import held_out
from reslab.data.images import Ragged, measure
from reslab.errors import (
    DamagedError,
    MismatchError,
    MissingError,
    UnknownNameError,
    UnusableError,
    UserError,
    WrongValueError,
)

LINKS = pytest.mark.skipif(os.name == "nt", reason="Windows lets few users make links")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded from here on."""
    names: list[str] = []
    decode = cache.decode

    def spy(path: Path, mode: str) -> torch.Tensor | None:
        names.append(path.name)
        return decode(path, mode)

    monkeypatch.setattr(cache, "decode", spy)
    return names


def caches(root: Path) -> list[str]:
    """Return the names of a folder's caches, finished or not."""
    return [each.name for each in (root / cache.DIRECTORY).iterdir() if cache.NAME.fullmatch(each.name)]


def pixels(path: Path) -> torch.Tensor:
    array = np.array(Image.open(path))
    return torch.from_numpy(array)[None] if array.ndim == 2 else torch.from_numpy(array).permute(2, 0, 1)


def test_images_of_one_size_are_the_files_in_order(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "사진 모음", [(6, 5)], train=12)
    data = load_data(f"folder:{root}")
    assert data.classes == ("b c", "가") and (data.num_classes, data.in_channels) == (2, 3)
    for name, numbers in (("train", [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11]), ("heldout", [9])):
        files = [root / "train" / label / f"{i:02}.png" for label in data.classes for i in numbers]
        images, labels = data.parts[name]  # type: ignore[index]  # a part's name
        assert torch.equal(images, torch.stack([pixels(file) for file in files]))
        assert labels.tolist() == [data.classes.index(file.parent.name) for file in files]
    assert [len(part.labels) for part in data.parts.values()] == [22, 2, 4]
    train = data.parts["train"].images.double() / 255  # type: ignore[union-attr]  # one size
    assert torch.tensor(data.statistics.mean).double().sub(train.mean((0, 2, 3))).abs().max() < 1e-6
    assert torch.tensor(data.statistics.std).double().sub(train.std((0, 2, 3), correction=0)).abs().max() < 1e-6
    assert (
        torch.tensor(data.statistics.covariance)
        .double()
        .sub(train.transpose(0, 1).flatten(1).cov(correction=0))
        .abs()
        .max()
        < 1e-6
    )
    assert data.train[0].mean((0, 2, 3)).abs().max() < 1e-5


def test_val_stands_for_test(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    (root / "test").rename(root / "val")
    assert len(load_data(f"folder:{root}").parts["test"].labels) == 4


@pytest.mark.filterwarnings("ignore:.*training images too")  # they are drawn alike
def test_decoded_once_and_again_when_anything_differs(tmp_path: Path, decoded: list[str]) -> None:
    root = image_folder(tmp_path / "a")
    name = f"folder:{root}"
    load_data(name)
    assert len(decoded) == 12
    load_data(name)
    assert len(decoded) == 12
    file = root / "train" / "가" / "00.png"
    os.utime(file, ns=(0, 0))
    load_data(name)
    assert len(decoded) == 24
    write_image(root / "test" / "가" / "02.png", (8, 8))
    assert len(load_data(name).parts["test"].labels) == 5 and len(decoded) == 37
    stamp = file.stat().st_mtime_ns
    Image.new("RGB", (8, 8), "red").save(file)
    os.utime(file, ns=(stamp, stamp))  # another size in bytes is enough
    assert torch.equal(load_data(name).parts["train"].images[3], pixels(file))  # type: ignore[index]  # one size; class b c has three before it
    assert len(caches(root)) == 1  # earlier states are gone


def in_place(first: Path, second: Path) -> None:
    contents = first.read_bytes(), second.read_bytes()
    for path, content in zip((second, first), contents, strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))


def by_renaming(first: Path, second: Path) -> None:
    first.rename(first.with_suffix(".aside"))
    second.rename(first)
    first.with_suffix(".aside").rename(second)


def whole_directories(first: Path, second: Path) -> None:
    by_renaming(first.parent, second.parent)


@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize("exchange", [in_place, by_renaming, whole_directories])
def test_images_exchanged_for_others_of_their_size_and_time_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: Callable[[Path, Path], None], dated: bool
) -> None:
    """Also where the system dates no changes: there it is the contents that are compared."""
    monkeypatch.setattr(cache, "CHANGES_ARE_DATED", dated and os.name == "posix")
    root = image_folder(tmp_path, test=1, mode="L")
    files = [root / "test" / name / "00.png" for name in ("b c", "가")]
    for level, file in enumerate(files):
        Image.new("L", (8, 8), 10 * level).save(file.with_suffix(".bmp"))  # of one size in bytes
        file.unlink()
    for file in files:
        os.utime(file.with_suffix(".bmp"), ns=(10**18, 10**18))
    levels, prints = [], set()
    for _ in range(2):
        data = load_data(f"folder:{root}")
        levels.append([int(image.max()) for image in data.parts["test"].images])  # type: ignore[union-attr]  # one size
        prints.add(data.fingerprint)
        exchange(*(file.with_suffix(".bmp") for file in files))
    assert levels == [[0, 10], [10, 0]] and len(prints) == 2


@pytest.mark.parametrize("kind", ["jpg", "png", "tiff", "webp"])
def test_images_are_seen_upright(tmp_path: Path, kind: str) -> None:
    root = image_folder(tmp_path, test=0)
    corner = np.zeros((6, 10), np.uint8)
    corner[:2, :2] = 255  # of the upright image
    for orientation, stored in enumerate(
        (
            corner,
            corner[:, ::-1],
            corner[::-1, ::-1],
            corner[::-1],
            corner.T,
            corner.T[::-1],
            corner.T[::-1, ::-1],
            corner.T[:, ::-1],
        ),
        start=1,
    ):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = root / "test" / "가" / f"{orientation}.{kind}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(stored)).convert("RGB").save(
            file, exif=exif, **({"quality": 100} if kind == "jpg" else {"lossless": True})
        )
    shutil.rmtree(root / "train" / "b c")
    with pytest.warns(UserWarning, match="only one class, 가, so every network will be right"):
        images = load_data(f"folder:{root}").parts["test"].images[torch.arange(8)]
    assert all(torch.equal(image > 127, (torch.from_numpy(corner) > 127).expand(3, -1, -1)) for image in images)


def test_an_image_with_damaged_notes_is_seen_as_it_is(tmp_path: Path) -> None:
    root = image_folder(tmp_path, test=1)
    for name in ("b c", "가"):
        with Image.open(root / "test" / name / "00.png") as image:
            image.save(root / "test" / name / "00.png", exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff")
    assert torch.equal(load_data(f"folder:{root}").parts["test"].images[0], pixels(root / "test" / "b c" / "00.png"))  # type: ignore[index]  # one size


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_what_transparency_hides_is_white(tmp_path: Path, mode: str) -> None:
    root = image_folder(tmp_path, test=0, mode="L" if mode in ("LA", "L") else "RGB")
    for number, hidden in enumerate((50, 200)):
        clear = np.zeros((8, 8), np.uint8)
        clear[4:] = 255  # what is seen: a black half
        levels = np.where(clear == 255, 0, hidden).astype(np.uint8)
        if mode in ("LA", "RGBA"):
            image = Image.fromarray(np.stack([levels] * (len(mode) - 1) + [clear], -1))
            extra = {}
        elif mode == "P":
            image = Image.fromarray((levels > 0).astype(np.uint8)).convert("P")
            image.putpalette([0, 0, 0, hidden, hidden, hidden])
            extra = {"transparency": 1}
        else:
            image = Image.fromarray(levels).convert(mode)
            extra = {"transparency": hidden if mode == "L" else (hidden,) * 3}
        for name in ("b c", "가"):
            (root / "test" / name).mkdir(parents=True, exist_ok=True)
            image.save(root / "test" / name / f"{number}.png", **extra)
    data = load_data(f"folder:{root}")
    assert data.in_channels == (1 if mode in ("LA", "L") else 3)
    seen = torch.cat([torch.full((4, 8), 255), torch.zeros(4, 8)])
    assert all(torch.equal(image, seen.expand_as(image)) for image in data.parts["test"].images)  # type: ignore[union-attr]  # one size


def test_images_of_many_sizes_are_never_resized_together(tmp_path: Path) -> None:
    root = image_folder(tmp_path, [(9, 12), (20, 8), (8, 8)])
    data = load_data(f"folder:{root}")
    images, labels = data.parts["test"]
    assert isinstance(images, Ragged) and images.channels == 3
    files = sorted((root / "test").rglob("*.png"))
    for image, file in zip(images[torch.arange(4)], files, strict=True):
        assert torch.equal(image, pixels(file))
    assert measure(images).mean == pytest.approx(
        torch.cat([pixels(file).flatten(1) for file in files], 1).double().mean(1).div(255).tolist()
    )
    with refused(MissingError, data.name, "size"):
        data.test  # noqa: B018  # the access is what is tested
    with refused(MissingError, data.name, "size"):
        next(data.batches("test"))
    fitted = data.fitted(7)
    ((batch, seen),) = fitted.batches("test")
    assert batch.shape == (4, 3, 7, 7) and torch.equal(seen, labels)
    assert torch.equal(fitted.test[0], batch) and torch.equal(fitted.test[1], labels)
    assert fitted.augment == Augment(shift=0, flip=True) and data.fitted(32).augment == Augment(shift=4, flip=True)
    whole = list(data.resized("test", 16, batch=1))
    assert sorted(tuple(x.shape[2:]) for x, _ in whole) == [(16, 40), (16, 40), (21, 16), (21, 16)]
    assert sorted(int(y) for _, y in whole) == [0, 0, 1, 1]


@pytest.mark.parametrize(("modes", "channels"), [(["L", "1"], 1), (["L", "RGB"], 3), (["RGBA", "P"], 3)])
def test_grey_stays_grey_and_anything_else_is_colour(tmp_path: Path, modes: list[str], channels: int) -> None:
    root = image_folder(tmp_path, mode="L")
    for i, mode in enumerate(modes):
        with Image.open(root / "train" / "가" / f"0{i}.png") as image:
            other = image.convert(mode)
        other.save(root / "train" / "가" / f"0{i}.png", **({"transparency": 0} if mode == "P" else {}))
    data = load_data(f"folder:{root}")
    assert data.in_channels == channels
    assert torch.equal(data.parts["test"].images[0], pixels(root / "test" / "b c" / "00.png").expand(channels, -1, -1))  # type: ignore[index]  # one size


def test_broken_images_are_named_and_refused_or_left_out(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    torn = root / "train" / "가" / "01.png"
    torn.write_bytes(torn.read_bytes()[:60])
    (root / "test" / "가" / "00.png").write_text("no image", encoding="utf-8")
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(root / "test" / "b c" / "00.png", "TIFF")
    with refused(DamagedError, "train/가/01.png", "folder:PATH?broken=skip"):
        load_data(f"folder:{root}")
    assert not caches(root)
    for _ in range(2):  # made, then read
        with pytest.warns(
            UserWarning, match=r"left out 3 of 12 images.*: train/가/01\.png, test/b c/00\.png, test/가/00\.png$"
        ):
            data = load_data(f"folder:{root}?broken=skip")
    assert [len(part.labels) for part in data.parts.values()] == [5, 2, 2]
    with refused(DamagedError, "train/가/01.png", "test/b c/00.png"):  # the cache does not hide them
        load_data(f"folder:{root}")


@pytest.mark.parametrize("broken", ["fractions", "torn"])
def test_what_is_left_out_does_not_decide_whether_the_others_are_grey(tmp_path: Path, broken: str) -> None:
    root = image_folder(tmp_path, mode="L")
    bad = root / "train" / "가" / "00.png"
    if broken == "torn":  # a sound header of colours
        write_image(bad, (40, 40))
        bad.write_bytes(bad.read_bytes()[:200])
    else:
        Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(bad, "TIFF")
    with pytest.warns(UserWarning, match="left out 1 of 12 images.*: train/가/00.png"):
        data = load_data(f"folder:{root}?broken=skip")
    assert data.in_channels == 1 and [len(part.labels) for part in data.parts.values()] == [5, 2, 4]
    assert torch.equal(data.parts["test"].images[0], pixels(root / "test" / "b c" / "00.png"))  # type: ignore[index]  # one size


def test_classes_that_lose_their_last_image_of_a_part_are_named(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    for lost in ("train/가/03.png", "test/b c/00.png", "test/b c/01.png"):
        (root / lost).write_bytes(b"")
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        load_data(f"folder:{root}?broken=skip")
    assert [str(note.message) for note in notes][1:] == [
        "no held-out image is left in 가",
        "no test image is left in b c",
    ]


def test_files_that_are_no_images_by_their_names_are_said_to_be_left_out(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    for name in ("test/가/notes.txt", "train/b c/deep/x.gif", "train/b c/.DS_Store"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    write_image(root / "train" / "loose.png", (8, 8))
    with pytest.warns(
        UserWarning,
        match=r"skipped, as they are in no class or do not end in \.jpg.* \(3\): "
        r"train/loose\.png, train/b c/deep/x\.gif, test/가/notes",
    ):
        data = load_data(f"folder:{root}")
    assert [len(part.labels) for part in data.parts.values()] == [6, 2, 4]


def test_a_part_of_broken_images_only_is_refused(tmp_path: Path) -> None:
    root = image_folder(tmp_path, test=1)
    for file in (root / "test").rglob("*.png"):
        file.write_bytes(b"")
    with refused(DamagedError, root, "test/b c/00.png"):
        load_data(f"folder:{root}?broken=skip")


def _without_test(root: Path) -> None:
    shutil.rmtree(root / "test")


def _a_file_for_train(root: Path) -> None:
    shutil.rmtree(root / "train")
    (root / "train").touch()


def _empty_class(root: Path) -> None:
    (root / "test" / "가" / "00.png").unlink()
    (root / "test" / "가" / "01.png").unlink()


def _one_image(root: Path) -> None:
    shutil.rmtree(root / "train" / "가")
    write_image(root / "train" / "가" / "00.png", (8, 8))


def _no_classes(root: Path) -> None:
    shutil.rmtree(root / "train")
    write_image(root / "train" / "00.png", (8, 8))


def _other_classes(root: Path) -> None:
    write_image(root / "test" / "다" / "00.png", (8, 8))


def _two_spellings(root: Path) -> None:
    write_image(root / "train" / unicodedata.normalize("NFD", "가") / "00.png", (8, 8))
    if len(list((root / "train").iterdir())) == 2:
        pytest.skip("this file system takes both spellings for one")


def _class_in_itself(root: Path) -> None:
    shutil.rmtree(root / "train" / "가")
    (root / "train" / "가").symlink_to("..", target_is_directory=True)


def _link_to_itself(root: Path) -> None:
    (root / "train" / "가" / "x").symlink_to("x")


def _one_part(root: Path) -> None:
    shutil.rmtree(root / "test")
    (root / "test").symlink_to("train", target_is_directory=True)


def _train_leads_nowhere(root: Path) -> None:
    shutil.rmtree(root / "train")
    (root / "train").symlink_to("nowhere")


def _classes_are_one(root: Path) -> None:
    shutil.rmtree(root / "train" / "가")
    (root / "train" / "가").symlink_to("b c", target_is_directory=True)


@pytest.mark.parametrize(
    ("break_it", "kind", "values"),
    [
        (_without_test, MissingError, ["test", "val", "test/CLASS/IMAGE"]),
        (_a_file_for_train, MissingError, ["train", "train/CLASS/IMAGE"]),
        (_empty_class, MissingError, ["test/가", 0]),
        (_one_image, MissingError, ["train/가", 1, 2]),
        (_no_classes, MissingError, ["train/CLASS/IMAGE"]),
        (_other_classes, MismatchError, ["다"]),
        (_two_spellings, MismatchError, ["가", r"'\u1100\u1161'", r"'\uac00'"]),
        pytest.param(_class_in_itself, MissingError, ["train/가", 0], marks=LINKS),
        pytest.param(_one_part, MismatchError, ["train", "test", "one directory"], marks=LINKS),
        pytest.param(_train_leads_nowhere, MissingError, ["train", "train/CLASS/IMAGE"], marks=LINKS),
        pytest.param(_classes_are_one, MismatchError, ["가", "b c", "one directory"], marks=LINKS),
        pytest.param(_link_to_itself, UnusableError, ["train/가/x"], marks=LINKS),
    ],
)
def test_a_layout_that_is_not_the_expected_one_is_told(
    tmp_path: Path, break_it: object, kind: type[UserError], values: list[object]
) -> None:
    root = image_folder(tmp_path)
    break_it(root)  # type: ignore[operator]  # a function
    with refused(kind, *values):
        load_data(f"folder:{root}")


@pytest.mark.parametrize("option", ["", "?broken=skip"])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError(errno.ENOTCONN, "Transport endpoint is not connected"), "not connected"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "No such file"),
        (MemoryError(), "memory"),
    ],
)
def test_an_image_that_the_system_does_not_let_be_read_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, fault: Exception, said: str
) -> None:
    root = image_folder(tmp_path)
    opened = decoding.Image.open

    def forbidden(path: Path, **how: object) -> Image.Image:
        if path.name == "03.png":
            raise fault
        return opened(path, **how)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(decoding.Image, "open", forbidden)
    with refused(UnusableError, "03.png", said):
        load_data(f"folder:{root}{option}")
    monkeypatch.undo()
    assert len(load_data(f"folder:{root}{option}").parts["train"].labels) == 6  # nothing was left out for good


def test_what_is_written_into_images_is_not_written_into_their_cache(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    images = load_data(f"folder:{root}").parts["train"].images
    assert isinstance(images, torch.Tensor)
    before = images.clone()
    images.zero_()
    again = load_data(f"folder:{root}").parts["train"].images
    assert isinstance(again, torch.Tensor) and torch.equal(again, before)


def test_large_images_are_decoded_and_measured_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [image_folder(tmp_path / name, train=5) for name in ("a", "b")]
    many = load_data(f"folder:{roots[0]}")
    monkeypatch.setattr(cache, "BYTES_AT_ONCE", 2 * 3 * 64)
    monkeypatch.setattr("reslab.data.images.MOST_VALUES", 2 * 3 * 64)
    few = load_data(f"folder:{roots[1]}")
    assert few.fingerprint == many.fingerprint
    assert few.statistics.std == pytest.approx(many.statistics.std, rel=1e-12)


def test_a_cache_that_another_process_tidies_away_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_folder(tmp_path)
    read = cache._read

    def tidied(place: Path, *more: object) -> object:
        monkeypatch.undo()
        shutil.rmtree(place)
        return read(place, *more)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(cache, "_read", tidied)
    assert len(load_data(f"folder:{root}").parts["train"].labels) == 6


def test_a_cache_that_may_only_be_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = image_folder(tmp_path)
    load_data(f"folder:{root}")
    monkeypatch.setattr(cache.os, "access", lambda path, mode: False)
    monkeypatch.setattr(cache, "_make", None)
    assert len(load_data(f"folder:{root}").parts["train"].labels) == 6


def test_an_earlier_cache_makes_room_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = image_folder(tmp_path)
    load_data(f"folder:{root}")
    write_image(root / "train" / "가" / "99.png", (8, 8), "RGB", seed=99)

    def free(path: Path) -> object:
        finished = [each for each in caches(root) if ".tmp" not in each]
        return shutil._ntuple_diskusage(10**9, 0, 0 if finished else 10**9)  # type: ignore[attr-defined]  # as returned

    monkeypatch.setattr(cache.shutil, "disk_usage", free)
    assert len(load_data(f"folder:{root}").parts["train"].labels) == 7


def _test_is_train(root: Path) -> None:
    shutil.rmtree(root / "test")
    shutil.copytree(root / "train", root / "test")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda root: shutil.rmtree(root / "test" / "가"), "no images of 가"),
        (lambda root: shutil.copytree(root / "test", root / "val"), "val is not used"),
        (lambda root: shutil.copytree(root / "test", root / "valid"), "valid is not used"),
        (lambda root: shutil.copy(root / "train/가/00.png", root / "train/가/03.png"), "1 of 2 held-out images are tr"),
        (_test_is_train, "test images are training images too"),
    ],
)
def test_what_makes_the_test_error_say_less_is_said(tmp_path: Path, change: Callable[[Path], None], told: str) -> None:
    root = image_folder(tmp_path)
    change(root)
    for _ in range(2):  # when they are decoded, and from the cache
        with pytest.warns(UserWarning, match=told):
            load_data(f"folder:{root}")


@pytest.mark.skipif(os.name == "nt", reason="Windows' names are Unicode")
def test_names_of_a_korean_windows_are_read_and_systems_directories_are_no_classes(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    for part in ("train", "test"):
        (root / part / "가").rename(root / part / os.fsdecode("고양이".encode("cp949")))
        (root / part / "__MACOSX").mkdir()
        write_image(root / part / "b c" / "@eaDir" / "00.png" / "SYNOPHOTO_THUMB_M.jpg", (4, 4))  # of a NAS
    assert not isinstance(load_data(f"folder:{root}").parts["train"].images, Ragged)
    assert load_data(f"folder:{root}").classes == ("b c", "고양이")
    for part in ("train", "test"):
        (root / part / os.fsdecode("고양이".encode("cp949"))).rename(root / part / os.fsdecode(b"\xff"))
    with refused(MismatchError, "CP949"):
        load_data(f"folder:{root}")


@pytest.mark.skipif(os.name == "nt", reason="Windows' names are Unicode")
def test_a_root_whose_name_is_not_utf_8_is_read(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode("사진".encode("cp949"))
    image_folder(tmp_path / "plain").rename(root)
    assert (
        load_data(f"folder:{root}").classes == load_data(f"folder:{root}").classes == ("b c", "가")
    )  # kept, then read


@pytest.mark.skipif(os.name == "nt", reason="Windows' roots have letters")
def test_paths_below_the_root_of_a_file_system_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = SimpleNamespace(path="/train/cat/0.png", is_file=lambda: False)
    monkeypatch.setattr(folder, "_walk", lambda _: iter([entry]))
    for part, path in (("/train", "train/cat/0.png"), ("/train/cat", "cat/0.png")):
        (images, _) = folder._files(Path(part), {"cat": "cat"}, ["cat"], 1)
        assert [image.path for image in images] == [path]


def test_a_test_part_may_spell_its_classes_another_way(tmp_path: Path) -> None:
    """An archive made on a Mac may have names in the decomposed form."""
    root = image_folder(tmp_path)
    (root / "test" / "가").rename(root / "test" / unicodedata.normalize("NFD", "가"))
    data = load_data(f"folder:{root}")
    assert data.classes == ("b c", "가") and data.parts["test"].labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("unlike", [(), ("x",)])
def test_classes_that_are_numbers_are_in_the_order_of_numbers(tmp_path: Path, unlike: tuple[str, ...]) -> None:
    """Where one is not, all are in the order of text."""
    names = [*(str(number) for number in range(8, 12)), *unlike]
    root = image_folder(tmp_path, classes=names, train=2, test=1)
    data = load_data(f"folder:{root}")
    ordered = sorted(names) if unlike else names
    assert data.classes == tuple(ordered) and data.preprocessing["classes"] == ordered
    for label, name in enumerate(ordered):
        assert torch.equal(data.parts["test"].images[label], pixels(root / "test" / name / "00.png"))  # type: ignore[index]  # one size


@pytest.mark.parametrize("part", ["test", "val"])
def test_a_test_part_alone_is_measured_and_not_trained_on(tmp_path: Path, part: str) -> None:
    root = image_folder(tmp_path)
    shutil.rmtree(root / "train")
    if part == "val":
        (root / "test").rename(root / "val")
    for _ in range(2):  # made, then read
        data = load_data(f"folder:{root}")
        assert list(data.parts) == ["test"] and (data.classes, data.in_channels) == (("b c", "가"), 3)
        assert data.parts["test"].labels.tolist() == [0, 0, 1, 1] and "4 test images" in data.describe()
    for needs in (
        lambda: data.labels,
        lambda: data.train,
        lambda: data.batches("heldout"),
        lambda: next(data.shuffled()),
    ):
        with refused(MissingError, data.name, "test"):
            needs()


SIXTEEN = np.array([[0, 128, 129, 257], [1000, 32_768, 65_406, 65_535]], np.uint16)
"""Levels, and what they are in 8 bits: the nearest of 257 times as much."""
EIGHT = [[0, 0, 1, 1], [4, 128, 254, 255]]


@pytest.mark.parametrize("kind", ["png", "tiff", "pgm", "big-endian tiff", "inverted tiff"])
def test_grey_levels_of_sixteen_bits_are_scaled(tmp_path: Path, kind: str) -> None:
    levels = SIXTEEN.astype(">u2") if kind == "big-endian tiff" else SIXTEEN
    more = {"tiffinfo": {262: 0}} if kind == "inverted tiff" else {}
    file = tmp_path / f"a.{kind.split()[-1]}"
    Image.fromarray(65_535 - SIXTEEN if kind == "inverted tiff" else levels).save(file, **more)
    for mode in ("L", "RGB"):
        assert decoding.decode(file, mode).tolist() == [EIGHT] * len(mode.strip("L") or "L")  # type: ignore[union-attr]  # not None
    assert decoding.header(file) == (True, 8)


def test_a_grey_level_of_sixteen_bits_may_be_transparent_and_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # what is stored as a row is seen as a column, its first pixel on top
    Image.fromarray(SIXTEEN[:1]).save(tmp_path / "a.png", transparency=257, exif=exif)
    assert decoding.decode(tmp_path / "a.png", "L").tolist() == [[[0], [0], [1], [255]]]  # type: ignore[union-attr]  # not None


def png(width: int, bits: int, row: int, transparent: int) -> bytes:
    """Return a grey PNG of one row of so many bits a level, one level of which is transparent."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, 1, bits, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"tRNS", struct.pack(">H", transparent)), (b"IDAT", zlib.compress(bytes([0, row])))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in [*parts, (b"IEND", b"")])


def test_a_grey_level_of_two_or_four_bits_may_be_transparent(tmp_path: Path) -> None:
    for bits, row, seen in ((4, 0x35, [255, 85]), (2, 0b01_10_0000, [255, 170])):
        (tmp_path / "a.png").write_bytes(png(2, bits, row, row >> (8 - bits)))
        assert decoding.decode(tmp_path / "a.png", "L").tolist() == [[seen]]  # type: ignore[union-attr]  # not None


def test_white_of_twelve_bits_is_white(tmp_path: Path) -> None:
    packed = bytes([0xFF, 0xFF, 0xFF, 0x80, 0x00, 0x00])  # 4095, 4095; 2048, 0
    tags = [(256, 2), (257, 2), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 2), (279, len(packed))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    content = struct.pack("<2sHI", b"II", 42, 8 + len(packed)) + packed
    (tmp_path / "a.tiff").write_bytes(content + struct.pack("<H", len(tags)) + entries + bytes(4))
    assert decoding.decode(tmp_path / "a.tiff", "L").tolist() == [[[255, 255], [128, 0]]]  # type: ignore[union-attr]  # not None


@pytest.mark.parametrize("kind", ["jpg", "tiff"])
def test_inks_are_seen_in_their_colours(tmp_path: Path, kind: str) -> None:
    """Magenta and yellow are red; black alone is grey, in an image of colours."""
    for name, inks, colour in (("a", (0, 255, 255, 0), (255, 0, 0)), ("b", (0, 0, 0, 155), (100, 100, 100))):
        file = tmp_path / f"{name}.{kind}"
        Image.new("CMYK", (8, 8), inks).save(file, **({"quality": 100} if kind == "jpg" else {}))
        seen = decoding.decode(file, "RGB")
        assert seen is not None and seen.shape == (3, 8, 8)
        assert (seen.int() - torch.tensor(colour)[:, None, None]).abs().max() <= 2
        assert decoding.header(file) == (False, 64)


def test_one_image_of_each_kind_is_handled_on_its_own(tmp_path: Path) -> None:
    """In one folder: none changes how the others are seen, and what is left out is counted."""
    root = image_folder(tmp_path)
    whole = pixels(root / "test" / "b c" / "01.png")
    for number, mode in enumerate(("CMYK", "P", "RGBA", "LA", "1", "I;16")):
        image = Image.fromarray(SIXTEEN.repeat(4, 0).repeat(2, 1)) if mode == "I;16" else Image.new(mode, (8, 8))
        image.save(root / "test" / "b c" / f"1{number}.{'tiff' if mode == 'CMYK' else 'png'}")
    Image.fromarray(np.zeros((8, 8), np.float32)).save(root / "test" / "b c" / "20.tiff")
    with pytest.warns(UserWarning, match=r"left out 1 of 19 images.*: test/b c/20\.tiff"):
        data = load_data(f"folder:{root}?broken=skip")
    images, labels = data.parts["test"]
    assert labels.tolist() == [0] * 8 + [1] * 2 and data.in_channels == 3
    assert torch.equal(images[1], whole)  # type: ignore[index]  # one size
    white, black = torch.full((3, 8, 8), 255), torch.zeros(3, 8, 8)
    for place, seen in zip(range(2, 7), (white, black, white, white, black), strict=True):
        assert torch.equal(images[place], seen)  # type: ignore[index]  # one size


@LINKS
def test_each_directory_is_read_once_whatever_links_to_it(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "images", classes=["a", "b"])
    write_image(root / "train" / "a" / "sub" / "09.png", (8, 8))
    outside = tmp_path / "elsewhere"
    write_image(outside / "c" / "00.png", (8, 8))
    (outside / "c" / "back").symlink_to(outside, target_is_directory=True)
    links = {
        "loop": ".",
        "root": "../..",
        "part": "..",
        "all": "/",
        "0": "sub",
        "again": "sub",
        "far": outside / "c",
        "farther": outside / "c",
    }
    for name, target in links.items():
        (root / "train" / "a" / name).symlink_to(target, target_is_directory=True)
    assert [file.path for file in folder._listed(root)[1]["train"] if file.label == 0] == [
        "train/a/00.png",
        "train/a/01.png",
        "train/a/02.png",
        "train/a/03.png",
        "train/a/far/00.png",
    ]  # and train/a/sub/09.png is held out


def test_directories_may_be_named_like_images(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    write_image(root / "test" / "가" / "x.png" / "y.png", (8, 8))
    assert len(load_data(f"folder:{root}").parts["test"].labels) == 5


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_what_is_no_regular_file_is_no_image(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    os.mkfifo(root / "train" / "가" / "0.png")
    (root / "train" / "가" / "00a.png").symlink_to("/dev/zero")
    (root / "test" / "가" / "2.png").symlink_to("nothing")
    with watchdog(), refused(DamagedError, "train/가/0.png", "train/가/00a.png"):
        load_data(f"folder:{root}")
    with pytest.warns(
        UserWarning, match=r"left out 3 of .* images.*: train/가/0\.png, train/가/00a\.png, test/가/2\.png$"
    ):
        assert [len(part.labels) for part in load_data(f"folder:{root}?broken=skip").parts.values()] == [6, 2, 4]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_directory_is_told_in_one_line(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    (root / "train" / "가").chmod(0)
    with refused(UnusableError, root, root / "train/가"):
        load_data(f"folder:{root}")


def test_names_with_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image_folder(tmp_path / "x").parent)
    assert canonical("folder:x?broken=skip") == f"folder:{(tmp_path / 'x').resolve()}?broken=skip"
    assert canonical("cifar10") == "cifar10" and canonical("cifar10:x") == f"cifar10:{(tmp_path / 'x').resolve()}"
    for name, kind, value in (
        ("folder:", MissingError, "''"),
        ("folder:y", MissingError, "'y'"),
        ("folder:x?broken=no", WrongValueError, "'no'"),
        ("digits:x", MismatchError, "digits"),
        ("foldr:x", UnknownNameError, "'foldr'; did you mean 'folder'"),
        ("x", UnknownNameError, "'x'; did you mean 'folder:x'"),
        ("folder:~nosuchuser/x", WrongValueError, "'~nosuchuser/x'"),
        ("cifar10:~nosuchuser", WrongValueError, "'~nosuchuser'"),
        ("cifar10:a\0b", WrongValueError, r"'a\x00b'"),
    ):
        with refused(kind, value):
            canonical(name)


def test_a_folder_that_cannot_be_written_to_is_cached_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_folder(tmp_path / "a")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setattr(cache.os, "access", lambda path, mode: False)
    load_data(f"folder:{root}")
    assert list((tmp_path / "cache").rglob("pixels.bin")) and not list(root.rglob("pixels.bin"))
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").touch()
    with refused(UnusableError, root, tmp_path / "cache"):
        load_data(f"folder:{root}")


def test_a_build_that_stops_leaves_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = image_folder(tmp_path)

    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_data(f"folder:{root}", progress=stop)
    assert not caches(root)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    with refused(UnusableError, root, "0.0 GB"):
        load_data(f"folder:{root}")


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = image_folder(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    with refused(UnusableError, root / cache.DIRECTORY, "No space left on device"):
        load_data(f"folder:{root}")
    assert not caches(root)


def test_two_processes_that_make_one_cache_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = image_folder(tmp_path)
    rename = Path.rename

    def second(self: Path, target: Path) -> Path:  # another process is a moment faster
        if self.suffix == ".tmp" and not target.exists():
            shutil.copytree(self, target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second)
    data = load_data(f"folder:{root}")
    assert len(caches(root)) == 1 and len(data.parts["test"].labels) == 4


def test_what_is_done_is_told(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    told = []
    load_data(f"folder:{root}", progress=lambda *what: told.append(what))
    assert told[-1][1:] == (12, 12) and str(root / cache.DIRECTORY) in told[-1][0]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80))
def test_the_held_out_part_takes_a_tenth_of_each_class(labels: list[int]) -> None:
    target = torch.tensor(labels)
    counts = target.bincount()
    if (counts == 1).any():
        with refused(MissingError, "one"):
            held_out(target)
        return
    assert target[held_out(target)].bincount(minlength=len(counts)).tolist() == [
        n if n == 0 else max(1, n // 10) for n in counts.tolist()
    ]


def test_a_constant_channel_is_refused() -> None:
    with refused(UnusableError):
        measure(torch.full((3, 3, 4, 4), 7, dtype=torch.uint8))


def test_the_names_of_images_are_those_of_torchvisions_folders() -> None:
    assert decoding.SUFFIXES == IMG_EXTENSIONS
