"""Operations that write into a value, as `x.add_(y)`, and values in the same memory, which change with it."""

import inspect
import operator
from operator import methodcaller
from typing import Any

import torch
from torch import fx, nn
from torch._ops import OpOverload

VIEWS = frozenset(
    {
        *(
            "chunk",
            "contiguous",
            "detach",
            "diagonal",
            "expand",
            "expand_as",
            "flatten",
            "getitem",
            "movedim",
            "narrow",
        ),
        *("permute", "reshape", "select", "split", "squeeze", "swapaxes", "t", "to", "transpose", "unbind"),
        *("unflatten", "unsqueeze", "view", "view_as", "without_gradient"),
    }
)
"""Functions and methods whose result is, or may be, in the memory of what they are given."""
PARTS = ("data", "T", "mT", "H", "mH", "real", "imag")
"""Attributes in a tensor's memory."""
_VIEWING = (nn.Identity, nn.Flatten, nn.Unflatten, nn.modules.dropout._DropoutNd)


def assigned(x: Any, key: Any, value: Any) -> Any:
    """Return `x` after `x[key] = value`: in a graph, so that later uses depend on it."""
    x[key] = value
    return x


def quietly(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """Return what a function, or a method by its name, returns without gradients: in a graph, where a forward writes
    into its parameters.
    """
    if isinstance(operation, str):
        operation = methodcaller(operation, *args[1:], **kwargs)
        args, kwargs = args[:1], {}
    with torch.no_grad():
        return operation(*args, **kwargs)


def since(value: Any, _written: Any) -> Any:
    """Return a value into whose memory another was written before: in a graph, so that later uses depend on it."""
    return value


def written(node: fx.Node, root: nn.Module) -> fx.Node | None:
    """Return the value that an operation writes into and returns, if it does."""
    if isinstance(node.target, OpOverload):
        return _of_schema(node, writes=True)
    out = node.kwargs.get("out")
    return out if isinstance(out, fx.Node) else _first(node) if _is_in_place(node, root) else None


def memory(node: fx.Node, root: nn.Module) -> fx.Node:
    """Return the value in whose memory a node's value is, or may be."""
    while (before := written(node, root) or _viewed(node, root)) is not None:
        node = before
    return node


def _viewed(node: fx.Node, root: nn.Module) -> fx.Node | None:
    if isinstance(node.target, OpOverload):
        return _of_schema(node, writes=False)
    return _first(node) if _is_view(node, root) else None


def _of_schema(node: fx.Node, *, writes: bool) -> fx.Node | None:
    """Return the argument in whose memory an exported operation's result is, and into which it writes, or does not."""
    schema = node.target._schema  # type: ignore[union-attr]  # of an OpOverload
    returned = {name for each in schema.returns if each.alias_info for name in each.alias_info.before_set}
    for place, argument in enumerate(schema.arguments):
        alias = argument.alias_info
        if alias is not None and alias.is_write == writes and returned & alias.before_set:
            given = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
            return given if isinstance(given, fx.Node) else None
    return None


def _first(node: fx.Node) -> fx.Node | None:
    return next((value for value in (*node.args, *node.kwargs.values()) if isinstance(value, fx.Node)), None)


def name_of(node: fx.Node) -> str:
    """Return the name of the function or the method that a node calls."""
    return str(getattr(node.target, "__name__", node.target))


def _is_in_place(node: fx.Node, root: nn.Module) -> bool:
    if node.op == "call_module":
        return bool(getattr(root.get_submodule(str(node.target)), "inplace", False))
    if not node.op.startswith("call") or node.target in (operator.and_, operator.or_, operator.not_):
        return False  # whose names end like those of operations in place
    name = name_of(node)
    ends = name.endswith("_") and not name.endswith("__")
    return ends or node.target is assigned or _asked_in_place(node)


def _asked_in_place(node: fx.Node) -> bool:
    """Return whether a function is given `inplace=True`, by name or by place."""
    if "inplace" in node.kwargs or node.op != "call_function":
        return node.kwargs.get("inplace") is True
    try:
        return inspect.signature(node.target).bind(*node.args).arguments.get("inplace") is True  # type: ignore[arg-type]  # a function
    except (TypeError, ValueError):  # it has no signature
        return False


def _is_view(node: fx.Node, root: nn.Module) -> bool:
    if node.op == "call_module":
        return isinstance(root.get_submodule(str(node.target)), _VIEWING)
    if node.target is getattr:
        return node.args[1] in PARTS
    return node.op.startswith("call") and (node.target is since or name_of(node) in VIEWS)
