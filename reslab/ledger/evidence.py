"""The evidence for each claim: sets of seeds by the scale at which they ran, and the headline verdict.

The headline is the pooled evidence, at one scale, of all sets that were run after the claim was fixed: registered ones,
and those of version 0.1 with other seeds than those on which claims were written. Without such sets it is the newest
exploratory one. Of several scales, that with the best seeds leads, and of several such the one that is given first.
A set that ran before the claim was revised does not count for the current claim.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reslab.ledger.again import claim_of
from reslab.ledger.claim import Claim
from reslab.ledger.estimate import MOST_SEEDS
from reslab.ledger.pooling import LEAST_DATA_SETS, Pooled, RandomEffects, pool, random_effects
from reslab.ledger.record import LARGEST, Reason, Value, Verdict
from reslab.ledger.sets import RANK, STANDINGS, Origin, SeedSet, Standing
from reslab.ledger.verdict import cite
from reslab.naming import without_path


@dataclass(frozen=True)
class AtScale:
    """The evidence for a claim at one scale: a data set and settings.

    `verdict` is that of the `pooled` sets, or else of the newest exploratory one; None if no set is about the current
    claim. `error` is the effect's standard error and `between` the p-value for equal means of the pooled sets, if
    known.
    """

    sets: tuple[SeedSet, ...]
    verdict: Verdict | None
    standing: Standing | None = None
    pooled: tuple[SeedSet, ...] = ()
    error: float | None = None
    between: float | None = None

    @property
    def origin(self) -> Origin:
        """Return the origin of the last of the pooled sets, or of all sets."""
        return (self.pooled or self.sets)[-1].origin

    @property
    def seeds(self) -> list[int]:
        """Return the seeds that the verdict is of."""
        leading = self.pooled or [one for one in self.sets if one.verdict is self.verdict]
        return sorted(seed for one in leading for seed in one.origin.seeds)


@dataclass(frozen=True)
class Evidence:
    """The evidence for one claim: first at the scale of the headline, then at others; and the result over data sets, or
    why there is none.
    """

    claim: Claim
    scales: tuple[AtScale, ...]
    over_data: RandomEffects | Reason

    @property
    def study(self) -> str:
        """Return the study that decides it."""
        return self.claim.id.partition(".")[0]

    @property
    def headline(self) -> Verdict | None:
        """Return the verdict, if there is any."""
        return cite(self.claim) if self.claim.kind == "cited" else self.scales[0].verdict if self.scales else None

    def on(self, data: str) -> Verdict | None:
        """Return the verdict on a data set, at the first of its scales; None if there is none."""
        return next((scale.verdict for scale in self.scales if scale.origin.data == without_path(data)), None)

    def at(self, origin: Origin) -> Verdict | None:
        """Return the verdict at the scale of a record; None if it says nothing of the claim."""
        scales = (scale for scale in self.scales if any(one.origin == origin for one in scale.sets))
        return next((scale.verdict for scale in scales), None)

    @property
    def standing(self) -> Standing | None:
        """Return the standing of a statistical claim's headline: the lowest among the pooled sets."""
        return self.scales[0].standing if self.scales else None

    @property
    def apart(self) -> tuple[AtScale, ...]:
        """Return the scales that have seeds that count if the claim is supported at one and refuted at another; else
        none.
        """
        scales = tuple(scale for scale in self.scales if scale.pooled)
        found = {scale.verdict.verdict for scale in scales if scale.verdict is not None}
        return scales if {"supported", "refuted"} <= found else ()

    @property
    def standings(self) -> list[Standing]:
        """Return the standings behind the headline, the best first."""
        found = {self.standing, *(one.standing for scale in self.scales[:1] for one in scale.pooled)}
        return [standing for standing in STANDINGS if standing in found]


def evidence(claims: Sequence[Claim], sets: Sequence[SeedSet]) -> list[Evidence]:
    """Return the evidence for each of these claims, in order; evidence for other claims is ignored."""
    now = {claim.id: claim for claim in claims if claim.kind != "cited"}
    sets = [one.in_the_words_of(now[one.verdict.id]) for one in sets if one.verdict.id in now]
    groups: dict[tuple[str, int], dict[str, list[SeedSet]]] = {}
    scales = {study: _scales([one for one in sets if one.origin.study == study]) for study in _studies(sets)}
    for one in sets:
        group = one.origin.study, scales[one.origin.study][_settings(one.origin)]
        groups.setdefault(group, {}).setdefault(one.verdict.id, []).append(one)
    known: dict[str, list[AtScale]] = {}
    for members in groups.values():
        for id, found in _at_scale(now, members).items():
            known.setdefault(id, []).append(found)
    return [_evidence(claim, known.get(claim.id, [])) for claim in claims]


def _studies(sets: Sequence[SeedSet]) -> list[str]:
    return list(dict.fromkeys(one.origin.study for one in sets))


def _settings(origin: Origin) -> str:
    """Return an origin's scale as text."""
    return json.dumps(origin.settings, sort_keys=True)


def _scales(sets: Sequence[SeedSet]) -> dict[str, int]:
    """Return the number of the scale of each set's settings: those of one number are equal as far as any two have them,
    in whatever order they are given. A record of an earlier version may lack some; it is of the scale with the best
    seeds.
    """
    known = {_settings(one.origin): one.origin.settings for one in sets}
    best: dict[str, int] = {}
    for one in sets:
        text = _settings(one.origin)
        best[text] = max(best.get(text, 0), RANK[one.standing])
    scales: list[list[dict[str, Value | list[Value]]]] = []
    found: dict[str, int] = {}
    for text, ours in sorted(known.items(), key=lambda each: (-len(each[1]), -best[each[0]], each[0])):
        fitting = (
            number
            for number, scale in enumerate(scales)
            if all(ours[key] == theirs[key] for theirs in scale for key in ours.keys() & theirs.keys())
        )
        found[text] = next(fitting, len(scales))
        if found[text] == len(scales):
            scales.append([])
        scales[found[text]].append(ours)
    return found


def _at_scale(claims: Mapping[str, Claim], sets: Mapping[str, Sequence[SeedSet]]) -> dict[str, AtScale]:
    """Return the evidence for each claim from one study's sets at one scale; none where nothing was measured. Claims
    that are not pooled have their share of the error rate of the studies that are.
    """
    members = {id: _to_pool(claims[id], found) for id, found in sets.items()}
    origins = [one.origin for found in members.values() for one in found]
    rates = [origin.error_rate for origin in origins]
    silent = [id for id, found in sets.items() if all(_silent(one.verdict) for one in found)]
    shares = sum(
        claims[id].same_as not in sets and any(one.origin in origins and _has_share(one.verdict) for one in found)
        for id, found in sets.items()
        if not members[id]
    )
    verdicts = {id: [one.verdict for one in found] for id, found in members.items()}
    pooled = pool(verdicts, min(rates), besides=shares) if rates else {}
    return {
        id: _pooled(found, members[id], pooled[id]) if id in pooled else _newest(claims[id], found)
        for id, found in sets.items()
        if id not in silent
    }


def _has_share(verdict: Verdict) -> bool:
    """Return whether a claim has a share of its study's error rate."""
    return verdict.kind == "statistical" and (verdict.verdict == "untested" or verdict.level is not None)


def _silent(verdict: Verdict) -> bool:
    """Return whether a study measured nothing for a claim, such as for variants that were left out."""
    return isinstance(verdict.reason, Reason) and verdict.reason.code == "nothing-measured"


def _to_pool(claim: Claim, sets: Sequence[SeedSet]) -> list[SeedSet]:
    """Return the sets of a statistical claim that count, in order: they share no seeds, and each has values or an
    interval.
    """
    fit = [one for one in sets if claim.kind == "statistical" and _counts(one) and one.of(claim)]
    found: list[SeedSet] = []
    seen: set[int] = set()
    for one in sorted(fit, key=lambda one: (-RANK[one.standing], -len(one.origin.seeds))):
        if _says(one.verdict) and not _silent(one.verdict) and not seen & one.seeds:
            found.append(one)
            seen |= one.seeds
    return [one for one in sets if any(one is each for each in found)]


def _counts(one: SeedSet) -> bool:
    """Return whether a set was run after the claim was fixed."""
    return one.standing != "exploratory"


def _says(verdict: Verdict) -> bool:
    """Return whether a verdict can be pooled: it has values per seed, or a Student interval."""
    if verdict.margin is None or verdict.margin < 0:
        return False
    sides = [side.values() if isinstance(side, dict) else [side] for side in (verdict.treatment, verdict.control)]
    if None not in (verdict.treatment, verdict.control):
        return max((abs(value or 0.0) for side in sides for value in side), default=0.0) <= LARGEST
    if verdict.effect is None or verdict.interval is None or verdict.level is None:
        return False
    low, high = verdict.interval
    few = 1 < (verdict.n or 0) <= MOST_SEEDS
    return few and 0.5 < verdict.level < 1 and -LARGEST <= low <= verdict.effect <= high <= LARGEST


def _pooled(sets: Sequence[SeedSet], members: Sequence[SeedSet], pooled: Pooled) -> AtScale:
    least = min((one.standing for one in members), key=RANK.__getitem__)
    return AtScale(tuple(sets), pooled.verdict, least, tuple(members), pooled.error, pooled.between)


def _newest(claim: Claim, sets: Sequence[SeedSet]) -> AtScale:
    """Return the newest of the sets with the best standing."""
    fit = [one for one in sets if one.of(claim)]
    if not fit:
        return AtScale(tuple(sets), None)
    newest = max(
        enumerate(fit),
        key=lambda each: (RANK[each[1].standing], each[1].origin.date, not each[1].origin.earlier, each[0]),
    )[1]
    return AtScale(tuple(sets), newest.verdict, newest.standing if claim.kind == "statistical" else None)


def _evidence(claim: Claim, known: list[AtScale]) -> Evidence:
    """Return the evidence from several scales: those with the best seeds first, and else as they are given."""

    def best(scale: AtScale) -> int:
        standings = {scale.standing, *(one.standing for one in scale.pooled)}
        return max(RANK.get(standing or "", 0) for standing in standings)

    found = sorted(known, key=lambda each: (each.verdict is None, -best(each)))
    return Evidence(claim, tuple(found), _over_data(found))


def _over_data(scales: Sequence[AtScale]) -> RandomEffects | Reason:
    """Return the combined result of the data sets with pooled evidence, each at its first scale."""
    found: dict[str, tuple[float, float]] = {}
    for each in scales:
        if each.error is not None and each.verdict is not None and each.verdict.effect is not None:
            found.setdefault(each.origin.data, (each.verdict.effect, each.error))
    if len(found) < LEAST_DATA_SETS:
        return Reason(code="few-data-sets", values={"n": len(found), "least": LEAST_DATA_SETS})
    effects, errors = zip(*found.values(), strict=True)
    return random_effects(effects, errors)


def current(sets: Sequence[SeedSet], known: Sequence[Claim]) -> list[Claim]:
    """Return the claims of these sets, in order: known claims in their current form, others in their last revision, and
    of one revision in several forms, in that with the best standing, registered first.
    """
    of_the_lab = {claim.id: claim for claim in known}
    found: dict[str, list[SeedSet]] = {}
    for one in sets:
        found.setdefault(one.verdict.id, []).insert(0, one)  # the last given first, where nothing else tells them apart

    def rank(one: SeedSet) -> tuple[int, int, str]:
        return -one.verdict.revision, -RANK[one.standing], one.origin.date or "9999"

    return [of_the_lab.get(id) or claim_of(min(forms, key=rank).verdict) for id, forms in found.items()]


def alone(verdict: Verdict) -> Evidence:
    """Return the evidence of a single verdict for its claim."""
    return Evidence(claim_of(verdict), (AtScale((), verdict),), Reason(code="few-data-sets"))
