"""The view of a network whose forward branches on values, such as a detector: a view of the first part that can be
traced, its backbone. The rest of the network runs unchanged.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, fx, nn

from reslab.errors import UnseenError, worded
from reslab.gates import tracing
from reslab.gates.asking import Which
from reslab.gates.checks import check_hooks
from reslab.gates.finding import NotSplit
from reslab.gates.gating import Gates
from reslab.gates.inputs import Output, Whole
from reslab.gates.planning import Live
from reslab.gates.recording import BlockValues, Sides, Stream
from reslab.gates.view import View
from reslab.gates.without import Smaller


class PartView(View):
    """A network with gates in one of its parts."""

    def __init__(
        self, network: nn.Module, example: Any, output: Output, part: str, inner: View, why: str, writes: bool
    ) -> None:
        Whole.__init__(self, network, example, output, writes=writes)
        self.part, self.inner, self.why = part, inner, why
        self.declarations, self.fixed, self.hidden = {}, inner.fixed, ()
        self._opened = tracing.opened(network)
        self.blocks = tuple(dataclasses.replace(block, name=f"{part}.{block.name}") for block in inner.blocks)
        self.example, self.shapes, self.images_first = None, {}, True
        self._takes = inspect.signature(network.get_submodule(part).forward)

    def whole_gated(self, x: Any, setting: Gates) -> Any:
        """Return what the network returns under these gates."""

        def gated(*args: Any, **kwargs: Any) -> Any:
            return self.inner.whole_gated(taken(self._takes, args, kwargs), setting)

        return self._around(x, gated)

    def recorded(self, x: Any, setting: Gates, indices: Sequence[int]) -> Stream:
        """Return the output under these gates, and the values of some blocks."""
        values: dict[str, BlockValues] = {}

        def recorded(*args: Any, **kwargs: Any) -> Any:
            stream = self.inner.recorded(taken(self._takes, args, kwargs), setting, indices)
            values.update({f"{self.part}.{name}": value for name, value in stream.items()})
            return stream.output

        output = self._around(x, recorded)
        return Stream(output, values)

    def without(self, *which: Which) -> Smaller:
        """Raise UserError, as the network around the part is not a graph."""
        raise UnseenError(*worded("blocks-of-part-alone", why=self.why, part=self.part))

    @property
    def graph(self) -> fx.Graph:
        """Raise UserError, as only the part can be viewed."""
        raise UnseenError(*worded("part-alone", why=self.why, part=self.part))

    def stem(self, x: Any) -> Live:
        """Return the live values before the first block, and the network's input, on which the network is run again at
        the end.

        Raises:
            UserError: in training mode, as everything before the part would be run twice.
        """
        if self.network.training:
            raise UnseenError(*worded("part-in-training", why=self.why))
        check_hooks(self._opened)

        def stop(*args: Any, **kwargs: Any) -> None:
            raise _ReachedError(taken(self._takes, args, kwargs))

        try:
            self._around(x, stop)
        except _ReachedError as reached:
            live = self.inner.stem(reached.value)
            return live._replace(rest=(*live.rest, x))
        raise UnseenError(*worded("part-not-reached", part=self.part))

    def block(self, index: int, live: Live, gates: Gates = None) -> Live:
        """Run block `index` under the gates of all blocks."""
        after = self.inner.block(index, _inside(live), gates)
        return after._replace(rest=(*after.rest, live.rest[-1]))

    def head(self, live: Live) -> Any:
        """Return the output, given the live values after the last block."""
        out = self.inner.head(_inside(live))
        return self._around(live.rest[-1], lambda *args, **kwargs: out)

    def sides(self, index: int, live: Live) -> Sides:
        """Return the terms that block `index` adds, given the live values before it."""
        return self.inner.sides(index, _inside(live))

    def input(self, index: int, live: Live) -> Tensor:
        """Return block `index`'s input, given the live values before it."""
        return self.inner.input(index, _inside(live))

    def module(self, index: int, x: Tensor, beside: Sequence[Any] = ()) -> Tensor:
        """Return block `index`'s output for its input and what it takes beside it."""
        return self.inner.module(index, x, beside)

    def beside(self, index: int, live: Live) -> tuple[Any, ...]:
        """Return what block `index` takes beside its input."""
        return self.inner.beside(index, _inside(live))

    def beside_after(self, index: int, live: Live) -> tuple[Any, ...]:
        """Return what is live beside the stream after block `index`, and the images, which the rest is of."""
        return *self.inner.beside_after(index, _inside(live)), live.rest[-1]

    def parameters_of(self, index: int) -> list[nn.Parameter]:
        """Return the parameters that block `index` uses."""
        return self.inner.parameters_of(index)

    def modules_of(self, index: int) -> list[nn.Module]:
        """Return the modules that block `index` calls."""
        return self.inner.modules_of(index)

    def parameters_between(self, index: int) -> list[nn.Parameter]:
        """Return the parameters used between the addition before and block `index`."""
        return self.inner.parameters_between(index)

    @property
    def plan(self) -> Any:
        """The part's plan."""
        return self.inner.plan

    @property
    def not_split(self) -> tuple[NotSplit, ...]:
        """The skips that no gate is on: those around the part, and those in it."""
        inside = (skip._replace(where=f"{self.part}.{skip.where}".removesuffix(".")) for skip in self.inner.not_split)
        return NotSplit("", self.why), *inside

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as the network and the view of its part."""
        made = (self.network, self.sketch, self.output, self.part, self.inner, self.why, self.writes)
        return PartView, made, {"shapes": self.shapes, "example": self.example, "images_first": self.images_first}

    def _around(self, x: Any, forward: Callable[..., Any]) -> Any:
        """Run the network with another forward of its part."""
        with _standing_in(self.network.get_submodule(self.part), forward):
            return self.whole(x)


class _ReachedError(BaseException):
    """Stops a network when it reaches its part; no forward catches it."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


def _inside(live: Live) -> Live:
    return live._replace(rest=live.rest[:-1])


@contextmanager
def _standing_in(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Replace a module's forward, and restore it on exit; the new forward may call the old one."""
    own = vars(module).get("forward")

    def in_its_place(*args: Any, **kwargs: Any) -> Any:
        _put(module, own)
        try:
            return forward(*args, **kwargs)
        finally:
            _put(module, in_its_place)

    _put(module, in_its_place)
    try:
        yield
    finally:
        _put(module, own)


def _put(module: nn.Module, forward: Callable[..., Any] | None) -> None:
    """Set a module's own forward, or restore that of its class."""
    if forward is None:
        del vars(module)["forward"]
    else:
        vars(module)["forward"] = forward


def taken(takes: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the arguments of a module's call as a view takes them: one tensor, or arguments by name."""
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
        return args[0]
    return dict(takes.bind(*args, **kwargs).arguments)
