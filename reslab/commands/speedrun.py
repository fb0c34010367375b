"""`reslab speedrun`: the race to an accuracy."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from reslab.commands import printing, typed
from reslab.commands.app import Flag, Seed, Threads, app
from reslab.commands.ledger import table
from reslab.commands.register import write_registration
from reslab.errors import Language, MismatchError, MissingError, UnusableError, WrongValueError, worded
from reslab.progress import display

if TYPE_CHECKING:
    from reslab.data import Dataset
    from reslab.files import Json
    from reslab.ledger.registration import Registration
    from reslab.speedrun.sprint import SprintConfig

WORDS: dict[Language, dict[str, str]] = {
    "ko": {
        "network": "신경망",
        "seeds": "시드",
        "heldout": "검증 정확도 (%)",
        "test": "테스트 정확도 (%)",
        "training": "학습 (초)",
        "whole": "프로세스 전체 (초)",
        "diverged": "발산",
        "ratio": "상대의 시간에 대한 스피드런의 시간의 비: 학습 {}, 프로세스 전체 {}",
    },
    "en": {
        "network": "network",
        "seeds": "seeds",
        "heldout": "heldout accuracy (%)",
        "test": "test accuracy (%)",
        "training": "training (s)",
        "whole": "whole process (s)",
        "diverged": "diverged",
        "ratio": "time of the speedrun over the other's: training {}, whole process {}",
    },
}


@app.command
def speedrun(
    *,
    data: str = "digits",
    against: Literal["airbench94", "airbench94-muon"] | None = None,
    part: Literal["heldout", "test"] = "heldout",
    seeds: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
    first_seed: Seed = 0,
    epochs: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    threads: Threads | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "32", "bf16"] = "auto",
    out: Path = Path("runs/speedrun"),
    register: Path | None = None,
    registered: Path | None = None,
    download: Flag = False,
    json: Flag = False,
) -> None:
    """Train a residual network to the most accuracy in the fewest seconds: `reslab speedrun --data cifar10 --download`.

    Network and recipe are in `reslab/speedrun/network.py`. `--against airbench94` also trains that recipe, alternating
    with this one. Each run is a separate process; the table has the time of the whole process and of the training
    alone. Every image is evaluated in one view. Run the command again and it does only what is missing; an interrupted
    run starts from the beginning, as its time counts.

    Parameters
    ----------
    data
        As for `reslab train`; all images must have one size.
    against
        What to race against: airbench94 (K. Jordan 2024) or the newer airbench94-muon, whose network is not residual.
        Runs of a race are kept apart from single ones.
    part
        Part of the data to evaluate on: heldout to make choices; test for final figures, in which case the held-out
        images are trained on too.
    seeds
        Number of runs of each contender, one per seed.
    first_seed
        The first seed.
    epochs
        Length of training in epochs, for all contenders (default: each recipe's own).
    threads
        CPU threads (default: all cores).
    device
        Where to train; auto chooses the fastest device available.
    precision
        Precision of convolutions and matrix products; auto is bf16 where the device supports it natively, else 32.
    out
        Where run directories are made, one per run.
    register
        Pre-register a race: write its claims, settings, seeds and a hash of its code to this new file, and run nothing.
    registered
        The registration of the race to run, whose settings, images and code must be the same.
    download
        Download the data set if it is missing.
    json
        Print the results as JSON.
    """
    from pydantic import ValidationError

    from reslab.data import canonical, load_data
    from reslab.executors import default_workers
    from reslab.files import wrong_value
    from reslab.speedrun import race
    from reslab.speedrun.sprint import SprintConfig
    from reslab.training.devices import best_device, best_precision, check

    if register and registered:
        raise MismatchError(*worded("race-registered-twice"))
    chosen = best_device() if device == "auto" else device
    check(chosen, "32")
    auto: Literal["bf16", "32"] = "bf16" if best_precision(chosen).value == "bf16" else "32"
    exact = auto if precision == "auto" else precision
    contenders = ["speedrun", *([against] if against else [])]
    try:
        configs = [
            SprintConfig(
                contender=name,
                against=against or "",
                data=canonical(data),
                part=part,
                epochs=epochs or race.CONTENDERS[name].epochs,
                seed=seed,
                threads=threads or default_workers(1),
                device=chosen,
                precision=exact,
            )
            for seed in range(first_seed, first_seed + seeds)
            for name in (contenders if seed % 2 == 0 else reversed(contenders))  # neither is always the second
        ]
    except ValidationError as error:
        raise wrong_value(error) from error
    with display() as progress:
        dataset = load_data(data, download=download, progress=progress)
    race.check(dataset)
    if register:
        return write_registration(new_registration(configs, dataset, out), register, "--register", json)
    registration = race_registered(registered, configs, dataset) if registered else None
    typed.make_writable(out)
    results: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in contenders}
    with display() as progress:
        for config in configs:
            result = race.run(config, out, progress)
            if registration and result["code"] != registration.code["trains"]:
                raise MismatchError(*worded("race-run-by-other-code", path=result["directory"]))
            results[config.contender][config.seed] = result
    printing.warn_of_old(
        [result for runs in results.values() for result in runs.values()], SprintConfig.code_digest(), dataset
    )
    record = {
        "data": data,
        "part": part,
        "runs": results,
        "summary": {name: race.summary(runs) for name, runs in results.items()},
        "compared": race.compared(results, 1 / len(dataset.parts[part].labels)) if against else None,
    }
    if registration:
        record |= {"registration": registration.model_dump(mode="json"), "registered": registration.sha256()}
    printing.print_json(record) if json else print_race(record, typed.language())


def new_registration(configs: "list[SprintConfig]", dataset: "Dataset", out: Path) -> "Registration":
    """Return the registration of a race.

    Raises:
        UserError: if it is no race, too short to decide anything, or begun.
    """
    from reslab.ledger.verdict import MINIMUM_SEEDS
    from reslab.runs import Run
    from reslab.speedrun import race

    if not configs[0].against:
        raise MissingError(*worded("race-without-opponent"))
    if len({config.seed for config in configs}) < MINIMUM_SEEDS:
        raise WrongValueError(*worded("race-of-few-seeds", least=MINIMUM_SEEDS))
    for config in configs:
        if (path := Run(out, config).path).exists():
            raise UnusableError(*worded("race-begun", path=path))
    return race.registration(configs, dataset, datetime.now(UTC).isoformat(timespec="seconds"))


def race_registered(file: Path, configs: "list[SprintConfig]", dataset: "Dataset") -> "Registration":
    """Return the registration in a file.

    Raises:
        UserError: if it has none, or this is not its race.
    """
    from reslab.commands.register import read_registration
    from reslab.speedrun import race

    found = read_registration(file)
    now = race.registration(configs, dataset, found.date)
    if now != found:
        ours, theirs = ({**each.model_dump(exclude={"config"}), **each.config} for each in (now, found))
        departs = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        raise MismatchError(*worded("race-departs", path=file, departs=", ".join(departs)))
    return found


def print_race(record: "Json", language: Language = "en") -> None:
    """Print how accurate and how fast each contender was, and how they compare."""
    from reslab.ledger.evidence import alone
    from reslab.ledger.record import Verdict

    def spread(values: tuple[float, float | None], scale: float, digits: int) -> str:
        average, deviation = values
        return f"{scale * average:.{digits}f}" + (f" ± {scale * deviation:.{digits}f}" if deviation is not None else "")

    words = WORDS[language]
    machines = (each["machine"] for runs in record["runs"].values() for each in runs.values())
    for machine in dict.fromkeys(" · ".join(f"{key} {value}" for key, value in each.items()) for each in machines):
        print(machine)
    columns = tuple(words[key] for key in ("network", "seeds", record["part"], "training", "whole"))
    rows = [
        (
            name,
            str(len(found["seeds"])),
            spread(found["accuracy"], 100, 2),
            spread(found["training_seconds"], 1, 1),
            spread(found["process_seconds"], 1, 1),
        )
        for name, found in record["summary"].items()
    ]
    printing.print_table(columns, rows)
    for name, runs in record["runs"].items():
        for seed, result in runs.items():
            status = f" ({words['diverged']})" if result["status"] == "diverged" else ""
            print(f"{name} s{seed}{status}: {result['directory']}")
    if compared := record["compared"]:
        training, whole = (printing.figure(compared[key]) for key in ("training_seconds", "process_seconds"))
        print(words["ratio"].format(training, whole))
        console = printing.console_of()
        console.print(table([alone(Verdict(**claim)) for claim in compared["claims"]], language, console.width))
