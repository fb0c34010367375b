"""The weights that a trial starts from, unless it starts fresh."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from reslab.runs import Config


class Start(Config):
    """Initial weights, identified by their content; their path is not part of the trial's identity."""

    later = ("whole",)
    sha256: str
    file: Path | None = Field(None, exclude=True)
    zero_pad: Literal["end", "centred"] | None = None
    whole: bool = Field(False, description="with their classifier, as a run that is trained longer")


class Started(Config):
    """A config with optional initial weights."""

    later: ClassVar[tuple[str, ...]] = ("start",)
    start: Start | None = Field(None, description="weights that it starts from, by default but for a new classifier")
