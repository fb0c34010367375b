"""Run directories: one trial is one directory, and its name is the hash of its config.

    trial.json            the frozen config, the environment, the hash of the code
    metrics.jsonl         a line an epoch, appended and flushed
    checkpoint.pt         everything needed to go on, sealed with its hash; checkpoint.previous.pt is the one before
    weights.safetensors   the trained network
    SHA256SUMS            the hashes of the other files (`sha256sum --check SHA256SUMS`)
    result.json           the outcome; a trial is finished when it exists
    progress.json         how far it is, for whoever looks on; gone when it is finished

`metrics.jsonl` grows by appending; every other file appears whole or not at all (write, fsync, rename). What is damaged afterwards is found by its
hash and named, and nothing is built on it.
"""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from reslab.errors import DamagedError

Json = dict[str, Any]

METRICS = "metrics.jsonl"
PROGRESS = "progress.json"
TRIAL = "trial.json"
SUMS = "SHA256SUMS"
SEAL = b"# reslab sha256 %s\n"
LINE_BYTES = 4096
"""More than any line of metrics has."""


class Config(BaseModel):
    """A frozen config that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
    got = "" if first["type"] == "value_error" else f", got {first['input']!r}"
    return f"{where}: {message}{got}" if where else message


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


def parse_json(text: str | bytes) -> Any:
    """Return what JSON says; whatever is wrong with it, the error is a ValueError."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file."""
    return parse_json(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(content: bytes) -> bytes:
    """Return the content behind a line with its hash."""
    return SEAL % hashlib.sha256(content).hexdigest().encode() + content


def read_sealed(path: Path) -> bytes:
    """Return the content of a sealed file.

    Raises:
        DamagedError: if it is not what was sealed.
    """
    _, _, content = (whole := path.read_bytes()).partition(b"\n")
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
    except (OSError, DamagedError) as error:
        raise DamagedError(f"{directory / SUMS} is missing or damaged, so nothing says that the run is whole; {advice}") from error
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in names or sums:
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
        self._result = self.path / "result.json"

    def create(self) -> None:
        """Make the directory and `trial.json`; what is already there stays.

        Raises:
            DamagedError: if the `trial.json` that is there is not this trial's.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / TRIAL).exists():
            self._check_trial()
        else:
            write_json(self.path / TRIAL, {"config": self.config.model_dump(mode="json"), "environment": environment(), "code": code_digest()})

    def _check_trial(self) -> None:
        try:
            whole = read_json(self.path / TRIAL)["config"] == self.config.model_dump(mode="json")
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
            DamagedError: if one is not.
        """
        self._check_trial()
        check_files(self.path)
        result: Json = read_json(self._result)
        return result

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """Record the outcome; this is what makes the trial finished. The checkpoints are no longer needed and go."""
        result = json_text({**outcome, "code": code_digest()})
        sums = {path.name: sha256(path) for path in (self.path / TRIAL, self._metrics, self.weights) if path.exists()}
        write_sums(self.path, {**sums, self._result.name: hashlib.sha256(result.encode()).hexdigest()})
        write_atomically(self._result, result)
        for path in (self.checkpoint, self.previous_checkpoint, self.path / PROGRESS):
            path.unlink(missing_ok=True)

    def tell(self, progress: Mapping[str, Any]) -> None:
        """Write how far the trial is, for whoever looks on: nothing depends on it, and that it cannot be written stops nothing."""
        with suppress(OSError):
            (self.path / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")

    def progress(self) -> Json:
        """Return what was told last; an empty one where there is none, or where it is being written."""
        with suppress(OSError, ValueError):
            return dict(read_json(self.path / PROGRESS))
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
        content = self._metrics.read_bytes()[: mark.length] if self._metrics.exists() else b""
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
        """Yield the recorded lines."""
        return read_metrics(self.path)

    def latest_metrics(self) -> Json:
        """Return the last whole line, found from the end however long the file is; an empty one where there is none."""
        if not self._metrics.exists():
            return {}
        with self._metrics.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LINE_BYTES))
            lines = file.read().split(b"\n")[:-1]
        with suppress(IndexError, ValueError):
            return dict(parse_json(lines[-1]))
        return {}


def read_metrics(directory: Path) -> Iterator[Json]:
    """Yield the lines of a run directory's `metrics.jsonl`; a last line still being written is left out."""
    path = directory / METRICS
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield parse_json(line)
