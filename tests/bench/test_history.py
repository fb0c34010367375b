"""Figures of benchmarks are kept, and what has become slower is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import assert_refused, refused, reslab_here

from reslab.bench import history
from reslab.bench.history import Compared, Ratio
from reslab.commands import printing
from reslab.errors import DamagedError, MissingError

MACHINE = {"processor": "Some CPU", "capability": "AVX2", "threads": 2, "torch": "2.6"}


def figures(faster: tuple[float, float, float], machine: dict[str, Any] = MACHINE) -> dict[str, Any]:
    return {
        "machine": machine,
        "precision": "32: as it is",
        "training step": {"reslab s": 0.5, "times faster": faster},
        "path spectrum": {"backward passes": (10.0, 9.0, 11.0)},
        "memory": {"MB": None},
    }


@pytest.mark.parametrize(
    ("what", "now", "change"),
    [
        ("step, times faster", (2.0, 1.9, 2.1), "alike"),
        ("step, times faster", (3.0, 2.2, 3.5), "faster"),
        ("step, times faster", (1.0, 0.9, 1.1), "slower"),
        ("spectrum, backward passes", (3.0, 2.2, 3.5), "slower"),
        ("spectrum, backward passes", (1.0, 0.9, 1.1), "faster"),
        ("spectrum, backward passes", (3.0, 2.1, 3.5), "alike"),  # one round of either was as fast
    ],
)
def test_a_ratio_has_changed_where_no_rounds_overlap(what: str, now: tuple[float, float, float], change: str) -> None:
    assert Compared(what, Ratio(2.0, 1.8, 2.1), Ratio(*now)).change == change


def test_few_rounds_are_apart_by_chance() -> None:
    assert Compared("step, times faster", Ratio(2.0, 1.8, 2.1), Ratio(3.0, 2.2, 3.5), rounds=3).change == "alike"


def test_what_is_kept_is_read_and_each_run_has_a_file(tmp_path: Path) -> None:
    files = [history.keep("train", {"rounds": 5}, figures((value, 1.0, 3.0)), tmp_path) for value in (2.0, 2.5)]
    first, second = history.read(tmp_path)
    assert len(set(files)) == 2 and first.settings == {"rounds": 5} and first.figures["machine"] == MACHINE
    assert first.ratios() == {
        "training step, times faster": (2.0, 1.0, 3.0),
        "path spectrum, backward passes": (10, 9, 11),
    }
    assert second.ratios()["training step, times faster"].median == 2.5


def test_only_runs_of_one_kind_are_compared(tmp_path: Path) -> None:
    for settings, machine in (
        ({"rounds": 5}, MACHINE),
        ({"rounds": 6}, MACHINE),
        ({"rounds": 5}, MACHINE | {"processor": "Another"}),
        ({"rounds": 5}, MACHINE | {"torch": "2.14"}),  # another release is what one wants to know about
    ):
        history.keep("train", settings, figures((2.0, 1.9, 2.1), machine), tmp_path)
    pairs = list(history.latest(history.read(tmp_path)))
    assert [before is not None for _, before in pairs] == [True, False, False]
    now, before = pairs[0]
    assert before is not None and now.figures["machine"]["torch"] == "2.14"
    assert {each.change for each in history.compare(before, now)} == {"alike"}


def test_the_command_tells_what_has_become_slower(tmp_path: Path) -> None:
    history.keep("train", {}, figures((2.0, 1.9, 2.1)), tmp_path)
    alone = reslab_here("bench", "compare", tmp_path)
    assert alone.returncode == 0 and "|" not in alone.stdout
    history.keep("train", {}, figures((1.5, 1.4, 1.6)), tmp_path)
    told = reslab_here("bench", "compare", tmp_path)
    assert told.returncode == 1
    assert "| training step, times faster | 2.00 (1.90 to 2.10) | 1.50 (1.40 to 1.60) | slower |" in told.stdout
    (found,) = json.loads(reslab_here("bench", "compare", tmp_path, "--json").stdout)
    assert [ratio["change"] for ratio in found["ratios"]] == ["slower", "alike"]


def test_what_is_no_record_is_told(tmp_path: Path) -> None:
    with refused(MissingError, str(tmp_path)):
        history.read(tmp_path)
    (tmp_path / "a.json").write_text(
        '{"version": 1, "bench": "train", "date": "now", "settings": {}, "figures": {}}', encoding="utf-8"
    )
    with refused(DamagedError, str(tmp_path / "a.json"), "date"):
        history.read(tmp_path)
    assert_refused(reslab_here("bench", "compare", tmp_path), tmp_path / "a.json")


def test_a_measurement_is_printed_as_a_table_and_kept_unless_it_is_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reslab.bench import lowlevel

    def measured(*, rounds: int = 10, progress: Any) -> dict[str, Any]:
        return figures((2.0, 1.9, 2.1))

    monkeypatch.setattr(lowlevel, "bench", measured)
    monkeypatch.setattr(lowlevel, "QUICK", {"rounds": 1})
    done = reslab_here("bench", "lowlevel", "--rounds", "3", "--out", tmp_path)
    assert "| training step, times faster | 2.00 (1.90 to 2.10) |" in done.stdout
    assert "| memory, MB | not known here |" in done.stdout and "processor Some CPU" in done.stdout
    (kept,) = history.read(tmp_path)
    assert kept.bench == "lowlevel" and kept.settings == {"rounds": 3} and str(tmp_path) in done.stdout
    assert reslab_here("bench", "lowlevel", "--quick", "--out", tmp_path).returncode == 0
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("change", [{"figures": {"machine": None}}, {"settings": {"rounds": "x"}}])
def test_a_file_of_something_else_is_told(tmp_path: Path, change: dict[str, Any]) -> None:
    file = history.keep("train", {"rounds": 5}, figures((2.0, 1.0, 3.0)), tmp_path)
    record = {**json.loads(file.read_text(encoding="utf-8")), **change}
    file.write_text(json.dumps(record), encoding="utf-8")
    assert_refused(reslab_here("bench", "compare", tmp_path), file)


def test_what_is_measured_once_is_not_compared_and_counts_are_whole(tmp_path: Path) -> None:
    for _ in range(2):
        history.keep("executors", {}, {"machine": MACHINE, "executors": {"times faster": 1.8}}, tmp_path)
    done = reslab_here("bench", "compare", tmp_path)
    assert done.returncode == 0 and "not compared" in done.stdout
    assert printing.figure(128) == "128" and printing.figure(1.0) == "1.00"
    assert_refused(reslab_here("bench", "lowlevel", "--rounds", "true"), "--rounds")


def test_errors_are_those_after_so_many_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    from reslab.bench import train

    trained: list[Any] = []
    for name in ("_error_of_lab", "_error_of_ordinary"):
        monkeypatch.setattr(train, name, lambda data, config, *_: trained.append(config.recipe))
    train.bench(**train.QUICK, epochs=3)
    assert [(recipe.epochs, recipe.iterations) for recipe in trained] == [(3, None)] * 2
