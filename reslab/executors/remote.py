"""What executors on other machines have in common."""

from pathlib import Path

from reslab.executors.attempts import Failure, Outcome
from reslab.runs import Run
from reslab.training.loop import TrialConfig


def seen(outcome: Outcome, config: TrialConfig, root: Path) -> Outcome:
    """Return the outcome of a trial, as recorded in its directory."""
    if outcome is None and not Run(root, config).finished:
        return Failure(
            config, f"a worker finished it, but {root} shows no result here: is it storage that all nodes share?"
        )
    return outcome
