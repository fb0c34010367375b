"""`reslab study`: a question, its trials, its verdicts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from reslab.commands import printing, typed
from reslab.commands.app import MORE, Flag, Log, app
from reslab.commands.ledger import print_claims
from reslab.errors import Language, MismatchError, MissingError, WrongValueError, at_least, worded
from reslab.progress import display

if TYPE_CHECKING:
    from reslab.executors import Executor
    from reslab.experiment.config import StudyConfig
    from reslab.experiment.study import Study
    from reslab.files import Json
    from reslab.ledger.record import Record
    from reslab.ledger.registration import Registration


@app.command
def study(
    name: str | None = None,
    /,
    *,
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    preset: str = "default",
    out: Path | None = None,
    fresh: Flag = False,
    replace: Flag = False,
    workers: int | None = None,
    executor: Literal["local", "ray", "slurm"] = "local",
    address: str | None = None,
    slurm: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    registered: Path | None = None,
    until: Literal["decided"] | None = None,
    log: Log | None = None,
    lang: Language | None = None,
    json: Flag = False,
    **settings: str,
) -> int:
    """Run a study: train missing trials, decide its claims, write study.json and report.html.

    `reslab study degradation --data digits --seeds 5 --depths 20,56`. Run it again and it resumes: finished trials are
    never retrained.

    Parameters
    ----------
    name
        The study (`reslab claims` lists what each decides), or `all`: every study, each in its own directory.
    from_
        A study of your own, in place of a name: a Python file with STUDY, its words in NAME.toml beside it.
    preset
        A set of settings: default, smoke (a quick check that everything works) or, of some studies, cifar (CIFAR-10, in
        hours) and full (longer and deeper).
    out
        The study's directory (by default `runs/NAME`, or `runs/NAME-PRESET`); for `all`, the parent directory.
    fresh
        Start over in a new directory beside the old one, which is kept.
    replace
        Replace a record and report in the same directory that have other settings; trials are kept and reused.
    workers
        Trials to run in parallel on this machine (default: as many as cores and memory allow, one on a GPU); never
        changes a result.
    executor
        Where trials run: local, or ray or slurm, a cluster whose nodes share the storage that --out is on.
    address
        The address of an existing Ray cluster (default: a temporary one on this machine).
    slurm
        An option of sbatch for `--executor slurm`, `--slurm partition=gpu`; repeatable. time is in minutes (default:
        60), after which a job is queued again and resumes.
    registered
        A registration of the study (`reslab register`), which says its settings, seeds and looks.
    until
        For a registration with several looks: `decided` stops at the first look at which no claim is inconclusive.
    log
        Write the metrics of its trials for another tool too, into logs/ of its directory: csv, tensorboard, wandb or
        trackio. Never part of a trial's identity.
    lang
        Language of the table and the verdicts, by default the system's; records have both.
    json
        Print study.json to standard output.
    settings
        Settings of the study: --data, --seeds, --first-seed, --recipe, --epochs, --threads, --device, --precision, and
        its own, such as `--depths 20,56`; `reslab study NAME --help` says what they are.
    """
    from reslab import studies
    from reslab.api.studying import question_of, usual_place
    from reslab.experiment.directory import Directory
    from reslab.experiment.study import run_study, trials_of
    from reslab.report.page import write_report
    from reslab.report.records import summary_rows
    from reslab.runs import Run
    from reslab.training.logs import logging

    if (name is None) == (from_ is None):
        raise MissingError(*worded("no-study-named"))
    asked = studies.names() if name == "all" else [from_ or name or ""]
    chosen = list(map(question_of, asked))
    names = [each.name for each in chosen]
    configs = [each.configure(preset, typed.words(settings)) for each in chosen]
    registration = None
    if registered is not None:
        registration, configs = registered_run(registered, chosen, preset, settings)
    if until is not None and (registration is None or len(registration.looks) < 2):
        raise MismatchError(*worded("until-without-looks"))
    runner = executor_of(executor, workers, address, slurm)
    if out is None:
        paths = [usual_place(each, preset) for each in names]
    else:
        paths = [out / each for each in names] if name == "all" else [out]
    if registration is not None and not fresh:
        for path in paths:
            if not (path / "study.json").exists():
                continue
            if not of_registration(path, registration):
                raise MismatchError(*worded("record-not-of-registration", path=path))
            if not replace and of_other_code(path, chosen[0]):
                raise MismatchError(*worded("record-of-other-code", path=path))
    directories = [
        Directory(typed.unused(path) if fresh else path).prepare(
            each, None if replace or of_registration(path, registration) else config
        )
        for path, each, config in zip(paths, chosen, configs, strict=True)
    ]
    records, failed = [], False
    for each, config, directory in zip(chosen, configs, directories, strict=True):
        trials = [Run(directory.trials, trial) for trial in trials_of(each, config)]
        with display() as progress, logging(log, trials, directory.path / "logs"):
            for look in registration.looks if registration and until else [config.seeds]:
                so_far = config.model_copy(update={"seeds": look})
                finished = run_study(each, so_far, directory, runner, progress, registration)
                if all(claim.verdict != "inconclusive" for claim in finished.record.claims):
                    break
        report = write_report([directory.path], directory.path / "report.html")
        for said in finished.warnings():
            printing.warn(said)
        failed |= bool(finished.failures)
        records.append(finished.record.to_json())
        if not json:
            spoken = typed.language(lang)
            print_study(finished.record, summary_rows(finished.record), spoken)
            print(f"{REPORT[spoken]}: {report}")
    if json:
        printing.print_json(records if name == "all" else records[0])
    return 1 if failed else 0


def executor_of(
    kind: Literal["local", "ray", "slurm"], workers: int | None, address: str | None, options: tuple[str, ...]
) -> "Executor":
    """Return the executor that was asked for.

    Raises:
        UserError: if an option is of another, or what it needs is not here.
    """
    from reslab.executors import local
    from reslab.executors.ray import on_ray
    from reslab.executors.slurm import on_slurm

    if address is not None and kind != "ray":
        raise MismatchError(*worded("address-without-ray"))
    if options and kind != "slurm":
        raise MismatchError(*worded("options-without-slurm"))
    if kind != "local" and workers is not None:
        raise MismatchError(*worded("workers-of-a-cluster", kind=kind))
    if workers is not None and workers < 1:
        raise WrongValueError(*worded("out-of-range", option="--workers", typed=workers, bounds=at_least(1)))
    match kind:
        case "ray":
            return on_ray(address)
        case "slurm":
            wrong = [option for option in options if not all(option.partition("="))]
            if wrong:
                raise WrongValueError(*worded("not-an-option-of-sbatch", text=wrong[0]))
            return on_slurm({key: value for key, _, value in (option.partition("=") for option in options)})
        case "local":
            return local(workers)


def help_with_settings(name: str, language: Language) -> str:
    """Return the settings of a study with their defaults and meanings, its own last; nothing if there is none of this
    name.
    """
    from reslab import studies

    if name not in studies.names():
        return ""
    chosen = studies.find(name)
    config = chosen.configure("default", {})
    lines = [
        f"  --{key.replace('_', '-')} {as_typed(getattr(config, key))}".rstrip() + f"\n      {words[language]}"
        for key, words in chosen.text.settings.items()
    ]
    head = {"ko": f"{name}의 설정과 기본값:", "en": f"Settings of {name}, with their defaults:"}[language]
    return "\n".join([head, *lines])


MORE["study"] = help_with_settings


def as_typed(value: object) -> str:
    """Return a setting's value as on the command line; empty for None."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)


def registered_run(
    path: Path, chosen: "list[Study]", preset: str, settings: dict[str, str]
) -> "tuple[Registration, list[StudyConfig]]":
    """Return a registration and the config that it says.

    Raises:
        UserError: if it is of another study, or settings were given beside it.
    """
    from reslab.commands.register import read_registration
    from reslab.data import load_data
    from reslab.experiment.study import code_of, trials_of
    from reslab.ledger.registration import registered

    found = read_registration(path)
    if [study.name for study in chosen] != [found.study]:
        raise MismatchError(*worded("registration-of-another-study", path=path, study=found.study))
    if settings or preset != "default":
        raise MismatchError(*worded("registration-fixes-settings"))
    (study,) = chosen
    known = {key: tuple(value) if isinstance(value, list) else value for key, value in found.config.items()}
    config = study.configure("default", known)
    code = code_of(study.text.module, trials_of(study, config))
    for part in sorted({part for part, _ in code.items() ^ found.code.items()}):
        printing.warn(worded("other-code-than-registered", part=part))
    if found.images and load_data(config.data).fingerprint != found.images:
        printing.warn(worded("other-images-than-registered", data=config.data))
    claims = [registered(claim) for claim in study.claims if claim.kind == "statistical"]
    if any(claim not in found.claims for claim in claims):
        printing.warn(worded("other-claim-than-registered"))
    return found, [config]


def of_registration(directory: Path, registration: "Registration | None") -> bool:
    """Return whether a directory's record is an earlier look of this registration."""
    from reslab.files import read_json

    try:
        return registration is not None and read_json(directory / "study.json")["registered"] == registration.sha256()
    except (OSError, ValueError, LookupError, TypeError):
        return False


def of_other_code(directory: Path, study: "Study") -> bool:
    """Return whether other code than now's measured or decided a directory's record; what trained its networks is known
    by each of them.
    """
    from reslab.experiment.study import code_of
    from reslab.files import read_json

    then, now = read_json(directory / "study.json").get("code", {}), code_of(study.text.module)
    return any(then.get(part) != now[part] for part in ("measures", "decides"))


REPORT = {"ko": "보고서", "en": "Report"}
COLUMNS = {
    "ko": ("신경망", "매개변수", "시드", "훈련 오류 (%)", "테스트 오류 (%)"),
    "en": ("network", "parameters", "seeds", "training error (%)", "test error (%)"),
}


def print_study(record: "Record", rows: "list[Json]", language: Language = "en") -> None:
    """Print a study's table of errors and its verdicts."""
    from reslab.ledger.evidence import alone

    printing.print_table(
        COLUMNS[language],
        [
            (
                row["group"],
                f"{row['params'] or 0:,}",
                str(row["n"]),
                percent(row, "train_error"),
                percent(row, "test_error"),
            )
            for row in rows
        ],
    )
    print_claims([alone(claim) for claim in record.claims], language)


def percent(row: "Json", key: str) -> str:
    """Return a mean and its standard deviation over seeds, in %."""
    std = row[f"{key}_std"]
    return f"{100 * row[key]:.2f}" + (f" ± {100 * std:.2f}" if std is not None else "")
