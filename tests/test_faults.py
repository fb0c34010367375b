"""Whatever happens to a run, what was finished stays, the error is one line, and the same command goes on to the same
end.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import TRAIN, assert_refused, reslab, reslab_here, timeless, tiny_trial
from helpers_faults import COMMANDS, kill_often
from helpers_forks import done as forked

from reslab import studies
from reslab.cli import main
from reslab.executors import local, run_trial, run_trials
from reslab.experiment.directory import Directory
from reslab.experiment.study import run_study
from reslab.files import read_json
from reslab.report.records import read_directory
from reslab.runs import Run
from reslab.training import loop
from reslab.training.loop import Trainer, TrialConfig

STUDY = ["study", "shortcuts", "--preset", "smoke"]
posix = pytest.mark.skipif(os.name != "posix", reason="injects faults by means that POSIX has")


def on_a_full_disk(size: int, words: list[str]) -> None:
    """Run a command that may write no file larger than this."""
    import resource

    loop.CHECKPOINT_SECONDS = 0.0
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    main(words)


def script(code: str, *arguments: str | Path, through: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*through, sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "kills"),
    [
        ("train", 2),
        pytest.param("train", 60, marks=pytest.mark.slow),  # minutes
        pytest.param("study", 60, marks=pytest.mark.slow),  # minutes
    ],
)
@posix
def test_killed_at_any_moment_a_command_goes_on_to_the_same_bits(command: str, kills: int, tmp_path: Path) -> None:
    root = tmp_path / "실행"
    root.mkdir()
    report = kill_often(kills, root, COMMANDS[command], random.Random(0))
    assert report["killed"] >= kills and report["finished"] >= 1
    assert report["torn"] == report["different"] == report["failed"] == []


@posix
def test_a_full_disk_is_one_line_and_nothing_is_lost(tmp_path: Path) -> None:
    done = forked(tmp_path, on_a_full_disk, 100_000, [*TRAIN, "--out", str(tmp_path)])  # the checkpoint is larger
    assert done.returncode == 2 and "File too large" in done.stderr and "Traceback" not in done.stderr
    (run,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert not list(run.glob(".*.tmp")) and not (run / "result.json").exists()
    assert reslab_here(*TRAIN, "--out", tmp_path).returncode == 0
    assert reslab_here(*TRAIN, "--out", tmp_path / "whole").returncode == 0
    for name in ("weights.safetensors", "wrong.json"):
        (whole,) = (tmp_path / "whole").glob(f"*/{name}")
        assert (run / name).read_bytes() == whole.read_bytes()


@pytest.mark.slow
@posix
def test_a_directory_that_is_read_only_is_named(tmp_path: Path) -> None:
    through: tuple[str, ...] = ()
    if os.geteuid() == 0:  # whom permissions do not stop, unless that capability is dropped
        if not shutil.which("setpriv"):
            pytest.skip("root may write anywhere, and there is no setpriv here")
        through = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    tmp_path.chmod(0o555)
    try:
        done = script("from reslab.cli import main; main()", *STUDY, "--out", tmp_path / "x", through=through)
        assert_refused(done, tmp_path / "x", "--out")
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("again", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["gone", "made again"])
def test_a_directory_deleted_under_a_run_is_that_trials_failure(
    again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    iterate = Trainer.iterate

    def deleting(self: Trainer, index: torch.Tensor) -> None:
        iterate(self, index)
        if self.step == 3 and self.config.seed == 0:
            shutil.rmtree(self.run.path)
            if again:
                self.run.path.mkdir()

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "iterate", deleting)
        (failure,) = run_trials([tiny_trial(0), tiny_trial(1)], tmp_path, local(1), lambda *_: None)
    words = "trial.json is missing: the directory was removed" if again else "No such file or directory"
    assert failure.config.seed == 0 and words in failure.reason and "the same command" in failure.reason
    assert Run(tmp_path, tiny_trial(1)).result()["status"] == "finished"
    assert run_trials([tiny_trial(0)], tmp_path, local(1), lambda *_: None) == []  # as it says


@pytest.mark.slow  # 2 s
def test_a_clock_that_goes_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_trial(tiny_trial(), tmp_path / "here")
    now = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    result = run_trial(tiny_trial(), tmp_path / "back")
    before, after = (Run(tmp_path / where, tiny_trial()) for where in ("here", "back"))
    assert timeless(result) == timeless(before.result()) and result["seconds"] > 0
    assert before.weights.read_bytes() == after.weights.read_bytes()


@pytest.mark.slow  # three studies: half a minute
def test_two_processes_share_a_study(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reslab", *STUDY, "--workers", "1"]
    both = [
        subprocess.Popen([*command, "--out", tmp_path / "shared"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [(process.communicate()[1], process.returncode)[1] for process in both] == [0, 0]
    assert reslab(*STUDY, "--out", tmp_path / "alone").returncode == 0
    shared, alone = (read_json(tmp_path / where / "study.json") for where in ("shared", "alone"))
    for record in (shared, alone):
        for trial in record["trials"]:
            trial["result"] = timeless(trial["result"])
    assert shared == alone
    for trial in shared["trials"]:
        weights = [tmp_path / where / trial["directory"] / "weights.safetensors" for where in ("shared", "alone")]
        assert weights[0].read_bytes() == weights[1].read_bytes()
        assert (
            len((tmp_path / "shared" / trial["directory"] / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
            == 1
        )  # nobody trained it twice


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::EncodingWarning")  # plotly opens its own files so
def test_trials_that_go_wrong_are_recorded_and_the_rest_go_on(tmp_path: Path) -> None:
    study = studies.find("shortcuts")
    config = study.configure("smoke", {"seeds": 1})
    grid = study.grid(config)
    first, trials = next(iter(grid.items()))
    greedy, lost, missing = (
        trials[0].model_copy(update={"model": f"faulty:{name}", "options": {}})
        for name in ("Greedy", "Lost", "Missing")
    )

    def with_bad_ones(_: object) -> dict[str, list[TrialConfig]]:
        return {**grid, first: [greedy, lost, missing, *trials]}

    directory = Directory(tmp_path / "study").prepare(study)
    finished = run_study(replace(study, grid=with_bad_ones), config, directory, local(1), lambda *_: None)
    reasons = {failure.config.model: failure.reason for failure in finished.failures}
    assert reasons.keys() == {greedy.model, missing.model} and all(
        len(reason.splitlines()) == 1 for reason in reasons.values()
    )
    assert "allocate" in reasons[greedy.model] and "Missing" in reasons[missing.model]
    (diverged,) = [trial.result.model_dump() for trial in finished.record.trials if trial.config["model"] == lost.model]
    assert diverged["status"] == "diverged" and diverged["reason"] == "the mean loss of epoch 1 was not finite"
    assert len(finished.record.trials) == sum(map(len, grid.values())) + 1
    notes = " ".join(note["en"] for note in read_directory(directory.path).notes)
    assert "2 trials failed" in notes and "1 trials diverged" in notes
