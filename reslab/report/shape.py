"""What the page takes for granted of the files it reads: said once, and checked before anything is drawn."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from reslab import runs
from reslab.files import Shape
from reslab.ledger.claim import SECTIONS
from reslab.runs import Number, Value

GRIDS = ("heatmap", "contours")
"""Kinds of pictures whose series have a value at each x and y."""


LARGEST = 1e100
"""A larger number is no measurement, and no picture has room for it."""


def _in_room(value: float) -> float:
    if abs(value) > LARGEST:
        raise ValueError(f"{value} has no place in a picture")
    return value


Place = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Height = Annotated[float, AfterValidator(_in_room)]
"""May be NaN, which is not drawn."""
Spread = Annotated[float, Field(ge=0, le=LARGEST)]


class Text(Shape):
    """A sentence in both languages."""

    ko: str
    en: str


Path = Annotated[str, Field(pattern=r"^[\w-]+(/[\w-]+)*$")]
"""Below the study's directory, never out of it."""


class Claim(Shape):
    """A claim with its verdict."""

    id: str
    kind: Literal["exact", "statistical", "cited"]
    section: str
    statement: Text
    source: str
    direction: Literal["higher", "lower", "not higher"] | None
    margin: float | None
    unit: str
    corrects: Text | None = None
    verdict: Literal["supported", "refuted", "inconclusive"]
    effect: float | None
    interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    level: float | None
    n: int | None
    method: str
    reason: str

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.section not in SECTIONS:
            raise ValueError(f"no section {self.section!r}")
        if self.kind == "statistical" and (self.direction is None or self.margin is None):
            raise ValueError("a statistical claim has a direction and a margin")
        if self.interval is not None and (self.effect is None or self.level is None):
            raise ValueError("an interval is of an effect, at a level")
        return self


class Table(Shape):
    """Figures in rows."""

    title: Text
    columns: list[str]
    rows: list[list[Value]]

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("a row has other columns than the table")
        return self


class Series(Shape):
    """One line, or one grid, of a chart."""

    name: str | Text
    x: list[Place] | list[str]
    y: list[Height | None] | list[str]
    spread: list[Spread | None] | None = None
    text: list[str] | None = None
    kind: str | None = None
    z: list[list[Height | None]] | None = None


class Band(Shape):
    """A shaded part of a chart."""

    name: Text
    first: Place | str
    last: Place | str


class Chart(Shape):
    """A picture: see `reslab.studies.study.Chart`."""

    title: Text
    caption: Text
    x: Text
    y: Text
    series: list[Series]
    kind: str = "lines"
    log_x: bool = False
    log_y: bool = False
    z: Text | None = None
    arrangement: str = "together"
    bands: list[Band] = Field(default_factory=list)
    marks: list[Place | str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        for series in self.series if self.kind not in GRIDS else []:
            if any(len(part) != len(series.x) for part in (series.y, series.spread, series.text) if part is not None):
                raise ValueError("the parts of a series differ in length")
            if any(isinstance(y, str) for y in series.y):
                raise ValueError("a series has texts for heights")
        return self

    @model_validator(mode="after")
    def _whole_grids(self) -> Self:
        least = 2 if self.kind == "contours" else 1
        for series in self.series if self.kind in GRIDS else []:
            rows = series.z if series.z and any(series.z) else []  # one that is empty is not drawn
            if rows and (any(len(row) != len(series.x) for row in rows) or len(rows) != len(series.y) or min(len(rows), len(series.x)) < least):
                raise ValueError("a grid has no value for each x and y")
        return self


class Result(Shape):
    """A trial's outcome."""

    status: str = ""
    params: int | None = None
    train_error: float | None = None
    test_error: float | None = None


class Entry(Shape):
    """A trial in a study's record."""

    group: str
    directory: Path
    result: Result


class FailedConfig(Shape):
    """The config of a trial that failed, as far as it is shown."""

    model: str
    options: dict[str, Value]
    seed: int


class Failed(Shape):
    """A trial that failed, and why."""

    config: FailedConfig
    reason: str


class Record(Shape):
    """What `study.json` holds."""

    study: str
    title: Text
    question: Text | None
    config: dict[str, Value | list[Value]]
    claims: list[Claim]
    tables: list[Table]
    charts: list[Chart]
    trials: list[Entry]
    failures: list[Failed]

    @model_validator(mode="after")
    def _each_claim_once(self) -> Self:
        ids = [claim.id for claim in self.claims]
        if len(set(ids)) < len(ids):
            raise ValueError("a claim stands in it twice")
        return self


class Line(runs.Line):
    """A line of a trial's metrics, as far as it is drawn."""

    epoch: Number
    train_error: float | None
