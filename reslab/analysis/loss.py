"""The loss of a network on a batch as a function of its parameters, which the network itself need not take."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from reslab.analysis.result import Loss, batchnorms, check_batch, evaluating
from reslab.errors import UserError


@contextmanager
def loss_of(
    network: nn.Module, images: Tensor, labels: Tensor, loss: Loss = F.cross_entropy, *, batch_statistics: bool
) -> Iterator[Callable[[Mapping[str, Tensor]], Tensor]]:
    """Give, for a while, the loss on a batch as a function of parameters by name; those not given are the network's own.

    The network, one from `as_network`, is in evaluation mode; with `batch_statistics`, its BatchNorms are in training mode, and normalise with
    the batch.

    Raises:
        UserError: if the images, labels and outputs do not fit.
    """
    check_batch(images, labels)

    def evaluate(parameters: Mapping[str, Tensor]) -> Tensor:
        out = functional_call(network, dict(parameters), (images,))
        if loss is F.cross_entropy and (out.dim() != 2 or labels.min() < 0 or labels.max() >= out.shape[1]):
            highest = int(labels.max())
            raise UserError(
                f"labels from {int(labels.min())} to {highest} need outputs [B, {highest + 1} or more], the network gives {list(out.shape)}"
            )
        return loss(out, labels)

    with evaluating(network):
        for module in batchnorms(network):
            module.training = batch_statistics
        yield evaluate
