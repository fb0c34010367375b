"""A deeper network that computes what a trained shallower one does, by construction (He et al. 2015, section 1)."""

from typing import NamedTuple

import torch
from torch import nn

from reslab.experiment.trials import Trial


class Copies(NamedTuple):
    """Training errors of a trained network and of the deeper one built from it, and the number of training images on
    which they differ.
    """

    error: float
    error_of_deeper: float
    differing: int


@torch.no_grad()
def copies(trial: Trial, depth: int) -> Copies:
    """Return the answers on all training images of a trained plain network and of the deeper one built from it."""
    deeper = trial._replace(
        config=trial.config.model_copy(update={"options": {**trial.config.options, "depth": depth}})
    ).fresh_network()
    given, made = trial.network(), contain(trial.network(), deeper)
    answers = [
        (given(images).argmax(1), made(images).argmax(1), labels) for images, labels in trial.data().batches("train")
    ]
    before, after, labels = (torch.cat(part) for part in zip(*answers, strict=True))
    error, of_deeper = (round((answer != labels).double().mean().item(), 6) for answer in (before, after))
    return Copies(error, of_deeper, int((before != after).sum()))


@torch.no_grad()
def contain(shallow: nn.Module, deep: nn.Module) -> nn.Module:
    """Make a deep plain network compute the function of a shallow one with as many stages, in evaluation mode, and
    return it.

    It begins every stage with the shallow one's blocks. In those that follow, both convolutions pass every channel on,
    and the BatchNorms neither shift nor scale; the ReLUs change nothing, as a stage's maps are not negative.
    """
    deep.eval().load_state_dict(shallow.state_dict(), strict=False)
    copied = dict(shallow.named_modules())
    for name, module in deep.named_modules():
        if name not in copied and isinstance(module, nn.Conv2d):
            nn.init.dirac_(module.weight)
        elif name not in copied and isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()  # weight 1, bias 0; statistics of mean 0, variance 1
            assert module.running_var is not None
            module.running_var.fill_(1 - module.eps)  # so that 1 / sqrt(variance + eps) is 1
    return deep
