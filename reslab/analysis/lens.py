"""What would the network answer after each block? The classifier is applied to every sum, through the remaining
shortcuts (nostalgebraist 2020, the logit lens).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from reslab.analysis.result import Result, new_figure
from reslab.analysis.subject import Classes, Images, analysis, as_view, check_logits
from reslab.analysis.sweeping import batches, in_other_memory, prepared, to_the_end
from reslab.gates.gating import Block
from reslab.progress import Progress, silent
from reslab.sending import widened

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


MOST = 0.9
"""The share of settled images that the figure's title refers to."""


@dataclass(frozen=True, eq=False)
class Lens(Result):
    """The logits with no block, and after each block, of the network with all later branches at zero."""

    blocks: Sequence[Block]
    logits: Float[Tensor, "places b classes"]
    labels: Int64[Tensor, "b"]

    @property
    def error(self) -> Float[Tensor, "places"]:
        """Return the error (a fraction) at each depth, `[n + 1]`; NaN and infinity count as wrong."""
        return widened((self.logits.argmax(2) != self.labels) | ~self.logits.amax(2).isfinite()).mean(1)

    @property
    def loss(self) -> Float[Tensor, "places"]:
        """Return the mean cross-entropy at each depth, `[n + 1]`, in nats."""
        likely = widened(self.logits).log_softmax(2)
        return -likely.gather(2, self.labels.expand(len(likely), -1)[..., None]).mean((1, 2))

    @property
    def settled(self) -> Int64[Tensor, "b"]:
        """Return after how many blocks the answer for each image no longer changes, `[B]`."""
        answers = self.logits.argmax(2)
        other = (answers != answers[-1]).flip(0).int()
        return len(self.blocks) + 1 - other.cumsum(0).eq(0).sum(0)

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per depth: loss, error, and the share of the images whose answer is settled."""
        import pandas as pd

        depths = torch.arange(len(self.logits), device="cpu")
        columns = {
            "loss": self.loss.tolist(),
            "error": self.error.tolist(),
            "settled": widened(self.settled <= depths[:, None]).mean(1).tolist(),
        }
        names = ["stem", *(block.name for block in self.blocks)]
        return pd.DataFrame(columns, index=pd.Index(names, name="after"))

    def figure(self) -> "Figure":
        """Return error and loss over the depth."""
        figure = new_figure()
        names = ["stem", *(block.name for block in self.blocks)]
        depth = int(widened(self.settled).quantile(MOST, interpolation="higher"))
        figure.suptitle(f"{100 * MOST:.0f} % of the answers no longer change from {names[depth]} on")
        for axes, values, label in zip(
            figure.subplots(1, 2),
            (100 * self.error, self.loss),
            ("error (%)", "loss (nats)"),
            strict=True,
        ):
            axes.plot(names, values.tolist(), ".-")
            axes.set(xlabel="classifier applied after", ylabel=label)
            axes.tick_params(axis="x", rotation=90, labelsize=6)
        return figure


@analysis(
    "lens",
    "what the network would answer after each block",
    needs=("blocks", "logits"),
    images=250,
    trained=True,
)
def lens(network: nn.Module, images: Images, labels: Classes, *, progress: Progress = silent) -> Lens:
    """Return the logits with no block, and after each, with the branches of all later ones at zero.

    In the last stage this is the classifier applied to the sum. In earlier stages, the sum passes through the remaining
    shortcuts with its own ReLU masks; `split(…).lens` uses those of the whole network. Every prefix is run once: n²/2
    block evaluations.

    Args:
        network: any network of logits `[B, classes]` with blocks, or its view; measured in evaluation mode.
        images: `[B, …]`, run in batches, or as one where an answer depends on the others in its batch.
        labels: int64 `[B]`.
        progress: notified of the images done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.lens(network, images, labels)
        >>> found.to_frame().index[:3].tolist()
        ['stem', 'layer1.0', 'layer1.1']
        >>> bool(found.error[0] > found.error[-1])
        True

    Raises:
        UserError: if the network has no blocks, gives no logits or draws random numbers, or labels and images do not
            fit.
    """
    view = as_view(network, images)
    n = len(view)
    found = []
    with torch.inference_mode():
        fast, batch = prepared(view, images, labels)
        none = torch.zeros(n, device=images.device)
        for done, x, y in batches(images, labels, batch):
            live, depths = fast.stem(x), []
            for index in range(n):
                depths.append(to_the_end(fast, index, in_other_memory(live), none))
                live = fast.block(index, live)
            depths.append(fast.head(live))
            check_logits(depths[-1], y)
            found.append(torch.stack(depths).float().cpu())
            progress("lens", done, len(labels))
    return Lens(view.blocks, torch.cat(found, 1), labels.cpu())
