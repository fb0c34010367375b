"""Long runs and large studies: memory and open files stay as they are, and nothing takes longer than its size."""

import json
import os
import time
from pathlib import Path
from statistics import median

import psutil
import pytest
from helpers import reslab_here, tiny_trial

from reslab import studies
from reslab.executors import local, run_trials
from reslab.experiment.directory import Directory
from reslab.experiment.study import run_study
from reslab.runs import METRICS, Run, read_metrics

LINE = {
    "step": 163,
    "epoch": 1.0,
    "learning_rate": 0.1,
    "loss": 0.123456789,
    "train_error": 0.5,
    "heldout_error": 0.5,
    "seconds": 1.234,
}


@pytest.mark.slow  # 2 minutes
@pytest.mark.skipif(os.name != "posix", reason="counts file descriptors")
def test_memory_and_files_stay_flat_over_ten_thousand_steps(tmp_path: Path) -> None:
    """Less than 400 bytes a step: a tensor that each leaves behind would be seen."""
    config = tiny_trial(batch_size=8, epochs=None, iterations=10_000)
    process = psutil.Process()
    samples: list[tuple[int, int, int]] = []  # bytes, open files, lines of metrics

    def sample(what: str, done: int, total: int, said: str = "") -> None:
        if done < total:
            samples.append((process.memory_info().rss, process.num_fds(), len(list(Run(tmp_path, config).metrics()))))

    assert run_trials([config], tmp_path, local(1), sample) == []
    assert Run(tmp_path, config).result()["steps"] == 10_000
    lines = samples[-1][2]
    early, late = (
        [each for each in samples if low <= each[2] / lines < high] for low, high in ((0.2, 0.4), (0.8, 1.0))
    )
    memory, files = ([median(each[what] for each in part) for part in (early, late)] for what in (0, 1))
    print(
        f"{len(samples)} samples: {memory[0] / 1e6:.1f} MB, then {memory[1] / 1e6:.1f} MB; {files[0]:.0f} open "
        f"files, then {files[1]:.0f}"
    )
    assert memory[1] - memory[0] < 400 * 0.6 * 10_000
    assert files[1] <= files[0] + 1


def test_a_hundred_thousand_lines_of_metrics_load_in_a_second(tmp_path: Path) -> None:
    run = Run(tmp_path, tiny_trial())
    run.create()
    (run.path / METRICS).write_text((json.dumps(LINE) + "\n") * 100_000 + '{"epoch": 9', encoding="utf-8")
    begun = time.process_time()
    assert sum(1 for _ in read_metrics(run.path)) == 100_000
    reading = time.process_time() - begun
    print(f"read in {reading:.2f} s of processor time")
    assert reading < 1
    begun = time.process_time()
    assert run.latest_metrics() == LINE  # what a progress bar shows
    assert time.process_time() - begun < reading / 20


@pytest.mark.filterwarnings("ignore::EncodingWarning")  # plotly opens its own files so
@pytest.mark.slow  # 20 s
@pytest.mark.parametrize("trials", [100, 1000])
def test_a_study_of_a_thousand_trials_resumes_and_shows_itself_within_seconds(
    trials: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds of this process's work, so that a busy machine is not a failure."""
    study = studies.find("shortcuts")  # which measures results alone, and so can do with pretended trials
    config = study.configure("smoke", {"seeds": trials // 4})
    directory = Directory(tmp_path / "study").prepare(study)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        for trial in [trial for group in study.grid(config).values() for trial in group]:
            run = Run(directory.trials, trial)
            run.create()
            run.append_metrics(LINE)
            errors = dict.fromkeys(("train_error", "heldout_error", "test_error"), 0.25 + 1e-4 * trial.seed)
            run.finish({"status": "finished", "params": 1000, "steps": 1, "seconds": 1.0, **errors})
    for _ in range(2):  # made, then found
        begun = time.process_time()
        record = run_study(study, config, directory, local(2), lambda *_: None).record
        resuming = time.process_time() - begun
    assert len(record.trials) == trials
    begun = time.process_time()
    assert json.loads(reslab_here("claims", directory.path, "--json").stdout)
    listing = time.process_time() - begun
    begun = time.process_time()
    assert reslab_here("report", directory.path, "--out", tmp_path / "page.html").returncode == 0
    reporting = time.process_time() - begun
    print(f"resumed in {resuming:.2f} s, listed in {listing:.2f} s, reported in {reporting:.2f} s of processor time")
    assert resuming < 4 and listing < 4 and reporting < 10
