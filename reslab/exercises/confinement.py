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
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import psutil

from reslab.exercises.judgement import Judgement

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

Failure = Literal["time", "memory", "output", "exit", "syntax", "encoding", "load", "stopped"]
WAITING = 4
"""How much longer than its seconds of processor time a part may take in all: other programs run, too."""
MARK = "RESLAB_ANSWERS"
"""The variable by which everything that an answer has started is known, whoever its parent is by now."""


@dataclass
class Ended:
    """How a file ended: the parts of each task as judged; or what stopped it before any was, with its line and the
    first of what was printed.
    """

    parts: dict[str, list[dict[str, Any]]]
    failure: Failure | None = None
    detail: str = ""
    line: int | None = None
    printed: str = ""
    hidden: bool = False  # it was the file of hidden tests that failed


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
    file: Path,
    tasks: Mapping[str, int],
    *,
    hidden: Path | None = None,
    stop: threading.Event | None = None,
) -> Ended:
    """Judge tasks of a file, each with the seed of its inputs, and return how it ended.

    One child process works through their parts. What stops it costs the part that it was at, and another child goes on
    with the rest; but if the file cannot even be loaded, nothing can be judged. When this returns, the children and all
    that they started are gone.
    """
    ended = Ended({task: [] for task in tasks})
    options = ["--hidden", str(hidden.resolve())] if hidden is not None else []
    arguments = [*(f"{task}:{seed}" for task, seed in tasks.items()), *options]
    done, finished = 0, False
    while not finished and ended.failure is None:
        finished = _child(ended, file, [*arguments, "--skip", str(done)], stop or threading.Event())
        before, done = done, sum(map(len, ended.parts.values()))
        if not finished and ended.failure is None and done == before:
            ended.failure = "exit"
    return ended


def _child(ended: Ended, file: Path, arguments: Sequence[str], stop: threading.Event) -> bool:
    """Add what one child process judged, and return whether it came to the end."""
    with tempfile.TemporaryDirectory(prefix="reslab-", ignore_cleanup_errors=True) as place:
        log, room, mark = Path(place) / "log.jsonl", Path(place) / "room", uuid.uuid4().hex
        room.mkdir()
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "reslab.exercises.child",
                str(file.resolve()),
                str(log),
                str(os.getpid()),
                *arguments,
            ],
            cwd=room,
            env=_environment() | {MARK: mark},
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
            _end(child, mark)
            printed.join(1)
        return _gather(ended, _records(log), failure, child.returncode, printed.text())


ALLOWED: Mapping[str, str] = {"memory": f"{MEMORY / GIB:g} GiB", "output": f"{OUTPUT / MIB:g} MiB"}


def _gather(ended: Ended, records: Sequence[dict[str, Any]], failure: Failure | None, code: int, printed: str) -> bool:
    """Add what a child has logged, and what stopped it; return whether it came to the end."""
    begun: dict[str, Any] | None = None
    for record in records:
        if "begins" in record:
            begun = record
        elif "result" in record:
            ended.parts[record["task"]].append(record["result"])
            begun = None
        elif "stopped" in record and begun is not None:
            ended.parts[record["task"]].append(_stopped(begun, record["stopped"], record["detail"], printed))
            begun = None
        elif "failed" in record:
            ended.failure, ended.detail, ended.line = record["failed"], record["detail"], record["line"]
            ended.printed, ended.hidden = printed, "hidden" in record
            return True
    if any("end" in record for record in records):
        return True
    why: Failure = failure or "exit"
    detail = ALLOWED.get(why, f"{_seconds(records):g} s" if why == "time" else f"exit code {code}")
    if why == "stopped" or (begun is None and not any("result" in record for record in records)):
        ended.failure, ended.detail, ended.printed = why, detail, printed
    elif begun is not None:
        ended.parts[begun["task"]].append(_stopped(begun, why, detail, printed))
    return False


def _stopped(begun: Mapping[str, Any], why: str, detail: str, printed: str) -> dict[str, Any]:
    judgement = Judgement(
        begun["begins"], "stopped", 0, begun["of"], came=detail, mistakes=(why,), printed=printed[-1000:]
    )
    return judgement.to_json()


def _records(log: Path) -> list[dict[str, Any]]:
    """Return what a child has logged so far; a line that is not finished is left out."""
    if not log.exists():
        return []
    return [
        json.loads(line) for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")
    ]


def _seconds(records: Sequence[dict[str, Any]]) -> float:
    """Return how long what a child began last may take."""
    return float(next((record["seconds"] for record in reversed(records) if "seconds" in record), STARTING))


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
    told, base, busy = 0, None, 0.0
    deadline, seconds = time.monotonic() + WAITING * STARTING, STARTING
    while child.poll() is None:
        records = _records(log)
        if len(records) > told:
            told, base, busy = len(records), _used(process), _busy(process)
            seconds = _seconds(records)
            deadline = time.monotonic() + WAITING * seconds
        if printed.count > OUTPUT:
            return "output"
        if base is not None and _used(process) > base + MEMORY:
            return "memory"
        if time.monotonic() > deadline or _busy(process) > busy + seconds:
            return "time"
        if stop.is_set():
            return "stopped"
        with suppress(subprocess.TimeoutExpired):
            child.wait(0.1)
    return "output" if printed.count > OUTPUT else None


def _busy(process: psutil.Process) -> float:
    """Return the processor time, in seconds, of a process and all that it started."""
    seconds = 0.0
    with suppress(psutil.Error):
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                times = each.cpu_times()
                seconds += times.user + times.system
    return seconds


def _used(process: psutil.Process) -> int:
    """Return the resident bytes of a process and all that it started."""
    memory = 0
    with suppress(psutil.Error):
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                memory += each.memory_info().rss
    return memory


def _end(child: subprocess.Popen[bytes], mark: str) -> None:
    """Kill the child and everything that it started, which has the child's mark among its variables."""
    child.kill()
    child.wait()
    if os.name == "posix":
        with suppress(OSError):
            os.killpg(child.pid, 9)  # what it started and left to itself
    while started := [process for process in psutil.process_iter() if _marked(process, mark)]:
        for process in started:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(started, timeout=1)


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):  # another user's, or gone
        return False
