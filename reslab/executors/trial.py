"""One trial, from its config to its run directory, in the current process."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from torch import nn

from reslab.data import Dataset, load_data
from reslab.errors import MissingError, Wording, worded
from reslab.files import Json, sha256
from reslab.networks import zoo
from reslab.runs import Run
from reslab.state import all_draws_apart, seed_all
from reslab.training.devices import launch, threads
from reslab.training.loop import Data, Trainer, TrialConfig
from reslab.training.objective import Classes, Objective
from reslab.training.recipes import ScaleCrop

if TYPE_CHECKING:
    from reslab.training.devices import Fabric


Made = tuple[nn.Module, Data, Objective]
"""An untrained network, its prepared data set, and its loss."""


def run_trial(config: TrialConfig, root: Path, data: Dataset | None = None) -> Json:
    """Train one trial, or resume it, or return its result if it is finished.

    `data` is its data set if already loaded, as loading takes most of a second for tens of thousands of files.
    """
    # other processes map it themselves
    return run_with(config, root, partial(_made, data=data if config.devices == 1 else None))


def run_with(config: TrialConfig, root: Path, make: Callable[[TrialConfig], Made]) -> Json:
    """Run or resume the trial of a config, or return its result if it has finished.

    Two processes with the same trial take turns, and the second finds the result of the first.
    """
    run = Run(root, config)
    run.create()
    launch(config, _work, config, run, make)
    return run.result()


def _work(fabric: "Fabric", config: TrialConfig, run: Run, make: Callable[[TrialConfig], Made]) -> None:
    """Do a process's part of a trial; process 0 holds the lock and writes."""
    with FileLock(run.path / ".lock") if fabric.is_global_zero else nullcontext():
        if not fabric.broadcast(run.finished):
            if fabric.is_global_zero:
                run.tidy()
            with all_draws_apart(), threads(config.threads):
                network, data, objective = make(config)
                outcome = Trainer(fabric, network, data, config, run, objective).fit()
            if fabric.is_global_zero:
                run.finish(outcome)
    fabric.barrier()


def _made(config: TrialConfig, data: Dataset | None) -> Made:
    data = data or load_data(config.data)
    network = fresh_network(config, data)
    return network, data_for(config, network, data), Classes(config.recipe.label_smoothing)


def build_network(config: TrialConfig, data: Dataset, **loading: Any) -> nn.Module:
    """Return a trial's network, made for its data set."""
    options: Json = {"num_classes": data.num_classes, "in_channels": data.in_channels, **config.options}
    return zoo.build(config.model, **options, **loading)


def fresh_network(config: TrialConfig, data: Dataset) -> nn.Module:
    """Return a trial's untrained network, bit for bit; this seeds the process's generators."""
    seed_all(config.seed)
    if config.start is None:
        return build_network(config, data)
    file = config.start.file
    if file is None or not file.is_file() or sha256(file) != config.start.sha256:
        given, wanted = file or Wording("the file", "파일 없음"), config.start.sha256[:16]
        raise MissingError(*worded("not-started-from", file=given, sha256=wanted))
    return build_network(
        config, data, weights=file, zero_pad=config.start.zero_pad, head=None if config.start.whole else "fresh"
    )


def data_for(config: TrialConfig, network: nn.Module, data: Dataset) -> Dataset:
    """Return a trial's data set, prepared for its network and with its recipe's augmentation."""
    recipe = config.recipe
    if isinstance(recipe.augment, ScaleCrop):
        return data.scale_cropped(**recipe.augment.model_dump())
    data = data.fitted(zoo.input_shape(network)[1])
    return data.cut_out(recipe.cutout) if recipe.cutout else data
