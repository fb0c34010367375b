"""Small configs and a way to run the command line."""

import contextlib
import io
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from reslab import studies
from reslab.cli import main
from reslab.errors import UserError
from reslab.experiment.trials import Trial, Trials, label
from reslab.files import sha256
from reslab.runs import SUMS, Run, write_sums
from reslab.training.loop import TrialConfig
from reslab.training.recipes import FAST

TRAIN = ("train", "cifar_plain", "--depth", "8", "--epochs", "1", "--set", "batch_size=256")
"""The words of a command that trains an 8-layer network in about a second."""


class NoFloat64(TorchDispatchMode):
    """A CPU whose tensors are never made float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asked = (kwargs or {}).get("dtype")
        assert asked != torch.float64 or not any(isinstance(each, Tensor) for each in args), func
        return func(*args, **(kwargs or {}))


def tiny_trial(seed: int = 0, model: str = "cifar_resnet", epochs: int | None = 2, **recipe: object) -> TrialConfig:
    """Return a trial of an 8-layer network that takes about a second."""
    settings = {"epochs": epochs, "batch_size": 256, **recipe}
    return TrialConfig(
        model=model, options={"depth": 8}, data="digits", recipe=FAST.model_copy(update=settings), seed=seed
    )


def slow_unless(chosen: Collection[str], names: Iterable[str]) -> list[object]:
    """Return the names as parameters, all but the chosen ones for the slow suite."""
    return [name if name in chosen else pytest.param(name, marks=pytest.mark.slow) for name in names]


SEEDS = 12
"""As many as an exact test needs where a study's claims share one error rate."""


def pretended(
    name: str,
    path: Path,
    train_error: Callable[[str], float],
    test_error: Callable[[str], float] = lambda _: 0.1,
    status: str = "finished",
    seeds: int = SEEDS,
    **settings: Any,
) -> Trials:
    """Return the trials of a smoke study as if they had ended with these errors, which depend on the group's name; of
    so many seeds that differences without spread can be told.
    """
    study = studies.find(name)
    grid = study.grid(study.configure("smoke", {"seeds": seeds, **settings}))
    results = {
        key: {"status": status, "train_error": train_error(label(key)), "test_error": test_error(label(key))}
        for key in grid
    }
    return Trials(
        {key: [Trial(key, trial, results[key], Run(path, trial)) for trial in trials] for key, trials in grid.items()}
    )


def timeless(record: dict[str, object]) -> dict[str, object]:
    """Return a result or a line of metrics without what depends on the clock."""
    return {key: value for key, value in record.items() if key not in ("seconds", "images_per_second")}


def reslab(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with warnings as errors."""
    # they open their own files so, the second in torch 2.6
    theirs = ("plotly.validator_cache", "torch.distributed.nn.jit.instantiator")
    flags = [
        "-X",
        "warn_default_encoding",
        "-W",
        "error",
        *(f"-Wignore::EncodingWarning:{module}" for module in theirs),
    ]
    command = [sys.executable, *flags, "-m", "reslab", *map(str, arguments)]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=cwd, env=environment)


def reslab_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, which spares the seconds of starting one."""
    out, error = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), error.getvalue())


@contextlib.contextmanager
def refused(kind: type[UserError], *values: object) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """See that a mistake of this kind is told, with these values in its message."""
    with pytest.raises(kind) as told:
        yield told
    assert not (absent := _absent(values, str(told.value))), f"{absent} not in: {told.value}"


def assert_refused(done: subprocess.CompletedProcess[str], *values: object) -> None:
    """See that a command ended with exit code 2 and one line, after notes at the most, with these values in it."""
    assert done.returncode == 2, done.stderr
    # progress bars, which a terminal redraws in place
    *notes, line = [line for line in done.stderr.splitlines() if "━" not in line]
    assert all(note.startswith("reslab: note: ") for note in notes) and re.match("reslab: (?!note: )", line), (
        done.stderr
    )
    assert not (absent := _absent(values, line)), f"{absent} not in: {line}"


def _absent(values: tuple[object, ...], message: str) -> list[str]:
    """Return the values that are not in the message as words of their own: 1 is not in 128, but before a particle."""
    words = (rf"(?<!\w){re.escape(str(value))}(?!\w)" for value in values)
    return [str(value) for value, word in zip(values, words, strict=True) if not re.search(word, message, re.ASCII)]


def snapshot(network: nn.Module) -> dict[str, object]:
    """Return everything an analysis must leave as it found it, as plain values: two snapshots are equal if nothing
    changed.
    """
    state: dict[str, object] = {
        "torch": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "numpy": str(np.random.get_state()),
        "grad mode": torch.is_grad_enabled(),
    }
    for name, module in network.named_modules():
        hooks = {kind: dict(value) for kind, value in vars(module).items() if kind.endswith("hooks")}
        settings = {key: value for key, value in vars(module).items() if isinstance(value, (bool, int, float, str))}
        state[f"module {name}"] = (id(module), type(module), settings, hooks, list(module._modules))
    for name, parameter in network.named_parameters():
        gradient = None if parameter.grad is None else (id(parameter.grad), bits(parameter.grad))
        state[f"parameter {name}"] = (id(parameter), parameter.requires_grad, bits(parameter), gradient)
    for name, buffer in network.named_buffers():
        state[f"buffer {name}"] = (id(buffer), bits(buffer))
    return state


def bits(tensor: Tensor) -> bytes:
    """Return the bytes of a tensor's values, of any dtype."""
    return tensor.detach().flatten().view(torch.uint8).numpy().tobytes()


def sum_up(directory: Path) -> None:
    """Write SHA256SUMS of what a run directory holds now."""
    write_sums(
        directory,
        {path.name: sha256(path) for path in sorted(directory.iterdir()) if path.is_file() and path.name != SUMS},
    )


class Fails(nn.Module):
    """The identity, until its call number `call` raises RuntimeError("midway")."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.call = call
        self.calls = count(1)  # which is not of the state that an analysis puts back

    def forward(self, x: Tensor) -> Tensor:
        if next(self.calls) == self.call:
            raise RuntimeError("midway")
        return x
