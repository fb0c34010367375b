"""The command line: help, JSON, and mistakes told in one line with exit code 2."""

import inspect
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cyclopts import CycloptsError
from helpers import TRAIN, assert_refused, refused, reslab_here, sum_up
from helpers_help import SNAPSHOTS, commands, help_of_all
from helpers_help import words as words_of

from reslab import commands as commands_package
from reslab import report
from reslab.cli import main
from reslab.commands import printing
from reslab.commands.app import app
from reslab.commands.korean import texts, translated
from reslab.commands.misuse import misuse
from reslab.commands.typed import check_page, value, words
from reslab.errors import FailedError, Language, UnknownNameError, UserError, worded
from reslab.networks import zoo


def hangul(text: str) -> bool:
    return any("가" <= letter <= "힣" for letter in text)


def test_help_and_errors_are_korean_where_that_is_asked_for_or_spoken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `--lang`, else by the system."""
    for system, asked, korean in (
        ("ko_KR.UTF-8", [], True),
        ("C.UTF-8", ["--lang", "ko"], True),
        ("ko_KR.UTF-8", ["--lang=en"], False),
        ("C.UTF-8", [], False),
    ):
        monkeypatch.setenv("LC_ALL", system)
        for typed in ([], ["train"], ["exercise"], ["exercise", "check"], ["study", "history"]):
            app([*typed, "--help", *asked])
            assert hangul(capsys.readouterr().out) == korean
        with pytest.raises(SystemExit) as ended:
            main(["exercise", "hint", "9.9", *asked])
        told = capsys.readouterr().err
        assert ended.value.code == 2 and "9.9" in told and hangul(told) == korean


def test_every_command_has_its_korean_and_no_other() -> None:
    """With the same parameters, and the same options, placeholders and commands named in them."""
    korean = {id(command): text for command, text in translated(app)}
    for typed in commands(app):
        *_, command = app.parse_commands(typed)[1]
        text, function = korean.pop(id(command)), command.default_command
        assert hangul(text), typed
        assert named_in(text) == named_in(command.help), typed
        documented = re.findall(r"^(\w+)$(?=\n {4})", text, re.MULTILINE)
        assert documented == (list(inspect.signature(function).parameters) if function else []), typed
    assert len(korean) == 2  # --help and --version
    files = {path.stem: texts(path.stem).keys() for path in Path(commands_package.__file__).parent.glob("*.toml")}
    assert files.pop("app") == {"reslab", "--help", "--version", "words"}
    known = {typed[0]: {typed[0]} for typed in commands(app) if len(typed) == 1}
    for name, *own in (typed for typed in commands(app) if len(typed) > 1):
        known[name].update(own)
    assert files == known


def named_in(text: str) -> set[str]:
    """Return what both languages write alike: code, options and placeholders."""
    return set(re.findall(r"`[^`]+`|--[a-z][\w-]*|[A-Z_]{2,}\b", " ".join(text.split()), re.ASCII))


@pytest.mark.parametrize("language", SNAPSHOTS)
def test_help_is_as_it_was_read(language: Language) -> None:
    assert words_of(help_of_all(language)) == words_of(SNAPSHOTS[language].read_text(encoding="utf-8")), (
        "read it; python tests/helpers_help.py writes tests/help.txt and tests/help.ko.txt"
    )


def test_help_is_printed_by_the_command_line() -> None:
    for typed in ([], ["exercise"], ["exercise", "check"]):
        done = reslab_here(*typed, "--help")
        assert (done.returncode, done.stderr) == (0, "") and f"Usage: {' '.join(['reslab', *typed])}" in done.stdout


def test_models_as_json_lists_a_family() -> None:
    listed = json.loads(reslab_here("models", "--family", "plain", "--json").stdout)
    assert [item["name"] for item in listed] == [name for name in zoo.names() if zoo.family(name) == "plain"]
    assert listed[0].keys() == {"name", "family", "params", "macs", "input", "reference"}
    plain56 = next(item for item in listed if item["name"] == "plain56")
    assert (plain56["params"], plain56["input"], plain56["family"]) == (853_018, [3, 32, 32], "plain")


def test_models_of_one_family_and_the_open_ones() -> None:
    listed = json.loads(reslab_here("models", "--family", "wide_resnet", "--json").stdout)
    assert [item["name"] for item in listed] == ["wide_resnet50_2", "wide_resnet101_2"]
    text = reslab_here("models", "--family", "wrn").stdout
    assert "36,479,194" in text and "\n  cifar_resnext --depth --cardinality --base-width\n" in text
    assert_refused(reslab_here("models", "--family", "wide_resnets"), "'wide_resnets'; did you mean 'wide_resnet'")


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["train", "resnet57"], ["'resnet57'; did you mean 'resnet56'"]),
        (["train", "cifar_resnet", "--depth", "21"], ["depth 21", "6n+2"]),
        (["train", "cifar_resnet", "--depht", "20"], ["cifar_resnet", "'depht'; did you mean 'depth'"]),
        (["train", "cifar_resnet", "--depth", "many"], ["cifar_resnet"]),
        (["train", "resnet20", "--data", "digit"], ["'digit'; did you mean 'digits'"]),
        (["train", "resnet20", "--data", "folder:nowhere"], ["'nowhere'", "folder:PATH"]),
        (["train", "resnet20", "--data", "cifar10:nowhere"], ["cifar10", "nowhere", "--download"]),
        (["evaluate", "resnet20", "--weights", "nowhere.pt"], ["nowhere.pt"]),
        (["evaluate", "resnet20", "--weights", "x", "--view", "double"], ["--view", "double"]),
        (["study", "degradation", "--data", "digit"], ["'digit'; did you mean 'digits'"]),
        (["train", "resnet20", "--recipe", "fst"], ["'fst'; did you mean 'fast'"]),
        (["train", "resnet20", "--set", "lr=1"], ["--set lr=1", "KEY=VALUE"]),
        (["train", "resnet20", "--set", "learning_rate=-1"], ["learning_rate", 0, -1]),
        (["train", "resnet20", "--set", "momentum=0.5", "--set", "momentum=0.9"], ["--set momentum", "twice"]),
        (["train", "resnet20", "--epochs", "2", "--set", "epochs=3,7"], ["--epochs and epochs"]),
        (["train", "resnet20", "--epochs", "2", "--set", "iterations=30"], ["--epochs and iterations"]),
        (["train", "resnet20", "--zero-pad", "centred"], ["--zero-pad", "--from"]),
        (["models", "resnet20", "--family", "resnet"], ["--family"]),
        (["weights", "--head", "none"], ["FILE"]),
        (["analyze", "tour", "--weights", "digits"], ["tour takes no network"]),
        (
            ["register", "degradation", "--seeds", "500:510", "--first-seed", "5"],
            ["--seeds FIRST:PAST", "--first-seed"],
        ),
        (["train", "resnet20", "--seed", "-1"], ["--seed", 0]),
        (["train"], ["MODEL"]),
        (["study", "degradation", "--seeds", "0"], ["seeds", 1, 0]),
        (["study", "degradation", "--depths", "20,57"], ["depth 57", "6n+2"]),
        (["study", "degradation", "--sede", "1"], ["'sede'; did you mean 'seeds'"]),
        (["study", "degradation", "--workers", "0"], ["--workers", 1, 0]),
        (["study", "nothing"], ["'nothing'"]),
        (["report", "--figures", "figures"], ["--figures needs study directories"]),
        (["claims", "--section", "gradeint"], ["'gradeint'; did you mean 'gradient'"]),
        (["report", "nowhere"], ["nowhere", "study.json"]),
        (["modles"], ["models"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], values: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = reslab_here(*arguments)
    assert_refused(done, *values)
    assert not list(tmp_path.iterdir())  # a mistake leaves nothing behind


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["modles"], ["'modles'", "'models'"]),
        (["exercise", "strat"], ["'exercise strat'", "'start'"]),
        (["claims", "--sectio", "gradient"], ["claims", "--sectio", "'--section'"]),
        (["doctor", "now"], ["'now'", "reslab doctor --help"]),
        (["exercise", "start"], ["SHEET", "reslab exercise start --help"]),
        (["train", "resnet20", "--depth"], ["--depth", "reslab train --help"]),
        (["train", "resnet20", "--seed", "1", "--seed", "2"], ["--seed"]),
        (["train", "resnet20", "--seed", "one"], ["--seed", "'one'"]),
        (["train", "resnet20", "--device", "gpu"], ["--device", "'gpu'", "auto, cpu, cuda, mps"]),
        (["train", "resnet20", "--threads", "1025"], ["--threads", 1, 1024, 1025]),
        (["speedrun", "--epochs", "-0.5"], ["--epochs", 0, -0.5]),
        (["study", "\ud800"], ["'\\ud800'"]),
        (["train", "resnet57"], ["'resnet57'", "'resnet56'"]),
        (["train", "resnet20", "--data", "folder:nowhere"], ["'nowhere'", "folder:PATH"]),
        (["train", "resnet20", "--recipe", "fst"], ["'fst'", "'fast'"]),
        (["train", "resnet20", "--set", "lr=1"], ["--set lr=1", "KEY=VALUE"]),
        (["train", "resnet20", "--set", "learning_rate=-1"], ["learning_rate", 0, -1]),
        (["study", "degradation", "--seeds", "0"], ["seeds", 1, 0]),
        (["study", "degradation", "--workers", "0"], ["--workers", 1, 0]),
        (["evaluate", "resnet20", "--weights", "damaged.pt"], ["damaged.pt"]),
        (["analyze", "pahts", "resnet20"], ["'pahts'", "'paths'"]),
        (["claims", "--section", "gradeint"], ["'gradeint'", "'gradient'"]),
    ],
)
def test_a_mistake_is_told_in_both_languages(
    arguments: list[str], values: list[object], language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("damaged.pt").write_bytes(b"damaged")
    monkeypatch.setenv("LC_ALL", {"en": "C.UTF-8", "ko": "ko_KR.UTF-8"}[language])
    done = reslab_here(*arguments)
    assert_refused(done, *values)
    assert hangul(done.stderr) == (language == "ko")


def test_what_cyclopts_refuses_is_told_in_both_languages_whatever_it_is() -> None:
    told = misuse(CycloptsError(msg="odd", command_chain=("train",)))
    assert str(told) == "odd" and "reslab train --help" in str(told.korean)


@pytest.mark.slow  # 15 s
def test_a_user_without_a_home_is_told_to_name_paths_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(*_: object) -> str:
        raise KeyError

    for name in ("HOME", "USERPROFILE", "HOMEDRIVE", "HOMEPATH", "XDG_CACHE_HOME", "LOCALAPPDATA", "RESLAB_DATA"):
        monkeypatch.delenv(name, raising=False)
    if os.name == "posix":
        monkeypatch.setattr("pwd.getpwuid", no_home)
    kept = "LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME"
    for data, name in (
        ("folder:~nosuchuser/x", "'~nosuchuser/x'"),
        ("cifar10:~nosuchuser/x", "'~nosuchuser/x'"),
        ("cifar10", kept),
    ):
        done = reslab_here("train", "resnet20", "--data", data)
        assert_refused(done, name)


@pytest.mark.skipif(os.name != "posix", reason="a directory in use cannot be removed elsewhere")
def test_a_current_directory_that_was_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = reslab_here("train", "resnet20")
    assert_refused(done, "current directory")


def test_names_that_a_locale_of_ascii_does_not_have_are_told_with_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    asked = reslab_here("train", "resnet20", "--out", "실험")
    assert_refused(asked, "'실험'", "PYTHONUTF8=1")

    def found(*_: object, **__: object) -> None:  # a name that is met on the way
        "실험".encode("ascii")

    monkeypatch.setattr("reslab.api.planning.load_data", found)
    met = reslab_here("train", "resnet20")
    assert_refused(met, "PYTHONUTF8=1", "ascii")


@pytest.mark.slow  # 20 s
def test_bench_prints_ratios_and_the_machine() -> None:
    figures = json.loads(reslab_here("bench", "lowlevel", "--quick", "--json").stdout)
    assert figures["training step"]["ratio"][0] > 0 and figures["machine"]["torch"]


def test_bench_says_what_it_does_not_know() -> None:
    assert_refused(reslab_here("bench", "lowlvel"), "'lowlvel'; did you mean 'lowlevel'")
    assert_refused(reslab_here("bench", "train", "--rouds", "3"), "bench train", "'rouds'; did you mean 'rounds'")
    assert_refused(reslab_here("bench", "train", "--rounds", "x"), "--rounds x", 5)
    assert_refused(reslab_here("bench", "train", "--device", "gpu"), "--device gpu", "cpu")
    for name in ("train", "lesion") if not torch.cuda.is_available() else ():
        assert_refused(reslab_here("bench", name, "--device", "cuda"), "cuda", "cpu")
    assert_refused(reslab_here("bench", "train", "--data", "digits"), "bench train", "32×32", "digits")
    assert_refused(reslab_here("bench", "lowlevel", "--rounds", "0"), "--rounds 0", 10)
    assert_refused(reslab_here("bench", "train", "--images", "64"), 64, "--batch 128")
    assert_refused(reslab_here("bench", "executors", "--workers", "1"), "--workers", 2)
    assert_refused(reslab_here("bench", "executors", "--quick", "--depth", "9"), "depth 9", "6n+2")


@pytest.mark.slow  # 15 s
def test_bench_train_and_executors_run() -> None:
    figures = json.loads(reslab_here("bench", "train", "--quick", "--epochs", "1", "--json").stdout)
    for what in ("training step", "whole epoch"):
        assert figures[what]["times faster"][0] == pytest.approx(
            figures[what]["ordinary s"] / figures[what]["reslab s"]
        )
    assert figures["precision"].split(":")[0] in ("32", "bf16") and 0 <= figures["held-out error"]["reslab"] <= 1
    trials = json.loads(reslab_here("bench", "executors", "--quick", "--json").stdout)
    assert trials["weights"] == "equal bit for bit" and trials["executors"]["times faster"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::EncodingWarning")  # plotly opens its own files so
def test_all_studies_are_run_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reslab.studies.names", lambda: ["history", "architecture"])
    done = reslab_here("study", "all", "--preset", "smoke", "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert [record["study"] for record in json.loads(done.stdout)] == ["history", "architecture"]
    ledger = json.loads(reslab_here("claims", tmp_path / "history", "--json").stdout)["claims"]
    assert ledger[0]["command"].startswith("reslab study history") and ledger[0]["study"] == "history"
    shipped = json.loads(reslab_here("claims", "--json").stdout)["claims"]
    assert len({tuple(claim) for claim in [*shipped, *ledger]}) == 1  # the same keys
    assert {claim["verdict"] for claim in ledger} == {"supported"}
    assert (tmp_path / "architecture" / "report.html").exists()


@pytest.mark.slow
def test_level_2_trains_by_name(tmp_path: Path) -> None:
    done = reslab_here(
        *("train", "lowlevel/resnet18", "--epochs", "1", "--set", "batch_size=32", "--precision", "32"),
        *("--device", "cpu", "--out", tmp_path, "--json"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["train_error"] < 0.5


def test_debug_lets_an_error_through_for_its_traceback() -> None:
    with refused(UnknownNameError, "'resnet57'"):
        main(["train", "resnet57", "--debug"])


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("", encoding="utf-8")
    for arguments in (["study", "degradation"], ["train", "resnet20"]):
        done = reslab_here(*arguments, "--out", blocked / "x")
        assert_refused(done, blocked / "x", "--out")
    assert_refused(reslab_here("exercise", "start", "01", "--dir", blocked / "x"), blocked / "x", "--dir")
    done = reslab_here("analyze", "tour", "--csv", blocked / "x" / "t.csv")
    assert_refused(done, blocked / "x", "--csv")


def test_train_prints_its_result_and_again_without_training(tmp_path: Path) -> None:
    arguments = [*TRAIN, "--out", tmp_path / "훈련"]
    first = reslab_here(*arguments, "--json")
    assert first.returncode == 0, first.stderr
    record = json.loads(first.stdout)
    assert record["config"]["options"] == {"depth": 8} and record["result"]["status"] == "finished"
    weights = Path(record["directory"]) / "weights.safetensors"
    stamp = weights.stat().st_mtime_ns
    second = reslab_here(*arguments)
    assert (
        "finished after 5 iterations" in second.stdout
        and weights.stat().st_mtime_ns == stamp
        and "warning" not in second.stderr
    )
    result = weights.with_name("result.json")
    result.write_text(result.read_text(encoding="utf-8").replace(record["result"]["code"], "0" * 16), encoding="utf-8")
    sum_up(weights.parent)
    assert "this result was made with different code" in reslab_here(*arguments).stderr


def test_a_trial_that_fails_shows_where_with_debug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("odd weights")

    monkeypatch.setattr("reslab.executors.trial.launch", broken)
    arguments = ["train", "cifar_plain", "--depth", "8", "--out", str(tmp_path)]
    assert reslab_here(*arguments).stderr.splitlines()[-1] == "reslab: ValueError: odd weights"
    with refused(FailedError, "ValueError: odd weights") as told:
        main([*arguments, "--debug"])
    assert 'raise ValueError("odd weights")' in str(told.value.__cause__)


@pytest.mark.skipif(os.name == "nt", reason="a closed pipe is another error there")
@pytest.mark.parametrize("more", [(), ("resnet20", "--json")])  # whose output is short, and waits for the end
def test_a_reader_that_has_closed_its_pipe_is_no_failure(more: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "reslab", "models", *more]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_values_are_json_before_they_are_parts() -> None:
    assert value("20,56") == (20, 56) and value("0.5") == 0.5 and value("a,1") == ("a", 1)
    assert value('{"kind":"steps","milestones":[0.5,0.75]}') == {"kind": "steps", "milestones": [0.5, 0.75]}
    assert words({"data": "folder:a,b", "depths": "8,14"}) == {"data": "folder:a,b", "depths": (8, 14)}


def test_ctrl_c_says_what_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reslab.executors.run_trials", interrupted)
    for system, korean in (("C.UTF-8", False), ("ko_KR.UTF-8", True)):
        monkeypatch.setenv("LC_ALL", system)
        done = reslab_here("train", "resnet20", "--out", tmp_path)
        (line,) = done.stderr.split("\n")[-2:-1]
        assert done.returncode == 130 and line == worded("stopped").said_in("ko" if korean else "en")


def test_a_missing_package_is_told_in_both_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise ModuleNotFoundError(name="plotly")

    monkeypatch.setattr("reslab.networks.catalogue.known", lacking)
    for system, korean in (("C.UTF-8", False), ("ko_KR.UTF-8", True)):
        monkeypatch.setenv("LC_ALL", system)
        done = reslab_here("models")
        assert_refused(done, "plotly", "pip install 'reslab[lab]'")
        assert hangul(done.stderr) == korean


@pytest.mark.parametrize(("encoding", "written"), [("utf-8", "가"), ("cp1252", "\\uac00")])
def test_json_says_everything_in_whatever_encoding(
    monkeypatch: pytest.MonkeyPatch, encoding: str, written: str
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors="replace"))
    printing.print_json({"a": "가"})
    sys.stdout.flush()
    assert written in raw.getvalue().decode(encoding)


def test_a_page_replaces_nothing_but_a_page(tmp_path: Path) -> None:
    out = tmp_path / "thesis.html"
    check_page(out, "report.html")
    out.write_text("<!doctype html><title>mine</title>", encoding="utf-8")
    for command in ("report", "play"):
        assert_refused(reslab_here(command, "--out", out), out)
    for template in ("templates/page.html.j2", "play/play.html.j2"):
        out.write_bytes((Path(report.__file__).parent / template).read_bytes())
        check_page(out, "report.html")
    with refused(UserError, tmp_path / "report.html"):
        check_page(tmp_path, "report.html")
