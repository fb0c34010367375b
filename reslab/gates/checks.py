"""Checks of a network and its view: declarations, hooks, and that the view reproduces the network."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reslab.errors import MismatchError, UnknownNameError, UnseenError, Wording, WrongValueError, worded
from reslab.gates.inputs import Whole, cloned, tensors_of
from reslab.gates.tracing import Declarations
from reslab.state import preserve


def adopt_constants(made: nn.Module) -> None:
    """Make tensors that the network's forward creates into buffers of the view, so that they move with it."""
    for name, value in list(vars(made).items()):
        if isinstance(value, Tensor):
            delattr(made, name)
            made.register_buffer(name, value, persistent=False)


def check_hooks(opened: Mapping[str, nn.Module]) -> None:
    """Reject hooks on modules whose inside is run by the graph, as these hooks would not be called."""
    for name, module in opened.items():
        if has_hooks(module):
            where = name or Wording("the network", "신경망 자체")
            raise UnseenError(*worded("hook-skipped", name=where, kind=type(module).__name__))


def has_hooks(module: nn.Module) -> bool:
    """Return whether something is called before or after a module's forward or backward pass."""
    kinds = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(kinds)


def compare(expected: Any, got: Any, declarations: Declarations) -> None:
    """Reject a view whose output differs from its network's: in any bit or, for declared blocks, by more than
    rounding.
    """
    for one, other in zip(tensors_of(expected), tensors_of(got), strict=True):
        if one.is_meta:  # it has no values to compare
            continue
        if declarations:
            scale, difference = one.abs().max().item(), (one - other).abs().max().item()
            if not difference <= 1e-4 * scale:
                raise MismatchError(*worded("declared-differ", difference=difference, scale=scale))
        elif not same(one, other):
            raise UnseenError(*worded("graph-differs"))


def check_padding(whole: Whole, expected: Any, example: Any) -> None:
    """Reject a network whose transformer is another in evaluation mode without gradients, where torch's own one leaves
    out what is padded and returns zeros there.
    """
    if not any(getattr(module, "use_nested_tensor", False) for module in whole.network.modules()):
        return
    with preserve(whole.network), torch.no_grad(), warnings.catch_warnings(action="ignore"):  # nested tensors are new
        whole.network.eval()
        got = whole.whole(cloned(example))
    for one, other in zip(tensors_of(expected), tensors_of(got), strict=True):
        if not one.is_meta and not (one - other).abs().max().item() <= 1e-2 * one.abs().max().item():
            raise UnseenError(*worded("zeros-for-padding"))


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are the same, bit for bit; one NaN is like another."""
    one, other = (torch.view_as_real(each) if each.is_complex() else each for each in (one, other))
    if not torch.equal(one.isnan(), other.isnan()):
        return False
    return torch.equal(*(each.nan_to_num(0.0, math.inf, -math.inf) for each in (one, other)))


def check_declarations(network: nn.Module, declarations: Declarations) -> None:
    """Reject declarations of modules that the network does not have."""
    modules = dict(network.named_modules())
    for block, names in declarations.items():
        if block not in modules:
            raise UnknownNameError(*worded("no-declared-block", block=block))
        if len(names) not in (2, 3):
            raise WrongValueError(*worded("not-a-declaration", block=block, names=names))
        for name in names:
            if name is not None and f"{block}.{name}" not in modules:
                raise UnknownNameError(*worded("no-module-of-declared", block=block, name=name))
