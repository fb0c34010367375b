"""Run directories: one trial is one directory, and its name is the hash of its config.

    trial.json            the frozen config, the environment, the hash of the code
    metrics.jsonl         a line an epoch, appended and flushed
    checkpoint.pt         everything needed to go on
    weights.safetensors   the trained network
    result.json           the outcome; a trial is finished when it exists

`metrics.jsonl` grows by appending; every other file appears whole or not at all (write, fsync, rename).
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
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

Json = dict[str, Any]

METRICS = "metrics.jsonl"


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


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable UTF-8 JSON, atomically."""
    write_atomically(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


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


class Run:
    """The directory of one trial: `root / config.digest()`."""

    def __init__(self, root: Path, config: Config) -> None:
        self.path = root / config.digest()
        self.config = config
        self.checkpoint = self.path / "checkpoint.pt"
        self.weights = self.path / "weights.safetensors"
        self._metrics = self.path / METRICS
        self._result = self.path / "result.json"

    def create(self) -> None:
        """Make the directory and `trial.json`; what is already there stays."""
        self.path.mkdir(parents=True, exist_ok=True)
        trial = self.path / "trial.json"
        if not trial.exists():
            write_json(trial, {"config": self.config.model_dump(mode="json"), "environment": environment(), "code": code_digest()})

    @property
    def finished(self) -> bool:
        """Say whether the trial has a result."""
        return self._result.exists()

    def result(self) -> Json:
        """Return `result.json`."""
        result: Json = read_json(self._result)
        return result

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """Record the outcome; this is what makes the trial finished. The checkpoint is no longer needed and goes."""
        write_json(self._result, {**outcome, "code": code_digest()})
        self.checkpoint.unlink(missing_ok=True)

    @property
    def metrics_length(self) -> int:
        """Return the size of `metrics.jsonl` in bytes: what a checkpoint stores and a resume cuts back to."""
        return self._metrics.stat().st_size if self._metrics.exists() else 0

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


def read_metrics(directory: Path) -> Iterator[Json]:
    """Yield the lines of a run directory's `metrics.jsonl`; a last line still being written is left out."""
    path = directory / METRICS
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
