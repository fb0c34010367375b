"""How alike are the representations of two blocks, or of two networks? Linear CKA (Kornblith et al. 2019), unbiased, in
mini-batches (Nguyen et al. 2021).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reslab.analysis.result import Result, new_figure
from reslab.analysis.subject import Images, analysis, as_view, check_alone, evaluating
from reslab.analysis.sweeping import entered
from reslab.errors import Wording, WrongValueError, worded
from reslab.gates.gating import Block
from reslab.gates.view import View
from reslab.progress import Progress, silent
from reslab.sending import widened, widest

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BATCH = 128
SMALLEST = 4
"""Images that the unbiased estimator needs at least."""
CONSTANT = 2e7
"""The share of a Gram matrix's square that is left where all images look alike, in units of rounding squared."""


@dataclass(frozen=True, eq=False)
class Alike(Result):
    """Linear CKA between the outputs of each block of one network and of each block of another, or of the same. NaN if
    one of the two is constant over the images.
    """

    blocks: Sequence[Block]
    others: Sequence[Block]
    cka: Float[Tensor, "n m"]

    @property
    def adjacent(self) -> float:
        """Return the mean CKA of neighbours, block i + 1 of one with block i of the other."""
        return self.cka.diagonal(-1).nanmean().item()

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per block of the one, and a column per block of the other."""
        import pandas as pd

        return pd.DataFrame(
            self.cka.tolist(),
            index=pd.Index([block.name for block in self.blocks], name="block"),
            columns=[block.name for block in self.others],
        )

    def figure(self) -> "Figure":
        """Return the matrix."""
        figure = new_figure(5.5, 4.5)
        axes = figure.subplots()
        if self.others is self.blocks:
            axes.set_title(f"a block and the next: CKA {self.adjacent:.2f} on average", fontsize=10)
        else:
            same = self.cka.diagonal().nanmean()
            axes.set_title(f"blocks of one number: CKA {same:.2f} on average", fontsize=10)
            axes.set(xlabel="block of the other network", ylabel="block")
        shown = axes.imshow(self.cka.tolist(), vmin=0, vmax=1, cmap="magma", origin="lower")
        axes.set_xticks(range(len(self.others)), [block.name for block in self.others], rotation=90, fontsize=6)
        axes.set_yticks(range(len(self.blocks)), [block.name for block in self.blocks], fontsize=6)
        figure.colorbar(shown, label="linear CKA (unbiased)")
        return figure


@analysis(
    "alike",
    "how alike the blocks' representations are (CKA)",
    needs=("blocks",),
    images=512,
    trained=True,
    summary=("adjacent",),
)
def alike(
    network: nn.Module,
    images: Images,
    *,
    other: nn.Module | None = None,
    batch: int = BATCH,
    progress: Progress = silent,
) -> Alike:
    """Return the linear CKA between the outputs of all blocks, in evaluation mode, on the same images.

    HSIC_1, the unbiased estimator (Song et al. 2012), is averaged over mini-batches, each weighted by its images,
    before CKA is computed from it (Nguyen et al. 2021). It costs two passes of each network, and memory for the Gram
    matrices of a mini-batch, `[blocks, batch, batch]`.

    Args:
        network: any network with blocks, residual or plain, or its view.
        images: `[B, …]`, four or more.
        other: another network on the same images: of another seed, plain, of another depth. None: the network itself.
        batch: images per mini-batch; a remainder of fewer than four is dropped.
        progress: notified of the images done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, _ = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.alike(network, images)
        >>> found.to_frame().shape
        (9, 9)
        >>> bool(found.cka[1, 0] > found.cka[8, 0])  # a block is more like the next than like the last
        True

    Raises:
        UserError: if a network has no blocks, draws random numbers or mixes the images of a batch, or if there are
            fewer than four images in all or per mini-batch.
    """
    if batch < SMALLEST or len(images) < SMALLEST:
        raise WrongValueError(*worded("cka-of-too-few", least=SMALLEST, count=len(images), batch=batch))
    one = as_view(network, images)
    two = one if other is None else as_view(other, images)
    total = torch.zeros(len(one), len(two), dtype=widest(images.device), device=images.device)
    own = [total.new_zeros(len(one)), total.new_zeros(len(two))]
    sizes = [total.new_zeros(len(one)), total.new_zeros(len(two))]
    with evaluating(one), evaluating(two), torch.inference_mode():
        for view in (one, two):
            check_alone(
                view.whole,
                images,
                Wording(
                    "representations depend on the mini-batches; give it statistics",
                    "표현이 미니배치에 따라 달라진다. 이동 통계를 갖추어 준다",
                ),
            )
        for start in range(0, len(images), batch):
            x = images[start : start + batch]
            if (count := len(x)) < SMALLEST:
                continue
            grams, size = centred_grams(one, x)
            others, other_size = (grams, size) if two is one else centred_grams(two, x)
            sizes = [sizes[0] + count * size, sizes[1] + count * other_size]
            total = total + count * products(grams, others)
            own = [sums + count * products(of, of).diagonal() for sums, of in zip(own, (grams, others), strict=True)]
            progress("alike", min(start + batch, len(images)), len(images))
    # a representation that is constant has nothing but rounding left
    rounding = CONSTANT * torch.finfo(total.dtype).eps ** 2
    lengths = [torch.where(sums > rounding * of, sums, torch.nan).sqrt() for sums, of in zip(own, sizes, strict=True)]
    return Alike(one.blocks, two.blocks, (total / (lengths[0][:, None] * lengths[1])).cpu())


def centred_grams(view: View, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Gram matrices of the blocks' outputs, `[n, B, B]`, centred so that their products are unbiased:
    without diagonal (Székely & Rizzo 2014, definition 2); and the mean square of what is not centred, `[n]`.
    """
    grams, sizes = [], []
    for given in outputs(view, x):
        flat = widened(given).flatten(1)
        gram = (flat @ flat.T).fill_diagonal_(0)
        sizes.append(gram.square().mean())
        count = len(gram)
        rows = gram.sum(1)
        gram = gram - (rows[:, None] + rows) / (count - 2) + rows.sum() / ((count - 1) * (count - 2))
        grams.append(gram.fill_diagonal_(0))
    return torch.stack(grams), torch.stack(sizes)


def products(grams: Tensor, others: Tensor) -> Tensor:
    """Return HSIC_1 of every pair of representations, `[n, m]`, from their centred Gram matrices."""
    count = grams.shape[1]
    return grams.flatten(1) @ others.flatten(1).T / (count * (count - 3))


def outputs(view: View, x: Tensor) -> Iterator[Tensor]:
    """Yield the output of each block's module, including an activation after the addition."""
    view.check_images_first()
    for index, (taken, beside, _) in enumerate(entered(view, x)):
        yield view.module(index, taken, beside)
