"""What someone meets who has just cloned the project: messages, tables, progress, and settings that are kept apart."""

import json
import re
import warnings
from pathlib import Path

import pytest
from helpers import assert_refused, refused, reslab_here, tiny_trial

import reslab
from reslab import progress, studies
from reslab.commands import printing
from reslab.errors import UserError
from reslab.executors import run_trial
from reslab.executors.attempts import how_far
from reslab.experiment.directory import Directory
from reslab.progress import short
from reslab.runs import Run
from reslab.training import loop


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["train", "resnet20", "--lr", "0.1"], ["train", "--lr", "--set learning_rate=VALUE"]),
        (["train", "resnet20", "--batch-size", "32"], ["--batch-size", "--set batch_size=VALUE"]),
        (["train", "resnet20", "--epoch", "1"], ["train", "--epoch", "--epochs"]),
        (["train", "torchvision/resnet18", "--lr", "0.1"], ["--lr", "--set learning_rate=VALUE"]),
        (["analyze", "removal", "resnet20", "--image", "10"], ["--image", "--images"]),
        (["evaluate", "resnet20", "--weights", "digits", "--views", "single"], ["--views", "--view"]),
        (["train", "resnet20", "--num-clases", "3"], ["resnet20", "'num_clases'; did you mean 'num_classes'"]),
    ],
)
def test_an_option_is_blamed_on_what_it_was_meant_for(typed: list[str], meant: list[str]) -> None:
    done = reslab_here(*typed)
    assert_refused(done, *meant)


def test_a_pipe_gets_tables_in_full_width_and_numbers_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    printing.print_table(("name", "a number"), [("a.long.identifier.of.a.layer", "1,234,567,890")])
    assert any(
        "a.long.identifier.of.a.layer" in line and "1,234,567,890" in line
        for line in capsys.readouterr().out.splitlines()
    )


@pytest.mark.parametrize(("width", "whole"), [("50", "1,234 ± 5"), ("20", "size: 1,234 ± 5")])
def test_a_narrow_terminal_breaks_no_number_and_no_name(
    width: str, whole: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    printing.print_table(
        ("layer", "what", "size"), [("layer1.0.conv1", "words " * 9, "1,234 ± 5")], words=("layer", "what")
    )
    out = capsys.readouterr().out
    assert "layer1.0.conv1" in out and whole in out


def test_a_wide_table_goes_on_under_itself(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    columns = ("block", *(f"measure {number}" for number in range(5)))
    printing.print_table(columns, [(name, *"12345") for name in ("layer1.0", "layer1.1")])
    lines = [line for line in capsys.readouterr().out.splitlines() if "layer1.0" in line]
    assert len(lines) == 3 and max(map(len, lines)) <= 40
    assert [word for line in lines for word in line.split()[1:]] == list("12345")


def test_numbers_in_tables_are_short() -> None:
    assert [short(value) for value in (0.122141, 9.473e-82, 1234567.0, 3, "x")] == [
        "0.1221",
        "9.5e-82",
        "1.2e+06",
        "3",
        "x",
    ]


def test_a_record_of_other_settings_is_not_replaced_unasked(tmp_path: Path) -> None:
    study = studies.find("degradation")
    config = study.configure("default", {})
    recorded = {"study": "degradation", "config": config.model_dump(mode="json")}
    (tmp_path / "study.json").write_text(json.dumps(recorded), encoding="utf-8")
    Directory(tmp_path).prepare(study, config)
    other = study.configure("default", {"seeds": 3, "depths": (8, 14)})
    with refused(UserError, "seeds 5, not 3", "depths 20,56, not 8,14", f"--out {tmp_path}-2", "--replace"):
        Directory(tmp_path).prepare(study, other)
    Directory(tmp_path).prepare(study)


def test_how_far_a_trial_is_can_be_read_while_it_runs_and_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "PROGRESS_SECONDS", 0.0)
    config, told = tiny_trial(), []
    tell = Run.tell
    monkeypatch.setattr(Run, "tell", lambda run, progress: (tell(run, progress), told.append(run.progress())))
    run_trial(config, tmp_path)
    assert [(now["step"], now["steps"], now["epoch"], now["epochs"]) for now in told] == [
        (i + 1, 10, i // 5 + 1, 2) for i in range(10)
    ]
    assert told[0]["heldout_error"] is None and 0 <= told[-1]["heldout_error"] <= 1
    assert Run(tmp_path, config).progress() == {}
    assert (
        how_far({**told[6], "seconds": 7.0}).startswith("epoch 2/2, 0:03 left\nloss ")
        and how_far(told[-1]) == "trained; evaluating"
    )


def test_without_a_terminal_there_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.display() as tell:
        tell("decoding", 1, 3)
        assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with progress.display() as tell:
        tell("decoding", 2_000, 3_000)
    assert capsys.readouterr().err == "decoding 2,000/3,000 0:00\n"


def test_train_says_what_it_read_that_averages_lag_and_that_nothing_was_left_to_do(tmp_path: Path) -> None:
    arguments = ["train", "cifar_resnet", "--depth", "8", "--epochs", "1", "--set", "batch_size=256", "--out", tmp_path]
    first = reslab_here(*arguments).stdout
    assert (
        first.startswith("digits: 10 classes; 1,307 training, ")
        and "after only 5 steps" in first
        and "--batchnorm true-average" in first
    )
    again = reslab_here(*arguments, "--json")
    assert json.loads(again.stdout)["true_average_errors"].keys() == {"train", "heldout", "test"}
    assert "already trained; nothing done" in reslab_here(*arguments).stdout


def test_results_are_told_in_the_language_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")
    network, short = ["cifar_resnet", "--depth", "8"], ["--epochs", "1", "--set", "batch_size=256"]
    train = ["train", *network, *short, "--out", tmp_path]
    first, again = (reslab_here(*train).stdout for _ in range(2))
    assert first.startswith("digits: 클래스 10개. 훈련 이미지 1,307장,") and "5스텝밖에 학습하지 않아" in first
    assert "이미 학습되어 있어" in again and "훈련 오류" in again and "검증 오류" in again
    file = next(tmp_path.rglob("weights.safetensors"))
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # of the classifier, which is left out
        tuned = reslab_here("train", "resnet20", *short, "--from", "digits", "--out", tmp_path).stdout
    told = [
        first,
        again,
        tuned,
        reslab_here(*train, "--set", "learning_rate=0.1,0.2").stdout,
        reslab_here("weights").stdout,
        reslab_here("weights", file, "--out", tmp_path / "new.safetensors").stdout,
        reslab_here("evaluate", *network, "--weights", file).stdout,
        reslab_here("analyze", "importance", *network, "--images", "1", "--csv", tmp_path / "table.csv").stdout,
    ]
    for said in told:
        assert said and not re.search(r"\b(error|images|tensors|mean|starts|after|wrote|classes)\b", said), said


def test_an_analysis_of_chance_says_so() -> None:
    typed = ["analyze", "importance", "cifar_resnet", "--depth", "8", "--images", "1"]
    done = reslab_here(*typed)
    assert (
        "importance of an UNTRAINED cifar_resnet on 1 image of" in done.stdout
        and "note: cifar_resnet is UNTRAINED" in done.stderr
    )
    assert json.loads(reslab_here(*typed, "--json").stdout)["untrained"] is True


def test_models_names_sources_and_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reslab.networks.zoo.describe", None)
    assert (
        "  resnet18, resnet34, resnet50, resnet101, resnet152: He et al. 2015, Table 1"
        in reslab_here("models", "--family", "resnet").stdout
    )


def test_a_directory_is_no_page_and_no_browser_is_no_failure(tmp_path: Path) -> None:
    done = reslab_here("report", tmp_path, "--out", tmp_path)
    assert_refused(done, tmp_path, f"--out {tmp_path / 'report.html'}")


def test_the_labs_own_warnings_are_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    def warns(*_: object, **__: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn_explicit(
                "two files\nleft out", UserWarning, str(Path(reslab.__file__).parent / "data" / "folder.py"), 1
            )
        raise UserError("enough")

    monkeypatch.setattr("reslab.api.planning.load_data", warns)
    assert reslab_here("train", "resnet20").stderr == "reslab: note: two files left out\nreslab: enough\n"


def test_dir_shows_the_public_names() -> None:
    assert dir(reslab) == sorted(reslab.__all__)
