"""Registering a study, and running one that is registered: at each of its looks, until nothing is left undecided."""

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from pydantic import ValidationError

from reslab.errors import DamagedError, ExistsError, MismatchError, MissingError, WrongValueError
from reslab.executors import Executor
from reslab.experiment.config import StudyConfig
from reslab.experiment.directory import Directory
from reslab.experiment.study import Filed, Finished, Study, run_study
from reslab.files import one_line, write_atomically
from reslab.ledger.record import Record
from reslab.ledger.registration import Registered, Registration, sha256
from reslab.ledger.verdict import ERROR_RATE
from reslab.progress import Progress, silent


def register(
    study: Study, config: StudyConfig, looks: Sequence[int], known: Iterable[Record], today: date
) -> Registration:
    """Return the registration of a study with these settings, whose seeds begin with the config's first.

    Raises:
        UserError: if the looks are no growing numbers of at least three seeds, or the study's claims were decided with
            one of the seeds before.
    """
    if list(looks) != sorted(set(looks)) or min(looks, default=0) < 3:
        raise WrongValueError(f"looks must be growing numbers of seeds, at least 3, got {', '.join(map(str, looks))}")
    claims = [Registered.of(claim) for claim in study.claims if claim.kind == "statistical"]
    if not claims:
        raise MismatchError(f"study {study.name} has no statistical claims: there is nothing to register")
    made = Registration(
        study=study.name,
        date=today.isoformat(),
        config=config.model_dump(mode="json", exclude={"seeds", "first_seed"}),
        first_seed=config.first_seed,
        looks=list(looks),
        error_rate=ERROR_RATE,
        claims=claims,
        code=study.code(),
    )
    ids = {claim.id for claim in claims}
    for record in known:
        seen = ids & {claim.id for claim in record.claims} and seeds_of(record) & set(made.seeds)
        if seen and record.config.get("data") == config.data:
            raise ExistsError(
                f"seeds {', '.join(map(str, sorted(seen)))} have been run for claims of {study.name} before; register "
                "others"
            )
    return made


def seeds_of(record: Record) -> set[int]:
    """Return the seeds that a record's values are of."""
    first, seeds = record.config.get("first_seed", 0), record.config.get("seeds")
    whole = isinstance(first, int) and isinstance(seeds, int)
    return set(range(first, first + seeds)) if whole else {e.seed for e in record.trials if e.seed is not None}  # type: ignore[operator,arg-type]  # ints


def save(registration: Registration, path: Path) -> None:
    """Write a registration.

    Raises:
        UserError: if the file is there: what was registered is not registered again.
    """
    if path.exists():
        raise ExistsError(f"{path} is there already, and a registration is not changed; give another --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (registration.model_dump_json(indent=1) + "\n").encode())


def filed(path: Path) -> Filed:
    """Return the registration in a file, and the file's SHA-256.

    Raises:
        UserError: if there is no such file, or it holds something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingError(f"cannot read the registration {path}: {error.strerror}") from error
    try:
        return Filed(Registration.model_validate_json(content), sha256(content))
    except ValidationError as error:
        raise DamagedError(f"{path} is no registration: {one_line(error)}") from error


def run_registered(
    study: Study, registered: Filed, directory: Directory, executor: Executor, progress: Progress = silent
) -> Finished:
    """Run a registered study at each of its looks, until no claim is inconclusive, or the last.

    Raises:
        UserError: if the code or the claims are no longer those that were registered, or the directory holds another
            record of the study.
    """
    registration = registered.registration
    configs = [
        study.config.model_validate({**registration.config, "first_seed": registration.first_seed, "seeds": look})
        for look in registration.looks
    ]
    claims = [Registered.of(claim) for claim in study.claims if claim.kind == "statistical"]
    if apart := registration.departures(configs[0].model_dump(mode="json"), study.code(), claims):
        raise MismatchError(
            f"this is not what was registered of {study.name} ({', '.join(reason.code for reason in apart)}); run it "
            "with the code of the registration, or register it anew"
        )
    if directory.record.exists() and directory.registration() != registered.sha256:
        raise MismatchError(f"{directory.path} holds another record of {study.name}; give another --out")
    for config in configs:
        finished = run_study(study, config, directory.prepare(study), executor, progress, registered)
        if not any(claim.verdict == "inconclusive" for claim in finished.record.claims):
            break
    return finished
