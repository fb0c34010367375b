"""The layout of images in memory: channels last, the fastest for convolutions, where a network takes it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from reslab.sending import sent
from reslab.state import all_draws_apart, copied, device_of


def fastest_layout(network: nn.Module, images: Any) -> torch.memory_format:
    """Return channels last; or the layout as it is, for a network that channels last stop, such as one that flattens
    its maps by `view`.

    Args:
        network: any; it is left as it is.
        images: a batch of what it takes.
    """
    if any(each.dim() > 4 for each in (*network.parameters(), *network.buffers())):
        return torch.preserve_format  # filters of three dimensions have no channels last
    with all_draws_apart(), torch.no_grad():
        try:
            probe = copied(network)  # a forward may write into its parameters
            probe.to(memory_format=torch.channels_last)
            probe(laid_out(moved(images, device_of(network)), torch.channels_last))
        except Exception:  # what else is wrong comes again where the network is used
            return torch.preserve_format
    return torch.channels_last


def moved(images: Any, device: torch.device) -> Any:
    """Return images, or several inputs, on a device."""
    return tree_map(lambda each: sent(each, device) if isinstance(each, Tensor) else each, images)


def laid_out(images: Any, layout: torch.memory_format) -> Any:
    """Return images, or several inputs, with those of `[B, C, H, W]` in a layout."""

    def there(value: Any) -> Any:
        return value.contiguous(memory_format=layout) if isinstance(value, Tensor) and value.dim() == 4 else value

    return images if layout is torch.preserve_format else tree_map(there, images)
