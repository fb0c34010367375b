"""Registrations: a study's claims, settings, seeds and code, fixed in a small file before the seeds are run.

A record contains its registration and the SHA-256 of that file. Evidence from a record without one, or from a record
that departs from it, is *exploratory*; `exploratory` returns the reason.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from reslab.ledger.claim import Claim, Direction, Text, Words
from reslab.ledger.comparison import TRAINED
from reslab.ledger.estimate import SKEWED, seeds_for_exact_tests
from reslab.ledger.record import Finite, Part, Reason, Record, Value, Verdict
from reslab.ledger.verdict import ERROR_RATE, MINIMUM_SEEDS
from reslab.naming import without_path

SEEDS = ("seeds", "first_seed")
"""The settings of a study that determine its seeds."""


def _increasing(looks: list[int]) -> list[int]:
    """Return numbers of seeds after which claims may be decided.

    Raises:
        ValueError: if they are none.
    """
    if not looks or looks != sorted({*looks}) or looks[0] < 1:
        raise ValueError(f"claims cannot be decided after {looks} seeds")
    return looks


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
    """A study's claims, settings, seeds and looks, error rate, guards, the digests of the training, measuring and
    deciding code, and the fingerprint of the images, which is empty where they cannot change.

    `looks` are numbers of seeds; after each, claims are decided with an equal share of the error rate.
    """

    registration: Literal[1] = 1
    study: str
    date: str
    claims: list[RegisteredClaim]
    config: dict[str, Value | list[Value]]
    seeds: list[int]
    looks: Annotated[list[int], AfterValidator(_increasing)]
    error_rate: Annotated[float, Field(gt=0, lt=1)]
    guards: dict[str, float]
    code: dict[str, str]
    images: str = ""

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Earlier files, which have no images, keep their text and its hash."""
        return {key: value for key, value in serialise(self).items() if value or key != "images"}

    @property
    def share(self) -> float:
        """Return the share of the error rate of one look."""
        return self.error_rate / len(self.looks)

    def seeds_for_exact_tests(self) -> tuple[int, int]:
        """Return with how many seeds the exact tests can decide whichever of its claims asks for one: of signs, where
        values are paired or of one group, and of ranks, between two.
        """
        ids = {claim.id for claim in self.claims}
        tests = sum(claim.same_as not in ids for claim in self.claims)
        return seeds_for_exact_tests(self.share / max(tests, 1))

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


class Ran(NamedTuple):
    """What a record has shown to whoever writes or registers claims: their ids, whatever their revision, and without a
    registration also those of claims with the same numbers (`same_as`); the seeds and data set on which they were
    measured; and the SHA-256 and the date of its registration, if it has one.
    """

    claims: frozenset[str]
    data: Value | list[Value]
    seeds: frozenset[int]
    registered: str | None = None
    date: str = ""


class Begun(Part):
    """What a study shows to whoever looks at its trials before it has a record: the fields of `Ran`."""

    claims: list[str]
    data: Value | list[Value]
    seeds: list[int]
    registered: str | None = None
    date: str = ""

    def ran(self) -> Ran:
        """Return what it has shown."""
        return Ran(frozenset(self.claims), self.data, frozenset(self.seeds), self.registered, self.date)


def ran(record: Record) -> Ran:
    """Return what a record has shown."""
    ids = named(record.claims) if record.registration is None else {claim.id for claim in record.claims}
    date = str((record.registration or {}).get("date", ""))
    return Ran(frozenset(ids), record.config.get("data"), frozenset(seeds_of(record)), record.registered, date)


def named(claims: Iterable[Claim | Verdict]) -> set[str]:
    """Return the ids of claims, and of those that have the same numbers."""
    return {id for claim in claims for id in (claim.id, claim.same_as) if id is not None}


def seen(claims: Sequence[Claim | Verdict], data: Value | list[Value], known: Iterable[Ran]) -> set[int]:
    """Return the seeds on which any of these claims, or one with the same numbers, was measured, on this data set,
    wherever its folder is. Studies that were registered for the same seeds do not show them to one another.
    """
    ours = [claim for claim in claims if claim.kind == "statistical"]
    ids, all_ids = {claim.id for claim in ours}, named(ours)
    alike = [one for one in known if _of_data(one.data) == _of_data(data)]
    return {seed for one in alike if (ids if one.registered else all_ids) & one.claims for seed in one.seeds}


def _of_data(data: Value | list[Value]) -> Value | list[Value]:
    return without_path(data) if isinstance(data, str) else data


def exploratory(record: Record, claim: Verdict, known: Iterable[Ran] = ()) -> Reason | None:
    """Return why a record's evidence for a statistical claim is exploratory; None if it is registered.

    What is not registered counts as earlier, as a record does not say when it was made.
    """
    if record.registration is None:
        return Reason(code="unregistered")
    try:
        given = Registration.model_validate(record.registration)
    except ValidationError:
        return Reason(code="registration-changed")
    if given.sha256() != record.registered:
        return Reason(code="registration-changed")
    if not given.code or given.code != record.code:
        parts = sorted(part for part, _ in given.code.items() ^ record.code.items())
        return Reason(code="other-code", values={"parts": [*dict.fromkeys(parts)]})
    if registered(claim) not in given.claims:
        return Reason(code="other-claim")
    settings = {name: value for name, value in record.config.items() if name not in SEEDS}
    if settings != {name: value for name, value in given.config.items() if name not in SEEDS}:
        return Reason(code="other-settings")
    if not math.isclose(record.error_rate, given.share) or (given.error_rate, given.guards) != (ERROR_RATE, GUARDS):
        return Reason(code="other-settings")
    images = {(trial.result.model_extra or {}).get("images", "") for trial in record.trials} or {record.images}
    if given.images and not images <= {given.images}:
        return Reason(code="other-images")
    seeds = seeds_of(record)
    if given.study != record.study or not any(seeds == set(given.seeds[:look]) for look in given.looks):
        return Reason(code="other-seeds")
    measured = [side for side in (claim.treatment, claim.control) if isinstance(side, Mapping) and side]
    # without room they are decided again together with other seeds
    sides = [] if claim.untested and claim.untested.code != "no-room" else measured
    if missing := sorted({seed for side in sides for seed in seeds if str(seed) not in side}):
        return Reason(code="missing-seeds", values={"seeds": [*missing]})
    earlier = [one for one in known if one.registered != record.registered and one.date <= given.date]
    if again := sorted(seeds & seen([claim], record.config.get("data"), earlier)):
        return Reason(code="seen-seeds", values={"seeds": [*again]})
    return None
