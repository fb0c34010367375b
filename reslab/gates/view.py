"""The residual view: the blocks of any network, each behind a gate, `y = shortcut(x) + g · F(x)`.

Blocks are found in the traced graph, not by class name: a block is an outermost addition of two values with a common
ancestor. The shorter side is the shortcut, the longer one the branch.
"""

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, fx, nn

from reslab.errors import UnseenError, worded
from reslab.gates import flow, showing, tracing
from reslab.gates.asking import AskedGates, Replacement, Which, gates_of, in_all, index_of, indices_of, replacing
from reslab.gates.checks import adopt_constants, check_hooks
from reslab.gates.finding import NotSplit
from reslab.gates.gating import Gates, Setting, Standing, fits
from reslab.gates.inputs import Output, Whole, count_of, tensors_of
from reslab.gates.planning import Live, Plan, make_plan
from reslab.gates.recording import Sides, Stream, record
from reslab.gates.tracing import Declarations
from reslab.gates.without import Smaller, without
from reslab.state import device_of, preserve

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class View(Whole):
    """A module that shares a network's parameters and has a forward with one gate per block. Made by `view`.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits").eval()
        >>> images, _ = reslab.load_data("digits").sample("test", 4)
        >>> gated = reslab.view(network, images)
        >>> gated(images, gates={"layer1.0": 0}).shape  # the network without one block
        torch.Size([4, 10])
        >>> gated.run(images, ["layer1.0"])["layer1.0"].branch.shape  # what the block adds
        torch.Size([4, 16, 8, 8])
        >>> gated.to_frame().loc["layer2.0", "shortcut"]
        'changes'
    """

    def __init__(
        self,
        network: nn.Module,
        example: Any,  # a sketch of it
        declarations: Declarations,
        fixed: frozenset[str] = frozenset(),
        hidden: Sequence[NotSplit] = (),
        output: Output = None,
        writes: bool = False,
    ) -> None:
        super().__init__(network, example, output, writes=writes)
        self.hidden = tuple(hidden)
        self.declarations = declarations
        self.fixed = sorted(fixed)  # modules with a graph for each of their modes, since their forward branches on it
        self._opened = tracing.opened(network)
        self._plans: dict[tuple[bool, ...], Plan] = {}
        self.blocks = self.plan.blocks
        self.example: Any = None  # the first two of it
        self.shapes: dict[int, torch.Size] = {}  # of what each block adds, for the example
        self.images_first = True  # whether the first dimension of all of them is the batch

    def forward(
        self,
        x: Any,
        gates: AskedGates | None = None,
        replace: Mapping[Which, Replacement] | None = None,
    ) -> Any:
        """Return what the network returns, with each block's branch multiplied by its gate.

        Args:
            x: images `[B, C, H, W]`, or whatever the network takes; several inputs in a tuple or a dict.
            gates: float `[n]` or `[n, B]`, or `{"layer2.1": 0}` with 1 for all others; without gates, the network bit
                for bit.
            replace: replacements of branches, before gating: `{"layer3.2": "mean"}` for the mean over the batch; a
                tensor of the branch's shape (or for one image); other images, for which the branch is computed (a
                tensor that could be either is the branch's value); or a function of the branch's own value.

        Raises:
            UserError: if the gates or replacements do not fit, a hook was added that the view would skip, or the
                network branches on the shape of its input and would take another path than for the example.
        """
        return self.whole_gated(x, self.setting(x, gates, replace))

    def whole_gated(self, x: Any, setting: Gates) -> Any:
        """Return what the network returns under these gates."""
        live = self.stem(x)
        for index in range(len(self.blocks)):
            live = self.block(index, live, setting)
        return self.head(live)

    def run(
        self,
        x: Any,
        keep: Collection[Which] | Which = "all",
        *,
        gates: AskedGates | None = None,
        replace: Mapping[Which, Replacement] | None = None,
    ) -> Stream:
        """Return the forward's output and, by name, the inputs, terms and sums of blocks: `run(x)["layer1.0"].sum`.

        Memory: four copies of a block's values for each recorded block.

        Raises:
            UserError: as the forward; if there is no such block, or one has several branches that are weighted or
                subtracted.
        """
        check_hooks(self._opened)
        return self.recorded(x, self.setting(x, gates, replace), indices_of(self.blocks, keep))

    def recorded(self, x: Any, setting: Gates, indices: Sequence[int]) -> Stream:
        """Return the output under these gates, and the values of some blocks."""
        return record(self, self.plan, x, setting, indices)

    def setting(
        self,
        x: Any,
        gates: AskedGates | None,
        replace: Mapping[Which, Replacement] | None,
    ) -> Gates:
        """Return `forward`'s arguments as a setting for `block`.

        Raises:
            UserError: if the gates do not fit, there is no such block, or its replacement is invalid.
        """
        x = dict(x) if isinstance(x, Mapping) else x
        asked = None if gates is None else gates_of(self.blocks, gates, count_of(x), tensors_of(x)[0].device)
        by_mean = any(isinstance(each, str) and each == "mean" for each in (replace or {}).values())
        if by_mean or (asked is not None and asked.dim() == 2):
            self.check_images_first()
        if not replace:
            return asked
        return Setting(
            asked, {index_of(self.blocks, which): self._standing_in(which, x, replace[which]) for which in replace}
        )

    def _standing_in(self, which: Which, x: Any, what: Replacement) -> Standing:
        """Return the function from a branch to its replacement; for images, the branch computed for them."""
        if not isinstance(what, Tensor) or not isinstance(x, Tensor) or what.shape[1:] != x.shape[1:]:
            return replacing(what, f"block {which!r}")

        def value(branch: Tensor) -> Tensor:
            return what if fits(what, branch) else next(iter(self.run(what, (which,)).values())).branch

        return in_all(value)

    def gates(self, *, off: Collection[Which] | Which = ()) -> Float[Tensor, "n"]:
        """Return gates `[n]`: 0 for the blocks that are off, 1 for the others.

        Raises:
            UserError: if there is no such block.
        """
        gates = torch.ones(len(self.blocks), device=device_of(self))
        gates[indices_of(self.blocks, off)] = 0
        return gates

    def without(self, *which: Which) -> Smaller:
        """Return a module without the branches of these blocks: in evaluation mode the network with their gates at 0,
        bit for bit, but with fewer parameters and multiply-adds.

        Its parameters are copies, with the network's names.

        Raises:
            UserError: if there is no such block, one is not exactly the sum of a shortcut and branches, or the network
                without it differs from the one with its gate at 0.
        """
        return without(self, indices_of(self.blocks, which))

    def check_images_first(self) -> None:
        """Check that what blocks add is `[B, …]`.

        Raises:
            UserError: if it is not, as in transformers that have tokens first, where nothing is of one image.
        """
        if not self.images_first:
            raise UnseenError(*worded("tokens-first", name=type(self.network).__name__))

    def index(self, which: Which) -> int:
        """Return the number of a block of this name.

        Raises:
            UserError: if there is no such block.
        """
        return index_of(self.blocks, which)

    def __repr__(self) -> str:
        """Return a row per block: name, kind, whether its shortcut is the identity, the shape of its branch for one
        image, and its parameters.
        """
        return f"View of {type(self.network).__name__}: {len(self)} blocks\n{showing.table(self)}"

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per part, the stem, each block and the head: its kind, its shortcut, the shape of what it gives
        for an image of the example, and its parameters.
        """
        return showing.frame(self)

    def figure(self) -> "Figure":
        """Return a drawing of the blocks."""
        return showing.figure(self)

    def _repr_html_(self) -> str:
        return showing.html(self)

    def __len__(self) -> int:
        """Return n, the number of blocks and gates."""
        return len(self.blocks)

    def stem(self, x: Any) -> Live:
        """Return the live values before the first block."""
        if not torch.compiler.is_compiling():
            check_hooks(self._opened)
        live: Live = self.plan.segments[0](self, x, None)
        return live

    def block(self, index: int, live: Live, gates: Gates = None) -> Live:
        """Run block `index`, including everything since the previous block, under the gates, or the setting, of all
        blocks.
        """
        live = self.plan.segments[index + 1](self, live.stream, *live.rest, gates)
        return live

    def head(self, live: Live) -> Any:
        """Return the output, given the live values after the last block."""
        return self.plan.segments[-1](self, live.stream, *live.rest, None)

    def sides(self, index: int, live: Live) -> Sides:
        """Return the terms that block `index` adds, given the live values before it.

        Raises:
            UserError: if it is not exactly the sum of a shortcut and branches.
        """
        return Sides(*self.plan.sides(index)(self, live.stream, *live.rest))

    def input(self, index: int, live: Live) -> Shaped[Tensor, "b ..."]:
        """Return block `index`'s input, given the live values before it."""
        x: Tensor = self.plan.input(index)(self, live.stream, *live.rest)
        return x

    def module(self, index: int, x: Shaped[Tensor, "b ..."], beside: Sequence[Any] = ()) -> Shaped[Tensor, "b ..."]:
        """Return block `index`'s output for its input `x`, including an activation after the addition if the block's
        module has one, and for what it takes `beside` it.
        """
        out: Tensor = self.plan.module(index)(self, x, *beside)
        return out

    def beside(self, index: int, live: Live) -> tuple[Any, ...]:
        """Return what block `index` takes beside its input, such as a mask; mostly nothing."""
        taken = self.plan.taken_beside[index]
        return tuple(
            value
            for node, value in zip(self.plan.cuts[index].live, (live.stream, *live.rest), strict=True)
            if node in taken
        )

    def beside_after(self, index: int, live: Live) -> tuple[Any, ...]:
        """Return what is live beside the stream after block `index`, given the live values before it."""
        found: tuple[Any, ...] = self.plan.beside(index)(self, live.stream, *live.rest)
        return found

    @property
    def graph(self) -> fx.Graph:
        """The gated graph of the whole network."""
        return self.plan.graph

    @property
    def not_split(self) -> tuple[NotSplit, ...]:
        """The skips without a gate, and the reason for each."""
        return self.plan.not_split + self.hidden

    @property
    def is_chain(self) -> bool:
        """Whether the blocks are residual and follow one another, so that each sees only the sum before it."""
        return self.plan.is_chain

    def parameters_of(self, index: int) -> list[nn.Parameter]:
        """Return the parameters that block `index` uses, on either side, also for what it takes beside its input."""
        return self._parameters_at(self._nodes_of(index))

    def modules_of(self, index: int) -> list[nn.Module]:
        """Return the modules that block `index` calls, on either side, with those in them."""
        called = [str(node.target) for node in self._nodes_of(index) if node.op == "call_module"]
        return [module for path in called for module in self.get_submodule(path).modules()]

    def _nodes_of(self, index: int) -> set[fx.Node]:
        place = self.plan.places[index]
        before = self.plan.given(place, self.plan.cuts[index])
        return flow.reached([place.end], attrgetter("all_input_nodes"), (place.input, *before))

    def parameters_between(self, index: int) -> list[nn.Parameter]:
        """Return the parameters used between the addition before and block `index`: for v1 and v2 blocks, none."""
        before = self.plan.cuts[index].live if index else ()
        return self._parameters_at(flow.reached([self.plan.places[index].input], attrgetter("all_input_nodes"), before))

    def _parameters_at(self, nodes: Collection[fx.Node]) -> list[nn.Parameter]:
        found: dict[nn.Parameter, None] = {}  # in the order of the graph, each once
        for node in filter(nodes.__contains__, self.plan.graph.nodes):
            for used in (node, *node.all_input_nodes):
                # a parametrization is called without inputs, where a parameter is read
                if used.op == "call_module" and (used is node or not used.all_input_nodes):
                    found |= dict.fromkeys(self.get_submodule(str(used.target)).parameters())
                elif used.op == "get_attr" and isinstance(value := attrgetter(str(used.target))(self), nn.Parameter):
                    found[value] = None
        return list(found)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle only the network, which is then traced again."""
        return (
            View,
            (
                self.network,
                self.sketch,
                self.declarations,
                frozenset(self.fixed),
                self.hidden,
                self.output,
                self.writes,
            ),
            {"shapes": self.shapes, "example": self.example, "images_first": self.images_first},
        )

    @property
    def plan(self) -> Plan:
        """The gated graph in parts, for the current modes of the fixed modules. Most networks have no such modules, and
        one plan.
        """
        modes = tuple(self.get_submodule(path).training for path in self.fixed)
        if modes not in self._plans:
            with preserve(self.network):
                made = make_plan(tracing.trace(self, self.declarations, self.fixed), self.hidden)
            if any(_kinds(made) != _kinds(other) for other in self._plans.values()):
                raise UnseenError(*worded("blocks-of-two-modes"))
            self._plans[modes] = made
            adopt_constants(self)
        return self._plans[modes]


def _kinds(plan: Plan) -> list[str]:
    return [block.kind for block in plan.blocks]  # names may be told from more in one mode than in the other
