"""Task 2.7: a result that does not support the claim."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import mean
from typing import Any

import torch
from torch import Generator

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, normal, whole


# the solution
def may_say(low: float, high: float, planned: Mapping[str, Any], reported: Mapping[str, Any]) -> list[str]:
    """Return what an interval of the effect allows to be said, by the plan that was made before the run."""
    if sorted(planned["seeds"]) != sorted(reported["seeds"]):
        return ["not as planned"]
    margin = planned["margin"]
    allowed = {
        "differs": not low <= 0 <= high,
        "higher": low > margin,
        "not higher": high < margin,
        "as good as equal": -margin < low and high < margin,
        "open": low <= margin <= high,
    }
    return sorted(sentence for sentence, holds in allowed.items() if holds)


def selected_effect(differences: Sequence[float], k: int) -> float:
    """Return the highest mean that choosing k of the seeds afterwards can show."""
    return mean(sorted(differences)[-k:])


# how it is judged


_SPANS = (
    (-0.16, 1.005),
    (1.2, 1.9),
    (0.3, 0.8),
    (0.4, 1.6),
    (-0.4, 0.5),
    (-1.6, -0.4),
    (-0.8, -0.3),
    (-1.9, -1.2),
    (-3, 3),
    (-1.5, 0.6),
)


def _reports(generator: Generator) -> Cases:
    for low, high in _SPANS:
        margin = 0.01 + 0.02 * float(torch.rand((), generator=generator))
        seeds = list(range(whole(generator, 5, 7)))
        shuffled = [seeds[index] for index in torch.randperm(len(seeds), generator=generator).tolist()]
        moved = margin * (2 if high < 1.95 else 0.5)
        yield low * margin, high * margin, {"margin": margin, "seeds": seeds}, {"margin": margin, "seeds": seeds}
        yield low * margin, high * margin, {"margin": margin, "seeds": seeds}, {"margin": moved, "seeds": shuffled}
        yield (
            low * margin,
            high * margin,
            {"margin": margin, "seeds": seeds},
            {"margin": margin, "seeds": shuffled[:-2]},
        )
        yield (
            low * margin,
            high * margin,
            {"margin": margin, "seeds": seeds},
            {"margin": margin, "seeds": [*seeds, len(seeds), len(seeds) + 1]},
        )
        yield (
            low * margin,
            high * margin,
            {"margin": margin, "seeds": seeds},
            {"margin": margin, "seeds": [seed + 1 for seed in seeds]},
        )


def _say(
    low: float,
    high: float,
    planned: Mapping[str, Any],
    reported: Mapping[str, Any],
    *,
    as_planned: Callable[[Sequence[int], Sequence[int]], bool] = lambda plan, report: sorted(plan) == sorted(report),
    margin_of: str = "plan",
    absence: bool = False,
    significance: bool = False,
    on_the_mean: bool = False,
    one_sided: bool = False,
) -> list[str]:
    """The sentences with a way to go wrong for every option."""
    if not as_planned(planned["seeds"], reported["seeds"]):
        return ["not as planned"]
    margin = (planned if margin_of == "plan" else reported)["margin"]
    if on_the_mean:
        low = high = (low + high) / 2
    allowed = {
        "differs": not low <= 0 <= high,
        "higher": low > (0 if significance else margin),
        "not higher": high < margin or (absence and low <= margin),
        "as good as equal": ((-margin < low or one_sided) and high < margin) or (absence and low <= 0 <= high),
        "open": low <= margin <= high and not absence and not (significance and low > 0),
    }
    return sorted(sentence for sentence, holds in allowed.items() if holds)


def _differences(generator: Generator) -> Cases:
    for n, k in ((8, 3), (10, 5), (7, 2)):
        yield (normal(generator, n) / 50 - 0.005).tolist(), k


TASK = Task(
    "2.7",
    [
        Part(
            may_say,
            points=9,
            cases=_reports,
            mistakes={
                "inconclusive-as-no-difference": partial(_say, absence=True),
                "seeds-chosen": partial(_say, as_planned=lambda plan, report: set(report) <= set(plan)),
                "seeds-added": partial(_say, as_planned=lambda plan, report: set(plan) <= set(report)),
                "any-seeds": partial(_say, as_planned=lambda plan, report: True),
                "seeds-counted": partial(_say, as_planned=lambda plan, report: len(plan) == len(report)),
                "order-of-the-seeds": partial(_say, as_planned=lambda plan, report: list(plan) == list(report)),
                "margin-moved": partial(_say, margin_of="report"),
                "significance-as-relevance": partial(_say, significance=True),
                "on-the-mean": partial(_say, on_the_mean=True),
                "equal-on-one-side": partial(_say, one_sided=True),
            },
        ),
        Part(
            selected_effect,
            points=3,
            cases=_differences,
            mistakes={
                "not-chosen": lambda differences, k: mean(differences),
                "the-first": lambda differences, k: mean(differences[:k]),
                "the-lowest": lambda differences, k: mean(sorted(differences)[:k]),
                "the-largest-by-size": lambda differences, k: mean(sorted(differences, key=abs)[-k:]),
                "the-best-alone": lambda differences, k: max(differences),
                "a-sum": lambda differences, k: sum(sorted(differences)[-k:]),
            },
        ),
    ],
)
