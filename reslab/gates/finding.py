"""Finding the blocks in a traced graph: outermost additions, dense layers, or the repeated units of a plain network."""

import operator
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Literal, NamedTuple

import torch
from torch import fx, nn

from reslab.gates import flow, tracing
from reslab.gates.following import UnknownError
from reslab.gates.writing import name_of, since, written

Kind = Literal["add", "concat", "unit"]

_PLAIN = (
    operator.add,
    operator.iadd,
    torch.add,
    "add",
    "add_",
    torch.ops.aten.add.Tensor,
    torch.ops.aten.add_.Tensor,
)
_SUBTRACTIONS = (
    operator.sub,
    operator.isub,
    torch.sub,
    torch.subtract,
    torch.rsub,
    "sub",
    "sub_",
    "subtract",
    "subtract_",
    torch.ops.aten.sub.Tensor,
    torch.ops.aten.sub_.Tensor,
)
"""Operations that form skips as additions do, except where a value's own statistics are subtracted, as in
normalisations.
"""
_STACKED = {torch.sum: True, "sum": True, torch.mean: False, "mean": False}
"""Operations that reduce a stack of values along its new dimension, and whether they add the values unweighted."""
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The units of a network without custom modules."""
_OTHER_SUMS = (
    torch.stack,
    torch.lerp,
    torch.addmm,
    torch.addcmul,
    torch.baddbmm,
    *("lerp", "lerp_", "addmm", "addmm_", "addcmul", "addcmul_", "baddbmm", "baddbmm_"),
)
"""Those by which a skip may be written and in which no branch is seen."""


class NotSplit(NamedTuple):
    """The place of a skip whose branch cannot be gated, and the reason."""

    where: str  # the module's path; "" is the network itself
    why: str

    def __str__(self) -> str:
        return f"in {self.where or 'the network itself'} {self.why}"


class Candidate(NamedTuple):
    """A block in the graph."""

    kind: Kind
    input: fx.Node  # the common ancestor of both sides
    shortcut: fx.Node
    branches: list[fx.Node]  # mostly one
    end: fx.Node  # the addition; for the other kinds, the branch itself
    identity: bool  # whether the shortcut is the identity
    name: str
    # whether the end is the sum of the shortcut and the branches, unweighted and none of them subtracted
    plain: bool = False


class Finder:
    """The blocks of one traced network."""

    def __init__(self, traced: tracing.Traced) -> None:
        self.traced = traced
        self.graph = traced.graph
        self.sources = flow.flows(traced.graph)
        self.parent = flow.immediate_dominators(self.sources)
        self.useful = flow.flows_to_output(traced.graph)
        self.not_split: list[NotSplit] = []
        self.rank = {node: position for position, node in enumerate(traced.graph.nodes)}
        modules, root = (node for node in self.sources if node.op == "call_module"), traced.known.root
        self.identities = {node for node in modules if isinstance(root.get_submodule(str(node.target)), nn.Identity)}
        self.identities |= {node for node in self.sources if node.target in (tracing.without_gradient, since)}
        self.identities |= {node for node in self.sources if name_of(node) in ("clone", "contiguous")}
        # as Python's sum() begins
        self.identities |= {node for node in self.sources if node.target in _PLAIN and 0 in node.args}

    def blocks(self, *, hidden: bool = False) -> list[Candidate]:
        """Return the blocks in the order in which they end: residual blocks and dense layers, or else the units of a
        plain network, which one with `hidden` skips is not. Skips that cannot be split, for example because both sides
        are equally long, are listed in `not_split`.
        """
        additions = self._additions()
        layers = self._dense_layers({block.end for block in additions})
        found = additions + [layer for layer in layers if layer.end in self.useful]
        self._name_other_sums()
        found = found or ([] if self.not_split or hidden else self._units())
        return _unique(sorted(found, key=lambda block: self.rank[block.end]))

    def _additions(self) -> list[Candidate]:
        """Return the blocks at the outermost additions; declared blocks count as outermost."""
        declared = set(self.traced.declared.values())
        found = []
        self.covered: set[fx.Node] = set()
        outer_first = filter(self._is_addition, reversed(self.graph.nodes))
        for node in sorted(outer_first, key=lambda node: node not in declared):
            region = self._between(self._start(node), node)
            if node in self.covered or (node not in declared and region & declared):
                continue
            block = self._declared(node) if node in declared else self._residual(node)
            if block is not None:
                self.covered |= region
                found.append(block)
        return found

    def _is_addition(self, node: fx.Node) -> bool:
        """Return whether a node adds, or subtracts, two values that both come from the images, and are more than
        numbers, such as penalties that are summed up.
        """
        if node not in self.useful or len(self._added(node)) < 2 or self.traced.known.is_number(node):
            return False
        return (
            _stacked(node) is not None
            or node.target in _PLAIN
            or (node.target in _SUBTRACTIONS and self._learns(self._between(self._start(node), node)))
        )

    def _start(self, node: fx.Node) -> fx.Node:
        """Return the last common ancestor of all terms of an addition: one of the terms, if all others come from it,
        whatever else they come from.
        """
        node = _stacked(node) or node
        first, *others = sorted(self._summed(node), key=self.rank.__getitem__)
        common = self.parent[node]
        whole = common not in (first, *others) and all(self._comes_from(other, first) for other in others)
        return first if whole else common

    def _summed(self, node: fx.Node) -> set[fx.Node]:
        """Return the terms of an addition, and of the additions that are written for it alone: x, f, g of x + f + g."""
        found: set[fx.Node] = set()
        for term in self.sources[node]:
            adds = term.target in (*_PLAIN, *_SUBTRACTIONS) and len(self.sources[term]) > 1 and len(term.users) == 1
            found |= self._summed(term) if adds else {term}
        return found

    def _comes_from(self, node: fx.Node, ancestor: fx.Node) -> bool:
        """Return whether a value comes from another."""
        least = self.rank[ancestor]

        def back(node: fx.Node) -> list[fx.Node]:
            return [source for source in self.sources[node] if self.rank[source] >= least]

        return ancestor in flow.reached([node], back)

    def _learns(self, nodes: set[fx.Node]) -> bool:
        """Return whether the nodes call modules or use parameters."""
        root = self.traced.known.root
        return any(
            node.op == "call_module"
            # a buffer that a forward writes statistics into is no parameter
            or any(source.op == "get_attr" and written(node, root) is not source for source in node.all_input_nodes)
            for node in nodes
        )

    def _name_other_sums(self) -> None:
        """Record where a value is joined, possibly by a sum, with one computed from it, outside of the blocks."""
        for node in self.sources:
            if (
                node.target in _OTHER_SUMS
                and node not in self.covered
                and self.parent.get(node) in self.sources[node]
                and len(self.sources[node]) > 1
            ):
                why = f"a skip may be written as {node.name}, in which no branch is seen; write it as x + f(x)"
                self.not_split.append(NotSplit(_scope(node), why))

    def _added(self, node: fx.Node) -> list[fx.Node]:
        """Return the terms of an addition that come from the images, however they are passed."""
        stack = _stacked(node)
        given = (*node.args, *node.kwargs.values()) if stack is None else stack.all_input_nodes
        sources = self.sources.get(node if stack is None else stack, [])
        return list(dict.fromkeys(arg for arg in given if isinstance(arg, fx.Node) and arg in sources))

    def _declared(self, node: fx.Node) -> Candidate:
        shortcut, branch = node.all_input_nodes
        start = self._start(node)
        name = next(path for path, addition in self.traced.declared.items() if addition is node)
        return Candidate(
            "add", start, shortcut, [branch], node, self._length(start, shortcut) == 0, _outside(name), plain=True
        )

    def _residual(self, node: fx.Node) -> Candidate | None:
        """Distinguish the shortcut of an addition from its branches: it is the ancestor itself if that is a term, else
        the shorter side. Record a skip whose sides are equally long.
        """
        start = self._start(node)
        terms = list(self._terms(node, start))
        if all(self._length(start, term) for term in terms):
            terms = self._added(node)
        first, second = sorted(self._length(start, term) for term in terms)[:2]
        if first == second:
            where = _scope(node)
            advice = f'; declare it: blocks={{"{where}": ("branch", "shortcut")}}' if where else ""
            why = (
                f"the addition {node.name} has two sides of {first} operations each, so its shortcut cannot be told "
                f"from its branch{advice}"
            )
            self.not_split.append(NotSplit(where, why))
            return None
        shortcut = min(terms, key=lambda term: self._length(start, term))
        branches = [term for term in terms if term is not shortcut]
        inside = _common([_scope(node), self._path(start, branches)])
        plain = self._is_plain(node, start)
        return Candidate(
            "add", start, shortcut, branches, node, first == 0, inside or self._path(start, branches), plain
        )

    def _terms(self, node: fx.Node, start: fx.Node) -> Iterator[fx.Node]:
        """Yield the terms of a sum written as several additions: `x + f(x) + g(x)`."""
        for arg in self._added(node):
            if self._is_part(arg, start):
                yield from self._terms(arg, start)
            else:
                yield arg

    def _is_part(self, arg: fx.Node, start: fx.Node) -> bool:
        """Return whether a term of a sum from `start` is itself an addition, of further terms."""
        return self._is_addition(arg) and self._start(arg) is start and len(arg.users) == 1

    def _is_plain(self, node: fx.Node, start: fx.Node) -> bool:
        """Return whether a sum adds its terms unweighted, with none subtracted."""
        parts = [arg for arg in self._added(node) if self._is_part(arg, start)]
        plain = node.target in _PLAIN if _stacked(node) is None else _STACKED[node.target]
        return plain and "alpha" not in node.kwargs and all(self._is_plain(part, start) for part in parts)

    def _dense_layers(self, ends: set[fx.Node]) -> list[Candidate]:
        """Return the dense layers: values that are concatenated with their own common ancestor."""
        layers: dict[fx.Node, Candidate] = {}
        seen: set[fx.Node] = set()  # outputs of earlier layers, which later layers read
        for node in self.graph.nodes:
            concatenates = node.op == "call_function" and node.target in (torch.cat, torch.concat, torch.concatenate)
            if (
                not concatenates
                or node in self.covered
                or node not in self.parent
                or self.parent[node] not in self.sources[node]
            ):
                continue
            start = self.parent[node]
            for new in self.sources[node]:
                if new is not start and new not in layers and not self._between(start, new) & ends:
                    own = self._between(start, new) - seen
                    layers[new] = Candidate("concat", start, start, [new], new, True, self._path_of(own) or _scope(new))
                    seen |= own
        return list(layers.values())

    def _units(self) -> list[Candidate]:
        """Return the repeated units of a plain network: the calls of the most frequent class among the outermost that
        repeat.
        """
        called = {path: kind for path, kind in self.traced.types.items() if path in self.traced.calls}
        own = {path: kind for path, kind in called.items() if not kind.__module__.startswith("torch.nn.")}
        return self._most_frequent(own) or self._most_frequent(
            {path: kind for path, kind in called.items() if issubclass(kind, _LAYERS)}
        )

    def _most_frequent(self, types: Mapping[str, type[nn.Module]]) -> list[Candidate]:
        """Return the calls, of the most frequent class, that the parameter-free shortcut can replace."""
        counts = Counter(types.values())
        repeated = [path for path, kind in types.items() if counts[kind] > 1]
        outermost = [path for path in repeated if not any(path.startswith(f"{other}.") for other in repeated)]
        bridged = [path for path in outermost if self._is_bridged(self.traced.calls[path])]
        if not bridged:
            return []
        (most, _), *_ = Counter(types[path] for path in bridged).most_common(1)
        calls = [(path, *self.traced.calls[path]) for path in bridged if types[path] is most]
        return [Candidate("unit", taken, taken, [given], given, False, _outside(path)) for path, taken, given in calls]

    def _is_bridged(self, call: tracing.Call) -> bool:
        """Return whether striding and zero channels bring a call's input into the shape of its output."""
        try:
            before, after = map(self.traced.known.shape, call)
        except UnknownError:
            return True  # the shapes are not known: the view is tried on the example
        if len(before) != len(after) or len(before) < 2:
            return False
        steps = [-(-one // other) for one, other in zip(before[2:], after[2:], strict=True)]
        strided = [-(-one // step) for one, step in zip(before[2:], steps, strict=True)]
        return before[1] <= after[1] and strided == list(after[2:])

    def _between(self, start: fx.Node, end: fx.Node) -> set[fx.Node]:
        return flow.between(start, end, self.sources)

    def _length(self, start: fx.Node, term: fx.Node) -> int:
        return sum(map(self._operations, self._between(start, term) - self.identities))

    def _operations(self, node: fx.Node) -> int:
        """Return how many operations a node is: 1, or as many as there are layers in a module that was not traced."""
        if node.op != "call_module" or str(node.target) not in self.traced.leaves:
            return 1
        inside = self.traced.known.root.get_submodule(str(node.target)).modules()
        return max(1, sum(tracing.is_layer(module) for module in inside))

    def _path(self, start: fx.Node, branches: list[fx.Node]) -> str:
        nodes = set[fx.Node]().union(*(self._between(start, branch) for branch in branches))
        return self._path_of(nodes) or _scope(branches[0])

    def _path_of(self, nodes: set[fx.Node]) -> str:
        """Return the common path of the modules that the nodes call, and of the modules whose parameters they use."""
        modules = [str(node.target) for node in nodes if node.op == "call_module"]
        parameters = {source for node in nodes for source in node.all_input_nodes if source.op == "get_attr"}
        return _common(
            [_outside(path) for path in (*modules, *(str(node.target).rpartition(".")[0] for node in parameters))]
        )


def _stacked(node: fx.Node) -> fx.Node | None:
    """Return the stack that a node sums along its new dimension; None if it does not."""
    if node.target not in _STACKED or not node.all_input_nodes:
        return None
    stack = node.all_input_nodes[0]
    if stack.target is not torch.stack:
        return None
    along = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    stacked = stack.args[1] if len(stack.args) > 1 else stack.kwargs.get("dim", 0)
    return (
        stack
        if along in (stacked, [stacked], (stacked,)) and len(node.args) < 3 and not node.kwargs.get("keepdim")
        else None
    )


def _outside(path: str) -> str:
    """Return a module's path in the user's network."""
    return path.removeprefix("network").removeprefix(".")


def _scope(node: fx.Node) -> str:
    """Return the path of the module whose forward made the node."""
    path = str(next(reversed(node.meta.get("nn_module_stack", {"": None}))))
    return _outside(path.partition("@")[0])  # torch.fx marks the second call of a module with @1


def _common(paths: list[str]) -> str:
    """Return the common beginning of all the paths."""
    levels = zip(*(path.split(".") for path in paths), strict=False)
    return ".".join(level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels))


def _unique(found: list[Candidate]) -> list[Candidate]:
    """Return the blocks with [0], [1], … appended to shared names."""
    names = [block.name or "network" for block in found]
    return [
        block._replace(name=f"{name}[{names[:index].count(name)}]" if names.count(name) > 1 else name)
        for index, (block, name) in enumerate(zip(found, names, strict=True))
    ]
