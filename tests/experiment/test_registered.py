"""Registrations, studies that are run by them, and what departs from them and is exploratory."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import assert_refused, reslab_here
from helpers_images import image_folder
from pydantic import ValidationError

from reslab import studies
from reslab.commands.register import read_registration
from reslab.experiment.study import code_of
from reslab.files import read_json, write_json
from reslab.ledger.record import Outcome, Reason, Record
from reslab.ledger.registration import Begun, Ran, Registration, exploratory, ran, seen
from reslab.ledger.wording import phrases
from reslab.report.records import read_study

pytestmark = pytest.mark.filterwarnings("ignore::EncodingWarning")  # plotly opens its own files so

SMOKE = ("--preset", "smoke", "--epochs", "1", "--depths", "8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a registration of two looks, and the study that was run by it."""
    where = tmp_path_factory.mktemp("registered")
    file = where / "registrations" / "shortcuts-900.json"
    done = reslab_here("register", "shortcuts", "--seeds", "900:904", "--looks", "3,4", *SMOKE, "--out", file)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(file.read_bytes()).hexdigest() in done.stdout
    words = ("study", "shortcuts", "--registered", file, "--until", "decided", "--workers", "1", "--out", where / "run")
    done = reslab_here(*words)
    assert done.returncode == 0, done.stderr
    assert reslab_here(*words).returncode == 0  # again, which measures nothing
    return where


@pytest.fixture
def record(place: Path) -> Record:
    return read_study(place / "run")


@pytest.fixture
def file(place: Path) -> Path:
    return place / "registrations" / "shortcuts-900.json"


def standing(record: Record, known: tuple[Record, ...] = ()) -> set[str | None]:
    """Return the codes of why the record's statistical claims are exploratory."""
    reasons = [exploratory(record, claim, map(ran, known)) for claim in record.claims if claim.kind == "statistical"]
    assert all(reason is None or reason.code in phrases()["exploratory"] for reason in reasons)
    return {reason and reason.code for reason in reasons}


def test_a_registration_says_what_is_fixed(file: Path) -> None:
    found = read_json(file)
    claims = {claim.id: claim for claim in studies.find("shortcuts").claims if claim.kind == "statistical"}
    assert {claim["id"]: claim["margin"] for claim in found["claims"]} == {id: c.margin for id, c in claims.items()}
    for claim in found["claims"]:
        assert (claim["revision"], claim["margin_why"]) == (
            claims[claim["id"]].revision,
            claims[claim["id"]].margin_why,
        )
    assert (found["study"], found["seeds"], found["looks"]) == ("shortcuts", [900, 901, 902, 903], [3, 4])
    assert (found["error_rate"], found["code"]) == (0.05, code_of("reslab.studies.shortcuts"))
    assert (found["config"]["epochs"], found["config"]["first_seed"], found["config"]["seeds"]) == (1, 900, 4)


def test_a_record_carries_its_registration_and_is_no_longer_exploratory(record: Record, file: Path) -> None:
    assert record.registered == hashlib.sha256(file.read_bytes()).hexdigest()
    assert record.registration == read_json(file) and record.error_rate == 0.025
    assert record.code == record.registration["code"]
    assert standing(record) == {None}
    shares = [claim.share for claim in record.claims if claim.share is not None]
    assert all(share <= 0.025 for share in shares)
    undecided = any(claim.verdict == "inconclusive" for claim in record.claims)
    assert record.config["seeds"] == (4 if undecided else 3)  # it goes on only while a claim is undecided


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"registration": None}, "unregistered"),
        ({"registered": "0" * 64}, "registration-changed"),
        ({"code": {"trains": "0", "measures": "0", "decides": "0"}}, "other-code"),
        ({"code": {}}, "other-code"),
        ({"error_rate": 0.05}, "other-settings"),  # and not that of one of two looks
        ({"config": {"epochs": 2}}, "other-settings"),
        ({"config": {"first_seed": 901}}, "other-seeds"),
        ({"config": {"seeds": 5}}, "other-seeds"),
        ({"study": "degradation"}, "other-seeds"),
    ],
)
def test_what_departs_from_its_registration_is_exploratory(changes: dict[str, Any], code: str, record: Record) -> None:
    if "config" in changes:
        changes = {"config": {**record.config, **changes["config"]}}
    assert standing(record.model_copy(update=changes)) == {code}


def test_a_registration_that_was_changed_is_not_the_one_of_the_hash(record: Record) -> None:
    assert record.registration is not None
    changed = {**record.registration, "error_rate": 0.1}
    assert standing(record.model_copy(update={"registration": changed})) == {"registration-changed"}
    assert standing(record.model_copy(update={"registration": {}})) == {"registration-changed"}


@pytest.mark.parametrize("change", [{"margin": 0.5}, {"revision": 9}, {"unit": "apples"}, {"direction": "higher"}])
def test_another_claim_than_the_registered_is_exploratory(change: dict[str, Any], record: Record) -> None:
    (claim,) = [claim for claim in record.claims if claim.id == "shortcuts.zero-padding-is-not-worse-than-projection"]
    reason = exploratory(record, claim.model_copy(update=change))
    assert reason is not None and reason.code == "other-claim"


def test_a_seed_that_gave_no_value_keeps_a_claim_from_being_registered(record: Record) -> None:
    claim = next(claim for claim in record.claims if claim.treatment and claim.kind == "statistical")
    assert claim.treatment is not None and exploratory(record, claim) is None
    for side in ("treatment", "control"):
        values = getattr(claim, side)
        lost = claim.model_copy(update={side: dict(list(values.items())[1:])})
        reason = exploratory(record, lost)
        assert reason is not None and reason.code == "missing-seeds" and reason.values == {"seeds": [900]}


def test_seeds_of_an_earlier_record_are_seen(record: Record) -> None:
    before = record.model_copy(update={"registration": None, "registered": None, "code": {}})
    assert standing(record, (record, before)) == {"seen-seeds"}
    assert record.registration is not None and record.registered is not None
    undated = record.model_copy(update={"registration": None, "registered": None})  # it may have been before
    assert standing(record, (undated,)) == {"seen-seeds"}
    claims = [claim.model_copy(update={"revision": claim.revision + 1}) for claim in before.claims]
    assert standing(record, (before.model_copy(update={"claims": claims}),)) == {"seen-seeds"}  # whatever was claimed
    elsewhere = before.model_copy(update={"config": {**before.config, "data": "cifar10"}})
    others = before.model_copy(update={"claims": []})
    assert standing(record, (record, elsewhere, others)) == {None}
    for date, code in (("2001-01-01", "seen-seeds"), (record.registration["date"], "seen-seeds"), ("9999", None)):
        other = {"registered": "1" * 64, "registration": {**record.registration, "date": date}}
        assert standing(record, (record.model_copy(update=other),)) == {code}, date


# --- What is refused --------------------------------------------------------------------------------------------------


def test_a_registration_is_never_replaced(file: Path) -> None:
    before = file.read_bytes()
    assert_refused(reslab_here("register", "shortcuts", "--seeds", "950:953", *SMOKE, "--out", file), file.name)
    assert file.read_bytes() == before


@pytest.mark.parametrize(("seeds", "told"), [(3, "Student's t decides alone"), (5, "takes 7 where"), (7, "")])
def test_what_so_few_seeds_cannot_show_is_told(seeds: int, told: str, tmp_path: Path) -> None:
    """Three claims share the error rate: 2 · 0.5⁷ is under 0.05 / 3, and 2 · 0.5⁶ is not."""
    done = reslab_here("register", "shortcuts", "--seeds", f"910:{910 + seeds}", *SMOKE, "--out", tmp_path / "r.json")
    assert done.returncode == 0 and (told in done.stderr if told else not done.stderr), done.stderr


def test_seeds_that_a_record_has_are_refused(place: Path, tmp_path: Path) -> None:
    words = ("register", "shortcuts", *SMOKE, "--known", place, "--out", tmp_path / "r.json")
    assert_refused(reslab_here(*words, "--seeds", "902:905"), 902)
    assert not (tmp_path / "r.json").exists()
    assert reslab_here(*words, "--seeds", "904:907").returncode == 0
    assert_refused(reslab_here("register", "shortcuts", "--seeds", "1:9", "--known", tmp_path / "none"), "none")


@pytest.mark.skipif(os.name == "nt", reason="links need privileges there")
def test_seeds_of_records_behind_links_are_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "disk").symlink_to(place, target_is_directory=True)
    (tmp_path / "runs" / "circle").symlink_to(tmp_path, target_is_directory=True)
    assert_refused(reslab_here("register", "shortcuts", *SMOKE, "--seeds", "902:905"), 902)


def test_seeds_of_the_bundled_ledger_and_of_ones_own_runs_are_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a directory of one's own, where `reslab study` writes into runs/."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "run", tmp_path / "runs" / "shortcuts", ignore=shutil.ignore_patterns("trials"))
    for seeds, first in (("0:5", 0), ("104:107", 104), ("901:904", 901)):
        assert_refused(reslab_here("register", "shortcuts", "--seeds", seeds), first)
    assert reslab_here("register", "shortcuts", "--seeds", "904:907").returncode == 0


def test_seeds_of_a_study_that_has_begun_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "shortcuts").mkdir(parents=True)
    begun = Begun(claims=["shortcuts.identity-beats-none"], data="digits", seeds=[960, 961, 962])
    write_json(tmp_path / "runs" / "shortcuts" / "begun.json", begun.model_dump(mode="json"))
    assert_refused(reslab_here("register", "shortcuts", "--seeds", "960:963"), 960)
    assert reslab_here("register", "shortcuts", "--seeds", "963:966").returncode == 0
    (tmp_path / "runs" / "shortcuts" / "begun.json").write_text("{", encoding="utf-8")
    assert_refused(reslab_here("register", "shortcuts", "--seeds", "966:969"), "begun.json")


def test_seeds_of_a_study_without_trials_are_seen_when_another_record_took_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = ("study", "learning_identity", "--rates", "0.3", "--most", "2", "--seeds", "3", "--workers", "1")
    for first in ("970", "980"):
        assert reslab_here(*short, "--first-seed", first, "--replace").returncode == 0
    for seeds in ("970:973", "980:983"):
        assert_refused(reslab_here("register", "learning_identity", "--seeds", seeds), seeds[:3])
    assert reslab_here("register", "learning_identity", "--seeds", "990:993").returncode == 0


def test_a_record_that_shows_that_seeds_were_seen_is_not_overwritten(place: Path, file: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run", ignore=shutil.ignore_patterns("trials"))
    record = read_json(tmp_path / "run" / "study.json")
    write_json(tmp_path / "run" / "study.json", {**record, "registered": None, "registration": None})
    for more in ((), ("--replace",)):
        done = reslab_here("study", "shortcuts", "--registered", file, *more, "--out", tmp_path / "run")
        assert_refused(done, tmp_path / "run", "--out")


def test_a_registered_record_is_not_replaced_by_one_that_is_not(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    before = (tmp_path / "run" / "study.json").read_bytes()
    seeds = str(read_json(tmp_path / "run" / "study.json")["config"]["seeds"])
    words = ("study", "shortcuts", *SMOKE, "--first-seed", "900", "--seeds", seeds, "--out", tmp_path / "run")
    assert_refused(reslab_here(*words), tmp_path / "run", "--registered FILE", "--replace")
    assert (tmp_path / "run" / "study.json").read_bytes() == before
    assert reslab_here(*words, "--workers", "1", "--replace").returncode == 0
    assert read_json(tmp_path / "run" / "study.json")["registered"] is None


def test_a_record_that_other_code_measured_is_not_replaced_unasked(place: Path, file: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    record = read_json(tmp_path / "run" / "study.json")
    words = ("study", "shortcuts", "--registered", file, "--workers", "1", "--out", tmp_path / "run")
    write_json(tmp_path / "run" / "study.json", {**record, "code": {**record["code"], "measures": "0" * 16}})
    assert_refused(reslab_here(*words), tmp_path / "run", "--replace")
    write_json(tmp_path / "run" / "study.json", {**record, "code": {**record["code"], "trains": "0" * 16}})
    assert reslab_here(*words).returncode == 0  # its networks know what trained them


def test_seeds_of_trials_beside_a_record_that_was_replaced_are_seen(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "run", tmp_path / "runs" / "shortcuts")
    record = read_json(tmp_path / "runs" / "shortcuts" / "study.json")
    config = {**record["config"], "first_seed": 5000}
    write_json(
        tmp_path / "runs" / "shortcuts" / "study.json",
        {**record, "config": config, "trials": [], "registered": None, "registration": None},
    )
    out = tmp_path / "new.json"
    assert_refused(reslab_here("register", "shortcuts", "--seeds", "902:905", *SMOKE, "--out", out), "902")
    assert reslab_here("register", "shortcuts", "--seeds", "950:953", *SMOKE, "--out", out).returncode == 0


def test_another_error_rate_or_guard_than_the_labs_is_exploratory(record: Record) -> None:
    for change in ({"error_rate": 0.9}, {"guards": {"trained": 0.9}}):
        given = Registration.model_validate({**record.registration, **change})  # type: ignore[dict-item]  # it has one
        edited = record.model_copy(
            update={
                "registration": given.model_dump(mode="json"),
                "registered": given.sha256(),
                "error_rate": given.share,
            }
        )
        assert standing(edited) == {"other-settings"}


def test_a_study_of_ones_own_is_registered_by_its_file(tmp_path: Path) -> None:
    file = Path(__file__).parents[1] / "api" / "own_study.py"
    out = tmp_path / "own.json"
    done = reslab_here("register", "--from", file, "--seeds", "5:8", "--epochs", "1", "--out", out)
    assert done.returncode == 0, done.stderr
    assert read_json(out)["study"] == "own_study" and "+" in read_json(out)["code"]["measures"]
    assert_refused(reslab_here("register", "--seeds", "5:8"), "--from")
    for suffix in (".py", ".toml"):
        shutil.copy(file.with_suffix(suffix), tmp_path / f"deeper.v2{suffix}")
    words = ("register", "--from", tmp_path / "deeper.v2.py", "--seeds", "5:8", "--epochs", "1")
    done = reslab_here(*words, "--out", tmp_path / "v2.json")
    assert done.returncode == 0 and read_json(tmp_path / "v2.json")["study"] == "deeper_v2", done.stderr


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """Return a study of one's own that has a network and a measurement in files beside it."""
    file = Path(__file__).parents[1] / "api" / "own_study.py"
    text = file.read_text(encoding="utf-8").replace('"cifar_plain", depth=8', f'"{tmp_path}/nets_of_mine.py:net"')
    text = text.replace("from reslab", "from measure_of_mine import against\nfrom reslab", 1)
    text = text.replace("against(0.0,", "against(against,")
    (tmp_path / "beside.py").write_text(text, encoding="utf-8")
    shutil.copy(file.with_suffix(".toml"), tmp_path / "beside.toml")
    (tmp_path / "measure_of_mine.py").write_text("against = 0.0\n", encoding="utf-8")
    net = "from torch import nn\n\ndef net(**_):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    (tmp_path / "nets_of_mine.py").write_text(net, encoding="utf-8")
    yield tmp_path / "beside.py"
    for name in ("beside", "measure_of_mine", "nets_of_mine"):  # others of these names follow
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "old", "new", "part"),
    [
        ("beside.py", "my notes", "your notes", "measures"),
        ("measure_of_mine.py", "0.0", "0.1", "measures"),
        ("nets_of_mine.py", "64, 10", "64, 10, bias=False", "makes"),
    ],
)
def test_a_study_of_ones_own_is_registered_with_its_networks_and_what_it_imports(
    name: str, old: str, new: str, part: str, own: Path, tmp_path: Path
) -> None:
    file = tmp_path / "registered.json"
    done = reslab_here("register", "--from", own, "--seeds", "5:8", "--epochs", "1", "--out", file)
    assert done.returncode == 0, done.stderr
    changed = (tmp_path / name).read_text(encoding="utf-8")
    assert old in changed
    (tmp_path / name).write_text(changed.replace(old, new), encoding="utf-8")
    words = ("study", "--from", own, "--registered", file, "--workers", "1", "--out", tmp_path / "run")
    done = reslab_here(*words)
    assert done.returncode == 0 and f"the code that {part} is not the registered" in done.stderr, done.stderr
    assert standing(read_study(tmp_path / "run")) == {"other-code"}


def test_other_images_than_the_registered_are_exploratory(record: Record, tmp_path: Path) -> None:
    assert record.registration is not None and "images" not in record.registration  # the digits come with a library
    given = Registration.model_validate({**record.registration, "images": "0" * 16})
    fixed = {"registration": given.model_dump(mode="json"), "registered": given.sha256()}
    assert standing(record.model_copy(update=fixed)) == {"other-images"}
    trials = [
        trial.model_copy(update={"result": Outcome(**{**trial.result.model_dump(), "images": "0" * 16})})
        for trial in record.trials
    ]
    assert standing(record.model_copy(update={**fixed, "trials": trials})) == {None}


def test_images_that_a_study_without_trials_measured_on_are_compared(record: Record) -> None:
    given = Registration.model_validate({**(record.registration or {}), "images": "0" * 16})
    fixed = {"registration": given.model_dump(mode="json"), "registered": given.sha256(), "trials": []}
    assert standing(record.model_copy(update=fixed)) == {"other-images"}
    assert standing(record.model_copy(update={**fixed, "images": "0" * 16})) == {None}
    assert "images" not in record.to_json()


def test_numbers_that_another_study_has_shown_were_seen(record: Record) -> None:
    claim = next(claim for claim in record.claims if claim.same_as is not None)
    shown = Ran(frozenset([str(claim.same_as)]), "digits", frozenset([7]))
    assert seen([claim], "digits", [shown]) == {7}
    assert seen([claim], "digits", [shown._replace(registered="0")]) == set()  # for the same seeds, not looked at
    bare = record.model_copy(update={"registration": None, "registered": None})
    assert claim.same_as in ran(bare).claims and claim.same_as not in ran(record).claims


def test_a_claim_without_room_lacks_no_seeds_as_it_may_be_decided_later(record: Record) -> None:
    claim = next(one for one in record.claims if one.kind == "statistical" and one.treatment)
    fewer = dict(list((claim.treatment or {}).items())[1:])
    for code, why in (("no-room", "missing-seeds"), ("diverged", None)):
        changed = claim.model_copy(update={"untested": Reason(code=code), "treatment": fewer})
        found = exploratory(record, changed)
        assert (found and found.code) == why


@pytest.mark.parametrize("looks", [[], [4, 3], [3, 3, 4], [0, 4]])
def test_a_registration_has_looks_that_grow(looks: list[int], record: Record) -> None:
    changed = {**(record.registration or {}), "looks": looks}
    with pytest.raises(ValidationError):
        Registration.model_validate(changed)
    assert standing(record.model_copy(update={"registration": changed})) == {"registration-changed"}


def test_a_study_has_begun_until_its_record_is_written(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    (tmp_path / "run" / "study.json").unlink()

    def full(path: Path, content: object) -> None:
        if path.name == "study.json":
            raise OSError(28, "No space left on device")
        write_json(path, content)

    monkeypatch.setattr("reslab.experiment.study.write_json", full)
    file = place / "registrations" / "shortcuts-900.json"
    words = ("study", "shortcuts", "--registered", file, "--until", "decided", "--workers", "1")
    assert reslab_here(*words, "--out", tmp_path / "run").returncode != 0
    assert list((tmp_path / "run").glob("begun-*.json"))


def test_images_are_registered_where_they_are(tmp_path: Path) -> None:
    words = ("register", "shortcuts", "--seeds", "300:303", "--depths", "8")
    folder = image_folder(tmp_path / "images")
    assert reslab_here(*words, "--data", f"folder:{folder}", "--out", tmp_path / "a.json").returncode == 0
    assert read_json(tmp_path / "a.json")["images"]
    done = reslab_here(*words, "--data", f"cifar10:{tmp_path}", "--out", tmp_path / "b.json")
    assert done.returncode == 0 and "not registered, as they are not here" in done.stderr
    assert "images" not in read_json(tmp_path / "b.json")


@pytest.mark.parametrize("seeds", ["300", "300:", "300:302", "310:300", "a:b", ":5", "0:5000", "-1:9"])
def test_seeds_that_are_none_are_refused(seeds: str) -> None:
    assert_refused(reslab_here("register", "shortcuts", f"--seeds={seeds}"), "FIRST:PAST")


@pytest.mark.parametrize("looks", ["5", "2,10", "10,5", "5,5,10", "5,x,10", "5,10,"])
def test_looks_that_are_none_are_refused(looks: str) -> None:
    assert_refused(reslab_here("register", "shortcuts", "--seeds", "300:310", "--looks", looks), "--looks")


def test_a_study_that_seeds_do_not_decide_is_not_registered() -> None:
    assert_refused(reslab_here("register", "history", "--seeds", "300:310"), "history")


def test_a_registered_study_takes_nothing_beside_its_registration(file: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path)
    assert_refused(reslab_here("study", "degradation", "--registered", file, *out), "shortcuts")
    assert_refused(reslab_here("study", "shortcuts", "--registered", file, "--epochs", "2", *out), "settings")
    assert_refused(reslab_here("study", "shortcuts", "--registered", tmp_path / "none", *out), "none")
    assert_refused(reslab_here("study", "shortcuts", "--until", "decided", *out), "--registered")


@pytest.mark.parametrize("change", [{"seeds": "x"}, {"study": "shortcuts "}, {"registration": 2}])
def test_a_registration_that_was_edited_is_told(change: dict[str, Any], file: Path, tmp_path: Path) -> None:
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps({**read_json(file), **change}), encoding="utf-8")
    assert_refused(reslab_here("study", "shortcuts", "--registered", edited, "--out", tmp_path), edited.name)


def test_its_text_is_its_own(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert Registration.model_validate_json(text).text() == text


def test_the_ends_of_its_lines_may_be_those_of_another_system(file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_registration(elsewhere).sha256() == read_registration(file).sha256()
