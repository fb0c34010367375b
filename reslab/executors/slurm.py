"""Trials as Slurm jobs, through submitit: each gets its CPUs and GPUs, and is queued again when its time is up."""

import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reslab.errors import FailedError, MissingError, WrongValueError, worded
from reslab.executors.attempts import Executor, Failure, Outcome, attempt, tell
from reslab.executors.remote import seen
from reslab.progress import Progress
from reslab.runs import Run
from reslab.training.loop import TrialConfig

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

REQUEUES = 100
"""How often a job is queued again after its time is up; it resumes from its checkpoint."""
MINUTES = 60
"""A job's time by default."""
SECONDS = 0.5
"""Seconds between two checks for finished jobs."""


def on_slurm(options: Mapping[str, str], cluster: Literal["slurm", "local", "debug"] = "slurm") -> Executor:
    """Return the executor on the cluster that this machine submits to, with these options of sbatch, such as
    `{"partition": "gpu", "time": "120"}`; `cluster` names another of submitit's executors.

    The trials' root must be on storage that all nodes share, at the same path; jobs' files are in `slurm/` there.

    Raises:
        UserError: if submitit or Slurm is missing, or the time is not a number of minutes.
    """
    try:
        import submitit  # noqa: F401  # only to see that it is there
    except ModuleNotFoundError as error:
        raise MissingError(*worded("executor-needs", kind="slurm", package="submitit")) from error
    absent = [program for program in ("sbatch", "srun") if cluster == "slurm" and shutil.which(program) is None]
    if absent:
        raise MissingError(*worded("no-slurm", program=absent[0]))
    others = {key.replace("-", "_"): value for key, value in options.items()}
    minutes = others.pop("time", str(MINUTES))
    if not minutes.isdecimal() or int(minutes) == 0:
        raise WrongValueError(*worded("not-minutes", minutes=minutes))
    return partial(_run, options=others, minutes=int(minutes), cluster=cluster)


class _Attempt:
    """A trial as a job, which is submitted again unchanged when its time is up."""

    def __call__(self, config: TrialConfig, root: Path) -> Outcome:
        return attempt(config, root)

    def checkpoint(self, config: TrialConfig, root: Path) -> "DelayedSubmission":
        """Return the submission that replaces a job ended by Slurm."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, config, root)


def _run(
    todo: Sequence[TrialConfig],
    root: Path,
    progress: Progress,
    options: Mapping[str, str],
    minutes: int,
    cluster: str,
) -> list[Outcome]:
    root = root.resolve()
    jobs = dict(zip(_submitted(todo, root, options, minutes, cluster), todo, strict=True))
    outcomes: list[Outcome] = []
    try:
        while True:
            for job in [job for job in jobs if job.done()]:
                outcomes.append(_outcome(job, jobs.pop(job), root))
            begun = [run for config in jobs.values() if (run := Run(root, config)).path.exists()]
            tell(progress, begun, len(outcomes), len(todo))
            if not jobs:
                return outcomes
            time.sleep(SECONDS)
    finally:
        for job in jobs:
            job.cancel(check=False)


def _submitted(
    todo: Sequence[TrialConfig], root: Path, options: Mapping[str, str], minutes: int, cluster: str
) -> list[Any]:
    """Return a job per trial, all of one array, so that one call submits them."""
    from submitit import AutoExecutor
    from submitit.core.utils import FailedJobError

    executor = AutoExecutor(root / "slurm", cluster=cluster, slurm_max_num_timeout=REQUEUES)
    executor.update_parameters(
        name="reslab",
        timeout_min=minutes,
        cpus_per_task=max(config.threads * config.devices for config in todo),
        gpus_per_node=max(config.devices if config.device == "cuda" else 0 for config in todo),
        slurm_additional_parameters=dict(options),
    )
    try:
        return executor.map_array(_Attempt(), todo, [root] * len(todo))
    except FailedJobError as error:
        raise FailedError(*worded("jobs-rejected", reason=str(error).strip().splitlines()[-1])) from error


def _outcome(job: Any, config: TrialConfig, root: Path) -> Outcome:
    """Return the outcome of a job."""
    error = job.exception()
    if error is None:
        return seen(job.result(), config, root)
    return Failure(config, f"job {job.job_id} ended with no result ({job.state}); see {job.paths.stderr}", str(error))
