"""Run directories: one trial is one directory, and its name is the hash of its config.

    trial.json            the frozen config, the environment, the hash of the code
    metrics.jsonl         a line an epoch, appended and flushed
    checkpoint.pt         everything needed to go on, sealed with its hash; checkpoint.previous.pt is the one before
    weights.safetensors   the trained network
    wrong.json            which images of a part the trained network gets wrong: {part: {"images": how many, "bits": in hex}}
    SHA256SUMS            the hashes of the other files (`sha256sum --check SHA256SUMS`)
    result.json           the outcome; a trial is finished when it exists
    progress.json         how far it is, for whoever looks on; gone when it is finished

Image i of a part, in its order, is bit i of `bits`, the first being the highest of the first byte; it is 1 where the network is wrong. Runs of
version 0.1 have no `wrong.json`.

`metrics.jsonl` grows by appending; every other file appears whole or not at all (write, fsync, rename). What is damaged afterwards is found by its
hash and named, and nothing is built on it. A hash says that a file is as it was written, and not by whom: what is read back is also seen to be of
its `Shape`, and only regular files of a bounded size are read, as a pipe or a device may have no end.
"""

import hashlib
import json
import os
import platform
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from reslab.errors import DamagedError

if TYPE_CHECKING:
    import numpy as np

    Marks = np.ndarray[Any, np.dtype[np.bool_]]

Json = dict[str, Any]

METRICS = "metrics.jsonl"
PROGRESS = "progress.json"
TRIAL = "trial.json"
RESULT = "result.json"
WRONG = "wrong.json"
SUMS = "SHA256SUMS"
SEAL = b"# reslab sha256 %s\n"
LINE_BYTES = 4096
"""More than any line of metrics has."""
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


Value = str | int | float | None
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Settings(Shape):
    """A trial's config, as far as it is shown."""

    model: str | None = None
    options: dict[str, Value] = {}
    recipe: dict[str, JsonValue] = {}


class Environment(Shape):
    """Where a trial ran."""

    packages: dict[str, str] = {}


class TrialFile(Shape):
    """What `trial.json` holds."""

    config: Settings = Field(default_factory=Settings)
    environment: Environment = Field(default_factory=Environment)


class Line(Shape):
    """A line of `metrics.jsonl`: numbers, or null where there is none."""

    __pydantic_extra__: dict[str, Number | None]


class Progress(Shape):
    """What `progress.json` holds."""

    step: int = Field(gt=0)
    steps: int = Field(gt=0)
    epoch: int
    epochs: int
    loss: float
    train_error: float
    heldout_error: float | None
    seconds: float
    images_per_second: float


class Bits(Shape):
    """A bit per image, in hex."""

    images: int = Field(ge=0)
    bits: str = Field(pattern="^([0-9a-f]{2})*$")

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.bits) != 2 * -(-self.images // 8):
            raise ValueError(f"{len(self.bits)} digits are not the bits of {self.images} images")
        return self


class WrongFile(Shape):
    """What `wrong.json` holds: a part's name, and its bits."""

    __pydantic_extra__: dict[str, Bits]


class Outcome(Shape):
    """What `result.json` holds of any run, as far as it is shown."""

    status: Literal["finished", "diverged"]
    params: int | None = None
    train_error: Share | None = None
    test_error: Share | None = None


class Config(BaseModel):
    """A frozen config that refuses unknown keys, and the shapes of what a run of it leaves."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    line: ClassVar[type[Line]] = Line
    outcome: ClassVar[type[Outcome]] = Outcome

    def canonical_json(self) -> str:
        """Return the JSON text that is hashed: keys sorted, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def digest(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:16]


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
    """Return what JSON says, if it is nothing that a record of the lab's cannot be; whatever is wrong with it, the error is a ValueError."""
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if "\\u" in text or text.count("[") + text.count("{") > DEPTH:  # else it holds nothing to find, and lines of metrics are many
        _check_parts(value, DEPTH)
    return value


def _check_parts(value: Any, depth: int) -> None:
    """See that every text can be written, and that nothing is nested more than `depth` deep.

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
        raise DamagedError(f"{path} is no regular file, and is not read; move it away")
    if found.st_size > most:
        raise DamagedError(f"{path} has {found.st_size:,} bytes, more than any file of its kind, and is not read; move it away")
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
        raise DamagedError(f"{path} does not hold what such a file does ({complaint})")
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
        raise DamagedError(f"{path} is damaged: its content does not have the hash that it was sealed with")
    return content


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that nothing takes it for a good one, and return where it is."""
    return path.replace(path.with_name(f"{path.name}.damaged"))


def write_sums(directory: Path, sums: Mapping[str, str]) -> None:
    """Write `SHA256SUMS`, itself sealed, from the hash of each file."""
    write_atomically(directory / SUMS, sealed("".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()))


def check_files(directory: Path, *names: str) -> None:
    """See that files of a finished run (by default all) are as they were when it finished.

    Raises:
        DamagedError: naming the first that is not.
    """
    advice = "move the directory away and run again"
    try:
        lines = read_sealed(directory / SUMS).decode().splitlines()
    except (OSError, ValueError) as error:
        raise DamagedError(f"{directory / SUMS} is missing or damaged, so nothing says that the run is whole; {advice}") from error
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in names or dict.fromkeys((*sums, TRIAL, RESULT)):
        path = directory / name
        if not path.is_file() or sha256(path) != sums.get(name):
            raise DamagedError(f"{path} is {'damaged' if path.is_file() else 'missing'}: it is not as it was when the run finished; {advice}")


@cache
def code_digest() -> str:
    """Return the first 16 hex digits of the hash of the package's Python files, line endings aside."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]


@cache
def environment() -> Json:
    """Return what a result depends on besides its config: platform and versions."""
    packages = {}
    for name in ("reslab", "torch", "torchvision", "lightning-fabric", "numpy", "scikit-learn"):
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "python": sys.version.split()[0],
        "packages": packages,
    }


class Mark(NamedTuple):
    """How far `metrics.jsonl` had come: its length in bytes, and the hash of that much."""

    length: int
    sha256: str


class Run:
    """The directory of one trial: `root / config.digest()`."""

    def __init__(self, root: Path, config: Config) -> None:
        self.path = root / config.digest()
        self.config = config
        self.checkpoint = self.path / "checkpoint.pt"
        self.previous_checkpoint = self.path / "checkpoint.previous.pt"
        self.weights = self.path / "weights.safetensors"
        self._metrics = self.path / METRICS
        self._result = self.path / RESULT
        self._wrong = self.path / WRONG

    def create(self) -> None:
        """Make the directory and `trial.json`; what is already there stays.

        Raises:
            DamagedError: if the `trial.json` that is there is not this trial's, or if a pipe or a device is there, which would be waited for.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for path in self.path.iterdir():
            if path.exists() and not path.is_file() and not path.is_dir():
                raise DamagedError(f"{path} is no regular file; move it away")
        if (self.path / TRIAL).exists():
            self._check_trial()
        else:
            write_json(self.path / TRIAL, {"config": self.config.model_dump(mode="json"), "environment": environment(), "code": code_digest()})

    def _check_trial(self) -> None:
        try:
            whole = read_json(self.path / TRIAL)["config"] == self.config.model_dump(mode="json")
        except FileNotFoundError as error:
            gone = "the directory was removed or emptied under the run; the same command begins it again"
            raise DamagedError(f"{self.path / TRIAL} is missing: {gone}") from error
        except (OSError, ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise DamagedError(f"{self.path / TRIAL} is damaged: it does not hold the config that the directory is named after; delete it")

    def tidy(self) -> None:
        """Remove what killed processes had not finished writing; for the process that alone works here.

        Another that has just come may be writing `trial.json`, though, before it waits for its turn.
        """
        for path in self.path.glob(".*.tmp"):
            if not path.name.startswith(f".{TRIAL}."):
                path.unlink(missing_ok=True)

    @property
    def finished(self) -> bool:
        """Say whether the trial has a result."""
        return self._result.exists()

    def result(self) -> Json:
        """Return `result.json` of a finished run, all of whose files are seen to be whole.

        Raises:
            DamagedError: if one is not, or if the result is not one of such a run.
        """
        self._check_trial()
        check_files(self.path)
        return read_record(self._result, self.config.outcome)

    def write_wrong(self, parts: "Mapping[str, Marks]") -> None:
        """Write which images of each part the network gets wrong, `[N]`."""
        import numpy as np  # here, as reading a result needs none of it

        write_json(self._wrong, {part: {"images": len(wrong), "bits": np.packbits(wrong).tobytes().hex()} for part, wrong in parts.items()})

    def wrong(self) -> "dict[str, Marks]":
        """Return which images of each part the network of a finished run gets wrong, `[N]`, in the part's order; of a run of version 0.1, nothing.

        Raises:
            DamagedError: if a file of the run is not as it was, or `wrong.json` is not one of such a run.
        """
        import numpy as np

        check_files(self.path)
        if not self._wrong.exists():
            return {}
        parts = read_record(self._wrong, WrongFile)
        return {
            part: np.unpackbits(np.frombuffer(bytes.fromhex(found["bits"]), np.uint8), count=found["images"]).astype(bool)
            for part, found in parts.items()
        }

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """Record the outcome; this is what makes the trial finished. The checkpoints are no longer needed and go.

        Raises:
            DamagedError: if the directory is not the one any more that the trial began in.
        """
        self._check_trial()
        result = json_text({**outcome, "code": code_digest()})
        sums = {path.name: sha256(path) for path in (self.path / TRIAL, self._metrics, self.weights, self._wrong) if path.exists()}
        write_sums(self.path, {**sums, self._result.name: hashlib.sha256(result.encode()).hexdigest()})
        write_atomically(self._result, result)
        for path in (self.checkpoint, self.previous_checkpoint, self.path / PROGRESS):
            path.unlink(missing_ok=True)

    def tell(self, progress: Mapping[str, Any]) -> None:
        """Write how far the trial is, for whoever looks on: nothing depends on it, and that it cannot be written stops nothing."""
        temporary = self.path / f".{PROGRESS}.{os.getpid()}.tmp"
        with suppress(OSError):
            temporary.write_text(json.dumps(progress), encoding="utf-8")
            temporary.replace(self.path / PROGRESS)

    def progress(self) -> Json:
        """Return what was told last; an empty one where there is none that can be read."""
        with suppress(OSError, ValueError):
            return read_record(self.path / PROGRESS, Progress)
        return {}

    def write_checkpoint(self, content: bytes) -> None:
        """Write a sealed checkpoint and keep the one before it."""
        if self.checkpoint.exists():
            self.checkpoint.replace(self.previous_checkpoint)
        write_atomically(self.checkpoint, sealed(content))

    def mark_metrics(self) -> Mark:
        """Return how far `metrics.jsonl` has come, once that is on the disk: what a checkpoint stores and a resume cuts back to."""
        with self._metrics.open("ab+") as file:
            os.fsync(file.fileno())
            file.seek(0)
            return Mark(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())

    def holds(self, mark: Mark) -> bool:
        """Say whether `metrics.jsonl` still begins with what was marked."""
        content = b""
        if self._metrics.exists():
            with opened(self._metrics, TEXT_BYTES) as file:
                content = file.read(max(0, mark.length))
        return len(content) == mark.length and hashlib.sha256(content).hexdigest() == mark.sha256

    def cut_metrics(self, length: int) -> None:
        """Drop what was appended after the checkpoint that a resume starts from."""
        with self._metrics.open("ab") as file:
            file.truncate(length)

    def append_metrics(self, values: Mapping[str, Any]) -> None:
        """Append one line and flush it."""
        with self._metrics.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(values, allow_nan=False) + "\n")

    def metrics(self) -> Iterator[Json]:
        """Yield the recorded lines.

        Raises:
            DamagedError: if one is not of this kind of run.
        """
        return read_metrics(self.path, self.config.line)

    def latest_metrics(self) -> Json:
        """Return the last whole line, found from the end however long the file is; an empty one where there is none."""
        with suppress(OSError, IndexError, ValueError):
            with opened(self._metrics, TEXT_BYTES) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LINE_BYTES))
                lines = file.read().split(b"\n")[:-1]
            return self.config.line.model_validate_json(lines[-1]).model_dump(exclude_unset=True)
        return {}


def read_metrics(directory: Path, kind: type[Line] = Line) -> Iterator[Json]:
    """Yield the lines of a run directory's `metrics.jsonl`; a last line still being written is left out.

    Raises:
        DamagedError: if one is not of the kind.
    """
    path = directory / METRICS
    if not path.exists():
        return
    with opened(path, TEXT_BYTES) as file:
        for number, text in enumerate(file, start=1):
            if not text.endswith(b"\n"):
                return
            try:
                yield kind.model_validate_json(text).model_dump(exclude_unset=True)
            except ValidationError as error:
                raise DamagedError(f"{path} is damaged in line {number} ({one_line(error)})") from error
