"""Where trials run: in this process, in worker processes, or on a Ray cluster. None of it ever changes a result."""

from collections.abc import Callable, Sequence
from pathlib import Path

from reslab.executors.trial import Failure, Outcome, Watch, run_trial
from reslab.executors.workers import default_workers, local
from reslab.runs import Run
from reslab.training.loop import TrialConfig

__all__ = ["Executor", "Failure", "Watch", "default_workers", "local", "run_trial", "run_trials"]

Executor = Callable[[Sequence[TrialConfig], Path, Watch], list[Outcome]]
"""Runs trials, whose results go into their directories below a root, and returns what became of each."""


def run_trials(configs: Sequence[TrialConfig], root: Path, executor: Executor, watch: Watch) -> list[Failure]:
    """Run every trial that has no result yet and return the failures; the others' results are in their directories.

    KeyboardInterrupt stops all of them at once and keeps what is done.
    """
    todo = [config for config in configs if not Run(root, config).finished]
    return [outcome for outcome in executor(todo, root, watch) if outcome] if todo else []
