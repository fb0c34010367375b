"""What was measured before, a file a run of a benchmark, and what has become slower since."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import field_validator

from reslab.errors import MissingError, worded
from reslab.files import Shape, read_record, write_json

FASTER = "times faster"
"""The one ratio of which more is better: of all others, less is."""

Change = Literal["faster", "slower", "alike"]


class Ratio(NamedTuple):
    """A ratio within one run: the median, lowest and highest round."""

    median: float
    low: float
    high: float


class Measured(Shape):
    """One run of a benchmark, as it is kept: when (ISO 8601), with which settings, and its figures, the machine among
    them.
    """

    version: Literal[1] = 1
    bench: str
    date: str
    settings: dict[str, Any]
    figures: dict[str, Any]

    @field_validator("settings")
    @classmethod
    def _has_a_number_of_rounds(cls, settings: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(settings.get("rounds", 1), int):
            raise ValueError("rounds are not a whole number")
        return settings

    @field_validator("figures")
    @classmethod
    def _is_of_a_machine(cls, figures: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(figures.get("machine"), dict):
            raise ValueError("they are of no machine")
        return figures

    @field_validator("date")
    @classmethod
    def _is_a_date(cls, date: str) -> str:
        datetime.fromisoformat(date)
        return date

    @property
    def kind(self) -> tuple[str, ...]:
        """Return what two runs must share to be compared: the benchmark, its settings, the CPU, and the GPU if any."""
        machine, settings = self.figures["machine"], {"device": "cpu", **self.settings}
        places = (str(machine.get(key)) for key in ("processor", "capability", "threads", "device"))
        return self.bench, *(f"--{key} {value}" for key, value in sorted(settings.items())), *places

    def ratios(self) -> dict[str, Ratio]:
        """Return the ratios by what was measured, and no seconds: those drift on a machine that is shared."""
        return dict(_ratios(self.figures))


LEAST_ROUNDS = 4
"""Of fewer rounds, those of two runs often lie apart by chance: two and two in a third of all cases."""


class Compared(NamedTuple):
    """A ratio before and now, each of so many rounds."""

    what: str
    before: Ratio
    now: Ratio
    rounds: int = LEAST_ROUNDS

    @property
    def change(self) -> Change:
        """Return what became of it: `alike` where the rounds of both overlap, or are too few to tell."""
        if self.rounds < LEAST_ROUNDS:
            return "alike"
        if self.now.low <= self.before.high and self.before.low <= self.now.high:
            return "alike"
        return "faster" if (self.now.median > self.before.median) == self.what.endswith(FASTER) else "slower"


def _ratios(figures: Mapping[str, Any], *above: str) -> Iterator[tuple[str, Ratio]]:
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from _ratios(value, *above, key)
        elif isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(each, float) for each in value):
            yield ", ".join((*above, key)), Ratio(*value)


def keep(bench: str, settings: Mapping[str, Any], figures: Mapping[str, Any], where: Path) -> Path:
    """Write what was measured into a file of its own in a directory, and return the file."""
    now = datetime.now(UTC)
    measured = Measured(bench=bench, date=now.isoformat(), settings=dict(settings), figures=dict(figures))
    file = where / f"{bench}-{now:%Y%m%d-%H%M%S-%f}.json"
    where.mkdir(parents=True, exist_ok=True)
    write_json(file, measured.model_dump())
    return file


def read(where: Path) -> list[Measured]:
    """Return what was measured and kept in a directory, the oldest first.

    Raises:
        UserError: if there is nothing, or a file is not one of these.
    """
    files = sorted(where.glob("*.json"))
    if not files:
        raise MissingError(*worded("no-figures-of-bench", where=where))
    found = [Measured.model_validate(read_record(file, Measured)) for file in files]
    return sorted(found, key=lambda measured: measured.date)


def latest(history: Sequence[Measured]) -> Iterator[tuple[Measured, Measured | None]]:
    """Yield the newest run of every kind, and the one of its kind before it, if there is any."""
    kinds: dict[tuple[str, ...], list[Measured]] = {}
    for measured in history:
        kinds.setdefault(measured.kind, []).append(measured)
    for runs in kinds.values():
        yield runs[-1], runs[-2] if len(runs) > 1 else None


def compare(before: Measured, now: Measured) -> list[Compared]:
    """Return every ratio that both runs have."""
    then, rounds = before.ratios(), now.settings.get("rounds", LEAST_ROUNDS)
    return [Compared(what, then[what], ratio, rounds) for what, ratio in now.ratios().items() if what in then]
