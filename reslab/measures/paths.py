"""Every path of a small network, one by one; the spectrum by length must equal their sums."""

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reslab.analysis.paths import path_spectrum
from reslab.gates.making import view
from reslab.gates.view import View
from reslab.networks import zoo
from reslab.state import draws_apart


def each_path(gated: View, images: Tensor, labels: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield every path's length and gradient at the first block's input.

    The other side of each block is kept, but as a constant.
    """
    with torch.no_grad():
        live = gated.stem(images)
    start = live.stream.detach().requires_grad_()
    for path in product((False, True), repeat=len(gated)):
        value = start.clone()
        for index, through in enumerate(path):
            shortcut, branches = gated.sides(index, live._replace(stream=value))
            branch = sum(branches[1:], branches[0])
            value = shortcut.detach() + branch if through else shortcut + branch.detach()
        (gradient,) = torch.autograd.grad(F.cross_entropy(gated.head(live._replace(stream=value)), labels), start)
        yield sum(path), gradient


def count_paths(family: str = "cifar_preresnet") -> dict[str, int | bool]:
    """Return how many paths of 6 blocks have distinct gradients, and whether these add up.

    They have to add up to the gradient, and by length to the spectrum.
    """
    with draws_apart():
        torch.manual_seed(0)
        network: nn.Module = zoo.build(family, depth=14, in_channels=1).double()
        x, y = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.arange(4)
    gated = view(network, x)
    spectrum = path_spectrum(gated, x, y).gradient
    lengths, gradients = zip(*each_path(gated, x, y), strict=True)
    by_length = torch.zeros_like(spectrum).index_add(0, torch.tensor(lengths), torch.stack(gradients))
    return {
        "paths": len(torch.stack(gradients).flatten(1).unique(dim=0)),
        "sum to the gradient": bool(torch.allclose(by_length.sum(0), _gradient(gated, x, y), rtol=1e-9, atol=1e-12)),
        "by length the spectrum": bool(torch.allclose(by_length, spectrum, rtol=1e-9, atol=1e-12)),
    }


def _gradient(gated: View, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient at the first block's input, from autograd alone."""
    with torch.no_grad():
        live = gated.stem(images)
    start = live.stream.detach().requires_grad_()
    live = live._replace(stream=start.clone())
    for index in range(len(gated)):
        live = gated.block(index, live)
    (gradient,) = torch.autograd.grad(F.cross_entropy(gated.head(live), labels), start)
    return gradient
