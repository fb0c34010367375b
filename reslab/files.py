"""Files as the lab writes and reads them: whole or not at all, sealed with a hash, and read as a stranger's.

A hash says that a file is as it was written, and not by whom: what is read back is seen to be of its `Shape`, and only
regular files of a bounded size are read, as a pipe or a device may have no end.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from reslab.errors import DamagedError

Json = dict[str, Any]

SEAL = b"# reslab sha256 %s\n"
TEXT_BYTES = 2**28
"""More than any record has, and all lines of metrics."""
TENSOR_BYTES = 2**36
"""More than any checkpoint or weights file has."""
DEPTH = 50
"""More than the lists and objects of any record are nested."""
INPUT = 200
"""Characters of a wrong value that are shown."""
DIGITS = 20
"""As many as any whole number of a record has: a seed is under 2**64."""


class Shape(BaseModel):
    """Some keys of a JSON object with the kinds of their values, taken literally; there may be others."""

    model_config = ConfigDict(extra="allow", strict=True)


def one_line(error: ValidationError) -> str:
    """Return the first complaint of a validation error as one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    value = "" if first["type"] in ("value_error", "missing") else " ".join(repr(first["input"]).split())
    got = f", got {value[:INPUT]}{'…' if len(value) > INPUT else ''}" if value else ""
    return f"{where}: {message}{got}" if where else message


def wrong(kind: type[Shape], value: Any) -> str | None:
    """Return what is wrong with a value read from a file, in one line; None if it is of the kind."""
    try:
        kind.model_validate(value)
    except ValidationError as error:
        return one_line(error)
    return None


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one and never a mixture."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # make the new name itself durable; Windows has no handle for a directory
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def json_text(value: Any) -> str:
    """Return a value as readable JSON."""
    return json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable UTF-8 JSON, atomically."""
    write_atomically(path, json_text(value))


def _whole(digits: str) -> int:
    if len(digits) > DIGITS + 1:  # one for a sign
        raise ValueError(f"a whole number of {len(digits)} digits is too large")
    return int(digits)


_DECODER = json.JSONDecoder(parse_int=_whole)


def parse_json(text: str) -> Any:
    """Return what JSON says, if it is nothing that a record of the lab's cannot be; whatever is wrong with it, the
    error is a ValueError.
    """
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    # else it holds nothing to find, and lines of metrics are many
    if "\\u" in text or text.count("[") + text.count("{") > DEPTH:
        _check_parts(value, DEPTH)
    return value


def _check_parts(value: Any, depth: int) -> None:
    """Check that every text can be written, and that nothing is nested more than `depth` deep.

    Raises:
        ValueError: if not.
    """
    if isinstance(value, str):
        value.encode()  # half of a surrogate pair cannot be
    elif isinstance(value, dict | list):
        if depth == 0:
            raise ValueError("nested too deeply")
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            _check_parts(part, depth - 1)


@contextmanager
def opened(path: Path, most: int) -> Iterator[BufferedReader]:
    """Give a file to be read, opened.

    Raises:
        DamagedError: if it is no regular file, or has more than `most` bytes.
    """
    found = path.stat()  # before it is opened, which of a pipe would wait for a writer
    if not stat.S_ISREG(found.st_mode):
        raise DamagedError(f"{path} is not a regular file; move it away")
    if found.st_size > most:
        raise DamagedError(f"{path} has {found.st_size:,} bytes, too many for a file of its kind; move it away")
    with path.open("rb") as file:
        yield file


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no JSON, or not what a record can be.
    """
    with opened(path, TEXT_BYTES) as file:
        return parse_json(file.read().decode())


def read_record(path: Path, kind: type[Shape]) -> Json:
    """Read a JSON file that holds an object of this kind.

    Raises:
        OSError: if it cannot be read.
        DamagedError: if it does not.
    """
    try:
        record = read_json(path)
    except DamagedError:
        raise
    except ValueError as error:
        raise DamagedError(f"{path} is damaged ({error})") from error
    if complaint := wrong(kind, record):
        raise DamagedError(f"{path} does not have the expected content ({complaint})")
    return dict(record)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with opened(path, TENSOR_BYTES) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(content: bytes) -> bytes:
    """Return the content behind a line with its hash."""
    return SEAL % hashlib.sha256(content).hexdigest().encode() + content


def read_sealed(path: Path) -> bytes:
    """Return the content of a sealed file.

    Raises:
        DamagedError: if it is not what was sealed.
    """
    with opened(path, TENSOR_BYTES) as file:
        whole = file.read()
    _, _, content = whole.partition(b"\n")
    if whole != sealed(content):
        raise DamagedError(f"{path} is damaged: its content does not match its hash")
    return content


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that nothing takes it for a good one, and return where it is."""
    return path.replace(path.with_name(f"{path.name}.damaged"))
