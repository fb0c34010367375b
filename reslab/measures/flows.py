"""The flow of gradients through the four kinds of networks of `gradient_flow`, at initialisation and during
training.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import nn

from reslab.analysis.gradient_flow import TINY, GradientFlow, gradient_flow
from reslab.data import load_data
from reslab.errors import UserError
from reslab.experiment.text import StudyText, spread
from reslab.experiment.trials import Trial
from reslab.ledger.record import Chart, Series, Table, Value
from reslab.networks import zoo
from reslab.state import draws_apart

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain, BN": ("cifar_plain", {}),
    "plain": ("cifar_no_batchnorm", {"family": "cifar_plain"}),
    "residual, BN": ("cifar_resnet", {}),
    "residual": ("cifar_no_batchnorm", {"family": "cifar_resnet"}),
}
"""A network of the zoo, and its options."""


class Flow(NamedTuple):
    """The gradient's norm before the first block and after each; its factor per block, its decades, those of the
    blocks' parameters' gradients, and the loss.
    """

    backward: list[float]
    growth: float
    decades: float
    parameter_decades: float
    loss: float


class Training(NamedTuple):
    """The flow at steps of training."""

    steps: list[int]
    flows: list[Flow]


def build(kind: str, depth: int, seed: int, num_classes: int, in_channels: int) -> nn.Module:
    """Return a network of one of the four kinds, in training mode, initialised from the seed."""
    model, options = KINDS[kind]
    with draws_apart():
        torch.manual_seed(seed)
        return zoo.build(model, depth=depth, num_classes=num_classes, in_channels=in_channels, **options)


def start(data: str, kind: str, depth: int, seed: int, images: int) -> Flow:
    """Return the flow of a batch of `images` images through a network at initialisation."""
    loaded = load_data(data).fitted(32)
    network = build(kind, depth, seed, loaded.num_classes, loaded.in_channels)
    return plain(gradient_flow(network, *loaded.sample("train", images)))


def training(trial: Trial) -> Training | None:
    """Return the flow of one batch before training and at each of the trial's snapshots; None if the weights were no
    longer finite at one, or a gradient of 0 left the last block.
    """
    images, labels = trial.data().sample("train", trial.config.recipe.batch_size)
    steps = trial.config.snapshots
    networks = (trial.fresh_network(), *map(trial.network, steps))
    try:
        flows = [gradient_flow(network.train(), images, labels) for network in networks]
    except UserError:  # the weights are no longer finite; everything else was checked at the start
        return None
    finite = all(math.isfinite(flow.first_over_last) for flow in flows)
    return Training([0, *steps], list(map(plain, flows))) if finite else None


def plain(flow: GradientFlow) -> Flow:
    """Return the recorded part of a flow."""
    return Flow(flow.backward.tolist(), flow.growth, flow.decades, flow.parameter_decades, flow.loss)


Starts = dict[tuple[str, int], dict[int, Flow]]
"""Flows at initialisation by kind, depth and seed."""

Trained = dict[str, dict[int, Training]]
"""Flows through training by kind and seed, of the networks that did not diverge."""


def at_start_table(text: StudyText, flows: Starts) -> Table:
    """Return ratios and rates at initialisation, a row per kind and depth."""
    rows: list[list[Value]] = []
    for (kind, depth), by_seed in flows.items():
        ratio, growth = [flow.decades for flow in by_seed.values()], [flow.growth for flow in by_seed.values()]
        of_parameters = fmean(flow.parameter_decades for flow in by_seed.values())
        std = [spread(values) for values in (ratio, growth)]
        means = 10 ** fmean(ratio), std[0], 10**of_parameters, fmean(growth), std[1]
        rows.append([kind, depth, len(by_seed), *means])
    return text.table("at-start", rows)


def after_steps_table(text: StudyText, finite: Trained, trained: Mapping[str, int]) -> Table:
    """Return ratios and losses after the last step, a row per kind, given how many networks of each were trained."""
    rows: list[list[Value]] = []
    for kind, by_seed in finite.items():
        ends = [found.flows[-1] for found in by_seed.values()]
        means = [10 ** fmean(end.decades for end in ends), fmean(end.loss for end in ends)] if ends else [None, None]
        rows.append([kind, len(ends), trained[kind] - len(ends), *means])
    return text.table("after-steps", rows)


def _places(norms: Sequence[object]) -> list[float]:
    return [float(place) for place in range(len(norms))]


def norms_chart(text: StudyText, flows: Starts, depth: int) -> Chart:
    """Return the norms by block at one depth."""
    series = []
    for kind in KINDS:
        shares = {
            seed: [norm / flow.backward[-1] for norm in flow.backward] for seed, flow in flows[kind, depth].items()
        }
        series.append(text.over_seeds(kind, _places(next(iter(shares.values()))), shares))
    return text.chart("norms", series, said={"depth": depth}, log_y=True)


def rates_chart(text: StudyText, flows: Starts, depths: tuple[int, ...]) -> Chart:
    """Return the factor per block over depth."""

    def over_depth(kind: str) -> Series:
        growths = [[flow.growth for flow in flows[kind, depth].values()] for depth in depths]
        return text.averaged(kind, [float(depth) for depth in depths], growths)

    return text.chart("rates", [over_depth(kind) for kind in KINDS])


def _steps(by_seed: Mapping[int, Training]) -> list[float]:
    return [float(step) for step in next(iter(by_seed.values())).steps]


def heat_chart(text: StudyText, finite: Trained, depth: int) -> Chart:
    """Return the norms by block and step, a picture a kind."""

    def heights(by_seed: Mapping[int, Training]) -> list[list[float]]:
        """Return log10 of the gradient's norm by place and step, mean over seeds."""
        norms = torch.tensor([[flow.backward for flow in found.flows] for found in by_seed.values()])
        return norms.double().clamp(min=TINY).log10().mean(0).T.tolist()

    drawn = {kind: (_steps(by_seed), heights(by_seed)) for kind, by_seed in finite.items() if by_seed}
    series = [Series(name=kind, x=steps, y=_places(z), z=z) for kind, (steps, z) in drawn.items()]
    return text.chart("heat", series, said={"depth": depth}, kind="heatmap", arrangement="slider")


def in_training_chart(text: StudyText, finite: Trained) -> Chart:
    """Return the ratio through training."""

    def decades(by_seed: Mapping[int, Training]) -> dict[int, list[float]]:
        return {seed: [flow.decades for flow in found.flows] for seed, found in by_seed.items()}

    drawn = {kind: by_seed for kind, by_seed in finite.items() if by_seed}
    return text.chart(
        "in-training",
        [text.over_seeds(kind, _steps(by_seed), decades(by_seed)) for kind, by_seed in drawn.items()],
    )
