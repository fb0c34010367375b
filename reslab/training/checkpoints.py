"""Checkpoints of a trial: sealed with a hash, and used only if they are intact, belong to the trial, and match its
metrics.
"""

import io
import sys
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from reslab.errors import DamagedError, MismatchError, UserError, worded
from reslab.files import Json, Shape, read_sealed, set_aside, wrong
from reslab.runs import METRICS, Mark, Run


class Checkpoint(Shape):
    """The content of a checkpoint."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    others: list[dict[str, Any]] = Field(default_factory=list, description="of a second optimiser")
    ema: dict[str, Tensor] = Field(default_factory=dict)
    beside: dict[str, dict[str, Any]] = Field(default_factory=dict, description="what training changed elsewhere")
    loss: dict[str, Tensor] = Field(default_factory=dict, description="of a user's own loss that keeps something")
    loss_beside: dict[str, dict[str, Any]] = Field(default_factory=dict)
    ema_beside: dict[str, dict[str, Any]] = Field(default_factory=dict)
    precision: dict[str, Any] = Field(default_factory=dict)
    step: int = Field(ge=0)
    seconds: float = Field(ge=0, allow_inf_nan=False)
    sums: Tensor
    trial: str
    images: str | None = None
    codes: list[str] = Field(default_factory=list, description="digests of the code that took the steps")
    metrics: tuple[int, str]


def write(run: Run, state: Json) -> None:
    """Write a checkpoint, and keep the one before it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    run.write_checkpoint(buffer.getvalue())


def read(path: Path) -> Json:
    """Return the content of a checkpoint, with its tensors on the CPU.

    Raises:
        DamagedError: if its hash does not match.
        UserError: if it is intact, but not a checkpoint of a trial.
    """
    content = read_sealed(path)
    try:
        state: Json = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # any exception, as a foreign file can fail in any way
        raise no_checkpoint(path, f"{type(error).__name__}: {error}") from error
    if complaint := wrong(Checkpoint, state):
        raise no_checkpoint(path, complaint)
    return state


def newest(run: Run, images: str, steps: int) -> Path | None:
    """Return the newest valid checkpoint: intact, of this run and these images, and matching the metrics. Invalid ones
    are reported and set aside.
    """
    for path in (run.checkpoint, run.previous_checkpoint):
        if not path.exists():
            continue
        try:
            state = read(path)
            if state["trial"] != run.config.digest():
                raise DamagedError(*worded("checkpoint-of-another", path=path))
            if state.get("images") not in (None, images):
                data = run.config.model_dump().get("data")
                raise DamagedError(*worded("checkpoint-of-other-images", path=path, data=data))
            if state["step"] > steps:
                raise DamagedError(*worded("checkpoint-beyond-the-end", path=path, step=state["step"], steps=steps))
            if not run.holds(Mark(*state["metrics"])):
                raise DamagedError(*worded("metrics-changed", metrics=run.path / METRICS, name=path.name))
        except DamagedError as error:
            print(
                f"reslab: {error}; it is kept as {set_aside(path).name}, and the run resumes from before it",
                file=sys.stderr,
            )
        else:
            return path
    return None


def no_checkpoint(path: Path, why: str) -> UserError:
    """Return the error for a file that is not a checkpoint of the trial."""
    return MismatchError(*worded("no-checkpoint", path=path, reason=" ".join(why.split())[:200]))
