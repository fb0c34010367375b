"""Registration: what it fixes, what it refuses, and which records it makes pre-registered."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from helpers import refused

from reslab import studies
from reslab.errors import DamagedError, ExistsError, MismatchError, MissingError, WrongValueError
from reslab.executors import local
from reslab.experiment import registered as module
from reslab.experiment.directory import Directory
from reslab.experiment.registered import filed, register, run_registered, save, seeds_of
from reslab.experiment.study import Study
from reslab.ledger.record import Record
from reslab.ledger.registration import Code

TODAY = date(2026, 1, 2)


@pytest.fixture
def study() -> Study:
    return studies.find("learning_identity")


def settings(study: Study, **changed: Any) -> Any:
    small = {"first_seed": 300, "seeds": 4, "most": 2, "rates": (0.1,), "level": 0.9}
    return study.configure("default", {**small, **changed})


def test_a_registered_study_is_run_at_its_looks_and_its_record_says_so(study: Study, tmp_path: Path) -> None:
    made = register(study, settings(study), [3, 4], [], TODAY)
    save(made, tmp_path / "registrations" / "a.json")
    found = filed(tmp_path / "registrations" / "a.json")
    assert found.registration == made and made.share == made.error_rate / 2 and made.seeds == range(300, 304)
    directory = Directory(tmp_path / "runs")
    record = run_registered(study, found, directory, local(1)).record
    assert record.exploratory == [] and record.registration_sha256 == found.sha256
    assert Record.model_validate(record.to_json()).exploratory == []
    assert record.config["seeds"] in (3, 4) and seeds_of(record) <= set(made.seeds)
    assert run_registered(study, found, directory, local(1)).record == record


def test_it_goes_on_to_the_next_look_only_where_something_is_undecided(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(register(study, settings(study), [3, 4], [], TODAY), tmp_path / "a.json")
    looks: list[int] = []
    run = module.run_study

    def counted(study: Study, config: Any, *rest: Any) -> Any:
        looks.append(config.seeds)
        done = run(study, config, *rest)
        decided = [claim.model_copy(update={"verdict": "supported"}) for claim in done.record.claims]
        return done._replace(record=done.record.model_copy(update={"claims": decided})) if len(looks) == 2 else done

    monkeypatch.setattr(module, "run_study", counted)
    run_registered(study, filed(tmp_path / "a.json"), Directory(tmp_path / "runs"), local(1))
    assert looks == [3, 4]  # with two steps at the most, nothing is decided by three seeds
    run_registered(study, filed(tmp_path / "a.json"), Directory(tmp_path / "runs"), local(1))
    assert looks == [3, 4, 3, 4]


def test_what_departs_from_its_registration_is_exploratory(study: Study, tmp_path: Path) -> None:
    save(register(study, settings(study), [3], [], TODAY), tmp_path / "a.json")
    record = run_registered(study, filed(tmp_path / "a.json"), Directory(tmp_path / "runs"), local(1)).record

    def codes(**changed: Any) -> list[str]:
        return [reason.code for reason in record.model_copy(update=changed).exploratory]

    assert codes() == []
    assert codes(registration=None) == ["not-registered"]
    assert codes(config={**record.config, "level": 0.5}) == ["other-settings"]
    assert codes(config={**record.config, "first_seed": 0}) == ["other-seeds"]
    assert codes(config={**record.config, "seeds": 4}) == ["other-seeds"]
    assert record.code is not None
    assert codes(code=None) == codes(code=record.code.model_copy(update={"measures": "x"})) == ["other-code"]
    claims = [claim.model_copy(update={"margin": 9.0}) for claim in record.claims]
    assert codes(claims=claims) == ["other-claims"]


def test_seeds_that_were_run_before_are_refused(study: Study, tmp_path: Path) -> None:
    save(register(study, settings(study), [3], [], TODAY), tmp_path / "a.json")
    record = run_registered(study, filed(tmp_path / "a.json"), Directory(tmp_path / "runs"), local(1)).record
    with refused(ExistsError, "300", "302"):
        register(study, settings(study), [4], [record], TODAY)
    register(study, settings(study, first_seed=303), [4], [record], TODAY)
    register(studies.find("refinement"), studies.find("refinement").configure("default", {}), [5], [record], TODAY)


@pytest.mark.parametrize("looks", [[], [2], [5, 4], [4, 4]])
def test_looks_are_growing_numbers_of_seeds(study: Study, looks: list[int]) -> None:
    with refused(WrongValueError):
        register(study, settings(study), looks, [], TODAY)


def test_what_is_registered_is_not_changed(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = register(study, settings(study), [3], [], TODAY)
    save(made, tmp_path / "a.json")
    with refused(ExistsError, tmp_path / "a.json"):
        save(made, tmp_path / "a.json")
    with refused(MismatchError):
        register(studies.find("history"), studies.find("history").configure("default", {}), [5], [], TODAY)
    monkeypatch.setattr(Study, "code", lambda self: Code(trains="a", measures="b", decides="c"))
    with refused(MismatchError, "other-code"):
        run_registered(study, filed(tmp_path / "a.json"), Directory(tmp_path / "runs"), local(1))


def test_a_directory_with_another_record_is_left_alone(study: Study, tmp_path: Path) -> None:
    for name, first in (("a", 300), ("b", 400)):
        save(register(study, settings(study, first_seed=first), [3], [], TODAY), tmp_path / f"{name}.json")
    run_registered(study, filed(tmp_path / "a.json"), Directory(tmp_path / "runs"), local(1))
    before = (tmp_path / "runs" / "study.json").read_bytes()
    with refused(MismatchError, tmp_path / "runs"):
        run_registered(study, filed(tmp_path / "b.json"), Directory(tmp_path / "runs"), local(1))
    assert (tmp_path / "runs" / "study.json").read_bytes() == before


def test_files_that_are_no_registrations_are_told(tmp_path: Path) -> None:
    with refused(MissingError, tmp_path / "none.json"):
        filed(tmp_path / "none.json")
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    with refused(DamagedError, tmp_path / "a.json"):
        filed(tmp_path / "a.json")
