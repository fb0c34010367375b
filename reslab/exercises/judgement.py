"""The judgement of a part of an answer, as a record."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["right", "wrong", "missing", "unfinished", "error", "stopped"]


@dataclass(frozen=True)
class Judgement:
    """The points of one part of an answer, and the reason.

    `mistakes` are keys of feedback.toml. For the first wrong input, `input` is the call as Python, `expected` and
    `came` are the outcomes, `in_korean` both of them if they read otherwise, and `printed` is the output. `line` is in
    the answer's file; `seconds` are of CPU time, including the reference solution's.
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
    in_korean: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the judgement as a JSON record."""
        return asdict(self) | {"mistakes": list(self.mistakes)}
