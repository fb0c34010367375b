"""Finished trials by group, and values per seed that know their group."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import nn

from reslab.data import Dataset, load_data
from reslab.errors import MissingError, UserError, worded
from reslab.executors import build_network, data_for, fresh_network
from reslab.experiment.kept import kept
from reslab.files import Json
from reslab.ledger.comparison import failures, untrained
from reslab.ledger.record import Failures, Reason
from reslab.progress import Progress, each, silent
from reslab.runs import Run
from reslab.state import draws_apart
from reslab.training.loop import PartName, TrialConfig

Key = tuple[str | int | float, ...]
"""The key of a group of trials: `("plain", 20)`, "plain-20" in the record."""

Grid = Mapping[Key, Sequence[TrialConfig]]
"""The trials of each group, one per seed."""

Found = TypeVar("Found")


def label(key: Key) -> str:
    """Return a group's name, in which numbers are as short as they can be told from others."""
    return "-".join(_short(part) if isinstance(part, float) else str(part) for part in key)


def _short(number: float) -> str:
    return text if float(text := f"{number:g}") == number else str(number)


class Trial(NamedTuple):
    """A finished trial: its group, config, result and directory."""

    key: Key
    config: TrialConfig
    result: Json
    run: Run

    @property
    def seed(self) -> int:
        """Return its seed."""
        return self.config.seed

    def network(self, step: int | None = None) -> nn.Module:
        """Return the trained network, or the one after so many iterations, in evaluation mode.

        Raises:
            MissingError: if the run was kept without its weights.
        """
        weights = self.run.weights if step is None else self.run.snapshot(step)
        if not weights.exists():
            raise MissingError(*worded("weights-not-kept", path=weights))
        return build_network(self.config, load_data(self.config.data), weights=weights).eval()

    def fresh_network(self) -> nn.Module:
        """Return the untrained network, bit for bit, in training mode."""
        return self._fresh(load_data(self.config.data))

    def data(self) -> Dataset:
        """Return the data set, prepared for the network."""
        data = load_data(self.config.data)
        return data_for(self.config, self._fresh(data), data)

    def _fresh(self, data: Dataset) -> nn.Module:
        with draws_apart():
            return fresh_network(self.config, data)


class Values(dict[int, float]):
    """A value per seed. `trained` are the training errors of the groups behind the values, by name, and `grain` is the
    smallest step between values: for an error rate, one image of N.
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
        """Return the comparison of these values with a control's, or with one number; `paired` if the values of a seed
        share more than the seed, such as the network.

        It is untested if a group of either side has not learned its task, unless `guard` is False because the claim is
        about training itself.
        """
        sides = (self, control) if isinstance(control, Values) else (self,)
        groups = {name: errors for side in sides for name, errors in side.trained.items()}
        untested = untested or (untrained(groups) if guard and groups else None)
        grain = max(side.grain for side in sides)
        return Against(self, control, untested, resolution, room, grain, paired, failures(groups))


def _grain(data: str, part: PartName) -> float:
    """Return the error rate of a single image of a part; 0 if the data set is missing and results were enough."""
    with suppress(UserError):
        return 1 / len(load_data(data).part(part).labels)
    return 0.0


@dataclass(frozen=True)
class Against:
    """A comparison without its claim: see `reslab.ledger.comparison.Comparison`."""

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
    """The measured and the expected value of an exact claim."""

    measured: Any
    expected: Any


class Trials(Mapping[Key, Sequence[Trial]]):
    """The finished trials of each group, one per seed."""

    def __init__(
        self, groups: Mapping[Key, Sequence[Trial]], progress: Progress = silent, kept_in: Path | None = None
    ) -> None:
        self._groups = groups
        self.progress = progress
        self._kept_in = kept_in  # measurements without a trial; those of a trial are in its run directory

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
        """Return measured values of a group's trials as values that know their group."""
        return Values(values, self._trained(key))

    def figure(self, looks: Mapping[Key, Mapping[int, Found]], of: Callable[[Found], float]) -> dict[Key, Values]:
        """Return one figure of each network's measurement, by group."""
        return {key: self.of(key, {seed: of(look) for seed, look in some.items()}) for key, some in looks.items()}

    def _trained(self, key: Key) -> dict[str, dict[int, float]]:
        return {label(key): {trial.seed: trial.result["train_error"] for trial in self[key]}}

    def errors(self, part: PartName) -> dict[Key, Values]:
        """Return each group's final error on a part, which is so many images of that part's."""
        return {
            key: Values({trial.seed: trial.result[f"{part}_error"] for trial in self[key]}, self._trained(key), grain)
            for key, grain in ((key, _grain(self[key][0].config.data, part)) for key in self)
        }

    def sound(self, key: Key) -> list[Trial]:
        """Return a group's trials that did not diverge, whose networks can be inspected."""
        return [trial for trial in self[key] if trial.result["status"] != "diverged"]

    def diverged(self, keys: Sequence[Key]) -> Reason | None:
        """Return why networks of these groups cannot be compared by inspecting them, if some diverged."""
        return Reason.diverged({label(key): (len(self.sound(key)), len(self[key])) for key in keys})

    def look(
        self,
        what: str,
        function: Callable[..., Found],
        *arguments: Any,
        keys: Sequence[Key] | None = None,
        seeds: Collection[int] | None = None,
    ) -> dict[Key, dict[int, Found]]:
        """Return `function(trial, *arguments)` for each sound trial, or those of these groups and seeds, by group and
        seed.

        Values are cached in the run directory: `reslab.experiment.kept`.
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
        """Return a measurement that needs no trial, such as of networks at initialisation, cached in the study's
        directory.
        """
        return kept(self._kept_in, function, *arguments)
