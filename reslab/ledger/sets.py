"""Sets of seeds: what each record shows of its claims, where it comes from, and whether its seeds count."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from reslab.ledger.claim import Claim
from reslab.ledger.comparison import TRAINED
from reslab.ledger.record import Part, Reason, Record, Value, Verdict
from reslab.ledger.registration import SEEDS, Ran, exploratory, ran, seeds_of
from reslab.naming import without_path

WRITTEN_ON = range(5)
"""The seeds on which claims were written, whose evidence is exploratory."""

UNGUARDED = {"successors.compound-scaling-beats-width": ("efficientnet-compound", "efficientnet-wider")}
"""Claims of which version 0.1 asked only one side whether it was trained, with the groups of both. A set in which one
was not is exploratory.
"""

MACHINE = ("threads", "device")
"""Settings about where a study runs, not about what it measures."""

WORDS = ("section", "statement", "source", "unit", "rate", "corrects", "margin_why", "published", "same_as")
"""The parts of a claim that may be put better without another revision. Only `same_as` has a say in a verdict: claims
decided by the same numbers share their part of the error rate.
"""

Standing = Literal["registered", "repeated", "exploratory"]
"""Registered before its seeds were run; from version 0.1, which had no registrations, on seeds unseen when the claim
was written; or neither.
"""
STANDINGS: tuple[Standing, ...] = ("registered", "repeated", "exploratory")
"""The best first."""
RANK: dict[str, int] = {standing: rank for rank, standing in enumerate(reversed(STANDINGS), start=1)}


class Origin(Part):
    """The origin of a set's verdicts: a record, without its pictures, tables and trials.

    `steps` are the fewest and the most training steps of its trials. `registered` is the SHA-256 of its registration
    and `date` is that file's date; `earlier` is true for version 0.1.
    """

    study: str
    config: dict[str, Value | list[Value]]
    seeds: list[int]
    steps: tuple[int, int] | None = None
    error_rate: float = 0.05
    registered: str | None = None
    date: str = ""
    earlier: bool = False

    @property
    def data(self) -> str:
        """Return the name of the data set, without the path of a folder."""
        return without_path(str(self.config.get("data", "")))

    @property
    def settings(self) -> dict[str, Value | list[Value]]:
        """Return its scale: the settings without seeds and machine. Folders of one name may hold other images; any
        other data set is the same wherever it is kept.
        """
        kept = {key: value for key, value in self.config.items() if key not in (*SEEDS, *MACHINE)}
        if "data" in kept and not self.data.startswith("folder:"):
            kept["data"] = self.data
        return kept


@dataclass(frozen=True)
class SeedSet:
    """The verdict of one set of seeds on a claim, its standing, and why it is only exploratory, if it is."""

    origin: Origin
    verdict: Verdict
    standing: Standing
    why: Reason | None = None

    @property
    def seeds(self) -> set[int]:
        """Return the seeds of the record, and those with values in the verdict."""
        sides = (side for side in (self.verdict.treatment, self.verdict.control) if isinstance(side, dict))
        return {*self.origin.seeds, *(int(seed) for side in sides for seed in side)}

    def of(self, claim: Claim) -> bool:
        """Return whether it is about the current revision of the claim."""
        names = ("revision", "kind", *(("direction", "margin") if claim.kind == "statistical" else ()))
        return all(getattr(self.verdict, name) == getattr(claim, name) for name in names)

    def in_the_words_of(self, claim: Claim) -> "SeedSet":
        """Return this set with the claim's current words if it is about the current revision, and itself otherwise."""
        if not self.of(claim):
            return self
        words = {name: getattr(claim, name) for name in WORDS}
        return replace(self, verdict=self.verdict.model_copy(update=words))


def origin_of(record: Record) -> Origin:
    """Return the origin of a record's verdicts."""
    found = [(trial.result.model_extra or {}).get("steps") for trial in record.trials]
    steps = [count for count in found if isinstance(count, int)]
    return Origin(
        study=record.study,
        config=record.config,
        seeds=sorted(seeds_of(record)),
        steps=(min(steps), max(steps)) if steps else None,
        error_rate=record.error_rate,
        registered=record.registered,
        date=str((record.registration or {}).get("date", "")),
        earlier=not record.code,
    )


def seed_sets(records: Sequence[Record], known: Sequence[Ran] = ()) -> list[SeedSet]:
    """Return each record's evidence for each of its claims, given what these records and others have shown; a copy of a
    record says nothing that the record does not.
    """
    shown = [*map(ran, records), *known]
    found: list[SeedSet] = []
    told: dict[str, list[tuple[Origin, list[Verdict]]]] = {}  # by study
    for record in records:
        origin, others = origin_of(record), told.setdefault(record.study, [])
        if (origin, record.claims) not in others:
            others.append((origin, record.claims))
            found += [_seed_set(record, origin, verdict, shown) for verdict in record.claims]
    return found


def _seed_set(record: Record, origin: Origin, verdict: Verdict, known: Sequence[Ran]) -> SeedSet:
    why = exploratory(record, verdict, known) if verdict.kind == "statistical" else None
    if why is None:
        return SeedSet(origin, verdict, "registered")
    unseen = origin.earlier and not set(origin.seeds) & set(WRITTEN_ON)
    counts = unseen and not _untrained(record, verdict)
    return SeedSet(origin, verdict, "repeated" if counts else "exploratory", why)


def _untrained(record: Record, verdict: Verdict) -> bool:
    """Return whether a claim of `UNGUARDED` compares a network that was not trained."""
    errors = [trial.result.train_error for trial in record.trials if trial.group in UNGUARDED.get(verdict.id, ())]
    return any(error is None or not error <= TRAINED for error in errors)
