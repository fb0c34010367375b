"""Running a learner's code where it can do little harm: a process of its own, limited in time, memory and output.

This stops accidents: an endless loop, a list that eats the memory, megabytes of printing, an early exit. It is no wall against ill will: the
code runs as the user who checks it, and may read and write what that user may, and use the network. To grade strangers' files, run the whole
of `reslab exercise grade` in a container or as a user who owns nothing.

The system limits what it can (POSIX: processor time, size of written files; Linux: memory, too). The parent watches time, output and the
memory of the whole process tree on every platform, and ends the tree.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import psutil

from reslab.runs import read_json

MIB, GIB = 2**20, 2**30
MEMORY = 2 * GIB
"""Bytes that an answer may take beyond what Python and PyTorch take."""
OUTPUT = MIB
"""Bytes that an answer may print."""
WRITTEN = 64 * MIB
"""Bytes that a file may have that an answer writes, where the system limits that."""
STARTING = 60.0
"""Seconds that Python and PyTorch may take to start, before the task's own begin."""
READY = "ready"
"""The file, beside the result, by which a child says that it starts with the answer."""

Failure = Literal["time", "memory", "output", "exit", "syntax", "load"]


@dataclass(frozen=True)
class Ended:
    """How a confined run ended: its result, or what stopped it; and the first of what it printed."""

    result: dict[str, Any] | None
    failure: Failure | None
    detail: str
    printed: str
    seconds: float


def limits() -> dict[str, str]:
    """Return what holds each limit on this platform: the system, or the parent that watches."""
    posix = os.name == "posix"
    return {
        "time": "system and parent" if posix else "parent",
        "memory": "system and parent" if sys.platform == "linux" else "parent",
        "output": "parent",
        "files": "system" if posix else "none",
    }


def limit_this_process(seconds: float) -> None:
    """Ask the system to limit this process; what it cannot limit, the parent watches."""
    if os.name != "posix":
        return
    import resource

    def lower(kind: int, value: int) -> None:
        with suppress(OSError, ValueError):  # a tighter limit is there already
            resource.setrlimit(kind, (value, value))

    lower(resource.RLIMIT_CPU, int(time.process_time() + 2 * seconds) + 1)
    lower(resource.RLIMIT_FSIZE, WRITTEN)
    lower(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":  # elsewhere address space is not what is used
        lower(resource.RLIMIT_AS, psutil.Process().memory_info().vms + MEMORY)


def run(file: Path, task: str, seed: int, seconds: float, *, hidden: Path | None = None) -> Ended:
    """Judge one task of a file in a child process, and return how that ended. The child and all it started are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="reslab-", ignore_cleanup_errors=True) as place:
        result, room = Path(place) / "result.json", Path(place) / "room"
        room.mkdir()
        command = [sys.executable, "-m", "reslab.exercises.child", str(file.resolve()), task, str(seed), str(result)]
        command += ["--hidden", str(hidden.resolve())] if hidden is not None else []
        began = time.monotonic()
        child = subprocess.Popen(
            command,
            cwd=room,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=os.name == "posix",  # Ctrl-C is the parent's to handle
        )
        assert child.stdout is not None
        printed = _Reader(child.stdout)
        try:
            failure = _watch(child, printed, result.with_name(READY), seconds)
        finally:
            _end(child)
            printed.join(1)
        text = printed.text()
        took = time.monotonic() - began
        if failure is not None:
            limit = {"time": f"{seconds:g} s", "memory": f"{MEMORY / GIB:g} GiB", "output": f"{OUTPUT / MIB:g} MiB"}[failure]
            return Ended(None, failure, limit, text, took)
        try:
            found = read_json(result)
        except (OSError, ValueError):  # it left before the end, by os._exit or a crash
            return Ended(None, "exit", f"exit code {child.returncode}", text, took)
        if "failed" in found:
            return Ended(None, found["failed"], found["detail"], text, took)
        return Ended(found, None, "", text, took)


def _environment() -> dict[str, str]:
    """Return the child's environment: this one, with this package found as it was here, one thread, and UTF-8."""
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "PYTHONWARNINGS": "ignore"}


class _Reader(threading.Thread):
    """Reads what a child prints, keeps the first of it, and counts the rest."""

    KEPT = 10_000

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.stream, self.kept, self.count = stream, b"", 0
        self.start()

    def run(self) -> None:
        while piece := self.stream.read1(65_536):  # type: ignore[attr-defined]  # a BufferedReader
            self.count += len(piece)
            self.kept += piece[: self.KEPT - len(self.kept)]
        self.stream.close()

    def text(self) -> str:
        return self.kept.decode("utf-8", errors="replace")


def _watch(child: subprocess.Popen[bytes], printed: _Reader, ready: Path, seconds: float) -> Literal["time", "memory", "output"] | None:
    """Wait for the child, and return which limit it broke. Its time and memory count from when it was ready to run the answer."""
    process = psutil.Process(child.pid)
    since, base = None, 0
    deadline = time.monotonic() + STARTING
    while child.poll() is None:
        if since is None and ready.exists():
            since, base = time.monotonic(), _used(process)
            deadline = since + seconds
        if printed.count > OUTPUT:
            return "output"
        if since is not None and _used(process) > base + MEMORY:
            return "memory"
        if time.monotonic() > deadline:
            return "time"
        with suppress(subprocess.TimeoutExpired):
            child.wait(0.05)
    return "output" if printed.count > OUTPUT else None


def _used(process: psutil.Process) -> int:
    """Return the resident bytes of a process and all that it started."""
    memory = 0
    with suppress(psutil.Error):
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                memory += each.memory_info().rss
    return memory


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and everything that it started."""
    started: Sequence[psutil.Process] = []
    with suppress(psutil.Error):
        started = psutil.Process(child.pid).children(recursive=True)
    for process in started:
        with suppress(psutil.Error):
            process.kill()
    if os.name == "posix":
        with suppress(OSError):
            os.killpg(child.pid, 9)  # what it started and left to itself
    child.kill()
    child.wait()
