"""Where trials run: in this process, or in worker processes. The number of workers never changes a result."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from reslab.runs import Json, Run
from reslab.training.loop import TrialConfig


@dataclass(frozen=True)
class Failure:
    """A trial that ended with an exception or a dead worker."""

    config: TrialConfig
    reason: str
    traceback: str = ""


Outcome = Failure | None
"""None where the trial now has its result on disk."""

Watch = Callable[[list[Run], int, int], None]
"""Called often with the runs in progress, the number of trials that ended, and the number of all."""


def run_trial(config: TrialConfig, root: Path) -> Json:
    """Train one trial, or go on with it, or return its result if it has one already.

    Two processes that want the same trial at once take turns, and the second finds the result of the first.
    """
    import torch
    from filelock import FileLock

    from reslab.data import load_data
    from reslab.training.loop import Trainer
    from reslab.training.recipes import ScaleCrop
    from reslab.zoo import build, input_shape

    run = Run(root, config)
    run.create()
    with FileLock(run.path / ".lock"):
        if run.finished:
            return run.result()
        data = load_data(config.data)
        with torch.random.fork_rng(), _threads(config.threads):
            torch.manual_seed(config.seed)
            options: Json = {"num_classes": data.num_classes, "in_channels": data.in_channels, **config.options}
            network = build(config.model, **options)
            if isinstance(config.recipe.augment, ScaleCrop):
                data = data.scale_cropped(**config.recipe.augment.model_dump())
            else:
                data = data.fitted(input_shape(network)[1])
            run.finish(Trainer(network, data, config, run).fit())
    return run.result()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def default_workers(threads: int) -> int:
    """Return how many trials of this many threads fit the machine's cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def run_trials(configs: Sequence[TrialConfig], root: Path, workers: int, watch: Watch) -> list[Failure]:
    """Run every trial that has no result yet and return the failures; the others' results are in their directories.

    One worker runs in this process; more are spawned. KeyboardInterrupt stops all of them at once and keeps what is done.
    """
    todo = [config for config in configs if not Run(root, config).finished]
    if workers == 1 or len(todo) <= 1:
        outcomes = _serial(todo, root, watch)
    else:
        outcomes = _parallel(todo, root, min(workers, len(todo)), watch)
    return [outcome for outcome in outcomes if outcome]


def _attempt(config: TrialConfig, root: Path) -> Outcome:
    try:
        run_trial(config, root)
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0]
        return Failure(config, f"{type(error).__name__}: {first_line}", traceback.format_exc())
    return None


def _serial(todo: Sequence[TrialConfig], root: Path, watch: Watch) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for config in todo:
        stop = threading.Event()
        watcher = threading.Thread(target=_watch_one, args=(watch, Run(root, config), len(outcomes), len(todo), stop))
        watcher.start()
        try:
            outcomes.append(_attempt(config, root))
        finally:
            stop.set()
            watcher.join()
    watch([], len(todo), len(todo))
    return outcomes


def _watch_one(watch: Watch, run: Run, done: int, total: int, stop: threading.Event) -> None:
    while not stop.wait(0.3):
        watch([run], done, total)


class _Worker:
    """A process that runs one trial at a time, as told through a pipe."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.config: TrialConfig | None = None

    def start(self, config: TrialConfig, root: Path) -> None:
        self.config = config
        self.connection.send((config, root))

    def outcome(self) -> Outcome:
        """Return what became of the trial; the pipe's end means that the process died."""
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


def _serve(connection: Connection) -> None:
    """Run trials until the pipe closes; die at once with the parent, so that nobody else writes what a new study goes on with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    while True:
        try:
            config, root = connection.recv()
        except EOFError:
            return
        connection.send(_attempt(config, root))


def _parallel(todo: Sequence[TrialConfig], root: Path, count: int, watch: Watch) -> list[Outcome]:
    outcomes: list[Outcome] = []
    queue = list(todo)
    busy: list[_Worker] = []
    try:
        for _ in range(count):
            busy.append(_Worker())
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
                        worker = _Worker()
                        busy.append(worker)
                    worker.start(queue.pop(0), root)
            watch([Run(root, worker.config) for worker in busy if worker.config], len(outcomes), len(todo))
    finally:
        for worker in busy:
            worker.kill()
    return outcomes
