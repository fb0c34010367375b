"""The same config and seed give the same result on the same machine, in any order of trials, with any number of
workers.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from helpers import timeless
from hypothesis import given, settings
from hypothesis import strategies as st

from reslab import studies
from reslab.executors import Executor, local
from reslab.experiment.directory import Directory
from reslab.experiment.study import run_study
from reslab.files import Json, read_json
from reslab.progress import Progress
from reslab.runs import Run
from reslab.training.loop import TrialConfig

STUDY = studies.find("shortcuts")
CONFIG = STUDY.configure("smoke", {"seeds": 1, "epochs": 1})
REFERENCE: list[Any] = []
"""What the first run gave."""


def shuffled(workers: int, seed: int) -> Executor:
    """Return an executor with so many workers that takes the trials in another order, from another state of every
    generator.
    """

    def run(todo: Sequence[TrialConfig], root: Path, progress: Progress) -> list[Any]:
        random.seed(seed)
        torch.manual_seed(seed)
        return local(workers)(random.sample(todo, len(todo)), root, progress)

    return run


def outcome(executor: Executor) -> tuple[Json, dict[str, tuple[bytes, list[Json]]]]:
    """Run the study in a directory of its own and return study.json, and each trial's weights and metrics: all without
    what the clock says.
    """
    with TemporaryDirectory() as place:
        directory = Directory(Path(place)).prepare(STUDY)
        run_study(STUDY, CONFIG, directory, executor, lambda *_: None)
        record = read_json(directory.record)
        runs = [Run(directory.trials, trial) for trials in STUDY.grid(CONFIG).values() for trial in trials]
        trials = {run.path.name: (run.weights.read_bytes(), [timeless(line) for line in run.metrics()]) for run in runs}
    return {**record, "trials": [{**trial, "result": timeless(trial["result"])} for trial in record["trials"]]}, trials


@pytest.mark.slow  # 40 s
@settings(max_examples=5)
@given(workers=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_neither_order_nor_workers_change_a_bit(workers: int, seed: int) -> None:
    if not REFERENCE:
        REFERENCE.append(outcome(local(1)))
    record, trials = outcome(shuffled(workers, seed))
    assert record == REFERENCE[0][0] and trials == REFERENCE[0][1]
    assert len(trials) == len(STUDY.grid(CONFIG)) > 1
