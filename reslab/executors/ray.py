"""Trials as tasks of a Ray cluster: each gets its CPUs and GPUs, and is run again if its worker process dies."""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reslab.errors import MissingError, Wording, WrongValueError, worded
from reslab.executors.attempts import Executor, Failure, Outcome, attempt, tell
from reslab.executors.remote import seen
from reslab.progress import Progress
from reslab.runs import Run
from reslab.training.loop import TrialConfig

RETRIES = 3
"""How often a trial is restarted after its worker process died; it resumes from its checkpoint."""


def on_ray(address: str | None) -> Executor:
    """Return the executor on the Ray cluster at `address`, or on a temporary cluster on this machine if it is None.

    The trials' root must be on storage that all nodes share, at the same path: workers write results there, and return
    nothing else.

    Raises:
        UserError: if ray is missing.
    """
    if find_spec("ray") is None:
        raise MissingError(*worded("executor-needs", kind="ray", package="ray"))
    return partial(_run, address=address)


def _run(todo: Sequence[TrialConfig], root: Path, progress: Progress, address: str | None) -> list[Outcome]:
    import ray

    root = root.resolve()
    outcomes: list[Outcome] = []
    with _cluster(address):
        if address is None:
            _check_room(todo)
        tasks = {_start(config, root): config for config in todo}
        while tasks:
            done, _ = ray.wait(list(tasks), num_returns=1, timeout=0.5)
            for task in done:
                outcomes.append(_outcome(task, tasks.pop(task), root))
            begun = [run for config in tasks.values() if (run := Run(root, config)).path.exists()]
            tell(progress, begun, len(outcomes), len(todo))
    return outcomes


def _check_room(todo: Sequence[TrialConfig]) -> None:
    """Check that this machine has what each trial asks for, which would wait without end otherwise.

    Raises:
        UserError: if not.
    """
    import ray

    here, most = int(ray.cluster_resources().get("CPU", 0)), max(config.threads * config.devices for config in todo)
    if most > here:
        raise WrongValueError(*worded("too-few-cpus", most=most, here=here))
    gpus, most = int(ray.cluster_resources().get("GPU", 0)), max(map(_gpus, todo))
    if most > gpus:
        raise WrongValueError(*worded("too-few-gpus", most=most, here=gpus))


def _gpus(config: TrialConfig) -> int:
    return config.devices if config.device == "cuda" else 0


def _start(config: TrialConfig, root: Path) -> Any:
    import ray

    task = ray.remote(attempt).options(
        num_cpus=config.threads * config.devices,
        num_gpus=_gpus(config),
        max_retries=RETRIES,
        name=f"{config.model} seed {config.seed}",
    )
    return task.remote(config, root)


def _outcome(task: Any, config: TrialConfig, root: Path) -> Outcome:
    """Return the outcome of a task, as recorded in its directory."""
    import ray

    try:
        outcome: Outcome = ray.get(task)
    except ray.exceptions.RayError as error:
        outcome = Failure(config, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
    return seen(outcome, config, root)


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Connect to the cluster; a temporary one is stopped afterwards."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics
    import ray

    heard = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        where, reason = address or Wording("this machine", "이 컴퓨터"), str(error).strip().splitlines()[0]
        raise MissingError(*worded("no-ray-cluster", where=where, reason=reason)) from error
    if callable(heard) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, heard)  # Ray replaces it by a handler that ends this process at once
    try:
        yield
    finally:
        ray.shutdown()
