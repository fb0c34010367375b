"""A copy of a network for many evaluations: BatchNorms folded, ReLUs in place, channels last, in the precision asked for."""

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from reslab.residual import View

Precision = Literal["32", "bf16"]


class FastView(View):
    """A view of a copy, for evaluation only. Made by `fast_copy`."""

    def prepare(self, images: Tensor) -> Tensor:
        """Return images `[B, C, H, W]` in the layout and precision that this copy computes in."""
        dtype = next(self.parameters()).dtype
        return images.to(dtype, memory_format=torch.channels_last) if images.dim() == 4 else images.to(dtype)


def fast_copy(view: View, precision: Precision) -> FastView:
    """Return a copy of a view that computes the same in evaluation mode, sooner.

    A BatchNorm that alone takes a convolution's output is folded into the convolution in float64, and cast back; the float32 logits then
    differ by rounding. "bf16" casts everything to bfloat16 after that.
    """
    network = copy.deepcopy(view.network).eval().requires_grad_(False)
    for conv, bn in view.conv_bn_pairs():
        before, after = network.get_submodule(conv).double(), network.get_submodule(bn).double()
        assert isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d)  # as conv_bn_pairs says
        _replace(network, conv, fuse_conv_bn_eval(before, after).float())
        _replace(network, bn, nn.Identity())
    for relu in view.in_place_relus():
        _replace(network, relu, nn.ReLU(inplace=True))
    network.to(memory_format=torch.channels_last)
    if precision == "bf16":
        network.to(torch.bfloat16)
    return FastView(network.eval(), view.declarations, frozenset(view.fixed))


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)
