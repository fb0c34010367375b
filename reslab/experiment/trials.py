"""Finished trials as a study reads them: by group, with values per seed that know the group they are of."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import nn

from reslab.data import Dataset, load_data
from reslab.errors import UserError
from reslab.executors import build_network, data_for, fresh_network
from reslab.experiment.kept import kept
from reslab.files import Json
from reslab.ledger.comparison import failures, untrained
from reslab.ledger.record import Failures, Reason
from reslab.progress import Progress, each, silent
from reslab.runs import Run
from reslab.training.loop import TrialConfig

Key = tuple[str | int | float, ...]
"""What tells the groups of a study apart: `("plain", 20)`. In the record it is "plain-20"."""

Grid = Mapping[Key, Sequence[TrialConfig]]
"""The trials of each group, one per seed."""

Part = Literal["train", "heldout", "test"]
Found = TypeVar("Found")


def label(key: Key) -> str:
    """Return a group's name."""
    return "-".join(f"{part:g}" if isinstance(part, float) else str(part) for part in key)


class Trial(NamedTuple):
    """A finished trial: the group it belongs to, its config, its result, and its directory."""

    key: Key
    config: TrialConfig
    result: Json
    run: Run

    @property
    def seed(self) -> int:
        """Return its seed."""
        return self.config.seed

    def network(self, step: int | None = None) -> nn.Module:
        """Return the trained network, or as it was after so many iterations, in evaluation mode."""
        weights = self.run.weights if step is None else self.run.snapshot(step)
        return build_network(self.config, load_data(self.config.data), weights=weights).eval()

    def fresh_network(self) -> nn.Module:
        """Return the network as it was before training, bit for bit, in training mode."""
        return self._fresh(load_data(self.config.data))

    def data(self) -> Dataset:
        """Return the data set as the network sees it."""
        data = load_data(self.config.data)
        return data_for(self.config, self._fresh(data), data)

    def _fresh(self, data: Dataset) -> nn.Module:
        with torch.random.fork_rng():
            return fresh_network(self.config, data)


class Values(dict[int, float]):
    """A value per seed; `trained` are the training errors of the groups that they come from, by name, and `grain` the
    least step between values: one image of N, of an error rate.
    """

    def __init__(
        self,
        values: Mapping[int, float],
        trained: Mapping[str, Mapping[int, float]] | None = None,
        grain: float = 0.0,
    ) -> None:
        super().__init__(values)
        self.trained, self.grain = dict(trained or {}), grain

    def __sub__(self, other: "Values") -> "Values":
        """Return the differences of the seeds that both have."""
        return Values(
            {seed: self[seed] - other[seed] for seed in self if seed in other},
            {**self.trained, **other.trained},
            max(self.grain, other.grain),
        )

    def map(self, function: Callable[[float], float]) -> "Values":
        """Return a function of each value."""
        return Values({seed: function(value) for seed, value in self.items()}, self.trained)

    def against(
        self,
        control: "Values | float",
        *,
        room: bool = False,
        resolution: float = 0.0,
        guard: bool = True,
        untested: Reason | None = None,
        paired: bool = False,
    ) -> "Against":
        """Return the comparison of these values with a control's, or with one number; `paired` where the values of one
        seed share more than the seed, such as the network.

        Unless `guard` is False, where training itself is the claim, it tests nothing if a group of either side has not
        learned its task.
        """
        sides = (self, control) if isinstance(control, Values) else (self,)
        groups = {name: errors for side in sides for name, errors in side.trained.items()}
        untested = untested or (untrained(groups) if guard and groups else None)
        grain = max(side.grain for side in sides)
        return Against(self, control, untested, resolution, room, grain, paired, failures(groups))


def _grain(data: str, part: Part) -> float:
    """Return the error of one image of a part; 0 where the data set is not here, and results were enough."""
    with suppress(UserError):
        return 1 / len(load_data(data).parts[part].labels)
    return 0.0


@dataclass(frozen=True)
class Against:
    """A comparison that awaits its claim: see `reslab.ledger.comparison.Comparison`."""

    treatment: Values
    control: Values | float
    untested: Reason | None = None
    resolution: float = 0.0
    room: bool = False
    grain: float = 0.0
    paired: bool = False
    failed: Mapping[str, Failures] = field(default_factory=dict)


@dataclass(frozen=True)
class Exactly:
    """What was measured for an exact claim, and what it has to be."""

    measured: Any
    expected: Any


class Trials(Mapping[Key, Sequence[Trial]]):
    """The finished trials of each group, one per seed."""

    def __init__(
        self, groups: Mapping[Key, Sequence[Trial]], progress: Progress = silent, kept_in: Path | None = None
    ) -> None:
        self._groups = groups
        self.progress = progress
        self._kept_in = kept_in  # what is measured of no trial; what is measured of one is kept in its run directory

    def __getitem__(self, key: Key) -> Sequence[Trial]:
        return self._groups[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def value(self, key: Key, of: Callable[[Trial], float]) -> Values:
        """Return a value of each trial of a group."""
        return self.of(key, {trial.seed: of(trial) for trial in self[key]})

    def of(self, key: Key, values: Mapping[int, float]) -> Values:
        """Return values that were measured of a group's trials, which know that they are."""
        return Values(values, self._trained(key))

    def figure(self, looks: Mapping[Key, Mapping[int, Found]], of: Callable[[Found], float]) -> dict[Key, Values]:
        """Return one figure of what was seen in each network, by group."""
        return {key: self.of(key, {seed: of(look) for seed, look in some.items()}) for key, some in looks.items()}

    def _trained(self, key: Key) -> dict[str, dict[int, float]]:
        return {label(key): {trial.seed: trial.result["train_error"] for trial in self[key]}}

    def errors(self, part: Part) -> dict[Key, Values]:
        """Return each group's final error on a part, which is so many images of that part's."""
        return {
            key: Values({trial.seed: trial.result[f"{part}_error"] for trial in self[key]}, self._trained(key), grain)
            for key, grain in ((key, _grain(self[key][0].config.data, part)) for key in self)
        }

    def sound(self, key: Key) -> list[Trial]:
        """Return a group's trials whose networks can be looked into: those that did not diverge."""
        return [trial for trial in self[key] if trial.result["status"] != "diverged"]

    def look(
        self,
        what: str,
        function: Callable[..., Found],
        *arguments: Any,
        keys: Sequence[Key] | None = None,
        seeds: Collection[int] | None = None,
    ) -> dict[Key, dict[int, Found]]:
        """Return what `function(trial, *arguments)` finds in each sound trial, or those of these groups and seeds: by
        group and seed.

        It is measured once, and kept in the run directory: `reslab.experiment.kept`.
        """
        chosen = list(self) if keys is None else keys
        found: dict[Key, dict[int, Found]] = {key: {} for key in chosen}
        sound = [trial for key in chosen for trial in self.sound(key) if seeds is None or trial.seed in seeds]
        for trial in each(sound, what, self.progress):
            found[trial.key][trial.seed] = kept(
                trial.run.path if self._kept_in else None, function, *arguments, given=(trial,)
            )
        return found

    def measured(self, function: Callable[..., Found], *arguments: Any) -> Found:
        """Return what a function of no trial measures, such as of networks at initialisation: once, and kept in the
        study's directory.
        """
        return kept(self._kept_in, function, *arguments)
