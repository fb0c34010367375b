"""Task 1.9: the gradient flow, drawn."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import log10
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn

from reslab.exercises.grading import Part, Task
from reslab.exercises.inputs import Cases, after_the_first, normal
from reslab.exercises.likeness import OfAnotherKind
from reslab.exercises.tasks.task_1_5 import in_its_mode, in_mode_of_its_own, towers


# the solution
def block_norms(
    stem: nn.Module, blocks: Sequence[nn.Module], head: nn.Module, images: Tensor, labels: Tensor
) -> list[float]:
    """Return the norms of the mean cross-entropy's gradient before each block and, at the end, after the last."""
    signals = [stem(images)]
    for block in blocks:
        signals.append(block(signals[-1]))
    loss = F.cross_entropy(head(signals[-1]), labels)
    return [float(gradient.norm()) for gradient in torch.autograd.grad(loss, signals)]


def draw_flow(norms: Mapping[str, Sequence[float]]) -> Figure:
    """Return the figure of each network's norms over the blocks passed, on a logarithmic axis."""
    figure = Figure(layout="constrained")
    axes = figure.add_subplot()
    for name, values in norms.items():
        axes.plot(range(len(values)), values, label=name)
    axes.set(yscale="log", xlabel="blocks passed", ylabel="norm of the gradient")
    axes.legend()
    return figure


# how it is judged


def _norms(
    *tower: Any, power: int = 1, backwards: bool = False, last: bool = True, first: bool = True, share: bool = False
) -> list[float]:
    """The norms with a way to go wrong for every option."""
    norms = [norm**power for norm in block_norms(*tower)]
    norms = [norm / norms[-1] for norm in norms] if share else norms
    norms = norms[0 if first else 1 : None if last else -1]
    return norms[::-1] if backwards else norms


def _flows(generator: Generator) -> Cases:
    for names, blocks in ((("plain", "residual"), 5), (("BN", "no BN", "v2"), 3)):
        yield ({name: (2 * normal(generator, blocks + 1)).exp().tolist() for name in names},)


def _seen(answer: Callable[..., Any], norms: Mapping[str, Sequence[float]]) -> dict[str, Any] | OfAnotherKind:
    """What is in the figure, in one panel or several; axes are taken for theirs."""
    came = answer(norms)
    figure = came.get_figure(root=True) if isinstance(came, Axes) else came
    if not isinstance(figure, Figure):
        return OfAnotherKind("matplotlib.figure.Figure", came)
    drawn = {name: curve for axes in figure.axes for name, curve in _curves(axes).items()}
    curves = {name: drawn[name] for name in norms if name in drawn} or drawn
    shown = [axes for axes in figure.axes if _curves(axes)] or figure.axes
    return {
        "curves": {name: y for name, (_, y) in curves.items()},
        "over blocks": [x for x, _ in curves.values()],
        "scale": next((scale for axes in shown if (scale := axes.get_yscale()) != "log"), "log"),
        "axes named": _named(figure, "x") and _named(figure, "y"),
        "legend": norms.keys() <= _written(figure),
    }


Curve = tuple[list[float], list[float]]


def _curves(axes: Axes) -> dict[str, Curve]:
    """Return lines and points by their names, which they have themselves, or from a legend or title; lines to compare
    with, such as `axhline`, are no curves.
    """
    lines = [(line, line.get_xydata()) for line in axes.get_lines() if line.get_transform() == axes.transData]
    points = [(points, points.get_offsets()) for points in axes.collections if isinstance(points, PathCollection)]
    curves = [(str(artist.get_label()), np.asarray(data, dtype=float)) for artist, data in [*lines, *points]]
    legend = axes.get_legend()
    names = [text.get_text() for text in legend.get_texts()] if legend is not None else [axes.get_title()]
    if len(names) == len(curves) and all(name.startswith("_") for name, _ in curves):
        curves = [(name, data) for name, (_, data) in zip(names, curves, strict=True)]
    return {name: (data[:, 0].tolist(), data[:, 1].tolist()) for name, data in curves}


def _written(figure: Figure) -> set[str]:
    """Return what is written in legends, titles and beside the curves."""
    legends = [legend for axes in figure.axes if (legend := axes.get_legend()) is not None] + figure.legends
    texts = [text for axes in figure.axes for text in (axes.title, *axes.texts)]
    texts += [text for legend in legends for text in legend.get_texts()]
    return {text.get_text().strip() for text in texts}


def _named(figure: Figure, axis: str) -> bool:
    """Return whether an axis has a name, which panels may share."""
    return any(getattr(panel, f"get_{axis}label")() for panel in figure.axes) or bool(
        getattr(figure, f"get_sup{axis}label")()
    )


def _figure(
    norms: Mapping[str, Sequence[float]],
    *,
    scale: str = "log",
    legend: bool = True,
    named: bool = True,
    logarithms: bool = False,
    backwards: bool = False,
    from_one: bool = False,
) -> Figure:
    """The figure with a way to go wrong for every option."""
    axes = Figure().add_subplot()
    for name, values in norms.items():
        values = [log10(value) for value in values] if logarithms else values
        values = values[::-1] if backwards else values
        axes.plot(range(from_one, len(values) + from_one), values, label=name)
    axes.set_yscale("linear" if logarithms else scale)
    if named:
        axes.set(xlabel="x", ylabel="y")
    if legend:
        axes.legend()
    return axes.get_figure()  # type: ignore[return-value]  # no subfigure


TASK = Task(
    "1.9",
    [
        Part(
            block_norms,
            points=6,
            cases=towers,
            mistakes={
                "squared": partial(_norms, power=2),
                "from-the-end": partial(_norms, backwards=True),
                "last-missing": partial(_norms, last=False),
                "first-missing": partial(_norms, first=False),
                "divided-by-the-last": partial(_norms, share=True),
                "left-evaluating": in_mode_of_its_own(block_norms, training=False, given_back=False),
                "left-training": in_mode_of_its_own(block_norms, training=True, given_back=False),
            },
            observe=in_its_mode,
        ),
        Part(
            draw_flow,
            points=8,
            cases=_flows,
            mistakes={
                "linear-axis": partial(_figure, scale="linear"),
                "no-legend": partial(_figure, legend=False),
                "axes-without-names": partial(_figure, named=False),
                "logarithms-drawn": partial(_figure, logarithms=True),
                "from-the-end": partial(_figure, backwards=True),
                "counted-from-one": partial(_figure, from_one=True),
            },
            observe=_seen,
            shares=(4, 1, 1, 1, 1),  # the curves, over what, the scale, the axes' names, the legend
            items=after_the_first,
        ),
    ],
)
