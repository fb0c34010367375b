"""What can a linear classifier read from each block's output? A ridge probe, fitted on half of the images and tested on
the others (Alain & Bengio 2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from reslab.analysis.alike import outputs
from reslab.analysis.result import Result, new_figure, per_block
from reslab.analysis.subject import Classes, Images, analysis, as_view, check_batch, check_repeatable, evaluating
from reslab.analysis.sweeping import batch_of, batches
from reslab.errors import WrongValueError, worded
from reslab.gates.gating import Block
from reslab.progress import Progress, silent
from reslab.sending import widened

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Probes(Result):
    """The error (a fraction) of a linear classifier on each block's output, on images that it was not fitted to; NaN
    where the output is not finite.
    """

    blocks: Sequence[Block]
    error: Float[Tensor, "n"]
    tested: int

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per block."""
        return per_block(self.blocks, {"error": self.error.tolist()})

    def figure(self) -> "Figure":
        """Plot the errors over the depth, with two standard errors of a fraction of so many images."""
        figure = new_figure()
        axes = figure.subplots()
        spread = 2 * (self.error * (1 - self.error) / self.tested).sqrt()
        names = [block.name for block in self.blocks]
        axes.errorbar(names, (100 * self.error).tolist(), (100 * spread).tolist(), fmt=".-", capsize=2)
        axes.set(xlabel="linear probe after (bars: two standard errors)", ylabel="error on held-out images (%)")
        axes.set_ylim(bottom=0)
        best = int(self.error.nan_to_num(torch.inf).argmin())
        axes.set_title(f"a linear classifier reads {names[best]} best: error {100 * self.error[best]:.1f} %")
        axes.tick_params(axis="x", rotation=90, labelsize=6)
        return figure


@analysis("probe", "what a linear classifier can read from each block", needs=("blocks",), images=1000, trained=True)
def probe(
    network: nn.Module,
    images: Images,
    labels: Classes,
    *,
    ridge: float = 1e-3,
    seed: int = 0,
    progress: Progress = silent,
) -> Probes:
    """Return the held-out error of a ridge regression from each block's output, averaged over pixels or tokens, onto
    the classes.

    Features are centred, and the penalty is `ridge` times their mean variance times the number of images. It costs two
    passes.

    Args:
        network: any network with blocks, or its view; in evaluation mode.
        images: `[B, …]`, run in batches; the probe is fitted to a random half and tested on the others.
        labels: int64 `[B]`.
        ridge: of the penalty; above 0.
        seed: of the halves.
        progress: notified of the images done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, labels = reslab.load_data("digits").sample("test", 128)
        >>> found = reslab.probe(network, images, labels)
        >>> found.tested
        64
        >>> found.to_frame()["error"].idxmin().startswith("layer3")  # a late block tells the most
        True

    Raises:
        UserError: if the network has no blocks or draws random numbers, labels and images do not fit, or there are
            fewer than four images.
    """
    check_batch(images, labels)
    if len(images) < 4 or ridge <= 0:
        raise WrongValueError(*worded("probe-of-too-few", count=len(images), ridge=ridge))
    view = as_view(network, images)
    features: list[list[Tensor]] = [[] for _ in view.blocks]
    with evaluating(view), torch.inference_mode():
        check_repeatable(view.whole, images)
        for done, x, _ in batches(images, labels, batch_of(view, images, callers=2)):
            for index, (kept, given) in enumerate(zip(features, outputs(view, x), strict=True)):
                kept.append(_averaged(view.modules_of(index), widened(given)))
            progress("probe", done, len(images))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed), device="cpu").to(images.device)
    fit, held = order.tensor_split(2)
    errors = [_error(torch.cat(kept), labels, fit, held, ridge) for kept in features]
    return Probes(view.blocks, torch.tensor(errors, dtype=torch.float64, device="cpu"), len(held))


def _averaged(modules: Sequence[nn.Module], output: Tensor) -> Tensor:
    """Return features `[B, C]`: the output of a block of these modules, averaged over pixels or tokens.

    Features are last, as in transformers, where a layer of the block has as many and no convolution has as many
    channels as the second dimension.
    """
    if output.dim() < 3:
        return output
    channels = {each.out_channels for each in modules if isinstance(each, _ConvNd)}
    features = {each.out_features for each in modules if isinstance(each, nn.Linear)}
    features |= {each.normalized_shape[-1] for each in modules if isinstance(each, nn.LayerNorm | nn.RMSNorm)}
    features |= {
        (each.proj_size or each.hidden_size) * (1 + each.bidirectional)
        for each in modules
        if isinstance(each, nn.RNNBase)
    }
    last = output.shape[-1] in features and output.shape[1] not in channels
    return output.flatten(1, -2).mean(1) if last else output.flatten(2).mean(2)


def _error(features: Tensor, labels: Tensor, fit: Tensor, held: Tensor, ridge: float) -> float:
    """Return the error of one probe on the held-out images; NaN of features that are not all numbers."""
    if not features.isfinite().all():
        return torch.nan
    mean = features[fit].mean(0)
    x, y = features[fit] - mean, widened(F.one_hot(labels)[fit])
    gram = x.T @ x
    penalty = ridge * gram.diagonal().mean().clamp_min(torch.finfo(gram.dtype).tiny)
    weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram)).to(gram), x.T @ (y - y.mean(0)))
    answers = ((features[held] - mean) @ weights + y.mean(0)).argmax(1)
    return widened(answers != labels[held]).mean().item()
