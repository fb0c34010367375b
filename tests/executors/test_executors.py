"""Where trials run never changes their results; failures and dead workers take nobody down."""

import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import assert_refused, refused, reslab_here, tiny_trial

from reslab import studies
from reslab.errors import UnusableError
from reslab.executors import default_workers, local, memory, run_trials, workers
from reslab.executors.attempts import how_far, tell
from reslab.progress import silent
from reslab.runs import Run


def quiet(what: str, done: int, total: int, said: str = "") -> None:
    assert 0 <= done <= total


@pytest.mark.usefixtures("_forked_workers")
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


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="finds the workers in /proc")
def test_a_worker_that_is_killed_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    import multiprocessing

    victim: list[int] = []

    def kill_one(what: str, done: int, total: int, said: str = "") -> None:
        if not victim and any(list(Run(tmp_path, config).metrics()) for config in configs[:2]):
            victim.append(next(child.pid or 0 for child in multiprocessing.active_children()))
            os.kill(victim[0], signal.SIGKILL)

    configs = [tiny_trial(seed, epochs=15) for seed in range(2)] + [tiny_trial(2)]
    failures = run_trials(configs, tmp_path, local(2), kill_one)
    assert len(failures) == 1 and "worker process died (exit code -9)" in failures[0].reason
    assert sum(Run(tmp_path, config).finished for config in configs) == 2
    assert run_trials(configs, tmp_path, local(2), quiet) == []


@pytest.mark.slow
def test_ctrl_c_stops_and_keeps_what_is_done(tmp_path: Path) -> None:
    import multiprocessing

    def interrupt(what: str, done: int, total: int, said: str = "") -> None:
        if done == 1:
            raise KeyboardInterrupt

    configs = [tiny_trial(0), tiny_trial(1, epochs=400), tiny_trial(2, epochs=400)]
    with pytest.raises(KeyboardInterrupt):
        run_trials(configs, tmp_path, local(2), interrupt)
    assert not multiprocessing.active_children()
    assert Run(tmp_path, configs[0]).finished


def test_workers_that_would_not_fit_the_memory_are_refused_before_they_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 10**9)
    with refused(UnusableError, "3 workers", "1.0 GB", "--workers") as told:
        run_trials([tiny_trial(seed) for seed in range(3)], tmp_path, local(3), quiet)
    assert re.search(r"1\.[23] GB", str(told.value))
    assert not list(tmp_path.glob("*/metrics.jsonl"))
    monkeypatch.setattr(memory, "free_memory", lambda: None)  # a system that does not tell
    memory.check_memory([tiny_trial(0)], 1000)


def test_without_a_number_there_are_as_many_workers_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [tiny_trial(seed) for seed in range(4)]
    for free, count in ((10**10, 4), (10**9, 2), (1, 1), (None, 4)):
        monkeypatch.setattr(memory, "free_memory", lambda free=free: free)
        assert memory.most_that_fit(configs, 4) == count
    # the rest is in the GPU's
    assert memory.bytes_needed(configs[0].model_copy(update={"device": "cuda"})) == memory.PROCESS


def test_a_containers_limits_are_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = memory.free_memory(), memory.cores()
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    assert memory.cores() >= machine[1]  # of this machine, without a container
    limits = {"memory.max": "1000000\n", "memory.current": "600000\n", "memory.stat": "anon 1\ninactive_file 200000\n"}
    for name, text in {**limits, "cpu.max": "100000 100000\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert memory.cores() == 1 and (machine[0] is None or memory.free_memory() == 600_000)
    for name, text in {"memory.max": "max\n", "cpu.max": "max 100000\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert memory.cores() >= machine[1] and (machine[0] is None or memory.free_memory() > 10**6)


def run_script(directory: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a user's script that begins with the imports that trials need."""
    script = directory / "script.py"
    imports = (
        "from pathlib import Path\n"
        "from reslab.executors import local, run_trials\n"
        "from reslab.training.loop import TrialConfig\n"
        "from reslab.training.recipes import FAST\n"
    )
    script.write_text(imports + code, encoding="utf-8")
    return subprocess.run([sys.executable, script], cwd=directory, capture_output=True, text=True, encoding="utf-8")


def test_workers_do_not_run_the_users_script_again(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        "recipe = FAST.model_copy(update={'epochs': 1, 'batch_size': 256})\n"
        "given = {'model': 'cifar_resnet', 'options': {'depth': 8}, 'data': 'digits', 'recipe': recipe}\n"
        "print(run_trials([TrialConfig(**given, seed=seed) for seed in (0, 1)], Path('out'), local(2)))\n",
    )
    assert done.stdout.strip() == "[]" and not done.stderr and len(list(tmp_path.glob("out/*/result.json"))) == 2


def test_without_a_number_a_gpu_has_one_trial_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(workers, "_serial", lambda todo, *_: asked.append(len(todo)))
    todo = [tiny_trial(seed).model_copy(update={"device": "cuda"}) for seed in range(4)]
    local(None)(todo, tmp_path, silent)
    assert asked == [4]


def test_the_memory_of_a_trial_grows_with_batch_and_depth() -> None:
    small, large = (memory.bytes_needed(tiny_trial(batch_size=size)) for size in (64, 128))
    assert small < large < 2 * small
    # an 8-layer network on 8×8 images: 7 convolutions, 7 BatchNorms, 7 ReLUs, 3 sums, of 1024, 512 and 256 numbers each
    ones = memory.bytes_needed(tiny_trial(batch_size=2)) - memory.bytes_needed(tiny_trial(batch_size=1))
    assert ones == pytest.approx(4 * (10 * 1024 + 7 * 512 + 7 * 256), rel=0.2)


def test_a_network_whose_forward_fails_is_left_to_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> tuple[int, int]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(memory, "_footprint", fails)
    assert memory.bytes_needed(tiny_trial()) == memory.PROCESS


def test_what_waits_is_not_done() -> None:
    said: list[str] = []
    for done in (0, 2):
        tell(lambda *now: said.append(now[-1]), [], done, 2)
    assert said == ["trials: waiting", "trials: done"]


def test_a_trial_without_errors_shows_none() -> None:
    now = {"step": 1, "steps": 4, "epoch": 1, "epochs": 2, "loss": 0.5, "seconds": 1.0, "images_per_second": 10.0}
    assert "error" not in how_far({**now, "train_error": None, "heldout_error": None})
    assert ", error 50.0 %" in how_far({**now, "train_error": 0.5, "heldout_error": None})


def test_the_memory_of_every_network_that_a_study_trains_is_known() -> None:
    for name in studies.names():
        study = studies.find(name)
        for trials in study.grid(study.configure("smoke", {})).values():
            assert memory.bytes_needed(trials[0]) > memory.PROCESS, trials[0]


@pytest.mark.skipif(find_spec("ray") is not None, reason="ray is installed")
def test_ray_is_asked_for_before_a_study_begins(tmp_path: Path) -> None:
    done = reslab_here("study", "degradation", "--executor", "ray", "--out", tmp_path / "study")
    assert_refused(done, "reslab[cluster]")
    assert not (tmp_path / "study").exists()


@pytest.mark.filterwarnings("ignore")  # of Ray and what it imports
@pytest.mark.slow  # starts a cluster: half a minute
def test_a_ray_cluster_gives_the_serial_weights_also_when_a_worker_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs reslab[cluster]")
    from reslab.executors.ray import on_ray

    killed: list[int] = []

    def kill_one(what: str, done: int, total: int, said: str = "") -> None:
        if not killed and any(list(Run(tmp_path / "ray", config).metrics()) for config in configs):
            killed.append(next(pid for pid in _processes("ray::cifar_resnet")))
            os.kill(killed[0], signal.SIGKILL)

    configs = [tiny_trial(seed, epochs=40) for seed in range(3)]
    assert run_trials(configs, tmp_path / "ray", on_ray(None), kill_one) == []
    assert killed
    assert run_trials(configs, tmp_path / "serial", local(1), quiet) == []
    for config in configs:
        there, here = (Run(tmp_path / where, config).weights.read_bytes() for where in ("ray", "serial"))
        assert there == here
    (failure,) = run_trials([tiny_trial(9, model="resnet57")], tmp_path / "ray", on_ray(None), quiet)
    assert "no network 'resnet57'" in failure.reason


def _processes(title: str) -> list[int]:
    """Return the processes whose title begins so."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_text(encoding="utf-8", errors="replace").startswith(title):
                found.append(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return found


def test_there_is_always_a_worker() -> None:
    assert default_workers(10_000) == 1
    assert default_workers(1) >= 1


def test_a_network_of_the_users_script_is_built_after_a_named_one(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        "from torch import nn\n"
        "def mine(num_classes=10, in_channels=1):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
        "if __name__ == '__main__':\n"
        "    recipe = FAST.model_copy(update={'epochs': 1, 'batch_size': 256})\n"
        "    given = {'data': 'digits', 'recipe': recipe}\n"
        "    named = [TrialConfig(**given, model='cifar_resnet', options={'depth': 8}, seed=seed) for seed in (0, 1)]\n"
        "    print(run_trials([*named, TrialConfig(**given, model='__main__:mine', seed=0)], Path('out'), local(2)))\n",
    )
    assert done.stdout.strip() == "[]" and len(list(tmp_path.glob("out/*/result.json"))) == 3
