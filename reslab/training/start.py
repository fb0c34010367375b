"""The weights that a trial starts from, where it does not start fresh."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from reslab.runs import Config


class Start(Config):
    """Weights that a trial starts from, known by their content; where they lie is not part of its identity."""

    later = ("whole",)
    sha256: str
    file: Path | None = Field(None, exclude=True)
    zero_pad: Literal["end", "centred"] | None = None
    whole: bool = Field(False, description="with their classifier, as a run that is trained longer")


class Started(Config):
    """A config that may have a start."""

    later: ClassVar[tuple[str, ...]] = ("start",)
    start: Start | None = Field(None, description="weights that it starts from, by default but for a new classifier")
