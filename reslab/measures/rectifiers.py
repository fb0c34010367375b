"""Networks at initialisation whose gradients at neighbouring and at independent inputs are compared: fully connected
ones of rectifiers, and CIFAR networks.
"""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor, nn

from reslab.analysis.shattering import shattering
from reslab.analysis.subject import evaluating
from reslab.data import load_data
from reslab.experiment.text import StudyText
from reslab.ledger.record import Chart, Series
from reslab.networks import zoo
from reslab.state import draws_apart

OUTPUTS = 16
"""Random directions at the end whose gradients are averaged."""


class Rectifiers(nn.Module):
    """Fully connected layers of one width, `W relu(BN(h))`: plain, or added to h, scaled by β; He's initial weights."""

    def __init__(
        self, inputs: int, width: int, layers: int, outputs: int, *, kind: str = "plain", scale: float = 1.0
    ) -> None:
        super().__init__()
        self.skip, self.scale = kind != "plain", scale
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, outputs, bias=False)
        self.norms = nn.ModuleList(
            nn.Identity() if kind == "residual" else nn.BatchNorm1d(width) for _ in range(layers)
        )
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        nn.init.normal_(self.first.weight, std=1 / sqrt(inputs))
        nn.init.normal_(
            self.first.bias, std=1.0 if inputs == 1 else 0.0
        )  # kinks all along the line, and not at 0 alone
        nn.init.normal_(self.last.weight)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight)  # type: ignore[arg-type]  # a linear layer's

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs: `[B, inputs] -> [B, outputs]`."""
        h: Tensor = self.first(x)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            branch = layer(norm(h).relu())
            h = h + self.scale * branch if self.skip else branch
        out: Tensor = self.last(h)
        return out


def correlation(kind: str, layers: int, width: int, seed: int) -> float:
    """Return the correlation of the gradients at two independent Gaussian inputs, over all pairs of `width` of them."""
    with draws_apart():
        torch.manual_seed(seed)
        network, x = Rectifiers(width, width, layers, OUTPUTS, kind=kind).double(), torch.randn(width, width)
    x = x.double().requires_grad_()
    with evaluating(network, x.detach()):
        out = network(x)
    own = pairs = 0.0
    for k in range(OUTPUTS):
        (gradient,) = torch.autograd.grad(out[:, k].sum(), x, retain_graph=True)
        squares = float(gradient.square().sum())
        own += squares / width
        pairs += (float(gradient.sum(0).square().sum()) - squares) / (width * (width - 1))
    return pairs / own


def along_the_line(layers: int, kind: str, scale: float, width: int, points: int, seed: int) -> list[float]:
    """Return the autocorrelation over the lags, of the gradient of a network of one number from -2 to 2."""
    with draws_apart():
        torch.manual_seed(seed)
        network = Rectifiers(1, width, layers, 1, kind=kind, scale=scale).double()
    ends = torch.tensor([[-2.0], [2.0]], dtype=torch.float64)
    return shattering(network, ends, points=points, batch_statistics=True).autocorrelation.tolist()


def between_images(family: str, depth: int, data: str, points: int, seed: int) -> list[float]:
    """Return the same of a CIFAR network, on the line between the first two training images of a data set."""
    fitted = load_data(data).fitted(32)
    with draws_apart():
        torch.manual_seed(seed)
        network = zoo.build(
            family, depth=depth, num_classes=fitted.num_classes, in_channels=fitted.in_channels
        ).double()
    ends = fitted.sample("train", 2)[0].double()
    return shattering(network, ends, points=points, batch_statistics=True).autocorrelation.tolist()


FLOOR = 1e-6
"""Correlations count as no less: what is measured of none at all may be below 0."""

Curves = dict[str, dict[int, list[float]]]
"""A curve per seed, for each kind of network: an autocorrelation over lags, a correlation over depths."""


def decay_charts(text: StudyText, acf: Curves, places: Sequence[int], correlations: Curves) -> list[Chart]:
    """Return the autocorrelations over lags, and the correlations over depths beside the paper's laws."""
    return [_lags(text, acf), _decay(text, places, correlations)]


def _lags(text: StudyText, acf: Curves) -> Chart:
    lags = [float(lag) for lag in range(len(next(iter(acf["plain"].values()))))]
    return text.chart("lags", [text.over_seeds(f"on-{kind}", lags, by_seed) for kind, by_seed in acf.items()])


def _decay(text: StudyText, places: Sequence[int], found: Curves) -> Chart:
    x = [float(place) for place in places]
    laws = {"plain": lambda n: 0.5**n, "residual": lambda n: 0.75**n, "residual-bn": lambda n: n**-0.5}
    series = []
    for kind, by_seed in found.items():
        clipped = {seed: [max(value, FLOOR) for value in values] for seed, values in by_seed.items()}
        law = [max(laws[kind](place), FLOOR) for place in x]
        series += [text.over_seeds(kind, x, clipped), Series(name=text.name(f"law-{kind}"), x=x, y=law)]
    return text.chart("decay", series, log_x=True, log_y=True)
