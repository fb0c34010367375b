"""Files are written atomically, sealed with a hash, and read as untrusted input.

A hash shows that a file is unchanged, not who wrote it. So whatever is read back is checked against its `Shape`. Only
regular files of bounded size are read, as a pipe or a device may have no end.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from math import isfinite
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from reslab.errors import DamagedError, UserError, WrongValueError, worded

Json = dict[str, Any]

SEAL = b"# reslab sha256 %s\n"
TEXT_BYTES = 2**28
"""Bytes; more than any record has, and more than all lines of metrics."""
TENSOR_BYTES = 2**36
"""Bytes; more than any checkpoint or weights file has."""
DEPTH = 50
"""More than the lists and objects of any record are nested."""
INPUT = 200
"""Characters of a wrong value that are shown."""
DIGITS = 20
"""As many as any whole number of a record has: a seed is under 2**64."""


class Shape(BaseModel):
    """Some keys of a JSON object and the types of their values, without conversion; other keys are allowed."""

    model_config = ConfigDict(extra="allow", strict=True)


def one_line(error: ValidationError) -> str:
    """Return the first complaint of a validation error as one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    got = "" if first["type"] in ("value_error", "missing") else f", got {_shown(first['input'])}"
    return f"{where}: {message}{got}" if where else message


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text[:INPUT] + ("…" if len(text) > INPUT else "")


EXPECTED = {
    "greater_than": "{gt} 초과",
    "greater_than_equal": "{ge} 이상",
    "less_than": "{lt} 미만",
    "less_than_equal": "{le} 이하",
    "finite_number": "유한한 수",
    "literal_error": "{expected}",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "정수"),
    **dict.fromkeys(("float_type", "float_parsing"), "수"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true 또는 false"),
    "string_type": "문자열",
}
"""What was expected in Korean, by the kind of a complaint of pydantic."""


def wrong_value(error: ValidationError) -> WrongValueError:
    """Return the first complaint of a validation error of what a user gave; in Korean too, if its kind is known."""
    first = error.errors()[0]
    if first["type"] not in EXPECTED:
        cause = first.get("ctx", {}).get("error")  # of a validator of ours
        return WrongValueError(one_line(error), cause.korean if isinstance(cause, UserError) else None)
    where = ".".join(str(part) for part in first["loc"])
    expected = EXPECTED[first["type"]].format(**first.get("ctx", {})).replace(" or ", ", ")
    korean = f"{where}에 쓸 수 없는 값이다: {_shown(first['input'])}. 쓸 수 있는 값: {expected}"
    return WrongValueError(one_line(error), korean)


def wrong(kind: type[Shape], value: Any) -> str | None:
    """Return in one line what is wrong with a value read from a file; None if it is valid."""
    try:
        kind.model_validate(value)
    except ValidationError as error:
        return one_line(error)
    return None


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file atomically: a reader, or a crash, finds the old content or the new, never a mixture."""
    # not of the process alone: machines and containers that share a storage may have the same
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # make the rename itself durable; Windows has no handle for a directory
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            with suppress(OSError):  # some file systems have none for directories; the file is there
                os.fsync(directory)
        finally:
            os.close(directory)


def write_new(path: Path, content: str) -> None:
    """Write a file that does not exist yet; if that fails, there is none afterwards either.

    Raises:
        FileExistsError: if it exists.
    """
    with path.open("xb") as file:
        try:
            file.write(content.encode())
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):  # of what could not be written
                file.close()
            path.unlink(missing_ok=True)
            raise


def finite(value: Any) -> Any:
    """Return a value with None for every number that is not finite, as JSON has no such numbers."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, list | tuple) else value


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
    """Return the value of a JSON text. Raises ValueError for anything that no record of reslab contains."""
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    # other texts hold nothing to find, and there are many lines of metrics
    if "\\u" in text or text.count("[") + text.count("{") > DEPTH:
        _check_parts(value, DEPTH)
    return value


def encodable(value: Any) -> Any:
    """Return a JSON value whose texts can all be encoded: lone surrogates are escaped."""
    if isinstance(value, str):
        return value.encode("utf-8", errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {encodable(key): encodable(each) for key, each in value.items()}
    return [encodable(each) for each in value] if isinstance(value, list) else value


def _check_parts(value: Any, depth: int) -> None:
    """Check that every text can be encoded, and that nothing is nested deeper than `depth`.

    Raises:
        ValueError: if not.
    """
    if isinstance(value, str):
        value.encode()  # half of a surrogate pair cannot be encoded
    elif isinstance(value, dict | list):
        if depth == 0:
            raise ValueError("nested too deeply")
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            _check_parts(part, depth - 1)


@contextmanager
def opened(path: Path, most: int) -> Iterator[BufferedReader]:
    """Open a file for reading.

    Raises:
        DamagedError: if it is not a regular file, or has more than `most` bytes.
    """
    found = path.stat()  # before it is opened, as opening a pipe would wait for a writer
    if not stat.S_ISREG(found.st_mode):
        raise DamagedError(*worded("no-regular-file", path=path))
    if found.st_size > most:
        raise DamagedError(*worded("file-too-large", path=path, size=found.st_size))
    with path.open("rb") as file:
        yield file


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not JSON, or not possible in a record.
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
        raise DamagedError(*worded("file-damaged", path=path, reason=error)) from error
    if complaint := wrong(kind, record):
        raise DamagedError(*worded("unexpected-content", path=path, complaint=complaint))
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
        raise DamagedError(*worded("seal-broken", path=path))
    return content


def file_name(text: str, instead: str = "-") -> str:
    """Return a text as part of a file's name on any system, with another letter where one may not be."""
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]', instead, text)


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that nothing mistakes it for a good one, and return its new path."""
    return path.replace(path.with_name(f"{path.name}.damaged"))
