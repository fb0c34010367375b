"""The schema of a study's record: claims, verdicts, evidence, tables, charts and trials.

Studies construct these models, `study.json` is their dump, and reading validates it. The basis of a verdict is data: a
reason is a code with values (`reslab.ledger.wording` turns it into words), and the values of each seed are stored
beside it, so that anyone can decide again.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from reslab.ledger.claim import SECTIONS, Decision, Direction, Kind, Text, Words

GRIDS = ("heatmap", "contours")
"""Kinds of pictures whose series are grids, with a value at each x and y."""

LARGEST = 1e100
"""A larger number cannot be a measurement, and cannot be drawn."""


class Part(BaseModel):
    """A part of a record; unknown fields, from newer versions, are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


Value = str | bool | int | float | None


def _in_room(value: float) -> float:
    if abs(value) > LARGEST:
        raise ValueError(f"{value} is not finite, so it cannot be drawn")
    return value


Place = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Height = Annotated[float, AfterValidator(_in_room)]
"""May be NaN, which is not drawn."""
Spread = Annotated[float, Field(ge=0, le=LARGEST)]
Interval = Annotated[
    tuple[float, float], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
]
"""JSON has only lists."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
SEED_DIGITS = 20
"""The most that a seed has."""
BySeed = dict[Annotated[str, Field(pattern=f"^(0|[1-9][0-9]{{0,{SEED_DIGITS - 1}}})$")], Finite]

Directory = Annotated[str, Field(pattern=r"^[\w-]+(/[\w-]+)*$")]
"""Inside the study's directory, never outside."""


class Reason(Part):
    """The reason for a verdict: a code and its values; `said` is a text without a code."""

    code: str
    values: dict[str, JsonValue] = {}

    @staticmethod
    def diverged(groups: Mapping[str, tuple[int, int]]) -> "Reason | None":
        """Return that networks of a group diverged, so that those left did better than the group; None if none did.

        Args:
            groups: how many networks of each group did not, and how many it has.
        """
        for kind, (sound, n) in groups.items():
            if sound < n:
                return Reason(code="diverged", values={"gone": n - sound, "n": n, "kind": kind})
        return None


Way = Literal["opposite", "under-margin", "no-effect", "not-as-large"]
"""How a claim is refuted: the opposite holds; it holds, but by less than the margin; no effect is as large as the
margin, in either direction; or one of the first and the last.
"""


class Failures(Part):
    """The number of a group's runs that did not train, the number of runs, and the upper bound of the rate at 95 %
    confidence.
    """

    failed: Annotated[int, Field(ge=0)]
    of: Annotated[int, Field(ge=1)]
    bound: Annotated[float, Field(ge=0, le=1)]


class Verdict(Part):
    """A claim with its verdict and evidence.

    `treatment` and `control` have a value per seed, or `control` is the one number that all are compared with;
    `measured` and `expected` are an exact claim's. `resolution` and `room` are the comparison's
    (`reslab.ledger.comparison.Comparison`), and `untested` is the reason if it decides nothing. `rate` is true if the
    unit is an error rate, which is shown in percent. A claim that was not measured has no verdict and none of its
    fields.

    `interval` is simultaneous with those of the study's other claims, at `level`; `p` is adjusted by Holm's procedure,
    and `share` is the part of the error rate at which it was decided. `signs` is the p-value of the exact test, if it
    was used. `way` is how a claim is refuted, and `needed` the number of seeds that would decide an inconclusive one.
    `failed` counts the runs of each group that did not train.
    """

    id: str
    kind: Kind
    section: str | None
    statement: Text
    source: str
    direction: Direction | None = None
    margin: Finite | None = None
    unit: Words = ""
    rate: bool = False
    corrects: Text | None = None
    revision: Annotated[int, Field(ge=1)] = 1
    margin_why: Text | None = None
    published: Finite | None = None
    same_as: str | None = None
    verdict: Decision | None = None
    way: Way | None = None
    effect: float | None = None
    interval: Interval | None = None
    level: float | None = None
    n: int | None = None
    method: str | None = None
    reason: Reason | None = None
    treatment: BySeed | None = None
    control: BySeed | Finite | None = None
    p: Annotated[float, Field(ge=0, le=1)] | None = None
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    signs: Annotated[float, Field(ge=0, le=1)] | None = None
    needed: int | Literal["none", "many"] | None = None
    failed: dict[str, Failures] = {}
    untested: Reason | None = None
    resolution: Annotated[Finite, Field(ge=0)] = 0.0
    room: bool = False
    grain: Annotated[Finite, Field(ge=0)] = 0.0
    paired: bool = False
    measured: JsonValue = None
    expected: JsonValue = None

    @property
    def decision(self) -> str | None:
        """Return the verdict, under its name of version 0.1."""
        return self.verdict

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.section is not None and self.section not in SECTIONS:
            raise ValueError(f"no section {self.section!r}")
        if self.kind == "statistical" and (self.direction is None or self.margin is None):
            raise ValueError("a statistical claim has a direction and a margin")
        if self.room and self.direction != "lower":
            raise ValueError("room is given only with the direction lower")
        if self.interval is not None and (self.effect is None or self.level is None):
            raise ValueError("an interval needs an effect and a level")
        return self


class Table(Part):
    """A table of measured figures, with the columns' names."""

    title: Text
    columns: list[Words]
    rows: list[list[Value]]

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("a row does not have the table's columns")
        return self


class Series(Part):
    """One line or set of bars of a chart; `spread` is one standard deviation over seeds, `text` the tooltip of each
    point.

    `kind` overrides the chart's. A series of a heat map or of contours has a value
    `z[row][column]` at each `y` and `x`.
    """

    name: Words
    x: list[Place] | list[str]
    y: list[Height | None] | list[str]
    spread: list[Spread | None] | None = None
    text: list[str] | None = None
    kind: str | None = None
    z: list[list[Height | None]] | None = None


class Band(Part):
    """A shaded part of a chart, from one `x` to another, inclusive, with its name above."""

    name: Text
    first: Place | str
    last: Place | str


class Chart(Part):
    """A figure of the report, with a caption.

    `z` names the colours of a heat map or of contours. The series share one picture, have a panel each, or are shown
    one at a time by a slider; all panels and slider positions have the same axes and colours. `marks` are the `x` that
    the caption refers to. With `rate`, heights are error rates, which are shown in percent.
    """

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
    bands: list[Band] = []
    marks: list[Place | str] = []
    rate: bool = False

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        for series in self.series if self.kind not in GRIDS else []:
            if any(len(part) != len(series.x) for part in (series.y, series.spread, series.text) if part is not None):
                raise ValueError("the parts of a series differ in length")
            if any(isinstance(y, str) for y in series.y):
                raise ValueError("a series has texts as heights")
        return self

    @model_validator(mode="after")
    def _whole_grids(self) -> Self:
        least = 2 if self.kind == "contours" else 1
        for series in self.series if self.kind in GRIDS else []:
            rows = series.z if series.z and any(series.z) else []  # an empty one is not drawn
            if rows and (
                any(len(row) != len(series.x) for row in rows)
                or len(rows) != len(series.y)
                or min(len(rows), len(series.x)) < least
            ):
                raise ValueError("a grid does not have one value per x and y")
        return self


class Outcome(Part):
    """A trial's complete outcome."""

    model_config = ConfigDict(frozen=True, extra="allow")

    status: str = ""
    params: int | None = None
    train_error: float | None = None
    test_error: float | None = None


class Entry(Part):
    """A trial in a study's record."""

    group: str
    directory: Directory
    seed: int | None = None
    config: dict[str, JsonValue] = {}
    result: Outcome


class FailedConfig(Part):
    """The config of a failed trial."""

    model_config = ConfigDict(frozen=True, extra="allow")

    model: str
    options: dict[str, Value]
    seed: int


class Failed(Part):
    """A failed trial, and the reason."""

    config: FailedConfig
    reason: str


class Record(Part):
    """The content of `study.json`; it does not depend on the time or on the number of workers.

    `code` has the digests of the code that trained, measured and decided. `registration` was fixed before the seeds
    were run (`reslab.ledger.registration`), and `registered` is the SHA-256 of its file.

    `images` is the fingerprint of the images that a registered study without trials measured on; trials have their own.
    `error_rate` is shared by the study's claims, at this look. Records of version 0.1 have no schema version;
    `reslab.ledger.migration` reads them.
    """

    version: Literal[3] = 3
    study: str
    title: Text
    question: Text | None = None
    config: dict[str, Value | list[Value]] = {}
    claims: list[Verdict] = []
    tables: list[Table] = []
    charts: list[Chart] = []
    trials: list[Entry] = []
    failures: list[Failed] = []
    error_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
    code: dict[str, str] = {}
    registered: str | None = None
    registration: dict[str, JsonValue] | None = None
    images: str = ""

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialise(self).items() if value or key != "images"}

    @model_validator(mode="after")
    def _each_claim_once(self) -> Self:
        ids = [claim.id for claim in self.claims]
        if len(set(ids)) < len(ids):
            raise ValueError("it has the same claim twice")
        if any(claim.verdict is None for claim in self.claims):
            raise ValueError("a claim has no verdict")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the record as in `study.json`."""
        return self.model_dump(mode="json")
