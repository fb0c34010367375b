"""The base class of every analysis's result."""

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from reslab.gates.gating import Block


class Result(ABC):
    """A measurement that displays itself: as a table, as a figure, and in a notebook as both."""

    @abstractmethod
    def to_frame(self) -> "pd.DataFrame":
        """Return the measurement as a table, a row for each thing measured."""

    @abstractmethod
    def figure(self) -> "Figure":
        """Return the measurement as a figure."""

    def _repr_html_(self) -> str:
        picture = drawn(self.figure(), "svg").decode()
        return f"{self.to_frame().to_html()}{picture[picture.index('<svg') :]}"


def per_block(blocks: "Sequence[Block]", columns: Mapping[str, Any]) -> "pd.DataFrame":
    """Return a table with a row per block, by name."""
    import pandas as pd

    return pd.DataFrame(columns, index=pd.Index([block.name for block in blocks], name="block"))


def new_figure(width: float = 7.0, height: float = 3.5) -> "Figure":
    """Return an empty figure outside pyplot's global list; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def drawn(figure: "Figure", kind: str, **settings: Any) -> bytes:
    """Return a figure as a file of this kind; settings as for matplotlib's `savefig`."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, **settings)
    return file.getvalue()
