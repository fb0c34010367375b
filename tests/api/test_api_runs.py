"""Runs as tables that round-trip."""

import codecs
from pathlib import Path

import pandas as pd
import pytest
from helpers import assert_refused, reslab_here, tiny_trial

from reslab.commands import tables
from reslab.executors import run_trial
from reslab.runs import Run


def test_runs_are_a_row_per_trial_or_per_epoch_and_round_trip(tmp_path: Path) -> None:
    configs = [tiny_trial(seed, epochs=1) for seed in range(2)]
    result = run_trial(configs[0], tmp_path / "some")
    Run(tmp_path / "others", configs[1]).create()
    for kind, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        out = tmp_path / f"runs.{kind}"
        done = reslab_here("runs", tmp_path, f"--{kind}", out)
        assert done.returncode == 0, done.stderr
        assert out.read_bytes().startswith(codecs.BOM_UTF8) == (kind == "csv")
        frame = read(out).set_index("run")
        assert frame.loc[configs[0].digest(), "test_error"] == pytest.approx(result["test_error"])
        assert frame.loc[configs[1].digest(), "status"] == "unfinished"
        assert frame["recipe.learning_rate"].tolist() == [0.05] * 2 and frame["options.depth"].tolist() == [8] * 2
        assert_refused(reslab_here("runs", tmp_path, f"--{kind}", out), out)
    epochs = tmp_path / "epochs.csv"
    reslab_here("runs", tmp_path, "--epochs", "--csv", epochs)
    assert pd.read_csv(epochs)["heldout_error"].tolist() == [pytest.approx(result["heldout_error"])]
    assert configs[0].digest() in reslab_here("runs", tmp_path / "some").stdout
    assert_refused(reslab_here("runs", tmp_path / "nothing"), tmp_path / "nothing")


def test_a_setting_that_is_a_number_here_and_a_word_there_is_text_in_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"mixed": ["a", 1, None], "numbers": [1, 2.5, None]})
    tables.write(frame, {"parquet": tmp_path / "table"}, "en")
    read = pd.read_parquet(tmp_path / "table")
    assert read["mixed"].tolist()[:2] == ["a", "1"] and read["mixed"].isna().tolist() == [False, False, True]
    assert read["numbers"].tolist()[:2] == [1, 2.5]


def test_a_directory_that_is_not_there_and_a_file_of_something_else_are_told(tmp_path: Path) -> None:
    Run(tmp_path / "some", tiny_trial(0)).create()
    assert_refused(reslab_here("runs", tmp_path / "some", tmp_path / "typo"), tmp_path / "typo")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "trial.json").write_text("{}", encoding="utf-8")
    assert_refused(reslab_here("runs", tmp_path), tmp_path / "other" / "trial.json")
