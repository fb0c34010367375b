"""Which way does a block point? The cosine of what it adds with the loss's negative gradient at its input (Jastrzębski
et al. 2018, arXiv:1710.04773).

To first order, leaving a block out costs the loss -F(x) · ∂L/∂x: a block whose F(x) lies along -∂L/∂x takes a step of
gradient descent on the features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reslab.analysis.result import Result, new_figure, per_block
from reslab.analysis.subject import (
    Images,
    Labels,
    Loss,
    analysis,
    as_view,
    check_alone,
    check_batch,
    evaluating,
    in_single,
    loss_value,
)
from reslab.errors import UnseenError, Wording, worded
from reslab.gates.gating import Block
from reslab.gates.recording import Recorder
from reslab.gates.view import View
from reslab.progress import Progress, silent
from reslab.sending import widened

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BATCH = 125


@dataclass(frozen=True, eq=False)
class Directions(Result):
    """The direction and length of each block's F(x), per image.

    Both are NaN where a block changes the shape, as F(x) and x then have no angle, and where x is 0; so is the cosine
    where F(x) or the gradient is.
    """

    blocks: Sequence[Block]
    cosine: Float[Tensor, "n b"]  # of F(x) with -∂L/∂x
    ratio: Float[Tensor, "n b"]  # ‖F(x)‖ / ‖x‖

    @property
    def mean(self) -> Float[Tensor, "n"]:
        """Return each block's mean cosine over the images that have one, `[n]`."""
        return self.cosine.nanmean(1)

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per block: the means over the images, and the share of images for which F(x) goes downhill."""
        known = self.cosine.isfinite()
        downhill = (self.cosine > 0).sum(1) / known.sum(1)
        rows = {
            "identity": [block.identity for block in self.blocks],
            "cosine": self.mean.tolist(),
            "downhill": downhill.tolist(),
            "ratio": self.ratio.nanmean(1).tolist(),
        }
        return per_block(self.blocks, rows)

    def figure(self) -> "Figure":
        """Return the cosine of every block: its mean, and the middle half of the images."""
        figure = new_figure()
        axes = figure.subplots()
        low, high = (self.cosine.nanquantile(share, 1) for share in (0.25, 0.75))
        places = range(len(self.blocks))
        axes.vlines(places, low.tolist(), high.tolist(), alpha=0.4, linewidth=5, label="middle half of the images")
        axes.plot(places, self.mean.tolist(), ".-", label="mean")
        axes.axhline(0, color="grey", linestyle="--", linewidth=1)
        axes.set_xticks(places, [block.name for block in self.blocks], rotation=90, fontsize=6)
        axes.set(xlabel="block (none where the shape changes)", ylabel="cosine of F(x) with −∂L/∂x")
        known = self.mean[self.mean.isfinite()]
        axes.set_title(f"{int((known > 0).sum())} of {len(known)} blocks go down the loss's gradient on average")
        figure.legend(loc="outside upper right")
        return figure


@analysis("direction", "whether each block goes down the loss's gradient", needs=("sums",), images=250, trained=True)
def direction(
    network: nn.Module,
    images: Images,
    labels: Labels,
    *,
    loss: Loss = F.cross_entropy,
    batch_statistics: bool = False,
    progress: Progress = silent,
) -> Directions:
    """Return the cosine of every block's F(x) with the loss's negative gradient at the block's input x, image by image
    (Jastrzębski et al. 2018), and ‖F(x)‖ / ‖x‖.

    The gradient is that of the whole network, through this block and all later ones. It costs a forward and a backward
    pass.

    Args:
        network: a network of residual blocks, or its view; measured in evaluation mode.
        images: `[B, …]`, run in batches.
        labels: int64 `[B]`, or whatever the loss takes.
        loss: of outputs and labels; a mean over the images.
        batch_statistics: normalise with the statistics of these images (as constants) instead of the stored ones, which
            are meaningless before training.
        progress: notified of the images done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.direction(network, images, labels)
        >>> found.cosine.shape  # blocks and images
        torch.Size([9, 32])
        >>> found.to_frame().columns.tolist()
        ['identity', 'cosine', 'downhill', 'ratio']

    Raises:
        UserError: if the network has no blocks, or one that is not a sum of a shortcut and a branch; if an image's
            output depends on the rest of its batch; or if images, labels and outputs do not fit.
    """
    view, images = in_single(as_view(network, images), images)
    check_batch(images, labels, loss)
    view.check_images_first()
    for block, place in zip(view.blocks, view.plan.places, strict=True):
        if not place.plain:
            raise UnseenError(*worded("direction-of-no-sum", name=block.name))
    found = []
    with evaluating(view, images if batch_statistics else None), torch.enable_grad():
        view.network.requires_grad_(False)
        check_alone(
            view.whole, images, Wording("its loss has no gradient of its own", "그 이미지만의 손실과 기울기가 없다")
        )
        for start in range(0, len(images), BATCH):
            batch = slice(start, start + BATCH)
            found.append(_of_batch(view, images[batch], labels[batch], loss))
            progress("direction", min(start + BATCH, len(images)), len(images))
    cosine, ratio = torch.cat(found, 2)
    return Directions(view.blocks, cosine, ratio)


def _of_batch(view: View, images: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """Return the cosines and the ratios of the norms, `[2, n, B]`."""
    places = view.plan.places
    kept = [node for place in places for node in (place.input, *place.branches)]
    recorder = Recorder(view, view.graph, kept, differentiable=True)
    value = loss_value(loss, recorder.run(images, None), labels)
    inputs = [recorder.values[place.input] for place in places]
    gradients = torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)
    rows = []
    for place, x, gradient in zip(places, inputs, gradients, strict=True):
        added = torch.stack([widened(recorder.values[branch].detach()) for branch in place.branches]).sum(0).flatten(1)
        x, uphill = widened(x.detach()).flatten(1), widened(gradient).flatten(1)
        if added.shape != x.shape:
            rows.append(x.new_full((2, len(x)), torch.nan))
            continue
        length, size = added.norm(dim=1), x.norm(dim=1)
        cosine = -(added * uphill).sum(1) / (length * uphill.norm(dim=1))
        rows.append(torch.stack([cosine, (length / size).where(size > 0, torch.nan)]))
    return torch.stack(rows, 1).cpu()
