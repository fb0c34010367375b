"""The twin of a network for comparison: the same without BatchNorm."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from reslab.errors import UnseenError, worded
from reslab.gates.view import View
from reslab.gates.wrapped import unwrapped
from reslab.state import copied


def without_batchnorm(network: nn.Module) -> nn.Module:
    """Return a copy of the network in which every BatchNorm is the identity.

    Raises:
        UserError: if there is none, or one is of a custom class, which may do more than normalise.
    """
    network = network.network if isinstance(network, View) else unwrapped(network)
    normalisers = [(name, module) for name, module in network.named_modules() if isinstance(module, _BatchNorm)]
    if not normalisers:
        raise UnseenError(*worded("no-batchnorm-to-remove"))
    for name, module in normalisers:
        if not type(module).__module__.startswith("torch.nn."):
            raise UnseenError(*worded("no-plain-batchnorm", name=name, kind=type(module).__name__))
    # wherever a copy would have one, also in plain lists
    return copied(network, {module: nn.Identity().train(module.training) for _, module in normalisers})
