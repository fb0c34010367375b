"""By how much does a block stretch a small change of its input? The singular values of its Jacobian, I + J_F for an
identity shortcut.

A singular value is the length of a unit change of the input after the block (to first order). The often-heard "∂F/∂x +
1 is always at least 1" treats the factor as a number. It is a matrix, which may stretch some directions and shrink
others, even to zero.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import jacrev, vjp

from reslab.analysis.result import Result, new_figure
from reslab.analysis.subject import Images, analysis, as_view, check_alone, evaluating
from reslab.analysis.sweeping import entered
from reslab.errors import UnknownNameError, UnseenError, Wording, WrongValueError, worded
from reslab.gates.asking import Which
from reslab.gates.inputs import in_dtype
from reslab.gates.view import View
from reslab.progress import Progress, each, silent
from reslab.sending import widened, widest
from reslab.state import copied

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Map = Callable[[Tensor], Tensor]
Method = Literal["auto", "all", "extreme"]

LARGEST_DENSE = 2048
"""With "auto", only the extreme singular values are computed for blocks with more inputs or outputs than this, as all
of them cost its cube.
"""


@dataclass(frozen=True, eq=False)
class BlockJacobian:
    """The Jacobian of one block at each of B images' block inputs.

    `values` is `[B, r]`, descending, r = min(inputs, outputs), or None where only the extremes were computed. The
    extremes are `[B]`. A residual is 0 for a direct computation. For an iterative one, a true singular value lies
    within the residual of the value. In any case the true largest value is at least `largest`, and the true smallest at
    most `smallest`.
    """

    name: str
    identity: bool  # whether the shortcut is the identity
    inputs: int
    outputs: int
    largest: Float[Tensor, "b"]
    smallest: Float[Tensor, "b"]
    largest_residual: Float[Tensor, "b"]
    smallest_residual: Float[Tensor, "b"]
    zero_rows: Float[Tensor, "b"]  # share of outputs that no small change of the input moves
    values: Float[Tensor, "b r"] | None

    @property
    def below_one(self) -> Float[Tensor, "b"] | None:
        """Return the share of singular values below 1, `[B]`; None if only the extremes are known."""
        return None if self.values is None else widened(self.values < 1).mean(1)

    def converged(self, tolerance: float) -> Bool[Tensor, "b"]:
        """Return for each image whether both extremes are known to within `tolerance` times the largest, `[B]`."""
        return torch.maximum(self.largest_residual, self.smallest_residual) <= tolerance * self.largest


@dataclass(frozen=True, eq=False)
class Jacobians(Result):
    """The singular values of blocks, in the order of the network."""

    blocks: tuple[BlockJacobian, ...]
    tolerance: float

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per block and image."""
        import pandas as pd

        rows = []
        for block in self.blocks:
            converged, below = block.converged(self.tolerance), block.below_one
            for image in range(len(block.largest)):
                rows.append(
                    {
                        "block": block.name,
                        "image": image,
                        "identity": block.identity,
                        "inputs": block.inputs,
                        "outputs": block.outputs,
                        "smallest": block.smallest[image].item(),
                        "largest": block.largest[image].item(),
                        "below_one": float("nan") if below is None else below[image].item(),
                        "zero_rows": block.zero_rows[image].item(),
                        "smallest_residual": block.smallest_residual[image].item(),
                        "largest_residual": block.largest_residual[image].item(),
                        "converged": bool(converged[image]),
                    }
                )
        return pd.DataFrame(rows)

    def figure(self) -> "Figure":
        """Plot for each block the range from its smallest to its largest singular value, and a line at 1; hollow ends
        did not converge.
        """
        figure = new_figure()
        axes = figure.add_subplot()
        for place, block in enumerate(self.blocks):
            axes.vlines(place, block.smallest.min().item(), block.largest.max().item(), color="C0")
            for value, residual in ((block.smallest, block.smallest_residual), (block.largest, block.largest_residual)):
                known = bool((residual <= self.tolerance * block.largest).all())
                axes.plot(
                    [place] * len(value),
                    value.tolist(),
                    "o",
                    color="C0",
                    markersize=4,
                    fillstyle="full" if known else "none",
                )
        axes.axhline(1, color="grey", linestyle="--", linewidth=1, label='"always at least 1"')
        axes.set_yscale("symlog", linthresh=1e-3)
        axes.set_ylim(-1e-4, 2 * max([1.0, *(block.largest.max().item() for block in self.blocks)]))
        axes.set_xticks(range(len(self.blocks)), [block.name for block in self.blocks], rotation=90)
        axes.set(xlabel="block", ylabel="singular values of the Jacobian\n(output change / input change)")
        axes.legend()
        return figure


@analysis("jacobian", "how much each block stretches and shrinks", needs=("no dense layers",), images=2, trained=True)
def jacobian(
    network: nn.Module,
    images: Images,
    blocks: Which | Sequence[Which] | None = None,
    *,
    method: Method = "auto",
    dtype: torch.dtype | None = None,
    steps: int = 100,
    tolerance: float = 1e-6,
    batch_statistics: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> Jacobians:
    """Return the singular values of blocks' Jacobians, from each block's input to its module's output (v1's final ReLU
    included), at each image.

    Args:
        network: a network, or its view; measured in evaluation mode, so that images do not affect each other.
        images: `[B, C, H, W]`.
        blocks: names or numbers, as in `view.blocks`; none means all. Dense layers concatenate, so they have no such
            Jacobian and are rejected.
        method: "all" singular values by a dense Jacobian, the two "extreme" ones by Golub-Kahan bidiagonalisation with
            full reorthogonalisation (Golub & Van Loan, Matrix Computations, section 10.4), or "auto": all, where the
            block is small enough.
        dtype: of the whole computation; by default float64, or float32 on Apple's GPUs, which do not have it.
        steps: of the iteration; each costs a product with J and one with its transpose, and memory for one input and
            one output.
        tolerance: an extreme value is converged if its residual is at most this, relative to the largest value.
        batch_statistics: normalise with the statistics of these images (as constants) instead of the stored ones, which
            are meaningless before training.
        seed: of the iteration's start.
        progress: notified of the blocks done.

    Examples:
        >>> import reslab
        >>> network = reslab.build("resnet20", weights="digits")
        >>> images, _ = reslab.load_data("digits").sample("test", 32)
        >>> found = reslab.jacobian(network, images[:1], ["layer3.2"])
        >>> found.blocks[0].inputs, found.blocks[0].values.shape
        (256, torch.Size([1, 256]))

    Raises:
        UserError: if the network has NaN weights, no blocks or no block of a given name; if it does not accept the
            images, or its output for one depends on the others; or if it contains an operation without a forward
            derivative (fused attention) and only the extremes are asked for.
    """
    if method not in ("auto", "all", "extreme"):
        raise UnknownNameError(*worded("no-jacobian-method", method=method))
    if steps < 1:
        raise WrongValueError(*worded("below-one", what="steps", given=steps))
    seen = as_view(network, images)
    seen.check_images_first()
    indices = _indices(seen, blocks)
    with evaluating(seen, images if batch_statistics else None):
        dtype = dtype or widest(images.device)
        images = in_dtype(images, dtype)
        exact = copied(seen).to(dtype).requires_grad_(False)
        assert isinstance(exact, View)
        check_alone(
            exact.whole, images, Wording("no block has a Jacobian at a single image", "한 이미지에서의 야코비안이 없다")
        )
        inputs = _inputs(exact, images)
        found = [
            _measure(exact, index, *inputs[index], method, steps, seed) for index in each(indices, "jacobian", progress)
        ]
    return Jacobians(tuple(found), tolerance)


@torch.no_grad()
def _inputs(seen: View, images: Tensor) -> list[tuple[Tensor, list[tuple[Any, ...]]]]:
    """Return every block's input, and what it takes beside it for each image."""
    if not any(seen.plan.taken_beside):
        return [(each.taken, [()] * len(images)) for each in entered(seen, images)]
    blocks = zip(*(entered(seen, images[place : place + 1]) for place in range(len(images))), strict=True)
    return [(torch.cat([each.taken for each in found]), [each.beside for each in found]) for found in blocks]


def _indices(seen: View, blocks: Which | Sequence[Which] | None) -> list[int]:
    """Return the numbers of blocks, in the order in which they are named."""
    asked = range(len(seen)) if blocks is None else (blocks,) if isinstance(blocks, Which) else blocks
    indices = [seen.index(block) for block in asked]
    for index in indices:
        if seen.blocks[index].kind == "concat":
            raise UnseenError(*worded("jacobian-of-dense-layer", name=seen.blocks[index].name))
    return indices


def _measure(
    seen: View, index: int, inputs: Tensor, beside: list[tuple[Any, ...]], method: Method, steps: int, seed: int
) -> BlockJacobian:
    def block_at(place: int) -> Map:
        """Return the function from one image to the block's output, both flat."""

        def block(x: Tensor) -> Tensor:
            image = x.reshape(1, *inputs.shape[1:]).clone()  # a ReLU in place must not change the input
            return seen.module(index, image, beside[place]).flatten()

        return block

    found = seen.blocks[index]
    points = inputs.detach().flatten(1)
    n = points.shape[1]
    m = block_at(0)(points[0]).numel()
    all_values = method == "all" or (method == "auto" and max(n, m) <= LARGEST_DENSE)
    rows: list[list[Tensor]] = []
    for place, x in enumerate(points):
        block = block_at(place)
        if all_values:
            dense = dense_jacobian(block, x)
            values = torch.linalg.svdvals(dense)
            zero = torch.zeros_like(values[0])
            rows.append([values[0], values[-1], zero, zero, _zero_share(dense), values])
        else:
            try:
                rows.append([*extremes(block, x, steps, seed), torch.empty(0)])
            except NotImplementedError as error:
                raise UnseenError(
                    *worded("no-forward-derivative", name=found.name, reason=str(error).splitlines()[0])
                ) from error
    largest, smallest, largest_residual, smallest_residual, zero_rows, values = (
        torch.stack(column).cpu() for column in zip(*rows, strict=True)
    )
    kept = values if all_values else None
    return BlockJacobian(
        found.name, found.identity, n, m, largest, smallest, largest_residual, smallest_residual, zero_rows, kept
    )


def dense_jacobian(function: Map, x: Tensor) -> Tensor:
    """Return the Jacobian `[m, n]` of a function from `[n]` to `[m]`, by a batch of vector-Jacobian products."""
    jacobian: Tensor = jacrev(function, chunk_size=256)(x)
    return jacobian.detach()


def along(function: Map, x: Tensor, direction: Tensor) -> Tensor:
    """Return the forward-mode derivative of a function at `x` along a direction, in the shape of its output."""
    with warnings.catch_warnings(), forward_ad.dual_level(), torch.no_grad():
        # a warning of torch's own code
        warnings.filterwarnings("ignore", message=".torch.jit.script. is deprecated", category=FutureWarning)
        y, tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(x, direction)))
        return torch.zeros_like(y) if tangent is None else tangent


def extremes(function: Map, x: Tensor, steps: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return a Jacobian's largest and smallest singular value, their residuals, and its share of zero rows, without the
    matrix.

    A row is zero if two random products with it are exactly 0. With fewer other rows than singular values the smallest
    one is 0 by the rank.
    """
    y, pull = vjp(function, x)[:2]
    n, m = x.numel(), y.numel()
    generator = torch.Generator().manual_seed(seed)

    def random_vector(size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64, device="cpu").to(x)

    def transposed(u: Tensor) -> Tensor:
        return pull(u)[0].detach()

    def times(v: Tensor) -> Tensor:
        return along(function, x, v)

    zero_rows = _zero_share(torch.stack([times(random_vector(n)) for _ in range(2)], 1))
    narrow = n <= m  # iterate from the shorter side, whose singular values are all of them
    a, b = (times, transposed) if narrow else (transposed, times)
    values, residuals = _bidiagonalise(a, b, random_vector(min(n, m)), max(n, m), min(steps, n, m))
    rank_at_most = m - round(zero_rows.item() * m)
    smallest, its_residual = values[-1], residuals[-1]
    if rank_at_most < min(n, m):
        smallest, its_residual = torch.zeros_like(smallest), torch.zeros_like(its_residual)
    return values[0], smallest, residuals[0], its_residual, zero_rows


def _bidiagonalise(a: Map, b: Map, start: Tensor, rows: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return the singular values of A on the Krylov space of AᵀA from `start`, descending, and their residuals; `b` is
    Aᵀ.
    """
    right, left = start.new_zeros(steps + 1, len(start)), start.new_zeros(steps, rows)
    diagonal, above = start.new_zeros(steps), start.new_zeros(steps)
    right[0] = start / start.norm()
    done = steps
    for step in range(steps):
        u = _orthogonal(a(right[step]), left[:step])
        diagonal[step] = u.norm()
        left[step] = u / diagonal[step].clamp_min(torch.finfo(u.dtype).tiny)
        v = _orthogonal(b(left[step]), right[: step + 1])
        above[step] = v.norm()
        if above[step] <= torch.finfo(v.dtype).eps * diagonal.max():  # the space is invariant: its values are exact
            above[step] = 0
            done = step + 1
            break
        right[step + 1] = v / above[step]
    vectors, values, _ = torch.linalg.svd(torch.diag(diagonal[:done]) + torch.diag(above[: done - 1], 1))
    return values, above[done - 1] * vectors[-1].abs()


def _orthogonal(v: Tensor, basis: Tensor) -> Tensor:
    """Return `v` less its part in the span of the basis' rows; twice is enough (Parlett, The Symmetric Eigenvalue
    Problem, section 6.9).
    """
    for _ in range(2):
        v = v - basis.T @ (basis @ v)
    return v


def _zero_share(matrix: Tensor) -> Tensor:
    return widened((matrix == 0).all(1)).mean()
