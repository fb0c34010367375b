"""Run directories: one trial is one directory, and its name is the hash of its config.

- `trial.json`: the frozen config, the environment, the hash of the code
- `metrics.jsonl`: a line per epoch, appended and flushed
- `checkpoint.pt`: everything needed to resume, sealed with its hash; `checkpoint.previous.pt` is the one before
- `weights.safetensors`: the trained network; `weights-N.safetensors`: the same after N iterations, if asked for
- `wrong.json`: which images of a part the trained network gets wrong, `{part: {"images": how many, "bits": in hex}}`
- `confusion.json`: the confusion matrix, `{part: rows}`, a row per true class; the last column counts images without a
  finite score
- `ema.safetensors`: the moving average of the weights, if the recipe keeps one
- `beside.pt`: what training changed of a user's network beside its state dict, if anything
- `SHA256SUMS`: the hashes of the other files (`sha256sum --check SHA256SUMS`)
- `result.json`: the outcome; a trial is finished when it exists
- `progress.json`: the progress of a running trial; removed when it finishes

Image i of a part, in its order, is bit i of `bits`, the first being the highest of the first byte; it is 1 where the
network is wrong. Runs of version 0.1 have no `wrong.json`.

`metrics.jsonl` is appended to; every other file is written atomically. A file that is damaged later is found by its
hash, reported, and not used. What is read back is also checked against its `Shape` (see `reslab.files`). A study needs
the weights of a finished run only to measure the network anew: without them, the rest is a small record of the run.
"""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from reslab import digests
from reslab.errors import DamagedError, Wording, worded
from reslab.files import (
    TEXT_BYTES,
    Json,
    json_text,
    one_line,
    opened,
    read_json,
    read_record,
    read_sealed,
    sealed,
    sha256,
    write_atomically,
    write_json,
)
from reslab.shapes import Confusion, Line, Outcome, Progress, WrongFile

if TYPE_CHECKING:
    import numpy as np

    Marks = np.ndarray[Any, np.dtype[np.bool_]]

METRICS = "metrics.jsonl"
PROGRESS = "progress.json"
TRIAL = "trial.json"
RESULT = "result.json"
WRONG = "wrong.json"
CONFUSION = "confusion.json"
WEIGHTS = "weights.safetensors"
EMA = "ema.safetensors"
BESIDE = "beside.pt"
SUMS = "SHA256SUMS"
LINE_BYTES = 4096
"""More than any line of metrics has."""


class Config(BaseModel):
    """A frozen config that rejects unknown keys, with the shapes of its run's files and the digest of the code behind
    its result.

    Fields named in `later` were added after the first configs; unset, they are left out of the hash, so that old runs
    keep theirs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    line: ClassVar[type[Line]] = Line
    outcome: ClassVar[type[Outcome]] = Outcome
    made_by: ClassVar[digests.Parts] = digests.TRIAL
    later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, serialise: SerializerFunctionWrapHandler) -> Json:
        return {key: value for key, value in serialise(self).items() if value or key not in self.later}

    def canonical_json(self) -> str:
        """Return the JSON text that is hashed: keys sorted, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def digest(self) -> str:
        """Return the first 16 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:16]

    @classmethod
    def code_digest(cls) -> str:
        """Return the digest of the current code behind such a run."""
        return digests.code_digest(cls.made_by)


def write_sums(directory: Path, sums: Mapping[str, str]) -> None:
    """Write `SHA256SUMS`, itself sealed, from the hash of each file."""
    write_atomically(directory / SUMS, sealed("".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()))


def check_files(directory: Path, *names: str, without_weights: bool = False) -> None:
    """Check that files of a finished run (by default all) are unchanged since it finished; `without_weights`, those of
    weights may be missing.

    Raises:
        DamagedError: naming the first that is not.
    """
    try:
        lines = read_sealed(directory / SUMS).decode().splitlines()
    except (OSError, ValueError) as error:
        raise DamagedError(*worded("run-unverifiable", path=directory / SUMS)) from error
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in names or dict.fromkeys((*sums, TRIAL, RESULT)):
        path = directory / name
        if without_weights and path.suffix == ".safetensors" and not path.exists():
            continue
        if not path.is_file() or sha256(path) != sums.get(name):
            raise DamagedError(*worded("run-file-damaged" if path.is_file() else "run-file-missing", path=path))


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
    """A position in `metrics.jsonl`: its length in bytes, and the hash up to there."""

    length: int
    sha256: str


class Run:
    """The directory of one trial: `root / config.digest()`."""

    def __init__(self, root: Path, config: Config) -> None:
        self.path = root / config.digest()
        self.config = config
        self.checkpoint = self.path / "checkpoint.pt"
        self.previous_checkpoint = self.path / "checkpoint.previous.pt"
        self.weights = self.path / WEIGHTS
        self._metrics = self.path / METRICS
        self._result = self.path / RESULT
        self._wrong = self.path / WRONG
        self._confusion = self.path / CONFUSION

    @property
    def ema(self) -> Path:
        """Return the path of the moving average of the weights, which exists if the recipe keeps one."""
        return self.path / EMA

    @property
    def beside(self) -> Path:
        """Return the path of what training changed beside the weights, which exists if it changed anything."""
        return self.path / BESIDE

    def snapshot(self, step: int | str) -> Path:
        """Return the path of the weights after so many iterations, which exists if they are kept."""
        return self.path / f"weights-{step}.safetensors"

    def create(self) -> None:
        """Make the directory and `trial.json`; existing files stay.

        Raises:
            DamagedError: if an existing `trial.json` is another trial's, or if there is a pipe or a device,
                which would block.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for path in self.path.iterdir():
            if path.exists() and not path.is_file() and not path.is_dir():
                raise DamagedError(*worded("no-regular-file", path=path))
        if (self.path / TRIAL).exists():
            self._check_trial()
        else:
            trial = {
                "config": self.config.model_dump(mode="json"),
                "environment": environment(),
                "code": self.config.code_digest(),
            }
            write_json(self.path / TRIAL, trial)

    def _check_trial(self) -> None:
        try:
            whole = read_json(self.path / TRIAL)["config"] == self.config.model_dump(mode="json")
        except FileNotFoundError as error:
            raise DamagedError(*worded("run-removed", path=self.path / TRIAL)) from error
        except (OSError, ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise DamagedError(*worded("trial-damaged", path=self.path / TRIAL))

    def tidy(self) -> None:
        """Remove half-written files of killed processes.

        Call it only from the process that holds the lock. Another that has just started may be writing `trial.json`,
        before it waits for the lock.
        """
        for path in self.path.glob(".*.tmp"):
            if not path.name.startswith(f".{TRIAL}."):
                path.unlink(missing_ok=True)

    @property
    def finished(self) -> bool:
        """Return whether the trial has a result."""
        return self._result.exists()

    def result(self, *, without_weights: bool = False) -> Json:
        """Return `result.json` of a finished run, after checking the hashes of all its files. Those of its weights may
        have been removed if the result is wanted `without_weights`.

        Raises:
            DamagedError: if a file is damaged, or if the result is not one of such a run.
        """
        self._check_trial()
        check_files(self.path, without_weights=without_weights)
        return read_record(self._result, self.config.outcome)

    def write_wrong(self, parts: "Mapping[str, Marks]") -> None:
        """Write which images of each part the network gets wrong, `[N]`."""
        import numpy as np  # imported here, as reading a result does not need it

        write_json(
            self._wrong,
            {part: {"images": len(wrong), "bits": np.packbits(wrong).tobytes().hex()} for part, wrong in parts.items()},
        )

    def wrong(self) -> "dict[str, Marks]":
        """Return which images of each part the network of a finished run gets wrong, `[N]`, in the part's order; empty
        for a run of version 0.1.

        Raises:
            DamagedError: if a file of the run is damaged, or `wrong.json` is not one of such a run.
        """
        import numpy as np

        check_files(self.path, without_weights=True)
        if not self._wrong.exists():
            return {}
        parts = read_record(self._wrong, WrongFile)
        return {
            part: np.unpackbits(np.frombuffer(bytes.fromhex(found["bits"]), np.uint8), count=found["images"]).astype(
                bool
            )
            for part, found in parts.items()
        }

    def write_confusion(self, parts: Mapping[str, Sequence[Sequence[int]]]) -> None:
        """Write the confusion matrix of each part; a last column counts images without a finite score."""
        write_atomically(self._confusion, json.dumps(parts, separators=(",", ":")) + "\n")

    def confusion(self) -> dict[str, list[list[int]]]:
        """Return the confusion matrix of each part of a finished run, a row per true class; a last column counts images
        without a finite score. Empty for a run of version 0.1.

        Raises:
            DamagedError: if a file of the run is damaged, or `confusion.json` is not one of such a run.
        """
        check_files(self.path, without_weights=True)
        return read_record(self._confusion, Confusion) if self._confusion.exists() else {}

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """Record the outcome, which marks the trial as finished, and remove its checkpoints.

        Raises:
            DamagedError: if the directory was replaced since the trial began.
        """
        self._check_trial()
        result = json_text({"code": self.config.code_digest(), **outcome})
        snapshots = sorted(self.path.glob(self.snapshot("*").name))
        weights = (self.weights, *snapshots, self.ema)
        files = (self.path / TRIAL, self._metrics, *weights, self.beside, self._wrong, self._confusion)
        sums = {path.name: sha256(path) for path in files if path.exists()}
        write_sums(self.path, {**sums, self._result.name: hashlib.sha256(result.encode()).hexdigest()})
        write_atomically(self._result, result)
        self.sweep()

    def sweep(self) -> None:
        """Remove what a finished run has no more use for, also if its process was killed before it did so itself."""
        for path in (self.checkpoint, self.previous_checkpoint, self.path / PROGRESS):
            with suppress(OSError):
                path.unlink()

    def tell(self, progress: Mapping[str, Any]) -> None:
        """Write the trial's progress, for display only: a failure to write it is ignored."""
        temporary = self.path / f".{PROGRESS}.{os.getpid()}.tmp"
        with suppress(OSError):
            temporary.write_text(json.dumps(progress), encoding="utf-8")
            temporary.replace(self.path / PROGRESS)

    def progress(self) -> Json:
        """Return the last progress written; empty if there is none or it cannot be read."""
        with suppress(OSError, ValueError):
            return read_record(self.path / PROGRESS, Progress)
        return {}

    def write_checkpoint(self, content: bytes) -> None:
        """Write a sealed checkpoint and keep the one before it."""
        if self.checkpoint.exists():
            self.checkpoint.replace(self.previous_checkpoint)
        write_atomically(self.checkpoint, sealed(content))

    def mark_metrics(self) -> Mark:
        """Return the position in `metrics.jsonl`, once flushed to disk. A checkpoint stores it, and a resume truncates
        to it.
        """
        with self._metrics.open("ab+") as file:
            os.fsync(file.fileno())
            file.seek(0)
            return Mark(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())

    def holds(self, mark: Mark) -> bool:
        """Return whether `metrics.jsonl` is unchanged up to this position."""
        content = b""
        if self._metrics.exists():
            with opened(self._metrics, TEXT_BYTES) as file:
                content = file.read(max(0, mark.length))
        return len(content) == mark.length and hashlib.sha256(content).hexdigest() == mark.sha256

    def cut_metrics(self, length: int) -> None:
        """Truncate to this position, that of the checkpoint that a resume starts from."""
        with self._metrics.open("ab") as file:
            file.truncate(length)

    def append_metrics(self, values: Mapping[str, Any]) -> None:
        """Append one line and flush it."""
        with self._metrics.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(values, allow_nan=False) + "\n")

    def metrics(self) -> Iterator[Json]:
        """Yield the recorded lines.

        Raises:
            DamagedError: if one does not belong to this kind of run.
        """
        return read_metrics(self.path, self.config.line)

    def latest_metrics(self) -> Json:
        """Return the last complete line, read from the end of the file; empty if there is none."""
        with suppress(OSError, IndexError, ValueError):
            with opened(self._metrics, TEXT_BYTES) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LINE_BYTES))
                lines = file.read().split(b"\n")[:-1]
            return self.config.line.model_validate_json(lines[-1]).model_dump(exclude_unset=True)
        return {}


def out_of_date(results: Sequence[Json], code_digest: str, data: str, now: Json) -> list[Wording]:
    """Return in words how many results were made with different code, from other images than a data set has now, or
    with other names of its classes.

    Args:
        results: of runs.
        code_digest: of the current code.
        data: the data set's name.
        now: what it has now of what results say of it: the fingerprint of its `images`, and its `classes`.
    """

    def differing(key: str) -> int:
        return sum(key in now and result.get(key, now[key]) != now[key] for result in results)

    counts = {
        worded("made-by-other-code"): sum(result["code"] != code_digest for result in results),
        worded("made-from-other-images", data=data): differing("images"),
        worded("made-with-other-names", data=data): differing("classes"),
    }
    return [
        worded("old-result", what=what)
        if len(results) == 1
        else worded("old-results", old=old, all=len(results), what=what)
        for what, old in counts.items()
        if old
    ]


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
                raise DamagedError(*worded("line-damaged", path=path, number=number, reason=one_line(error))) from error
