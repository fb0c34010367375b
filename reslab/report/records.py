"""Reading a study directory: missing or broken files are reported, and the rest is shown."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from reslab import shapes
from reslab.errors import DamagedError, MissingError, worded
from reslab.files import Json, Shape, one_line, read_json, read_record
from reslab.ledger.claim import Text
from reslab.ledger.migration import migrated
from reslab.ledger.record import Outcome, Record
from reslab.ledger.sets import Origin
from reslab.ledger.shipped import shipped
from reslab.report.confusion import Confusion, of_groups, read_confusion
from reslab.runs import METRICS, RESULT, TRIAL, check_files, read_metrics
from reslab.shapes import Number, TrialFile
from reslab.shapes import Outcome as TrialOutcome

RESULTS_ONLY: Text = {
    "ko": (
        "실험의 결과(study.json)만 여기 있고 실행마다의 기록(trial.json, metrics.jsonl)은 없다. 그래서 학습 곡선은 "
        "없다."
    ),
    "en": (
        "Only the study's results (study.json) are available, without the trials' own files (trial.json, "
        "metrics.jsonl), "
        "so there are no training curves."
    ),
}
"""The note for a study without its trials' directories."""


class Line(shapes.Line):
    """The fields of a trial's metrics that are drawn."""

    epoch: Number
    train_error: float | None


@dataclass(frozen=True)
class Trial:
    """One trial, finished or not: its group, metrics, `trial.json`, result if any, and what it takes the test images of
    each class for, if that was kept.
    """

    group: str
    metrics: list[Json]
    config: Json
    result: Outcome | None
    confusion: Confusion | None = None


@dataclass(frozen=True)
class StudyRecord:
    """A study's record, its trials, and notes about missing parts."""

    record: Record
    trials: list[Trial]
    notes: list[Text] = field(default_factory=list)

    def confusions(self) -> dict[str, Confusion]:
        """Return what each group's networks take the test images for, over its seeds; nothing where that was not
        kept.
        """
        return of_groups((trial.group, trial.confusion) for trial in self.trials)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per group of trials that have a result: how many, and their final errors."""
        results: dict[str, list[Outcome]] = {}
        for trial in self.trials:
            if trial.result is not None:
                results.setdefault(trial.group, []).append(trial.result)
        return summarise(results)


def read_study(directory: Path) -> Record:
    """Return a study's record, of the current or an earlier version.

    Raises:
        UserError: if there is none, or it cannot be read.
    """
    try:
        record = read_json(directory / "study.json")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError(*worded("no-record", directory=directory)) from error
    except (OSError, ValueError) as error:
        raise DamagedError(*worded("record-unreadable", path=directory / "study.json", error=error)) from error
    if not isinstance(record, dict) or not isinstance(record.get("study"), str):
        raise DamagedError(*worded("no-study-record", path=directory / "study.json"))
    try:
        return Record.model_validate(migrated(record), strict=True)
    except ValidationError as error:
        path, reason = directory / "study.json", one_line(error)
        raise DamagedError(*worded("no-study-record-as", path=path, reason=reason)) from error


def read_directory(directory: Path) -> StudyRecord:
    """Return the content of a study's directory, finished or interrupted.

    Raises:
        UserError: if it has neither a study nor trials, or its `study.json` cannot be read.
    """
    if (directory / "study.json").exists():
        return _finished(directory, read_study(directory))
    paths = sorted(path.parent for path in (*directory.glob("trials/*/trial.json"), *directory.glob("*/trial.json")))
    if not paths:
        read_study(directory)  # says what was expected
    return _interrupted(directory, paths)


def _finished(directory: Path, record: Record) -> StudyRecord:
    trials, missing = [], []
    for entry in record.trials:
        path = directory / entry.directory
        trial = read_trial(path, entry.group, entry.result)
        trials.append(trial)
        if not trial.metrics or not trial.config or _damaged(path):
            missing.append(entry.directory)
    notes: list[Text] = []
    if missing and len(missing) == len(trials):
        notes.append(RESULTS_ONLY)
    elif missing:
        some = f"{', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}"
        notes.append(
            {
                "ko": f"실행 {len(trials)}개 가운데 {len(missing)}개의 기록(trial.json, metrics.jsonl)이 "
                f"없거나 깨졌다: {some}. "
                "곡선은 나머지만 그렸다.",
                "en": f"The files of {len(missing)} of {len(trials)} trials (trial.json, metrics.jsonl) "
                f"are missing or broken: {some}. "
                "The curves show the others.",
            }
        )
    if record.failures:
        count = len(record.failures)
        notes.append(
            {
                "ko": f"실행 {count}개가 실패했다. 까닭은 ‘자세한 정보’에 있다.",
                "en": f"{count} trials failed; the reasons are under Details.",
            },
        )
    diverged = sum(trial.result is not None and trial.result.status == "diverged" for trial in trials)
    if diverged:
        notes.append(
            {
                "ko": (
                    f"실행 {diverged}개가 발산했다. 손실이 유한하지 않게 된 때에 멈췄고, 그때 신경망의 오류로 셈에 "
                    "들어 있다."
                ),
                "en": (
                    f"{diverged} trials diverged: they stopped when the loss was no longer finite, and count with "
                    "their "
                    "errors at that point."
                ),
            }
        )
    return StudyRecord(record, trials, notes)


def _interrupted(directory: Path, paths: list[Path]) -> StudyRecord:
    """Return the record of a study that has trials and no `study.json`."""
    trials = [read_trial(path) for path in paths]
    done = sum(trial.result is not None for trial in trials)
    started = len(trials) - done
    note: Text = {
        "ko": "study.json이 없다: 주장을 판정하기 전에 멈춘 실험이다. "
        f"끝난 실행은 {done}개, 시작만 한 실행은 {started}개. "
        "아래는 지금까지의 기록이다. 같은 명령을 다시 실행하면 빠진 것만 마저 잰다.",
        "en": f"There is no study.json: the study stopped before its claims were decided. "
        f"{done} trials had finished and {started} had begun. "
        "The records so far are below; run the same command again to complete the study.",
    }
    name = directory.resolve().name
    title: Text = {"ko": f"{name} (중단됨)", "en": f"{name} (interrupted)"}
    return StudyRecord(Record(study=name, title=title), trials, [note])


def read_trial(path: Path, group: str | None = None, result: Outcome | None = None) -> Trial:
    """Return a trial from its directory; its group and result as given, or else from the files."""
    config = _read(path / TRIAL, TrialFile)
    if group is None:
        settings = config.get("config", {})
        options = settings.get("options") or {}
        group = " ".join([str(settings.get("model", path.name)), *(f"{key}={value}" for key, value in options.items())])
    if result is None:
        found = _read(path / RESULT, TrialOutcome)
        result = Outcome(**found) if found else None
    return Trial(group, list(_metrics(path)), config, result, read_confusion(path))


def _damaged(path: Path) -> bool:
    try:
        check_files(path, TRIAL, METRICS)
    except DamagedError:
        return True
    return False


def _read(path: Path, kind: type[Shape]) -> Json:
    """Return a file's record, or an empty one if it is missing or broken."""
    try:
        return read_record(path, kind)
    except (OSError, DamagedError):
        return {}


def _metrics(path: Path) -> Iterator[Json]:
    """Yield the lines of metrics up to the first that cannot be read."""
    try:
        yield from read_metrics(path, Line)
    except (OSError, DamagedError):
        return


def summary_rows(record: Record) -> list[dict[str, Any]]:
    """Return one row per group: the number of seeds, and mean and std of the final errors, as fractions."""
    groups: dict[str, list[Outcome]] = {}
    for trial in record.trials:
        groups.setdefault(trial.group, []).append(trial.result)
    return summarise(groups)


def summarise(groups: Mapping[str, Sequence[Outcome]]) -> list[dict[str, Any]]:
    """Return the rows of these groups' results."""
    rows = []
    for group, results in groups.items():
        row: dict[str, Any] = {
            "group": group,
            "n": len(results),
            "params": results[0].params,
            "diverged": sum(result.status == "diverged" for result in results),
        }
        for split in ("train_error", "test_error"):
            values = np.array(
                [np.nan if (value := getattr(result, split)) is None else value for result in results], dtype=float
            )
            row[split] = float(values.mean())
            row[f"{split}_std"] = float(values.std(ddof=1)) if len(values) > 1 else None
        rows.append(row)
    return rows


def command(record: Record | Origin) -> str:
    """Return the command line that measures a study again, every setting spelled out; a user's own by its file."""
    known = record.study in shipped().studies
    words = ["reslab", "study", *([record.study] if known else ["--from", f"{record.study}.py"])]
    for key, value in record.config.items():
        if value is not None:
            words += [
                f"--{key.replace('_', '-')}",
                (",".join(map(str, value)) or "none") if isinstance(value, list) else str(value),
            ]
    return shlex.join(words)
