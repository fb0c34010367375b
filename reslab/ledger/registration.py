"""Registration: what a study claims and how it is decided, written down before its seeds are run.

A registration is a small file: the claims with their margins and why, the settings, the seeds, the looks, and digests
of the code that trains, measures and decides. A record carries it, with its SHA-256, so that whoever has the file, or
the commit it came in, can see that it is the older of the two. What departs from its registration, or has none, is
*exploratory*: it was seen when it was written, or may have been.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reslab.ledger.claim import Direction, Text, Words
from reslab.ledger.part import Finite, Part, Reason, Setting


class Code(Part):
    """Digests of the code that trains, of that which measures, and of that which decides."""

    trains: str
    measures: str
    decides: str


class Registered(Part):
    """A statistical claim as it is registered: what is compared with what, and from which effect on it holds."""

    id: str
    statement: Text
    direction: Direction
    margin: Annotated[Finite, Field(ge=0)]
    margin_why: Text | None = None
    unit: Words
    published: Finite | None = None
    revision: int = 1
    same_as: str | None = None

    @classmethod
    def of(cls, claim: object) -> Self:
        """Return a claim, or the verdict on one, as it is registered."""
        return cls.model_validate({name: getattr(claim, name) for name in cls.model_fields})


class Registration(Part):
    """What is registered of a study: `looks` are the numbers of seeds at which it may be decided, over which the error
    rate is split evenly.
    """

    version: Literal[1] = 1
    study: str
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    config: dict[str, Setting]
    first_seed: Annotated[int, Field(ge=0)]
    looks: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    error_rate: Annotated[float, Field(gt=0, lt=1)]
    claims: list[Registered]
    code: Code

    @model_validator(mode="after")
    def _growing(self) -> Self:
        if self.looks != sorted(set(self.looks)):
            raise ValueError("looks must grow")
        return self

    @property
    def seeds(self) -> range:
        """Return the seeds, as far as the last look."""
        return range(self.first_seed, self.first_seed + self.looks[-1])

    @property
    def share(self) -> float:
        """Return the error rate of one look: together they have no more than the whole (Bonferroni)."""
        return self.error_rate / len(self.looks)

    def departures(self, config: dict[str, Setting], code: Code | None, claims: Iterable[Registered]) -> list[Reason]:
        """Return in what a record of these settings, made by this code, departs from what was registered."""
        found = []
        apart = ("seeds", "first_seed")
        if differing := sorted(
            key for key in config | self.config if key not in apart and config.get(key) != self.config.get(key)
        ):
            found.append(Reason(code="other-settings", values={"settings": list(differing)}))
        first, seeds = config.get("first_seed"), config.get("seeds")
        if first != self.first_seed or seeds not in self.looks:
            found.append(Reason(code="other-seeds", values={"first": self.first_seed, "looks": list(self.looks)}))
        parts = [name for name in Code.model_fields if code is None or getattr(code, name) != getattr(self.code, name)]
        if parts:
            found.append(Reason(code="other-code", values={"parts": list(parts)}))
        known = {claim.id: claim for claim in self.claims}
        changed = sorted(claim.id for claim in claims if known.get(claim.id) != claim)
        if changed:
            found.append(Reason(code="other-claims", values={"claims": list(changed)}))
        return found


def sha256(file: bytes) -> str:
    """Return the SHA-256 of a registration's file."""
    return hashlib.sha256(file).hexdigest()
