"""Child processes that end when told to, and whenever their parent ends."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, ParamSpec

from reslab.errors import FailedError, worded

Given = ParamSpec("Given")

PATIENCE = 2.0
"""Seconds that a process has for its cleanup."""


def following_parent(work: Callable[Given, None]) -> Callable[Given, None]:
    """Decorate the work of a multiprocessing process, so that it ends with its parent.

    The process ignores Ctrl-C, which the parent handles. SIGTERM, sent by the parent or because the parent is gone,
    raises KeyboardInterrupt in the work, so that half-written files are removed. Once the work is done, SIGTERM is
    ignored.
    """

    @wraps(work)
    def child(*args: Given.args, **kwargs: Given.kwargs) -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.default_int_handler)

        def follow() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(PATIENCE)
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
        try:
            try:
                work(*args, **kwargs)
            finally:  # also after a failure, as its traceback may still be on its way when the others are stopped
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # BrokenPipeError if the parent ended first
        except (KeyboardInterrupt, BrokenPipeError):
            os._exit(128 + signal.SIGTERM)  # at once: Python's own shutdown takes time

    return child


def end(processes: Iterable[BaseProcess]) -> None:
    """Terminate child processes, and kill those still alive after `PATIENCE` seconds."""
    processes = list(processes)
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        process.kill()
        process.join()


def answer_of(work: Callable[..., None], *args: Any, label: str, meanwhile: Callable[[], object] = lambda: None) -> Any:
    """Return what `work(connection, *args)` sends through its connection, in a fresh process that then ends; until
    then, `meanwhile` is called twice a second.

    Raises:
        FailedError: if the process dies before; it is called `label`.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, *args), daemon=True)
    with unheard():
        process.start()
    theirs.close()
    try:
        while not ours.poll(0.5):
            meanwhile()
        return ours.recv()
    except (EOFError, OSError) as error:
        process.join()
        raise FailedError(*worded("process-died", label=label, code=process.exitcode)) from error
    finally:
        end([process])


@contextmanager
def without_script() -> Iterator[None]:
    """Start children that do not run the user's script again, which may have no `if __name__ == "__main__"`."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def unheard() -> Iterator[None]:
    """Block SIGINT while a child starts, until it has installed its own handlers."""
    if os.name != "posix":
        yield
        return
    resource_tracker.ensure_running()  # which, where it is started, ends with Ctrl-C being heard
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
