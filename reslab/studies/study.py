"""What a study is, and how one is run: its trials, its measurement, its verdicts, its `study.json`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any, NamedTuple, Self, get_origin

import torch
from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator
from torch import nn

from reslab.data import Dataset, canonical, load_data
from reslab.errors import DamagedError, UserError, suggest
from reslab.executors import Executor, Failure, Watch, build_network, data_for, fresh_network, run_trials
from reslab.ledger.claim import Claim, Text
from reslab.ledger.migration import translated
from reslab.ledger.record import Chart, Entry, Failed, FailedConfig, Outcome, Reason, Record, Series, Table, Verdict
from reslab.ledger.verdict import Check, Citation, Comparison, check, cite, decide, untrained
from reslab.files import Json, one_line, read_json, write_json
from reslab.runs import Config, Run, code_digest
from reslab.training.devices import Device, Precision, best_device, best_precision, threads
from reslab.training.loop import TrialConfig
from reslab.training.recipes import RECIPES, Recipe, recipe_for


class StudyConfig(Config):
    """What every study can be told."""

    data: str = Field("digits", description="data set")
    seeds: int = Field(5, ge=1, le=1000, description="repeats of every trial; verdicts need at least 3")
    first_seed: int = Field(0, ge=0, lt=2**62, description="the seeds are this one and those that follow it: others, to see whether verdicts hold")
    recipe: str = Field("fast", description="how every network is trained")
    epochs: int | None = Field(None, ge=1, le=10**9, description="length in epochs, in place of the recipe's own")
    threads: int = Field(1, ge=1, le=1024, description="CPU threads a trial; part of its identity, as it changes sums")
    device: Device = Field("cpu", description="where trials train; auto is the fastest here")
    precision: Precision = Field("32", description="of convolutions and matrix products; auto is the fastest here")

    @field_validator("*", mode="before")
    @classmethod
    def _one_of_several(cls, value: Any, info: ValidationInfo) -> Any:
        """Take `--depths 20` for a list of one."""
        several = get_origin(cls.model_fields[info.field_name or ""].annotation) is tuple
        return (value,) if several and isinstance(value, int | float) else value

    @field_validator("data")
    @classmethod
    def _known_data(cls, name: str) -> str:
        return canonical(name)

    @field_validator("recipe")
    @classmethod
    def _known_recipe(cls, name: str) -> str:
        if name not in RECIPES:
            raise ValueError(f"no recipe {name!r}{suggest(name, RECIPES)}")
        return name

    @field_validator("device", mode="before")
    @classmethod
    def _best_device(cls, device: Any) -> Any:
        return best_device() if device == "auto" else device

    @field_validator("precision", mode="before")
    @classmethod
    def _best_precision(cls, precision: Any, info: ValidationInfo) -> Any:
        chosen = best_precision(info.data["device"]).value if precision == "auto" and "device" in info.data else precision
        return str(chosen)  # a typed-in 32 is read as a number

    @property
    def seed_range(self) -> range:
        """Return the seeds of the repeats."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def training(self) -> Recipe:
        """Return the recipe with this config's length."""
        recipe = recipe_for(self.data, self.recipe)
        return recipe.model_copy(update={"epochs": self.epochs, "iterations": None}) if self.epochs else recipe

    def trials(self, model: str, **options: int | float | str | bool) -> list[TrialConfig]:
        """Return the trials of one network, one a seed."""
        return [
            TrialConfig(
                model=model,
                options=options,
                data=self.data,
                recipe=self.training(),
                seed=seed,
                threads=self.threads,
                device=self.device,
                precision=self.precision,
            )
            for seed in self.seed_range
        ]


def _check_cifar_depth(depth: int) -> int:
    """Return the depth if it is 6n+2.

    Raises:
        ValueError: if not.
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth {depth} is not 6n+2 (8, 14, 20, …, as the CIFAR design needs)")
    return depth


def _check_growth(depths: tuple[int, ...]) -> tuple[int, ...]:
    """Return the depths if they grow.

    Raises:
        ValueError: if not.
    """
    if list(depths) != sorted(set(depths)):
        raise ValueError(f"depths must grow, got {', '.join(map(str, depths))}")
    return depths


CifarDepth = Annotated[int, AfterValidator(_check_cifar_depth)]
"""A depth of a CIFAR network: 6n+2."""

GrowingDepths = Annotated[tuple[int, ...], AfterValidator(_check_growth)]
"""Depths of any networks, shallowest first."""

CifarDepths = Annotated[tuple[CifarDepth, ...], AfterValidator(_check_growth)]
"""Depths of CIFAR networks: each 6n+2, shallowest first."""


class Trial(NamedTuple):
    """A finished trial: the group it belongs to, its config, its result, and its directory."""

    group: str
    config: TrialConfig
    result: Json
    run: Run

    def network(self) -> nn.Module:
        """Return the trained network, in evaluation mode."""
        return build_network(self.config, load_data(self.config.data), weights=self.run.weights).eval()

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


Groups = Mapping[str, Sequence[Trial]]
"""The finished trials of each group, one a seed."""

Progress = Callable[[str, int, int], None]
"""Called with what is being measured, how much of it is done, and how much there is."""


def averaged(name: str, x: Sequence[float] | Sequence[str], columns: Sequence[Collection[float]]) -> Series:
    """Return a series of the mean of each column, which holds a value a seed for its `x`, and one standard deviation where each has two or more."""
    spread = [stdev(column) for column in columns] if all(len(column) > 1 for column in columns) else None
    return Series(name=name, x=x, y=[fmean(column) for column in columns], spread=spread)


def over_seeds(name: str, x: Sequence[float], values: Mapping[int, Sequence[float]]) -> Series:
    """Return the same of what each seed measured at every `x`."""
    return averaged(name, x, list(zip(*values.values(), strict=True)))


@dataclass(frozen=True)
class Measurement:
    """What finished trials say: the evidence for each claim, and the figures behind it."""

    comparisons: Sequence[Comparison] = ()
    checks: Sequence[Check] = ()
    citations: Sequence[Citation] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()

    def verdicts(self) -> list[Verdict]:
        """Return a verdict a claim; the statistical ones share one error rate."""
        return [*decide(self.comparisons), *map(check, self.checks), *map(cite, self.citations)]


def by_seed(trials: Sequence[Trial], value: str) -> dict[int, float]:
    """Return a value of each trial's result, such as `train_error`, by seed."""
    return {trial.config.seed: trial.result[value] for trial in trials}


def not_trained(groups: Groups, *names: str) -> Reason | None:
    """Return why a comparison of trained networks of these groups tests nothing; None if all have been trained."""
    return untrained({name: by_seed(groups[name], "train_error") for name in names})


def sound(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials whose networks can be looked into: those that did not diverge."""
    return [trial for trial in trials if trial.result["status"] != "diverged"]


@dataclass(frozen=True)
class Study:
    """A question, the claims that answer it, the trials and the measurement that decide them.

    `grid` names groups of trials, one group a network; `measure` turns finished trials, by group, into evidence. It may load the trained
    networks and look inside; it draws from generators seeded by each trial's seed alone, so that measuring again gives the same.
    """

    name: str
    title: Text
    question: Text
    claims: Sequence[Claim]
    config: type[StudyConfig]
    presets: Mapping[str, Mapping[str, Any]]
    grid: Callable[[Any], dict[str, list[TrialConfig]]]
    measure: Callable[[Any, Groups, Progress], Measurement]

    def configure(self, preset: str, settings: Mapping[str, Any]) -> StudyConfig:
        """Return the preset's config with some settings changed.

        Raises:
            UserError: for an unknown preset or key (the message suggests the nearest), or a value that is not allowed.
        """
        if preset not in self.presets:
            raise UserError(f"study {self.name} has no preset {preset!r}{suggest(preset, self.presets)}")
        for key in settings:
            if key not in self.config.model_fields:
                raise UserError(f"study {self.name} has no setting {key!r}{suggest(key, self.config.model_fields)}")
        try:
            return self.config(**{**self.presets[preset], **settings})
        except ValidationError as error:
            raise UserError(one_line(error)) from error


class Finished(NamedTuple):
    """The record of a study, as in `study.json`, and the trials that failed."""

    record: Record
    failures: list[Failure]
    reused_from_other_code: int
    of_other_images: int


class Directory(NamedTuple):
    """A study's directory: `trials/`, `study.json` and `report.html`."""

    path: Path

    @property
    def trials(self) -> Path:
        """Return where the run directories are."""
        return self.path / "trials"

    @property
    def record(self) -> Path:
        """Return the path of `study.json`."""
        return self.path / "study.json"

    def prepare(self, study: Study, config: StudyConfig | None = None) -> Self:
        """Make the directory and see that it can be written, is not another study's, and has no record made with settings other than `config`.

        Without a `config`, any record of the study may be replaced; its trials stay in either case.

        Raises:
            UserError: if it cannot be used.
        """
        if self.record.exists():
            if (other := self._recorded("study")) != study.name:
                raise UserError(f"{self.path} holds the study {other!r}, not {study.name!r}; give another --out")
            if config is not None and (changes := _changes(self._recorded("config"), config)):
                raise UserError(
                    f"{self.path} holds this study with other settings ({changes}); add --out {self.path}-2 to keep both, "
                    "or --replace to put this record and report in their place (all trials are kept, and used again)"
                )
        try:
            self.trials.mkdir(parents=True, exist_ok=True)
            probe = self.trials / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(f"cannot write to {self.path}: {error.strerror}; give another --out") from error
        return self

    def _recorded(self, key: str) -> Any:
        """Return a part of the record that is here."""
        try:
            return read_json(self.record)[key]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DamagedError(f"{self.record} is damaged; delete it and run the study again, which keeps its trials") from error


def _changes(recorded: Any, config: StudyConfig) -> str:
    """Return in which settings a recorded config differs from another, in words; those that the record does not know have their defaults."""
    before = {key: field.default for key, field in type(config).model_fields.items()} | (recorded if isinstance(recorded, dict) else {})
    now = config.model_dump(mode="json")
    return ", ".join(
        f"{key} {_plain(before.get(key))}, not {_plain(value)}" for key, value in now.items() if _plain(before.get(key)) != _plain(value)
    )


def _plain(value: Any) -> str:
    """Return a setting's value as it is typed."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def run_study(study: Study, config: StudyConfig, directory: Directory, executor: Executor, watch: Watch, progress: Progress) -> Finished:
    """Run what is missing of a study, decide its claims and write `study.json`.

    Raises:
        UserError: if no trial of some group finished, so that nothing can be said.
    """
    grid = study.grid(config)
    configs = [trial for trials in grid.values() for trial in trials]
    # The longest trials first, so that no worker is left with a long one at the end.
    failures = run_trials(sorted(configs, key=lambda c: -network_depth(c)), directory.trials, executor, watch)
    groups: dict[str, list[Trial]] = {group: [] for group in grid}
    for group, trials in grid.items():
        for trial in trials:
            run = Run(directory.trials, trial)
            try:
                groups[group] += [Trial(group, trial, run.result(), run)] if run.finished else []
            except DamagedError as error:
                failures.append(Failure(trial, str(error)))
    failures.sort(key=lambda failure: configs.index(failure.config))  # and not in the order in which they failed
    empty = [group for group, trials in groups.items() if not trials]
    if empty:
        raise UserError(f"no trial of {', '.join(empty)} finished: {failures[0].reason if failures else 'unknown reason'}")
    with threads(config.threads):
        measurement = study.measure(config, groups, progress)
    verdicts = measurement.verdicts()
    decided = [verdict.id for verdict in verdicts]
    assert sorted(decided) == sorted(claim.id for claim in study.claims), f"{study.name} decides {decided}, and not each of its claims once"
    record = _record(study, config, groups, measurement, verdicts, failures)
    if not directory.record.exists() or read_json(directory.record) != record.to_json():
        write_json(directory.record, record.to_json())
    reused = sum(trial.result["code"] != code_digest() for trials in groups.values() for trial in trials)
    return Finished(record, failures, reused, _of_other_images(config.data, groups))


def _of_other_images(data: str, groups: Groups) -> int:
    """Return how many results are of other images than the data set has now, as far as that can be told."""
    seen = [trial.result["images"] for trials in groups.values() for trial in trials if "images" in trial.result]
    with suppress(UserError):  # the data set is not here, and the results were enough
        now = load_data(data).fingerprint if seen else ""
        return sum(images != now for images in seen)
    return 0


def rounded(value: Any) -> Any:
    """Return a record with its floats to 5 significant digits: a picture shows no more."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, list | tuple) else value


def network_depth(config: TrialConfig) -> int:
    """Return the depth in the network's name or options: a guide to how long its trial takes."""
    return int(config.options.get("depth", "".join(filter(str.isdigit, config.model)) or 0))


def _record(
    study: Study, config: StudyConfig, groups: Groups, measurement: Measurement, verdicts: list[Verdict], failures: Sequence[Failure]
) -> Record:
    """Return what `study.json` holds."""
    return Record(
        study=study.name,
        title=study.title,
        question=study.question,
        config=config.model_dump(mode="json"),
        claims=[_in_both(verdict) for verdict in verdicts],
        tables=[table.model_copy(update={"columns": [translated(column) for column in table.columns]}) for table in measurement.tables],
        charts=[Chart(**rounded(_named(chart).model_dump())) for chart in measurement.charts],
        trials=[
            Entry(
                group=trial.group,
                directory=f"trials/{trial.config.digest()}",
                seed=trial.config.seed,
                config=trial.config.model_dump(mode="json"),
                result=Outcome(**trial.result),
            )
            for members in groups.values()
            for trial in members
        ],
        failures=[Failed(config=FailedConfig(**failure.config.model_dump(mode="json")), reason=failure.reason) for failure in failures],
    )


def _in_both(verdict: Verdict) -> Verdict:
    reason = verdict.reason
    if reason is not None and reason.code == "finding":
        reason = Reason(code="finding", values={"text": translated(reason.values["text"])})
    return verdict.model_copy(update={"unit": translated(verdict.unit), "reason": reason})


def _named(chart: Chart) -> Chart:
    return chart.model_copy(update={"series": [series.model_copy(update={"name": translated(series.name)}) for series in chart.series]})
