"""Matching a file's tensors to a network's names, by keys and shapes, never by the file's name."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations, takewhile
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from reslab.errors import MismatchError, Wording, few, first_few, worded
from reslab.weights.files import WeightFile
from reslab.weights.names import AVERAGES, HABITS, HEADS, LEFT_BY_TOOLS, PLACES, SOURCES, WRAPPERS, Rule
from reslab.weights.tensorfiles import State

Head = Literal["fresh", "none"]
MOST_ROOTS = 64


class Misfit(NamedTuple):
    """A tensor that does not fit; with the shapes or types that are found and wanted, if these differ."""

    name: str
    found: object = None
    wanted: object = None

    def told(self) -> Wording:
        """Return it in words."""
        if self.found is None:
            return Wording(self.name, self.name)
        return worded("tensor-is-other", name=self.name, found=self.found, wanted=self.wanted)


Complaints = dict[str, list[Misfit]]
"""What does not fit, by the name of the message that lists it."""


class Fit(NamedTuple):
    """The fit of a file's tensors to a network: the network's state, and the changes.

    `renamed` maps names of the file to names of the network; `dropped` are names that the network does not have,
    `added` names that the file lacks; `converted` counts tensors whose number type changes.
    """

    state: State
    renamed: dict[str, str]
    dropped: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    converted: Mapping[str, int] = MappingProxyType({})
    notes: tuple[str, ...] = ()


class _Attempt(NamedTuple):
    """What one part of a file, the names after `root` of the set at `place`, is to the network."""

    place: str
    root: str
    fit: Fit
    complaints: Complaints

    @property
    def misfits(self) -> int:
        return sum(map(len, self.complaints.values()))

    @property
    def rank(self) -> tuple[int, int]:
        """Return a sort key: how unlikely this part is meant, if several fit."""
        words = self.root.split(".")[:-1]
        return PLACES.index(self.place) if self.place in PLACES else len(PLACES), len(words)

    @property
    def where(self) -> str:
        return ".".join(word for word in (self.place, self.root.removesuffix(".")) if word)


def fit(
    weights: WeightFile,
    network: nn.Module,
    *,
    raw: bool = False,
    head: Head | None = None,
    removed: str | None = None,
) -> Fit:
    """Return a file's tensors under the network's names, if they fit exactly.

    Names are kept if they fit; otherwise prefixes of wrappers are removed, and as few renaming rules as possible are
    used. Counts of batches, which old files lack, are added as 0. If a file holds both weights and their average, the
    average is used, or with `raw` the weights. With `head`, the file's classifier is dropped, and the network's, if it
    has one, is kept; `removed` is the name of one that it had.

    Raises:
        UserError: naming what is missing, what is extra, and which shapes and kinds of numbers differ; or the sets, if
            several fit alike.
    """
    everything = network.state_dict()
    wanted = {name: value for name, value in everything.items() if isinstance(value, Tensor)}
    own = {name: value for name, value in everything.items() if name not in wanted}  # of get_extra_state
    kept = classifier(network) if head == "fresh" else removed
    tied = _tied(network)
    attempts = [
        _attempt(state, place, root, wanted, kept, head is not None, tied)
        for place, state in weights.sets.items()
        for root in _roots(list(state))
    ]
    fitting = [attempt for attempt in attempts if not attempt.complaints]
    if not fitting:
        raise MismatchError(*_refusal(weights, network, min(attempts, key=lambda attempt: attempt.misfits), head))
    chosen, instead = _chosen(weights, fitting, raw)
    notes = []
    if instead is not None:
        notes.append(f"took the average of the weights, {chosen.where!r}; --raw takes {instead.where!r}")
    if others := [place for place in weights.sets if place not in (chosen.place, instead and instead.place)]:
        notes.append(f"took the weights under {chosen.place!r}, not the tensors under {first_few(others)}")
    if chosen.fit.dropped:
        notes.append(f"left out what the network has no place for: {first_few(list(chosen.fit.dropped))}")
    if weights.unread:
        notes.append(f"not read, as they are not tensors: {first_few(list(weights.unread))}")
    if wrong := _not_numbers(chosen.fit.state):
        notes.append(f"these are not all numbers that a network can have: {first_few(wrong)}")
    if lost := [name for name in _too_large(chosen.fit.state, wanted) if name not in wrong]:
        notes.append(f"too large for the network's kind of numbers, so infinite in it: {first_few(lost)}")
    return chosen.fit._replace(
        state=chosen.fit.state | own,
        added=(*chosen.fit.added, *own),
        notes=tuple(f"{weights.path}: {text}" for text in (*weights.facts.notes, *notes)),
    )


def _tied(network: nn.Module) -> dict[str, list[str]]:
    """Return all names of each tensor that has several, of which safetensors keeps one."""
    names: dict[Tensor, list[str]] = {}
    for name, value in network.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor):
            names.setdefault(value, []).append(name)
    return {name: alike for alike in names.values() if len(alike) > 1 for name in alike}


def classifier(network: nn.Module) -> str | None:
    """Return the name of a network's last linear layer, which tells its classes apart; without one, of the 1×1
    convolution with which it ends, as SqueezeNet's does; None if it has neither.
    """
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if linear:
        return linear[-1]
    layers = [each for each in network.named_modules() if each[1]._parameters]
    name, last = layers[-1] if layers else (None, network)
    return name if isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1) else None


def _chosen(weights: WeightFile, fitting: list[_Attempt], raw: bool) -> tuple[_Attempt, _Attempt | None]:
    """Return the intended one of several parts that fit and, if it is an average, the weights themselves.

    Raises:
        UserError: if that is ambiguous.
    """
    ranked = sorted(fitting, key=lambda attempt: attempt.rank)
    averages = [attempt for attempt in ranked if _is_average(attempt, weights)]
    others = [attempt for attempt in ranked if attempt not in averages]
    if raw and not others:
        names = few([one.where for one in averages])
        raise MismatchError(*worded("averages-only", path=weights.path, names=names))
    chosen, *rest = others if raw or not averages else averages
    if alike := [one.where for one in rest if one.rank == chosen.rank]:
        raise MismatchError(*worded("several-sets-fit", path=weights.path, names=few([chosen.where, *alike])))
    return chosen, others[0] if others and chosen in averages else None


def _is_average(attempt: _Attempt, weights: WeightFile) -> bool:
    """Return whether this part of a file is an average of weights.

    Two trainers put the average in the usual place and the weights in another: MMEngine, whose average counts its
    `steps` (mmengine, hooks/ema_hook.py), and Lightning (callbacks/weight_averaging.py).
    """
    exchanged = "steps" in weights.sets.get("ema_state_dict", {}) or "current_model_state" in weights.sets
    if exchanged and attempt.place in ("state_dict", "ema_state_dict", "current_model_state"):
        return attempt.place == "state_dict"
    words = {*attempt.where.split("."), *_stripped(attempt, weights)}
    own = {word for name in weights.sets for word in name.split(".")} | {
        name.partition(".")[0] for state in weights.sets.values() for name in state
    }
    return not words.isdisjoint(AVERAGES) or ("teacher" in words and "student" in own)


def _stripped(attempt: _Attempt, weights: WeightFile) -> list[str]:
    """Return the first words of all names of a part that are not the network's, as `_without_common_prefix` does."""
    found = attempt.fit
    used = [name for name in weights.sets[attempt.place] if name not in found.dropped]
    if not found.renamed.keys() >= {*used}:
        return []
    parts = {tuple(name[len(attempt.root) :].split(".")[:-1]) for name in used}
    return [words[0] for words in takewhile(lambda words: len({*words}) == 1, zip(*parts, strict=False))]


def _roots(names: list[str]) -> list[str]:
    """Return the possible prefixes of a network's names: none, and every chain of wrappers among the names."""
    roots = [""]
    for root in roots:  # which grows
        firsts = {name[len(root) :].partition(".")[0] for name in names if name.startswith(root)}
        roots += [f"{root}{word}." for word in WRAPPERS if word in firsts]
        if len(roots) >= MOST_ROOTS:
            break
    return roots[:MOST_ROOTS]


def _attempt(
    state: State,
    place: str,
    root: str,
    wanted: State,
    kept: str | None,
    headless: bool,
    tied: Mapping[str, list[str]],
) -> _Attempt:
    """Return the best fit of the tensors after a prefix, with the fewest changes, and its remaining problems.

    `kept` is a layer of the network that is not loaded; if `headless`, a classifier in the file is dropped, by the
    name of `kept` or another's. One name of a `tied` tensor is enough.
    """
    body = {name: value for name, value in wanted.items() if not _within(name, kept)}
    ends = {name.rpartition(".")[2] for name in wanted}
    left = [name for name in state if (end := name.rpartition(".")[2]) in LEFT_BY_TOOLS and end not in ends]
    outside = [name for name in state if not name.startswith(root) and name not in left]
    inside = {name[len(root) :]: tensor for name, tensor in state.items() if name not in {*left, *outside}}
    # on the meta device zeros_like imports sympy
    counts = {
        name: torch.zeros(value.shape, dtype=value.dtype, device=value.device)
        for name, value in body.items()
        if name.endswith("num_batches_tracked")
    }
    best: tuple[State, dict[str, str], Complaints] | None = None
    for names in _candidates(list(inside), list(body)):
        found = dict(zip(inside, names, strict=True))
        if headless:
            found = {
                own: name
                for own, name in found.items()
                if name in body or not (_within(name, kept) or own.partition(".")[0] in HEADS)
            }
        named = counts | {
            name: inside[own].flatten()[0] if name in counts and inside[own].shape == (1,) else inside[own]
            for own, name in found.items()
        }
        others = {name: next(filter(named.__contains__, alike), None) for name, alike in tied.items() if name in body}
        named = {name: named[other] for name, other in others.items() if other} | named
        complaints = _complaints(named, body, [name for name in outside if name in body])
        if apart := _untied(named, tied):
            complaints["tensors-that-are-one"] = apart
        if best is None or sum(map(len, complaints.values())) < sum(map(len, best[2].values())):
            best = named, found, complaints
        if not complaints:
            break
    assert best is not None
    named, found, complaints = best
    fresh = {name: value for name, value in wanted.items() if name not in body}
    converted = Counter(
        f"{_kind(named[name])} to {_kind(value)}"
        for name, value in body.items()
        if name in named and named[name].dtype != value.dtype
    )
    return _Attempt(
        place,
        root,
        Fit(
            named | fresh,
            {f"{root}{own}": name for own, name in found.items() if f"{root}{own}" != name},
            (*left, *outside, *(f"{root}{own}" for own in inside if own not in found)),
            (*(name for name in counts if name not in found.values()), *fresh),
            dict(converted),
        ),
        complaints,
    )


def _within(name: str, layer: str | None) -> bool:
    return layer is not None and name.startswith(f"{layer}.")


def _candidates(names: list[str], wanted: list[str]) -> Iterator[list[str]]:
    """Yield a file's names unchanged, and then renamed by more and more rules, from at most one source; never two names
    as one.
    """
    yield names
    seen = [names]

    def changes(rule: Rule) -> bool:
        return rule(names) != names or rule(wanted) != wanted

    habits = [rule for rule in HABITS if changes(rule)]
    sources = [(), *((rule,) for rule in SOURCES.values() if changes(rule))]
    for source in sources:
        for chosen in (some for count in range(len(habits) + 1) for some in combinations(habits, count)):
            theirs, ours = names, wanted
            for rule in (*source, *chosen):
                theirs, ours = rule(theirs), rule(ours)
            networks = dict(zip(ours, wanted, strict=True))
            found = [networks.get(name, original) for name, original in zip(theirs, names, strict=True)]
            if len(networks) == len(wanted) and len(set(found)) == len(names) and found not in seen:
                seen.append(found)
                yield found


def _complaints(state: State, wanted: State, elsewhere: list[str]) -> Complaints:
    """Return the problems of loading a state, by kind; `elsewhere` are names of the network that the file has under
    another prefix.
    """
    shared = [(name, state[name], value) for name, value in wanted.items() if name in state]
    others = [*(name for name in state if name not in wanted), *elsewhere]
    found = {
        "tensors-missing": [Misfit(name) for name in wanted if name not in state],
        "tensors-without-place": [Misfit(name) for name in others],
        "tensors-of-other-shapes": [
            Misfit(name, tuple(is_.shape), tuple(value.shape))
            for name, is_, value in shared
            if is_.shape != value.shape
        ],
        "tensors-of-other-kinds": [
            Misfit(name, _found(is_), value.dtype) for name, is_, value in shared if not _takes(value, is_)
        ],
    }
    return {what: names for what, names in found.items() if names}


def _untied(state: State, tied: Mapping[str, list[str]]) -> list[Misfit]:
    """Return the tensors that are one in the network and differ in the file."""
    groups = {tuple(name for name in alike if name in state) for alike in tied.values()}
    return [
        Misfit(" = ".join(names))
        for names in sorted(groups)
        if any(not _alike(state[names[0]], state[name]) for name in names[1:])
    ]


def _alike(one: Tensor, other: Tensor) -> bool:
    return one is other or torch.equal(one.nan_to_num(), other.nan_to_num())


def _found(given: Tensor) -> object:
    """Return what of a tensor a network may not take: that it has no values, its layout, or else its dtype."""
    return "meta" if given.is_meta else given.dtype if given.layout is torch.strided else given.layout


def _takes(wanted: Tensor, given: Tensor) -> bool:
    """Return whether a tensor can be converted to another's type; integers in place of floats cannot, as they are
    quantised.
    """
    return (
        given.layout == torch.strided
        and not given.is_meta
        and (given.is_floating_point() or not wanted.is_floating_point())
    )


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _not_numbers(state: State) -> list[str]:
    """Return the tensors that hold NaN or infinity, and the variances under 0."""
    return [
        name
        for name, tensor in state.items()
        if tensor.is_floating_point()
        and not tensor.is_meta
        and (not tensor.float().isfinite().all() or (name.endswith("running_var") and bool((tensor.float() < 0).any())))
    ]


def _too_large(state: State, wanted: State) -> list[str]:
    """Return the tensors that are infinite in the network's kind of numbers, and are not in the file's."""
    return [
        name
        for name, tensor in state.items()
        if wanted[name].is_floating_point()
        and tensor.dtype != wanted[name].dtype
        and not tensor.is_meta
        # not all kinds can be asked themselves
        and bool((tensor.to(wanted[name].dtype).double().isinf() & tensor.double().isfinite()).any())
    ]


def _refusal(weights: WeightFile, network: nn.Module, best: _Attempt, head: Head | None) -> Wording:
    """Return why weights do not fit, and what would help if that is known."""
    why = [worded(kind, names=_few(entries)) for kind, entries in best.complaints.items()]
    reasons = Wording("; ".join(each.english for each in why), ". ".join(each.korean for each in why))
    among = worded("best-of-sets", sets=few(list(weights.sets))) if len(weights.sets) > 1 else ""
    return worded("weights-do-not-fit", why=reasons, among=among, advice=_advice(weights, network, head))


def _few(misfits: list[Misfit]) -> Wording:
    told = [each.told() for each in misfits]
    return Wording(few([each.english for each in told]).english, few([each.korean for each in told]).korean)


def _advice(weights: WeightFile, network: nn.Module, head: Head | None) -> Wording | str:
    """Return a hint if only the classifier is missing or different, or the images have other channels."""
    name = classifier(network)
    if head is not None or name is None:
        return ""
    try:
        fit(weights, network, head="fresh")
    except MismatchError:
        return ""
    given = {
        tensor.shape[0]
        for state in weights.sets.values()
        for key, tensor in state.items()
        if key.endswith(f"{name}.weight") and tensor.dim() >= 2
    }
    classes = worded("classes-of-the-file", count=given.pop()) if len(given) == 1 else ""
    return worded("other-classifier", name=name, classes=classes)
