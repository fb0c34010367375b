"""Entry points of torch.hub: `torch.hub.load(PATH, "resnet56", source="local", num_classes=10)`, one for every network
of `reslab models` whose name Python can have, so not for those of Level 2.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from reslab.networks import zoo

dependencies = ["torch", "torchvision", "safetensors", "jaxtyping"]


def _entry(name: str) -> Callable[..., nn.Module]:
    def build(**options: Any) -> nn.Module:
        return zoo.build(name, **options)

    build.__name__ = name
    build.__doc__ = f"Build {name}; options as for `reslab.build`, such as num_classes."
    return build


globals().update({name: _entry(name) for name in zoo.names() if name.isidentifier()})
