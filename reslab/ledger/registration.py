"""Registrations: a study's claims, settings, seeds and code, fixed in a small file before the seeds are run.

A record contains its registration and the SHA-256 of that file. Evidence from a record without one, or from a record
that departs from it, is *exploratory*; `exploratory` returns the reason.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from reslab.ledger.claim import Claim, Direction, Text, Words
from reslab.ledger.comparison import TRAINED
from reslab.ledger.estimate import SKEWED
from reslab.ledger.record import Finite, Part, Reason, Record, Value, Verdict
from reslab.ledger.verdict import MINIMUM_SEEDS

SEEDS = ("seeds", "first_seed")
"""The settings of a study that determine its seeds."""


class RegisteredClaim(Part):
    """The parts of a claim that are fixed before its seeds are run."""

    id: str
    statement: Text
    direction: Direction
    margin: Finite
    margin_why: Text | None
    published: Finite | None
    unit: Words
    revision: int
    same_as: str | None


class Registration(Part):
    """A study's claims, settings, seeds and looks, error rate, guards, and the digests of the training, measuring and
    deciding code.

    `looks` are numbers of seeds; after each, claims are decided with an equal share of the error rate.
    """

    registration: Literal[1] = 1
    study: str
    date: str
    claims: list[RegisteredClaim]
    config: dict[str, Value | list[Value]]
    seeds: list[int]
    looks: list[int]
    error_rate: Annotated[float, Field(gt=0, lt=1)]
    guards: dict[str, float]
    code: dict[str, str]

    @property
    def share(self) -> float:
        """Return the share of the error rate of one look."""
        return self.error_rate / len(self.looks)

    def text(self) -> str:
        """Return the file's text."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, indent=2, allow_nan=False) + "\n"

    def sha256(self) -> str:
        """Return the SHA-256 of the file's text."""
        return hashlib.sha256(self.text().encode()).hexdigest()


GUARDS = {"trained": TRAINED, "minimum seeds": MINIMUM_SEEDS, "skewness without sign test": SKEWED}
"""Rules that keep a comparison from being decided, apart from the study's own."""


def registered(claim: Claim | Verdict) -> RegisteredClaim:
    """Return the parts of a statistical claim that a registration fixes."""
    return RegisteredClaim(**{name: getattr(claim, name) for name in RegisteredClaim.model_fields})


def seeds_of(record: Record) -> set[int]:
    """Return the seeds of a record's trials, and those in its settings."""
    first, count = (record.config.get(name) for name in reversed(SEEDS))
    named = range(first, first + count) if isinstance(first, int) and isinstance(count, int) else ()
    return {*named, *(trial.seed for trial in record.trials if trial.seed is not None)}


def seen(claims: Sequence[Claim | Verdict], data: Value | list[Value], known: Sequence[Record]) -> set[int]:
    """Return the seeds of records with the current revision of any of these claims, on this data set."""
    ours = {(claim.id, claim.revision) for claim in claims if claim.kind == "statistical"}
    return {
        seed
        for record in known
        if record.config.get("data") == data and ours & {(claim.id, claim.revision) for claim in record.claims}
        for seed in seeds_of(record)
    }


def exploratory(record: Record, claim: Verdict, known: Sequence[Record] = ()) -> Reason | None:
    """Return why a record's evidence for a statistical claim is exploratory; None if it is registered.

    An earlier record is one of `known` that was registered earlier, or comes from a version without registrations.
    """
    if record.registration is None:
        return Reason(code="unregistered")
    try:
        given = Registration.model_validate(record.registration)
    except ValidationError:
        return Reason(code="registration-changed")
    if given.sha256() != record.registered:
        return Reason(code="registration-changed")
    if differing := sorted(part for part in given.code if given.code[part] != record.code.get(part)):
        return Reason(code="other-code", values={"parts": [*differing]})
    if registered(claim) not in given.claims:
        return Reason(code="other-claim")
    settings = {name: value for name, value in record.config.items() if name not in SEEDS}
    if settings != {name: value for name, value in given.config.items() if name not in SEEDS}:
        return Reason(code="other-settings")
    ran = seeds_of(record)
    if given.study != record.study or not any(ran == set(given.seeds[:look]) for look in given.looks):
        return Reason(code="other-seeds")
    earlier = [other for other in known if other is not record and _earlier(other, given)]
    if again := sorted(ran & seen([claim], record.config.get("data"), earlier)):
        return Reason(code="seen-seeds", values={"seeds": [*again]})
    return None


def _earlier(record: Record, than: Registration) -> bool:
    if record.registration is None:
        return not record.code  # which version 3 knows
    return str(record.registration.get("date", "")) < than.date
