"""Worker processes against one process: a set of small trials with equal threads per trial, and whether the weights
agree bit for bit.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from reslab.bench.timing import machine
from reslab.errors import WrongValueError, worded
from reslab.executors import local, run_trials
from reslab.progress import Progress, silent
from reslab.runs import Run
from reslab.training.loop import TrialConfig
from reslab.training.recipes import FAST

QUICK = {"trials": 2, "depth": 8, "epochs": 1}


def bench(
    *, trials: int = 12, workers: int = 2, depth: int = 20, epochs: int = 7, progress: Progress = silent
) -> dict[str, Any]:
    """Return the speed-up of `workers` processes over one process in training digit networks, including their start.

    Raises:
        UserError: if there is nothing to compare, or a trial fails.
    """
    if workers < 2:
        raise WrongValueError(*worded("bench-workers"))
    if trials < workers:
        raise WrongValueError(*worded("bench-trials", workers=workers))
    recipe = FAST.model_copy(update={"epochs": epochs})
    configs = [
        TrialConfig(model="cifar_resnet", options={"depth": depth}, data="digits", recipe=recipe, seed=seed)
        for seed in range(trials)
    ]
    with TemporaryDirectory() as where:
        seconds = {}
        for count in (1, workers):
            start = time.perf_counter()

            def told(_: str, done: int, total: int, said: str = "", count: int = count) -> None:
                progress(f"training, {count} at a time", done, total)

            failures = run_trials(configs, Path(where) / str(count), local(count), told)
            seconds[count] = time.perf_counter() - start
            if failures:
                raise failures[0].error()
        weights = [
            [Run(Path(where) / str(count), config).weights.read_bytes() for config in configs] for count in seconds
        ]
    return {
        "machine": machine(),
        "trials": f"{trials} networks of {depth} layers on the digits, {epochs} epochs, one thread each",
        "executors": {
            "serial s": seconds[1],
            f"{workers} workers s": seconds[workers],
            "times faster": seconds[1] / seconds[workers],
        },
        "weights": "equal bit for bit" if weights[0] == weights[1] else "DIFFERENT",
    }
