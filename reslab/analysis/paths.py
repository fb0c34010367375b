"""The ensemble of paths: the gradient of a chain of n blocks, split exactly by the length of the 2^n paths that carry
it.

A path takes the branch or the shortcut at every block; its length is the number of branches. "Residual Networks Behave
Like Ensembles of Relatively Shallow Networks" (Veit, Wilber & Belongie 2016, arXiv:1605.06431) sampled paths; here all
of them are counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reslab.analysis.inference import faster
from reslab.analysis.result import Result, new_figure
from reslab.analysis.subject import Images, Labels, Loss, analysis, as_view, check_batch, loss_value
from reslab.errors import UnseenError, WrongValueError, worded
from reslab.gates.planning import Live
from reslab.gates.view import View
from reslab.progress import Progress, each, silent
from reslab.sending import widest

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PathSpectrum(Result):
    """The gradient at the first block's input by path length, of the mean cross-entropy."""

    gradient: Float[Tensor, "lengths b ..."]  # at the first block's input; its sum over lengths is the gradient itself
    norm: Float[Tensor, "lengths"]  # the L2 norm of each image's part, averaged over the batch

    @property
    def paths(self) -> list[int]:
        """Return the number of paths of each length: the binomial coefficients."""
        n = len(self.norm) - 1
        return [comb(n, length) for length in range(n + 1)]

    @property
    def share(self) -> Float[Tensor, "lengths"]:
        """Return each length's norm over the sum of all lengths' norms `[n+1]`."""
        return self.norm / self.norm.sum()

    @property
    def mean_length(self) -> float:
        """Return the mean path length, weighted by gradient norm."""
        return float((self.share.cpu() * torch.arange(len(self.norm), device="cpu")).sum())

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per length: the number of paths, the norm of their gradient and its share."""
        import pandas as pd

        columns = {"paths": self.paths, "norm": self.norm.tolist(), "share": self.share.tolist()}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self.norm), name="length"))

    def figure(self) -> "Figure":
        """Plot each length's share of the gradient against its share of the paths."""
        from matplotlib.ticker import MaxNLocator

        figure = new_figure()
        axes = figure.subplots()
        lengths = range(len(self.norm))
        axes.bar(lengths, self.share.tolist(), label="share of the gradient's norm")
        axes.plot(
            lengths,
            [count / 2 ** (len(self.norm) - 1) for count in self.paths],
            "k.--",
            label="share of the paths (binomial)",
        )
        axes.set(
            xlabel="path length (blocks whose branch is taken)",
            ylabel="share",
            title=f"mean length {self.mean_length:.1f}",
        )
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.legend()
        return figure


@dataclass(frozen=True)
class SampledPaths(Result):
    """Veit et al.'s estimate: the mean gradient norm of single paths of each length, and that times the number of
    paths.
    """

    lengths: Sequence[int]
    norm: Float[Tensor, "lengths"]  # of one path, averaged over draws and batch
    paths: Sequence[int]

    @property
    def total(self) -> Float[Tensor, "lengths"]:
        """Return norm × number of paths, as in their Fig. 6 (c): an upper bound on the norm of the paths' sum, up to
        sampling.
        """
        return self.norm.cpu().double() * torch.tensor(self.paths, dtype=torch.float64, device="cpu")

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per length."""
        import pandas as pd

        index = pd.Index(list(self.lengths), name="length")
        return pd.DataFrame(
            {"paths": list(self.paths), "norm of one path": self.norm.tolist(), "total": self.total.tolist()},
            index=index,
        )

    def figure(self) -> "Figure":
        """Return the norm of one path, and of all paths of a length, over the length."""
        from matplotlib.ticker import MaxNLocator

        figure = new_figure()
        one, all_of_them = figure.subplots(1, 2)
        one.semilogy(list(self.lengths), self.norm.tolist(), ".-")
        one.set(xlabel="path length", ylabel="gradient norm of one path")
        all_of_them.plot(list(self.lengths), (self.total / self.total.sum()).tolist(), ".-")
        all_of_them.set(xlabel="path length", ylabel="share of norm × number of paths")
        for axes in (one, all_of_them):
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        return figure


class _Link(NamedTuple):
    """One block, recorded for vector-Jacobian products: D, S and J of the recurrence are between these tensors."""

    before: Tensor  # the sum before it
    shortcut: Tensor
    branches: Sequence[Tensor]

    def pull(self, direct: Tensor | None, through: Tensor | None) -> Tensor:
        """Return D^T (S^T g + J^T h), the gradient at the previous sum of a gradient g that goes through the shortcut
        and a gradient h that goes through the branches.
        """
        arriving = [] if direct is None else [(self.shortcut, direct)]
        arriving += [] if through is None else [(branch, through) for branch in self.branches]
        arriving = [(end, gradient) for end, gradient in arriving if end.requires_grad]
        if not arriving:  # sides through which no gradient goes, such as that of x.detach()
            return torch.zeros_like(self.before)
        ends, gradients = zip(*arriving, strict=True)
        (pulled,) = torch.autograd.grad(
            ends, self.before, gradients, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return pulled


@analysis(
    "paths", "the gradient by path length, exactly", needs=("chain",), images=32, trained=True, summary=("mean_length",)
)
def path_spectrum(
    network: nn.Module, images: Images, labels: Labels, *, loss: Loss = F.cross_entropy, progress: Progress = silent
) -> PathSpectrum:
    """Return the gradient of the mean cross-entropy at the first block's input, split by path length, in the network's
    current mode.

    With G_k the gradient carried by paths of length k, the recurrence back over block i is `G_k <- D_i^T (S_i^T G_k +
    J_i^T G_(k-1))`, where S is the Jacobian of the shortcut, J of the branch, and D of the operations between the
    previous addition and this block. It costs n²/2 block products, and memory linear in n. In evaluation mode it is
    done on a copy whose BatchNorms are folded into the convolutions, where there is one with the same outputs.

    Args:
        network: a chain of residual blocks, or its view.
        images: `[B, …]`.
        labels: int64 `[B]`, or whatever the loss takes.
        loss: of outputs and labels; the mean cross-entropy by default.
        progress: notified of the blocks done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.path_spectrum(network, images, labels)
        >>> found.paths  # of each length, through none to all of nine blocks
        [1, 9, 36, 84, 126, 126, 84, 36, 9, 1]
        >>> found.mean_length < 9 / 2 + 2
        True

    Raises:
        UserError: if the blocks are not a chain, or the batch does not fit.
    """
    view = _chain(network, images, labels, loss)
    if not any(module.training for module in view.network.modules()):
        with torch.no_grad():
            view = faster(view, images[:2]) or view
    with torch.enable_grad():
        links, gradient = _record(view, images, labels, loss)
        by_length = [gradient]
        while links:
            link = links.pop()  # its graph is freed after this turn
            by_length = [link.pull(*both) for both in zip([*by_length, None], [None, *by_length], strict=True)]
            progress("paths", len(view) - len(links), len(view))
    stacked = torch.stack(by_length)
    return PathSpectrum(stacked, _mean_norm(stacked.flatten(2)))


@analysis("sampled-paths", "Veit et al.'s estimate of the same", needs=("chain",), images=32, trained=True)
def sample_paths(
    network: nn.Module,
    images: Images,
    labels: Labels,
    *,
    lengths: Sequence[int] | None = None,
    draws: int = 10,
    seed: int = 0,
    loss: Loss = F.cross_entropy,
    progress: Progress = silent,
) -> SampledPaths:
    """Return Veit et al.'s estimate of the gradient by path length: random single paths of each length (2016, section
    4.2), which `path_spectrum` has exactly.

    Args:
        network: a chain of residual blocks, or its view.
        images: `[B, …]`.
        labels: int64 `[B]`, or whatever the loss takes.
        lengths: of the paths; by default all, from 0 to the number of blocks.
        draws: paths of each length.
        seed: of the paths.
        loss: of outputs and labels; the mean cross-entropy.
        progress: notified of the lengths done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, labels = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.sample_paths(network, images, labels, lengths=[0, 3], draws=2)
        >>> found.paths
        [1, 84]

    Raises:
        UserError: if the blocks are not a chain, the batch does not fit, or no path has such a length.
    """
    view = _chain(network, images, labels, loss)
    n = len(view)
    lengths = list(range(n + 1)) if lengths is None else list(lengths)
    if draws < 1 or not lengths or not all(0 <= length <= n for length in lengths):
        raise WrongValueError(*worded("draws-out-of-range", what="lengths", blocks=n, given=lengths, draws=draws))
    generator = torch.Generator().manual_seed(seed)
    norms = []
    with torch.enable_grad():
        links, gradient = _record(view, images, labels, loss)
        for length in each(lengths, "sampled-paths", progress):
            draw = [
                _along(links, gradient, set(torch.randperm(n, generator=generator, device="cpu")[:length].tolist()))
                for _ in range(draws)
            ]
            norms.append(_mean_norm(torch.stack(draw).flatten(2)).mean())
    return SampledPaths(lengths, torch.stack(norms), [comb(n, length) for length in lengths])


def _mean_norm(gradient: Float[Tensor, "k b values"]) -> Float[Tensor, "k"]:
    """Return the norm of each image's part, averaged over the batch: in float64 on the way, as squares under 1e-38 are
    0 in float32.
    """
    norms = torch.linalg.vector_norm(gradient, dim=2, dtype=widest(gradient.device)).mean(1)
    return norms.to(torch.promote_types(gradient.dtype, torch.float32))


def _along(links: Sequence[_Link], gradient: Tensor, taken: set[int]) -> Tensor:
    """Return the gradient that one path carries to the first block's input: through the branches of the blocks in
    `taken`.
    """
    for index in reversed(range(len(links))):
        gradient = links[index].pull(*((None, gradient) if index in taken else (gradient, None)))
    return gradient


def _chain(network: nn.Module, images: Tensor, labels: Tensor, loss: Loss) -> View:
    """Return the network's view. Raises UserError if it is not a chain, has tokens before images, or the batch does not
    fit.
    """
    view = as_view(network, images)
    check_batch(images, labels, loss)
    if not view.is_chain:
        kinds = ", ".join(sorted({block.kind for block in view.blocks}))
        raise UnseenError(*worded("no-chain-of-paths", kinds=kinds))
    view.check_images_first()
    return view


def _record(view: View, images: Tensor, labels: Tensor, loss: Loss) -> tuple[list[_Link], Tensor]:
    """Run the network once, block by block, and return its links and the gradient after the last."""
    with torch.no_grad():
        live = view.stem(images)
    links = []
    for index in range(len(view)):
        before = live.stream.detach().requires_grad_()
        # a copy, as in-place activations may change it
        shortcut, branches = view.sides(index, live._replace(stream=before.clone()))
        if any(branch.shape != shortcut.shape for branch in branches):
            raise UnseenError(*worded("sum-of-other-shapes", name=view.blocks[index].name))
        links.append(_Link(before, shortcut, branches))
        with torch.no_grad():
            live = Live(sum(branches, shortcut), view.beside_after(index, live))
    before = live.stream.detach().requires_grad_()
    value = loss_value(loss, view.head(live._replace(stream=before.clone())), labels)
    (gradient,) = torch.autograd.grad(value, before)
    return links, gradient
