"""A learner's record: language, opened hints and solutions, and points, in `progress.json` beside the answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from reslab.errors import DamagedError, Language, worded
from reslab.exercises.checking import Checked
from reslab.exercises.sheets import LANGUAGES
from reslab.files import read_json, write_json


class Record:
    """The record in a learner's directory; every change is on disk when a method returns."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "progress.json"

    def read(self) -> dict[str, Any]:
        """Return the whole record.

        Raises:
            UserError: if the file cannot be read.
        """
        empty: dict[str, Any] = {"language": None, "hints": {}, "solutions": [], "tasks": {}}
        if not self.path.exists():
            return empty
        try:
            record: dict[str, Any] = empty | read_json(self.path)
            _check(record)
        except (OSError, ValueError, TypeError) as error:
            raise DamagedError(*worded("record-damaged", file=self.path, error=error)) from error
        return record

    def set_language(self, language: Language) -> None:
        """Record the learner's language."""
        with self._changing() as record:
            record["language"] = language

    def open_hint(self, task: str, available: int) -> int:
        """Record that the next hint of a task is opened, and return its index; after the last, that of the last."""
        with self._changing() as record:
            opened = min(record["hints"].get(task, 0) + 1, available)
            record["hints"][task] = opened
        return int(opened) - 1

    def open_solution(self, task: str) -> None:
        """Record that a solution was opened."""
        with self._changing() as record:
            record["solutions"] = sorted({*record["solutions"], task})

    def add(self, results: list[Checked]) -> None:
        """Record the points of tasks: the last and the best."""
        with self._changing() as record:
            for result in results:
                best = max(result.points, record["tasks"].get(result.task, {}).get("best", 0))
                when = datetime.now(UTC).isoformat(timespec="seconds")
                record["tasks"][result.task] = {"points": result.points, "best": best, "of": result.of, "when": when}

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """Give the record under a lock, and write it back unless an error occurs."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(".progress.lock")):
            record = self.read()
            yield record
            write_json(self.path, record)


def _check(record: dict[str, Any]) -> None:
    """Check that a record is of the kinds that are written.

    Raises:
        ValueError: if not.
    """
    kinds = {"hints": dict, "solutions": list, "tasks": dict}
    sound = record["language"] in (None, *LANGUAGES) and all(
        isinstance(record[key], kind) for key, kind in kinds.items()
    )
    sound = sound and all(isinstance(opened, int) and opened > 0 for opened in record["hints"].values())
    sound = sound and all(isinstance(name, str) for name in record["solutions"])
    sound = sound and all(
        isinstance(task, dict) and isinstance(task.get("best"), int) for task in record["tasks"].values()
    )
    if not sound:
        raise ValueError("it was not written by this program")
