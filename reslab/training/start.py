"""The weights that a trial starts from, where it does not start fresh."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from reslab.files import Json
from reslab.runs import Config


class Start(BaseModel):
    """Weights that a trial starts from, known by their content; where they lie is not part of its identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    sha256: str
    file: Path | None = Field(None, exclude=True)
    zero_pad: Literal["end", "centred"] | None = None


class Started(Config):
    """A config that may have a start. Of what is `later` than the first configs and not set, nothing in it says so, so
    that it is known by the same hash as they are.
    """

    later: ClassVar[tuple[str, ...]] = ("start",)
    start: Start | None = Field(None, description="weights that it starts from, but for a new classifier")

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, serialise: SerializerFunctionWrapHandler) -> Json:
        return {key: value for key, value in serialise(self).items() if value or key not in self.later}
