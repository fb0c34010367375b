"""Submissions of a class: files and notebooks, in directories and zip files, as named by learning platforms; and the
roster.
"""

import codecs
import csv
import io
import json
import os
import re
import tokenize
import unicodedata
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from reslab.errors import MissingError, UnusableError, first_few, worded
from reslab.exercises.noticing import tasks_of
from reslab.files import opened, parse_json

ANSWERS, NOTEBOOK, ZIP, RECORD = ".py", ".ipynb", ".zip", "progress.json"
OF_NOBODY = ("__pycache__", "__MACOSX", "feedback")
"""Directories that are not submissions: the system's, and the output of grading."""
OURS = re.compile(r"grades.*|words\.(csv|md)|(otter|nbgrader)\.csv|gradescope|.*\.md")
"""Files that are not submissions: the output of grading, and texts."""
MOST = 2**22
"""Bytes that a file of answers may have."""
FILES = 10_000
"""Files that a zip file may have."""
_PLATFORMS = (
    # Moodle: 홍길동_12345_assignsubmission_file_…, Canvas: honggildong_LATE_123_456_…,
    # Blackboard: Lab 1_hong_attempt_DATE_…
    re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)(?:_(?P<file>.*))?"),
    re.compile(r"(?P<name>[^_]+)_(?:LATE_)?(?P<id>\d+)_\d+_(?P<file>.+)"),
    re.compile(r".*_(?P<name>[^_]+)_attempt_\d{4}(?:-\d\d){5}(?:_(?P<file>.*))?"),
)
_HEADINGS = {"student", "name", "id", "email", "username", "login", "이름", "성명", "학번", "학생", "아이디", "이메일"}


@dataclass(frozen=True)
class Submission:
    """A file that a student handed in: the path of its Python, its name, and its tasks or why there are none.

    `aliases` are possible names of the student on a roster.
    """

    student: str
    file: Path
    name: str
    tasks: tuple[str, ...]
    problem: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Handed:
    """Submissions, and learners' records of hints and solutions, by student."""

    files: list[Submission]
    records: dict[str, dict[str, Any]]


def submissions(directory: Path, work: Path, only: Sequence[str] = ()) -> Handed:
    """Return the submissions in a directory, or in a zip file from a learning platform.

    An entry is a student's: `STUDENT.py`, `.ipynb` or `.zip`, or a directory; the names of Moodle, Canvas and
    Blackboard are understood. Extracted files, such as a notebook's Python, are written under `work`. Files that cannot
    be graded are included with the reason; files that are not submissions cause a warning.

    Raises:
        UserError: if there are no submissions.
    """
    if directory.is_file() and directory.suffix.lower() == ZIP:
        directory, problem = _unzipped(directory, work / "class")
        if problem:
            raise UnusableError(f"{directory}: {problem}")
    if not directory.is_dir():
        raise MissingError(*worded("no-submissions", directory=directory))
    handed, others = Handed([], {}), list[str]()
    for number, entry in enumerate(sorted(directory.iterdir(), key=lambda entry: (entry.is_dir(), entry))):
        if entry.name.startswith(".") or entry.name in OF_NOBODY or OURS.fullmatch(entry.name):
            continue
        _take(entry, work / str(number), only, handed, others)
    if not handed.files:
        raise MissingError(*worded("nothing-to-grade", directory=directory))
    if others:
        warnings.warn(f"not graded, as they are not {ANSWERS} files: {first_few(others)}", stacklevel=2)
    return handed


def _take(entry: Path, work: Path, only: Sequence[str], handed: Handed, others: list[str]) -> None:
    """Add what an entry of the directory holds."""
    student, aliases = _whose(entry)
    suffix = "" if entry.is_dir() else entry.suffix.lower()
    root, problem, files = entry.parent, "", [entry]
    if suffix == ZIP:
        root, problem = _unzipped(entry, work)
        files = [] if problem else list(_below(root))
    elif not suffix and entry.is_dir():
        root, files = entry, list(_below(entry))
        for zipped in [file for file in files if file.suffix.lower() == ZIP]:
            inner, problem = _unzipped(zipped, work / zipped.stem)
            files += [] if problem else list(_below(inner))
    elif suffix not in (ANSWERS, NOTEBOOK):
        others.append(_text(entry.name))
        return
    found = False
    for number, file in enumerate(files):
        if file.name == RECORD:
            handed.records[student] = _record(file)
        elif file.suffix.lower() in (ANSWERS, NOTEBOOK):
            found = True
            name = _text(file.relative_to(root if file.is_relative_to(root) else work).as_posix())
            handed.files.append(_submission(student, aliases, file, name, work / f"{number}.py", only))
    if not found:
        handed.files.append(Submission(student, entry, "", (), problem or f"no {ANSWERS} file", aliases))


def _whose(entry: Path) -> tuple[str, tuple[str, ...]]:
    """Return the student of an entry, and the names that the student may have on a roster."""
    stem = unicodedata.normalize("NFC", _text(entry.name if entry.is_dir() else entry.stem))
    for platform in _PLATFORMS:
        if (match := platform.fullmatch(stem)) is not None:
            parts = [part for part in (match["name"], match.groupdict().get("id")) if part]
            return "_".join(parts), (*parts, "_".join(parts))
    return stem, (stem,)


def _submission(
    student: str, aliases: tuple[str, ...], file: Path, name: str, python: Path, only: Sequence[str]
) -> Submission:
    tasks: tuple[str, ...] = ()
    problem = ""
    if not file.is_file():
        problem = "not a regular file"
    else:
        try:
            with opened(file, MOST) as opens:
                content = opens.read()
            if file.suffix.lower() == NOTEBOOK:
                content = _code(content).encode()
                python.parent.mkdir(parents=True, exist_ok=True)
                python.write_bytes(content)
                file = python
            tasks = tasks_of(decoded(content), only)
            problem = "" if tasks else "no function of the exercises"
        except OSError as error:
            problem = f"cannot be read: {error.strerror or error}"
        except ValueError as error:
            problem = f"cannot be read: {error}"
    return Submission(student, file, name, tasks, problem, aliases)


def _code(content: bytes) -> str:
    """Return the Python of a notebook's cells; its magic commands are left out.

    Raises:
        ValueError: if it is not a notebook.
    """
    notebook = parse_json(content.decode("utf-8-sig"))
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise ValueError("it is not a notebook")
    sources = [cell.get("source", "") for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    texts = ["".join(source) if isinstance(source, list) else str(source) for source in sources]
    return "\n\n".join(re.sub(r"^([ \t]*)[%!].*$", r"\1pass", text, flags=re.MULTILINE) for text in texts) + "\n"


def _unzipped(file: Path, place: Path) -> tuple[Path, str]:
    """Extract the answers, records and inner zip files of a zip file; return the directory, or why it cannot be
    read.
    """
    place.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > FILES:
                return place, f"more than {FILES} files"
            for member in members:
                name = PurePosixPath(_name(member).replace("\\", "/"))
                parts = [part for part in name.parts if part not in ("/", "..", ".") and ":" not in part]
                wanted = name.suffix.lower() in (ANSWERS, NOTEBOOK, ZIP) or name.name == RECORD
                if member.is_dir() and parts:
                    place.joinpath(*parts).mkdir(parents=True, exist_ok=True)
                elif wanted and parts and member.file_size <= MOST:
                    target = place.joinpath(*parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as inside:
                        target.write_bytes(inside.read(MOST))
    except (OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile) as error:
        return place, f"cannot be read: {error}"
    return place, ""


def _name(member: zipfile.ZipInfo) -> str:
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


def _record(file: Path) -> dict[str, Any]:
    """Return a learner's record of hints and solutions; empty if it is not one."""
    try:
        with opened(file, MOST) as opens:
            record = json.loads(opens.read())
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _below(directory: Path) -> Iterator[Path]:
    """Yield the files below a directory at any depth, hidden ones aside; links to directories are not followed."""
    for place, directories, files in os.walk(directory):
        directories[:] = sorted(name for name in directories if not name.startswith(".") and name not in OF_NOBODY)
        yield from (Path(place, name) for name in sorted(files) if not name.startswith("."))


def _text(name: str) -> str:
    """Return a file's name as encodable text, whatever its bytes are."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def decoded(content: bytes) -> str:
    """Return Python source as text: as Python decodes it or, if it cannot, in the most likely encoding."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    except SyntaxError:  # its declared encoding does not exist, or does not match
        encoding = "latin-1"
    return content.decode(encoding, errors="replace")


def roster(file: Path) -> list[tuple[str, ...]]:
    """Return the students of a class: a line per student, with all names under which the student may hand in, such as
    name, number and login; a header line is skipped.

    Raises:
        UserError: if it cannot be read, or is empty.
    """
    try:
        with opened(file, MOST) as opens:
            content = opens.read()
    except OSError as error:
        raise MissingError(*worded("roster-unreadable", file=file, reason=error.strerror)) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp949", errors="replace")  # as Excel writes it in Korea
    rows = [tuple(cell.strip() for cell in row if cell.strip()) for row in csv.reader(io.StringIO(text))]
    rows = [row for row in rows if row]
    if rows and any(cell.casefold() in _HEADINGS for cell in rows[0]):
        rows = rows[1:]
    if not rows:
        raise MissingError(*worded("roster-empty", file=file))
    return rows


def key(name: str) -> str:
    """Return a name for comparison: without blanks and commas, in lower case, in composed Unicode."""
    return re.sub(r"[\s,]", "", unicodedata.normalize("NFC", name)).casefold()
