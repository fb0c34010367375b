"""Studies, and how they are run: trials, measurement, verdicts, `study.json`."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from reslab.data import load_data
from reslab.digests import DECIDED, code_digest, measure_digest
from reslab.errors import (
    DamagedError,
    FailedError,
    MismatchError,
    UnknownNameError,
    UserError,
    Wording,
    WrongValueError,
    suggested,
    told,
    worded,
)
from reslab.executors import Executor, Failure, run_trials
from reslab.experiment.config import StudyConfig
from reslab.experiment.directory import Directory
from reslab.experiment.text import StudyText
from reslab.experiment.trials import Against, Exactly, Grid, Key, Trial, Trials, label
from reslab.files import Json, read_json, write_json, wrong_value
from reslab.ledger.claim import Claim
from reslab.ledger.comparison import Check, Comparison
from reslab.ledger.record import Chart, Entry, Failed, FailedConfig, Outcome, Record, Table, Value, Verdict
from reslab.ledger.registration import Begun, Registration, named
from reslab.ledger.verdict import ERROR_RATE, check, cite, decide
from reslab.progress import Progress, silent
from reslab.runs import Run, out_of_date
from reslab.training.devices import threads
from reslab.training.loop import TrialConfig

_SETTINGS = TypeAdapter(dict[str, Value | list[Value]])
"""What a record can have as settings."""


@dataclass(frozen=True)
class Measurement:
    """A measurement of finished trials: the evidence for each measured claim, by key, and the figures behind it."""

    evidence: Mapping[str, Against | Exactly]
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()

    def __add__(self, other: "Measurement") -> "Measurement":
        """Return both parts of a measurement as one."""
        return Measurement(
            {**self.evidence, **other.evidence}, [*self.tables, *other.tables], [*self.charts, *other.charts]
        )


@dataclass(frozen=True)
class Study:
    """A question, the claims that answer it, and the trials and the measurement that decide them; texts and presets are
    in `text`.

    `grid` names groups of trials, one group per network. `measure` turns finished trials, by group, into evidence. It
    may load and inspect the trained networks. It draws only from generators seeded with each trial's seed, so that it
    is reproducible.
    """

    text: StudyText
    claims: Sequence[Claim]
    config: type[StudyConfig]
    grid: Callable[[Any], Grid]
    measure: Callable[[Any, Trials], Measurement]

    @property
    def name(self) -> str:
        """Return its name, that of its module."""
        return self.text.study

    @property
    def is_own(self) -> bool:
        """Whether it is a user's own study, and not one of the lab's."""
        return not self.text.module.startswith("reslab.")

    @property
    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the settings of each preset that differ from the config's defaults."""
        return self.text.presets

    def configure(self, preset: str, settings: Mapping[str, Any]) -> StudyConfig:
        """Return the preset's config with some settings changed.

        Raises:
            UserError: for an unknown preset or key (the message suggests the nearest), or a value that is not allowed.
        """
        if preset not in self.presets:
            near = suggested(preset, self.presets)
            raise UnknownNameError(*worded("no-preset", study=self.name, preset=preset, near=near))
        for key in settings:
            if key not in self.config.model_fields:
                near = suggested(key, self.config.model_fields)
                raise UnknownNameError(*worded("no-study-setting", study=self.name, key=key, near=near))
        try:
            config = self.config(**{**self.presets[preset], **settings})
        except ValidationError as error:
            raise wrong_value(error) from error
        try:
            _SETTINGS.validate_python(config.model_dump(mode="json"))
        except ValidationError as error:
            name = ".".join(map(str, error.errors()[0]["loc"][:1]))
            raise WrongValueError(*worded("setting-not-recorded", study=self.name, name=name)) from error
        return config

    def verdicts(self, measured: Measurement, error_rate: float = ERROR_RATE) -> list[Verdict]:
        """Return a verdict for each claim, in their order; the statistical ones share one error rate.

        Raises:
            ValueError: if evidence is missing for a claim that is not cited, or there is evidence without a claim.
        """
        known = {claim.id.partition(".")[2]: claim for claim in self.claims}
        wanted = {key for key, claim in known.items() if claim.kind != "cited"}
        if differing := wanted ^ set(measured.evidence):
            raise ValueError(
                f"{self.name}: evidence without a claim, or a claim without evidence: {', '.join(sorted(differing))}"
            )
        compared = {key: found for key, found in measured.evidence.items() if isinstance(found, Against)}
        decided = decide([Comparison(known[key], **vars(found)) for key, found in compared.items()], error_rate)
        found = {
            **dict(zip(compared, decided, strict=True)),
            **{
                key: check(Check(known[key], **vars(found)))
                for key, found in measured.evidence.items()
                if isinstance(found, Exactly)
            },
            **{key: cite(claim) for key, claim in known.items() if claim.kind == "cited"},
        }
        return [found[key] for key in known]


class Finished(NamedTuple):
    """The record of a study, as in `study.json`, and its failed trials."""

    record: Record
    failures: list[Failure]
    old: list[Wording]  # in words, which results are out of date

    def warnings(self) -> list[Wording]:
        """Return in words what its verdicts do not show: old results, and trials that failed."""
        failed = [
            worded("trial-failed", model=config.model, options=config.options, seed=config.seed, reason=reason)
            for config, reason in ((failure.config, failure.reason) for failure in self.failures)
        ]
        return [*self.old, *failed]


def run_study(
    study: Study,
    config: StudyConfig,
    directory: Directory,
    executor: Executor,
    progress: Progress = silent,
    registration: Registration | None = None,
) -> Finished:
    """Run the missing trials of a study, decide its claims and write `study.json`, with the digests of the code and the
    registration, if any.

    Raises:
        UserError: if no trial of some group finished.
    """
    grid = study.grid(config)
    configs = [trial for trials in grid.values() for trial in trials]
    _check_groups(study, grid)
    shown = Begun(
        claims=sorted({claim.id for claim in study.claims} if registration else named(study.claims)),
        data=config.data,
        seeds=list(range(config.first_seed, config.first_seed + config.seeds)),
        registered=registration.sha256() if registration else None,
        date=registration.date if registration else "",
    )
    write_json(directory.begun(shown), shown.model_dump(mode="json"))
    # The longest trials first, so that no worker is left with a long one at the end.
    failures = run_trials(
        sorted(configs, key=lambda trial: -network_depth(trial)), directory.trials, executor, progress
    )
    groups: dict[Key, list[Trial]] = {key: [] for key in grid}
    for key, trials in grid.items():
        for trial in trials:
            run = Run(directory.trials, trial)
            try:
                groups[key] += [Trial(key, trial, run.result(without_weights=True), run)] if run.finished else []
            except DamagedError as error:
                failures.append(Failure(trial, str(error)))
    failures.sort(key=lambda failure: configs.index(failure.config))  # not in the order of failure
    empty = [label(key) for key, trials in groups.items() if not trials]
    if empty:
        reason = failures[0].reason if failures else Wording("unknown", "알 수 없음")
        raise FailedError(*worded("no-trial-finished", groups=", ".join(empty), reason=reason))
    with threads(config.threads), told(f"the study {study.name}") if study.is_own else nullcontext():
        measured = study.measure(config, Trials(groups, progress, directory.path / "measured"))
        record = _record(study, config, groups, measured, failures, registration)
    if not directory.record.exists() or read_json(directory.record) != record.to_json():
        write_json(directory.record, record.to_json())
    if configs:  # whose directories tell of their seeds, when another record has taken this one's place
        directory.begun(shown).unlink(missing_ok=True)
    results = [trial.result for trials in groups.values() for trial in trials]
    old = out_of_date(results, TrialConfig.code_digest(), config.data, _identity_now(config.data, results))
    return Finished(record, failures, old)


def _check_groups(study: Study, grid: Grid) -> None:
    """Check that groups can be told apart by their names, and trials of a group by their seeds.

    Raises:
        UserError: if not.
    """
    labels = [label(key) for key in grid]
    alike = sorted({name for name in labels if labels.count(name) > 1})
    alike += [label(key) for key, trials in grid.items() if len({trial.seed for trial in trials}) < len(trials)]
    if alike:
        raise MismatchError(*worded("groups-alike", study=study.name, names=", ".join(alike)))


def _identity_now(data: str, results: Sequence[Json]) -> Json:
    """Return a data set's identity; nothing if no result has one, or the data set is missing."""
    with suppress(UserError):  # the results were enough
        return load_data(data).identity if any("images" in result for result in results) else {}
    return {}


def rounded(value: Any) -> Any:
    """Return a record with floats rounded to 5 significant digits, as pictures show no more."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, list | tuple) else value


def network_depth(config: TrialConfig) -> int:
    """Return the depth in the network's options, or the first number in its name, as a guide to its training time."""
    named, depth = re.search(r"\d+", config.model), config.options.get("depth")
    return depth if isinstance(depth, int) else int(named[0] if named else 0)


def _record(
    study: Study,
    config: StudyConfig,
    groups: Mapping[Key, Sequence[Trial]],
    measured: Measurement,
    failures: Sequence[Failure],
    registration: Registration | None,
) -> Record:
    """Return the content of `study.json`."""
    error_rate = registration.share if registration else ERROR_RATE
    results = [trial.result for trials in groups.values() for trial in trials]
    # of a trial that went on with other code, both
    trained_by = {code for result in results for code in result["code"].split("+")} or {code_digest()}
    return Record(
        study=study.name,
        title=study.text.title,
        question=study.text.question,
        config=config.model_dump(mode="json"),
        claims=study.verdicts(measured, error_rate),
        tables=list(measured.tables),
        charts=[Chart(**rounded(chart.model_dump())) for chart in measured.charts],
        trials=[
            Entry(
                group=label(key),
                directory=f"trials/{trial.config.digest()}",
                seed=trial.seed,
                config=trial.config.model_dump(mode="json"),
                result=Outcome(**trial.result),
            )
            for key, members in groups.items()
            for trial in members
        ],
        failures=[
            Failed(config=FailedConfig(**failure.config.model_dump(mode="json")), reason=failure.reason)
            for failure in failures
        ],
        error_rate=error_rate,
        images=load_data(config.data).fingerprint if registration and registration.images and not results else "",
        code={
            **code_of(study.text.module, (trial.config for members in groups.values() for trial in members)),
            "trains": "+".join(sorted(trained_by)),
        },
        registered=registration.sha256() if registration else None,
        registration=registration.model_dump(mode="json") if registration else None,
    )


def code_of(module: str, trials: Iterable[TrialConfig] = ()) -> dict[str, str]:
    """Return the digests of the code that trains the networks of a study's module, measures them, and decides; and of a
    user's factories that make the networks of these trials, if any do.
    """
    makes = sorted({trial.factory for trial in trials} - {""})
    return {
        "trains": code_digest(),
        "measures": measure_digest(module),
        "decides": code_digest(DECIDED),
        **({"makes": "+".join(makes)} if makes else {}),
    }


def trials_of(study: Study, config: StudyConfig) -> list[TrialConfig]:
    """Return all trials of a study."""
    return [trial for trials in study.grid(config).values() for trial in trials]
