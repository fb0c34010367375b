"""A view for many evaluations: of a copy with BatchNorms folded, ReLUs in place, channels last, in the precision asked
for.
"""

import warnings
from collections import Counter
from contextlib import suppress
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from reslab.analysis.subject import ROUNDING, agree
from reslab.errors import check_one_of
from reslab.gates.checks import has_hooks
from reslab.gates.inputs import in_dtype
from reslab.gates.planning import Live
from reslab.gates.view import View
from reslab.sending import widest
from reslab.state import copied

Precision = Literal["32", "bf16"]

BF16_ROUNDING = 0.1
"""Like `ROUNDING`, for bfloat16's eight bits through a deep network."""


_MAKERS = (nn.Conv2d, nn.BatchNorm2d)
"""Layers whose output never shares memory with their input, as that of dropout in evaluation mode does."""


class FastView(View):
    """A view of a copy, for evaluation only, that takes images in any layout and precision. Made by `fast_view`."""

    def stem(self, x: Any) -> Live:
        """Return the live values before the first block, for images in the layout and precision of this copy."""
        x = in_dtype(x, next(self.parameters()).dtype)
        images = isinstance(x, Tensor) and x.dim() == 4
        return super().stem(x.contiguous(memory_format=torch.channels_last) if images else x)


def fast_view(view: View, images: Tensor, precision: Precision = "32") -> View:
    """Return a faster view with the same outputs in evaluation mode, or this one, with a warning, if there is none."""
    fast = faster(view, images, precision)
    if fast is not None:
        return fast
    asked = "" if precision == "32" else ", in its own precision"
    warnings.warn(
        f"no faster copy of the network gives the same outputs; the network itself is run{asked}, which takes longer",
        stacklevel=5,
    )
    return view


def faster(view: View, images: Tensor, precision: Precision = "32") -> FastView | None:
    """Return a faster view with the same outputs in evaluation mode; None if there is none.

    A BatchNorm that is the only reader of a convolution's output is folded into the convolution in float64 and cast
    back; float32 logits then differ by rounding. "bf16" casts everything to bfloat16 after that. The copy is compared
    with the network on these images, with all blocks and with some of each, as a network may share, prune or hook a
    folded layer.

    Args:
        view: of a network in evaluation mode.
        images: a batch.
        precision: "32" or "bf16".
    """
    check_one_of("precision", precision, get_args(Precision))
    with suppress(Exception):  # whatever prevents such a copy, the network itself still works
        fast = _fast_copy(view)
        if _answers_as(fast, view, images, ROUNDING):
            if precision == "32":
                return fast
            fast.to(torch.bfloat16)
            if _answers_as(fast, view, images, BF16_ROUNDING):
                return fast
    return None


def _fast_copy(view: View) -> FastView:
    network = copied(view.network).eval().requires_grad_(False)
    for conv, bn in conv_bn_pairs(view):
        before, after = network.get_submodule(conv), network.get_submodule(bn)
        assert isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d)  # as conv_bn_pairs says
        dtype, wide = before.weight.dtype, widest(before.weight.device)
        network.set_submodule(conv, fuse_conv_bn_eval(before.to(wide), after.to(wide)).to(dtype))
        network.set_submodule(bn, nn.Identity())
    for relu in in_place_relus(view):
        network.set_submodule(relu, nn.ReLU(inplace=True))
    network.to(memory_format=torch.channels_last)
    return FastView(
        network.eval(), view.sketch, view.declarations, frozenset(view.fixed), output=view.output, writes=view.writes
    )


def conv_bn_pairs(view: View) -> list[tuple[str, str]]:
    """Return the (convolution, BatchNorm) paths in the network where the convolution's output goes into the BatchNorm
    and nowhere else.
    """
    calls = _single_calls(view)
    pairs = [
        (node.args[0], node)
        for node, module in calls.items()
        if type(module) is nn.BatchNorm2d and module.running_mean is not None
    ]
    return [
        (_path(conv), _path(bn))
        for conv, bn in pairs
        if isinstance(conv, fx.Node) and type(calls.get(conv)) is nn.Conv2d and len(conv.users) == 1
    ]


def in_place_relus(view: View) -> list[str]:
    """Return the paths of the ReLUs that may overwrite their input: a layer or an addition has just made it, and
    nothing else uses it.
    """
    calls = _single_calls(view)
    ends = {place.end for place in view.plan.places}
    relus = [node for node, module in calls.items() if type(module) is nn.ReLU]
    return [
        _path(node)
        for node in relus
        if len((made := node.all_input_nodes[0]).users) == 1 and (made in ends or isinstance(calls.get(made), _MAKERS))
    ]


def _single_calls(view: View) -> dict[fx.Node, nn.Module]:
    """Return the calls of modules that are called exactly once, and have no hooks, with the modules."""
    nodes = [node for node in view.plan.graph.nodes if node.op == "call_module"]
    counts = Counter(node.target for node in nodes)
    called = {node: view.get_submodule(str(node.target)) for node in nodes if counts[node.target] == 1}
    return {node: module for node, module in called.items() if not has_hooks(module)}


def _path(call: fx.Node) -> str:
    """Return the path, in the network, of the module that is called."""
    return str(call.target).removeprefix("network.")


def _answers_as(fast: View, view: View, images: Tensor, tolerance: float) -> bool:
    # others for every block, as folded layers may turn any one's shortcut into its branch
    gates = torch.linspace(0.25, 0.75, len(view), device=images.device)
    return agree(fast(images), view.whole(images), tolerance) and agree(
        fast(images, gates), view(images, gates), tolerance
    )
