"""Optimisers: SGD as in the papers, or another one from the recipe."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from reslab.errors import UnusableError, worded
from reslab.training.muon import Muon
from reslab.training.recipes import Recipe

AFTER = 0.999
"""AdamW's second beta, as its paper has it; the first is the recipe's momentum."""


def optimizers_of(network: nn.Module, recipe: Recipe, *, scaled: bool = False) -> list[torch.optim.Optimizer]:
    """Return the optimisers of a network's parameters: one, or Muon for the filters of convolutions and SGD for the
    rest.

    If the loss is `scaled`, as in float16, steps with infinite gradients are left out. The fused optimisers cannot do
    that: of a first step that is left out they keep a momentum that nothing has been written to.

    Nor are they for complex numbers.

    Raises:
        UserError: for Muon with a scaled loss, as two optimisers cannot share its scale.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if recipe.optimizer == "adamw":
        return [
            torch.optim.AdamW(
                _decayed(parameters, recipe),
                lr=recipe.learning_rate,
                betas=(recipe.momentum, AFTER),
                weight_decay=recipe.weight_decay,
                fused=_can_fuse(parameters, scaled),
            )
        ]
    if recipe.optimizer == "muon":
        if scaled:
            raise UnusableError(*worded("muon-in-float16"))
        filters = [parameter for parameter in parameters if parameter.dim() == 4 and len(parameter) > 1]
        # also scales and tables of four dimensions, [1, C, 1, 1]
        rest = [parameter for parameter in parameters if parameter.dim() != 4 or len(parameter) == 1]
        muon = [Muon(filters, recipe.learning_rate, recipe.momentum)] if filters else []
        return [*muon, *([_sgd(rest, recipe, fused=_can_fuse(rest, scaled))] if rest else [])]
    return [_sgd(parameters, recipe, fused=_can_fuse(parameters, scaled))]


def _can_fuse(parameters: list[nn.Parameter], scaled: bool) -> bool:
    return not scaled and all(parameter.is_floating_point() for parameter in parameters)


def _sgd(parameters: list[nn.Parameter], recipe: Recipe, *, fused: bool = True) -> torch.optim.Optimizer:
    sgd = torch.optim.SGD(
        _decayed(parameters, recipe),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov and recipe.momentum > 0,  # of no momentum it is SGD
        weight_decay=recipe.weight_decay,
        fused=fused,
    )
    if fused and recipe.momentum:
        sgd.register_step_pre_hook(_begin_later)
    return sgd


def _begin_later(sgd: torch.optim.Optimizer, *_: Any) -> None:
    """Begin the momentum of parameters that have their first gradient after others had theirs, as those of a block that
    was skipped: the fused SGD begins all at once, or none.
    """
    if any(sgd.state.values()):
        for parameter in (each for group in sgd.param_groups for each in group["params"]):
            if parameter.grad is not None and not sgd.state[parameter]:
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter.grad)


def _decayed(parameters: list[nn.Parameter], recipe: Recipe) -> Iterable[Any]:
    """Return the parameters, or two groups: with and without weight decay."""
    if not recipe.no_vector_decay:
        return parameters
    groups = [[each for each in parameters if (each.dim() > 1) is decays] for decays in (True, False)]
    return [
        {"params": group, "weight_decay": decay}
        for group, decay in zip(groups, (recipe.weight_decay, 0.0), strict=True)
        if group
    ]
