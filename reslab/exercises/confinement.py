"""Running a learner's code where it can do little harm: a process of its own, limited in time, memory and output.

This stops accidents: an endless loop, a list that eats the memory, megabytes of printing, an early exit. It is no wall
against ill will: the code runs as the user who checks it, and may read and write what that user may, and use the
network. To grade strangers' files, run the whole of `reslab exercise grade` in a container or as a user who owns
nothing.

The system limits what it can (POSIX: processor time, size of written files; Linux: memory, too). The parent watches
time, output and the memory of the whole process tree on every platform, and ends the tree.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import psutil

MIB, GIB = 2**20, 2**30
MEMORY = 2 * GIB
"""Bytes that an answer may take beyond what Python and PyTorch take."""
OUTPUT = MIB
"""Bytes that an answer may print."""
WRITTEN = 64 * MIB
"""Bytes that a file may have that an answer writes, where the system limits that."""
STARTING = 60.0
"""Seconds that Python and PyTorch may take to start."""
LOADING = 20.0
"""Seconds that the file itself may take to run, before any of its functions is called."""

Failure = Literal["time", "memory", "output", "exit", "syntax", "load", "stopped"]


@dataclass(frozen=True)
class Ended:
    """How a task ended: its parts as judged, or what stopped it; and the first of what was printed."""

    parts: Sequence[dict[str, Any]]
    failure: Failure | None = None
    detail: str = ""
    printed: str = ""


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


def run(
    file: Path, tasks: Mapping[str, int], *, hidden: Path | None = None, stop: threading.Event | None = None
) -> dict[str, Ended]:
    """Judge tasks of a file, each with the seed of its inputs, and return how each ended.

    One child process works through them. What stops it costs the task that it was at, and another child goes on with
    the rest; but if the file cannot even be loaded, no task can be judged. When this returns, the children and all that
    they started are gone.
    """
    ended: dict[str, Ended] = {}
    while left := {task: seed for task, seed in tasks.items() if task not in ended}:
        found, failed, at = _child(file, left, hidden, stop or threading.Event())
        ended |= found
        if failed is not None:
            ended |= dict.fromkeys([at] if at and failed.failure != "stopped" else left.keys() - found.keys(), failed)
    return ended


def _child(
    file: Path, tasks: Mapping[str, int], hidden: Path | None, stop: threading.Event
) -> tuple[dict[str, Ended], Ended | None, str]:
    """Return the tasks that one child process judged, and, if it was stopped, by what and at which task: "" for the
    file itself.
    """
    with tempfile.TemporaryDirectory(prefix="reslab-", ignore_cleanup_errors=True) as place:
        log, room = Path(place) / "log.jsonl", Path(place) / "room"
        room.mkdir()
        command = [
            sys.executable,
            "-m",
            "reslab.exercises.child",
            str(file.resolve()),
            str(log),
            str(os.getpid()),
            *(f"{task}:{seed}" for task, seed in tasks.items()),
        ]
        command += ["--hidden", str(hidden.resolve())] if hidden is not None else []
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
            failure = _watch(child, printed, log, stop)
        finally:
            _end(child)
            printed.join(1)
        records = _records(log)
        at = next((record["begins"] for record in reversed(records) if "begins" in record), "")
        results = {record["task"]: record for record in records if "task" in record}
        found = {task: Ended(record["result"]) for task, record in results.items() if task and "result" in record}
        failed = next((record for record in results.values() if "failed" in record), None)
        if failed is not None:
            return found, Ended((), failed["failed"], failed["detail"], printed.text()), failed["task"]
        if failure is not None:
            allowed = {
                "memory": f"{MEMORY / GIB:g} GiB",
                "output": f"{OUTPUT / MIB:g} MiB",
                "time": f"{_seconds(records):g} s",
            }
            return found, Ended((), failure, allowed.get(failure, ""), printed.text()), at
        if len(found) < len(tasks):  # it left before the end, by os._exit or a crash
            return found, Ended((), "exit", f"exit code {child.returncode}", printed.text()), at
        return found, None, at


def _records(log: Path) -> list[dict[str, Any]]:
    """Return what a child has logged so far; a line that is not finished is left out."""
    if not log.exists():
        return []
    return [
        json.loads(line) for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")
    ]


def _seconds(records: Sequence[dict[str, Any]]) -> float:
    """Return how long what a child began last may take."""
    return float(next((record["seconds"] for record in reversed(records) if "begins" in record), STARTING))


def _environment() -> dict[str, str]:
    """Return the child's environment: this one, with this package found as it was here, one thread, and UTF-8."""
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "PYTHONUTF8": "1",
        "PYTHONWARNINGS": "ignore",
    }


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


def _watch(child: subprocess.Popen[bytes], printed: _Reader, log: Path, stop: threading.Event) -> Failure | None:
    """Wait for the child, and return which limit it broke. Time and memory count from the beginning of
    what it is at.
    """
    process = psutil.Process(child.pid)
    told, base = 0, None
    deadline = time.monotonic() + STARTING
    while child.poll() is None:
        records = _records(log)
        if len(records) > told:
            told, base = len(records), _used(process)
            deadline = time.monotonic() + _seconds(records)
        if printed.count > OUTPUT:
            return "output"
        if base is not None and _used(process) > base + MEMORY:
            return "memory"
        if time.monotonic() > deadline:
            return "time"
        if stop.is_set():
            return "stopped"
        with suppress(subprocess.TimeoutExpired):
            child.wait(0.1)
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
