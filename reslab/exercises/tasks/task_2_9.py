"""Task 2.9: what a block is worth, and what it says."""

from collections.abc import Sequence
from functools import partial
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, normal, whole

Branches = Sequence[tuple[Tensor, Tensor]]


# the solution
def lesion(branches: Sequence[tuple[Tensor, Tensor]], classifier: Tensor, x: Tensor, labels: Tensor) -> Tensor:
    """Return by how much the mean cross-entropy rises without each branch in turn, `[n]`."""

    def loss(gone: int | None) -> Tensor:
        h = x
        for index, (inner, outer) in enumerate(branches):
            if index != gone:
                h = h + (h @ inner.T).relu() @ outer.T
        return F.cross_entropy(h @ classifier.T, labels)

    return torch.stack([loss(gone) - loss(None) for gone in range(len(branches))])


def turn(branches: Sequence[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """Return 1 - cos of each block's input and output, averaged over the images, `[n]`."""
    turns = []
    for inner, outer in branches:
        given = x + (x @ inner.T).relu() @ outer.T
        turns.append(1 - F.cosine_similarity(x, given).mean())
        x = given
    return torch.stack(turns)


def agreement(one: Tensor, other: Tensor) -> float:
    """Return Spearman's rank correlation of two measures of the same blocks."""
    ranks = torch.stack([one, other]).argsort(dim=1).argsort(dim=1).double()
    return float(torch.corrcoef(ranks)[0, 1])


def logit_parts(branches: Sequence[tuple[Tensor, Tensor]], classifier: Tensor, x: Tensor) -> Tensor:
    """Return what the stem and each block give to every image's logits, `[n + 1, B, classes]`."""
    parts = [x @ classifier.T]
    for inner, outer in branches:
        added = (x @ inner.T).relu() @ outer.T
        parts.append(added @ classifier.T)
        x = x + added
    return torch.stack(parts)


# how it is judged

WIDTH, CLASSES, IMAGES = 5, 3, 8


def _networks(generator: Generator) -> Cases:
    for blocks in (3, whole(generator, 4, 6)):
        branches = [(normal(generator, 7, WIDTH) / 2, normal(generator, WIDTH, 7) / 2) for _ in range(blocks)]
        yield branches, normal(generator, CLASSES, WIDTH), normal(generator, IMAGES, WIDTH)


def _labelled(generator: Generator) -> Cases:
    for case in _networks(generator):
        yield *case, torch.randint(CLASSES, (IMAGES,), generator=generator)


def _unclassified(generator: Generator) -> Cases:
    for branches, _, x in _networks(generator):
        yield branches, x


def _measures(generator: Generator) -> Cases:
    for blocks in (6, 7, whole(generator, 8, 12)):
        one = normal(generator, blocks)
        yield (2 * one).exp(), one + normal(generator, blocks)


def _lesion(
    branches: Branches,
    classifier: Tensor,
    x: Tensor,
    labels: Tensor,
    *,
    alone: bool = False,
    together: bool = False,
    rise: bool = True,
    falls: bool = False,
    errors: bool = False,
) -> Tensor:
    def value(gates: Tensor) -> Tensor:
        h = x
        for gate, (inner, outer) in zip(gates, branches, strict=True):
            h = h + gate * (h @ inner.T).relu() @ outer.T
        logits = h @ classifier.T
        return (logits.argmax(1) != labels).double().mean() if errors else F.cross_entropy(logits, labels)

    ones = torch.ones(len(branches), len(branches), dtype=x.dtype)
    rows = torch.eye(len(branches)).to(x) if alone else ones.triu(1) if together else ones - torch.eye(len(ones)).to(x)
    found = torch.stack([value(gates) for gates in rows]) - (value(ones[0]) if rise else 0)
    return -found if falls else found


def _turn(
    branches: Branches,
    x: Tensor,
    *,
    cosine: bool = False,
    branch: bool = False,
    averaged_first: bool = False,
    from_the_start: bool = False,
) -> Tensor:
    start, turns = x, []
    for inner, outer in branches:
        added = (x @ inner.T).relu() @ outer.T
        taken, given = start if from_the_start else x, added if branch else x + added
        if averaged_first:
            taken, given = taken.mean(0, keepdim=True), given.mean(0, keepdim=True)
        alike = F.cosine_similarity(taken, given).mean()
        turns.append(alike if cosine else 1 - alike)
        x = x + added
    return torch.stack(turns)


def _of_values(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


def _of_orders(one: Tensor, other: Tensor) -> float:
    """What comes of taking the order of the blocks for their ranks."""
    return _of_values(one.argsort().double(), other.argsort().double())


def _of_pairs(one: Tensor, other: Tensor) -> float:
    """Kendall's tau."""
    pairs = list(combinations(range(len(one)), 2))
    return float(sum((one[a] - one[b]).sign() * (other[a] - other[b]).sign() for a, b in pairs)) / len(pairs)


def _parts(
    branches: Branches,
    classifier: Tensor,
    x: Tensor,
    *,
    of_the_input: bool = False,
    so_far: bool = False,
    no_stem: bool = False,
) -> Tensor:
    start, parts = x, [x]
    for inner, outer in branches:
        added = ((start if of_the_input else x) @ inner.T).relu() @ outer.T
        x = x + added
        parts.append(x if so_far else added)
    return torch.stack([part @ classifier.T for part in parts[no_stem:]])


TASK = Task(
    "2.9",
    [
        Part(
            lesion,
            points=3,
            cases=_labelled,
            mistakes={
                "only-that-block": partial(_lesion, alone=True),
                "cumulative": partial(_lesion, together=True),
                "loss-itself": partial(_lesion, rise=False),
                "sign": partial(_lesion, falls=True),
                "error-rate": partial(_lesion, errors=True),
            },
        ),
        Part(
            turn,
            points=3,
            cases=_unclassified,
            mistakes={
                "cosine-itself": partial(_turn, cosine=True),
                "branch-instead-of-output": partial(_turn, branch=True),
                "averaged-first": partial(_turn, averaged_first=True),
                "from-the-first-input": partial(_turn, from_the_start=True),
            },
        ),
        Part(
            agreement,
            points=2,
            cases=_measures,
            mistakes={
                "of-the-values": _of_values,
                "order-for-ranks": _of_orders,
                "kendall": _of_pairs,
                "one-turned-round": lambda one, other: -agreement(one, other),
            },
        ),
        Part(
            logit_parts,
            points=3,
            cases=_networks,
            mistakes={
                "of-the-first-input": partial(_parts, of_the_input=True),
                "sums-so-far": partial(_parts, so_far=True),
                "stem-missing": partial(_parts, no_stem=True),
            },
        ),
    ],
)
