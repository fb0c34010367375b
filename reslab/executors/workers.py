"""Trials in this process, one after another, or in worker processes."""

import multiprocessing
import threading
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from reslab.data import Dataset
from reslab.executors.attempts import Executor, Failure, Outcome, Work, attempt, tell
from reslab.executors.memory import check_memory, cores, most_that_fit
from reslab.executors.trial import run_trial
from reslab.processes import end, following_parent, unheard, without_script
from reslab.progress import Progress
from reslab.runs import Run
from reslab.training.loop import TrialConfig


def default_workers(threads: int) -> int:
    """Return how many trials of this many threads fit the machine's cores."""
    return max(1, cores() // threads)


def local(workers: int | None) -> Executor:
    """Return the executor on this machine. One worker is this process, more are spawned; None means as many as cores
    and memory allow, and one on a GPU, whose memory they would share.
    """
    return _serial if workers == 1 else partial(_parallel, workers=workers)


def loaded(data: Dataset) -> Executor:
    """Return the executor in this process, for trials whose data set is already loaded."""
    return here(partial(run_trial, data=data))


def here(work: Work) -> Executor:
    """Return the executor in this process, with the given function to run a trial."""
    return partial(_serial, work=work)


def _serial(todo: Sequence[TrialConfig], root: Path, progress: Progress, work: Work = run_trial) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for config in todo:
        stop = threading.Event()
        teller = threading.Thread(
            target=_tell_of_one, args=(progress, Run(root, config), len(outcomes), len(todo), stop)
        )
        teller.start()
        try:
            outcomes.append(attempt(config, root, work))
        finally:
            stop.set()
            teller.join()
    tell(progress, [], len(todo), len(todo))
    return outcomes


def _tell_of_one(progress: Progress, run: Run, done: int, total: int, stop: threading.Event) -> None:
    while not stop.wait(0.3):
        tell(progress, [run], done, total)


class _Worker:
    """A process that runs one trial at a time, received through a pipe."""

    def __init__(self, to_come: Sequence[TrialConfig]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs,), daemon=True)
        # whose module the child imports as its own
        of_script = any(config.model.startswith("__main__:") for config in to_come)
        with unheard(), nullcontext() if of_script else without_script():
            self.process.start()
        theirs.close()
        self.config: TrialConfig | None = None

    def start(self, config: TrialConfig, root: Path) -> None:
        self.config = config
        with suppress(OSError):  # it has just died, which `outcome` reports
            self.connection.send((config, root))

    def outcome(self) -> Outcome:
        """Return the outcome of the trial; a closed pipe means that the process died."""
        assert self.config is not None
        try:
            outcome: Outcome = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            outcome = Failure(self.config, f"the worker process died (exit code {self.process.exitcode})")
        return outcome

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


@following_parent
def _serve(connection: Connection) -> None:
    """Run trials until the pipe closes or the process is told to end."""
    with suppress(EOFError):
        while True:
            config, root = connection.recv()
            connection.send(attempt(config, root))


def _parallel(todo: Sequence[TrialConfig], root: Path, progress: Progress, workers: int | None) -> list[Outcome]:
    if workers is None and any(config.device != "cpu" for config in todo):
        count = 1
    elif workers is None:
        count = most_that_fit(todo, min(default_workers(max(config.threads for config in todo)), len(todo)))
    else:
        count = min(workers, len(todo))
    if count == 1:
        return _serial(todo, root, progress)
    if workers is not None:
        check_memory(todo, count)
    outcomes: list[Outcome] = []
    queue = list(todo)
    busy: list[_Worker] = []
    try:
        for _ in range(count):
            busy.append(_Worker(queue))
            busy[-1].start(queue.pop(0), root)
        while busy:
            ready = wait([worker.connection for worker in busy], timeout=0.3)
            for worker in [worker for worker in busy if worker.connection in ready]:
                outcomes.append(worker.outcome())
                if not queue or not worker.process.is_alive():
                    busy.remove(worker)
                    worker.kill()
                if queue:
                    if worker not in busy:
                        worker = _Worker(queue)
                        busy.append(worker)
                    worker.start(queue.pop(0), root)
            tell(progress, [Run(root, worker.config) for worker in busy if worker.config], len(outcomes), len(todo))
    finally:
        end(worker.process for worker in busy)
    return outcomes
