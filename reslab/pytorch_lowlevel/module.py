"""An adapter: Level 2's dicts and functions as a module, so that the trainer, the studies and the analyses take them
like any network.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from reslab.pytorch_lowlevel import resnet_lowlevel as lowlevel


class LowLevelResNet(nn.Module):
    """Holds parameters and running statistics under torchvision's names, and calls `resnet_lowlevel.forward`."""

    def __init__(self, depth: int, num_classes: int, in_channels: int, stride_in: lowlevel.StrideIn) -> None:
        super().__init__()
        self.input_shape = (in_channels, 224, 224)
        next(lowlevel.blocks(depth, stride_in))  # which refuses what is neither
        self.stride_in = stride_in
        # the global generator decides, as in any module
        seed = int(torch.empty((), dtype=torch.int64, device="cpu").random_().item())
        generator = torch.Generator("cpu").manual_seed(seed)
        params, stats = lowlevel.initialise(
            depth, generator=generator, num_classes=num_classes, in_channels=in_channels
        )
        for name, value in params.items():
            self._holder(name).register_parameter(name.rpartition(".")[2], nn.Parameter(value))
        for name, value in stats.items():
            self._holder(name).register_buffer(name.rpartition(".")[2], value)

    def _holder(self, name: str) -> nn.Module:
        """Return the nested, empty module that holds a dotted name's value."""
        module: nn.Module = self
        for part in name.split(".")[:-1]:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        return module

    def extra_repr(self) -> str:
        """Return where its bottlenecks stride, which no parameter shows."""
        return f"stride_in={self.stride_in}"

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits `[B, classes]` of images `[B, in_channels, H, W]`; in training mode, track
        the statistics.
        """
        stats = dict(self.named_buffers())
        logits, new = lowlevel.forward(
            dict(self.named_parameters()), stats, images, training=self.training, stride_in=self.stride_in
        )
        if self.training:
            for name, value in stats.items():
                value.copy_(new[name].detach())
        return logits


def lowlevel_resnet(
    depth: int, *, num_classes: int = 1000, in_channels: int = 3, stride_in: lowlevel.StrideIn = "1x1"
) -> LowLevelResNet:
    """Return Level 2's network of depth 18, 34, 50, 101 or 152; the stride placement is the paper's unless
    `stride_in="3x3"`.
    """
    return LowLevelResNet(depth, num_classes, in_channels, stride_in)


MODELS: dict[str, Callable[..., nn.Module]] = {
    f"lowlevel/resnet{depth}": partial(lowlevel_resnet, depth) for depth in lowlevel.BLOCKS
}

_SOURCE = (
    "He et al. 2015, Table 1 (1.8, 3.6, 3.8, 7.6, 11.3 G multiply-adds), projections where the shape changes (option B)"
)

REFERENCE: dict[str, tuple[int, int, str]] = {
    # name: (parameters, multiply-adds of convolutions and classifier for one 224×224 colour image, source)
    "lowlevel/resnet18": (11_689_512, 1_814_073_344, _SOURCE),
    "lowlevel/resnet34": (21_797_672, 3_663_761_408, _SOURCE),
    "lowlevel/resnet50": (25_557_032, 3_857_973_248, _SOURCE),
    "lowlevel/resnet101": (44_549_160, 7_570_194_432, _SOURCE),
    "lowlevel/resnet152": (60_192_808, 11_282_415_616, _SOURCE),
}
