"""Does the gradient at one input say anything about the gradient at the next? Its autocorrelation along a line of
inputs (Balduzzi et al. 2017).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reslab.analysis.result import Result, new_figure
from reslab.analysis.subject import Images, analysis, as_network, check_alone, evaluating
from reslab.errors import MismatchError, Wording, WrongValueError, worded
from reslab.sending import widened

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
CHUNK = 64
"""Points of the line in one forward."""


@dataclass(frozen=True, eq=False)
class Shattering(Result):
    """Autocorrelations `[lags + 1]` of the gradients at equally spaced inputs, and of two noises of as many points."""

    gradients: Floats  # [points, numbers of an image]
    autocorrelation: Floats
    white: Floats  # independent points: shattered gradients
    brown: Floats  # each point is the previous one plus noise: gradients of a network with one hidden layer

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per lag."""
        import pandas as pd

        columns = {"gradient": self.autocorrelation, "white": self.white, "brown": self.brown}
        return pd.DataFrame({"lag": range(len(self.autocorrelation)), **columns})

    def figure(self) -> "Figure":
        """Plot the autocorrelation over the lags, between the two noises."""
        figure = new_figure()
        axes = figure.add_subplot()
        axes.plot(self.brown, "--", color="sienna", label="brown noise")
        axes.plot(self.autocorrelation, ".-", color="C0", label="gradients")
        axes.plot(self.white, "--", color="grey", label="white noise")
        axes.set(xlabel=f"lag (steps; the line has {len(self.gradients)} points)", ylabel="autocorrelation")
        axes.legend()
        return figure


@analysis("shattering", "how fast gradients change along a line of inputs", needs=("two images", "logits"), images=2)
def shattering(
    network: nn.Module,
    images: Images,
    *,
    points: int = 256,
    lags: int = 15,
    logit: int = 0,
    batch_statistics: bool = False,
    seed: int = 0,
) -> Shattering:
    """Return the autocorrelation of the gradient of one output with respect to the input, at inputs on the line between
    two images.

    The paper's minimal networks take one number from -2 to 2, at initialisation (section 2); a line between images
    generalises this to any network.

    Args:
        network: a network with outputs `[B, K]`, or its view; measured in evaluation mode, so that each point has a
            gradient of its own.
        images: `[2, C, H, W]`, the two ends.
        points: inputs on the line, ends included.
        lags: the largest lag, in steps between points.
        logit: which output.
        batch_statistics: normalise with the statistics of the points (as constants) instead of the stored ones, which
            are meaningless before training.
        seed: of the two noises.

    Examples:
        >>> import reslab
        >>> network = reslab.build("cifar_resnet", depth=8, in_channels=1)
        >>> images, _ = reslab.load_data("digits").sample("test", 2)
        >>> found = reslab.shattering(network, images, points=64, batch_statistics=True)
        >>> bool(found.autocorrelation[1] > found.white[1])  # neighbours have like gradients
        True

    Raises:
        UserError: if the network has NaN weights or no such output, its output for an image depends on the others, it
            does not accept the images, or these are not two different ones.
    """
    if not 1 <= lags < points:
        raise WrongValueError(*worded("lags-out-of-range", last=points - 1, points=points, lags=lags))
    if not isinstance(images, Tensor) or not images.is_floating_point():
        given = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise WrongValueError(*worded("line-of-no-floats", given=given))
    if len(images) != 2 or torch.equal(images[0], images[1]):
        raise WrongValueError(*worded("line-of-two-images", shape=list(images.shape)))
    network = as_network(network, images)
    places = torch.linspace(0, 1, points, dtype=images.dtype, device=images.device).reshape(
        -1, *[1] * (images.dim() - 1)
    )
    line = torch.lerp(images[:1], images[1:], places)
    with evaluating(network, line if batch_statistics else None):
        check_alone(network, images, Wording("no point has a gradient of its own", "점마다의 기울기가 따로 없다"))
        gradients = np.concatenate([_gradients(network, part, logit) for part in line.split(CHUNK)])
    noise = np.random.default_rng(seed).standard_normal((points, 1000))
    return Shattering(
        gradients,
        autocorrelation(gradients, lags),
        autocorrelation(noise, lags),
        autocorrelation(noise.cumsum(0), lags),
    )


def autocorrelation(series: Floats, lags: int) -> Floats:
    """Return `Σ_i z_i · z_(i+k) / Σ_i z_i · z_i` for k = 0 … lags, `[lags + 1]`, of points `[T, d]`, with z the series
    less its mean over the points.

    It is 1 at lag 0 and at most 1 in size (Cauchy-Schwarz). As a sum of T - k products it falls with the lag even for a
    slow series. For a constant series, where it is 0/0, it is taken to be 1, as each point determines the next. A
    series that varies only by rounding counts as constant.
    """
    centred = series - series.mean(0)
    power = (centred**2).sum()
    if power <= len(series) * np.finfo(np.float32).eps ** 2 * (series**2).sum():
        return np.ones(lags + 1)
    return np.array([(centred[: len(series) - lag] * centred[lag:]).sum() for lag in range(lags + 1)]) / power


def _gradients(network: nn.Module, images: Tensor, logit: int) -> Floats:
    """Return the gradient of one output at each image, flat, `[B, numbers of an image]`."""
    x = images.detach().requires_grad_()
    with torch.enable_grad():
        out = network(x)
        if not isinstance(out, Tensor) or out.dim() != 2 or not 0 <= logit < out.shape[1]:
            shape = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise MismatchError(*worded("no-logit", logit=logit, shape=shape))
        (gradient,) = torch.autograd.grad(out[:, logit].sum(), x)
    return widened(gradient.flatten(1)).cpu().numpy().astype(np.float64, copy=False)
