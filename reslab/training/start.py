"""The weights that a trial starts from, where it does not start fresh."""

from pathlib import Path
from typing import Literal

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
    """A config that may have a start; without one, nothing in it says so, as in configs older than starts."""

    start: Start | None = Field(None, description="weights that it starts from, but for a new classifier")

    @model_serializer(mode="wrap")
    def _without_absent_start(self, serialise: SerializerFunctionWrapHandler) -> Json:
        facts: Json = serialise(self)
        return facts if self.start is not None else {key: value for key, value in facts.items() if key != "start"}
