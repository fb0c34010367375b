"""The loss of a network on a batch as a function of its parameters, which need not be set in the network."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from reslab.analysis.subject import (
    Loss,
    batchnorms,
    check_batch,
    check_batchnorms,
    check_repeatable,
    evaluating,
    loss_value,
)


@contextmanager
def loss_of(
    network: nn.Module, images: Tensor, labels: Tensor, loss: Loss = F.cross_entropy, *, batch_statistics: bool
) -> Iterator[Callable[[Mapping[str, Tensor]], Tensor]]:
    """Give the loss on a batch as a function of parameters by name; parameters not given are the network's own.

    The network, one from `as_network`, is in evaluation mode; with `batch_statistics`, its BatchNorms are in training
    mode, and normalise with the batch.

    Raises:
        UserError: if the images, labels and outputs do not fit, or the network draws random numbers.
    """
    check_batch(images, labels, loss)
    names = {parameter: name for name, parameter in network.named_parameters()}  # each once
    places = {f"{path}.{name}".removeprefix("."): names[value] for path, name, value in _held(network)}

    def evaluate(parameters: Mapping[str, Tensor]) -> Tensor:
        given = {place: parameters[name] for place, name in places.items() if name in parameters}
        return loss_value(loss, functional_call(network, given, (images,), tie_weights=False), labels)

    with evaluating(network):
        if batch_statistics:
            check_batchnorms(network, network, images)
        for module in batchnorms(network):
            module.training = batch_statistics
        check_repeatable(network, images)
        yield evaluate


def _held(network: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    """Yield every module's own parameters, each module once: torch restores those of a module with two names in the
    wrong order.
    """
    for path, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            yield path, name, parameter
