"""`reslab register`: fixes a study before its seeds are run."""

import fnmatch
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from reslab.commands import printing, typed
from reslab.commands.app import app
from reslab.errors import (
    DamagedError,
    MismatchError,
    MissingError,
    UnusableError,
    UserError,
    Wording,
    WrongValueError,
    worded,
)

if TYPE_CHECKING:
    from reslab.ledger.registration import Ran, Registration


RECORDS = (Path("results"), Path("runs"))
"""Where studies' records are kept: those of a clone of the lab, and one's own."""


@app.command
def register(
    name: str | None = None,
    /,
    *,
    seeds: str,
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    looks: str | None = None,
    preset: str = "default",
    known: tuple[Path, ...] = (),
    out: Path | None = None,
    **settings: str,
) -> int:
    """Pre-register a study: write its claims, settings, seeds and a hash of its code to a small file before it runs.

    `reslab register degradation --seeds 300:310`; then `reslab study degradation --registered FILE` runs it. A record
    with other seeds, settings, images or code is exploratory.

    Parameters
    ----------
    name
        The study.
    seeds
        The seeds, first and one past the last: 300:310. None may occur in a record of the study's claims: in the
        bundled ledger, below results or runs, or in --known.
    from_
        A Python file that defines a study of your own, in place of a name.
    looks
        Numbers of seeds after which claims are decided, each with an equal share of the error rate: 5,10 (default:
        once, at the end).
    preset
        A set of settings, as for `reslab study`.
    known
        A directory with more records whose seeds are known; repeatable.
    out
        The file to write (default: results/registrations/NAME-FIRST.json in a clone of the lab, or
        registrations/NAME-FIRST.json).
    settings
        Settings of the study, as for `reslab study`.
    """
    from reslab.api.studying import question_of
    from reslab.data import load_data
    from reslab.experiment.study import code_of, trials_of
    from reslab.ledger.registration import GUARDS, Registration, registered, seen
    from reslab.ledger.shipped import shipped
    from reslab.ledger.verdict import ERROR_RATE

    if (name is None) == (from_ is None):
        raise MissingError(*worded("no-study-named"))
    words = typed.words(settings)
    if "first_seed" in words:
        raise MismatchError(*worded("first-seed-of-seeds"))
    study = question_of(from_ or name or "")
    name = study.name
    chosen = _seeds(seeds)
    counts = _looks(looks, len(chosen))
    config = study.configure(preset, {**words, "seeds": len(chosen), "first_seed": chosen.start})
    claims = [claim for claim in study.claims if claim.kind == "statistical"]
    if not claims:
        raise MismatchError(*worded("nothing-to-register", study=name))
    shown = [*recorded(known), *begun_studies(known), *shipped().ran()]
    if again := sorted(seen(claims, config.data, shown).intersection(chosen)):
        raise WrongValueError(*worded("seeds-seen", seeds=seeds, seen=", ".join(map(str, again))))
    for claim in claims:
        if claim.margin_why is None:
            printing.note(worded("margin-unexplained", claim=claim.id, margin=claim.margin))
    images = ""
    try:
        images = load_data(config.data).fingerprint
    except UserError as error:
        printing.note(worded("images-not-registered", data=config.data, why=error))
    registration = Registration(
        study=name,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        claims=[registered(claim) for claim in claims],
        config=config.model_dump(mode="json"),
        seeds=list(chosen),
        looks=counts,
        error_rate=ERROR_RATE,
        guards=dict(GUARDS),
        code=code_of(study.text.module, trials_of(study, config)),
        images=images,
    )
    write_registration(registration, out or _folder() / f"{name}-{chosen.start}.json", "--out")
    return 0


def write_registration(registration: "Registration", path: Path, option: str, json: bool = False) -> None:
    """Write a registration to a new file, and print where it is, and what so few seeds cannot show.

    Raises:
        UserError: if the file exists, or cannot be written; `option` is what names it.
    """
    from reslab.files import write_new

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, registration.text())
    except OSError as error:
        if path.exists():
            raise UnusableError(*worded("registration-exists", path=path, option=option)) from error
        words = worded("registration-unwritable", path=path, reason=error.strerror, option=option)
        raise UnusableError(*words) from error
    if told := few_seeds(registration):
        printing.note(told)
    if json:
        printing.print_json({"file": str(path), "sha256": registration.sha256()})
    else:
        print(f"{path}\nSHA-256 {registration.sha256()}")


def few_seeds(registration: "Registration") -> Wording | None:
    """Return what the number of registered seeds is too small for; None if it is not."""
    from reslab.ledger.verdict import MINIMUM_SEEDS

    n, (signs, ranks) = len(registration.seeds), registration.seeds_for_exact_tests()
    if n <= MINIMUM_SEEDS:
        return worded("skew-unseen", seeds=n, enough=signs)
    if n < signs:
        return worded("skew-undecided", seeds=n, enough=signs, between=ranks)
    return None


def _seeds(text: str) -> range:
    """Return the seeds that `300:310` means."""
    first, _, past = text.partition(":")
    if not (first.isdecimal() and past.isdecimal() and 3 <= int(past) - int(first) <= 1000):
        raise WrongValueError(*worded("not-seeds", text=text))
    return range(int(first), int(past))


def _looks(text: str | None, count: int) -> list[int]:
    """Return the numbers of seeds after which claims are decided."""
    parts = [str(count)] if text is None else text.split(",")
    found = [int(part) if part.isdecimal() else 0 for part in parts]
    if found != sorted(set(found)) or found[0] < 3 or found[-1] != count:
        raise WrongValueError(*worded("not-looks", text=text, count=count))
    return found


def _folder() -> Path:
    results = Path("results")
    return results / "registrations" if results.is_dir() and Path("reslab").is_dir() else Path("registrations")


def recorded(directories: tuple[Path, ...] = ()) -> "list[Ran]":
    """Return what the records below these directories, and below `results` and `runs` if they exist, have shown; and
    the trials beside them, also of seeds that a record had before another replaced it.

    Raises:
        UserError: if a directory does not exist.
    """
    from reslab.files import read_record
    from reslab.ledger.registration import Ran, ran
    from reslab.report.records import read_study
    from reslab.runs import TRIAL
    from reslab.shapes import TrialFile

    for directory in directories:
        if not directory.is_dir():
            raise MissingError(*worded("no-records-there", directory=directory))
    found = []
    for path in _files("study.json", directories):
        shown = ran(read_study(path.parent))
        found.append(shown)
        for trial in path.parent.glob(f"trials/*/{TRIAL}"):
            with suppress(OSError, ValueError):  # what cannot be read has not been trained to its end
                config = read_record(trial, TrialFile)["config"]
                if isinstance(seed := config.get("seed"), int):
                    found.append(Ran(shown.claims, config.get("data"), frozenset([seed])))
    return found


def begun_studies(directories: tuple[Path, ...] = ()) -> "list[Ran]":
    """Return what studies below these directories have shown that have begun, and have no record yet; of those without
    trials, also what has ended.

    Raises:
        UserError: if one cannot be read.
    """
    from reslab.files import read_json
    from reslab.ledger.registration import Begun

    found = []
    for path in _files("begun*.json", directories):
        try:
            found.append(Begun.model_validate(read_json(path), strict=True).ran())
        except (OSError, ValueError) as error:  # pydantic's error is a ValueError
            raise DamagedError(*worded("record-unreadable", path=path, error=str(error).splitlines()[0])) from error
    return found


def _files(name: str, directories: tuple[Path, ...]) -> list[Path]:
    """Return the files of such a name below these directories, and where records are kept, also behind links."""
    visited: set[str] = set()  # as links may lead in circles
    found = []
    for root in (*RECORDS, *directories):
        for place, inner, files in os.walk(root, followlinks=True):
            real = os.path.realpath(place)
            if real in visited:
                inner.clear()
                continue
            visited.add(real)
            found += [Path(real) / file for file in fnmatch.filter(files, name)]
    return sorted(found)


def read_registration(path: Path) -> "Registration":
    """Return the registration in a file.

    Raises:
        UserError: if it has none.
    """
    from pydantic import ValidationError

    from reslab.files import one_line, read_json
    from reslab.ledger.registration import Registration

    try:
        found = Registration.model_validate(read_json(path), strict=True)
    except FileNotFoundError as error:
        raise MissingError(*worded("no-registration", path=path)) from error
    except ValidationError as error:
        raise DamagedError(*worded("not-a-registration", path=path, why=one_line(error))) from error
    except (OSError, ValueError) as error:
        raise DamagedError(*worded("registration-unreadable", path=path, why=error)) from error
    if found.text() != path.read_text(encoding="utf-8"):  # whatever ends its lines
        raise DamagedError(*worded("registration-changed", path=path))
    return found
