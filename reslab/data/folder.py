"""`folder:PATH`: a folder of images, `PATH/train/CLASS/…` and `PATH/test/CLASS/…`, or only the latter, of any size,
grey or colour.

They are decoded once, into `PATH/.reslab-cache` (or the user's cache directory if PATH is read-only), as a viewer shows
them: upright (EXIF), transparent parts on white, 16-bit grey in 8 bits. Only the first frame or page is read.
"""

import os
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from reslab.data.augment import Augment
from reslab.data.cache import Cached, File, decoded, file
from reslab.data.dataset import HELD_OUT_RULE, Dataset, Part, PartName, held_out
from reslab.data.decoding import SUFFIXES
from reslab.data.places import full_path
from reslab.errors import MismatchError, MissingError, Wording, WrongValueError, few, first_few, worded
from reslab.naming import BROKEN
from reslab.progress import Progress

OF_SYSTEMS = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found")
"""Directories of operating systems, among them thumbnails and deleted files, whose images are none of the data set."""
MOST_REPEATED = 0.01
"""The share of held-out or test images that may be training images too; CIFAR-10 has some."""
FOR_CHOICES = ("val", "valid", "validation", "dev")
"""Names under which others keep images for choices."""
WORDS: dict[PartName, str] = {"train": "train", "heldout": "held-out", "test": "test"}


def folder(argument: str, download: bool, progress: Progress) -> Dataset:
    """Return the images of `PATH` or `PATH?broken=skip`, classes sorted by name, numerically if all names are numbers;
    there is nothing to download.

    `val` is used if there is no `test`. The held-out part is taken from `train`, so that nothing is chosen on the test
    part. Without `train` there is only a test part, for networks with their own mean and standard deviation. Images of
    one size are a tensor; others keep their size and are resized batch by batch. Skipped files and likely mistakes
    cause a warning.

    Raises:
        UserError: if part of the layout is missing or unreadable, or an image cannot be decoded and broken ones are not
            to be skipped.
    """
    root, skip_broken = parse(argument)
    classes, parts = _listed(root)
    found = decoded(root, list(parts.values()), skip_broken, progress)
    if found.skipped:
        _tell_of_lost_classes(classes, parts, found)
    for part, count, (_, labels) in zip(parts, found.repeated, found.parts, strict=True):
        if count > MOST_REPEATED * len(labels):
            warnings.warn(
                f"{count:,} of {len(labels):,} {WORDS[part]} images are training images too, so the {WORDS[part]} "
                "error says little",
                stacklevel=2,
            )
    return Dataset(
        name=f"folder:{argument}",
        parts={name: Part(*part) for name, part in zip(parts, found.parts, strict=True)},
        classes=tuple(classes),
        statistics=found.statistics,
        augment=Augment(shift=found.shortest // 8, flip=True),
        split_rule=HELD_OUT_RULE if "heldout" in parts else Wording("nothing to train on", "학습할 이미지가 없다"),
        fingerprint=found.fingerprint,
    )


def parse(argument: str) -> tuple[Path, bool]:
    """Return the path, and whether broken images are to be skipped.

    Raises:
        UserError: if there is no such directory or the option is not one.
    """
    path, _, broken = argument.partition(BROKEN)
    if broken not in ("", "skip", "refuse"):
        raise WrongValueError(*worded("broken-option", argument=argument, broken=broken))
    root = full_path(path)
    if not path or not root.is_dir():
        raise MissingError(*worded("no-folder", path=path))
    return root, broken == "skip"


def _listed(root: Path) -> tuple[list[str], dict[PartName, list[File]]]:
    """Return the classes, and the image files of each part."""
    test = _part(root, "test", "val")
    of_test = _directories(test)
    if not os.path.lexists(root / "train"):
        classes = list(of_test)
        testing, loose = _files(test, of_test, classes, at_least=1)
        _tell_of_left_out(_loose(test) + loose)
        return classes, {"test": testing}
    train = _part(root, "train")
    directories = _directories(train)
    classes = list(directories)
    if train.samefile(test):
        raise MismatchError(*worded("parts-are-one", train=train, test=test))
    for name in FOR_CHOICES:
        if name != test.name and (root / name).is_dir():
            warnings.warn(f"{root / name} is not used: the held-out images are taken from {train}", stacklevel=4)
    if missing := [name for name in directories if name not in of_test]:
        warnings.warn(f"{test} has no images of {first_few(missing)}", stacklevel=4)
    unknown = [name for name in of_test if name not in directories]
    if unknown:
        raise MismatchError(*worded("classes-not-trained", test=test, train=train, unknown=few(unknown)))
    if len(classes) == 1:
        warnings.warn(f"{train} has only one class, {classes[0]}, so every network will be right", stacklevel=4)
    training, loose = _files(train, directories, classes, at_least=2)
    testing, more = _files(test, of_test, classes, at_least=1)
    _tell_of_left_out(_loose(train) + loose + _loose(test) + more)
    held = held_out(torch.tensor([file.label for file in training])).tolist()
    kept, out = ([file for file, out in zip(training, held, strict=True) if out == part] for part in (False, True))
    return classes, {"train": kept, "heldout": out, "test": testing}


def _tell_of_left_out(paths: Sequence[str]) -> None:
    if paths:
        warnings.warn(
            f"skipped, as they are in no class or do not end in {', '.join(SUFFIXES)} ({len(paths):,}): "
            f"{first_few(paths)}",
            stacklevel=5,
        )


def _part(root: Path, *names: str) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    wanted = Wording(" or ".join(names), ", ".join(names))
    raise MissingError(*worded("folder-without-part", root=root, names=wanted, expected=root / names[0]))


def _directories(part: Path) -> dict[str, str]:
    """Return the directory of each class by name (in Unicode's composed form), sorted.

    Raises:
        UserError: if there are none, or two with the same name.
    """
    found: dict[str, str] = {}
    places: dict[Path, str] = {}
    for directory in sorted(
        entry.name
        for entry in part.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in OF_SYSTEMS
    ):
        name = unicodedata.normalize("NFC", _spelled(part, directory))
        other = places.setdefault((part / directory).resolve(), name)
        if other != name:
            raise MismatchError(*worded("classes-are-one", part=part, one=other, other=name))
        if name in found:
            raise MismatchError(
                *worded("class-in-two-spellings", part=part, name=name, one=found[name], other=directory)
            )
        found[name] = directory
    if not found:
        raise MissingError(*worded("part-without-classes", part=part))
    return dict(sorted(found.items(), key=_number if all(name.isdecimal() for name in found) else None))


def _spelled(part: Path, directory: str) -> str:
    """Return a directory's name as text; that of a zip file of a Korean Windows may be in CP949.

    Raises:
        UserError: if it is in neither encoding.
    """
    raw = os.fsencode(directory)
    for encoding in ("utf-8", "cp949"):
        with suppress(UnicodeDecodeError):
            return raw.decode(encoding)
    raise MismatchError(*worded("class-without-name", part=part, name=ascii(directory)))


def _number(item: tuple[str, str]) -> tuple[int, str]:
    """Return the sort key of a class whose name is a number."""
    return int(item[0]), item[0]


def _files(
    part: Path, directories: Mapping[str, str], classes: Sequence[str], at_least: int
) -> tuple[list[File], list[str]]:
    """Return the image files of the classes, sorted by name, and the paths of files without an image suffix.

    Raises:
        UserError: if a class has too few images.
    """
    # the start of the path below the root; slicing is faster than Path's arithmetic
    below = len(str(part)) - len(part.name)
    labels = {name: label for label, name in enumerate(classes)}
    images: list[File] = []
    others: list[str] = []
    for name, directory in directories.items():
        found: list[File] = []
        for entry in _walk(str(part / directory)):
            path = entry.path[below:].replace(os.sep, "/")
            if not path.lower().endswith(SUFFIXES):
                others.append(path)
            elif entry.is_file():
                found.append(file(path, labels[name], entry.path, entry.stat()))
            else:  # such as a FIFO or a broken link, which cannot be decoded
                found.append(File(path, labels[name], 0, 0, ""))
        if len(found) < at_least:
            where, kinds = part / directory, ", ".join(SUFFIXES)
            raise MissingError(
                *worded("too-few-images", directory=where, count=len(found), least=at_least, suffixes=kinds)
            )
        images += sorted(found)
    return images, sorted(others)


def _walk(directory: str) -> Iterator["os.DirEntry[str]"]:
    """Yield the files below a directory, except hidden ones and those of operating systems.

    Links to directories are followed, but never twice, and never to a parent.
    """
    seen = {os.path.realpath(parent) for parent in Path(directory).parents}
    directories, links = [directory], list[str]()  # a directory is listed under its own path rather than under a link's
    while directories or links:
        place = directories.pop() if directories else links.pop()
        real = os.path.realpath(place)
        if real in seen or Path(os.path.realpath(Path(place).parent)).is_relative_to(real):
            continue
        seen.add(real)
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in OF_SYSTEMS:
                    continue
                if entry.is_dir():
                    (links if entry.is_symlink() else directories).append(entry.path)
                else:
                    yield entry
        links.sort(reverse=True)


def _loose(part: Path) -> list[str]:
    """Return the paths of files that are in no class."""
    return sorted(
        f"{part.name}/{entry.name}" for entry in part.iterdir() if not entry.is_dir() and not entry.name.startswith(".")
    )


def _tell_of_lost_classes(classes: Sequence[str], parts: Mapping[PartName, Sequence[File]], found: Cached) -> None:
    """Warn of classes that had images in a part, none of which can be decoded."""
    for (part, files), (_, labels) in zip(parts.items(), found.parts, strict=True):
        lost = {file.label for file in files} - set(labels.tolist())
        if lost:
            warnings.warn(
                f"no {WORDS[part]} image is left in {first_few([classes[label] for label in sorted(lost)])}",
                stacklevel=3,
            )
