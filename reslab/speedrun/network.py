"""A residual network, and the recipe that trains it, for the highest accuracy in the shortest time on an ordinary CPU.

What it takes from others: whitened patches (D. Page 2019, "How to train your ResNet" 8); BatchNorm with fast statistics
and no scale, filters that begin as the identity, GELU, label smoothing, mirroring every other epoch, the scale of the
logits, Muon and the other rates (K. Jordan 2024, arXiv:2404.00498, and airbench94_muon.py in
github.com/KellerJordan/cifar10-airbench); small images first (Fulcrum Research 2026,
github.com/fulcrumresearch/cifar-10-speedrun); a first stage that stops learning before the others (Brock et al. 2017,
"FreezeOut", arXiv:1706.04983); fewer multiplications per convolution (Lavin, Gray 2016, arXiv:1509.09308). The network
is new. log/ lists what was tried, with the results on held-out images.
"""

from collections.abc import Callable, Mapping
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from reslab.speedrun.sprint import Batches, Contender, Report, Sprinter, batch_norm, whitened
from reslab.speedrun.whitening import SMALLEST_SIDE, Whitening
from reslab.speedrun.winograd import FastConvolutions
from reslab.training.muon import Muon

if TYPE_CHECKING:
    from reslab.training.devices import Fabric

BATCH_SIZE = 1000
EPOCHS = 11.75
WIDTHS = (64, 256, 256)
FILTER_RATE = 0.17  # the initial turn of a filter per step; all rates fall linearly to 0
FILTER_MOMENTUM = 0.6
BIAS_RATE, HEAD_RATE, MOMENTUM = 0.053, 0.67, 0.85  # for gradients summed over the batch
WEIGHT_DECAY = 2e-6  # per image, of biases and head
LABEL_SMOOTHING = 0.2
WHITENING_BIAS, FIRST_STAGE = 0.15, 0.8  # the fractions of training in which these learn
SMALL_UNTIL, SMALL = 0.7, 24 / 32  # the fraction of training in which images are small, and their scale


class SpeedResNet(Sprinter):
    """Whitened 2×2 patches, three residual stages, the maximum over all places, and a classifier."""

    input_shape = (3, 32, 32)

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        w1, w2, w3 = WIDTHS
        self.whiten = Whitening(in_channels)
        self.down1, self.block1 = Down(self.whiten.out_channels, w1), Residual(w1)
        self.down2, self.block2 = Down(w1, w2), Residual(w2)
        self.down3, self.block3 = Down(w2, w3), Residual(w3)
        self.head = nn.Linear(w3, num_classes, bias=False)
        nn.init.normal_(self.head.weight)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Return the logits."""
        x = F.gelu(self.whiten(x))  # 31×31
        x = self.block1(self.down1(x))  # 15×15
        x = self.block2(self.down2(x))  # 7×7
        x = self.block3(self.down3(x))  # 3×3
        return self.head(x.amax((2, 3))) / self.head.in_features

    def until(self) -> dict[nn.Parameter, float]:
        """Return what stops learning before the end of training, and at which fraction of it. The backward pass ends
        behind these layers then.
        """
        first = [p for layer in (self.down1, self.block1) for p in layer.parameters() if p.requires_grad]
        return {self.whiten.bias: WHITENING_BIAS, **dict.fromkeys(first, FIRST_STAGE)}


class Residual(nn.Module):
    """x + F(x), where F is one convolution, BatchNorm and GELU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1, bias=False), batch_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + F(x)."""
        return x + F.gelu(self.norm(self.conv(x)))


class Down(nn.Module):
    """A convolution that widens, then pooling, BatchNorm and GELU."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(c_in, c_out, 3, bias=False), batch_norm(c_out)
        nn.init.dirac_(self.conv.weight.data[:c_in])  # the first filters pass their channel on

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """Return maps half as wide and high, rounded down."""
        h, w = x.shape[2:]
        x = F.pad(x, (1, 1 - w % 2, 1, 1 - h % 2))  # pooling would drop an odd last row or column: it isn't computed
        return F.gelu(self.norm(F.max_pool2d(self.conv(x), 2)))


def train(batches: Batches, num_classes: int, fabric: "Fabric", epochs: float, report: Report) -> nn.Module:
    """Return the network trained, on small images first and then on whole ones."""
    network = whitened(SpeedResNet, batches, num_classes)
    with FastConvolutions():
        descend(network, FILTER_RATE, network.until(), batches, fabric, epochs, report, resized)
    return network


def resized(images: Float[Tensor, "b c h w"], progress: float) -> Tensor:
    """Return images as they are at this fraction of training: small at first, but not too small for the network, and
    then whole.
    """
    scale = max(SMALL, SMALLEST_SIDE / min(images.shape[2:]))
    if progress > SMALL_UNTIL or scale >= 1:
        return images
    return F.interpolate(images, [round(scale * side) for side in images.shape[2:]], mode="bilinear", antialias=True)


def descend(
    network: Sprinter,
    filter_rate: float,
    until: Mapping[nn.Parameter, float],
    batches: Batches,
    fabric: "Fabric",
    epochs: float,
    report: Report,
    sized: Callable[[Tensor, float], Tensor] = lambda images, progress: images,
) -> None:
    """Train a network: the filters of its convolutions with Muon, all other parameters with SGD and Nesterov
    momentum. Some parameters learn `until` a fraction of training, the whitening layer's bias among them; `sized`
    returns a batch of images in the size that they have at a fraction.
    """
    filters = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
    biases = [module.bias for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    decay = WEIGHT_DECAY * batches.batch_size
    groups = [
        {"params": biases, "lr": BIAS_RATE, "weight_decay": decay / BIAS_RATE},
        {"params": [network.head.weight], "lr": HEAD_RATE, "weight_decay": decay / HEAD_RATE},
        {"params": [network.whiten.bias], "lr": BIAS_RATE, "weight_decay": decay / BIAS_RATE},
    ]
    muon = Muon(filters, filter_rate, FILTER_MOMENTUM)
    sgd = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
    steps = ceil(len(batches) * epochs)
    whitened_by = until[network.whiten.bias] * steps
    whole, first = (lambda step: 1 - step / steps), (lambda step: max(0.0, 1 - step / whitened_by))
    schedules = LambdaLR(muon, whole), LambdaLR(sgd, [whole, whole, first])
    model, *optimizers = fabric.setup(network, muon, sgd)
    for step, (x, y) in enumerate(islice(batches, steps), start=1):
        for parameter, fraction in until.items():
            parameter.requires_grad_(step <= fraction * steps)
        logits = model(sized(x, step / steps))
        loss = F.cross_entropy(logits, y, label_smoothing=LABEL_SMOOTHING, reduction="sum")
        fabric.backward(loss)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            with fabric.autocast():  # for Muon's products
                optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        report(step, steps, loss.detach() / len(y))


CONTENDER = Contender("reslab.speedrun.network:SpeedResNet", BATCH_SIZE, EPOCHS, train)
