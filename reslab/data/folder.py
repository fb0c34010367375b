"""`folder:PATH`: a folder of images, `PATH/train/CLASS/…` and `PATH/test/CLASS/…`, of any size, grey or colour.

They are decoded once, into `PATH/.reslab-cache` (or the user's cache directory where PATH cannot be written to).
"""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from reslab.data.augment import Augment
from reslab.data.cache import SUFFIXES, File, decoded
from reslab.data.dataset import HELD_OUT_RULE, Dataset, Part, held_out
from reslab.data.places import Watch
from reslab.errors import UserError

BROKEN = "?broken="


def folder(argument: str, download: bool, watch: Watch) -> Dataset:
    """Return the images of `PATH` or `PATH?broken=skip`, classes in the order of their names; there is nothing to download.

    `val` stands for `test` where there is no `test`. The held-out part comes from `train`, so that nothing is chosen on the test part.
    Images of one size are a tensor; others stay as they are and are resized batch by batch.

    Raises:
        UserError: if something of the layout is missing, or an image cannot be decoded and was not to be skipped.
    """
    root, skip_broken = parse(argument)
    train, test = _part(root, "train"), _part(root, "test", "val")
    classes = _classes(train)
    unknown = sorted(set(_classes(test)) - set(classes))
    if unknown:
        raise UserError(f"{test} has classes that {train} has not: {', '.join(unknown[:5])}")
    training = _files(train, classes)
    held = held_out(torch.tensor([file.label for file in training])).tolist()
    parts = [
        [file for file, out in zip(training, held, strict=True) if not out],
        [file for file, out in zip(training, held, strict=True) if out],
        _files(test, [name for name in classes if (test / name).is_dir()], classes),
    ]
    found = decoded(root, parts, skip_broken, watch)
    return Dataset(
        name=f"folder:{argument}",
        parts={"train": Part(*found.parts[0]), "heldout": Part(*found.parts[1]), "test": Part(*found.parts[2])},
        classes=tuple(classes),
        statistics=found.statistics,
        augment=Augment(shift=found.shortest // 8, flip=True),
        split_rule=HELD_OUT_RULE,
        fingerprint=found.fingerprint,
    )


def parse(argument: str) -> tuple[Path, bool]:
    """Return the path, and whether broken images are to be skipped.

    Raises:
        UserError: if there is no such directory or the option is not one.
    """
    path, _, broken = argument.partition(BROKEN)
    if broken not in ("", "skip", "refuse"):
        raise UserError(f"folder:{argument}: broken must be skip or refuse, got {broken!r}")
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise UserError(f"no directory {path!r}; expected folder:PATH with PATH/train/CLASS/IMAGE and PATH/test/CLASS/IMAGE")
    return root.resolve(), broken == "skip"


def _part(root: Path, *names: str) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise UserError(f"{root} has no directory {' or '.join(names)}; expected {root / names[0]}/CLASS/IMAGE")


def _classes(part: Path) -> list[str]:
    classes = sorted(entry.name for entry in part.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise UserError(f"{part} has no directories; expected one for each class, {part}/CLASS/IMAGE")
    return classes


def _files(part: Path, names: list[str], classes: list[str] | None = None) -> list[File]:
    """Return the image files of the named classes, in the order of their names.

    Raises:
        UserError: if a class has none, or too few of them to hold one out.
    """
    training = classes is None
    below = len(str(part.parent)) + 1  # where the path below the root begins; slicing is faster than Path's arithmetic
    files: list[File] = []
    for label, name in enumerate(names):
        found = sorted(_walk(str(part / name), below, classes.index(name) if classes else label))
        if len(found) < (2 if training else 1):
            raise UserError(f"{part / name} has {len(found)} images ({', '.join(SUFFIXES)}); expected at least {2 if training else 1}")
        files += found
    return files


def _walk(directory: str, below: int, label: int) -> Iterator[File]:
    """Yield the image files below a directory, whose paths below the root begin at a place of their text; hidden ones are none."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(entry.path, below, label)
            elif entry.name.lower().endswith(SUFFIXES):
                found = entry.stat()
                yield File(entry.path[below:].replace(os.sep, "/"), label, found.st_size, found.st_mtime_ns)
