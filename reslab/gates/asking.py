"""Arguments of a view, by name or number of its blocks: gates, and replacements of branches."""

import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from reslab.errors import MismatchError, UnknownNameError, WrongValueError, suggested, worded
from reslab.gates.gating import Block, Standing
from reslab.sending import widest

Which = str | int
"""A block, by its name or its number."""

AskedGates = Float[Tensor, "n"] | Float[Tensor, "n b"] | Mapping[Which, Float[Tensor, ""] | Float[Tensor, "b"] | float]
"""Gates of all blocks, or of some."""

Branch = Shaped[Tensor, "b ..."]
"""What a block adds, or what stands in for it."""

Replacement = Branch | Literal["mean"] | Callable[[Branch], Branch]
"""A replacement for a branch: its mean over the batch; a value, `[B, …]` or for one image; other images, for which the
branch is computed; or a function of the branch's own value.
"""


def index_of(blocks: Sequence[Block], which: Which) -> int:
    """Return a block's number.

    Raises:
        UserError: if there is no such block.
    """
    names = [block.name for block in blocks]
    if isinstance(which, str):
        if which not in names:
            raise UnknownNameError(*worded("no-block", which=which, near=suggested(which, names)))
        return names.index(which)
    try:
        place = -1 if isinstance(which, bool) else operator.index(which)  # also NumPy's
    except TypeError:
        place = -1
    if not 0 <= place < len(names):
        raise UnknownNameError(*worded("no-block-number", which=which, last=len(names) - 1))
    return place


def indices_of(blocks: Sequence[Block], which: Collection[Which] | Which) -> list[int]:
    """Return the numbers of some blocks, of one, or of "all", ascending.

    Raises:
        UserError: if there is no such block.
    """
    if which == "all":
        return list(range(len(blocks)))
    several = which if isinstance(which, Iterable) and not isinstance(which, str) else (which,)
    return sorted({index_of(blocks, each) for each in several})


def gates_of(blocks: Sequence[Block], asked: AskedGates, batch: int, device: torch.device) -> Tensor:
    """Return the gates of all blocks: float `[n]` or `[n, B]`, 1 for those that are not named.

    Raises:
        UserError: if they do not fit the blocks and the batch.
    """
    n = len(blocks)
    gates = _of_named(blocks, asked, device) if isinstance(asked, Mapping) else asked
    if not isinstance(gates, Tensor) or not gates.is_floating_point():
        raise WrongValueError(*worded("gates-of-no-floats", blocks=n, batch=batch))
    if gates.shape != (n,) and gates.shape != (n, batch):
        raise MismatchError(*worded("gates-of-other-shape", shape=list(gates.shape), blocks=n, batch=batch))
    return gates


def _of_named(blocks: Sequence[Block], named: Mapping[Which, Tensor | float], device: torch.device) -> Tensor:
    exact = widest(device)
    asked = {index_of(blocks, which): value for which, value in named.items()}
    try:
        numbers = {index: torch.as_tensor(value, dtype=exact, device=device) for index, value in asked.items()}
    except (TypeError, ValueError, RuntimeError) as error:
        raise WrongValueError(*worded("no-gates", values=", ".join(map(repr, named.values())))) from error
    one = torch.ones((), dtype=exact, device=device)
    rows = [numbers.get(index, one) for index in range(len(blocks))]
    try:
        return torch.stack(torch.broadcast_tensors(*rows))
    except RuntimeError as error:
        shapes = ", ".join(sorted({str(list(row.shape)) for row in rows}))
        raise MismatchError(*worded("gates-of-two-batches", shapes=shapes)) from error


def replacing(what: Replacement, at: str) -> Standing:
    """Return the function from a branch's value to its replacement; a value replaces all of a block's branches.

    Raises:
        UserError: if the replacement is of another kind.
    """
    if isinstance(what, Tensor):
        return in_all(lambda branch: what)
    if isinstance(what, str) and what == "mean":
        return lambda branch, _: branch.mean(0, keepdim=True)
    if callable(what):
        return _giving_a_tensor(what, at)
    raise WrongValueError(*worded("no-replacement-of-branch", at=at, given=what))


def in_all(value: Callable[[Tensor], Tensor]) -> Standing:
    """Return the function that puts a value in the place of a block's first branch, and zeros in the others'."""
    return lambda branch, number: torch.zeros_like(branch) if number else value(branch)


def _giving_a_tensor(function: Callable[[Tensor], Any], at: str) -> Standing:
    def checked(branch: Tensor, _: int) -> Tensor:
        value = function(branch)
        if not isinstance(value, Tensor):
            raise WrongValueError(*worded("replaced-by-no-tensor", at=at, kind=type(value).__name__))
        return value

    return checked
