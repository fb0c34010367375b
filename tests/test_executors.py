"""Where trials run never changes their results; failures and dead workers take nobody down."""

import os
import signal
from pathlib import Path

import pytest
from helpers import tiny_trial

from reslab.executors import default_workers, local, run_trials
from reslab.runs import Run


def quiet(running: list[Run], done: int, total: int) -> None:
    assert 0 <= done <= total


def test_worker_processes_give_the_serial_weights_and_a_failure_takes_nobody_down(tmp_path: Path) -> None:
    good = [tiny_trial(seed) for seed in range(2)]
    bad = tiny_trial(9, model="resnet57")
    failures = run_trials([bad, *good], tmp_path / "parallel", local(2), quiet)
    assert [failure.config for failure in failures] == [bad]
    assert "no network 'resnet57'" in failures[0].reason and "Traceback" in failures[0].traceback
    assert run_trials(good, tmp_path / "serial", local(1), quiet) == []
    for config in good:
        parallel, serial = (Run(tmp_path / where, config).weights.read_bytes() for where in ("parallel", "serial"))
        assert parallel == serial


def test_a_trial_that_fails_here_is_reported_and_the_next_one_runs(tmp_path: Path) -> None:
    failures = run_trials([tiny_trial(0, model="resnet57"), tiny_trial(1)], tmp_path, local(1), quiet)
    assert len(failures) == 1
    assert Run(tmp_path, tiny_trial(1)).finished


@pytest.mark.skipif(os.name != "posix", reason="finds the workers in /proc")
def test_a_worker_that_is_killed_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    import multiprocessing

    victim: list[int] = []

    def kill_one(running: list[Run], done: int, total: int) -> None:
        if not victim and any(list(run.metrics()) for run in running):
            victim.append(next(child.pid or 0 for child in multiprocessing.active_children()))
            os.kill(victim[0], signal.SIGKILL)

    configs = [tiny_trial(seed, epochs=40) for seed in range(2)] + [tiny_trial(2)]
    failures = run_trials(configs, tmp_path, local(2), kill_one)
    assert len(failures) == 1 and "worker process died (exit code -9)" in failures[0].reason
    assert sum(Run(tmp_path, config).finished for config in configs) == 2
    assert run_trials(configs, tmp_path, local(2), quiet) == []


def test_ctrl_c_stops_and_keeps_what_is_done(tmp_path: Path) -> None:
    import multiprocessing

    def interrupt(running: list[Run], done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    configs = [tiny_trial(0), tiny_trial(1, epochs=400), tiny_trial(2, epochs=400)]
    with pytest.raises(KeyboardInterrupt):
        run_trials(configs, tmp_path, local(2), interrupt)
    assert not multiprocessing.active_children()
    assert Run(tmp_path, configs[0]).finished


def test_there_is_always_a_worker() -> None:
    assert default_workers(10_000) == 1
    assert default_workers(1) >= 1
