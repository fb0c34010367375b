"""New processes, forked from one that imports what takes seconds just once, where a test isn't about the start of an
interpreter.
"""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess

SLOW = [
    "lightning_fabric",
    "torch._dynamo",
    "sklearn.datasets",
    "plotly.graph_objects",
    "reslab.cli",
    "reslab.experiment.study",
]
"""Not torchvision, which a test forbids."""


def forking() -> BaseContext:
    """Return multiprocessing's fork server, whose processes begin as spawned ones do, but with `SLOW` imported; without
    forks, "spawn".
    """
    if os.name != "posix":
        return multiprocessing.get_context("spawn")
    multiprocessing.set_forkserver_preload(SLOW)
    return multiprocessing.get_context("forkserver")


def start(place: Path, work: Callable[..., object], *arguments: object) -> BaseProcess:
    """Start work(*arguments) in a process; what it prints is in the files stdout and stderr of `place`."""
    process: BaseProcess = forking().Process(target=_child, args=(place, work, arguments))  # type: ignore[attr-defined]  # every context has it
    process.start()
    return process


def done(place: Path, work: Callable[..., object], *arguments: object) -> CompletedProcess[str]:
    """Call work(*arguments) in a process, and return its exit code and what it printed."""
    process = start(place, work, *arguments)
    process.join()
    out, error = ((place / name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
    return CompletedProcess(arguments, process.exitcode or 0, out, error)


def _child(place: Path, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    work(*arguments)
