"""Loading a file's weights into an existing network."""

import warnings
from collections.abc import Iterator
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Literal

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from reslab.errors import MismatchError, Wording, WrongValueError, worded
from reslab.weights.files import WeightFile, read_weights
from reslab.weights.fitting import Fit, Head
from reslab.weights.untold import Asked, ZeroPadSide, load, strides


def load_weights(
    network: nn.Module,
    weights: str | PathLike[str],
    *,
    stride_in: Literal["1x1", "3x3"] | None = None,
    zero_pad: ZeroPadSide | None = None,
    head: Head | None = None,
    raw: bool = False,
) -> Fit:
    """Load the weights of a file into a network, whatever names the file uses, and return a report: `renamed`,
    `dropped`, `added`, `converted`, `notes`.

    Args:
        network: any network with the file's layers, reslab's or your own.
        weights: safetensors, a saved state dict, Keras' .h5, Detectron's .pkl, or a run's directory.
        stride_in: where the file's bottlenecks stride, "1x1" or "3x3", if the file does not state it.
        zero_pad: on which side the file's option A pads its zeros, "end" or "centred", if the file does not state it.
        head: the network's classifier in place of the file's, "fresh" or "none".
        raw: if a file holds both weights and their average, use the weights.

    Examples:
        >>> import reslab
        >>> import torch
        >>> network = reslab.build("cifar_resnet", depth=8)
        >>> torch.save({"model": network.state_dict()}, "trained.pt")
        >>> other = reslab.build("cifar_resnet", depth=8)
        >>> reslab.load_weights(other, "trained.pt", zero_pad="end").dropped
        ()
        >>> torch.equal(other.fc.weight, network.fc.weight)
        True

    Raises:
        UserError: if the tensors do not fit, `stride_in` or `zero_pad` is needed and missing, or contradicts the file,
            or the network has no weights yet.
    """
    if any(map(is_lazy, _parts(network))):
        raise WrongValueError(*worded("lazy-layers"))
    if any(each.is_meta for each in _parts(network)):
        raise WrongValueError(*worded("shapes-alone"))
    read = read_weights(Path(weights))
    own = strides(network)
    if stride_in is not None and own - {stride_in}:
        theirs = Wording(" and ".join(own), ", ".join(own))
        raise MismatchError(*worded("strides-elsewhere", theirs=theirs, given=stride_in))
    _compare_pools(network, read)
    stated = "model" in read.metadata or "stride_in" in read.facts.options
    known = own if stated else {stride_in} - {None}
    options = {"stride_in": next(iter(known))} if known else {}
    return load(network, read, read.network or type(network).__name__, options, Asked(zero_pad, head, raw))


def _compare_pools(network: nn.Module, weights: WeightFile) -> None:
    """Warn if the network's first max-pool is not the one that the file states, "padded" or "caffe"."""
    wanted = weights.metadata.get("options", weights.facts.options).get("pool")
    pools = (module for module in network.modules() if isinstance(module, nn.MaxPool2d))
    if wanted is None or (pool := next(pools, None)) is None:
        return
    own = "caffe" if pool.ceil_mode and pool.padding == 0 else "padded"
    if own != wanted:
        warnings.warn(f"{weights.path} was made for pool {wanted}, and the network's is {own}", stacklevel=3)


def _parts(network: nn.Module) -> Iterator[Tensor]:
    return chain(network.parameters(), network.buffers())
