"""What does each block say? The logits as an exact sum: the stem's part, one part per block, and the biases' part.

A branch's value reaches the logits through shortcuts alone. With the masks of ReLUs, the choices of max-pools and the
statistics of normalisations fixed at an image's, that way is linear but for biases. So the logits are the sum of the
parts of the stem, of each branch and of each bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from reslab.analysis.result import Result, new_figure
from reslab.analysis.subject import ROUNDING, Images, agree, analysis, as_view, check_alone, evaluating
from reslab.errors import UnseenError, Wording, WrongValueError, worded
from reslab.gates.flow import reached
from reslab.gates.following import Runner
from reslab.gates.gating import Block
from reslab.gates.inputs import in_dtype
from reslab.gates.view import View
from reslab.progress import Progress, silent
from reslab.sending import widened, widest
from reslab.state import copied

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BATCH = 32
MOST_NAMED = 20
"""The largest number of classes whose names fit in the figure."""
TOLERANCE = 1e-5
"""The tolerance between the sum of the parts and the logits, relative to the largest logit; in float64 the difference
is about 1e-14.
"""


@dataclass(frozen=True, eq=False)
class Split(Result):
    """The parts of every image's logits, which add up to the logits."""

    blocks: Sequence[Block]
    classes: Sequence[int]
    parts: Float[Tensor, "parts b classes"]  # the stem's, the blocks', the biases'
    logits: Float[Tensor, "b classes"]

    @property
    def names(self) -> list[str]:
        """Return the names of the parts: "stem", the blocks' names, and "bias"."""
        return ["stem", *(block.name for block in self.blocks), "bias"]

    @property
    def lens(self) -> Float[Tensor, "places b classes"]:
        """Return the logits of the stem alone and after each block, with the masks of the whole network, `[n + 1, B,
        C]`: the sum of the parts so far, and the biases.
        """
        return self.parts[:-1].cumsum(0) + self.parts[-1]

    @property
    def margins(self) -> Float[Tensor, "parts b"]:
        """Return each part of the margin of the answer over the runner-up, `[n + 2, B]`; they add up to the margin."""
        answer, second = self.logits.topk(2, 1).indices.expand(len(self.parts), -1, -1).unbind(2)
        return (self.parts.gather(2, answer[..., None]) - self.parts.gather(2, second[..., None])).squeeze(2)

    @property
    def deciding(self) -> Int64[Tensor, "b"]:
        """Return the index of the block that contributes most to this margin, `[B]`."""
        return self.margins[1:-1].argmax(0)

    @property
    def per_class(self) -> Float[Tensor, "parts classes"]:
        """Return each part of each class's logit, averaged over the images, `[n + 2, C]`."""
        return self.parts.mean(1)

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per part: its mean contribution to the answer's logit and to the margin, and the share of the
        images that it decides.
        """
        import pandas as pd

        answers = self.logits.argmax(1).expand(len(self.parts), -1)[..., None]
        decided = self.deciding.bincount(minlength=len(self.blocks)) / len(self.logits)
        columns = {
            "answer": self.parts.gather(2, answers).mean((1, 2)).tolist(),
            "margin": self.margins.mean(1).tolist(),
            "decides": [float("nan"), *decided.tolist(), float("nan")],
        }
        return pd.DataFrame(columns, index=pd.Index(self.names, name="part"))

    def figure(self) -> "Figure":
        """Plot each part's contribution to the margin, and to each class's logit on average over all images."""
        figure = new_figure(10, 4)
        left, right = figure.subplots(1, 2)
        low, high = (self.margins.quantile(share, 1) for share in (0.25, 0.75))
        places = range(len(self.names))
        left.bar(places, self.margins.mean(1).tolist(), label="mean")
        left.vlines(places, low.tolist(), high.tolist(), color="black", linewidth=1, label="middle half of the images")
        left.set(ylabel="part of the margin over the runner-up")
        most = int(self.margins[1:-1].mean(1).argmax())
        decided = 100 * widened(self.deciding == most).mean()
        left.set_title(f"{self.blocks[most].name} gives most, and decides {decided:.0f} % of the images", fontsize=10)
        left.legend(loc="upper left")
        reach = self.per_class.abs().max().item()
        shown = right.imshow(self.per_class.T.tolist(), cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
        right.set(ylabel="class")
        right.set_title("which classes each part speaks for", fontsize=10)
        if len(self.classes) <= MOST_NAMED:
            right.set_yticks(range(len(self.classes)), list(map(str, self.classes)))
        figure.colorbar(shown, label="mean part of the logit")
        for axes in (left, right):
            axes.set_xticks(places, self.names, rotation=90, fontsize=6)
        return figure


@analysis("split", "the logits as a sum over the blocks, exactly", needs=("chain", "logits"), images=128, trained=True)
def split(
    network: nn.Module, images: Images, *, classes: Sequence[int] | None = None, progress: Progress = silent
) -> Split:
    """Return the parts of every image's logits that come from the stem, from each block and from the biases, computed
    in float64.

    It costs a forward pass, and for each class a backward pass along the shortcuts alone. Every batch is checked: the
    parts must add up to the logits, and these must be the network's.

    Args:
        network: a network of residual blocks, or its view; in evaluation mode. A LayerNorm on the way from a branch to
            the logits keeps each image's statistics fixed.
        images: `[B, …]`, run in batches.
        classes: the columns of the logits that are split, two or more; None means all.
        progress: notified of the images done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, _ = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.split(network, images)
        >>> found.names[:2], found.parts.shape
        (['stem', 'layer1.0'], torch.Size([11, 32, 10]))
        >>> bool((found.parts.sum(0) - found.logits).abs().max() < 1e-6)
        True

    Raises:
        UserError: if the network is not a chain of residual blocks or returns no logits; if an image's output depends
            on the rest of its batch; if there is no such class; or if the way from the blocks to the logits is not
            linear.
    """
    view = as_view(network, images)
    if not view.is_chain or not all(place.plain for place in view.plan.places):
        raise UnseenError(*worded("cannot-be-split"))
    found = []
    with evaluating(view):
        check_alone(view.whole, images, Wording("it cannot be split by itself", "그 이미지만 따로 나눌 수 없다"))
        wide = widest(images.device)
        exact = copied(view).to(wide).eval().requires_grad_(False)
        assert isinstance(exact, View)
        for start in range(0, len(images), BATCH):
            x = images[start : start + BATCH]
            with torch.enable_grad():
                parts, logits = _of_batch(exact, in_dtype(x, wide), classes)
            with torch.no_grad():
                own = view.whole(x)
            if not agree(logits, own if classes is None else own[:, list(classes)], max(ROUNDING, _eps(own))):
                raise UnseenError(*worded("other-in-float64"))
            found.append((parts.cpu(), logits.cpu()))
            progress("split", min(start + BATCH, len(images)), len(images))
    parts, logits = (torch.cat(column, -2) for column in zip(*found, strict=True))
    return Split(view.blocks, list(range(logits.shape[1])) if classes is None else list(classes), parts, logits)


def _eps(outputs: Tensor) -> float:
    return float(torch.finfo(outputs.dtype).eps ** 0.5) if outputs.dtype in (torch.float16, torch.bfloat16) else 0.0


def _of_batch(exact: View, x: Tensor, classes: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    """Return the parts `[n + 2, B, C]` and the logits `[B, C]`."""
    tail = _Tail(exact)
    logits = tail.run(x, None)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] < 2:
        raise UnseenError(*worded("no-logits-to-split"))
    if classes is not None:
        if len(set(classes)) < 2 or not all(0 <= each < logits.shape[1] for each in classes):
            raise WrongValueError(*worded("split-classes", last=logits.shape[1] - 1, classes=list(classes)))
        logits = logits[:, list(classes)]
    sources = [tail.added[node] for node in tail.starts] + [made for made, _ in tail.biased]
    amounts = [source.detach() for source in sources[: len(tail.starts)]] + [offset for _, offset in tail.biased]
    groups = tail.groups + [len(exact) + 1] * len(tail.biased)
    parts = logits.new_zeros(len(exact) + 2, *logits.shape)
    for column in range(logits.shape[1]):
        gradients = torch.autograd.grad(logits[:, column].sum(), sources, retain_graph=True, allow_unused=True)
        for group, amount, gradient in zip(groups, amounts, gradients, strict=True):
            if gradient is not None:
                parts[group, :, column] += (gradient * amount).flatten(1).sum(1)
    logits = logits.detach()
    missing = (parts.sum(0) - logits).abs().max() / logits.abs().max().clamp_min(torch.finfo(logits.dtype).tiny)
    if not missing <= TOLERANCE:
        raise UnseenError(*worded("split-not-linear", error=missing.item()))
    return parts, logits


class _Tail(Runner):
    """Runs a view's graph so that gradients flow back along the shortcuts, to the stem and to each branch's value."""

    def __init__(self, view: View) -> None:
        super().__init__(view, view.graph)
        places = view.plan.places
        branches = [(place, branch) for place, one in enumerate(places, 1) for branch in one.branches]
        self.starts = [places[0].input, *(branch for _, branch in branches)]
        self.groups = [0, *(place for place, _ in branches)]
        self.added: dict[fx.Node, Tensor] = {}
        self.biased: list[tuple[Tensor, Tensor]] = []  # the output of a layer with a bias, and its output for zeros
        self.on_the_way = reached([view.graph.output_node()], attrgetter("all_input_nodes"), self.starts)

    def run_node(self, n: fx.Node) -> Any:
        """Run a node; a node that starts a part is detached from the graph before it."""
        with torch.set_grad_enabled(n in self.on_the_way):
            value = super().run_node(n)
        if n in self.starts:
            self.added[n] = value.detach().requires_grad_()
            return self.added[n].clone()  # as it may be added to in place
        if n in self.on_the_way and isinstance(value, Tensor) and value.requires_grad and n.op == "call_module":
            return self._noted(n, value)
        return value

    def call_module(self, target: fx.node.Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a layer; for a LayerNorm, the standard deviation is treated as a constant."""
        module = self.module.get_submodule(str(target))
        if isinstance(module, nn.LayerNorm) and torch.is_grad_enabled():
            return self._layer_norm(args[0], module.normalized_shape, module.weight, module.bias, module.eps)
        return module(*args, **kwargs)

    def call_function(self, target: fx.node.Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a function; `layer_norm` likewise."""
        if target is F.layer_norm and torch.is_grad_enabled():
            return self._layer_norm(*args, **kwargs)
        return super().call_function(target, args, kwargs)

    def _layer_norm(
        self,
        input: Tensor,
        normalized_shape: Sequence[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor:
        """Return the value of F.layer_norm with a constant standard deviation: linear in the input but for the bias."""
        dims = tuple(range(-len(normalized_shape), 0))
        deviation = (input.detach().var(dims, correction=0, keepdim=True) + eps).sqrt()
        scaled = (input - input.mean(dims, keepdim=True)) / deviation
        weighted = scaled if weight is None else scaled * weight
        if bias is None:
            return weighted
        out = weighted + bias
        self.biased.append((out, bias.expand_as(out)))
        return out.clone()

    def _noted(self, n: fx.Node, value: Tensor) -> Tensor:
        """Note the output of a layer with a bias, and return a copy, as that may be overwritten in place."""
        module = self.module.get_submodule(str(n.target))
        if not isinstance(module, _BIASED):
            return value
        taken = self.env[n.all_input_nodes[0]]
        with torch.no_grad():
            self.biased.append((value, module(torch.zeros_like(taken)).expand_as(value)))
        return value.clone()


_BIASED = (_BatchNorm, _ConvNd, nn.Linear)
"""Layers whose output for zeros is not zero."""
