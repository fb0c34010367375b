"""What is measured of a machine, and what `auto` makes of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_refused, reslab_here

from reslab.bench import choices
from reslab.bench.choices import Choices, measure
from reslab.bench.timing import Timing
from reslab.training import devices, speed

FREED = {"kept": 2.0, "given back": 1.0}


@pytest.fixture(autouse=True)
def _nothing_measured() -> Iterator[None]:
    yield
    for file in speed._file("cpu").parent.glob("speed-*.json"):
        file.unlink()


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"32": 1.0, "bf16": 0.5}, "bf16"),
        ({"32": 1.0, "bf16": 0.97}, "32"),
        ({"32": 1.0, "bf16": 3.0}, "32"),
        ({"32": 1.0}, "32"),
    ],
)
def test_auto_is_what_was_measured_to_be_faster(
    seconds: dict[str, float], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for native in (True, False):
        monkeypatch.setattr(devices, "has_bf16", lambda native=native: native)
        assert devices.best_precision("cpu") == devices.native_precision("cpu")
    speed.keep("cpu", seconds, FREED)
    found = devices.best_precision("cpu")
    assert found.value == chosen and all("32 1000" in why for why in found.why)
    assert devices.best_precision("mps") == devices.native_precision("mps")  # another device's speed says nothing


@pytest.mark.parametrize(
    "change", [{"torch": "0.1"}, {"processor": "another"}, {"precision": {"32": -1.0}}, {"precision": {"8": 1.0}}, None]
)
def test_what_is_damaged_or_of_another_machine_does_not_count(change: dict[str, Any] | None) -> None:
    file = speed.keep("cpu", {"32": 1.0, "bf16": 0.1}, FREED)
    assert speed.kept("cpu") is not None
    text = "{" if change is None else json.dumps({**json.loads(file.read_text(encoding="utf-8")), **change})
    file.write_text(text, encoding="utf-8")
    assert speed.kept("cpu") is None and devices.best_precision("cpu") == devices.native_precision("cpu")


def test_the_command_measures_keeps_and_says_what_it_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Timing((2.0, 2.0, 4.0)), Timing((1.0, 1.0, 1.0))
    found = Choices(
        {"32": one, "bf16": other}, {"contiguous": one}, {"1": one}, {"kept": [1.0, 3.0], "given back": [4.0]}
    )
    monkeypatch.setattr(choices, "measure", lambda device, progress: found)
    monkeypatch.setattr(devices, "best_device", lambda: "cpu")
    said = json.loads(reslab_here("doctor", "--speed", "--json").stdout)
    assert said["precision auto"].startswith("bf16: measured on") and said["machine"]["device"] == "cpu"
    kept = speed.kept("cpu")
    assert kept is not None and kept.keeps_freed_memory and said["kept"] == str(speed._file("cpu"))
    assert (kept.precision, kept.freed_memory) == ({"32": 2.0, "bf16": 1.0}, {"kept": 2.0, "given back": 4.0})
    told = reslab_here("doctor", "--speed").stdout
    assert "| freed memory: kept | 2000 |" in told and "\nprecision auto: bf16 (measured on" in told
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")
    told = reslab_here("doctor", "--speed").stdout
    assert "| 해제한 메모리: 쥐고 있음 | 2000 |" in told and "\n정밀도 auto: bf16 (" in told and "measured" not in told
    assert_refused(reslab_here("doctor", "--speed", "--networks"), "--networks")
    assert_refused(reslab_here("doctor", "--speed", "--out", Path("x.md")), "--out")


@pytest.mark.parametrize("processes", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("_forked_workers")
def test_every_choice_is_timed_on_this_machine(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    state = torch.random.get_rng_state()
    found = measure("cpu", batch=2, rounds=1, processes=processes)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert found.precision.keys() == {"32", devices.native_precision("cpu").value}
    assert found.layout.keys() == {"channels last", "contiguous"} and found.threads.keys() == {"1", "2"}
    assert {name: len(seconds) for name, seconds in found.freed_memory.items()} == dict.fromkeys(FREED, processes)
    assert all(seconds > 0 for seconds in (*found.seconds().values(), *found.freed_memory["kept"]))


def test_what_was_measured_of_a_gpu_that_is_not_here_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    file = speed._file("cpu")
    speed.keep("cpu", {"32": 1.0}, {})
    record = json.loads(file.read_text(encoding="utf-8")) | {"device": "cuda"}
    file.with_name("speed-cuda.json").write_text(json.dumps(record), encoding="utf-8")
    assert speed.kept("cuda") is None
    assert_refused(reslab_here("train", "resnet20", "--device", "cuda"), "cuda")
    assert_refused(reslab_here("speedrun", "--device", "cuda"), "cuda")
    assert_refused(reslab_here("study", "degradation", "--device", "cuda", "--precision", "auto"), "cuda", "bf16")
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")
    assert "정밀도" in reslab_here("study", "degradation", "--device", "cuda", "--precision", "auto").stderr
