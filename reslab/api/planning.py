"""From a user's request to a trial's config, for `reslab train` and for `reslab.train`."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from pydantic import ValidationError

from reslab.data import Dataset, canonical, load_data
from reslab.errors import (
    MissingError,
    UnknownNameError,
    UnusableError,
    WrongValueError,
    check_one_of,
    suggested,
    worded,
)
from reslab.experiment.config import code_of
from reslab.files import file_name, sha256, write_atomically, wrong_value
from reslab.networks import zoo
from reslab.networks.pretrained import is_word, pretrained
from reslab.progress import Progress, silent
from reslab.runs import Run
from reslab.training.devices import Device, Precision, best_device, best_precision, check
from reslab.training.loop import TrialConfig
from reslab.training.recipes import RECIPES, Recipe, recipe_for
from reslab.training.start import Start
from reslab.weights.files import read_weights, to_bytes
from reslab.weights.shipped import locate
from reslab.weights.tensorfiles import regular
from reslab.weights.untold import ZeroPadSide


@dataclass(frozen=True)
class Machine:
    """The device, precision and threads of a trial, which are part of its identity."""

    threads: int = 1
    device: Device = "cpu"
    precision: Precision = "32"
    devices: int = 1
    compile: bool = False

    @classmethod
    def of(
        cls,
        device: Literal["auto", "cpu", "cuda", "mps"],
        precision: Literal["auto", "32", "bf16", "16"],
        **others: Any,
    ) -> "Machine":
        """Return the values that `auto` stands for on this machine.

        Raises:
            UserError: if there is no such device, or it does not support the precision.
        """
        chosen = best_device() if device == "auto" else device
        check(chosen, "32")
        exact = best_precision(chosen).value if precision == "auto" else precision
        check(chosen, exact)
        return cls(device=chosen, precision=exact, **others)


def checked_data(
    model: str, data: str | Dataset, options: Mapping[str, Any], download: bool, progress: Progress = silent
) -> Dataset:
    """Return the data set, after checking that it has training images and that the network can be built for it. What
    else a factory gives is not trained with, which causes a warning.

    Raises:
        UserError: if not.
    """
    dataset = load_data(data, download=download, progress=progress) if isinstance(data, str) else data
    dataset.part("train")
    own = zoo.outline(model, {"num_classes": dataset.num_classes, "in_channels": dataset.in_channels, **options})
    if unused := [name for name in ("loader", "loss") if getattr(own, name) is not None]:
        warnings.warn(
            f"not used of what {model} gives: {', '.join(unused)}; a name is trained with the cross-entropy on a data "
            "set by name; reslab.train(network, (train_loader, test_loader), loss=loss) trains with your own",
            stacklevel=2,
        )
    return dataset


def trial(
    model: str,
    data: str,
    recipe: Recipe,
    seed: int,
    machine: Machine,
    options: Mapping[str, Any],
    start: Start | None = None,
) -> TrialConfig:
    """Return the config of a trial. Its options are also those that the file it starts from states, so that what is
    trained can be made again without that file.

    Raises:
        UserError: if a value is not allowed.
    """
    if start is not None and start.file is not None:
        with warnings.catch_warnings(action="ignore"):  # which building it gives again
            stated = zoo.told_by(read_weights(start.file), model)
        of_data = ("num_classes", "in_channels")  # which are the data set's that it is trained on
        options = {key: value for key, value in stated.items() if key not in of_data} | dict(options)
    try:
        return TrialConfig(
            model=model,
            # NumPy's integers would otherwise become floats
            options={name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()},
            data=canonical(data),
            recipe=recipe,
            seed=seed,
            start=start,
            factory=code_of(model),
            **vars(machine),
        )
    except ValidationError as error:
        raise wrong_value(error) from error


LENGTHS = ("epochs", "iterations")
"""The settings that are the length of training."""


def recipe_of(name: str, data: str, epochs: int | None, settings: Mapping[str, Any]) -> Recipe:
    """Return the named recipe for a data set, with some settings changed.

    Raises:
        UserError: if there is no such recipe or setting, or a value is not allowed.
    """
    if name not in RECIPES:
        raise UnknownNameError(*worded("no-recipe", name=name, near=suggested(name, RECIPES)))
    values = recipe_for(data, name).model_dump()
    given = [*(["--epochs"] if epochs is not None else []), *(key for key in LENGTHS if settings.get(key) is not None)]
    if len(given) > 1:
        raise WrongValueError(*worded("two-lengths", names=" and ".join(given)))
    for key, value in settings.items():
        if key not in Recipe.model_fields:
            raise UnknownNameError(*worded("no-recipe-setting", key=key, near=suggested(key, Recipe.model_fields)))
        values[key] = value
        if key in LENGTHS and value is not None:
            values["iterations" if key == "epochs" else "epochs"] = None
    if epochs is not None:
        values |= {"epochs": epochs, "iterations": None}
    try:
        return Recipe(**values)
    except ValidationError as error:
        raise wrong_value(error) from error


def start_from(weights: str | Path, model: str, zero_pad: ZeroPadSide | None, options: Mapping[str, Any]) -> Start:
    """Return the weights file and the hash of its content. Published weights are first written to a file in the user's
    cache directory.

    Raises:
        UserError: if there are no such weights.
    """
    check_one_of("zero_pad", zero_pad, (None, *get_args(ZeroPadSide)))
    file = regular(_written(str(weights), model, options) if is_word(weights) else locate(weights, model)).absolute()
    return Start(sha256=sha256(file), file=file, zero_pad=zero_pad)


def _written(word: str, model: str, options: Mapping[str, Any]) -> Path:
    """Return published weights as a file in reslab's format."""
    from reslab.cache import user_cache

    network, metadata, told = pretrained(model, word, options)
    content = to_bytes(network, model, told, metadata["preprocessing"])
    name = "-".join(map(file_name, (model, word)))
    file = user_cache() / "trained" / f"{name}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, content)
    return file


def extended(root: Path, config: TrialConfig, epochs: int) -> TrialConfig:
    """Return the trial that trains a finished one's network for more epochs. It starts from all its weights, with a new
    schedule and a new optimiser.

    Raises:
        UserError: if the trial is not finished, or has diverged.
    """
    run = Run(root, config)
    if not run.finished:
        raise MissingError(*worded("not-finished", path=run.path))
    if run.result()["status"] == "diverged":
        raise UnusableError(*worded("diverged", path=run.path))
    recipe = config.recipe.model_copy(update={"epochs": epochs, "iterations": None})
    start = Start(sha256=sha256(run.weights), file=run.weights.absolute(), whole=True)
    return config.model_copy(update={"recipe": Recipe(**recipe.model_dump()), "start": start})
