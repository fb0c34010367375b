"""The shapes of the files in a run directory, against which they are checked when read."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from reslab.files import Shape

Value = str | bool | int | float | None
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Settings(Shape):
    """The fields of a trial's config that are shown."""

    model: str | None = None
    options: dict[str, Value] = Field(default_factory=dict)
    recipe: dict[str, JsonValue] = Field(default_factory=dict)


class Environment(Shape):
    """Where a trial ran."""

    packages: dict[str, str] = Field(default_factory=dict)


class TrialFile(Shape):
    """What `trial.json` holds."""

    config: Settings
    environment: Environment = Field(default_factory=Environment)


class Line(Shape):
    """A line of `metrics.jsonl`: numbers, or null."""

    __pydantic_extra__: dict[str, Number | None]


class Progress(Shape):
    """What `progress.json` holds."""

    step: int = Field(gt=0)
    steps: int = Field(gt=0)
    epoch: int
    epochs: int
    loss: float
    train_error: float | None
    heldout_error: float | None
    seconds: float
    images_per_second: float


class Bits(Shape):
    """A bit per image, in hex."""

    images: int = Field(ge=0)
    bits: str = Field(pattern="^([0-9a-f]{2})*$")

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.bits) != 2 * -(-self.images // 8):
            raise ValueError(f"{len(self.bits)} digits are not the bits of {self.images} images")
        return self


class WrongFile(Shape):
    """What `wrong.json` holds: a part's name, and its bits."""

    __pydantic_extra__: dict[str, Bits]


class Confusion(Shape):
    """What `confusion.json` holds: a part's name, and a row of counts per class."""

    __pydantic_extra__: dict[str, list[list[Annotated[int, Field(ge=0)]]]]


class Outcome(Shape):
    """The fields of any run's `result.json` that are shown."""

    status: Literal["finished", "diverged"]
    params: int | None = None
    train_error: Share | None = None
    test_error: Share | None = None
