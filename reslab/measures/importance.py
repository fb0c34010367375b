"""Agreement between measures of a trained network's blocks, and similarity of neighbouring blocks."""

from typing import NamedTuple

from reslab.analysis.alike import alike
from reslab.analysis.worth import LESION, block_worth
from reslab.experiment.trials import Trial


class Importance(NamedTuple):
    """How measures rank the blocks as the lesion by zero does (Spearman); of the blocks that keep the shape, 1 − cos of
    input and output, and the lesion's rise of the loss.
    """

    agreement: dict[str, float]
    turn: dict[str, float]
    rise: dict[str, float]


def importance(trial: Trial, images: int) -> Importance:
    """Return the agreement between measures of a trial's blocks, on so many test images."""
    found = block_worth(trial.network(), *trial.data().sample("test", images), permutations=0)
    same = ~found.measures["turn"].isnan()
    names = [block.name for block, keeps in zip(found.blocks, same, strict=True) if keeps]
    turn, rise = (dict(zip(names, found.measures[name][same].tolist(), strict=True)) for name in ("turn", LESION))
    agreement = {name: rank.value for name, rank in found.agreement().items()}
    return Importance(agreement, turn, rise)


def neighbours(trial: Trial, images: int) -> list[float]:
    """Return the linear CKA between the outputs of each block of a trial's network and of the next one, on so many test
    images.
    """
    cka: list[float] = alike(trial.network(), trial.data().sample("test", images)[0]).cka.diagonal(-1).tolist()
    return cka
