"""What a part of an answer was worth, and why, as a record."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["right", "wrong", "missing", "unfinished", "error", "stopped"]


@dataclass(frozen=True)
class Judgement:
    """What one part of an answer was worth, and why.

    `mistakes` are the names under which feedback.toml explains it. Of the first input on which it was not right,
    `input` is the call as Python, and `expected`, `came` and `printed` what there was to see; `line` is of the answer's
    file, `seconds` are of CPU time, the reference solution's among them.
    """

    name: str
    status: Status
    points: int
    of: int
    expected: str = ""
    came: str = ""
    mistakes: tuple[str, ...] = ()
    line: int | None = None
    input: str = ""
    printed: str = ""
    seconds: float = field(default=0.0, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the judgement as a JSON record."""
        return asdict(self) | {"mistakes": list(self.mistakes)}
