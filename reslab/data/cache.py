"""Images read and decoded once, into one memory-mapped file of bytes that processes share.

A cache is a directory named by what it was made from: the relative path, size and time of every file. Anything that differs has
another name, so a cache is right or not there; it appears whole, by a rename.
"""

import hashlib
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple
from uuid import uuid4

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from reslab.data.images import Images, Ragged, Statistics, measure
from reslab.data.places import Watch, user_cache
from reslab.errors import UserError

FORMAT = "3"
DIRECTORY = ".reslab-cache"
AT_ONCE = 256
GREY = ("1", "L", "LA")
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""How the names of image files end, in small letters: those that torchvision's folders take."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF")
"""What an image may be, whatever its name says. Pillow knows more, among them PostScript, which it has another program run."""
SECONDS_A_DAY = 86_400
MOST_PIXELS = 89_478_485
"""Of one image: where Pillow warns of a decompression bomb. At twice that, half a gigabyte in memory, it refuses by itself."""


class File(NamedTuple):
    """An image file: its path below the root, its class, size in bytes and modification time in nanoseconds."""

    path: str
    label: int
    size: int
    time: int


class Cached(NamedTuple):
    """What a cache holds: the images and labels of each part, the first part's statistics, the shortest side in pixels, what was skipped.

    `classes` are the names of the classes where the cache is all there is to tell them; `fingerprint` is of all pixels, sizes and labels, and is
    empty where there is no cache.
    """

    parts: list[tuple[Images, Tensor]]
    statistics: Statistics
    shortest: int
    skipped: list[str]
    classes: tuple[str, ...] = ()
    fingerprint: str = ""


def digest(parts: Sequence[Sequence[File]]) -> str:
    """Return the name of the cache of these files."""
    text = hashlib.sha256(FORMAT.encode())
    for files in parts:
        text.update(f"part {len(files)}\n".encode())
        for file in files:
            text.update(f"{file.path}\0{file.label}\0{file.size}\0{file.time}\n".encode(errors="surrogateescape"))
    return text.hexdigest()[:16]


def place(root: Path) -> Path:
    """Return where the caches of `root` are: in it, or in the user's cache directory where it cannot be written to."""
    inside = root / DIRECTORY
    with suppress(OSError):
        inside.mkdir(exist_ok=True)
    if os.access(inside, os.W_OK):
        return inside
    outside = user_cache() / "folders" / hashlib.sha256(str(root).encode(errors="surrogateescape")).hexdigest()[:16]
    outside.mkdir(parents=True, exist_ok=True)
    return outside


def decoded(root: Path, parts: Sequence[Sequence[File]], skip_broken: bool, watch: Watch) -> Cached:
    """Return the images of these files from their cache, which is made if it is not there.

    Raises:
        UserError: naming files that cannot be decoded, unless they are to be skipped; or if the disk has no room.
    """
    where = place(root)
    cache = where / digest(parts)
    if not cache.exists():
        _make(root, parts, skip_broken, cache, watch)
        _tidy(where, cache)
    found = _read(cache)
    if found.skipped:
        if not skip_broken:
            raise UserError(_broken(found.skipped))
        warnings.warn(f"{_names(found.skipped)} cannot be decoded and {'is' if len(found.skipped) == 1 else 'are'} left out", stacklevel=2)
    return found


def kept(name: str, directory: Path, make: Callable[[], Cached]) -> Cached:
    """Return what `make` reads from the files in a directory, from its cache in the user's cache directory, which is made if it is not there.

    Where it cannot be written, everything stays in memory.
    """
    where = user_cache() / "published" / f"{name}-{hashlib.sha256(str(directory).encode(errors='surrogateescape')).hexdigest()[:16]}"
    files = _files_in(directory)
    if files and (cache := where / digest([files])).exists():
        return _read(cache)
    made = make()
    cache = where / digest([_files_in(directory)])  # again, as they may have been downloaded
    try:
        where.mkdir(parents=True, exist_ok=True)
        with _appearing(cache) as temporary:
            shapes = []
            with (temporary / "pixels.bin").open("wb") as out:
                for images, _ in made.parts:
                    assert isinstance(images, Tensor)  # what torchvision publishes has one size
                    out.write(images.numpy().tobytes())
                    shapes.append(torch.tensor(images.shape[1:]).expand(len(images), -1))
            labels = [labels for _, labels in made.parts]
            _write_index(temporary, torch.cat(shapes), torch.cat(labels), list(map(len, labels)), made.skipped, made.classes)
    except OSError:
        return made
    _tidy(where, cache)
    return _read(cache)


def _files_in(directory: Path) -> list[File]:
    """Return the files of a directory, none if there is no such directory, as what a cache is known by."""
    found = sorted(path for path in directory.glob("*") if path.is_file())
    return [File(path.name, 0, (status := path.stat()).st_size, status.st_mtime_ns) for path in found]


def _read(cache: Path) -> Cached:
    try:
        index = torch.load(cache / "index.pt", weights_only=True)
        shapes, labels = index["shapes"], index["labels"]
        pixels = torch.from_file(str(cache / "pixels.bin"), shared=False, size=int(shapes.prod(1).sum()), dtype=torch.uint8)
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, UnpicklingError) as error:
        raise UserError(f"{cache} is damaged, or not this lab's; remove it, and it is made again from the images") from error
    everything = Ragged(pixels, shapes)
    uniform = bool((shapes == shapes[0]).all())
    dense = pixels.view(-1, *shapes[0].tolist()) if uniform else None
    parts, start = [], 0
    for count in index["counts"]:
        stop = start + count
        parts.append((everything.slice(start, stop) if dense is None else dense[start:stop], labels[start:stop]))
        start = stop
    return Cached(parts, Statistics(*index["statistics"]), int(shapes[:, 1:].amin()), index["skipped"], tuple(index["classes"]), index["fingerprint"])


def _make(root: Path, parts: Sequence[Sequence[File]], skip_broken: bool, cache: Path, watch: Watch) -> None:
    total = sum(map(len, parts))
    what = f"decoding {total:,} images into {cache}"
    shapes: list[list[int]] = []
    labels: list[int] = []
    counts: list[int] = []
    skipped: list[str] = []
    try:
        with _appearing(cache) as temporary, ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such images are refused
            mode = _mode(pool, root, parts, temporary, watch)
            with (temporary / "pixels.bin").open("wb") as out:
                for files in parts:
                    counts.append(0)
                    for some in _chunks(files):
                        images = list(pool.map(lambda file: _decode(root / file.path, mode), some))
                        bad = [file.path for file, image in zip(some, images, strict=True) if image is None]
                        if bad and not skip_broken:
                            raise UserError(_broken(bad))
                        skipped += bad
                        for file, image in zip(some, images, strict=True):
                            if image is not None:
                                out.write(image.numpy().tobytes())
                                shapes.append(list(image.shape))
                                labels.append(file.label)
                                counts[-1] += 1
                        watch(what, len(labels) + len(skipped), total)
                    if not counts[-1]:
                        raise UserError(f"no image of {root} could be decoded in one of its parts: {_names([file.path for file in files])}")
            _write_index(temporary, torch.tensor(shapes), torch.tensor(labels), counts, skipped)
    except OSError as error:
        if not cache.exists():
            raise UserError(f"cannot write the decoded images to {cache.parent}: {error.strerror or error}") from error


@contextmanager
def _appearing(cache: Path) -> Iterator[Path]:
    """Give a temporary directory that becomes `cache` by a rename, unless something goes wrong or another process was first."""
    temporary = cache.with_name(f"{cache.name}.{uuid4().hex}.tmp")  # in containers, processes have the numbers of killed ones
    try:
        temporary.mkdir()
        yield temporary
        with (temporary / "pixels.bin").open("rb") as pixels:
            os.fsync(pixels.fileno())
        if not cache.exists():
            temporary.rename(cache)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_index(temporary: Path, shapes: Tensor, labels: Tensor, counts: list[int], skipped: list[str], classes: Sequence[str] = ()) -> None:
    """Write what lies where in the pixels, and the fingerprint and the first part's statistics, for which the pixels are read back."""
    index: dict[str, Any] = {"shapes": shapes.contiguous(), "labels": labels, "counts": counts, "skipped": skipped, "classes": list(classes)}
    with (temporary / "pixels.bin").open("rb") as pixels:
        text = hashlib.file_digest(pixels, "sha256")
    text.update(repr((shapes.tolist(), labels.tolist(), counts)).encode())
    index["fingerprint"] = text.hexdigest()[:16]
    torch.save({**index, "statistics": ((0.0,), (1.0,), ((1.0,),))}, temporary / "index.pt")
    statistics = measure(_read(temporary).parts[0][0])
    torch.save({**index, "statistics": tuple(statistics)}, temporary / "index.pt")


def _mode(pool: ThreadPoolExecutor, root: Path, parts: Sequence[Sequence[File]], cache: Path, watch: Watch) -> str:
    """Return "L" if every image is grey, else "RGB", from the files' headers; see that the disk has room.

    Raises:
        UserError: if it has not.
    """
    grey, area, done, total = True, 0, 0, sum(map(len, parts))
    for files in parts:
        for some in _chunks(files):
            done += len(some)
            watch("reading the images' headers", done, total)
            for mode, size in pool.map(lambda file: _header(root / file.path), some):
                grey &= mode in GREY
                area += size
    needed, free = area * (1 if grey else 3), shutil.disk_usage(cache).free
    if needed > free:
        raise UserError(f"the decoded images of {root} need {needed / 1e9:.1f} GB in {cache.parent}, where {free / 1e9:.1f} GB are free")
    return "L" if grey else "RGB"


def _header(path: Path) -> tuple[str, int]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.mode, image.width * image.height
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "L", 0  # broken: named when it is decoded


def _decode(path: Path, mode: str) -> Tensor | None:
    """Return an image as `[C, H, W]` uint8, or None if it cannot be decoded to eight bits a channel."""
    from torchvision.transforms.v2.functional import pil_to_tensor  # here, as torchvision takes a second to import and a cache needs none of it

    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode[0] in "IF":  # 16 or 32 bits, which Pillow would clip
                return None
            if image.width * image.height > MOST_PIXELS:
                return None
            if "transparency" in image.info:
                return pil_to_tensor(image.convert("RGBA").convert(mode))
            return pil_to_tensor(image.convert(mode))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def _chunks(files: Sequence[File]) -> Iterator[Sequence[File]]:
    return (files[start : start + AT_ONCE] for start in range(0, len(files), AT_ONCE))


def _names(paths: Sequence[str]) -> str:
    return ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


def _broken(paths: Sequence[str]) -> str:
    wanted = f"8-bit images that Pillow reads, of {MOST_PIXELS:,} pixels at most, were expected"
    return f"cannot decode {_names(paths)} ({wanted}); mend them, or leave them out: folder:PATH?broken=skip"


def _tidy(where: Path, keep: Path) -> None:
    """Remove the caches of earlier states of the folder, and what killed processes left a day ago or more."""
    for other in where.iterdir():
        if other != keep and (other.suffix != ".tmp" or time.time() - other.stat().st_mtime > SECONDS_A_DAY):
            shutil.rmtree(other, ignore_errors=True)
