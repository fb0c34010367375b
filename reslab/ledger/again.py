"""Deciding claims again from records, and the agreement of several records."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reslab.ledger.claim import Claim
from reslab.ledger.comparison import Comparison
from reslab.ledger.record import Verdict
from reslab.ledger.verdict import ERROR_RATE, decide


class Agreement(NamedTuple):
    """The ids of claims that were decided more than once: alike each time, inconclusive in some cases only, or
    supported here and refuted there.
    """

    alike: list[str]
    in_part: list[str]
    both_ways: list[str]


def agreement(claims: Sequence[Verdict]) -> Agreement:
    """Return the agreement of several studies' verdicts."""
    verdicts: dict[str, list[str]] = {}
    for claim in claims:
        if claim.verdict is not None:
            verdicts.setdefault(claim.id, []).append(claim.verdict)
    found = Agreement([], [], [])
    for id, decided in verdicts.items():
        kinds = set(decided)
        if len(decided) > 1:
            (
                found.both_ways
                if kinds >= {"supported", "refuted"}
                else found.in_part
                if len(kinds) > 1
                else found.alike
            ).append(id)
    return found


def claim_of(verdict: Verdict, margin: float | None = None) -> Claim:
    """Return the claim of a verdict, with another margin if given, without fields that its kind of claim lacks."""
    fields = {key: getattr(verdict, key) for key in Claim.__dataclass_fields__ if key in Verdict.model_fields}
    fields["margin"] = verdict.margin if margin is None else margin
    if verdict.kind != "statistical":
        fields |= {"margin": None, "direction": None}
    if verdict.kind == "cited":
        text = verdict.reason.values.get("text", "") if verdict.reason else ""
        fields |= {"decision": verdict.verdict or "untested", "finding": text if isinstance(text, dict) else str(text)}
    if verdict.same_as == verdict.id:
        fields["same_as"] = None
    return Claim(**fields)


def comparison_of(verdict: Verdict, margin: float | None = None) -> Comparison:
    """Return the comparison behind a verdict, from its values per seed, with another margin if given.

    Raises:
        ValueError: if the record has no values per seed, as in version 0.1.
    """
    if verdict.treatment is None or verdict.control is None:
        raise ValueError(f"the record of {verdict.id} has no values per seed")
    control = verdict.control
    untested = verdict.untested
    return Comparison(
        claim_of(verdict, margin),
        _by_seed(verdict.treatment),
        control if isinstance(control, float) else _by_seed(control),
        # it depends on the margin, and is computed again
        None if untested and untested.code in ("no-room", "nothing-measured") else untested,
        verdict.resolution,
        verdict.room,
        verdict.grain,
        verdict.paired,
        verdict.failed,
    )


def decide_again(
    claims: Sequence[Verdict], margins: Mapping[str, float], error_rate: float = ERROR_RATE
) -> list[Verdict]:
    """Return one study's claims decided again from their records, with the margins in `margins`.

    Raises:
        ValueError: if a statistical claim's record has no values per seed, as in version 0.1.
    """
    again = [comparison_of(claim, margins.get(claim.id)) for claim in claims if claim.kind == "statistical"]
    decided = {verdict.id: verdict for verdict in decide(again, error_rate)}
    return [decided.get(claim.id, claim) for claim in claims]


def _by_seed(values: Mapping[str, float]) -> dict[int, float]:
    return {int(seed): value for seed, value in values.items()}
