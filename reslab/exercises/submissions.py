"""Submissions of a class: files and notebooks, in directories and zip files, as named by learning platforms; and the
roster.
"""

import codecs
import csv
import io
import re
import tokenize
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from reslab.errors import MissingError, UnusableError, WrongValueError, worded
from reslab.exercises import notebooks
from reslab.exercises.noticing import imported_in, parsed, tasks_of
from reslab.exercises.remarks import Remark, remark
from reslab.exercises.sheets import SHEETS
from reslab.exercises.unpacking import (
    ANSWERS,
    EXTRACTED,
    MOST,
    NOTEBOOK,
    OF_SYSTEMS,
    ZIP,
    Unpacking,
    below,
    most_of,
    text_of,
)
from reslab.files import TEXT_BYTES, opened, parse_json

RECORD = "progress.json"
GRADED = (ANSWERS, NOTEBOOK, ZIP)
"""Suffixes of what is graded, or has it inside."""
WRITTEN = {"grades.csv", "grades.parts.csv", "grades.jsonl", "words.md", "words.csv", "otter.csv", "nbgrader.csv"}
"""Files that grading writes beside the submissions."""
HANDED_BACK = {"feedback": ".md", "gradescope": ".json"}
"""Directories that grading writes beside the submissions, and the suffix of all files in them."""
_PLATFORMS = (
    # Moodle: 홍길동_12345_assignsubmission_file_…, Canvas: honggildong_LATE_123_456_…,
    # whose numbers have more than one digit, unlike HW_1_20231234_홍길동; Blackboard: Lab 1_hong_attempt_DATE_…
    re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)(?:_(?P<file>.*))?"),
    re.compile(r"(?P<name>[^_\d][^_]*)_(?:LATE_)?(?P<id>[1-9]\d+)_[1-9]\d+_(?P<file>.+)"),
    re.compile(r"(?P<assigned>.*_)(?P<name>[^_]+)_attempt_\d{4}(?:-\d\d){5}(?:_(?P<file>.*))?"),
)
MOST_OF_ONE = 5
"""Files that a student may hand in beside those named as a sheet; more are several students'."""
_SUFFIXES = {
    *(".py", ".pyw", ".pyi", ".pyc", ".ipynb", ".txt", ".md", ".rst", ".html", ".htm", ".json", ".csv", ".tex"),
    *(".pdf", ".doc", ".docx", ".odt", ".rtf", ".pages", ".hwp", ".hwpx", ".xls", ".xlsx", ".pptx", ".png", ".jpg"),
    *(".jpeg", ".zip", ".7z", ".alz", ".egg", ".rar", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".pt", ".pth", ".npy"),
    *(".npz", ".pkl"),
}
"""Suffixes of files; what follows the point in `jane.doe` is a name."""
_HEADINGS = {
    *("student", "students", "name", "names", "surname", "forename", "id", "email", "mail", "username", "login"),
    *("nachname", "vorname", "matrikelnummer", "prénom", "numéro", "nombre", "apellido", "apellidos"),
    *("이름", "성명", "학번", "학생", "아이디", "이메일", "번호", "학년"),
}
"""Words of which a heading has at least one, and beside them only these."""
_BESIDE_HEADINGS = {
    *("first", "last", "given", "family", "full", "number", "no", "nr", "sis", "user", "address", "e", "s"),
    *("주소", "한글", "영문"),
}


class Names(NamedTuple):
    """How the files of a class are named: what those from Blackboard begin with, as `Lab 1_` in `Lab 1_hong_attempt_…`,
    where either part may have more underscores, and empty if there is one student only; and what has the form of a
    Canvas student by chance, as `HW_10` in `HW_10_20231234_…`.
    """

    assignment: str
    chance: frozenset[str]


@dataclass(frozen=True)
class Submission:
    """A file that a student handed in: the path of its Python, its name, and its tasks, or why it is not graded.

    `aliases` are possible names of the student on a roster. The file can import what is in the directory `beside`, if
    that is the student's own; what it imports from there is a submission without tasks or a problem.
    """

    student: str
    file: Path
    name: str
    tasks: tuple[str, ...]
    problem: Remark | None = None
    aliases: tuple[str, ...] = ()
    beside: Path | None = None


@dataclass(frozen=True)
class Handed:
    """Submissions, and learners' records of hints and solutions, by student."""

    files: list[Submission]
    records: dict[str, dict[str, Any]]


def submissions(directory: Path, work: Path, only: Sequence[str] = (), aside: Collection[Path] = ()) -> Handed:
    """Return the submissions in a directory, or in a zip file from a learning platform.

    An entry is a student's: `STUDENT.py`, `.ipynb` or `.zip`, or a directory; the names of Moodle, Canvas and
    Blackboard are understood. Extracted files, such as a notebook's Python, are written under `work`. Files that cannot
    be graded are included with the reason; left out are the output of grading, and files that are `aside`.

    Raises:
        UserError: if there are no submissions.
    """
    given, lost = directory, list[Remark]()
    if directory.is_file() and directory.suffix.lower() == ZIP:
        unpacking = Unpacking(work / "class", size=64 * EXTRACTED)
        directory = unpacking.extracted(directory, every=True)
        lost = [each for each in unpacking.problems if each.file]
        if unpacking.problems != lost or not any(below(directory)):
            problem = unpacking.problems[0] if unpacking.problems else remark("empty")
            raise UnusableError(f"{given}: {problem.text('en')}", f"{given}: {problem.text('ko')}")
    if not directory.is_dir():
        raise MissingError(*worded("no-submissions", directory=directory))
    handed = Handed([], {})
    entries = _entries(directory, {path.resolve() for path in aside})
    names = _names_in(entries)
    for number, entry in enumerate(each for each in entries if not _is_receipt(each, entries)):
        _take(entry, names, Unpacking(work / str(number)), only, handed)
    handed.files[:] = _reunited(handed.files, work / "reunited")
    for each in lost:  # members of the class's file, each of which costs its student alone
        place = directory.joinpath(*PurePosixPath(each.file).parts)
        entry = next((entry for entry in entries if place.is_relative_to(entry)), place)
        student, aliases = _whose(entry, names)
        handed.files.append(Submission(student, given, "", (), each, aliases))
    answered = {each.student for each in handed.files}
    only_records = [name for name in handed.records if name not in answered]
    handed.files.extend(Submission(name, directory, "", (), remark("empty")) for name in only_records)
    if not handed.files:
        raise MissingError(*worded("nothing-to-grade", directory=given))
    return handed


def _entries(directory: Path, aside: Collection[Path]) -> list[Path]:
    """Return the students' entries of a directory, and of what a platform gave for groups of them; or, if all it has is
    the directory of the class, of that.
    """
    found = sorted(_inside(directory), key=lambda entry: (entry.is_dir(), entry))
    found = [each for each in found if each.resolve() not in aside and not is_written(each)]
    found = [inner for each in found for inner in (_entries(each, aside) if _is_of_a_class(each) else [each])]
    return _entries(found[0], aside) if len(found) == 1 and _holds_a_class(found[0]) else found


def _inside(directory: Path) -> list[Path]:
    """Return what is in a directory, without what is hidden or a system's."""
    return [each for each in directory.iterdir() if not each.name.startswith(".") and each.name not in OF_SYSTEMS]


def is_grades(table: Path) -> bool:
    """Return whether a file is a table of grades, by its first columns."""
    with opened(table, TEXT_BYTES) as opens:
        return opens.read(64).startswith(codecs.BOM_UTF8 + b"number,student,files,")


def is_written(entry: Path) -> bool:
    """Return whether an entry is the output of grading, rather than of a student with such a name."""
    if not entry.is_dir():
        return entry.name in WRITTEN or _is_of_grades(entry)
    inside = list(entry.iterdir())
    if entry.name in HANDED_BACK and all(each.suffix == HANDED_BACK[entry.name] for each in inside):
        return True
    return any(map(_is_of_grades, inside)) and all(map(is_written, inside))


def _is_of_grades(file: Path) -> bool:
    """Return whether a file is a table of grades under another name, or lies beside one: `NAME.csv`, `NAME.parts.csv`,
    `NAME.jsonl`.
    """
    if file.suffix not in (".csv", ".jsonl"):
        return False
    table = file.with_name(f"{file.stem.removesuffix('.parts')}.csv")
    try:
        return table.is_file() and is_grades(table)
    except OSError:  # it cannot be read
        return False


def _holds_a_class(directory: Path) -> bool:
    """Return whether the only entry of a directory or zip file is itself a directory of students' entries, and not one
    student's: it has no platform's name, and more in it than one file, none of them named as a sheet's.
    """
    if not directory.is_dir() or _of_a_platform(directory) is not None:
        return False
    inside = _inside(directory)
    if any(each.is_file() and (each.name == RECORD or each.stem.startswith(tuple(SHEETS.values()))) for each in inside):
        return False
    return len(inside) > 1 or any(each.is_dir() or _of_a_platform(each) is not None for each in inside)


def _is_of_a_class(entry: Path) -> bool:
    """Return whether an entry is a directory of students' entries from a platform, such as those of a group; and not a
    student's own, whose plots may have such names by chance.
    """
    if not entry.is_dir() or _of_a_platform(entry) is not None:
        return False
    inside = [each for each in _inside(entry) if each.is_dir() or each.suffix.lower() in GRADED]
    named = [each for each in inside if _of_a_platform(each) is not None]
    if any(each.is_file() and each not in named for each in inside):
        return False
    if any(_PLATFORMS[0].fullmatch(_stem(each)) for each in named):
        return True  # Moodle's, also of a group of one
    names = _names_in(named)
    return len({_whose(each, names)[0] for each in named}) > 1


def _take(entry: Path, names: Names, unpacking: Unpacking, only: Sequence[str], handed: Handed) -> None:
    """Add what an entry of the directory holds: its answers, and why others are not graded if there are none."""
    student, aliases = _whose(entry, names)
    if _is_of_a_record(entry):
        handed.records[student] = _record(entry)
        return
    answers, others = list[Submission](), list[str]()
    for number, (name, file) in enumerate(unpacking.found(entry, text_of(entry.name))):
        if file.name == RECORD and file != entry:
            handed.records[student] = _record(file)
            continue
        each = _submission(student, aliases, file, name, unpacking.place / f"{number}.py", only)
        if file.suffix.lower() in (ANSWERS, NOTEBOOK) or each.tasks:
            answers.append(each if file == entry else replace(each, beside=file.parent))
        else:
            others.append(name)
    handed.files.extend(_without_modules(answers))
    problems = unpacking.problems
    if not answers and not problems:
        came = ", ".join([*others[:5], "…"] if len(others) > 5 else others)
        problems = [remark("not-answers", came=came) if others else remark("empty")]
    handed.files.extend(Submission(student, entry, "", (), problem, aliases) for problem in problems)


def _reunited(files: Sequence[Submission], work: Path) -> Iterator[Submission]:
    """Yield the submissions; those of a student that a platform put among all others', and of which one imports
    another, are copied into a directory of the student's, under the names that they were handed in with.
    """
    own: dict[str, dict[str, Submission]] = {}  # by student, and by the name without a suffix
    for each in files:
        match = _of_a_platform(Path(each.name)) if each.name and each.beside is None else None
        if match is not None and (name := match.groupdict().get("file")):
            own.setdefault(each.student, {})[re.sub(r"-\d+$", "", name)] = each  # Canvas numbers what comes again
    moved: dict[Submission, Submission] = {}
    for number, by_name in enumerate(own.values()):
        readable = {
            name: each
            for name, each in by_name.items()
            if each.problem in (None, remark("no-function", each.name), remark("not-asked", each.name))
        }
        content = {name: each.file.read_bytes() for name, each in readable.items()}
        if readable.keys().isdisjoint(module for text in content.values() for module in imported_in(decoded(text))):
            continue
        beside = work / str(number)
        beside.mkdir(parents=True)
        for name, each in readable.items():
            file = beside / f"{name}.py"
            file.write_bytes(content[name])
            moved[each] = replace(each, file=file, beside=beside)
    yield from _without_modules([moved.get(each, each) for each in files])


def _without_modules(answers: Sequence[Submission]) -> Iterator[Submission]:
    """Yield a student's answers, where no function of the exercises is missing in what others of them import."""
    bare = {each for each in answers if each.problem == remark("no-function", each.name)}
    imported = {
        (each.beside, name)
        for each in answers
        if each.beside is not None and (each.tasks or each in bare)
        for name in imported_in(decoded(each.file.read_bytes()))
    }
    for each in answers:
        above = {(path.parent, path.stem) for path in (each.file, *each.file.parents)}
        is_module = each in bare and not above.isdisjoint(imported)
        yield replace(each, problem=None) if is_module else each


def _is_receipt(entry: Path, entries: Sequence[Path]) -> bool:
    """Return whether an entry is Blackboard's own, which it puts beside the files of an attempt:
    `Lab 1_hong_attempt_DATE.txt`.
    """
    match = _of_a_platform(entry) if entry.suffix == ".txt" else None
    whole = match is not None and "assigned" in match.groupdict() and not match["file"]
    return whole and any(other.name.startswith(f"{entry.stem}_") for other in entries)


def _whose(entry: Path, names: Names) -> tuple[str, tuple[str, ...]]:
    """Return the student of an entry, and the names that the student may have on a roster: of a name that no platform
    gave, also a long number in it, as in `HW_1_20231234_홍길동`.
    """
    match = _of_a_platform(entry)
    if match is not None and "assigned" in match.groupdict():
        whole, last = match["assigned"] + match["name"], match["name"]
        name = whole.removeprefix(names.assignment) if names.assignment else last
        return name, (name, last)
    if match is None or (student := f"{match['name']}_{match['id']}") in names.chance:
        return _stem(entry), (_stem(entry), *re.findall(r"\d{5,}", _stem(entry)))
    return student, (match["name"], match["id"], student)


def _names_in(entries: Sequence[Path]) -> Names:
    """Return how these entries of a class are named."""
    answers = [entry for entry in entries if entry.suffix.lower() in GRADED]
    canvas = [match for entry in answers if (match := _PLATFORMS[1].fullmatch(_stem(entry)))]
    own = (Path(RECORD).stem, *SHEETS.values())
    files = Counter(f"{match['name']}_{match['id']}" for match in canvas if not match["file"].startswith(own))
    chance = frozenset(name for name, count in files.items() if count > MOST_OF_ONE or len(files) == 1 < count)
    return Names(_assignment(entries), chance)


def _assignment(entries: Sequence[Path]) -> str:
    """Return the assignment that is part of the names from Blackboard."""
    matches = [match for entry in entries if (match := _of_a_platform(entry)) and "assigned" in match.groupdict()]
    names = {match["assigned"] + match["name"] for match in matches}
    same = takewhile(lambda letters: len({*letters}) == 1, zip(*(match["assigned"] for match in matches), strict=False))
    begins = "".join(letters[0] for letters in same)
    return begins[: begins.rfind("_") + 1] if len(names) > 1 else ""


def _is_of_a_record(entry: Path) -> bool:
    """Return whether an entry is a record of hints that a platform has renamed (Canvas numbers later ones)."""
    match = _of_a_platform(entry) if entry.suffix == Path(RECORD).suffix else None
    return match is not None and re.fullmatch(rf"{Path(RECORD).stem}(-\d+)?", match["file"] or "") is not None


def _of_a_platform(entry: Path) -> re.Match[str] | None:
    """Return the parts of a name that a learning platform gave."""
    matches = (platform.fullmatch(_stem(entry)) for platform in _PLATFORMS)
    return next((match for match in matches if match is not None), None)


def _stem(entry: Path) -> str:
    """Return an entry's name without the suffixes of files, as in `kim.py.txt`."""
    name = entry.name
    while not entry.is_dir() and Path(name).suffix.lower() in _SUFFIXES:
        name = Path(name).stem
    return unicodedata.normalize("NFC", text_of(name))


def _submission(
    student: str, aliases: tuple[str, ...], file: Path, name: str, python: Path, only: Sequence[str]
) -> Submission:
    """Return a file as a submission: a notebook's Python is written to `python`; a file of another kind has tasks if it
    is Python all the same.
    """
    tasks: tuple[str, ...] = ()
    problem: Remark | None = None
    suffix = file.suffix.lower()
    try:
        if not file.is_file():
            problem = remark("not-regular", name)
        elif file.stat().st_size > (most := most_of(file)):
            problem = remark("too-large", name, size=most // 2**20)
        else:
            with opened(file, most) as opens:
                content = opens.read()
            if suffix == NOTEBOOK:
                content = notebooks.code(content).encode()
                python.parent.mkdir(parents=True, exist_ok=True)
                python.write_bytes(content)
                file = python
            text = decoded(content)
            tasks = tasks_of(text, only) if suffix in (ANSWERS, NOTEBOOK) or parsed(text) is not None else ()
            problem = None if tasks else remark("not-asked" if only and tasks_of(text) else "no-function", name)
    except OSError as error:
        problem = remark("unreadable", name, reason=error.strerror or error)
    except ValueError as error:
        problem = remark("unreadable", name, reason=error)
    return Submission(student, file, name, tasks, problem, aliases)


def _record(file: Path) -> dict[str, Any]:
    """Return a learner's record of hints and solutions; empty if it is not one."""
    try:
        with opened(file, MOST) as opens:
            record = parse_json(opens.read().decode())
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def decoded(content: bytes) -> str:
    """Return Python source as text: as Python decodes it or, if it cannot, in the most likely encoding."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    found = ["cp949"]  # of an editor on a Korean Windows
    with suppress(SyntaxError, LookupError):  # its declared encoding does not exist, or does not match
        found.insert(0, tokenize.detect_encoding(io.BytesIO(content).readline)[0])
    for encoding in found:
        with suppress(UnicodeDecodeError, LookupError):  # the latter of one that is none of text
            return content.decode(encoding)
    return content.decode("latin-1")


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
        table = list(_cells(content))
    except ValueError as error:
        raise WrongValueError(*worded("roster-no-table", file=file)) from error
    rows = [names for row in table if (names := tuple(cell.strip() for cell in row if cell.strip()))]
    if rows and _is_heading(rows[0]):
        rows = rows[1:]
    if not rows:
        raise MissingError(*worded("roster-empty", file=file))
    return rows


def _is_heading(cells: Sequence[str]) -> bool:
    """Return whether the cells of a roster's first line are headings, and no student."""
    if any("@" in cell or cell.isdigit() for cell in cells):
        return False
    words = [set(re.split(r"[\W_]+", cell.casefold())) - {""} for cell in cells]
    return any(each & _HEADINGS and each <= _HEADINGS | _BESIDE_HEADINGS for each in words)


def read_table(file: Path, *needed: str) -> list[dict[str, str]]:
    """Return the rows of a table by their columns, as a spreadsheet has saved it. Of columns with one heading, or none,
    the later ones have blanks behind it.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no table, or lacks a column that is needed.
    """
    with opened(file, TEXT_BYTES) as opens:
        columns, *rows = [*_cells(opens.read())] or [[]]
    if not set(needed) <= set(columns) or any(len(row) > len(columns) for row in rows):
        raise ValueError(f"{file} is not the table that it should be")
    columns = [column + " " * columns[:place].count(column) for place, column in enumerate(columns)]
    # Excel leaves out empty cells at the end of a row
    return [dict(zip(columns, row + [""] * (len(columns) - len(row)), strict=True)) for row in rows if row]


def _cells(content: bytes) -> Iterator[list[str]]:
    """Yield the rows of a table, whose cells stand between commas, semicolons or tabs.

    Raises:
        ValueError: if it is no text, such as a workbook.
    """
    text = _of_a_table(content)
    csv.field_size_limit(TEXT_BYTES)  # an answer may be long
    first = text.partition("\n")[0]
    try:
        yield from csv.reader(
            io.StringIO(text, newline=""), delimiter=max("\t;,", key=first.count)
        )  # `Hong, Gildong;1`
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _of_a_table(content: bytes) -> str:
    """Return the text of a table, in the encodings in which spreadsheets write it."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content or content.startswith(b"PK"):
        raise ValueError("it is a workbook, or something else that is no text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # as Excel writes it in Korea, where two bytes are a syllable, or in the West, where each is a letter or a quote
        with suppress(UnicodeDecodeError):
            if re.search(rb"[\xb0-\xc8][\xa1-\xfe]", content):
                return content.decode("cp949")
        return content.decode("cp1252", errors="replace")


def key(name: str) -> str:
    """Return a name for comparison: without blanks, commas, underscores and hyphens, in lower case, in composed
    Unicode.
    """
    return re.sub(r"[\s,_-]", "", unicodedata.normalize("NFC", name)).casefold()
