"""`reslab.study`: a user's own study file."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import assert_refused, refused, reslab_here, sum_up
from pydantic import Field

import reslab
from reslab import studies
from reslab.errors import MismatchError, MissingError, UnknownNameError, WrongValueError
from reslab.executors import local
from reslab.experiment.config import StudyConfig
from reslab.experiment.directory import Directory
from reslab.experiment.study import run_study
from reslab.experiment.trials import label
from reslab.files import read_json

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


def test_an_own_study_goes_on_prints_its_verdicts_and_is_not_taken_for_another(tmp_path: Path) -> None:
    file, out = Path(__file__).with_name("own_study.py"), tmp_path / "out"
    words = ("study", "--from", file, "--seeds", "3", "--epochs", "1", "--workers", "1", "--out", out)
    for _ in range(2):  # the second time from its record, whose setting is true and not 1
        done = reslab_here(*words)
        assert done.returncode == 0, done.stderr
        assert "own_study.it-errs" in done.stdout and "Beyond the chapter" in done.stdout
    assert read_json(out / "study.json")["config"]["flag"] is True and not list(out.glob("begun*"))
    other = tmp_path / "own_study.py"
    other.write_text(file.read_text(encoding="utf-8").replace("it-errs", "it-errs-much"), encoding="utf-8")
    text = file.with_suffix(".toml").read_text(encoding="utf-8")
    other.with_suffix(".toml").write_text(text.replace("it-errs", "it-errs-much"), encoding="utf-8")
    sys.modules.pop("own_study", None)
    assert_refused(reslab_here(*words[:2], other, *words[3:]), out, "own_study", "--out")
    sys.modules.pop("own_study", None)


def test_groups_that_cannot_be_told_apart_and_settings_of_no_record_are_refused_before_training(tmp_path: Path) -> None:
    study = replace(
        studies.find("degradation"), grid=lambda config: {("a",): [*config.trials("cifar_plain", depth=8)] * 2}
    )
    with refused(MismatchError, "a"):
        run_study(study, study.configure("smoke", {}), Directory(tmp_path).prepare(study), local(1))
    assert label(("lr", 0.1234567)) != label(("lr", 0.1234568)) and label(("lr", 0.05, 1.0)) == "lr-0.05-1"

    class Odd(StudyConfig):
        table: dict[str, int] = Field(default_factory=dict)

    with refused(WrongValueError, "table"):
        replace(study, config=Odd).configure("default", {"table": {"a": 1}})


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
    assert reslab.Study(str(out)).verdicts.equals(study.verdicts)  # type: ignore[arg-type]  # a path in words will do
    result = next(out.glob("trials/*/result.json"))
    result.write_text(result.read_text(encoding="utf-8").replace(read_json(result)["code"], "0" * 16), encoding="utf-8")
    sum_up(result.parent)
    with pytest.warns(UserWarning, match="this result was made with different code"):
        reslab.study(file, out=out, seeds=1, epochs=1, workers=1)
    settings = ("--out", out, "--seeds", "1", "--epochs", "1", "--workers", "1")
    done = reslab_here("study", "--from", file, *settings)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [(), ("degradation", "--from", "my.py")])
def test_a_study_has_a_name_or_a_file(words: tuple[str, ...]) -> None:
    assert reslab_here("study", *words).returncode == 2
