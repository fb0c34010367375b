"""Damaged and senseless run directories, studies and answers: an answer, or one line that says what was wrong, with
exit code 2.
"""

import contextlib
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_trial
from helpers_fuzz import JSON, damaged, elsewhere, enough, sizes, told, wrong_shape
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from jinja2 import Environment

from reslab.analysis.torchvision_tour import torchvision_tour
from reslab.exercises import sheets
from reslab.exercises.confinement import Ended

# --- Run directories and studies --------------------------------------------------------------------------------------

STUDY: dict[str, Any] = {
    "version": 3,
    "study": "degradation",
    "title": {"ko": "퇴화", "en": "Degradation"},
    "question": {"ko": "왜?", "en": "Why?"},
    "config": {"data": "digits", "seeds": 3, "depths": [20, 56]},
    "claims": [
        {
            "id": "degradation.deep",
            "kind": "statistical",
            "section": "degradation",
            "statement": {"ko": "가", "en": "a"},
            "source": "Table 2",
            "direction": "higher",
            "margin": 0.5,
            "unit": {"ko": "점", "en": "points"},
            "rate": True,
            "corrects": None,
            "verdict": "supported",
            "effect": 1.0,
            "interval": [0.6, 1.4],
            "level": 0.95,
            "n": 3,
            "method": "paired t",
            "reason": {"code": "interval-over", "values": {"n": 3, "threshold": 0.5}},
            "treatment": {"0": 1.0, "1": 0.9, "2": 1.1},
            "control": {"0": 0.0, "1": 0.0, "2": 0.0},
            "untested": None,
            "resolution": 0.0,
            "room": False,
        },
        {
            "id": "degradation.counted",
            "kind": "exact",
            "section": "degradation",
            "statement": {"ko": "나", "en": "b"},
            "source": "Table 1",
            "verdict": "refuted",
            "n": 1,
            "method": "exact",
            "reason": {"code": "not-as-claimed"},
            "measured": {"layers": [20, 56]},
            "expected": None,
        },
        {
            "id": "degradation.open",
            "kind": "statistical",
            "section": "degradation",
            "statement": {"ko": "다", "en": "c"},
            "source": "Table 2",
            "direction": "lower",
            "margin": 0.1,
            "unit": "",
            "verdict": "inconclusive",
            "n": 3,
            "method": "none",
            "reason": {"code": "untrained", "values": {"errors": {"plain-56": 0.5, "plain-20": None}, "limit": 0.2}},
            "treatment": {"0": 1.0, "1": 0.9, "2": 1.1},
            "control": 0.5,
            "untested": {"code": "untrained", "values": {"errors": {"plain-56": 0.5}, "limit": 0.2}},
            "room": True,
        },
    ],
    "tables": [{"title": {"ko": "표", "en": "table"}, "columns": ["a", "b"], "rows": [["x", 1.5]]}],
    "charts": [
        {
            "title": {"ko": "그림", "en": "chart"},
            "caption": {"ko": "볼 것", "en": "see"},
            "x": {"ko": "가로", "en": "x"},
            "y": {"ko": "세로", "en": "y"},
            "series": [
                {
                    "name": "s",
                    "x": [1.0, 2.0],
                    "y": [0.1, 0.2],
                    "spread": [0.0, 0.1],
                    "text": None,
                    "kind": None,
                    "z": None,
                }
            ],
            "kind": "lines",
            "log_x": True,
            "bands": [{"name": {"ko": "띠", "en": "band"}, "first": 1.0, "last": 2.0}],
            "marks": [1.0],
            "rate": True,
        },
        {
            "title": {"ko": "지도", "en": "map"},
            "caption": {"ko": "볼 것", "en": "see"},
            "x": {"ko": "가로", "en": "x"},
            "y": {"ko": "세로", "en": "y"},
            "series": [
                {"name": {"ko": "줄", "en": "s"}, "x": [1.0, 2.0], "y": [0.1, 0.2], "z": [[1.0, 2.0], [3.0, None]]}
            ],
            "kind": "contours",
            "z": {"ko": "높이", "en": "height"},
        },
    ],
    "trials": [
        {
            "group": "plain-20",
            "directory": "trials/0",
            "seed": 0,
            "config": {},
            "result": {"status": "finished", "params": 3, "train_error": 0.5},
        }
    ],
    "failures": [{"config": {"model": "resnet20", "options": {"depth": 20}, "seed": 1}, "reason": "out of memory"}],
}
CLAIM_0_1 = {
    "id": "degradation.deep",
    "kind": "statistical",
    "section": "degradation",
    "statement": {"ko": "가", "en": "a"},
    "source": "Table 2",
    "direction": "higher",
    "margin": 0.5,
    "unit": "test error",
    "corrects": None,
    "verdict": "supported",
    "effect": 1.0,
    "interval": [0.6, 1.4],
    "level": 0.95,
    "n": 3,
    "method": "paired t",
    "reason": "the whole interval is over 0.5",
}
STUDY_0_1 = {
    **{key: value for key, value in STUDY.items() if key != "version"},
    "claims": [
        CLAIM_0_1,
        {
            **CLAIM_0_1,
            "id": "degradation.counted",
            "kind": "exact",
            "interval": None,
            "reason": "measured {'layers': [(20, 56)]}, not None",
        },
        {
            **CLAIM_0_1,
            "id": "degradation.open",
            "reason": "not trained, so nothing is concluded: a has up to nan % training error (limit 20 %)",
        },
    ],
}
"""A record as version 0.1 of the lab wrote it."""
TRIAL = {
    "config": tiny_trial().model_dump(mode="json"),
    "environment": {"python": "3.11", "packages": {"torch": "2.6"}},
    "code": "0" * 16,
}
RESULT = {
    "status": "finished",
    "params": 3,
    "steps": 10,
    "train_error": 0.1,
    "train_loss": 0.1,
    "heldout_error": 0.2,
    "test_error": 0.3,
    "code": "0" * 16,
}
LINES = [
    {"epoch": 1.0, "step": 5, "train_error": 0.5, "train_loss": 1.0},
    {"epoch": 2.0, "step": 10, "train_error": 0.4, "train_loss": 0.5},
]
FILES: dict[str, Any] = {
    "study.json": STUDY,
    "trials/0/trial.json": TRIAL,
    "trials/0/result.json": RESULT,
    "trials/0/metrics.jsonl": LINES,
}


def text(name: str) -> bytes:
    value = FILES[name]
    return (
        "".join(json.dumps(line) + "\n" for line in value).encode()
        if name.endswith("jsonl")
        else json.dumps(value).encode()
    )


@st.composite
def changes(draw: DrawFn) -> dict[str, bytes | str]:
    """Draw the files of a study that are not as they were: their bytes, or what stands in their place."""
    found: dict[str, bytes | str] = {}
    for name in draw(st.lists(st.sampled_from(sorted(FILES)), min_size=1, max_size=2, unique=True)):
        kind = draw(st.sampled_from(("shape", "shape", "shape", "bytes", "directory", "loop", "none", "deep")))
        if kind == "shape":
            found[name] = draw(
                wrong_shape(draw(st.sampled_from((STUDY, STUDY_0_1))) if name == "study.json" else FILES[name])
                if not name.endswith("jsonl")
                else st.lists(JSON, max_size=3).map(lambda lines: "\n".join(map(json.dumps, lines)).encode())
            )
        else:
            found[name] = {"bytes": lambda name=name: draw(damaged(text(name))), "deep": lambda: b"[" * 100_000}.get(
                kind, lambda kind=kind: kind
            )()
    return found


def write_study(root: Path, changed: dict[str, bytes | str]) -> None:
    for name in FILES:
        path, what = root / name, changed.get(name, text(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        if what == "directory":
            path.mkdir()
        elif what == "loop":
            with contextlib.suppress(OSError):  # Windows may not let everybody make links
                path.symlink_to(path.name)
        elif isinstance(what, bytes):
            path.write_bytes(what)


def with_claim(**changes: Any) -> dict[str, bytes | str]:
    """Return a study whose first claim has these fields."""
    return {"study.json": json.dumps({**STUDY, "claims": [{**STUDY["claims"][0], **changes}]}).encode()}


def with_chart(**changes: Any) -> dict[str, bytes | str]:
    """Return a study whose first chart has these fields."""
    return {"study.json": json.dumps({**STUDY, "charts": [{**STUDY["charts"][0], **changes}]}).encode()}


def of_0_1(reason: Any) -> dict[str, bytes | str]:
    """Return a study of version 0.1 with this reason."""
    return {"study.json": json.dumps({**STUDY_0_1, "claims": [{**CLAIM_0_1, "reason": reason}]}).encode()}


TOUR = torchvision_tour()


@pytest.fixture
def _page_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what is on every page and takes seconds: the explorer's networks, the tour, plotly's code, the font."""
    environments: list[Environment] = []

    def once(**how: Any) -> Environment:
        environments.extend([Environment(**how)] * (not environments))
        return environments[0]

    monkeypatch.setattr("reslab.report.page.Environment", once)  # each compiles the templates
    monkeypatch.setattr("reslab.report.explorer.catalogue", dict)
    monkeypatch.setattr("reslab.report.page.get_plotlyjs", str)
    monkeypatch.setattr("reslab.report.page.font_face", lambda page: "")
    monkeypatch.setattr(import_module("reslab.analysis.torchvision_tour"), "torchvision_tour", lambda: TOUR)
    monkeypatch.setattr("reslab.report.page.chapter", lambda anchors: None)
    monkeypatch.setattr("reslab.executors.run_trials", enough)
    monkeypatch.setattr("reslab.experiment.study.run_trials", enough)
    monkeypatch.setattr("reslab.subject.Subject.of", enough)  # the weights have a test of their own


COMMANDS = {
    "report": ("report", "study", "--json"),
    "claims": ("claims", "study"),
    "claims as JSON": ("claims", "study", "--json"),
    "claims again": ("claims", "study", "--decide-again", "--margin", "degradation.deep=0.9", "--lang", "ko"),
    "ship": ("ship", "study/trials/0"),
    "study": ("study", "degradation", "--out", "study"),
}


@pytest.mark.usefixtures("_page_alone")
@sizes(4, 300)
def test_study_directories(inputs: Any) -> None:
    @inputs
    @given(changed=changes(), command=st.sampled_from(sorted(COMMANDS)))
    @example(changed={"study.json": b'{"study": "x", "claims": 3}'}, command="report")
    @example(changed={"study.json": b'{"study": "x", "charts": [{}]}'}, command="report")
    @example(
        changed={"study.json": b'{"study": "x", "trials": [{"group": "", "directory": "../..", "result": {}}]}'},
        command="report",
    )
    @example(changed={"study.json": b"[" * 100_000}, command="claims")
    @example(changed={"study.json": b"[]"}, command="study")
    @example(changed={"trials/0/trial.json": b'{"config": [], "environment": 3}'}, command="report")
    @example(changed={"trials/0/metrics.jsonl": b'{"epoch": "a", "train_error": []}\n'}, command="report")
    @example(changed={"study.json": "none", "trials/0/result.json": b'{"train_error": "x"}'}, command="report")
    @example(changed={"trials/0/result.json": b"{}"}, command="ship")
    @example(changed={"study.json": json.dumps(STUDY_0_1).encode()}, command="report")
    @example(changed={"study.json": json.dumps(STUDY_0_1).encode()}, command="claims again")
    @example(changed={"study.json": json.dumps({**STUDY, "version": 3, "new": []}).encode()}, command="report")
    @example(changed=of_0_1("measured " + "[" * 5000 + ", as claimed"), command="report")
    @example(changed=of_0_1("measured 1e999, not -1e999"), command="report")
    @example(changed=of_0_1("the interval contains ."), command="report")
    @example(changed=of_0_1({"code": "interval-over"}), command="claims")
    @example(changed=of_0_1(["measured 1, as claimed"]), command="claims")
    @example(changed=with_claim(reason={"code": "nobody's", "values": {"n": [[]]}}), command="report")
    @example(changed=with_claim(reason={"code": "interval-over", "values": {"threshold": "{x}"}}), command="report")
    @example(
        changed=with_claim(reason={"code": "untrained", "values": {"errors": {"a": "b"}, "limit": None}}),
        command="claims",
    )
    @example(changed=with_claim(treatment={"zero": 1.0}), command="claims again")
    @example(changed=with_claim(treatment={}), command="claims again")
    @example(changed=with_claim(treatment=None), command="claims again")
    @example(changed=with_claim(treatment={"0": 1e308, "1": -1e308, "2": 1.0}), command="claims again")
    @example(changed=with_claim(room=True), command="claims again")
    @example(changed=with_claim(resolution=-1.0), command="claims again")
    @example(changed=with_claim(resolution=float("nan")), command="claims again")
    @example(changed=with_claim(margin=float("nan")), command="claims again")
    @example(changed=with_chart(kind="nobody's", arrangement="nowhere", new={"x": 1}), command="report")
    @example(
        changed=with_chart(series=[{"name": "s", "x": [1.0], "y": [0.1], "kind": "nobody's", "new": 1}]),
        command="report",
    )
    @example(changed={"trials/0/trial.json": b"[" * 100_000}, command="ship")
    def holds(changed: dict[str, bytes | str], command: str) -> None:
        with elsewhere() as here:
            write_study(here / "study", changed)
            told(*COMMANDS[command])

    holds()


# --- Answers to exercises ---------------------------------------------------------------------------------------------

ANSWERS = sheets.starter("01", "en").encode()
RECORD = {
    "language": "ko",
    "hints": {"1.1": 1},
    "solutions": ["1.2"],
    "tasks": {"1.1": {"points": 1, "best": 2, "of": 3, "when": ""}},
}


@pytest.fixture
def _no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers would run in processes of their own, for seconds; there are tests of that."""
    monkeypatch.setattr(
        "reslab.exercises.confinement.run", lambda _, tasks, **__: Ended({task: [] for task in tasks}, "stopped")
    )


@pytest.mark.usefixtures("_no_children")
@sizes(10, 150)
def test_answers_and_their_records(inputs: Any) -> None:
    code = (
        damaged(ANSWERS)
        | st.text(max_size=30).map(str.encode)
        | st.sampled_from((b"(" * 5000, b"x = " + b"-" * 50_000 + b"1", b"\0", b"\xff", ANSWERS))
    )
    record = (
        wrong_shape(RECORD)
        | damaged(json.dumps(RECORD).encode())
        | JSON.map(lambda value: json.dumps(value).encode())
        | st.just(b"[" * 100_000)
    )

    @inputs
    @example(code=ANSWERS, record=b'{"language": "/../x"}', command=("hint", "1.1", "--dir", "."))
    @example(code=ANSWERS, record=b'{"language": []}', command=("hint", "1.1", "--dir", "."))
    @example(code=ANSWERS, record=b'{"tasks": {"1.1": 3}}', command=("list", "--dir", "."))
    @example(code=ANSWERS, record=b"[" * 100_000, command=("list", "--dir", "."))
    @example(code=ANSWERS, record=b"{}", command=("grade", "."))
    @example(code=b"(" * 5000, record=b"", command=("grade", "."))
    @given(
        code=code,
        record=record,
        command=st.sampled_from(
            (("grade", "."), ("check", "01", "--dir", "."), ("list", "--dir", "."), ("hint", "1.1", "--dir", "."))
        ),
    )
    def holds(code: bytes, record: bytes, command: tuple[str, ...]) -> None:
        with elsewhere() as here:
            (here / "01_gradient_analysis.py").write_bytes(code)
            (here / "progress.json").write_bytes(record)
            (here / "grades.jsonl").write_bytes(record + b"\n")
            told("exercise", *command)

    holds()
