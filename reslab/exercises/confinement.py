"""Running a learner's code in a separate process, limited in time, memory and output.

This stops accidents: an endless loop, a list that fills the memory, megabytes of output, an early exit. It is no
protection against malice: the code runs with the rights of the user who checks it, and can use the network. To grade
strangers' files, run `reslab exercise grade` in a container, or as a user without any files.

The system enforces what it can (POSIX: CPU time and size of written files; Linux: also memory). On every platform the
parent watches time, output and memory of the whole process tree, and ends the tree.
"""

import hmac
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import psutil

from reslab.errors import DamagedError
from reslab.exercises.judgement import Judgement
from reslab.files import encodable, opened

MIB, GIB = 2**20, 2**30
MEMORY = 2 * GIB
"""Bytes of memory for an answer, beyond those of Python and PyTorch."""
OUTPUT = MIB
"""Bytes that an answer may print."""
WRITTEN = 64 * MIB
"""Bytes of a file that an answer may write, if the system enforces it."""
KEPT = 10_000
"""Bytes of the output that are shown."""
STARTING = 60.0
"""Seconds for Python and PyTorch to start."""
LOADING = 20.0
"""Seconds for running the file itself, or a cell of a notebook, before any of its functions is called."""

Failure = Literal["time", "loading", "memory", "output", "exit", "syntax", "encoding", "load", "stopped"]
WAITING = 4
"""The ratio of allowed wall time to CPU time, as other programs run too."""
MARK = "RESLAB_ANSWERS"
"""The environment variable that marks all processes started by an answer, even after their parent has ended."""


@dataclass
class Ended:
    """The outcome of a file: the judged parts of each task; or what stopped it before any was judged, with the line and
    the beginning of the output.
    """

    parts: dict[str, list[dict[str, Any]]]
    failure: Failure | None = None
    detail: str = ""
    line: int | None = None
    printed: str = ""
    hidden: bool = False  # it was the file of hidden tests that failed


def limits() -> dict[str, str]:
    """Return who enforces each limit on this platform: the system, or the parent."""
    posix = os.name == "posix"
    return {
        "time": "system and parent" if posix else "parent",
        "memory": "system and parent" if sys.platform == "linux" else "parent",
        "output": "parent",
        "files": "system" if posix else "none",
    }


def limit_this_process(seconds: float) -> None:
    """Have the system limit this process; the parent watches the rest."""
    if os.name != "posix":
        return
    import resource

    def lower(kind: int, value: int) -> None:
        with suppress(OSError, ValueError):  # a tighter limit is already set
            resource.setrlimit(kind, (value, value))

    lower(resource.RLIMIT_CPU, int(time.process_time() + 2 * seconds) + 1)
    lower(resource.RLIMIT_FSIZE, WRITTEN)
    lower(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":  # on other systems, address space is not memory in use
        lower(resource.RLIMIT_AS, psutil.Process().memory_info().vms + MEMORY)


@dataclass(frozen=True)
class Job:
    """A file to judge: its tasks with the seeds of their inputs, the number of parts already judged, and the file for
    the log.

    Without `parts` only the teacher's hidden tests are judged. The file can import what is in the directory `beside`.
    The job ends with the process `parent`. Lines of the log
    are signed with `key`, which is nowhere in the file system, so that a file cannot write its own points.
    """

    file: Path
    tasks: Mapping[str, int]
    place: Path
    hidden: Path | None = None
    beside: Path | None = None
    parts: bool = True
    skip: int = 0
    parent: int = 0
    key: str = field(default_factory=secrets.token_hex)

    def signed(self, text: str, number: int) -> str:
        """Return a line of the log, given how many there are before it."""
        return f"{hmac.digest(self.key.encode(), f'{number} {text}'.encode(), 'sha256').hex()} {text}\n"

    def to_json(self) -> str:
        """Return the job as a line of JSON."""
        return json.dumps(asdict(self), default=str) + "\n"

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Return the job that a line of JSON is."""
        fields = json.loads(line)
        named = ("file", "place", "hidden", "beside")
        paths = {key: Path(fields[key]) if fields[key] is not None else None for key in named}
        return cls(**fields | paths)


class Host:
    """A process that has loaded Python and PyTorch, and does one job after another, each in a process forked from it;
    where the system cannot fork, it is started anew for each.

    Orphaned processes of a job are recognised by the host's mark in their environment.
    """

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self.clear()

    def begin(self, job: Job) -> None:
        """Begin a job."""
        if self._process is None or self._process.poll() is not None:
            self.__exit__()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "reslab.exercises.child"],
                env=_environment() | {MARK: self.mark},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=os.name == "posix",  # Ctrl-C is the parent's to handle
            )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, as `code` reports
            self._process.stdin.write(job.to_json().encode())
            self._process.stdin.flush()

    def code(self, job: Job) -> int | None:
        """Return the exit code of a job; None while it is at work."""
        if os.path.lexists(ended := job.place / "ended"):
            text = _content(ended, KEPT).decode("ascii", errors="replace")
            return int(text) if re.fullmatch(r"-?\d{1,9}", text) else 1  # it may be the file that wrote it
        return self._process.poll() if self._process is not None else None

    def clear(self, pid: int | None = None) -> None:
        """Kill a job's process and all its descendants; without a job, all descendants of the host."""
        if pid is not None and os.name == "posix":
            with suppress(OSError):
                os.killpg(pid, 9)
        own = self._process.pid if self._process is not None and self._process.poll() is None else None
        own = own if os.name == "posix" else None
        while started := [each for each in psutil.process_iter() if each.pid != own and _marked(each, self.mark)]:
            for process in started:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(started, timeout=1)


def run(
    file: Path,
    tasks: Mapping[str, int],
    *,
    hidden: Path | None = None,
    beside: Path | None = None,
    parts: bool = True,
    stop: threading.Event | None = None,
    host: Host | None = None,
) -> Ended:
    """Judge tasks of a file, each with the seed of its inputs, and return the outcome. The file can import what is in
    the directory `beside`.

    One process works through their parts. Whatever stops it costs the current part, and another process continues with
    the rest. If the file cannot be loaded, nothing is judged. On return, all processes have ended, except for a given
    host.
    """
    if host is None:
        with Host() as own:
            return run(file, tasks, hidden=hidden, beside=beside, parts=parts, stop=stop, host=own)
    ended = Ended({task: [] for task in tasks})
    done, finished = 0, False
    while not finished and ended.failure is None:
        with _temporary_directory() as place:
            whose = os.getpid()
            tests, modules = (path.resolve() if path is not None else None for path in (hidden, beside))
            job = Job(file.resolve(), tasks, place, tests, modules, parts, done, whose)
            finished = _do(ended, job, host, stop or threading.Event())
        before, done = done, sum(map(len, ended.parts.values()))
        if not finished and ended.failure is None and done == before:
            ended.failure = "exit"
    return ended


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    """Give a directory, and remove it with whatever a file has put into it, however deep: what is in its directories is
    moved up first, as neither the system nor Python (before 3.12) reaches far down.
    """
    place = Path(tempfile.mkdtemp(prefix="reslab-"))
    try:
        yield place
    finally:
        directories = [place]
        for directory in directories:
            with suppress(OSError):
                directory.chmod(0o700)
            for entry in _entries(directory):
                with suppress(OSError):  # as on Windows, where it is still open
                    if entry.is_symlink():
                        entry.unlink()
                        continue
                    entry.chmod(0o700)  # a directory that may not be written to cannot be moved either
                    if entry.is_dir():
                        directories.append(entry.rename(place / uuid.uuid4().hex))
                    else:
                        entry.unlink()
        for directory in reversed(directories):
            with suppress(OSError):
                directory.rmdir()


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _content(path: Path, most: int) -> bytes:
    """Return the beginning of a file; nothing if there is none, or the judged file has put something else there."""
    try:
        with opened(path, sys.maxsize) as file:
            return file.read(most)
    except (OSError, DamagedError):
        return b""


def _do(ended: Ended, job: Job, host: Host, stop: threading.Event) -> bool:
    """Add what one process judged, and return whether it came to the end."""
    (job.place / "room").mkdir()
    host.begin(job)
    try:
        failure = _watch(job, host, stop)
    finally:
        host.clear(_pid(_records(job)))
    return _gather(ended, _records(job), failure, host.code(job), _printed(job))


EXIT = "exit code {}"
KILLED = EXIT.format(-9)
"""What is told of a file that the system has ended."""
ALLOWED: Mapping[str, str] = {"memory": f"{MEMORY / GIB:g} GiB", "output": f"{OUTPUT / MIB:g} MiB"}


def _gather(
    ended: Ended, records: Sequence[dict[str, Any]], failure: Failure | None, code: int | None, printed: str
) -> bool:
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
    detail = ALLOWED.get(why, f"{_seconds(records):g} s" if why == "time" else EXIT.format(code))
    if why == "stopped" or (begun is None and not any("result" in record for record in records)):
        ended.failure, ended.detail, ended.printed = "loading" if why == "time" else why, detail, printed
    elif begun is not None:
        ended.parts[begun["task"]].append(_stopped(begun, why, detail, printed))
    return False


def _stopped(begun: Mapping[str, Any], why: str, detail: str, printed: str) -> dict[str, Any]:
    judgement = Judgement(
        begun["begins"], "stopped", 0, begun["of"], came=detail, mistakes=(why,), printed=printed[-1000:]
    )
    return judgement.to_json()


def _records(job: Job) -> list[dict[str, Any]]:
    """Return a job's log so far, without an unfinished line and without what the judged file wrote to it."""
    text = _content(job.place / "log.jsonl", WRITTEN).decode("utf-8", errors="replace")
    records: list[dict[str, Any]] = []
    for line in text.splitlines(keepends=True):
        told = line.partition(" ")[2].removesuffix("\n")
        if line == job.signed(told, len(records)):
            records.append(encodable(json.loads(told)))
    return records


def _pid(records: Sequence[dict[str, Any]]) -> int | None:
    """Return which process does the job, if it has begun."""
    return int(records[0]["pid"]) if records else None


def _printed(job: Job) -> str:
    """Return the beginning of a job's output."""
    return _content(job.place / "printed", KEPT).decode("utf-8", errors="ignore")  # a character may be cut


def _seconds(records: Sequence[dict[str, Any]]) -> float:
    """Return the time limit of a child's current step."""
    return float(next((record["seconds"] for record in reversed(records) if "seconds" in record), STARTING))


def _environment() -> dict[str, str]:
    """Return the child's environment: this one, with the same package, one thread, and UTF-8; nothing is imported from
    the directory in which the parent was started.
    """
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",  # a window would wait for somebody to close it
        "PYTHONUTF8": "1",
        "PYTHONWARNINGS": "ignore",
    }


def _watch(job: Job, host: Host, stop: threading.Event) -> Failure | None:
    """Wait for a job, and return the limit that it broke. Time, memory and output are counted from the start of the
    current step.
    """
    process: psutil.Process | None = None
    told, base, busy, seconds, said = 0, 0, 0.0, STARTING, 0
    deadline = time.monotonic() + WAITING * STARTING
    while host.code(job) is None:
        records = _records(job)
        if len(records) > told:
            with suppress(psutil.NoSuchProcess):
                process = process or psutil.Process(_pid(records))
            told, base, busy = len(records), _used(process), _busy(process)
            seconds, said = _seconds(records), _size(job)
            deadline = time.monotonic() + WAITING * seconds
        if _size(job) > said + OUTPUT:
            return "output"
        if told and _used(process) > base + MEMORY:
            return "memory"
        if time.monotonic() > deadline or _busy(process) > busy + seconds:
            return "time"
        if stop.wait(0.05):
            return "stopped"
    return "output" if _size(job) > said + OUTPUT else None


def _size(job: Job) -> int:
    """Return how many bytes a job has printed."""
    try:
        return (job.place / "printed").stat().st_size
    except OSError:
        return 0


def _busy(process: psutil.Process | None) -> float:
    """Return the CPU time, in seconds, of a process and all that it started."""
    seconds = 0.0
    with suppress(psutil.Error):
        for each in _kin(process):
            with suppress(psutil.Error):
                times = each.cpu_times()
                seconds += times.user + times.system
    return seconds


def _used(process: psutil.Process | None) -> int:
    """Return the resident bytes of a process and all that it started."""
    memory = 0
    with suppress(psutil.Error):
        for each in _kin(process):
            with suppress(psutil.Error):
                memory += each.memory_info().rss
    return memory


def _kin(process: psutil.Process | None) -> list[psutil.Process]:
    """Return a process and all that it started; none of one that has not begun."""
    return [] if process is None else [process, *process.children(recursive=True)]


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):  # another user's, or gone
        return False
