"""`reslab register`: what a study claims, written down before its seeds are run."""

from pathlib import Path

from reslab.commands import printing, typed
from reslab.commands.app import Flag, app
from reslab.errors import WrongValueError


@app.command
def register(
    study: str,
    /,
    *,
    seeds: str,
    looks: str | None = None,
    preset: str = "default",
    out: Path | None = None,
    known: tuple[Path, ...] = (),
    json: Flag = False,
    **settings: str,
) -> None:
    """Register a study: write its claims, margins, settings, seeds and code down before the seeds are run.

    `reslab register degradation --seeds 300:310` writes `registrations/degradation-300.json`; commit it, and then
    `reslab study degradation --registered registrations/degradation-300.json` runs it. What is run so counts as
    pre-registered; everything else is exploratory.

    Parameters
    ----------
    study
        The study; `reslab claims` lists what each decides.
    seeds
        The seeds, the last excluded: 300:310. None of them may have been run for these claims before.
    looks
        Numbers of seeds at which the claims may be decided, over which the error rate is split: 5,10. By default once,
        with all seeds.
    preset
        A set of settings, as for `reslab study`.
    out
        The file; one that exists is not changed.
    known
        Directories of studies that were run before, whose seeds count as seen (by default those under `results`).
    json
        Print the registration as JSON, too.
    settings
        Settings of the study, as for `reslab study`.
    """
    from datetime import date

    from reslab import studies
    from reslab.experiment.registered import register as registered
    from reslab.experiment.registered import save
    from reslab.report.records import read_study

    begin, _, end = seeds.partition(":")
    if not (begin.isdecimal() and end.isdecimal() and int(begin) < int(end)):
        raise WrongValueError(f"--seeds {seeds}: expected the first seed and the one after the last, such as 300:310")
    first, number = int(begin), int(end) - int(begin)
    at = typed.value(looks) if looks else number
    steps = list(at) if isinstance(at, tuple) else [at]
    if not all(isinstance(step, int) for step in steps) or steps[-1] != number:
        raise WrongValueError(
            f"--looks {looks}: expected growing numbers of seeds that end with {number}, the last look"
        )
    found = studies.find(study)
    config = found.configure(preset, {**typed.words(settings), "first_seed": first, "seeds": number})
    directories = known or tuple(record.parent for record in sorted(Path("results").glob("**/study.json")))
    made = registered(found, config, steps, map(read_study, directories), date.today())
    path = out or Path("registrations") / f"{study}-{first}.json"
    save(made, path)
    if json:
        printing.print_json(made.model_dump(mode="json"))
    else:
        print(f"registered {len(made.claims)} claims of {study} for seeds {first} to {first + number - 1}: {path}")
