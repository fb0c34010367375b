"""How a view shows itself: a row per part, in words, as a frame and as a page's table, and a drawing."""

import importlib.util
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from reslab.gates.following import shapes_of
from reslab.gates.gating import Block
from reslab.gates.planning import Live
from reslab.state import preserve

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Shown(Protocol):
    """What of a view is shown."""

    network: nn.Module
    blocks: tuple[Block, ...]
    example: Any
    shapes: dict[int, torch.Size]

    def stem(self, x: Any) -> Live:
        """Return what is live where the first block begins."""

    def block(self, index: int, live: Live) -> Live:
        """Run a block."""

    def head(self, live: Live) -> Any:
        """Return the output."""

    def parameters_of(self, index: int) -> list[nn.Parameter]:
        """Return a block's parameters."""

    def parameters_between(self, index: int) -> list[nn.Parameter]:
        """Return those between the addition before and a block; before the first block, the stem's."""


class Row(NamedTuple):
    """A part of a network: the stem, a block, or the head."""

    part: str
    kind: str
    shortcut: str  # "identity", or that it "changes" the shape; "" where there is none
    gives: str  # the shape, for one image
    parameters: int


def rows(view: Shown) -> list[Row]:
    """Return a row per part. It costs a forward pass of two images of the example."""
    stem, *blocks = parts = _parameters(view)
    elsewhere = {parameter for part in parts for parameter in part}
    head = [parameter for parameter in view.network.parameters() if parameter not in elsewhere]
    before, *shapes, after = _shapes(view)
    named = [
        Row(block.name, block.kind, _shortcut(block), shape, _count(parameters))
        for block, shape, parameters in zip(view.blocks, shapes, blocks, strict=True)
    ]
    return [Row("stem", "", "", before, _count(stem)), *named, Row("head", "", "", after, _count(head))]


def _parameters(view: Shown) -> list[list[nn.Parameter]]:
    """Return the stem's parameters, and each block's with those of what lies between it and the block before."""
    stem, *between = (view.parameters_between(index) for index in range(len(view.blocks)))
    blocks = [view.parameters_of(index) for index in range(len(view.blocks))]
    return [stem, *(list(dict.fromkeys(some + own)) for some, own in zip([[], *between], blocks, strict=True))]


def _count(parameters: Sequence[nn.Parameter]) -> int:
    return sum(map(Tensor.numel, parameters))


def _shortcut(block: Block) -> str:
    return "identity" if block.identity else "changes"


def _shapes(view: Shown) -> list[str]:
    """Return the shapes of what stem, blocks and head give, for one image each."""
    like = next(view.network.parameters(), torch.zeros(()))

    def placed(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return leaf.to(like.device, like.dtype if leaf.is_floating_point() else leaf.dtype)

    with preserve(view.network), torch.no_grad():
        view.network.eval()
        live = view.stem(tree_map(placed, view.example))
        found = [live.stream]
        for index in range(len(view.blocks)):
            live = view.block(index, live)
            found.append(live.stream)
        return [_shape(value) for value in (*found, view.head(live))]


def _shape(value: Any) -> str:
    return "×".join(map(str, value.shape[1:])) if isinstance(value, Tensor) else str(shapes_of(value))


def table(view: Shown) -> str:
    """Return a row per block in words: its name, its kind, its shortcut, the shape of what it adds for one image, and
    how many parameters it has.
    """
    lines = [("block", "kind", "shortcut", "adds", "parameters")]
    _, *parameters = _parameters(view)
    for index, block in enumerate(view.blocks):
        shape = "×".join(map(str, view.shapes[index][1:])) if index in view.shapes else "?"
        lines.append((block.name, block.kind, _shortcut(block), shape, f"{_count(parameters[index]):,}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def frame(view: Shown) -> "pd.DataFrame":
    """Return the rows as a frame, by the part's name."""
    import pandas as pd

    return pd.DataFrame(rows(view), columns=list(Row._fields)).set_index("part")


def figure(view: Shown) -> "Figure":
    """Return a drawing: what is added up from left to right, with the branch of each block above it."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    n = len(view.blocks)
    drawing = Figure(figsize=(min(2 + 0.45 * n, 24), 2.4), layout="constrained")
    axes = drawing.subplots()
    axes.plot([-1, n], [0, 0], color="black", linewidth=1, zorder=0)
    for index, block in enumerate(view.blocks):
        colour = "C0" if block.identity else "C1"
        axes.plot([index - 0.4, index - 0.4, index + 0.4, index + 0.4], [0, 0.7, 0.7, 0], color=colour, zorder=0)
        style = "round,pad=0,rounding_size=0.08"
        axes.add_patch(FancyBboxPatch((index - 0.25, 0.5), 0.5, 0.4, boxstyle=style, color=colour))
        axes.plot(index + 0.4, 0, "o", color="white", markeredgecolor=colour, markersize=7)
        if block.kind == "add":
            axes.plot(index + 0.4, 0, "+", color=colour, markersize=5)
    for place in (-1, n):
        axes.add_patch(FancyBboxPatch((place - 0.25, -0.2), 0.5, 0.4, boxstyle="round,pad=0", color="grey"))
    names = ["stem", *(block.name for block in view.blocks), "head"]
    axes.set_xticks(range(-1, n + 1), names, rotation=90, fontsize=7)
    axes.set(xlim=(-1.5, n + 0.5), ylim=(-0.35, 1.05), yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(f"{type(view.network).__name__}: {n} blocks; orange: the shortcut changes the shape", fontsize=9)
    return drawing


def html(view: Shown) -> str:
    """Return the table, and the drawing where matplotlib is installed."""
    heads = "".join(f"<th>{name}</th>" for name in Row._fields)
    cells = ["".join(f"<td>{escape(_word(value))}</td>" for value in row) for row in rows(view)]
    lines = "".join(f"<tr>{row}</tr>" for row in cells)
    shown = f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"
    if importlib.util.find_spec("matplotlib") is None:
        return shown
    file = io.StringIO()
    figure(view).savefig(file, format="svg")
    return f"{shown}{file.getvalue()[file.getvalue().index('<svg') :]}"


def _word(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else value
