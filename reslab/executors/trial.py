"""One trial: from its config to its run directory, in whatever process this is."""

import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reslab.runs import Json, Run
from reslab.training.loop import TrialConfig

if TYPE_CHECKING:
    from reslab.training.devices import Fabric


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
    from reslab.training.devices import launch

    run = Run(root, config)
    run.create()
    launch(config, _work, config, root)
    return run.result()


def _work(fabric: "Fabric", config: TrialConfig, root: Path) -> None:
    """Do a process's part of a trial; process 0 holds the lock and writes."""
    from filelock import FileLock

    run = Run(root, config)
    with FileLock(run.path / ".lock") if fabric.is_global_zero else nullcontext():
        if not fabric.broadcast(run.finished):
            outcome = _train(fabric, config, run)
            if fabric.is_global_zero:
                run.finish(outcome)
    fabric.barrier()


def _train(fabric: "Fabric", config: TrialConfig, run: Run) -> Json:
    import torch

    from reslab.data import load_data
    from reslab.training.devices import threads
    from reslab.training.loop import Trainer
    from reslab.training.recipes import ScaleCrop
    from reslab.zoo import build, input_shape

    data = load_data(config.data)
    with torch.random.fork_rng(), threads(config.threads):
        torch.manual_seed(config.seed)
        options: Json = {"num_classes": data.num_classes, "in_channels": data.in_channels, **config.options}
        network = build(config.model, **options)
        if isinstance(config.recipe.augment, ScaleCrop):
            data = data.scale_cropped(**config.recipe.augment.model_dump())
        else:
            data = data.fitted(input_shape(network)[1])
        if config.recipe.cutout:
            data = data.cut_out(config.recipe.cutout)
        return Trainer(fabric, network, data, config, run).fit()


def attempt(config: TrialConfig, root: Path) -> Outcome:
    """Run a trial and return how it failed, if it did."""
    try:
        run_trial(config, root)
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [""])[0]
        return Failure(config, f"{type(error).__name__}: {first_line}", traceback.format_exc())
    return None
