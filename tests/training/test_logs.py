"""Metrics for other tools: a tool that fails ends its log, and not the run."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import tiny_trial

from reslab.runs import Run
from reslab.training.logs import logging


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path, tiny_trial())
    run.create()
    run.append_metrics({"step": 1, "loss": 2.0})
    return run


class Tracker:
    """A tool that greets on standard output, and fails at some calls."""

    def __init__(self, fails: str) -> None:
        self.fails = fails
        self.lines: list[dict[str, float]] = []

    def _called(self, name: str) -> None:
        print("hello")
        if name == self.fails:
            raise ConnectionError("no key\nis there")

    def init(self, **how: Any) -> SimpleNamespace:
        self._called("init")
        self.how = how
        return SimpleNamespace(log=self.log, finish=lambda: self._called("finish"))

    def log(self, values: dict[str, float], step: int) -> None:
        self._called("log")
        self.lines.append({**values, "step": step})


@pytest.mark.parametrize(("tool", "again"), [("wandb", "create_new"), ("trackio", None)])
def test_each_run_has_a_log_of_its_own_where_several_are_followed(
    tool: Any, again: str | None, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker("")
    monkeypatch.setitem(sys.modules, tool, tracker)
    with logging(tool, [run], tmp_path / "logs"):
        pass
    assert tracker.how.get("reinit") == again and tracker.lines == [{"step": 1, "loss": 2.0}]


@pytest.mark.parametrize("fails", ["init", "log", "finish", ""])
def test_a_tool_that_fails_is_told_once_and_says_nothing_on_standard_output(
    fails: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = Tracker(fails)
    monkeypatch.setitem(sys.modules, "trackio", tool)
    with logging("trackio", [run], tmp_path / "logs"):
        pass
    out, notes = capsys.readouterr()
    assert out == "" and notes.count("note: --log trackio") == bool(fails)
    assert ("ended: ConnectionError: no key is there" in notes) == bool(fails)
    assert (tool.lines == [{"step": 1, "loss": 2.0}]) == (fails in ("", "finish"))
