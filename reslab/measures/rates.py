"""Learning rates, from the errors of trials on a grid of them: the best for each seed, and the largest usable one."""

from collections.abc import Mapping, Sequence
from math import log10

from reslab.experiment.trials import Values
from reslab.ledger.record import Reason

USABLE_ERROR = 0.5


def best_rates(errors: Mapping[float, Values]) -> dict[int, float]:
    """Return each seed's rate with the lowest error; the smaller of two that are equal."""
    seeds = set.intersection(*(set(by_seed) for by_seed in errors.values()))
    return {seed: min(errors, key=lambda rate: errors[rate][seed]) for seed in sorted(seeds)}


def chosen(values: Mapping[float, Values], rates: Mapping[int, float]) -> Values:
    """Return each seed's value at the rate chosen for it, where it has one; the training errors they go with are those
    of the same runs.
    """
    trained: dict[str, dict[int, float]] = {}
    rates = {seed: rate for seed, rate in rates.items() if seed in values[rate]}
    for seed, rate in rates.items():
        for group, errors in values[rate].trained.items():
            trained.setdefault(group, {})[seed] = errors[seed]
    grain = max(by_seed.grain for by_seed in values.values())
    return Values({seed: values[rate][seed] for seed, rate in rates.items()}, trained, grain)


def largest_usable(errors: Mapping[float, Mapping[int, float]]) -> Values:
    """Return log10 of each seed's largest rate with a training error under one half; a step below the smallest if there
    is none.
    """
    rates = sorted(errors)
    below = rates[0] ** 2 / rates[1]
    seeds = set.intersection(*(set(by_rate) for by_rate in errors.values()))

    def largest(seed: int) -> float:
        return max((rate for rate in rates if errors[rate][seed] < USABLE_ERROR), default=below)

    return Values({seed: log10(largest(seed)) for seed in sorted(seeds)})


def beyond(rates: Sequence[float], limit: Mapping[str, Mapping[int, float]]) -> Reason | None:
    """Return why limits read from a grid of rates, smallest first, cannot be compared, as some may lie outside it; None
    if they can.
    """
    smallest, largest = log10(rates[0]), log10(rates[-1])
    ends = {kind: (min(limits.values()), max(limits.values())) for kind, limits in limit.items() if limits}
    outside = [kind for kind, (least, most) in ends.items() if least < smallest or most >= largest]
    return Reason(code="outside-grid", values={"kinds": outside}) if outside else None
