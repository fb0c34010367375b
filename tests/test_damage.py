"""Damaged files are found and named, what was good before them is used, and nothing is built on them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import TRAIN, assert_refused, refused, reslab_here, sum_up, tiny_trial

from reslab.errors import DamagedError
from reslab.executors import local, run_trial, run_trials
from reslab.files import read_json, read_sealed, sealed, write_new
from reslab.report.records import read_directory
from reslab.runs import Run, check_files
from reslab.training import loop
from reslab.training.loop import Trainer

CONFIG = tiny_trial(epochs=3)
FILES = ("trial.json", "metrics.jsonl", "weights.safetensors", "wrong.json", "result.json", "SHA256SUMS")


def truncate(path: Path) -> None:
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size * 2 // 3)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE = pytest.mark.parametrize("damage", [truncate, flip, empty])


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that finished: the trial's, and one of another seed."""
    root = tmp_path_factory.mktemp("끝난 실행")
    for seed in (0, 1):
        run_trial(tiny_trial(seed, epochs=3), root)
    return root


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that stopped after 12 of 15 steps, with a checkpoint after the last and the one before."""
    root = tmp_path_factory.mktemp("멈춘 실행")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        iterate = Trainer.iterate

        def until_12(self: Trainer, index: object) -> None:
            if self.step == 12:
                raise StoppedError
            iterate(self, index)  # type: ignore[arg-type]  # a tensor

        patch.setattr(Trainer, "iterate", until_12)
        for seed in (0, 1):
            with pytest.raises(StoppedError):
                run_trial(tiny_trial(seed, epochs=3), root)
    return root


@pytest.fixture
def run(interrupted: Path, tmp_path: Path) -> Run:
    """A copy of the interrupted runs, to damage."""
    shutil.copytree(interrupted, tmp_path / "runs")
    return Run(tmp_path / "runs", CONFIG)


def finish(run: Run, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let a run go on to its end, and return the step at which it went on."""
    begun: list[int] = []
    iterate = Trainer.iterate

    def watched(self: Trainer, index: object) -> None:
        begun.append(self.step)
        iterate(self, index)  # type: ignore[arg-type]  # a tensor

    monkeypatch.setattr(Trainer, "iterate", watched)
    run_trial(CONFIG, run.path.parent)
    return begun[0]


def same_end(run: Run, trained: Path) -> bool:
    return run.weights.read_bytes() == Run(trained, CONFIG).weights.read_bytes()


@DAMAGE
def test_the_checkpoint_before_a_damaged_one_is_used(
    damage: Callable[[Path], None],
    run: Run,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(run.checkpoint)
    assert finish(run, monkeypatch) == 11
    told = capsys.readouterr().err
    assert "checkpoint.pt is damaged" in told and len(told.splitlines()) == 1
    assert (run.path / "checkpoint.pt.damaged").exists() and same_end(run, trained)


def test_with_both_checkpoints_damaged_a_run_begins_anew(
    run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truncate(run.checkpoint)
    flip(run.previous_checkpoint)
    assert finish(run, monkeypatch) == 0
    assert len(capsys.readouterr().err.splitlines()) == 2 and same_end(run, trained)


def test_a_run_that_goes_on_with_other_code_says_both(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run.config.code_digest()
    monkeypatch.setattr(type(run.config), "code_digest", classmethod(lambda _: "0" * 16))
    assert finish(run, monkeypatch) == 12
    assert run.result()["code"] == "+".join(sorted(["0" * 16, before]))


def test_another_trials_checkpoint_is_not_used(
    run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(Run(run.path.parent, tiny_trial(1, epochs=3)).checkpoint, run.checkpoint)
    assert finish(run, monkeypatch) == 11
    assert "belongs to another trial" in capsys.readouterr().err and same_end(run, trained)


@DAMAGE
def test_damaged_metrics_are_not_gone_on_with(
    damage: Callable[[Path], None],
    run: Run,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(run.path / "metrics.jsonl")
    assert finish(run, monkeypatch) == 0
    assert "metrics.jsonl is damaged" in capsys.readouterr().err
    assert same_end(run, trained) and [line["epoch"] for line in run.metrics()] == [1, 2, 3]


@DAMAGE
def test_a_trial_whose_config_is_damaged_is_not_trained(damage: Callable[[Path], None], run: Run) -> None:
    damage(run.path / "trial.json")
    before = run.checkpoint.read_bytes()
    (failure,) = run_trials([CONFIG], run.path.parent, local(1), lambda *_: None)
    assert "trial.json is damaged" in failure.reason and run.checkpoint.read_bytes() == before and not run.finished


@DAMAGE
@pytest.mark.parametrize("name", FILES)
def test_damage_to_any_file_of_a_finished_run_is_named(
    damage: Callable[[Path], None], name: str, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "runs")
    run = Run(tmp_path / "runs", CONFIG)
    run.result()
    damage(run.path / name)
    for read in (run.result, run.wrong):
        with refused(DamagedError, run.path / name):
            read()


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_run_is_found_out(name: str, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "runs")
    run, other = (Run(tmp_path / "runs", tiny_trial(seed, epochs=3)) for seed in (0, 1))
    shutil.copy(other.path / name, run.path / name)
    # the sums of others fit no file
    with refused(DamagedError, run.path / ("trial.json" if name == "SHA256SUMS" else name)):
        run.result()
    shutil.copytree(other.path, run.path, dirs_exist_ok=True)  # all of them
    with refused(DamagedError, run.path / "trial.json"):
        run.result()


def test_a_missing_file_is_named(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "runs")
    run = Run(tmp_path / "runs", CONFIG)
    run.weights.unlink()
    with refused(DamagedError, run.weights):
        check_files(run.path)


def test_a_run_of_a_version_that_kept_no_wrong_answers_is_read_as_before(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "runs")
    run = Run(tmp_path / "runs", CONFIG)
    result = run.result()
    (run.path / "wrong.json").unlink()
    sum_up(run.path)
    assert run.result() == result and run.wrong() == {}


def test_train_refuses_a_damaged_run_in_one_line(tmp_path: Path) -> None:
    arguments = [*TRAIN, "--out", tmp_path, "--json"]
    assert reslab_here(*arguments).returncode == 0
    (weights,) = tmp_path.glob("*/weights.safetensors")
    flip(weights)
    done = reslab_here(*arguments)
    assert_refused(done, weights)


STUDY = ["study", "shortcuts", "--preset", "smoke", "--seeds", "2", "--workers", "1"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::EncodingWarning")  # plotly opens its own files so
def test_a_study_goes_on_without_a_damaged_trial_and_its_page_says_so(tmp_path: Path) -> None:
    out = tmp_path / "study"
    whole = reslab_here(*STUDY, "--out", out)
    assert whole.returncode == 0, whole.stderr
    victim = sorted(out.glob("trials/*/weights.safetensors"))[0]
    flip(victim)
    done = reslab_here(*STUDY, "--out", out)
    assert done.returncode == 1 and f"{victim} is damaged" in done.stderr
    record = read_json(out / "study.json")
    assert len(record["failures"]) == 1 and "is damaged" in record["failures"][0]["reason"]
    assert victim.parent.name not in {Path(trial["directory"]).name for trial in record["trials"]}
    flip(out / record["trials"][0]["directory"] / "metrics.jsonl")
    assert any("missing or broken" in note["en"] for note in read_directory(out).notes)
    shutil.rmtree(victim.parent)
    truncate(out / "study.json")
    done = reslab_here(*STUDY, "--out", out)
    assert_refused(done, out / "study.json")


def test_a_seal_is_broken_by_any_bit(tmp_path: Path) -> None:
    path = tmp_path / "sealed"
    content = b"what is kept\nin two lines"
    path.write_bytes(sealed(content))
    assert read_sealed(path) == content
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedError):
            read_sealed(path)


def test_what_a_process_that_was_killed_at_the_very_end_left_is_removed(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "runs")
    run = Run(tmp_path / "runs", CONFIG)
    for left in (run.checkpoint, run.previous_checkpoint, run.path / "progress.json"):
        left.write_bytes(b"left")
    before = {path.name for path in Run(trained, CONFIG).path.iterdir()}
    assert run_trials([CONFIG], tmp_path / "runs", local(1), lambda *_: None) == []
    assert {path.name for path in run.path.iterdir()} == before


def test_a_new_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new.json"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_new(path, "text")
    assert not path.exists()
    write_new(path, "글")
    with pytest.raises(FileExistsError):
        write_new(path, "other")
    assert path.read_text(encoding="utf-8") == "글"
