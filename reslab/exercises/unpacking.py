"""The files that a student handed in, taken out of directories and of zip files within zip files."""

import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath

from reslab.exercises.remarks import Remark, remark

ANSWERS, NOTEBOOK, ZIP = ".py", ".ipynb", ".zip"
MOST = 2**22
"""Bytes that a file of answers may have."""
MOST_OF_A_NOTEBOOK = 2**26
"""Bytes that a notebook may have, with its pictures."""
FILES = 10_000
"""Files that may be extracted for one student, or of one class."""
EXTRACTED = 2**29
"""Bytes that may be extracted for one student."""
DEPTH = 3
"""Zip files that may be inside one another."""
LEVELS = 50
"""Directories that may be inside one another in a zip file."""
OF_SYSTEMS = ("__pycache__", "__MACOSX", "site-packages")
"""Directories that are nobody's."""
OF_OTHERS = ("pyvenv.cfg", "conda-meta", "exercises/grading.py")
"""What is in a directory of others' code: in an environment, and in this package with its solutions."""
_BROKEN = (
    OSError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


@dataclass
class Unpacking:
    """Extracts zip files under `place`, all of them together within the limits, and collects what was wrong."""

    place: Path
    files: int = FILES
    size: int = EXTRACTED
    problems: list[Remark] = field(default_factory=list)
    _archives: int = field(default=0, init=False)

    def found(self, entry: Path, name: str, depth: int = 0) -> Iterator[tuple[str, Path]]:
        """Yield each file of an entry at any depth, with its name; hidden ones are left out."""
        if entry.is_dir():
            for file in below(entry):
                yield from self.found(file, text_of(file.relative_to(entry).as_posix()), depth)
        elif entry.suffix.lower() != ZIP:
            yield name, entry
        elif depth == DEPTH:
            self.problems.append(remark("zip-too-deep", name, depth=DEPTH))
        else:
            root = self.extracted(entry, name if depth else "")
            for file in below(root):
                inner = text_of(file.relative_to(root).as_posix())
                yield from self.found(file, f"{name}/{inner}" if depth else inner, depth + 1)

    def extracted(self, archive: Path, name: str = "", *, every: bool = False) -> Path:
        """Extract a zip file, and return the directory; tell the first of its members that cannot be extracted, or
        every one.
        """
        root = self.place / f"zip{self._archives}"
        self._archives += 1
        root.mkdir(parents=True, exist_ok=True)
        if not archive.is_file():  # to open a pipe would wait for a writer
            self.problems.append(remark("not-regular", name))
            return root
        try:
            with zipfile.ZipFile(archive) as opened:
                failed = [problem for each in opened.infolist() if (problem := self._extract(opened, each, root, name))]
            self.problems += failed if every else failed[:1]
        except _BROKEN as error:
            self.problems.append(remark("unreadable", name, reason=error))
        return root

    def _extract(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, root: Path, name: str) -> Remark | None:
        """Extract a member, of a file of answers no more than shows that it is too large; return why it cannot be."""
        path = PurePosixPath(name_of(member).replace("\\", "/"))
        parts = [part for part in path.parts if part not in ("/", "..", ".") and ":" not in part]
        size = member.file_size if path.suffix.lower() == ZIP else min(member.file_size, most_of(path) + 1)
        target = root.joinpath(*parts)
        try:
            if len(parts) > LEVELS:
                return remark("too-many-levels", name, levels=LEVELS)
            if member.is_dir() or not parts:
                target.mkdir(parents=True, exist_ok=True)
            elif not self.files or size > self.size:
                return remark("zip-too-large", name)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as inside:
                    target.write_bytes(inside.read(size))
                self.files, self.size = self.files - 1, self.size - size
        except _BROKEN as error:  # of this member, such as one with a password
            return remark("unreadable", name or path.as_posix(), reason=error)
        return None


def most_of(file: PurePath) -> int:
    """Return how many bytes a file may have, by its suffix."""
    return MOST_OF_A_NOTEBOOK if file.suffix.lower() == NOTEBOOK else MOST


def name_of(member: zipfile.ZipInfo) -> str:
    """Return a member's name; without a stated encoding, it is UTF-8 or, from a Korean Windows, CP949."""
    if member.flag_bits & 0x800:
        return member.filename
    try:
        raw = member.filename.encode("cp437")
    except UnicodeEncodeError:
        return member.filename
    for encoding in ("utf-8", "cp949"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return member.filename


def below(directory: Path) -> Iterator[Path]:
    """Yield the files below a directory at any depth, without hidden ones and others' code; links to directories are
    not followed.
    """
    left = [directory]  # `os.walk` recurses before Python 3.12
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError:  # it may not be read, or lies too deep
            continue
        directories, files = list[os.DirEntry[str]](), list[os.DirEntry[str]]()
        for each in inside:
            (directories if _is_directory(each) else files).append(each)
        yield from (Path(each) for each in files if not each.name.startswith("."))
        left += [Path(each) for each in reversed(directories) if not each.is_symlink() and not _is_nobodys(Path(each))]


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_nobodys(directory: Path) -> bool:
    """Return whether a directory is hidden, a system's, or others' code."""
    named = directory.name.startswith(".") or directory.name in OF_SYSTEMS
    try:
        return named or any((directory / inside).exists() for inside in OF_OTHERS)
    except OSError:  # it may not be read
        return True


def text_of(name: str) -> str:
    """Return a file's name as encodable text, whatever its bytes are."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")
