"""Whether blocks point down the loss's gradient, before training and after (Jastrzębski et al. 2018)."""

from collections import Counter
from statistics import fmean
from typing import NamedTuple

from reslab.analysis.direction import direction
from reslab.experiment.trials import Trial


class Cosines(NamedTuple):
    """The mean cosine of each block that keeps the shape, before training and after, and the blocks of each stage."""

    before: list[float]
    after: list[float]
    stages: list[int]

    @property
    def early_and_late(self) -> tuple[float, float]:
        """Return the means over the early and over the late halves of the stages, after training."""
        halves: tuple[list[float], list[float]] = ([], [])
        start = 0
        for count in self.stages:
            half = count // 2
            halves[0].extend(self.after[start : start + half])
            halves[1].extend(self.after[start + count - half : start + count])
            start += count
        return fmean(halves[0]), fmean(halves[1])


def cosines(trial: Trial, images: int) -> Cosines:
    """Return a network's cosines as it was drawn, where it normalises by the images' statistics, and as it was
    trained.
    """
    x, y = trial.data().sample("test", images)
    before = direction(trial.fresh_network(), x, y, batch_statistics=True)
    after = direction(trial.network(), x, y)
    keeping = [index for index, block in enumerate(after.blocks) if block.identity]
    stages = Counter(after.blocks[index].stage for index in keeping)
    return Cosines(before.mean[keeping].tolist(), after.mean[keeping].tolist(), list(stages.values()))
