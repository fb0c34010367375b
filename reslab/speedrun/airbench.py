"""airbench94, which reached 94 % on CIFAR-10 in the fewest seconds of its time, for any device (Jordan 2024,
arXiv:2404.00498).

The network and all settings are those of `legacy/airbench94.py` in github.com/KellerJordan/cifar10-airbench, written
anew: float32 or bfloat16 in place of float16, and one view of a test image where the 94 % are the mean of six. It has
no shortcuts. `airbench94_muon.py` there is newer and needs two thirds of the time on an A100. The speedrun takes its
steps from it, so that here it is those with the older network, other logits, a larger batch and its own rate of the
filters.
"""

from itertools import islice, pairwise
from math import ceil
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from reslab.speedrun import network as speedrun
from reslab.speedrun.sprint import Batches, Contender, Report, Sprinter, batch_norm, whitened
from reslab.speedrun.whitening import Whitening

if TYPE_CHECKING:
    from reslab.training.devices import Fabric

BATCH_SIZE = 1024
EPOCHS = 9.9
LEARNING_RATE = 11.5  # per 1024 images, of steps that momentum does not enlarge
MOMENTUM = 0.85
WEIGHT_DECAY = 0.0153  # per 1024 images
BIAS_RATE = 64.0  # times the learning rate, for the biases of BatchNorm
LABEL_SMOOTHING = 0.2
MUON_RATE, MUON_EPOCHS = 0.24, 8.0
WHITENING_BIAS_EPOCHS = 3
LOOKAHEAD_STEPS = 5
WIDTHS = (64, 256, 256)


class Airbench94(Sprinter):
    """Fixed whitening filters, three groups of two convolutions, the maximum over all places, and a classifier."""

    input_shape = (3, 32, 32)
    scale = 9

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.whiten = Whitening(in_channels)
        self.groups = nn.Sequential(
            *(Group(c_in, c_out) for c_in, c_out in pairwise((self.whiten.out_channels, *WIDTHS)))
        )
        self.head = nn.Linear(WIDTHS[-1], num_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, `[B, num_classes]`, of images `[B, in_channels, H, W]`."""
        x = self.groups(F.gelu(self.whiten(x)))
        return self.head(x.amax((2, 3))) / self.scale


class Airbench94Muon(Airbench94):
    """The same network with smaller logits of a larger classifier, for steps by Muon."""

    scale = WIDTHS[-1]

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        nn.init.normal_(self.head.weight)


class Group(nn.Module):
    """Two convolutions, the first one's output pooled."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(c_in, c_out), batch_norm(c_out)
        self.conv2, self.norm2 = convolution(c_out, c_out), batch_norm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps half as wide and high."""
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


def convolution(c_in: int, c_out: int) -> nn.Conv2d:
    """Return a 3×3 convolution whose first `c_in` filters pass their channel on."""
    conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight.data[:c_in])
    return conv


class Lookahead:
    """A moving average of all of the network's numbers, which the network is set back to whenever it is updated."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.average = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Keep `decay` of the average, take the rest from the network, and set the network to it."""
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(self.average[name].lerp_(tensor, 1 - decay))


def rate(step: int, steps: int) -> float:
    """Return the learning rate as a fraction of the highest: from 0.2 up to 1 in the first 23 % of the steps, then down
    to 0.07.
    """
    up = int(steps * 0.23)
    if step < up:
        return 0.2 + 0.8 * step / up
    return 1.0 - 0.93 * (step - up) / (steps - up)


def train(batches: Batches, num_classes: int, fabric: "Fabric", epochs: float, report: Report) -> nn.Module:
    """Return the network trained."""
    network = whitened(Airbench94, batches, num_classes)
    steps = ceil(len(batches) * epochs)
    step_length = 1024 * (1 + 1 / (1 - MOMENTUM))  # of Nesterov's momentum, under gradients that stay the same
    lr, decay = LEARNING_RATE / step_length, WEIGHT_DECAY * batches.batch_size / step_length
    biases = [module.bias for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    weights = [
        parameter for name, parameter in network.named_parameters() if "norm" not in name and parameter.requires_grad
    ]
    groups = [
        {"params": biases, "lr": BIAS_RATE * lr, "weight_decay": decay / (BIAS_RATE * lr)},
        {"params": weights, "lr": lr, "weight_decay": decay / lr},
    ]
    sgd = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
    schedule = LambdaLR(sgd, lambda step: rate(step, steps))
    model, optimizer = fabric.setup(network, sgd)
    lookahead = Lookahead(network)
    for step, (x, y) in enumerate(islice(batches, steps), start=1):
        network.whiten.bias.requires_grad_(step <= WHITENING_BIAS_EPOCHS * len(batches))
        loss = F.cross_entropy(model(x), y, label_smoothing=LABEL_SMOOTHING, reduction="sum")
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        schedule.step()
        if step % LOOKAHEAD_STEPS == 0:
            lookahead.update(0.95**5 * (step / steps) ** 3)
        report(step, steps, loss.detach() / len(y))
    lookahead.update(1.0)
    return network


def train_with_muon(batches: Batches, num_classes: int, fabric: "Fabric", epochs: float, report: Report) -> nn.Module:
    """Return the network trained as `airbench94_muon.py` does."""
    network = whitened(Airbench94Muon, batches, num_classes)
    until = {network.whiten.bias: WHITENING_BIAS_EPOCHS / MUON_EPOCHS}
    speedrun.descend(network, MUON_RATE, until, batches, fabric, epochs, report)
    return network


SGD = Contender("reslab.speedrun.airbench:Airbench94", BATCH_SIZE, EPOCHS, train)
MUON = Contender("reslab.speedrun.airbench:Airbench94Muon", 2000, MUON_EPOCHS, train_with_muon)
