"""Executors run trials in this process, in worker processes, or on Ray or Slurm. The choice never changes a result."""

from collections.abc import Sequence
from pathlib import Path

from reslab.executors.attempts import Executor, Failure
from reslab.executors.trial import build_network, data_for, fresh_network, run_trial
from reslab.executors.workers import default_workers, here, loaded, local
from reslab.progress import Progress, silent
from reslab.runs import Run
from reslab.training.loop import TrialConfig

__all__ = [
    "Executor",
    "Failure",
    "build_network",
    "data_for",
    "default_workers",
    "fresh_network",
    "here",
    "loaded",
    "local",
    "run_trial",
    "run_trials",
]


def run_trials(
    configs: Sequence[TrialConfig], root: Path, executor: Executor, progress: Progress = silent
) -> list[Failure]:
    """Run every trial that has no result yet and return the failures; the others' results are in their directories.

    KeyboardInterrupt stops all of them at once and keeps what is done.
    """
    todo = []
    for config in configs:
        run = Run(root, config)
        if run.finished:
            run.sweep()
        else:
            todo.append(config)
    return [outcome for outcome in executor(todo, root, progress) if outcome] if todo else []
