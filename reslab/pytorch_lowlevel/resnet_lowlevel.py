"""Level 2: a ResNet from raw tensors. Tensors in, tensors out: no modules, no optimiser, no autograd.

Read from top to bottom. First the pieces, each with its gradient derived beside it: convolution, BatchNorm, ReLU,
max-pool, average pool, linear layer, cross-entropy. Then the block, whose backward pass has the two terms of the
chapter on two lines. Then the whole network, its gradients, and SGD.

A network is two flat dicts with torchvision's names: parameters, and BatchNorm's running statistics. Every function is
pure. The gradient of the loss with respect to a tensor t is written g_t below, and has t's shape.

    params, stats = initialise(18, generator=torch.Generator().manual_seed(0))
    loss, gradients, stats, _ = loss_and_gradients(params, stats, images, labels)
    params, momenta = sgd_step(params, gradients, None, learning_rate=0.1)
"""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

Tensors = dict[str, Tensor]
StrideIn = Literal["1x1", "3x3"]

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks per stage (He et al. 2015, Table 1); 18 and 34 are of basic blocks, the deeper ones of bottlenecks."""

EPSILON = 1e-5
MOMENTUM = 0.1  # of the running statistics: new = 0.9 old + 0.1 batch

# --- The pieces, each with its gradient -------------------------------------------------------------------------------


def conv2d(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Return the convolution of x `[B, C, H, W]` with weight `[K, C, k, k]`, zero-padded by k // 2: `[B, K, H/stride,
    W/stride]`.
    """
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)


def conv2d_backward_readable(g_y: Tensor, x: Tensor, weight: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Return (g_x, g_weight), the way one would derive them.

    A convolution is a matrix product, y = W · columns(x): each column is one k×k window, each row of W one filter. For
    a product, g_W = g_y · columns(x)ᵀ and g_columns = Wᵀ · g_y; and columns() copies each pixel into every window that
    holds it, so its gradient adds those copies up again (`F.fold`).
    """
    k = weight.shape[-1]
    window = {"kernel_size": k, "stride": stride, "padding": k // 2}
    columns = F.unfold(x, **window)  # [B, C·k·k, L], L windows
    g_rows = g_y.flatten(2)  # [B, K, L]
    g_weight = torch.einsum("bkl,bcl->kc", g_rows, columns).reshape(weight.shape)
    g_columns = torch.einsum("kc,bkl->bcl", weight.flatten(1), g_rows)
    return F.fold(g_columns, x.shape[-2:], **window), g_weight


def conv2d_backward(
    g_y: Tensor, x: Tensor, weight: Tensor, stride: int, *, need_g_x: bool = True
) -> tuple[Tensor, Tensor]:
    """Return (g_x, g_weight) as `conv2d_backward_readable` does, without building the columns in memory."""
    padding = weight.shape[-1] // 2
    g_x, g_weight, _ = torch.ops.aten.convolution_backward(
        g_y, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [need_g_x, True, False]
    )
    return g_x, g_weight


def _channels(t: Tensor) -> Tensor:
    """Return a tensor `[C]` as `[C, 1, 1]`, to meet `[B, C, H, W]`."""
    return t[:, None, None]


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """Return weight · (x − mean) / √(var + ε) + bias for every channel: one multiply and one add (Ioffe & Szegedy 2015,
    Algorithm 1).
    """
    scale = weight * inverse_std(var)
    shift = torch.addcmul(bias, mean, scale, value=-1)
    return torch.addcmul(_channels(shift), x, _channels(scale))


def _exact(t: Tensor) -> torch.dtype:
    """Return float64, or float32 on Apple's GPUs, which have nothing finer."""
    return torch.float32 if t.device.type == "mps" else torch.float64


def inverse_std(var: Tensor) -> Tensor:
    """Return 1 / √(var + ε), rounded once, from float64."""
    return (1 / torch.sqrt(var.to(_exact(var)) + EPSILON)).to(var.dtype)


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance (over N, not N − 1) of each channel over the batch and the pixels.

    The values are added one after another, as torch's own kernel does on the CPU: a deep network at its start
    multiplies a difference in the last digit ten-thousandfold.
    """
    n = x.numel() // x.shape[1]
    mean = _sum_in_order(x) / n
    centred = x - _channels(mean)
    return mean.to(x.dtype), (_sum_in_order(centred * centred) / n).to(x.dtype)


def _sum_in_order(x: Tensor) -> Tensor:
    """Return the sum over each channel, `[C]`, by running sums (which torch keeps in float64 on the CPU); of half
    precision in float32, as a sum of thousands has no place in float16.
    """
    return x.transpose(0, 1).flatten(1).cumsum(1, dtype=torch.promote_types(x.dtype, torch.float32))[:, -1]


def track(stats: Tensors, name: str, mean: Tensor, var: Tensor, count: int) -> Tensors:
    """Return the running statistics after one more batch of `count` values per channel.

    BatchNorm normalises with the biased variance, but what it tracks, as an estimate for all images, is the unbiased
    one: · N / (N − 1).
    """
    unbiased = var * (count / (count - 1))
    return {
        f"{name}.running_mean": (1 - MOMENTUM) * stats[f"{name}.running_mean"] + MOMENTUM * mean,
        f"{name}.running_var": (1 - MOMENTUM) * stats[f"{name}.running_var"] + MOMENTUM * unbiased,
        f"{name}.num_batches_tracked": stats[f"{name}.num_batches_tracked"] + 1,
    }


def batch_norm_backward(
    g_y: Tensor, x: Tensor, weight: Tensor, mean: Tensor, var: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (g_x, g_weight, g_bias) of BatchNorm in training mode.

    With x̂ = (x − mean) / σ and y = weight · x̂ + bias: g_bias = Σ g_y and g_weight = Σ g_y · x̂. For g_x, every x also
    moves its channel's mean and variance. Moving the mean takes the average out of g_x̂; moving the variance takes out
    its part along x̂:

        g_x = (weight / σ) · (g_y − mean(g_y) − x̂ · mean(g_y · x̂))

    so g_x is orthogonal to 1 and to x̂: BatchNorm does not notice if its input is shifted or scaled. All means are over
    N values.
    """
    n = x.numel() // x.shape[1]
    inverse, centred = inverse_std(var), x - _channels(mean)
    g_bias = g_y.sum((0, 2, 3), dtype=_exact(x)).to(x.dtype)
    g_weight = (g_y * centred).sum((0, 2, 3), dtype=_exact(x)).to(x.dtype) * inverse
    along = centred * _channels(g_weight * inverse / n)  # x̂ · mean(g_y · x̂)
    g_x = (g_y - _channels(g_bias / n) - along) * _channels(weight * inverse)
    return g_x, g_weight, g_bias


def relu(x: Tensor) -> Tensor:
    """Return max(x, 0), whose slope at 0 is 0."""
    return torch.relu(x)


def relu_backward(g_y: Tensor, y: Tensor) -> Tensor:
    """Return g_x: where the output is positive the slope is 1, elsewhere 0 (at 0 itself too, by convention)."""
    return torch.where(y > 0, g_y, 0)


def max_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest value of each 3×3 window at stride 2, `[B, C, H/2, W/2]`, and where in its H·W map it was."""
    return F.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)


def max_pool_backward(g_y: Tensor, where: Tensor, shape: torch.Size) -> Tensor:
    """Return g_x: each output's gradient goes to the one pixel it was copied from; a pixel that won several windows
    gets the sum.
    """
    return g_y.new_zeros(shape).flatten(2).scatter_add(2, where.flatten(2), g_y.flatten(2)).reshape(shape)


def global_average_pool(x: Tensor) -> Tensor:
    """Return the mean of each map: `[B, C, H, W] -> [B, C]`."""
    return x.mean((2, 3))


def global_average_pool_backward(g_y: Tensor, shape: torch.Size) -> Tensor:
    """Return g_x: every pixel of a map has 1 / (H·W) of its mean."""
    return (g_y / (shape[2] * shape[3]))[:, :, None, None].expand(shape)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x · weightᵀ + bias: `[B, C] -> [B, classes]`."""
    return x @ weight.T + bias


def linear_backward(g_y: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (g_x, g_weight, g_bias): a product's two gradients, and a sum's."""
    return g_y @ weight, g_y.T @ x, g_y.sum(0)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over the batch of −log softmax(logits)[label], in nats."""
    picked = logits.gather(1, labels[:, None])[:, 0]
    return (logits.logsumexp(1) - picked).mean()


def cross_entropy_backward(logits: Tensor, labels: Tensor) -> Tensor:
    """Return g_logits = (softmax(logits) − one-hot(labels)) / B: what the network believes, minus what is so."""
    belief = (logits - logits.logsumexp(1, keepdim=True)).exp()
    truth = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)
    return (belief - truth.to(belief.dtype)) / len(labels)


# --- Architecture: names, strides and shapes --------------------------------------------------------------------------


class Block(NamedTuple):
    """One residual block: its name, its convolutions as (kernel, stride, channels in, channels out), its projection or
    None.
    """

    name: str
    convolutions: tuple[tuple[int, int, int, int], ...]
    projection: tuple[int, int, int, int] | None


def blocks(depth: int, stride_in: StrideIn) -> Iterator[Block]:
    """Yield the blocks of a network in order (He et al. 2015, Table 1).

    The first block of stages 2, 3, 4 has stride 2; a bottleneck takes it in its first 1×1 (the paper) or its 3×3
    (torchvision, "v1.5").

    Raises:
        ValueError: if the depth is not 18, 34, 50, 101 or 152, or `stride_in` is neither "1x1" nor "3x3".
    """
    if depth not in BLOCKS:
        raise ValueError(f"no network of depth {depth}; known: {', '.join(map(str, BLOCKS))}")
    if stride_in not in ("1x1", "3x3"):
        raise ValueError(f"stride_in must be '1x1' (the paper) or '3x3' (v1.5), got {stride_in!r}")
    width, basic = 64, depth < 50
    for stage, count in enumerate(BLOCKS[depth]):
        inner = 64 * 2**stage
        out = inner if basic else 4 * inner
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            first, middle = (stride, 1) if stride_in == "1x1" else (1, stride)
            convolutions = (
                ((3, stride, width, inner), (3, 1, inner, inner))
                if basic
                else ((1, first, width, inner), (3, middle, inner, inner), (1, 1, inner, out))
            )
            projection = (1, stride, width, out) if stride != 1 or width != out else None
            yield Block(f"layer{stage + 1}.{index}", convolutions, projection)
            width = out


def _convolutions(block: Block) -> Iterator[tuple[str, str, tuple[int, int, int, int]]]:
    """Yield (convolution's name, BatchNorm's name, sizes), in torchvision's order."""
    for number, sizes in enumerate(block.convolutions, start=1):
        yield f"{block.name}.conv{number}", f"{block.name}.bn{number}", sizes
    if block.projection:
        yield f"{block.name}.downsample.0", f"{block.name}.downsample.1", block.projection


def shapes(
    depth: int, num_classes: int = 1000, in_channels: int = 3
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Return the shape of every parameter and of every running statistic, by torchvision's names."""
    params: dict[str, tuple[int, ...]] = {}
    stats: dict[str, tuple[int, ...]] = {}
    stem = ("conv1", "bn1", (7, 2, in_channels, 64))
    everything = [stem, *(item for block in blocks(depth, "3x3") for item in _convolutions(block))]
    for conv, bn, (kernel, _, into, out) in everything:
        params |= {f"{conv}.weight": (out, into, kernel, kernel), f"{bn}.weight": (out,), f"{bn}.bias": (out,)}
        stats |= {f"{bn}.running_mean": (out,), f"{bn}.running_var": (out,), f"{bn}.num_batches_tracked": ()}
    width = everything[-1][2][3]
    return params | {"fc.weight": (num_classes, width), "fc.bias": (num_classes,)}, stats


def initialise(
    depth: int, *, generator: Generator, num_classes: int = 1000, in_channels: int = 3
) -> tuple[Tensors, Tensors]:
    """Return fresh (params, stats): convolutions from N(0, 2 / fan_out) (He et al. 2015b), BatchNorm as the identity,
    classifier small.
    """
    param_shapes, stat_shapes = shapes(depth, num_classes, in_channels)
    params: Tensors = {}
    for name, shape in param_shapes.items():
        if len(shape) == 4:
            fan_out = shape[0] * shape[2] * shape[3]
            params[name] = torch.randn(shape, generator=generator) * (2 / fan_out) ** 0.5
        elif name == "fc.weight":
            bound = shape[1] ** -0.5
            params[name] = (2 * torch.rand(shape, generator=generator) - 1) * bound
        else:
            params[name] = torch.ones(shape) if name.endswith(".weight") else torch.zeros(shape)
    return params, {name: _fresh_statistic(name, shape) for name, shape in stat_shapes.items()}


def _fresh_statistic(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    return torch.ones(shape) if name.endswith("running_var") else torch.zeros(shape)


def from_state_dict(state: Mapping[str, Tensor], depth: int) -> tuple[Tensors, Tensors]:
    """Return (params, stats) from a state dict with torchvision's names; the input channels and classes are the dict's
    own. Old files do not count batches: they have tracked 0.

    Raises:
        ValueError: naming the first entry that is missing, extra or of a wrong shape.
    """
    for name in ("fc.bias", "conv1.weight"):
        if name not in state:
            raise ValueError(f"{name!r} is missing from the state dict")
    param_shapes, stat_shapes = shapes(depth, len(state["fc.bias"]), state["conv1.weight"].shape[1])
    wanted = param_shapes | stat_shapes
    for name in state:
        if name not in wanted:
            raise ValueError(f"{name!r} does not belong to a ResNet-{depth}")
    state = {name: torch.tensor(0) for name in stat_shapes if name.endswith("num_batches_tracked")} | dict(state)
    for name, shape in wanted.items():
        if name not in state:
            raise ValueError(f"{name!r} is missing from the state dict; a ResNet-{depth} needs it")
        if tuple(state[name].shape) != shape:
            raise ValueError(f"{name!r} has shape {tuple(state[name].shape)}; a ResNet-{depth} needs {shape}")
    return {name: state[name] for name in param_shapes}, {name: state[name] for name in stat_shapes}


# --- The residual block -----------------------------------------------------------------------------------------------


class Pass:
    """One pass through a network: its tensors, its mode, and what the forward pass keeps for the backward pass."""

    def __init__(self, params: Tensors, stats: Tensors, *, training: bool, keep: bool) -> None:
        self.params, self.stats, self.training, self.keep = params, stats, training, keep
        self.new_stats: Tensors = {}
        self.kept: dict[str, tuple[Tensor, ...]] = {}
        self.gradients: Tensors = {}


def conv_bn(run: Pass, conv: str, bn: str, x: Tensor, stride: int) -> Tensor:
    """Return BatchNorm(convolution(x)).

    Raises:
        ValueError: if there is one value per channel in training, of which there is no variance.
    """
    z = conv2d(x, run.params[f"{conv}.weight"], stride)
    if run.training:
        if z.numel() // z.shape[1] < 2:
            raise ValueError(f"expected more than 1 value per channel when training, got an input of {list(z.shape)}")
        mean, var = batch_statistics(z)
        # torch 2.6 compiles neither |= nor | of dicts
        run.new_stats.update(track(run.stats, bn, mean, var, z.numel() // z.shape[1]))
    else:
        mean, var = run.stats[f"{bn}.running_mean"], run.stats[f"{bn}.running_var"]
    if run.keep:
        run.kept[conv] = x, z, mean, var
    return batch_norm(z, run.params[f"{bn}.weight"], run.params[f"{bn}.bias"], mean, var)


def conv_bn_backward(run: Pass, conv: str, bn: str, g_y: Tensor, stride: int, *, need_g_x: bool = True) -> Tensor:
    """Return g_x and note the gradients of the three parameters."""
    x, z, mean, var = run.kept.pop(conv)
    g_z, run.gradients[f"{bn}.weight"], run.gradients[f"{bn}.bias"] = batch_norm_backward(
        g_y, z, run.params[f"{bn}.weight"], mean, var
    )
    g_x, run.gradients[f"{conv}.weight"] = conv2d_backward(
        g_z, x, run.params[f"{conv}.weight"], stride, need_g_x=need_g_x
    )
    return g_x


def branch(run: Pass, block: Block, x: Tensor) -> Tensor:
    """Return F(x): conv-bn-relu two or three times, without the last ReLU."""
    for number, (_, stride, _, _) in enumerate(block.convolutions, start=1):
        x = conv_bn(run, f"{block.name}.conv{number}", f"{block.name}.bn{number}", x, stride)
        if number < len(block.convolutions):
            x = relu(x)
    return x


def branch_backward(run: Pass, block: Block, g: Tensor) -> Tensor:
    """Return J_Fᵀ · g, the gradient through the branch."""
    for number in range(len(block.convolutions), 0, -1):
        y = run.kept[f"{block.name}.conv{number}"][0]  # this convolution's input: the output of the ReLU before it
        g = conv_bn_backward(
            run, f"{block.name}.conv{number}", f"{block.name}.bn{number}", g, block.convolutions[number - 1][1]
        )
        if number > 1:
            g = relu_backward(g, y)
    return g


def shortcut(run: Pass, block: Block, x: Tensor) -> Tensor:
    """Return x itself, or its projection W_s · x where the shape changes (Eq. 2; option B)."""
    if block.projection is None:
        return x
    return conv_bn(run, f"{block.name}.downsample.0", f"{block.name}.downsample.1", x, block.projection[1])


def shortcut_backward(run: Pass, block: Block, g: Tensor) -> Tensor:
    """Return g itself, or W_sᵀ · g."""
    if block.projection is None:
        return g
    return conv_bn_backward(run, f"{block.name}.downsample.0", f"{block.name}.downsample.1", g, block.projection[1])


def residual_block(run: Pass, block: Block, x: Tensor) -> Tensor:
    """Return y = relu(shortcut(x) + F(x))."""
    y = relu(shortcut(run, block, x) + branch(run, block, x))
    if run.keep:
        run.kept[block.name] = (y,)
    return y


def residual_block_backward(run: Pass, block: Block, g_y: Tensor) -> Tensor:
    """Return g_x = (J_F + 1)ᵀ · D · g_y, where D is the last ReLU's mask: the chapter's ∂F/∂x + 1, for vectors, and for
    what v1 computes.
    """
    (y,) = run.kept.pop(block.name)
    g_sum = relu_backward(g_y, y)
    through_the_branch = branch_backward(run, block, g_sum)  # J_Fᵀ · g: "∂F/∂x"
    through_the_skip = shortcut_backward(run, block, g_sum)  # g, untouched: "+ 1"
    return through_the_branch + through_the_skip


# --- The whole network ------------------------------------------------------------------------------------------------


def _depth(params: Tensors) -> int:
    """Return the depth of the network that has these parameters."""
    convolutions = sum(
        name.endswith(".weight") and value.ndim == 4 and "downsample" not in name for name, value in params.items()
    )
    return convolutions + 1  # and the classifier


def _forward(run: Pass, images: Tensor, stride_in: StrideIn) -> Tensor:
    x = relu(conv_bn(run, "conv1", "bn1", images, stride=2))  # [B, 3, H, W] -> [B, 64, H/2, W/2]
    pooled, where = max_pool(x)  # [B, 64, H/4, W/4]
    if run.keep:
        run.kept["maxpool"] = x, where
    x = pooled
    for block in blocks(_depth(run.params), stride_in):
        x = residual_block(run, block, x)
    features = global_average_pool(x)  # [B, 512 or 2048, H/32, W/32] -> [B, 512 or 2048]
    if run.keep:
        run.kept["fc"] = features, x
    return linear(features, run.params["fc.weight"], run.params["fc.bias"])


def forward(
    params: Tensors, stats: Tensors, images: Tensor, *, training: bool = False, stride_in: StrideIn = "3x3"
) -> tuple[Tensor, Tensors]:
    """Return the logits `[B, classes]` of images `[B, 3, H, W]`, and the running statistics after this batch (unchanged
    in evaluation).
    """
    run = Pass(params, stats, training=training, keep=False)
    logits = _forward(run, images, stride_in)
    return logits, {**stats, **run.new_stats}


class Step(NamedTuple):
    """What one forward and backward pass gives."""

    loss: Tensor
    gradients: Tensors
    stats: Tensors
    g_images: Tensor | None


def loss_and_gradients(
    params: Tensors,
    stats: Tensors,
    images: Tensor,
    labels: Tensor,
    *,
    stride_in: StrideIn = "3x3",
    need_g_images: bool = True,
) -> Step:
    """Return the mean cross-entropy, its gradient for every parameter and for the images, and the new running
    statistics (training mode).

    Training needs no gradient of the images: `need_g_images=False` saves the stem's costly one.
    """
    run = Pass(params, stats, training=True, keep=True)
    logits = _forward(run, images, stride_in)
    features, last = run.kept.pop("fc")
    g = cross_entropy_backward(logits, labels)
    g, run.gradients["fc.weight"], run.gradients["fc.bias"] = linear_backward(g, features, params["fc.weight"])
    g = global_average_pool_backward(g, last.shape)
    for block in reversed(list(blocks(_depth(params), stride_in))):
        g = residual_block_backward(run, block, g)
    x, where = run.kept.pop("maxpool")
    g = relu_backward(max_pool_backward(g, where, x.shape), x)
    g_images = conv_bn_backward(run, "conv1", "bn1", g, stride=2, need_g_x=need_g_images)
    gradients = {name: run.gradients[name] for name in params}
    return Step(
        cross_entropy(logits, labels), gradients, {**stats, **run.new_stats}, g_images if need_g_images else None
    )


def sgd_step(
    params: Tensors,
    gradients: Tensors,
    momenta: Tensors | None,
    *,
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
) -> tuple[Tensors, Tensors]:
    """Return (params, momenta) after one step of SGD, as `torch.optim.SGD` defines it; `momenta` is None before the
    first step.

    v ← momentum · v + (g + weight_decay · p), with v = g + weight_decay · p the first time; p ← p − learning_rate · v.
    The rate multiplies v when it is applied, so that a change of the rate acts at once.
    """
    decayed = {name: torch.add(gradients[name], p, alpha=weight_decay) for name, p in params.items()}
    new = (
        decayed
        if momenta is None
        else {name: torch.add(g, momenta[name], alpha=momentum) for name, g in decayed.items()}
    )
    return {name: torch.sub(p, new[name], alpha=learning_rate) for name, p in params.items()}, new


if __name__ == "__main__":
    from reslab.stories.lowlevel import main
    from reslab.stories.speaking import tell

    tell(main)
