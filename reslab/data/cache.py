"""Images are decoded once, into one memory-mapped file that processes share.

A cache is a directory whose name is a hash of the relative path, size, times and identity of every file. Any change
gives another name, so an existing cache is always right. It is written atomically, by a rename. Copies of the images
are other files, and are decoded again.
"""

import errno
import hashlib
import io
import mmap
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import torch
from filelock import FileLock
from torch import Tensor

from reslab.cache import user_cache
from reslab.data.decoding import MOST_PIXELS, decode, header, left_out, undecodable
from reslab.data.images import Images, Ragged, Statistics, measure
from reslab.errors import DamagedError, UnusableError, UserError, few, worded
from reslab.progress import Progress

FORMAT = "7"
DIRECTORY = ".reslab-cache"
AT_ONCE = 256
BYTES_AT_ONCE = 2**30
"""Images that are decoded at once, and their bytes, unless a single one has more."""
CHANGES_ARE_DATED = os.name == "posix"
"""Whether st_ctime is the time of the last change, which nobody can set; on other systems it is the time of creation.
"""
NAME = re.compile(r"[0-9a-f]{16}(\.[0-9a-f]{32}\.tmp)?")
"""Names of caches and unfinished caches; nothing else is ever removed."""
SECONDS_A_DAY = 86_400


class File(NamedTuple):
    """An image file: its path below the root, its class, size in bytes, modification time in nanoseconds, and its
    `state`.
    """

    path: str
    label: int
    size: int
    time: int
    state: str


def file(name: str, label: int, path: str | Path, status: os.stat_result) -> File:
    """Return a file under its name below the root."""
    return File(name, label, status.st_size, status.st_mtime_ns, state(path, status))


def state(path: str | Path, status: os.stat_result) -> str:
    """Return what changes even if a file is replaced by one of the same size and time: its identity and time of change,
    or its content's hash.
    """
    if CHANGES_ARE_DATED:
        return f"{status.st_ino} {status.st_ctime_ns}"
    with Path(path).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


class Cached(NamedTuple):
    """The content of a cache: the images and labels of each part, the first part's statistics, the shortest side in
    pixels, the skipped files, and how many images of each part are in an earlier one too.

    `classes` are the names of the classes if nothing else has them. `fingerprint` is of all pixels, sizes and labels.
    """

    parts: list[tuple[Images, Tensor]]
    statistics: Statistics
    shortest: int
    skipped: list[str]
    classes: tuple[str, ...] = ()
    fingerprint: str = ""
    repeated: Sequence[int] = ()


def digest(parts: Sequence[Sequence[File]]) -> str:
    """Return the name of the cache of these files."""
    text = hashlib.sha256(FORMAT.encode())
    for files in parts:
        text.update(f"part {len(files)}\n".encode())
        for file in files:
            text.update("\0".join(map(str, file)).encode(errors="surrogateescape") + b"\n")
    return text.hexdigest()[:16]


def place(root: Path) -> Path:
    """Return the directory of the caches of `root`: inside it, or in the user's cache directory if it is read-only.

    Raises:
        UserError: if neither is writable.
    """
    inside = root / DIRECTORY
    with suppress(OSError):
        inside.mkdir(exist_ok=True)
    if inside.is_dir() and os.access(inside, os.W_OK):
        return inside
    outside = user_cache() / "folders" / hashlib.sha256(str(root).encode(errors="surrogateescape")).hexdigest()[:16]
    try:
        outside.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableError(
            *worded("cache-unwritable", inside=inside, outside=outside, reason=error.strerror)
        ) from error
    return outside


def decoded(root: Path, parts: Sequence[Sequence[File]], skip_broken: bool, progress: Progress) -> Cached:
    """Return the images of these files from their cache, which is made if necessary.

    Raises:
        UserError: naming files that cannot be decoded, unless they are to be skipped; or if the disk is full.
    """
    name, classes = digest(parts), 1 + max(file.label for files in parts for file in files)
    where = root / DIRECTORY if (root / DIRECTORY / name).is_dir() else place(root)  # also one that others have made
    cache = where / name
    for _ in range(2):
        if not cache.exists():
            with alone(where):
                if not cache.exists():
                    _make(root, parts, skip_broken, cache, progress)
                    _tidy(where, cache)
        try:
            found = _read(cache, len(parts), classes)
            break
        except DamagedError:  # another process may have tidied it away, as it saw other files
            if cache.exists():
                raise
    else:
        raise DamagedError(*worded("cache-damaged", cache=cache))
    if found.skipped:
        if not skip_broken:
            raise DamagedError(undecodable(found.skipped))
        warnings.warn(
            left_out(found.skipped, sum(map(len, parts))),
            stacklevel=2,
        )
    return found


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Wait until no other process that asks for the same directory is here; where it cannot be locked, do not."""
    lock = FileLock(directory / ".reslab.lock")
    try:
        lock.acquire()
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()


def kept(name: str, directory: Path, make: Callable[[], Cached]) -> Cached:
    """Return the result of `make` for the files in a directory, from a cache in the user's cache directory, which is
    made if necessary.

    If it cannot be written, everything stays in memory.
    """
    try:
        where = (
            user_cache()
            / "published"
            / f"{name}-{hashlib.sha256(str(directory).encode(errors='surrogateescape')).hexdigest()[:16]}"
        )
    except UserError:  # a user without a home directory
        return _in_memory(make())
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
                    assert isinstance(images, Tensor)  # torchvision's data sets have images of one size
                    out.write(images.numpy().tobytes())
                    shapes.append(torch.tensor(images.shape[1:]).expand(len(images), -1))
            labels = [labels for _, labels in made.parts]
            _write_index(
                temporary, torch.cat(shapes), torch.cat(labels), list(map(len, labels)), made.skipped, made.classes
            )
    except OSError:
        return _in_memory(made)
    _tidy(where, cache)
    return _read(cache)


def _in_memory(made: Cached) -> Cached:
    """Return images that are in no cache with their fingerprint, which is that of a cache."""
    pixels, shapes = hashlib.sha256(), []
    for images, _ in made.parts:
        assert isinstance(images, Tensor)
        pixels.update(images.numpy().tobytes())
        shapes.append(torch.tensor(images.shape[1:]).expand(len(images), -1))
    labels = [labels for _, labels in made.parts]
    found = _fingerprint(pixels, torch.cat(shapes), torch.cat(labels), list(map(len, labels)))
    return made._replace(fingerprint=found)


def _fingerprint(pixels: Any, shapes: Tensor, labels: Tensor, counts: list[int]) -> str:
    """Return the fingerprint of images, given the hash of their pixels."""
    pixels.update(repr((shapes.tolist(), labels.tolist(), counts)).encode())
    return str(pixels.hexdigest()[:16])


def _files_in(directory: Path) -> list[File]:
    """Return the files of a directory, which identify a cache; none if there is no such directory."""
    found = sorted(path for path in directory.glob("*") if path.is_file())
    return [file(path.name, 0, path, path.stat()) for path in found]


def _read(cache: Path, parts: int = 3, classes: int | None = None) -> Cached:
    """Return the content of a cache with so many parts and classes, or with the classes that it names.

    Raises:
        UserError: if it is damaged.
    """
    try:
        if not (cache / "index.pt").is_file():  # opening a FIFO would block
            raise ValueError
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols
            index = torch.load(cache / "index.pt", weights_only=True)
        if not _sound(index, parts, classes):
            raise ValueError
        found = _parts(cache, index)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise DamagedError(*worded("cache-damaged", cache=cache)) from error
        raise UnusableError(*worded("cache-unreadable", cache=cache, reason=error.strerror or error)) from error
    except Exception as error:  # damaged bytes make torch raise any exception
        raise DamagedError(*worded("cache-damaged", cache=cache)) from error
    shortest = int(index["shapes"][:, 1:].amin())
    return Cached(
        found,
        Statistics(*index["statistics"]),
        shortest,
        index["skipped"],
        tuple(index["classes"]),
        index["fingerprint"],
        index["repeated"],
    )


def _sound(index: Any, parts: int, classes: int | None) -> bool:
    """Return whether an index is one that `_write_index` could have written: types, ranges and lengths."""
    shapes, labels, counts = (index[key] for key in ("shapes", "labels", "counts"))
    statistics = [torch.tensor(values) for values in index["statistics"]]
    channels = int(shapes[0, 0])
    return (
        all(tensor.dtype == torch.int64 and tensor.is_contiguous() for tensor in (shapes, labels))
        and labels.ndim == 1
        and shapes.shape == (len(labels), 3)
        and 0 <= int(labels.amin()) <= int(labels.amax()) < (len(index["classes"]) if classes is None else classes)
        and channels in (1, 3)
        and bool((shapes[:, 0] == channels).all() and (shapes >= 1).all() and (shapes <= MOST_PIXELS).all())
        and all(isinstance(count, int) and count > 0 for count in counts)
        and (len(counts), sum(counts)) == (parts, len(labels))
        and [tuple(values.shape) for values in statistics] == [(channels,), (channels,), (channels, channels)]
        and all(bool(values.isfinite().all()) for values in statistics)
        and bool((statistics[1] > 0).all())
        and all(
            isinstance(names, list) and all(isinstance(name, str) for name in names)
            for names in (index["skipped"], index["classes"])
        )
        and isinstance(index["fingerprint"], str)
        and isinstance(index["repeated"], list)
        and all(isinstance(count, int) for count in index["repeated"])
        and len(index["repeated"]) in (0, parts)
    )


def _parts(cache: Path, index: dict[str, Any]) -> list[tuple[Images, Tensor]]:
    """Return the images and labels of each part, mapped into memory.

    Raises:
        ValueError: if the number of pixels is wrong.
    """
    shapes, labels, path = index["shapes"], index["labels"], cache / "pixels.bin"
    size = int(shapes.prod(1).sum())
    if not path.is_file() or path.stat().st_size != size:
        raise ValueError
    pixels = _mapped(path, size)
    everything = Ragged(pixels, shapes)
    uniform = bool((shapes == shapes[0]).all())
    dense = pixels.view(-1, *shapes[0].tolist()) if uniform else None
    parts: list[tuple[Images, Tensor]] = []
    start = 0
    for count in index["counts"]:
        stop = start + count
        parts.append((everything.slice(start, stop) if dense is None else dense[start:stop], labels[start:stop]))
        start = stop
    return parts


def _mapped(path: Path, size: int) -> Tensor:
    """Return a file's bytes, mapped into memory; what is written into them is not written into the file, and without a
    reserve for that a file may be larger than the memory.
    """
    with path.open("rb") as file:
        if os.name == "nt":
            pixels = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
        else:
            unreserved = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)  # Python 3.13
            both = mmap.PROT_READ | mmap.PROT_WRITE
            pixels = mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE | unreserved, prot=both)
    return torch.frombuffer(pixels, dtype=torch.uint8)


def _make(root: Path, parts: Sequence[Sequence[File]], skip_broken: bool, cache: Path, progress: Progress) -> None:
    what = f"decoding {sum(map(len, parts)):,} images into {cache}"
    try:
        with _appearing(cache) as temporary, ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of Pillow; files that it cannot read are reported anyway
            seen = _seen(pool, root, parts, temporary, cache, progress)
            written = _write_pixels(pool, root, parts, seen, skip_broken, temporary, what, progress)
            skipped = written.skipped
            # skipped files have no influence
            if skipped and (of_kept := _seen(pool, root, written.kept, temporary, cache, progress)).mode != seen.mode:
                written = _write_pixels(pool, root, written.kept, of_kept, skip_broken, temporary, what, progress)
                skipped = skipped + written.skipped
            labels, counts = [file.label for files in written.kept for file in files], list(map(len, written.kept))
            _write_index(
                temporary,
                torch.tensor(written.shapes),
                torch.tensor(labels),
                counts,
                skipped,
                repeated=_repeated(written.images, counts),
            )
    except OSError as error:
        if not cache.exists():
            raise UnusableError(
                *worded("decoded-unwritable", where=cache.parent, reason=error.strerror or error)
            ) from error


class _Written(NamedTuple):
    """The files of each part that could be decoded, the shape and the digest of each image in order, and the paths of
    those that could not.
    """

    kept: list[list[File]]
    shapes: list[list[int]]
    images: list[bytes]
    skipped: list[str]


def _write_pixels(
    pool: ThreadPoolExecutor,
    root: Path,
    parts: Sequence[Sequence[File]],
    seen: "_Seen",
    skip_broken: bool,
    temporary: Path,
    what: str,
    progress: Progress,
) -> _Written:
    """Write the images as bytes, and return what was written."""
    kept, shapes, digests, skipped = found = _Written([], [], [], [])
    total = sum(map(len, parts))
    with (temporary / "pixels.bin").open("wb") as out:
        for files in parts:
            kept.append([])
            for chunk in _chunks(files, seen.at_once):
                images = list(pool.map(lambda file: decode(root / file.path, seen.mode), chunk))
                bad = [file.path for file, image in zip(chunk, images, strict=True) if image is None]
                if bad and not skip_broken:
                    raise DamagedError(undecodable(bad))
                skipped += bad
                for file, image in zip(chunk, images, strict=True):
                    if image is not None:
                        content = image.numpy().tobytes()
                        out.write(content)
                        shapes.append(list(image.shape))
                        digests.append(hashlib.blake2b(content, digest_size=16).digest())
                        kept[-1].append(file)
                del images, image  # before the next are decoded
                progress(what, len(shapes) + len(skipped), total)
            if not kept[-1]:
                raise DamagedError(
                    *worded("no-image-decoded-of-part", root=root, files=few([file.path for file in files]))
                )
    return found


def _repeated(images: Sequence[bytes], counts: Sequence[int]) -> list[int]:
    """Return how many images of each part are in an earlier one too."""
    found, known, start = list[int](), set[bytes](), 0
    for count in counts:
        part = images[start : start + count]
        found.append(sum(image in known for image in part))
        known.update(part)
        start += count
    return found


@contextmanager
def _appearing(cache: Path) -> Iterator[Path]:
    """Give a temporary directory that is renamed to `cache` at the end, unless something goes wrong or another process
    was first.
    """
    # in containers, process ids are reused
    temporary = cache.with_name(f"{cache.name}.{uuid4().hex}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        for name in ("pixels.bin", "index.pt"):
            with (temporary / name).open("r+b") as written:  # Windows flushes only what may be written
                os.fsync(written.fileno())
        if not cache.exists():
            temporary.rename(cache)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_index(
    temporary: Path,
    shapes: Tensor,
    labels: Tensor,
    counts: list[int],
    skipped: list[str],
    classes: Sequence[str] = (),
    repeated: Sequence[int] = (),
) -> None:
    """Write the layout of the pixels, the fingerprint, and the first part's statistics, for which the pixels are read
    back.
    """
    index: dict[str, Any] = {
        "shapes": shapes.contiguous(),
        "labels": labels,
        "counts": counts,
        "skipped": skipped,
        "classes": list(classes),
        "repeated": list(repeated),
    }
    with (temporary / "pixels.bin").open("rb") as pixels:
        index["fingerprint"] = _fingerprint(hashlib.file_digest(pixels, "sha256"), shapes, labels, counts)
    index["statistics"] = tuple(measure(_parts(temporary, index)[0][0]))
    written = io.BytesIO()
    torch.save(index, written)  # into a file, torch tells of a full disk by an error of its own
    (temporary / "index.pt").write_bytes(written.getvalue())


class _Seen(NamedTuple):
    """What the headers of all images say: "L" if every one is grey, else "RGB", and how many may be decoded at once."""

    mode: str
    at_once: int


def _seen(
    pool: ThreadPoolExecutor,
    root: Path,
    parts: Sequence[Sequence[File]],
    temporary: Path,
    cache: Path,
    progress: Progress,
) -> _Seen:
    """Return what the files' headers say; check that the disk has room, if necessary without earlier caches.

    Raises:
        UserError: if it does not.
    """
    grey, area, largest, done, total = True, 0, 1, 0, sum(map(len, parts))
    for files in parts:
        for chunk in _chunks(files, AT_ONCE):
            done += len(chunk)
            progress("reading the images' headers", done, total)
            for without_colour, size in pool.map(lambda file: header(root / file.path), chunk):
                grey &= without_colour
                area += size
                largest = max(largest, size)
    channels, where, pixels = 1 if grey else 3, cache.parent, temporary / "pixels.bin"
    needed = area * channels - (pixels.stat().st_size if pixels.exists() else 0)  # which is written anew
    if needed > shutil.disk_usage(where).free:
        _tidy(where, cache)
    if needed > (free := shutil.disk_usage(where).free):
        raise UnusableError(*worded("cache-too-large", root=root, needed=needed / 1e9, where=where, free=free / 1e9))
    at_once = min(AT_ONCE, max(BYTES_AT_ONCE // (largest * channels), 1))
    return _Seen("L" if grey else "RGB", at_once)


def _chunks(files: Sequence[File], at_once: int) -> Iterator[Sequence[File]]:
    return (files[start : start + at_once] for start in range(0, len(files), at_once))


def _tidy(where: Path, keep: Path) -> None:
    """Remove the caches of earlier states of the folder, and leftovers of killed processes older than a day."""
    for other in where.iterdir():
        with suppress(OSError):  # another process may be cleaning up too
            if (
                other != keep
                and NAME.fullmatch(other.name)
                and (other.suffix != ".tmp" or time.time() - other.stat().st_mtime > SECONDS_A_DAY)
            ):
                gone = other if other.suffix == ".tmp" else other.with_name(f"{other.name}.{uuid4().hex}.tmp")
                other.rename(gone)  # no process finds half of it
                shutil.rmtree(gone, ignore_errors=True)
