"""Attempts at trials: the outcome of each, its failure in words, and what is shown of those that run."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reslab.errors import FailedError, UserError, explained
from reslab.executors.trial import run_trial
from reslab.files import Json
from reslab.progress import Progress, clock, short
from reslab.runs import Run
from reslab.training.loop import TrialConfig


class ElsewhereError(Exception):
    """An exception in another process, from which only the traceback's text is left."""


@dataclass(frozen=True)
class Failure:
    """A trial that ended with an exception or a dead worker."""

    config: TrialConfig
    reason: str
    traceback: str = ""

    def error(self) -> UserError:
        """Return the error to report, caused by the traceback."""
        error = FailedError(self.reason)
        error.__cause__ = ElsewhereError(f"\n{self.traceback}") if self.traceback else None
        return error


Outcome = Failure | None
"""None where the trial now has its result on disk."""


Executor = Callable[[Sequence[TrialConfig], Path, Progress], list[Outcome]]
"""Runs trials, writes their results to directories below a root, and returns the outcome of each."""


def tell(progress: Progress, running: Sequence[Run], done: int, total: int) -> None:
    """Report how many trials are done and the progress of each running one; for a single trial, its step, loss and
    errors.
    """
    if total == 1 and running:
        now = running[0].progress()
        progress("trials", now.get("step", 0), now.get("steps", 1), how_far(now) if now else "starting")
    elif total > 1 or done:
        idle = "done" if done == total else "waiting"
        progress("trials", done, total, "trials: " + (" | ".join(map(describe, running)) or idle))


def describe(run: Run) -> str:
    """Return a running trial's name and epoch in a few words."""
    config, now = run.config.model_dump(), run.progress()
    depth = config["options"].get("depth")
    epoch = f"epoch {now['epoch']}/{now['epochs']}" if now else "starting"
    return f"{config['model']}{f'-{depth}' if depth else ''} s{config['seed']} {epoch}"


def how_far(now: Json) -> str:
    """Return a trial's progress, metrics, speed and remaining time, from its last report."""
    if now["step"] == now["steps"]:
        return "trained; evaluating"
    left = (now["steps"] - now["step"]) * now["seconds"] / now["step"]
    heldout = "" if now["heldout_error"] is None else f", held-out {100 * now['heldout_error']:.1f} %"
    error = "" if now["train_error"] is None else f", error {100 * now['train_error']:.1f} %"
    return (
        f"epoch {now['epoch']}/{now['epochs']}, {clock(left)} left\nloss {short(now['loss'])}{error}{heldout}, "
        f"{now['images_per_second']:,.0f} images/s"
    )


Work = Callable[[TrialConfig, Path], Json]
"""Runs one trial and writes its result to a directory below a root."""


def attempt(config: TrialConfig, root: Path, work: Work = run_trial) -> Outcome:
    """Run a trial and return its failure, if any."""
    try:
        work(config, root)
    except Exception as error:
        return Failure(config, reason(error), traceback.format_exc())
    return None


def reason(error: Exception) -> str:
    """Return what went wrong in one line."""
    return explained(error) or f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
