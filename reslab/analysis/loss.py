"""The loss of a network on a batch as a function of its parameters, which the network itself need not take."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from reslab.analysis.result import Loss, batchnorms, check_batch, evaluating, loss_value


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
        return loss_value(loss, functional_call(network, dict(parameters), (images,)), labels)

    with evaluating(network):
        for module in batchnorms(network):
            module.training = batch_statistics
        yield evaluate
