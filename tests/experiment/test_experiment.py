"""The degradation study, end to end through the command line, in a directory with Hangul and spaces."""

import json
import math
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers import assert_refused, pretended, refused, reslab_here, slow_unless, sum_up, tiny_trial
from helpers_forks import start
from helpers_images import image_folder, write_image

from reslab import studies
from reslab.cli import main
from reslab.errors import DamagedError, FailedError, UnknownNameError, UserError, WrongValueError
from reslab.executors import Failure, local, run_trials
from reslab.experiment import kept
from reslab.experiment.config import StudyConfig, longer
from reslab.experiment.directory import Directory
from reslab.experiment.study import network_depth, run_study
from reslab.experiment.text import StudyText, claims, exact, spread
from reslab.files import read_json
from reslab.ledger.record import Reason
from reslab.runs import Run

pytestmark = pytest.mark.filterwarnings("ignore::EncodingWarning")  # plotly opens its own files so

STUDY = ("study", "degradation", "--preset", "smoke", "--data", "digits")
FIELDS = {"id", "kind", "statement", "verdict", "effect", "interval", "margin", "n", "source"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smoke study that was killed while it ran, and finished by the same command."""
    place = tmp_path_factory.mktemp("실험 기록")
    out = place / "성능 저하"
    process = start(place, main, [*STUDY, "--workers", "1", "--out", str(out)])
    deadline = time.monotonic() + 120
    while len(list(out.glob("trials/*/result.json"))) < 2 and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.is_alive(), "the study ended before it could be killed"
    process.kill()
    process.join()
    done = reslab_here(*STUDY, "--workers", "1", "--out", out)  # several are in test_executors.py
    assert done.returncode == 0, done.stderr
    assert "degradation.residual-does-not-degrade" in done.stdout and str(out.name) in done.stdout.replace("\n", "")
    return out


def test_study_json_has_the_claims_and_the_trials(finished: Path) -> None:
    record = read_json(finished / "study.json")
    assert len(record["claims"]) == 5 and len(record["trials"]) == 12
    for claim in record["claims"]:
        assert claim.keys() >= FIELDS and claim["statement"].keys() == {"ko", "en"}
        assert claim["kind"] == "exact" or (claim["n"] == 3 and len(claim["interval"]) == 2)
    assert [claim["verdict"] for claim in record["claims"] if claim["kind"] == "exact"] == ["supported"]
    assert all((finished / trial["directory"] / "weights.safetensors").exists() for trial in record["trials"])


def test_other_seeds_are_other_trials() -> None:
    study = studies.find("degradation")
    first, second = (study.configure("smoke", {"seeds": 2, "first_seed": start}) for start in (0, 2))
    assert [[trial.seed for trial in trials] for trials in study.grid(second).values()] == [[2, 3]] * len(
        study.grid(first)
    )


@pytest.mark.parametrize(("error", "verdict"), [(0.0, "untested"), (0.1, "supported")])
def test_a_control_that_leaves_no_room_tests_nothing(error: float, verdict: str, tmp_path: Path) -> None:
    study = studies.find("preactivation")
    trials = pretended("preactivation", tmp_path, lambda group: error if group.startswith("v1") else 0.0)
    found = {v.id: v for v in study.verdicts(study.measure(study.configure("smoke", {}), trials))}
    decided = found["preactivation.v2-trains-better-at-depth"]
    assert (
        decided.verdict == verdict and decided.reason is not None and (decided.reason.code == "no-room") == (error == 0)
    )


def test_one_depth_is_a_list_of_one() -> None:
    assert studies.find("shortcuts").configure("default", {"depths": 20}).depths == (20,)  # type: ignore[attr-defined]  # its config
    with refused(WrongValueError, "depths", 2):
        studies.find("degradation").configure("default", {"depths": 20})


SIDES = [
    ("shortcuts", "identity-beats-none", "train", "A-8", "none-8"),
    ("shortcuts", "zero-padding-is-not-worse-than-projection", "test", "A-8", "B-8"),
    ("shortcuts", "projecting-everywhere-is-not-better", "test", "B-8", "C-8"),
    ("bottleneck", "not-worse-at-equal-computation", "test", "bottleneck-11", "basic-8"),
    ("bottleneck", "trains-better-at-equal-computation", "train", "bottleneck-11", "basic-8"),
    ("preactivation", "v2-is-not-worse-at-depth", "test", "v2-14", "v1-14"),
    ("preactivation", "v2-is-better-at-depth", "test", "v2-14", "v1-14"),
    ("preactivation", "v2-has-no-advantage-when-shallow", "test", "v1-8", "v2-8"),
    ("preactivation", "v2-trains-better-at-depth", "train", "v2-14", "v1-14"),
]


@pytest.mark.parametrize(("name", "claim", "part", "treatment", "control"), SIDES)
def test_sides_are_those_that_the_claims_name(
    name: str, claim: str, part: str, treatment: str, control: str, tmp_path: Path
) -> None:
    study = studies.find(name)
    mine: dict[str, float] = {treatment: 0.15, control: 0.03}
    errors = {"train": lambda _: 0.05, "test": lambda _: 0.05} | {part: lambda group: mine.get(group, 0.07)}
    trials = pretended(name, tmp_path, errors["train"], errors["test"])
    verdicts = study.verdicts(study.measure(study.configure("smoke", {}), trials))
    assert next(v.effect for v in verdicts if v.id == f"{name}.{claim}") == pytest.approx(0.12)


@pytest.mark.parametrize(
    "name",
    slow_unless(
        ["ensemble_paths", "lesion", "skip_gradient"],
        ["ensemble_paths", "identity_mappings", "lesion", "residual_learning", "skip_gradient", "successors"],
    ),
)
def test_networks_that_diverged_are_not_looked_into_and_nothing_is_concluded(name: str, tmp_path: Path) -> None:
    """There are no weights to load: a look would fail."""
    study = studies.find(name)
    measurement = study.measure(
        study.configure("smoke", {}), pretended(name, tmp_path, lambda _: 0.9, status="diverged")
    )
    verdicts = {verdict.verdict for verdict in study.verdicts(measurement) if verdict.kind == "statistical"}
    assert verdicts <= {"inconclusive", "untested"}
    json.dumps([figure.model_dump() for figure in (*measurement.tables, *measurement.charts)], allow_nan=False)


def test_networks_that_were_not_trained_are_named_on_either_side(tmp_path: Path) -> None:
    trials = pretended("preactivation", tmp_path, lambda group: 0.9 if group == "v2-14" else 0.0)
    test = trials.errors("test")
    named = Reason(code="untrained", values={"errors": {"v2-14": 0.9}, "limit": 0.2})
    assert test["v1", 8].against(test["v1", 14]).untested is None
    assert test["v1", 14].against(test["v2", 14]).untested == test["v2", 14].against(test["v1", 14]).untested == named
    assert (test["v2", 14] - test["v1", 14]).against(0.0).untested == named
    assert test["v2", 14].against(test["v1", 14], guard=False).untested is None


def test_a_study_has_words_for_each_claim_and_evidence_for_each_that_is_measured(tmp_path: Path) -> None:
    study = studies.find("shortcuts")
    text = StudyText("reslab.studies.shortcuts")
    with pytest.raises(ValueError, match="identity-beats-none, projecting"):
        claims(text, "a paper", None, {"zero-padding-is-not-worse-than-projection": exact(), "another": exact()})
    measured = study.measure(study.configure("smoke", {}), pretended("shortcuts", tmp_path, lambda _: 0.0))
    one_short = dict(list(measured.evidence.items())[1:])
    with pytest.raises(ValueError, match="identity-beats-none"):
        study.verdicts(replace(measured, evidence=one_short))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_leaves_a_gap_in_a_record(value: float) -> None:
    text = StudyText("reslab.studies.gradient_flow")
    line = text.averaged("before", [1.0, 2.0], [[1.0, 3.0], [1.0, value]])
    assert line.y == [2.0, None] and line.spread == [pytest.approx(2**0.5), None]
    assert text.table("at-start", [["plain", 20, 1, *[value] * 5]]).rows == [["plain", 20, 1, *[None] * 5]]
    assert spread([1.0]) is None and spread([1.0, 3.0]) == pytest.approx(2**0.5)


@pytest.mark.parametrize(("options", "depth"), [({}, 20), ({"depth": 56}, 56), ({"depth": "small"}, 20)])
def test_the_depth_of_a_network_is_a_number_in_its_options_or_name(options: dict[str, Any], depth: int) -> None:
    (trial, *_) = StudyConfig(data="digits", epochs=1).trials("cifar_resnet", depth=8)
    assert network_depth(trial.model_copy(update={"model": "nets.py:net20", "options": options})) == depth


class Seen(NamedTuple):
    """What is found in a trial."""

    numbers: list[float]
    calls: int


def test_what_was_measured_is_kept_until_the_code_or_what_was_asked_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def seen(trial: str, images: int) -> Seen:
        nonlocal calls
        calls += 1
        return Seen([0.1 + 0.2, math.inf, math.nan], calls)

    seen.__module__ = "reslab.studies.degradation"  # the code of others is not known to the digest
    first = kept.kept(tmp_path, seen, 8, given=("a trial",))
    again = kept.kept(tmp_path, seen, 8, given=("a trial",))
    assert (
        again.calls == first.calls == 1 and again.numbers[:2] == [0.1 + 0.2, math.inf] and math.isnan(again.numbers[2])
    )
    assert kept.kept(tmp_path, seen, 9, given=("a trial",)).calls == 2
    monkeypatch.setattr(kept, "measure_digest", lambda study: "other code")
    assert kept.kept(tmp_path, seen, 8, given=("a trial",)).calls == 3
    for file in tmp_path.iterdir():
        file.write_text('{"damaged', encoding="utf-8")
    assert kept.kept(tmp_path, seen, 8, given=("a trial",)).calls == 4
    seen.__module__ = "mine"
    assert [kept.kept(tmp_path, seen, 8, given=("a trial",)).calls for _ in range(2)] == [5, 6]


def test_what_was_measured_of_a_data_set_is_measured_again_when_its_images_change(tmp_path: Path) -> None:
    calls = 0

    def seen(data: str) -> Seen:
        nonlocal calls
        calls += 1
        return Seen([], calls)

    seen.__module__ = "reslab.studies.degradation"
    place = image_folder(tmp_path / "images")
    counts = [kept.kept(tmp_path / "kept", seen, f"folder:{place}").calls for _ in range(2)]
    write_image(place / "train" / "가" / "00.png", (8, 8), "RGB", seed=99)
    counts += [kept.kept(tmp_path / "kept", seen, f"folder:{place}").calls for _ in range(2)]
    assert counts == [1, 1, 2, 2]


@pytest.mark.slow  # 3 s; test_training.py resumes single runs
def test_killed_and_resumed_it_has_the_weights_of_one_never_interrupted(finished: Path, tmp_path: Path) -> None:
    """The first four, of which two were finished when it was killed, and one was being trained."""
    study = studies.find("degradation")
    grid = study.grid(study.configure("smoke", {"data": "digits"}))
    trials = [trial for group in grid.values() for trial in group][:4]
    assert run_trials(trials, tmp_path, local(1), lambda *_: None) == []
    for trial in trials:
        assert Run(tmp_path, trial).weights.read_bytes() == Run(finished / "trials", trial).weights.read_bytes()


def test_runs_kept_without_their_weights_decide_the_study_again_and_say_what_needs_them(
    finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    before = (out / "study.json").read_bytes()
    for weights in out.glob("trials/*/*.safetensors"):
        weights.unlink()
    assert reslab_here(*STUDY, "--out", out).returncode == 0
    assert (out / "study.json").read_bytes() == before
    study = studies.find("degradation")
    grid = study.grid(study.configure("smoke", {"data": "digits"}))
    trials = [trial for group in grid.values() for trial in group]
    runs = [Run(out / "trials", trial) for trial in trials]
    assert all(run.wrong()["test"].any() and run.confusion()["test"] for run in runs)
    with pytest.raises(DamagedError, match=r"weights\.safetensors is missing"):
        runs[0].result()
    for measured in out.glob("trials/*/measured-*.json"):
        measured.unlink()
    assert_refused(reslab_here(*STUDY, "--out", out), "weights.safetensors is not there", "move its directory away")


def test_run_again_it_trains_nothing_and_with_one_trial_gone_just_that_one(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    before = (out / "study.json").read_bytes()
    times = {
        path: path.stat().st_mtime_ns for path in out.glob("trials/*/*") if path.is_file() and path.name != ".lock"
    }
    assert reslab_here(*STUDY, "--out", out).returncode == 0
    assert (out / "study.json").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in times} == times

    gone = next(out.glob("trials/*/"))
    weights = (gone / "weights.safetensors").read_bytes()
    shutil.rmtree(gone)
    assert reslab_here(*STUDY, "--out", out).returncode == 0
    assert (gone / "weights.safetensors").read_bytes() == weights
    assert {path for path, stamp in times.items() if path.stat().st_mtime_ns != stamp} == {
        path for path in times if path.parent == gone
    }


def test_fresh_starts_over_beside_the_old_one(finished: Path) -> None:
    from reslab.commands.typed import unused

    assert unused(finished).name == "성능 저하-2"
    assert unused(finished.with_name("new")).name == "new"


def test_the_report_needs_no_network_and_escapes_what_it_shows(finished: Path, tmp_path: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    outside_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", outside_scripts)
    assert "default-src 'none'" in page
    command = (
        "reslab study degradation --data digits --seeds 3 --first-seed 0 --recipe fast --epochs 1 --threads 1 --device "
        "cpu --precision 32"
    )
    assert f"{command} --depths 8,14 --surface 2" in outside_scripts
    for text in ("성능 저하 문제", "The degradation problem", "plain-14", "lightning-fabric"):
        assert text in outside_scripts
    out = tmp_path / "evil"
    shutil.copytree(finished, out)
    record = read_json(out / "study.json")
    record["title"]["en"] = "<script>alert(1)</script>"
    (out / "study.json").write_text(json.dumps(record), encoding="utf-8")
    assert reslab_here("report", out, "--out", tmp_path / "evil.html").returncode == 0
    assert "<script>alert(1)" not in (tmp_path / "evil.html").read_text(encoding="utf-8")


def test_claims_lists_verdicts_of_a_directory(finished: Path) -> None:
    records = json.loads(reslab_here("claims", finished, "--json").stdout)["claims"]
    assert {record["verdict"] for record in records} <= {"supported", "refuted", "inconclusive"}
    undecided = json.loads(reslab_here("claims", "--json").stdout)["claims"]
    assert {record["id"] for record in records} < {record["id"] for record in undecided}


def test_a_studys_own_record_is_enough_to_decide_its_claims_again(finished: Path) -> None:
    again = reslab_here("claims", finished, "--decide-again", "--json")
    assert again.returncode == 0 and again.stdout == reslab_here("claims", finished, "--json").stdout


def test_results_of_other_code_are_reused_with_a_warning(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "old"
    shutil.copytree(finished, out)
    result = next(out.glob("trials/*/result.json"))
    result.write_text(result.read_text(encoding="utf-8").replace(read_json(result)["code"], "0" * 16), encoding="utf-8")
    sum_up(result.parent)
    again = reslab_here(*STUDY, "--out", out)
    assert again.returncode == 0 and re.search(r"1 of \d+ results were made with different code", again.stderr)


@pytest.mark.parametrize("name", studies.names())
def test_every_study_is_well_formed(name: str) -> None:
    study = studies.find(name)
    assert study.name == name and {"default", "smoke"} <= study.presets.keys()
    assert study.config.model_config["frozen"] and study.config.model_config["extra"] == "forbid"
    for preset in study.presets:
        config = study.configure(preset, {})
        groups = study.grid(config)
        assert all(len({trial.seed for trial in trials}) == len(trials) == config.seeds for trials in groups.values())
    for claim in study.claims:
        assert claim.id.startswith(f"{name}.") and claim.source and all(claim.statement.values())
        assert re.search("[가-힣]", claim.statement["ko"])
        assert all(text.endswith(".") for text in claim.statement.values())
        # what the chapter says, in short
        assert not any(text.endswith(".") for text in (claim.corrects or {}).values())


@pytest.mark.parametrize("name", studies.names())
def test_every_setting_has_its_words_and_no_words_are_left_over(name: str) -> None:
    study = studies.find(name)
    assert study.text.settings.keys() == study.config.model_fields.keys()
    assert all(re.search("[가-힣]", words["ko"]) and words["en"] for words in study.text.settings.values())


def test_the_help_on_a_study_says_its_settings_with_their_defaults() -> None:
    said = reslab_here("study", "patience", "--help").stdout
    study = studies.find("patience")
    assert {"--depths 20,56", "--lengths 3,10", "--first-seed 0"} <= {line.strip() for line in said.splitlines()}
    assert all(" ".join(words["en"].split()) in " ".join(said.split()) for words in study.text.settings.values())
    assert "--lengths" not in reslab_here("study", "--help").stdout
    assert reslab_here("study", "no-such-study", "--help").returncode == 0


def test_claim_ids_are_unique() -> None:
    ids = [claim.id for name in studies.names() for claim in studies.find(name).claims]
    assert len(ids) == len(set(ids))


def test_every_margin_has_its_reason_and_every_alias_asks_what_its_claim_asks() -> None:
    every = {claim.id: claim for name in studies.names() for claim in studies.find(name).claims}
    compared = [claim for claim in every.values() if claim.kind == "statistical"]
    assert not [claim.id for claim in compared if not claim.margin_why or not all(claim.margin_why.values())]
    aliases = [claim for claim in compared if claim.same_as]
    assert aliases
    for alias in aliases:
        claim = every[str(alias.same_as)]
        assert (alias.kind, alias.direction, alias.margin) == (claim.kind, claim.direction, claim.margin), alias.id


def test_longer_stretches_the_one_length_that_a_recipe_has() -> None:
    by_epochs = tiny_trial(epochs=2)
    stretched = longer(by_epochs, 3).recipe
    assert (stretched.epochs, stretched.iterations) == (6, None)
    by_iterations = tiny_trial().model_copy(
        update={"recipe": by_epochs.recipe.model_copy(update={"epochs": None, "iterations": 50})}
    )
    stretched = longer(by_iterations, 3).recipe
    assert (stretched.epochs, stretched.iterations) == (None, 150)
    assert longer(by_epochs, 1) == by_epochs and by_epochs.recipe.epochs == 2


def test_settings_are_checked() -> None:
    study = studies.find("degradation")
    wrong: list[tuple[dict[str, object], type[UserError], tuple[object, ...]]] = [
        ({"depths": (20, 57)}, WrongValueError, ("depths", 57)),
        ({"depths": (56, 20)}, WrongValueError, ("depths", 56, 20)),
        ({"seeds": 0}, WrongValueError, ("seeds", 1, 0)),
        ({"sed": 3}, UnknownNameError, ("sed", "seeds")),
        ({"data": "digit"}, WrongValueError, ("digit", "digits")),
        ({"recipe": "fats"}, WrongValueError, ("fats", "fast")),
    ]
    for settings, kind, values in wrong:
        with refused(kind, *values):
            study.configure("default", settings)
    with refused(UnknownNameError, "smok", "smoke"):
        study.configure("smok", {})
    with refused(UnknownNameError, "degradatoin", "degradation"):
        studies.find("degradatoin")


def test_another_studys_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"study": "other"}', encoding="utf-8")
    with refused(UserError, tmp_path, "other"):
        Directory(tmp_path).prepare(studies.find("degradation"))


def test_a_failed_trial_is_in_the_record_and_a_lost_group_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = studies.find("shortcuts")  # which measures results alone, and so can do with pretended trials
    config = study.configure("smoke", {})
    directory = Directory(tmp_path)
    lost = study.grid(config)["none", 8][0]

    def pretend(configs: list[object], root: Path, executor: object, watch: object) -> list[Failure]:
        for trial in configs:
            if trial != lost:
                run = Run(root, trial)  # type: ignore[arg-type]  # a TrialConfig
                run.create()
                run.finish(
                    {
                        "status": "finished",
                        "steps": 1,
                        "seconds": 1.0,
                        "train_error": 0.25,
                        "heldout_error": 0.25,
                        "test_error": 0.25,
                    }
                )
        return [Failure(lost, "MemoryError: no")]

    monkeypatch.setattr("reslab.experiment.study.run_trials", pretend)
    record = run_study(study, config, directory, local(1)).record
    assert record.failures[0].reason == "MemoryError: no" and record.failures[0].config.seed == lost.seed
    assert [claim.n for claim in record.claims] == [2, 3, 3]
    shutil.rmtree(directory.trials)
    monkeypatch.setattr("reslab.experiment.study.run_trials", lambda *_: [Failure(lost, "MemoryError: no")])
    with refused(FailedError, "MemoryError: no"):
        run_study(study, config, directory, local(1))
