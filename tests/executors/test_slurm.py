"""Trials as jobs of Slurm: submitit's other executors stand in for it, and a cluster that is this machine."""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import assert_refused, refused, reslab_here, tiny_trial
from helpers_slurm import make_cluster
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob
from test_executors import quiet

from reslab.errors import MissingError, WrongValueError
from reslab.executors import local, run_trials
from reslab.executors.slurm import on_slurm
from reslab.runs import Run
from reslab.training.loop import TrialConfig


def same_weights(config: TrialConfig, *roots: Path) -> bool:
    return len({Run(root, config).weights.read_bytes() for root in roots}) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of logs that submitit leaves open
def test_jobs_give_the_serial_weights_and_a_failure_takes_nobody_down(tmp_path: Path) -> None:
    good, bad = tiny_trial(epochs=1), tiny_trial(9, model="resnet57")
    (failure,) = run_trials([bad, good], tmp_path / "jobs", on_slurm({}, "debug"), quiet)
    assert failure.config == bad and "no network 'resnet57'" in failure.reason and "Traceback" in failure.traceback
    assert run_trials([good], tmp_path / "serial", local(1), quiet) == []
    assert same_weights(good, tmp_path / "jobs", tmp_path / "serial")


@pytest.mark.slow  # a process per job
def test_processes_of_their_own_give_the_serial_weights(tmp_path: Path) -> None:
    configs = [tiny_trial(seed) for seed in range(2)]
    assert run_trials(configs, tmp_path / "jobs", on_slurm({}, "local"), quiet) == []
    assert run_trials(configs, tmp_path / "serial", local(1), quiet) == []
    assert all(same_weights(config, tmp_path / "jobs", tmp_path / "serial") for config in configs)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have Slurm's programs on the path, and return where they note what they do."""
    if os.name != "posix":
        pytest.skip("its programs are shell scripts")
    make_cluster(tmp_path / "bin", tmp_path / "state")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "state"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The `srun` command is available")  # as Fabric says here, outside of jobs
def test_a_job_whose_time_is_up_is_queued_again_and_ends_with_the_serial_weights(tmp_path: Path, cluster: Path) -> None:
    told: list[str] = []

    def time_is_up(what: str, done: int, total: int, said: str = "") -> None:
        first = next(cluster.glob("process_*_0"), None)
        if first and not told and list(Run(tmp_path / "jobs", configs[0]).metrics()):
            told.append(first.name.removeprefix("process_"))
            os.kill(int(first.read_text(encoding="utf-8")), signal.SIGUSR2)

    configs = [tiny_trial(seed, epochs=15) for seed in range(2)]
    executor = on_slurm({"partition": "big", "mem-per-cpu": "4G", "time": "90"})
    assert run_trials(configs, tmp_path / "jobs", executor, time_is_up) == []
    assert told and (cluster / "requeued").read_text(encoding="utf-8").split() == told
    script = (cluster / "script").read_text(encoding="utf-8")
    for option in ("partition=big", "mem-per-cpu=4G", "time=90", "cpus-per-task=1", "array=0-1%2"):
        assert f"#SBATCH --{option}\n" in script
    assert run_trials(configs, tmp_path / "serial", local(1), quiet) == []
    assert all(same_weights(config, tmp_path / "jobs", tmp_path / "serial") for config in configs)


@pytest.mark.slow
def test_a_job_that_is_killed_is_a_failure_and_ctrl_c_cancels_the_others(
    tmp_path: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(what: str, done: int, total: int, said: str = "") -> None:
        if list(Run(tmp_path, configs[0]).metrics()):
            (process,) = cluster.glob("process_*")
            with suppress(ProcessLookupError):
                os.kill(int(process.read_text(encoding="utf-8")), signal.SIGKILL)

    def interrupt(what: str, done: int, total: int, said: str = "") -> None:
        if list(Run(tmp_path, configs[1]).metrics()):
            raise KeyboardInterrupt

    monkeypatch.setattr(SlurmJob, "watcher", SlurmInfoWatcher(delay_s=1))  # and not ten minutes
    configs = [tiny_trial(seed, epochs=150) for seed in range(2)]
    (failure,) = run_trials(configs[:1], tmp_path, on_slurm({}), kill)
    assert "ended with no result (FAILED)" in failure.reason and str(tmp_path / "slurm") in failure.reason
    with pytest.raises(KeyboardInterrupt):
        run_trials(configs[1:], tmp_path, on_slurm({}), interrupt)
    deadline = time.monotonic() + 30
    while len(list(cluster.glob("ended_*"))) < 2:
        assert time.monotonic() < deadline, "a job goes on"
        time.sleep(0.1)


def test_what_is_absent_or_wrong_is_told_before_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    study = ("study", "degradation", "--out", tmp_path / "study")
    assert_refused(reslab_here(*study, "--executor", "slurm"), "sbatch")
    assert_refused(reslab_here(*study, "--executor", "slurm", "--slurm", "partition"), "partition", "KEY=VALUE")
    assert_refused(reslab_here(*study, "--slurm", "partition=gpu"), "--executor slurm")
    assert_refused(reslab_here(*study, "--executor", "slurm", "--workers", "2"), "--workers")
    for minutes in ("0", "1:00:00", "-1"):
        with refused(WrongValueError, f"time={minutes}"):
            on_slurm({"time": minutes}, "debug")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with refused(MissingError, "submitit", "reslab[cluster]"):
        on_slurm({})
    assert not (tmp_path / "study").exists()
