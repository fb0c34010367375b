"""Names in the wild: a file's tensors under a network's names, recognised by keys and shapes, never by the
file's name.
"""

import re
from collections.abc import Callable, Iterator
from itertools import combinations, takewhile
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reslab.errors import MismatchError, first_few
from reslab.weights.files import WeightFile
from reslab.weights.tensorfiles import State

NESTED_UNDER = ("", "state_dict", "model_state_dict", "model", "net", "network")
"""The keys under which a network's weights are, the likeliest first, where a file holds several sets of tensors that
fit it.
"""
LEFT_BY_TOOLS = ("n_averaged", "total_ops", "total_params")
"""Ends of names that are no weights: the count of an average of weights, and what profilers leave in every module."""


Rule = Callable[[list[str]], list[str]]
"""Other names for the same tensors. It is used on a file's names and on the network's alike, and those that become
equal belong together.
"""


def _without_common_prefix(names: list[str]) -> list[str]:
    """Leave out what all names begin with: what DataParallel, torch.compile, or a module that holds the
    network, adds.
    """
    levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
    depth = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    return [name.split(".", depth)[-1] for name in names]


def _rewritten(pattern: str, replacement: str) -> Rule:
    return lambda names: [re.sub(pattern, replacement, name) for name in names]


RULES: tuple[Rule, ...] = (
    _without_common_prefix,
    _rewritten(r"(^|\.)(?:(?:module|_orig_mod)\.)+", r"\1"),  # parts that DataParallel or torch.compile wraps
    _rewritten(r"^linear\.", "fc."),  # a habit of CIFAR implementations
    _rewritten(r"\.shortcut\.", ".downsample."),  # likewise
    _rewritten(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),  # torchvision's own DenseNet files
)


class Fit(NamedTuple):
    """How a file's tensors fit a network: its whole state, the names that changed, and what was left out or chosen."""

    state: State
    renamed: dict[str, str]
    notes: tuple[str, ...] = ()


def fit(weights: WeightFile, network: nn.Module) -> Fit:
    """Return a file's tensors under the network's names, if the network takes them exactly.

    Names are kept where they fit as they are, else as few rules as make them fit are used; counts of batches, which old
    files lack, are added as 0.

    Raises:
        UserError: naming what is missing, what is extra, and which shapes and kinds of numbers differ; or the sets, if
            several fit alike.
    """
    fits: dict[str, Fit] = {}
    misfits: list[tuple[int, str]] = []
    for place, state in weights.sets.items():
        found, complaints = _named(state, network.state_dict())
        if complaints:
            misfits.append(
                (
                    sum(map(len, complaints.values())),
                    "; ".join(f"{what}: {first_few(names)}" for what, names in complaints.items()),
                )
            )
        else:
            fits[place] = found
    if not fits:
        among = f" (best of {first_few(list(weights.sets))})" if len(misfits) > 1 else ""
        raise MismatchError(f"the weights do not fit: {min(misfits)[1]}{among}")
    chosen = next((place for place in NESTED_UNDER if place in fits), next(iter(fits)))
    if len(fits) > 1 and chosen not in NESTED_UNDER:
        raise MismatchError(
            f"{weights.path} holds several sets of weights that fit, under {first_few(list(fits))}; save the one "
            "that is meant alone"
        )
    notes = list(fits[chosen].notes)
    if others := [place for place in weights.sets if place != chosen]:
        notes.append(f"took the weights under {chosen!r}, not the tensors under {first_few(others)}")
    if weights.unread:
        notes.append(f"left unread what is no tensor: {first_few(list(weights.unread))}")
    return fits[chosen]._replace(notes=tuple(f"{weights.path}: {text}" for text in notes))


def _named(state: State, wanted: State) -> tuple[Fit, dict[str, list[str]]]:
    """Return the tensors under the names that fit best, the least changed of such, and what is wrong
    with them still.
    """
    ends = {name.rpartition(".")[2] for name in wanted}
    left = [name for name in state if (end := name.rpartition(".")[2]) in LEFT_BY_TOOLS and end not in ends]
    kept = {name: tensor for name, tensor in state.items() if name not in left}
    notes = (f"left out what is no weight: {first_few(left)}",) if left else ()
    best: tuple[Fit, dict[str, list[str]]] | None = None
    for names in _candidates(list(kept), list(wanted)):
        named = {
            name: torch.zeros_like(value) for name, value in wanted.items() if name.endswith("num_batches_tracked")
        }
        named |= dict(zip(names, kept.values(), strict=True))
        complaints = _complaints(named, wanted)
        if best is None or sum(map(len, complaints.values())) < sum(map(len, best[1].values())):
            renamed = {original: name for original, name in zip(kept, names, strict=True) if original != name}
            best = Fit(named, renamed, notes), complaints
        if not complaints:
            break
    assert best is not None
    return best


def _candidates(names: list[str], wanted: list[str]) -> Iterator[list[str]]:
    """Yield a file's names as they are, then as the network has them by ever more rules; never two names as one."""
    yield names
    seen = [names]
    for rules in (chosen for count in range(1, len(RULES) + 1) for chosen in combinations(RULES, count)):
        theirs, ours = names, wanted
        for rule in rules:
            theirs, ours = rule(theirs), rule(ours)
        networks = dict(zip(ours, wanted, strict=True))
        found = [networks.get(name, original) for name, original in zip(theirs, names, strict=True)]
        if len(networks) == len(wanted) and len(set(found)) == len(names) and found not in seen:
            seen.append(found)
            yield found


def _complaints(state: State, wanted: State) -> dict[str, list[str]]:
    """Return what keeps a network from taking a state, by kind."""
    shared = [(name, state[name], value) for name, value in wanted.items() if name in state]
    found = {
        "missing": [name for name in wanted if name not in state],
        "not in the network": [name for name in state if name not in wanted],
        "other shapes": [
            f"{name} is {tuple(is_.shape)}, wanted {tuple(value.shape)}"
            for name, is_, value in shared
            if is_.shape != value.shape
        ],
        "other kinds": [
            f"{name} is {is_.dtype}, wanted {value.dtype}" for name, is_, value in shared if not _takes(value, is_)
        ],
    }
    return {what: names for what, names in found.items() if names}


def _takes(wanted: Tensor, given: Tensor) -> bool:
    """Say whether a tensor's numbers mean the same in another's type: integers in the place of fractions are quantised,
    and stand for others.
    """
    return (
        given.layout == torch.strided
        and not given.is_meta
        and (given.is_floating_point() or not wanted.is_floating_point())
    )
