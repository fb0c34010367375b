"""Child processes that end when they should: when they are told to, and with their parent, however that ends."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import ParamSpec

Given = ParamSpec("Given")

PATIENCE = 2.0
"""Seconds that a process has to clean up after it was told to end."""


def following_parent(work: Callable[Given, None]) -> Callable[Given, None]:
    """Return the work of a process that multiprocessing starts as one that ends with its parent: a decorator.

    Ctrl-C in a terminal reaches the process too, and is the parent's to handle. SIGTERM, from the parent or because
    there is none any more, raises KeyboardInterrupt in the work, so that what is half-written is removed; once the work
    is done the process is ending anyway, and does not hear it.
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
            finally:  # also of work that failed, whose traceback is being passed on when the others are told to end
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # the latter where whom it answers to went before it was told to end
        except (KeyboardInterrupt, BrokenPipeError):
            os._exit(128 + signal.SIGTERM)  # at once: Python takes its time to take everything down

    return child


def end(processes: Iterable[BaseProcess]) -> None:
    """Tell child processes to end, and kill those that have not in `PATIENCE` seconds."""
    processes = list(processes)
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        process.kill()
        process.join()


@contextmanager
def unheard() -> Iterator[None]:
    """Keep Ctrl-C for later: a process that is started here does not hear it, not even before it can say that it
    follows its parent.
    """
    if os.name != "posix":
        yield
        return
    resource_tracker.ensure_running()  # which, where it is started, ends with Ctrl-C being heard
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
