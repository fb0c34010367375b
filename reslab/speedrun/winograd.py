"""Winograd's minimal filtering, F(4×4, 3×3), for the convolutions of a network in training (Lavin, Gray 2016,
arXiv:1509.09308, section 4).

On a CPU, torch asks oneDNN for direct convolution; on a GPU, cuDNN chooses for itself.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

STEP, SIDE = 4, 6
"""Outputs of a tile along one side, and the pixels that they depend on."""
TRIED_ON = 64
"""Images of a batch that both convolutions are timed on."""

# The paper's Bᵀ, G and Aᵀ: pixels and filter, as polynomials, are evaluated at 0, 1, -1, 2, -2 and infinity and
# multiplied there; the coefficients
# of the product are interpolated.
PIXELS = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
FILTER = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUTS = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


class FastConvolutions(TorchFunctionMode):
    """While it is entered, 3×3 convolutions in float32 on a CPU are `winograd` where that is faster; all other
    operations are as ever.

    Processors differ in where that is, so both ways are timed, with their gradients, when a layer first meets images
    of a size.
    """

    def __init__(self) -> None:
        super().__init__()
        self._faster: dict[tuple[torch.Size, torch.Size, int, bool], bool] = {}

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        if func is F.conv2d and not kwargs and suits(*args):
            x, weight, padding = args[0], args[1], args[4][0]
            if self._pays(x, weight, padding):
                return winograd(x, weight, padding)
        return func(*args, **(kwargs or {}))

    def _pays(self, x: Tensor, weight: Tensor, padding: int) -> bool:
        layer = x.shape, weight.shape, padding, x.requires_grad
        if layer not in self._faster:
            some = x[:TRIED_ON].detach().requires_grad_(x.requires_grad)
            ours, torchs = (seconds(convolution, some, weight, padding) for convolution in (winograd, direct))
            self._faster[layer] = ours < torchs
        return self._faster[layer]


def seconds(convolution: Callable[[Tensor, Tensor, int], Tensor], x: Tensor, weight: Tensor, padding: int) -> float:
    """Return the time that a convolution takes with the gradients of its weights, and of `x` if that needs one: the
    shorter of two.
    """
    weight = weight.detach().requires_grad_()
    found = []
    for _ in range(2):
        start = time.perf_counter()
        with torch.enable_grad():
            y = convolution(x, weight, padding)
        torch.autograd.grad(y, (weight, *((x,) if x.requires_grad else ())), y.detach())
        found.append(time.perf_counter() - start)
    return min(found)


def direct(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Return torch's own convolution."""
    return F.conv2d(x, weight, padding=padding)


def suits(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Return whether `winograd` computes this convolution."""
    alike = (
        weight.shape[2:] == (3, 3)
        and bias is None
        and (stride, dilation, groups) == ((1, 1), (1, 1), 1)
        and padding in ((0, 0), (1, 1))
    )
    return alike and x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def winograd(x: Float[Tensor, "b c h w"], weight: Float[Tensor, "o c 3 3"], padding: int) -> Float[Tensor, "b o h2 w2"]:
    """Return the convolution of `x`, padded by 0 or 1, with `weight`: 36 products for every 4×4 outputs in place of
    144, each a product of matrices.
    """
    (b, c), o = x.shape[:2], len(weight)
    h, w = (side + 2 * padding - 2 for side in x.shape[2:])
    rows, columns = -(-h // STEP), -(-w // STEP)
    padded = F.pad(x, (padding, STEP * columns - w + padding, padding, STEP * rows - h + padding))
    pixels = along_both_sides(PIXELS, patches(padded.permute(0, 2, 3, 1)))
    filters = along_both_sides(FILTER, weight.permute(2, 3, 1, 0).reshape(1, 9, c * o)).view(SIDE**2, c, o)
    products = torch.bmm(pixels.transpose(0, 1), filters)
    tiles = along_both_sides(OUTPUTS, products.transpose(0, 1)).view(b, rows, columns, STEP, STEP, o)
    y = tiles.transpose(2, 3).reshape(b, STEP * rows, STEP * columns, o)[:, :h, :w]
    return y.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def along_both_sides(matrix: Sequence[Sequence[float]], squares: Float[Tensor, "t n2 c"]) -> Float[Tensor, "t m2 c"]:
    """Return M·S·Mᵀ for the m×n `matrix` M and each n×n square S, whose numbers stand in one row: as one product,
    (M⊗M)·S.
    """
    m = squares.new_tensor(matrix)
    return torch.bmm(torch.kron(m, m).expand(len(squares), -1, -1), squares)


class Patches(torch.autograd.Function):
    """`patches`, with a gradient several times as fast as that of torch's `unfold`."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor) -> Tensor:
        """Return the patches."""
        ctx.shape = pixels.shape
        return (
            pixels.unfold(1, SIDE, STEP)
            .unfold(2, SIDE, STEP)
            .permute(0, 1, 2, 4, 5, 3)
            .reshape(-1, SIDE**2, pixels.shape[3])
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the sum, at every pixel, over the patches that hold it."""
        b, h, w, c = ctx.shape
        rows, columns, shared = h // STEP, w // STEP, SIDE - STEP
        of_patches = gradient.view(b, rows, columns, SIDE, SIDE, c).transpose(2, 3)  # b, rows, 6, columns, 6, c
        total = gradient.new_zeros(b, rows + 1, STEP, columns + 1, STEP, c)
        total[:, :-1, :, :-1] = of_patches[:, :, :STEP, :, :STEP]
        total[:, 1:, :shared, :-1] += of_patches[:, :, STEP:, :, :STEP]
        total[:, :-1, :, 1:, :shared] += of_patches[:, :, :STEP, :, STEP:]
        total[:, 1:, :shared, 1:, :shared] += of_patches[:, :, STEP:, :, STEP:]
        return total.flatten(3, 4).flatten(1, 2)[:, :h, :w]


def patches(pixels: Float[Tensor, "b h w c"]) -> Float[Tensor, "t 36 c"]:
    """Return patches of 6×6 pixels, one every 4, so that neighbours share 2; height and width are 2 more than a
    multiple of 4.
    """
    result: Tensor = Patches.apply(pixels)
    return result
