"""`reslab.study`: a user's own study file."""

from pathlib import Path

import pytest
from helpers import refused, reslab_here

import reslab
from reslab.errors import MissingError, UnknownNameError

CODE = """
from reslab.experiment.config import StudyConfig
from reslab.experiment.study import Measurement, Study
from reslab.experiment.text import StudyText, claims, exact
from reslab.experiment.trials import Exactly

TEXT = StudyText(__name__)
CLAIMS = claims(TEXT, "my notes", None, {"has-trials": exact()})


def grid(config):
    return {("plain", 8): config.trials("cifar_plain", depth=8)}


def measure(config, trials):
    return Measurement({"has-trials": Exactly(len(trials["plain", 8]), config.seeds)})


STUDY = Study(TEXT, CLAIMS, StudyConfig, grid=grid, measure=measure)
"""
WORDS = """
title = { ko = "내 것", en = "My own" }
question = { ko = "있는가?", en = "Is it?" }
[claims.has-trials]
statement = { ko = "있다.", en = "There are trials." }
"""


def test_a_users_own_study_is_run_and_read(tmp_path: Path) -> None:
    file = tmp_path / "my_own_study.py"
    file.write_text(CODE, encoding="utf-8")
    with refused(MissingError, "my_own_study.toml"):
        reslab.study(file)
    file.with_suffix(".toml").write_text(WORDS, encoding="utf-8")
    out = tmp_path / "out"
    study = reslab.study(file, out=out, seeds=1, epochs=1, workers=1)
    assert study.verdicts.loc["has-trials", "verdict"] == "supported"
    assert study.trials[["group", "seed"]].values.tolist() == [["plain-8", 0]]
    assert "+" in study.record.code["measures"] and study.report.is_file()
    counts, errors = study.confusion("plain-8"), study.errors_by_class()["plain-8"]
    images = counts.sum(axis=1)
    assert (errors * images).sum() / images.sum() == pytest.approx(study.trials.loc[0, "test_error"])
    assert errors["3"] == pytest.approx(1 - counts.loc["3", "3"] / images["3"])
    page = study.report.read_text(encoding="utf-8")
    assert "Which class is taken for which" in study.figures and "클래스별 테스트 오류 (%)" in page
    html = study._repr_html_()
    assert "My own" in html and html.count("<svg") == len(study.figures) > 0
    with refused(UnknownNameError, "'nothing'"):
        study.figure("nothing")
    with refused(UnknownNameError, "'plain-9'", "plain-8"):
        study.confusion("plain-9")
    settings = ("--out", out, "--seeds", "1", "--epochs", "1", "--workers", "1")
    done = reslab_here("study", "--from", file, *settings)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [(), ("degradation", "--from", "my.py")])
def test_a_study_has_a_name_or_a_file(words: tuple[str, ...]) -> None:
    assert reslab_here("study", *words).returncode == 2
