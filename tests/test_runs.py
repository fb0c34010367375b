"""Run directories: hashing, whole-or-not-at-all writing, metrics that are cut back."""

from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_trial
from pydantic import ValidationError

from reslab.files import read_json, write_atomically
from reslab.runs import Config, Run
from reslab.training.loop import TrialConfig


def test_the_name_is_the_hash_of_the_config(tmp_path: Path) -> None:
    config = tiny_trial()
    again = TrialConfig.model_validate_json(config.model_dump_json())
    assert Run(tmp_path, config).path == Run(tmp_path, again).path
    others = [
        tiny_trial(seed=1),
        tiny_trial(epochs=3),
        config.model_copy(update={"threads": 2}),
        config.model_copy(update={"precision": "bf16"}),
    ]
    assert len({other.digest() for other in [config, *others]}) == 5


def test_unknown_keys_and_nan_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        TrialConfig.model_validate({**tiny_trial().model_dump(), "colour": "red"})

    class Number(Config):
        x: float

    with pytest.raises(ValidationError, match="finite"):
        Number(x=float("nan"))


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "한글 이름.json"
    write_atomically(path, "처음")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "다음")
    assert path.read_text(encoding="utf-8") == "처음"
    assert list(tmp_path.iterdir()) == [path]


def test_metrics_are_appended_cut_back_and_read_without_a_torn_last_line(tmp_path: Path) -> None:
    run = Run(tmp_path, tiny_trial())
    run.create()
    run.append_metrics({"step": 1, "loss": 0.5})
    mark = run.mark_metrics()
    run.append_metrics({"step": 2, "loss": 0.5})
    with (run.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 3')
    assert [line["step"] for line in run.metrics()] == [1, 2]
    assert run.holds(mark) and run.latest_metrics() == {"step": 2, "loss": 0.5}
    run.cut_metrics(mark.length)
    run.append_metrics({"step": 4, "loss": 0.5})
    assert [line["step"] for line in run.metrics()] == [1, 4]


def test_a_run_records_its_config_environment_and_code(tmp_path: Path) -> None:
    run = Run(tmp_path, tiny_trial())
    run.create()
    trial = read_json(run.path / "trial.json")
    assert TrialConfig.model_validate(trial["config"]) == run.config
    assert trial["environment"]["packages"]["torch"] and len(trial["code"]) == 16
    assert not run.finished


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_wrong_answers_are_a_bit_per_image(count: int, tmp_path: Path) -> None:
    run = Run(tmp_path, tiny_trial())
    run.create()
    marks = np.random.default_rng(count).random(count) < 0.3
    run.write_wrong({"heldout": marks, "test": ~marks})
    run.finish({"status": "finished"})
    read = run.wrong()
    assert read["heldout"].tolist() == marks.tolist() and read["test"].tolist() == (~marks).tolist()


def test_the_first_image_is_the_highest_bit(tmp_path: Path) -> None:
    run = Run(tmp_path, tiny_trial())
    run.create()
    run.write_wrong({"test": np.array([True, False, False, True, False, False, False, False, True])})
    assert read_json(run.path / "wrong.json") == {"test": {"images": 9, "bits": "9080"}}
