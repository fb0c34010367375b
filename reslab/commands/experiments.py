"""Commands that train, and that show what training gave."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from reslab import arguments, show
from reslab.commands.app import Flag, Seed, Threads, app
from reslab.errors import UserError, suggest
from reslab.progress import display

if TYPE_CHECKING:
    from reslab.ledger.record import Record


@app.command
def train(
    model: str,
    /,
    *,
    data: str = "digits",
    recipe: str = "fast",
    epochs: int | None = None,
    seed: Seed = 0,
    threads: Threads = 1,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "32", "bf16", "16"] = "auto",
    devices: Threads = 1,
    strategy: Literal["ddp"] = "ddp",
    compile: Flag = False,
    set: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    out: Path = Path("runs/train"),
    download: Flag = False,
    json: Flag = False,
    **options: str,
) -> int:
    """Train one network: `reslab train resnet20`, `reslab train cifar_resnet --depth 26`.

    Interrupted, the same command goes on where it stopped; finished, it prints the result it has.

    Parameters
    ----------
    model
        Name of the network (see `reslab models`).
    data
        digits; cifar10, cifar10-jpeg75, cifar100 or fashion_mnist, also with a place: cifar10:ROOT; or folder:PATH, with images in
        PATH/train/CLASS and PATH/test/CLASS (folder:PATH?broken=skip leaves out what cannot be decoded).
    recipe
        How to train: fast (7 epochs on the digits, 16 on larger data), paper-cifar, paper-cifar-warmup, paper-imagenet.
    epochs
        Length in epochs, in place of the recipe's own.
    seed
        Seed of the initial weights and of the order of the images.
    threads
        CPU threads; part of the run's identity, as it changes sums.
    device
        Where to train; auto is the fastest that is here.
    precision
        Of convolutions and matrix products; auto is the fastest that the device computes in itself. The result says what was taken, and why.
    devices
        Processes that share every batch, each with a device of its own (and `threads` threads): on one machine, or started by torchrun on several.
    strategy
        How they share: ddp (gradients averaged, BatchNorm normalising each share by itself).
    compile
        Train through torch.compile: minutes at the start, for longer runs on hardware where it pays. It needs a C++ compiler.
    set
        A setting of the recipe: `--set learning_rate=0.01`, any number of times.
    out
        Where run directories are made, one a configuration.
    download
        Download the data set if it is not there.
    json
        Print the result as JSON.
    options
        Options of the network, such as `--depth 26`.
    """
    from pydantic import ValidationError

    from reslab.data import canonical, load_data
    from reslab.evaluation import STEPS_TO_SETTLE, true_average_errors
    from reslab.executors import build_network, data_for, loaded, run_trials
    from reslab.networks import zoo
    from reslab.runs import Run, one_line
    from reslab.training.devices import best_device, best_precision, check, is_main_process
    from reslab.training.loop import TrialConfig
    from reslab.training.recipes import Recipe

    chosen = best_device() if device == "auto" else device
    exact = best_precision(chosen).value if precision == "auto" else precision
    check(chosen, exact)
    words = arguments.words(options)
    arguments.see_whose(words, train, zoo.options(model), Recipe.model_fields)
    with display() as progress:
        dataset = load_data(data, download=download, progress=progress)
    zoo.check(model, **{"num_classes": dataset.num_classes, "in_channels": dataset.in_channels, **words})
    try:
        settings = arguments.read_recipe(recipe, data, epochs, set)
        config = TrialConfig(
            model=model,
            options=words,
            data=canonical(data),
            recipe=settings,
            seed=seed,
            threads=threads,
            device=chosen,
            precision=exact,
            devices=devices,
            compile=compile,
        )
    except ValidationError as error:
        raise UserError(one_line(error)) from error
    arguments.make_writable(out)
    run = Run(out, config)
    trained_before = run.finished
    if is_main_process() and not json:
        print(dataset.describe(), flush=True)
    with display(quiet=not is_main_process()) as progress:
        failures = run_trials([config], out, loaded(dataset), progress)
    if failures:
        raise failures[0].error()
    if not is_main_process():
        return 0
    result = run.result()
    averaged = None
    if result["steps"] < STEPS_TO_SETTLE and result["status"] == "finished":
        network = build_network(config, dataset, weights=run.weights)
        averaged = true_average_errors(network, data_for(config, network, dataset))
    show.warn_of_old([result], dataset)
    if json:
        show.print_json({"directory": str(run.path), "config": config.model_dump(mode="json"), "result": result, "true_average_errors": averaged})
    else:
        before = "already trained; nothing done: " if trained_before else ""
        errors = show.errors({part: result[f"{part}_error"] for part in ("train", "heldout", "test")})
        print(f"{before}{model} on {data}, {result['status']} after {result['steps']} iterations in {result['seconds']:.0f} s: {errors}\n{run.path}")
        if averaged and any(averaged[part] != result[f"{part}_error"] for part in averaged):
            print(
                f"after only {result['steps']} steps BatchNorm's moving averages lag behind the weights; with true averages of the training images: "
                f"{show.errors(averaged)}\nto evaluate so: reslab evaluate {model} --weights {run.weights} --data {data} --batchnorm true-average"
            )
    return 0


@app.command
def study(
    name: str,
    /,
    *,
    preset: str = "default",
    out: Path | None = None,
    fresh: Flag = False,
    replace: Flag = False,
    workers: int | None = None,
    executor: Literal["local", "ray"] = "local",
    address: str | None = None,
    json: Flag = False,
    **settings: str,
) -> int:
    """Measure: train what is missing, decide the claims, write study.json and report.html.

    `reslab study degradation --data digits --seeds 5 --depths 20,56`. Run again, it trains only what is missing.

    Parameters
    ----------
    name
        The study (`reslab claims` says what each decides), or all of them: all, each in a directory of its own.
    preset
        A set of settings: default, or smoke (seconds, to see that everything works).
    out
        The study's directory (by default `runs/NAME`, or `runs/NAME-PRESET`); for all, the directory of theirs.
    fresh
        Start over in a new directory beside the old one, which is kept.
    replace
        Let the record and report replace those that other settings gave in the same directory; trials are kept, and used again.
    workers
        Trials at a time on this machine (by default as many as cores and memory allow); never changes a result.
    executor
        Where trials run: local, or ray, a cluster whose nodes share the storage that --out is on.
    address
        The Ray cluster's address (by default one is made on this machine for the occasion).
    json
        Print study.json to standard output.
    settings
        Settings of the study: --data, --seeds, --first-seed, --recipe, --epochs, --threads, --device, --precision, and its own, such as
        `--depths 20,56`.
    """
    from reslab import studies
    from reslab.executors import local
    from reslab.executors.cluster import on_ray
    from reslab.report.page import write_report
    from reslab.report.records import summary_rows
    from reslab.studies.study import Directory, run_study

    names = studies.names() if name == "all" else [name]
    chosen = [studies.find(each) for each in names]
    configs = [each.configure(preset, arguments.words(settings)) for each in chosen]
    if workers is not None and workers < 1:
        raise UserError(f"--workers must be at least 1, got {workers}")
    if address is not None and executor != "ray":
        raise UserError("--address is a Ray cluster's; give --executor ray too")
    if workers is not None and executor == "ray":
        raise UserError("--workers is of this machine; on Ray, as many trials run as the cluster has processors and GPUs for")
    if out is None:
        paths = [Path("runs") / (each if preset == "default" else f"{each}-{preset}") for each in names]
    else:
        paths = [out / each for each in names] if name == "all" else [out]
    directories = [
        Directory(arguments.unused(path) if fresh else path).prepare(each, None if replace else config)
        for path, each, config in zip(paths, chosen, configs, strict=True)
    ]
    records, failed = [], False
    for each, config, directory in zip(chosen, configs, directories, strict=True):
        runner = on_ray(address) if executor == "ray" else local(workers)
        with display() as progress:
            finished = run_study(each, config, directory, runner, progress)
        report = write_report([directory.path], directory.path / "report.html")
        if finished.reused_from_other_code:
            print(f"warning: {finished.reused_from_other_code} results were made by other code than this; --fresh measures again", file=sys.stderr)
        if finished.of_other_images:
            print(
                f"warning: {finished.of_other_images} results are of other images than the data set has now; --fresh measures again", file=sys.stderr
            )
        for failure in finished.failures:
            print(f"failed: {failure.config.model} {failure.config.options} seed {failure.config.seed}: {failure.reason}", file=sys.stderr)
        failed |= bool(finished.failures)
        records.append(finished.record.to_json())
        if not json:
            show.print_study(finished.record, summary_rows(finished.record))
            print(f"Report: {report}")
    if json:
        show.print_json(records if name == "all" else records[0])
    return 1 if failed else 0


@app.command
def report(*directories: Path, out: Path = Path("report.html"), figures: Path | None = None, open: Flag = False, json: Flag = False) -> None:
    """Write one self-contained HTML page, Korean and English, about one or more studies, finished or interrupted.

    Parameters
    ----------
    directories
        Study directories (the --out of `reslab study`).
    out
        The page to write.
    figures
        A directory for every picture as PNG and SVG, in both languages.
    open
        Open the page in the browser.
    json
        Print the paths of the page and of the figures as JSON.
    """
    import webbrowser

    from reslab.analysis.torchvision_tour import Tour, torchvision_tour
    from reslab.report.figures import write_figures
    from reslab.report.page import write_report

    if not directories:
        raise UserError("report needs at least one study directory: reslab report runs/degradation")
    if out.is_dir():
        raise UserError(f"{out} is a directory; --out is the page's file: --out {out / 'report.html'}")
    arguments.make_writable(out.parent)
    with display() as progress:

        def tour() -> Tour:
            progress("reading torchvision", 0, 1)
            read = torchvision_tour()
            progress("reading torchvision", 1, 1)
            return read

        page = write_report(directories, out, tour)
        written = []
        if figures is not None:
            arguments.make_writable(figures)
            written = write_figures(directories, figures, progress)
    if json:
        show.print_json({"report": str(page), "figures": [str(path) for path in written]})
    else:
        print(page)
        if written:
            print(f"{len(written)} figures in {figures}")
    if open and not webbrowser.open(page.resolve().as_uri()):
        print(f"reslab: note: no browser could be opened; open {page} by hand", file=sys.stderr)


@app.command
def claims(
    *directories: Path,
    section: str | None = None,
    decide_again: Flag = False,
    margin: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    lang: Literal["en", "ko"] = "en",
    schema: Flag = False,
    json: Flag = False,
) -> None:
    """List the claims the lab tests, section by section of the chapter, with their verdicts if study directories are given.

    Parameters
    ----------
    directories
        Study directories (the --out of `reslab study`); without any, the claims are listed undecided.
    section
        List only this section: overview, degradation, residual-learning, gradient, shortcuts, blocks, variants, resnet-50, identity, ensemble,
        batchnorm or successors.
    decide_again
        Decide the claims of the directories again, from the values per seed in their records alone; nothing is written.
    margin
        With `--decide-again`: another margin of one claim, `--margin degradation.not-overfitting=0.03`; may be given again.
    lang
        Language of the list; JSON has both.
    schema
        Print the JSON schema of study.json, and nothing else.
    json
        Print one JSON list, with the same keys whether decided or not.
    """
    from reslab import studies
    from reslab.ledger.claim import SECTIONS
    from reslab.ledger.record import Record
    from reslab.ledger.verdict import undecided

    if schema:
        show.print_json(Record.model_json_schema())
        return
    if margin and not decide_again:
        raise UserError("--margin goes with --decide-again: reslab claims DIRECTORY --decide-again --margin ID=VALUE")
    if decide_again and not directories:
        raise UserError("--decide-again needs study directories, whose records hold the values: reslab claims DIRECTORY --decide-again")
    if section is not None and section not in SECTIONS:
        raise UserError(f"no section {section!r}{suggest(section, SECTIONS)}")
    if directories:
        from reslab.report.records import command, read_study

        studied = [read_study(directory) for directory in directories]
        if decide_again:
            studied = again(studied, margin)
        found = [(claim, record.study, command(record)) for record in studied for claim in record.claims]
    else:
        known = [studies.find(name) for name in studies.names()]
        found = [(undecided(claim), study.name, f"reslab study {study.name}") for study in known for claim in study.claims]
    chosen = [each for each in found if section in (None, each[0].section)]
    if json:
        show.print_json([{**claim.model_dump(mode="json"), "study": study, "command": command} for claim, study, command in chosen])
    else:
        show.print_claims([(claim, command) for claim, _, command in chosen], lang)


def again(records: "list[Record]", margins: tuple[str, ...]) -> "list[Record]":
    """Return the records with their claims decided again, with these margins (`ID=VALUE`).

    Raises:
        UserError: if a margin is no number or of no statistical claim, or a record holds no values per seed.
    """
    from math import isfinite

    from reslab.ledger.verdict import decide_again

    known = [claim.id for record in records for claim in record.claims if claim.kind == "statistical"]
    chosen = {}
    for text in margins:
        id, _, value = text.partition("=")
        if id not in known:
            raise UserError(f"--margin {text}: no statistical claim {id!r} in these records{suggest(id, known)}")
        try:
            chosen[id] = float(value)
        except ValueError:
            chosen[id] = float("nan")
        if not isfinite(chosen[id]):
            raise UserError(f"--margin {text}: expected ID=VALUE with a number")
    try:
        return [record.model_copy(update={"claims": decide_again(record.claims, chosen)}) for record in records]
    except ValueError as error:
        raise UserError(f"cannot decide again: {error}; run the study again") from error
