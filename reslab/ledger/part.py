"""What records and registrations are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class Part(BaseModel):
    """A part of a record; what a newer lab adds to it is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


Value = str | int | float | None
Setting = Value | list[Value]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Reason(Part):
    """Why a verdict is what it is: a code, and the values that go with it; `said` is a text that no code stands for."""

    code: str
    values: dict[str, JsonValue] = {}
